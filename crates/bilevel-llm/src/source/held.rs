//! Which examples of a source are kept from training.

use super::{Order, Tokens};

/// Of so many examples at most one is held out.
const OF: usize = 20;

/// Places, ascending, of at most `wanted` examples, and of at most one in [`OF`].
///
/// Records are gone through in a random order that is a function of name and size alone: the same ones are held out with
/// every seed and for every method. Each record is as likely as another, and its examples are taken together, so that what
/// is trained on does not go on where they end; the last record is cut off where enough are found.
pub fn choose(name: &str, tokens: &Tokens, wanted: usize) -> Vec<usize> {
    let size = tokens.examples();
    let count = wanted.min(size / OF);
    let mut order = Order::named(0, &format!("{name}\nheld out"), size as u64);
    let mut places = Vec::with_capacity(count);
    let mut position = 0;
    // one pass over all places meets every record's first example once
    while places.len() < count {
        let first = order.at(position);
        position += 1;
        if !tokens.is_continued(first) {
            let rest = (first + 1..size).take_while(|&place| tokens.is_continued(place));
            let room = count - places.len();
            places.extend(std::iter::once(first).chain(rest).take(room));
        }
    }
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of these numbers of examples.
    fn records(lengths: impl IntoIterator<Item = usize>) -> Tokens {
        let mut tokens = Tokens::new(None).unwrap();
        for length in lengths {
            for part in 0..length {
                tokens.push(&[1, 2], &[false, true], part > 0).unwrap();
            }
        }
        tokens.finish().unwrap();
        tokens
    }

    #[test]
    fn at_most_one_in_twenty_is_held_out() {
        for (size, wanted, count) in [
            (0, 5, 0),
            (1, 64, 0),
            (19, 64, 0),
            (20, 64, 1),
            (39, 64, 1),
            (40, 64, 2),
            (5000, 64, 64),
            (5000, 0, 0),
            (5000, usize::MAX, 250),
        ] {
            let places = choose("a", &records(vec![1; size]), wanted);
            assert_eq!(places.len(), count, "{wanted} of {size}");
            assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|&place| place < size));
        }
    }

    #[test]
    fn places_are_spread_and_belong_to_the_name() {
        let tokens = records(vec![1; 4000]);
        let places = choose("a", &tokens, 200);
        assert_eq!(places, choose("a", &tokens, 200));
        assert_ne!(places, choose("b", &tokens, 200));
        // fewer are the first of more in the random order
        assert!(choose("a", &tokens, 20).iter().all(|place| places.contains(place)));
        // 100 are expected in a half, with a standard deviation of 7
        let low = places.iter().filter(|&&place| place < 2000).count();
        assert!((65..=135).contains(&low), "{low}");
    }

    #[test]
    fn examples_of_a_record_go_together() {
        let tokens = records((0..300).map(|i| 1 + i % 5));
        let size = tokens.examples();
        let places = choose("a", &tokens, usize::MAX);
        assert_eq!(places.len(), size / 20);
        let is_held = |place: &usize| places.contains(place);
        // neighbours in a record of which only one is held out
        let cuts = (1..size).filter(|&i| tokens.is_continued(i) && is_held(&i) != is_held(&(i - 1))).count();
        assert!(cuts <= 1, "{cuts}");
    }

    #[test]
    fn one_long_record_gives_its_beginning() {
        assert_eq!(choose("a", &records([100]), 64), [0, 1, 2, 3, 4]);
    }
}
