//! Records as tokens.

use std::path::Path;

use super::{Encoder, Reader, Record, Tokens, encoder::Encoded, held};
#[cfg(test)]
use crate::tokenizer::Tokenizer;
use crate::{
    error::{DataError, ReweightError},
    model::Batch,
    pretrained::PretrainedError,
    result::DataInfo,
};

/// Tokenised examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Source's name, or `validation`, or `test`.
    pub name: String,
    tokens: Tokens,
    /// Of each example that was held out, ascending, how many others stand before it.
    gaps: Vec<usize>,
    /// What was read; `tokens` and `loss_tokens` are those of the examples that were not held out.
    pub info: DataInfo,
    /// Records that are suspiciously long: file, place and size, in words.
    pub long: Vec<String>,
}

impl Dataset {
    /// Makes tokens of records as they are read, those that `is_kept` does not leave out; see [`Encoder`]. An example is cut to `context` + 1
    /// tokens: running text into several examples, anything else at its end, after its prompt has been cut at its
    /// beginning to half of the context. Tokens are kept in files of the folder `scratch`, or in memory without.
    pub fn read(
        name: &str,
        mut records: Reader,
        encoder: Encoder,
        context: usize,
        scratch: Option<&Path>,
        mut is_kept: impl FnMut(&Record) -> bool,
    ) -> Result<Self, ReweightError> {
        let mut set = Self::empty(name, scratch)?;
        for (number, record) in (&mut records).enumerate() {
            let record = record?;
            if is_kept(&record) {
                set.push(&record, encoder, context).map_err(|error| match error {
                    ReweightError::Pretrained(error @ PretrainedError::Template { .. }) => {
                        DataError::Chat { name: name.to_owned(), record: number + 1, error: Box::new(error) }
                            .into()
                    }
                    other => other,
                })?;
            } else {
                set.info.removed += 1;
            }
        }
        let summary = records.finish(name)?;
        set.info.examples = summary.records - set.info.removed;
        set.info.sha256 = summary.sha256;
        set.long = summary.long;
        set.counted()
    }

    fn empty(name: &str, scratch: Option<&Path>) -> Result<Self, ReweightError> {
        Ok(Self {
            name: name.to_owned(),
            tokens: Tokens::new(scratch)?,
            gaps: Vec::new(),
            info: DataInfo::default(),
            long: Vec::new(),
        })
    }

    /// Ready to be read; fails when there is nothing to learn.
    fn counted(mut self) -> Result<Self, ReweightError> {
        self.tokens.finish()?;
        let DataInfo { examples, removed, loss_tokens, .. } = self.info;
        if loss_tokens == 0 {
            let detail = if examples == 0 && removed > 0 {
                format!(
                    "its {removed} records were all left out as duplicates or overlaps (see data.deduplicate, data.overlap)"
                )
            } else {
                format!("its {examples} records have no token under the loss")
            };
            return Err(DataError::Empty { name: self.name, detail }.into());
        }
        Ok(self)
    }

    fn push(&mut self, record: &Record, encoder: Encoder, context: usize) -> Result<(), ReweightError> {
        let is_text = record.iter().all(|p| p.is_learned);
        let Encoded { mut tokens, mut learned, first } = encoder.encode(record, context)?;
        let longest = context + 1;
        let begin = self.tokens.examples();
        if is_text {
            let mut at = 0;
            // each window begins with the last token of the one before, so that every token is predicted once
            while at + 1 < tokens.len() {
                let end = (at + longest).min(tokens.len());
                let is_continued = self.tokens.examples() > begin;
                self.append(&tokens[at..end], &learned[at..end], is_continued)?;
                at = end - 1;
            }
            return Ok(());
        }
        if tokens.len() > longest {
            self.info.truncated += 1;
            let prompt = learned.iter().position(|&l| l).unwrap_or(tokens.len());
            let kept = prompt.min((longest / 2).max(longest.saturating_sub(tokens.len() - prompt)));
            tokens.drain(first..first + prompt - kept);
            learned.drain(first..first + prompt - kept);
            tokens.truncate(longest);
            learned.truncate(longest);
        }
        self.append(&tokens, &learned, false)
    }

