//! Parameters of which a part is trained, and the rest is shared and stands still.

use std::ops::Range;

use super::{Adapters, Entrances, List, kernels::Real};

/// The trained part of a decoder's parameters: whole tensors, kept one after the other in a short list.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Places in the full list, ascending, without neighbours that touch.
    parts: Vec<Range<usize>>,
    /// Where each part begins in the short list.
    starts: Vec<usize>,
    len: usize,
}

impl Selection {
    /// The parameters at these places; places may touch and come in any order.
    ///
    /// # Panics
    /// When two places overlap.
    pub fn new(mut places: Vec<Range<usize>>) -> Self {
        places.retain(|place| !place.is_empty());
        places.sort_by_key(|place| place.start);
        let mut parts: Vec<Range<usize>> = Vec::new();
        for place in places {
            match parts.last_mut() {
                Some(last) if last.end == place.start => last.end = place.end,
                Some(last) if last.end > place.start => panic!("the places {last:?} and {place:?} overlap"),
                _ => parts.push(place),
            }
        }
        let mut len = 0;
        let starts = parts
            .iter()
            .map(|part| {
                len += part.len();
                len - part.len()
            })
            .collect();
        Self { parts, starts, len }
    }

    /// Number of trained parameters.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Places in the full list, ascending.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }

    /// Where a tensor stands in the short list; `None` when it is not trained.
    ///
    /// # Panics
    /// When the selection cuts the tensor in two.
    pub fn place(&self, tensor: &Range<usize>) -> Option<Range<usize>> {
        let i = self.parts.partition_point(|part| part.end <= tensor.start);
        let part = self.parts.get(i).filter(|part| part.start < tensor.end)?;
        assert!(
            part.start <= tensor.start && tensor.end <= part.end,
            "the selection {part:?} cuts the tensor {tensor:?}"
        );
        let start = self.starts[i] + tensor.start - part.start;
        Some(start..start + tensor.len())
    }

    /// The short list of a full one.
    pub fn gather<T: Copy>(&self, all: &[T]) -> Vec<T> {
        self.parts.iter().flat_map(|part| &all[part.clone()]).copied().collect()
    }

    /// Writes a short list into the full one.
    pub fn scatter<T: Copy>(&self, trained: &[T], all: &mut [T]) {
        for (part, &start) in self.parts.iter().zip(&self.starts) {
            all[part.clone()].copy_from_slice(&trained[start..start + part.len()]);
        }
    }
}

/// Parameters as a decoder reads them: one full list, or a full list that stands still with a short list that is trained.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, T> {
    all: List<'a, T>,
    trained: Short<'a, T>,
    /// Added to the trained list where it replaces a part of the full one: so many times that list.
    moved: Option<(T, &'a [T])>,
    entrances: Option<&'a Entrances<T>>,
}

/// What the trained list is.
#[derive(Debug)]
enum Short<'a, T> {
    /// The full list itself.
    All(&'a [T]),
    /// Replaces a part of the full one.
    Part(&'a Selection, &'a [T]),
    /// Low-rank changes of the full one's matrices.
    Adapters(&'a Adapters, &'a [T]),
}

impl<T> Clone for Short<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Short<'_, T> {}

impl<'a, T> Weights<'a, T> {
    /// The frozen full list, read with the selection's parameters replaced by the short list `trained`; gradients are
    /// short lists too.
    ///
    /// # Panics
    /// When the short list is not as long as the selection.
    pub fn with_trained(all: impl Into<List<'a, T>>, selection: &'a Selection, trained: &'a [T]) -> Self {
        assert_eq!(trained.len(), selection.len(), "a short list of another selection");
        let all = all.into();
        Self { all, trained: Short::Part(selection, trained), moved: None, entrances: None }
    }

    /// The frozen full list, read with the low-rank changes of its matrices that the short list `trained` gives; gradients are
    /// short lists too.
    ///
    /// # Panics
    /// When the short list is not as long as the adapters.
    pub fn adapted(all: impl Into<List<'a, T>>, adapters: &'a Adapters, trained: &'a [T]) -> Self {
        assert_eq!(trained.len(), adapters.len(), "a short list of other adapters");
        let all = all.into();
        Self { all, trained: Short::Adapters(adapters, trained), moved: None, entrances: None }
    }

