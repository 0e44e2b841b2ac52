//! Records as tokens.

use super::{Reader, Record};
use crate::{
    error::{DataError, ReweightError},
    model::Batch,
    result::DataInfo,
    tokenizer::Tokenizer,
};

/// Bytes of a text that are tokenised, for each token of the context; what lies beyond would be cut off anyway.
const BYTES_PER_TOKEN: usize = 64;

/// Tokenised examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Source's name, or `validation`, or `test`.
    pub name: String,
    tokens: Vec<u32>,
    is_learned: Vec<bool>,
    /// Where each example begins in `tokens`; one more at the end.
    starts: Vec<usize>,
    /// What was read.
    pub info: DataInfo,
    /// Records that are suspiciously long: file, place and size, in words.
    pub long: Vec<String>,
}

impl Dataset {
    /// Tokenises records as they are read; each of them is shown to `seen` first. An example is cut to `context` + 1
    /// tokens: running text into several examples, anything else at its end, after its prompt has been cut at its
    /// beginning to half of the context.
    pub fn read(
        name: &str,
        mut records: Reader,
        tokenizer: &Tokenizer,
        context: usize,
        mut seen: impl FnMut(&Record),
    ) -> Result<Self, ReweightError> {
        let mut set = Self::empty(name);
        for record in &mut records {
            let record = record?;
            seen(&record);
            set.push(&record, tokenizer, context)?;
        }
        let summary = records.finish(name)?;
        set.info.examples = summary.records;
        set.info.sha256 = summary.sha256;
        set.long = summary.long;
        set.counted()
    }

    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tokens: Vec::new(),
            is_learned: Vec::new(),
            starts: vec![0],
            info: DataInfo { examples: 0, tokens: 0, loss_tokens: 0, truncated: 0, sha256: String::new() },
            long: Vec::new(),
        }
    }

    /// With the tokens counted; fails when there is nothing to learn.
    fn counted(mut self) -> Result<Self, ReweightError> {
        self.info.tokens = self.tokens.len() as u64;
        self.info.loss_tokens = (0..self.len()).map(|i| self.loss_tokens(i) as u64).sum();
        if self.info.loss_tokens == 0 {
            let detail = format!("its {} records have no token under the loss", self.info.examples);
            return Err(DataError::Empty { name: self.name, detail }.into());
        }
        Ok(self)
    }

    fn push(&mut self, record: &Record, tokenizer: &Tokenizer, context: usize) -> Result<(), ReweightError> {
        let is_text = record.iter().all(|p| p.is_learned);
        let mut tokens = vec![tokenizer.begin()];
        let mut learned = vec![false];
        for piece in record {
            // running text is used whole, in windows; of everything else only what fits
            let limit = if is_text { usize::MAX } else { BYTES_PER_TOKEN * (context + 1) };
            let text = if piece.is_learned { head(&piece.text, limit) } else { tail(&piece.text, limit) };
            let ids = tokenizer.encode(text)?;
            learned.resize(learned.len() + ids.len(), piece.is_learned);
            tokens.extend(ids);
        }
        tokens.push(tokenizer.end());
        learned.push(record.last().is_some_and(|p| p.is_learned));
        let longest = context + 1;
        if is_text {
            let mut at = 0;
            // each window begins with the last token of the one before, so that every token is predicted once
            while at + 1 < tokens.len() {
                let end = (at + longest).min(tokens.len());
                self.append(&tokens[at..end], &learned[at..end]);
                at = end - 1;
            }
            return Ok(());
        }
        if tokens.len() > longest {
            self.info.truncated += 1;
            let prompt = learned.iter().position(|&l| l).unwrap_or(tokens.len());
            let kept = prompt.min((longest / 2).max(longest.saturating_sub(tokens.len() - prompt)));
            tokens.drain(1..=prompt - kept);
            learned.drain(1..=prompt - kept);
            tokens.truncate(longest);
            learned.truncate(longest);
        }
        self.append(&tokens, &learned);
        Ok(())
    }

    fn append(&mut self, tokens: &[u32], learned: &[bool]) {
        if learned[1..].iter().any(|&l| l) {
            self.tokens.extend(tokens);
            self.is_learned.extend(learned);
            self.starts.push(self.tokens.len());
        }
    }

    /// Number of examples (windows of text count one each).
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn loss_tokens(&self, i: usize) -> usize {
        self.is_learned[self.starts[i] + 1..self.starts[i + 1]].iter().filter(|&&l| l).count()
    }

    /// The batch of these examples.
    pub fn batch(&self, examples: impl IntoIterator<Item = usize>) -> Batch {
        let mut batch = Batch::default();
        for i in examples {
            let (start, end) = (self.starts[i], self.starts[i + 1]);
            for j in start..end - 1 {
                if self.is_learned[j + 1] {
                    batch.rows.push((batch.tokens.len() + j - start) as u32);
                    batch.targets.push(self.tokens[j + 1]);
                }
            }
            batch.tokens.extend(&self.tokens[start..end - 1]);
            batch.lengths.push(end - 1 - start);
        }
        batch
    }
}

/// The first bytes of a text, at a letter's end.
fn head(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
/// The last bytes of a text, at a letter's start.
fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len() - limit.min(text.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
impl Dataset {
    /// Tokenises records that are in memory.
    pub fn of(records: &[Record], tokenizer: &Tokenizer, context: usize) -> Self {
        let mut set = Self::empty("a");
        set.info.examples = records.len() as u64;
        for record in records {
            set.push(record, tokenizer, context).expect("the tests' tokenizers read every text");
        }
        set.counted().expect("the tests' records have something to learn")
    }
}
