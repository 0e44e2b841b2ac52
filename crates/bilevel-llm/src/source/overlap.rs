//! Which records stand in the validation or the test set too.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::{
    Record,
    words::{runs, words},
};

/// Runs of words that stand in more pieces of a set than this are boilerplate, such as the frame of a template, and tell
/// nothing. The number is that of Brown et al., arXiv 2005.14165, appendix C.
const BOILERPLATE: usize = 10;

/// Fingerprint of a record: the hash of its text with case and white space evened out.
pub fn fingerprint(record: &Record) -> [u8; 32] {
    let mut hash = Sha256::new();
    for word in record.iter().flat_map(|piece| piece.text.split_whitespace()) {
        hash.update(word.to_lowercase());
        hash.update(b" ");
    }
    hash.finalize().into()
}

/// The examples that no source should hold: those of a validation or test set, by their runs of words.
///
/// A record overlaps with the set when it has the text of one of its examples (case and white space evened out), or when
/// it contains at least a given share of the runs of n words of one of their pieces (a question alone, or an answer
/// alone). Pieces shorter than n words are looked at together with the rest of their example; an example shorter than n
/// words only as a whole. Runs that more than ten pieces share do not count. n = 13 is that of Brown et al.,
/// arXiv 2005.14165, appendix C, who take any single shared run for an overlap; a share is robust to the fixed wording of
/// templates.
///
/// The rule is exact, but for hashes of 64 bits: a run is taken for one of m others with probability below m/2⁶⁴.
/// Memory is of the order of the set, whatever the sources' size.
#[derive(Clone, Debug)]
pub struct Overlap {
    length: usize,
    share: f64,
    whole: HashSet<[u8; 32]>,
    /// The pieces in which a run stands.
    pieces_of: HashMap<u64, Vec<u32>>,
    /// Runs of each piece that count.
    sizes: Vec<u32>,
}

impl Overlap {
    /// An empty set, with runs of `length` words, of which a record must hold this share.
    pub fn new(length: usize, share: f64) -> Self {
        Self { length, share, whole: HashSet::new(), pieces_of: HashMap::new(), sizes: Vec::new() }
    }

    /// Adds an example to the set.
    pub fn add(&mut self, record: &Record) {
        self.whole.insert(fingerprint(record));
        let long = |words: &Vec<u64>| words.len() >= self.length;
        let mut pieces: Vec<Vec<u64>> =
            record.iter().map(|piece| words(std::slice::from_ref(piece))).filter(long).collect();
        if pieces.is_empty() {
            pieces.extend(Some(words(record)).filter(long));
        }
        for piece in pieces {
            for run in runs(&piece, self.length) {
                self.pieces_of.entry(run).or_default().push(self.sizes.len() as u32);
            }
            self.sizes.push(0);
        }
    }

    /// Leaves boilerplate out, once all examples were added.
    pub fn finish(&mut self) {
        self.pieces_of.retain(|_, pieces| pieces.len() <= BOILERPLATE);
        self.sizes.fill(0);
        for &piece in self.pieces_of.values().flatten() {
            self.sizes[piece as usize] += 1;
        }
    }

    /// Whether a record overlaps with the set.
    pub fn holds(&self, record: &Record) -> bool {
        if self.whole.contains(&fingerprint(record)) {
            return true;
        }
        let words = words(record);
        if words.len() < self.length {
            return false;
        }
        let mut shared: HashMap<u32, u32> = HashMap::new();
        for piece in runs(&words, self.length).iter().filter_map(|run| self.pieces_of.get(run)).flatten() {
            *shared.entry(*piece).or_default() += 1;
        }
        shared
            .iter()
            .any(|(&piece, &count)| f64::from(count) >= self.share * f64::from(self.sizes[piece as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Piece;

    /// `count` different words, from word number `from` on.
    fn text(from: usize, count: usize) -> String {
        (from..from + count).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ")
    }
    fn pair(prompt: &str, response: &str) -> Record {
        vec![Piece::new(prompt, false), Piece::new(response, true)]
    }
    fn set(records: &[Record]) -> Overlap {
        let mut overlap = Overlap::new(13, 0.5);
        for record in records {
            overlap.add(record);
        }
        overlap.finish();
        overlap
    }

    #[test]
    fn a_question_is_found_with_another_answer_and_inside_a_longer_text() {
        let set = set(&[pair(&text(0, 30), &text(100, 30))]);
        assert!(set.holds(&pair(&text(0, 30), &text(500, 40))));
        assert!(set.holds(&pair(&format!("{} {} {}", text(700, 50), text(0, 30), text(800, 9)), "x")));
        assert!(set.holds(&pair("rewritten question", &text(100, 30))));
        assert!(!set.holds(&pair(&text(200, 30), &text(300, 30))));
    }

    #[test]
    fn the_share_decides() {
        // 30 words have 18 runs of 13; the first 21 of them have 9, the first 20 have 8
        let set = set(&[pair(&text(0, 30), "a")]);
        assert!(set.holds(&pair(&text(0, 21), &text(500, 20))));
        assert!(!set.holds(&pair(&text(0, 20), &text(500, 20))));
    }

    #[test]
    fn short_examples_are_found_as_a_whole_only() {
        let set = set(&[pair("2 + 2 =", "4")]);
        assert!(set.holds(&pair("2 + 2  = ", "4\n")));
        assert!(!set.holds(&pair("2 + 2 =", "5")));
        assert!(!set.holds(&pair(&format!("2 + 2 = 4 {}", text(0, 20)), "x")));
    }

    #[test]
    fn short_pieces_of_a_long_example_are_looked_at_together() {
        let set = set(&[pair(&text(0, 10), &text(10, 10))]);
        assert!(set.holds(&pair(&text(0, 10), &format!("{} {}", text(10, 10), text(90, 30)))));
        assert!(!set.holds(&pair(&text(0, 10), &text(50, 30))));
    }

    #[test]
    fn the_frame_of_a_template_is_no_overlap() {
        let frame = text(900, 40);
        let records: Vec<Record> =
            (0..11).map(|i| pair(&format!("{frame} {}", text(20 * i, 3)), "yes")).collect();
        let other = pair(&format!("{frame} {}", text(600, 3)), "no");
        assert!(!set(&records).holds(&other));
        // the example itself is still found, and a frame of few examples cannot be told from content
        assert!(set(&records).holds(&records[3]));
        assert!(set(&records[..3]).holds(&other));
    }
}