    /// The same, with what the frozen blocks put out kept there. It belongs to this frozen list, and to this selection or
    /// these adapters, alone.
    #[must_use]
    pub fn keeping(self, entrances: Option<&'a Entrances<T>>) -> Self {
        Self { entrances, ..self }
    }

    /// Where the outputs of frozen blocks are kept.
    pub(super) fn entrances(&self) -> Option<&'a Entrances<T>> {
        self.entrances
    }

    /// The list of the trained part, before it was moved.
    pub fn trained(&self) -> &'a [T] {
        match self.trained {
            Short::All(trained) | Short::Part(_, trained) | Short::Adapters(_, trained) => trained,
        }
    }

    /// The same with `step` times the list `v` added to the trained one. Tensors are moved when they are read, so that no list of the
    /// trained length is made, but for adapters, whose list is short: it is made in `room`.
    ///
    /// # Panics
    /// When `v` is not as long as the trained list.
    #[must_use]
    pub fn along<'b>(&self, step: T, v: &'b [T], room: &'b mut Vec<T>) -> Weights<'b, T>
    where
        T: Real,
        'a: 'b,
    {
        assert_eq!(v.len(), self.trained().len(), "a list of another decoder or selection");
        let Short::Adapters(adapters, list) = self.trained else {
            return Weights { moved: Some((step, v)), ..*self };
        };
        add_to(list, step, v, room);
        Weights { entrances: self.entrances, ..Weights::adapted(self.all, adapters, room) }
    }

    /// A part of the trained list, as it is read.
    fn read<'s>(&self, place: Range<usize>, room: &'s mut Vec<T>) -> &'s [T]
    where
        T: Real,
        'a: 's,
    {
        let trained = &self.trained()[place.clone()];
        let Some((step, v)) = self.moved else { return trained };
        add_to(trained, step, &v[place], room);
        room
    }

    /// A tensor, without the change that adapters make; `room` is used where it has to be made first.
    pub(super) fn get<'s>(&self, tensor: &Range<usize>, room: &'s mut Vec<T>) -> &'s [T]
    where
        T: Real,
        'a: 's,
    {
        match self.place(tensor) {
            Some(place) => self.read(place, room),
            None => self.all.get(tensor, room),
        }
    }

    /// Row number `row` of a tensor, `width` numbers long.
    pub(super) fn row<'s>(
        &self,
        tensor: &Range<usize>,
        (row, width): (usize, usize),
        room: &'s mut Vec<T>,
    ) -> &'s [T]
    where
        T: Real,
        'a: 's,
    {
        let at = row * width..(row + 1) * width;
        match self.place(tensor) {
            Some(place) => self.read(place.start + at.start..place.start + at.end, room),
            None => self.all.get(&(tensor.start + at.start..tensor.start + at.end), room),
        }
    }

    /// Where the derivative in a tensor stands in a gradient; `None` when the tensor stands still.
    pub(super) fn place(&self, tensor: &Range<usize>) -> Option<Range<usize>> {
        match self.trained {
            Short::All(_) => Some(tensor.clone()),
            Short::Part(selection, _) => selection.place(tensor),
            Short::Adapters(..) => None,
        }
    }

    /// The adapters, and their list.
    pub(super) fn adapters(&self) -> Option<(&'a Adapters, &'a [T])> {
        match self.trained {
            Short::Adapters(adapters, list) => Some((adapters, list)),
            Short::All(_) | Short::Part(..) => None,
        }
    }

    /// Whether what a tensor computes changes in training.
    pub(super) fn is_trained(&self, tensor: &Range<usize>) -> bool {
        self.place(tensor).is_some() || self.adapters().is_some_and(|(adapters, _)| adapters.reach(tensor))
    }

    /// Length of the full list.
    pub(super) fn full_len(&self) -> usize {
        self.all.len()
    }
}

