//! Answers that belong to other questions.

use super::{Piece, Record};

/// Records whose answers move on by one place: each gets the answer of the one after it, the last that of the first. No record
/// but one that stands alone keeps its own, and two are held in memory.
#[derive(Debug, Default)]
pub struct Rotation {
    /// The question that waits for its answer.
    question: Option<Record>,
    /// The answer of the first record.
    first: Vec<Piece>,
}

/// A record that has no question or no answer.
#[derive(Debug)]
pub struct NoAnswer;

impl Rotation {
    /// Takes a record; returns the one before it with this one's answer.
    ///
    /// # Errors
    /// The record does not end with learned pieces after one that is not.
    pub fn turn(&mut self, mut record: Record) -> Result<Option<Record>, NoAnswer> {
        let asked = record.iter().rposition(|piece| !piece.is_learned).ok_or(NoAnswer)?;
        let answer = record.split_off(asked + 1);
        if answer.is_empty() {
            return Err(NoAnswer);
        }
        let Some(mut before) = self.question.replace(record) else {
            self.first = answer;
            return Ok(None);
        };
        before.extend(answer);
        Ok(Some(before))
    }

    /// The last record, once.
    pub fn last(&mut self) -> Option<Record> {
        let mut record = self.question.take()?;
        record.append(&mut self.first);
        Some(record)
    }
}
