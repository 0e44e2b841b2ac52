//! Lists of which a device holds a copy.

use std::sync::Arc;

/// Lists that never change, each with something made of it.
///
/// A list is alive while it is held here, and nobody can write to what is shared; so what lies at its addresses is its numbers, and
/// no other list can come to lie there.
#[derive(Debug)]
pub struct Kept<C>(Vec<(Arc<Vec<f32>>, C)>);

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C> Kept<C> {
    /// Holds on to a list.
    pub fn hold(&mut self, list: Arc<Vec<f32>>, copy: C) {
        self.0.push((list, copy));
    }

    /// The copy of the list to which these numbers belong, and where in it they begin; `None` for numbers of no list that is held.
    pub fn find(&self, part: &[f32]) -> Option<(&C, usize)> {
        let wanted = part.as_ptr_range();
        self.0.iter().find_map(|(list, copy)| {
            let held = list.as_ptr_range();
            let is_inside = !part.is_empty() && held.start <= wanted.start && wanted.end <= held.end;
            // both begin at a number
            is_inside.then(|| (copy, (wanted.start.addr() - held.start.addr()) / size_of::<f32>()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_they_are_and_equal_numbers_elsewhere_are_not() {
        let (a, b) = (Arc::new(vec![1.0_f32; 10]), Arc::new(vec![1.0_f32; 7]));
        let mut kept = Kept::default();
        kept.hold(a.clone(), 'a');
        kept.hold(b.clone(), 'b');
        assert_eq!(kept.find(&a), Some((&'a', 0)));
        assert_eq!(kept.find(&a[3..5]), Some((&'a', 3)));
        assert_eq!(kept.find(&b[6..]), Some((&'b', 6)));
        assert_eq!(kept.find(&a.to_vec()), None);
        // the end of one may be the beginning of what lies behind it
        assert_eq!(kept.find(&a[10..]), None);
    }
}
