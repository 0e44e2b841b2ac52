//! Texts as words, and runs of words as numbers: what duplicates and overlaps are told by.

use super::Piece;

/// Punctuation that says nothing of what a text is about; every other sign is a word of its own, so that `2 + 2` and
/// `2 - 2` differ.
const SILENT: &str = ".,;:!?\"'`()[]{}…“”‘’„«»";

/// The words of a text, each as a number: runs of letters and digits in lower case, and single signs.
pub fn words(pieces: &[Piece]) -> Vec<u64> {
    let mut words = Vec::new();
    for piece in pieces {
        let mut word = Fnv::default();
        for c in piece.text.chars() {
            if c.is_alphanumeric() {
                c.to_lowercase().for_each(|c| word.add(c));
                continue;
            }
            words.extend(word.take());
            if !c.is_whitespace() && !SILENT.contains(c) {
                word.add(c);
                words.extend(word.take());
            }
        }
        words.extend(word.take());
    }
    words
}

/// The runs of `n` words, each as a number, ascending and each once; shorter texts are one run. Two runs that differ have
/// the same number with probability 2⁻⁶⁴.
pub fn runs(words: &[u64], n: usize) -> Vec<u64> {
    if words.is_empty() {
        return Vec::new();
    }
    let mut runs: Vec<u64> = words
        .windows(n.min(words.len()))
        .map(|run| run.iter().fold(run.len() as u64, |hash, word| mix(hash ^ word)))
        .collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

/// A bijection of 64-bit numbers that spreads every bit over all others: the last step of SplitMix64 (Steele, Lea and
/// Flood, doi 10.1145/2660193.2660195), with its published constants.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The hash of a word by Fowler, Noll and Vo (FNV-1a of 64 bits), with its published constants.
struct Fnv {
    hash: u64,
    is_empty: bool,
}

impl Default for Fnv {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, is_empty: true }
    }
}

impl Fnv {
    fn add(&mut self, c: char) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.is_empty = false;
    }
    /// The word, if there is one; the next begins.
    fn take(&mut self) -> Option<u64> {
        let word = std::mem::take(self);
        (!word.is_empty).then(|| mix(word.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<u64> {
        words(&[Piece::new(text, true)])
    }

    #[test]
    fn case_white_space_and_silent_signs_do_not_matter_and_operators_do() {
        assert_eq!(of("Tom's  DOG, (brown)\n"), of("tom s dog brown"));
        assert_ne!(of("2 + 2"), of("2 - 2"));
        assert_eq!(of("2+2").len(), 3);
        assert_eq!(of("Ünder"), of("ünder"));
        assert!(of(" .,; ").is_empty());
    }

    #[test]
    fn words_do_not_run_across_pieces() {
        let piece = |text: &str| Piece::new(text, false);
        assert_eq!(words(&[piece("one"), piece("two")]), of("one two"));
    }

    #[test]
    fn runs_are_told_apart_by_order_and_length() {
        assert_eq!(runs(&of("a b c d"), 3).len(), 2);
        assert_eq!(runs(&of("a b a b a b"), 2).len(), 2);
        assert_ne!(runs(&of("a b"), 2), runs(&of("b a"), 2));
        // a text that is shorter than a run is one run, unlike any part of a longer text
        assert_eq!(runs(&of("a b"), 13).len(), 1);
        assert!(!runs(&of("x a b y"), 3).contains(&runs(&of("a b"), 13)[0]));
        assert!(runs(&of(""), 3).is_empty());
    }
}