    fn append(&mut self, tokens: &[u32], learned: &[bool], is_continued: bool) -> Result<(), ReweightError> {
        let count = learned[1..].iter().filter(|&&l| l).count();
        if count > 0 {
            self.tokens.push(tokens, learned, is_continued)?;
            self.info.tokens += tokens.len() as u64;
            self.info.loss_tokens += count as u64;
        }
        Ok(())
    }

    /// Takes at most so many examples out, and at most a twentieth of them: a set of fewer than 20 keeps all. Which ones depends on
    /// name and size of the set alone, and no order or batch of this set has them any more. Whole records are taken, but for the last
    /// one of running text, of which a part may stay. Returns them as a set of their own, empty where there are none, whose
    /// tokens are in files of the folder `scratch`, or in memory without.
    ///
    /// # Errors
    /// When a scratch file cannot be written.
    ///
    /// # Panics
    /// When examples were held out before.
    pub fn hold_out(&mut self, wanted: usize, scratch: Option<&Path>) -> Result<Self, ReweightError> {
        assert!(self.gaps.is_empty(), "examples of {} were held out before", self.name);
        let places = held::choose(&self.name, &self.tokens, wanted);
        let mut held = Self::empty(&self.name, scratch)?;
        for &place in &places {
            let (tokens, learned): (Vec<u32>, Vec<bool>) = self.tokens.example(place).into_iter().unzip();
            held.append(&tokens, &learned, false)?;
        }
        held.tokens.finish()?;
        held.info.examples = places.len() as u64;
        self.info.tokens -= held.info.tokens;
        self.info.loss_tokens -= held.info.loss_tokens;
        self.gaps = places.into_iter().enumerate().map(|(before, place)| place - before).collect();
        Ok(held)
    }

    /// The tokens of an example.
    fn example(&self, i: usize) -> Vec<(u32, bool)> {
        self.tokens.example(i + self.gaps.partition_point(|&before| before <= i))
    }

    /// Number of examples (windows of text count one each) that were not held out.
    pub fn len(&self) -> usize {
        self.tokens.examples() - self.gaps.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Tokens that go through a model in one pass over all examples; the last of each is only predicted.
    pub fn inputs(&self) -> u64 {
        self.info.tokens - self.len() as u64
    }
    /// Bytes of memory that the examples take.
    pub fn memory(&self) -> u64 {
        self.tokens.memory()
    }

    /// The tokens of an example that ask, and those that answer: its last run of tokens under the loss, and all before it.
    pub fn question_and_answer(&self, i: usize) -> (Vec<u32>, Vec<u32>) {
        let example = self.example(i);
        let end = example.iter().rposition(|(_, is_learned)| *is_learned).map_or(0, |last| last + 1);
        let start = example[..end].iter().rposition(|(_, is_learned)| !is_learned).map_or(0, |last| last + 1);
        let ids = |part: &[(u32, bool)]| part.iter().map(|(token, _)| *token).collect();
        (ids(&example[..start]), ids(&example[start..end]))
    }

    /// The batch of these examples: stacked, without padding.
    pub fn batch(&self, examples: impl IntoIterator<Item = usize>) -> Batch {
        let mut batch = Batch::default();
        for i in examples {
            let example = self.example(i);
            for pair in example.windows(2) {
                let ((token, _), (next, is_learned)) = (pair[0], pair[1]);
                if is_learned {
                    batch.rows.push(batch.tokens.len() as u32);
                    batch.targets.push(next);
                }
                batch.tokens.push(token);
            }
            batch.lengths.push(example.len() - 1);
        }
        batch
    }

    /// Tokens of an example that go through a model.
    pub fn length(&self, example: usize) -> usize {
        self.example(example).len() - 1
    }
}

#[cfg(test)]
impl Dataset {
    /// Tokenises records that are in memory.
    pub fn of(records: &[Record], tokenizer: &Tokenizer, context: usize) -> Self {
        let mut set = Self::empty("a", None).expect("memory needs no folder");
        set.info.examples = records.len() as u64;
        for record in records {
            set.push(record, tokenizer.into(), context).expect("the tests' tokenizers read every text");
        }
        set.counted().expect("the tests' records have something to learn")
    }
}
