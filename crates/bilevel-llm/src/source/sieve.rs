//! Which records of a recipe's sets stay: what `[data]` says about those that overlap with others and those that repeat others.

use super::{Overlap, Record, Seen};
use crate::recipe::{CleaningSpec, Deduplicate, OnOverlap};

/// Records go through in a fixed order: those of the test set, of the validation set, and of the sources one after the other.
#[derive(Debug)]
pub struct Sieve {
    do_overlaps_stay: bool,
    do_repeats_stay: bool,
    in_test: Overlap,
    in_validation: Overlap,
    seen: Seen,
}

/// What a record of a source shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Whether it overlaps with the validation set.
    pub with_validation: bool,
    /// Whether it overlaps with the test set.
    pub with_test: bool,
    /// The source with a record that it repeats; not looked for in one that was left out for its overlaps.
    pub repeats: Option<u32>,
    /// Whether it stays.
    pub is_kept: bool,
}

impl Sieve {
    /// Nothing seen yet.
    pub fn new(data: &CleaningSpec) -> Self {
        let nothing = Overlap::new(data.overlap_words, data.overlap_share);
        Self {
            do_overlaps_stay: data.overlap != OnOverlap::Remove,
            do_repeats_stay: data.deduplicate == Deduplicate::None,
            in_test: nothing.clone(),
            in_validation: nothing,
            seen: Seen::new((data.deduplicate == Deduplicate::Near).then_some(data.similarity)),
        }
    }

    /// Whether every record stays, whatever it shares.
    pub fn keeps_all(data: &CleaningSpec) -> bool {
        data.overlap != OnOverlap::Remove && data.deduplicate == Deduplicate::None
    }

    /// A record of the test set; all of them stay.
    pub fn test(&mut self, record: &Record) {
        self.in_test.add(record);
    }

    /// After the last record of the test set.
    pub fn end_of_test(&mut self) {
        self.in_test.finish();
    }

    /// A record of the validation set: whether it overlaps with the test set, and whether it stays.
    pub fn validation(&mut self, record: &Record) -> (bool, bool) {
        let is_in_test = self.in_test.holds(record);
        let is_kept = self.do_overlaps_stay || !is_in_test;
        if is_kept {
            self.in_validation.add(record);
        }
        (is_in_test, is_kept)
    }

    /// After the last record of the validation set.
    pub fn end_of_validation(&mut self) {
        self.in_validation.finish();
    }

    /// A record of the source of this number.
    pub fn source(&mut self, record: &Record, number: u32) -> Shared {
        let with_validation = self.in_validation.holds(record);
        let with_test = self.in_test.holds(record);
        if (with_validation || with_test) && !self.do_overlaps_stay {
            return Shared { with_validation, with_test, repeats: None, is_kept: false };
        }
        let repeats = self.seen.repeats(record, number);
        Shared { with_validation, with_test, repeats, is_kept: repeats.is_none() || self.do_repeats_stay }
    }
}