impl<'a, T> From<&'a [T]> for Weights<'a, T> {
    fn from(all: &'a [T]) -> Self {
        Self { all: all.into(), trained: Short::All(all), moved: None, entrances: None }
    }
}
impl<'a, T> From<&'a Vec<T>> for Weights<'a, T> {
    fn from(all: &'a Vec<T>) -> Self {
        Self { all: all.into(), trained: Short::All(all), moved: None, entrances: None }
    }
}

/// y + step · v into `out`.
fn add_to<T: Real>(y: &[T], step: T, v: &[T], out: &mut Vec<T>) {
    out.clear();
    out.reserve_exact(y.len());
    out.extend(y.iter().zip(v).map(|(&y, &v)| y + step * v));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Part};

    #[test]
    fn the_trained_part_is_read_in_place_of_the_frozen() {
        let all: Vec<f64> = (0..10).map(f64::from).collect();
        let selection = Selection::new(vec![8..10, 2..4, 4..5]);
        assert_eq!((selection.len(), selection.parts()), (5, &[2..5, 8..10][..]));
        assert_eq!(selection.gather(&all), [2.0, 3.0, 4.0, 8.0, 9.0]);
        let trained = [20.0, 30.0, 40.0, 80.0, 90.0];
        let weights = Weights::with_trained(&all, &selection, &trained);
        let mut room = Vec::new();
        assert_eq!(weights.get(&(4..5), &mut room), [40.0]);
        assert_eq!(weights.get(&(5..8), &mut room), [5.0, 6.0, 7.0]);
        assert_eq!(weights.row(&(8..10), (1, 1), &mut room), [90.0]);
        assert_eq!(weights.row(&(5..8), (2, 1), &mut room), [7.0]);
        assert_eq!((weights.place(&(9..10)), weights.place(&(0..2))), (Some(4..5), None));
        let mut changed = all.clone();
        selection.scatter(&trained, &mut changed);
        assert_eq!(changed, [0.0, 1.0, 20.0, 30.0, 40.0, 5.0, 6.0, 7.0, 80.0, 90.0]);
    }

    #[test]
    fn a_moved_list_is_read_as_the_list_that_was_moved() {
        let decoder = &crate::model::tests::kinds()[1];
        let y = crate::model::tests::point(decoder);
        let selection = decoder.select(&[Part::Block(1), Part::Head, Part::FinalNorm]);
        let trained = selection.gather(&y);
        let adapters = decoder.adapters(&[crate::model::Target::Q], 2, 2.0).unwrap();
        let list: Vec<f64> = (0..adapters.len()).map(|i| (i as f64).sin()).collect();
        let batch = Batch {
            tokens: vec![1, 5, 3, 10, 2],
            lengths: vec![3, 2],
            rows: vec![0, 2, 4],
            targets: vec![5, 1, 9],
        };
        for weights in [
            Weights::from(&y),
            Weights::with_trained(&y, &selection, &trained),
            Weights::adapted(&y, &adapters, &list),
        ] {
            let v: Vec<f64> = (0..weights.trained().len()).map(|i| (0.7 * i as f64).cos()).collect();
            let moved: Vec<f64> = weights.trained().iter().zip(&v).map(|(y, v)| y + -0.1 * v).collect();
            let expected = match weights.trained {
                Short::All(_) => Weights::from(&moved),
                Short::Part(..) => Weights::with_trained(&y, &selection, &moved),
                Short::Adapters(..) => Weights::adapted(&y, &adapters, &moved),
            };
            let mut room = Vec::new();
            let losses =
                |weights: Weights<f64>| decoder.row_losses(weights, &batch, &mut decoder.workspace());
            assert_eq!(losses(weights.along(-0.1, &v, &mut room)), losses(expected));
            assert_ne!(losses(weights), losses(expected));
        }
    }

    #[test]
    #[should_panic(expected = "cuts the tensor")]
    fn a_selection_may_not_cut_a_tensor() {
        Selection::new(vec![2..5, 8..10]).place(&(4..6));
    }
}
