//! Data files to examples: JSONL, JSON lists and plain text, streamed, counted and hashed.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use bilevel::rng::Stream;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    error::{DataError, ReweightError},
    model::Batch,
    recipe::DataSpec,
    result::DataInfo,
    tokenizer::Tokenizer,
};

/// Longest line that is read, in bytes: 64 MiB. Longer ones are refused, since a record is held in memory.
pub const LINE_LIMIT: usize = 64 << 20;
/// Bytes of a text that are tokenised, for each token of the context; what lies beyond would be cut off anyway.
const BYTES_PER_TOKEN: usize = 64;

/// A piece of text, and whether the loss is on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether its tokens are to be learned.
    pub is_learned: bool,
}

/// A record as text.
pub type Record = Vec<Piece>;

/// The records of a data set, before tokenisation.
#[derive(Clone, Debug)]
pub struct Records {
    /// The records, in the order of the files.
    pub records: Vec<Record>,
    /// SHA-256 of the files' bytes.
    pub sha256: String,
}

/// Reads the records of a data set.
pub fn read(spec: &DataSpec, name: &str) -> Result<Records, DataError> {
    let mut hash = Sha256::new();
    let mut all = Vec::new();
    for path in spec.path.as_slice() {
        read_file(spec, path, &mut hash, &mut all)?;
    }
    let found = all.len();
    let mut records = all.split_off((spec.skip as usize).min(found));
    if let Some(take) = spec.take {
        records.truncate(take as usize);
    }
    if records.is_empty() {
        let files: Vec<String> = spec.path.as_slice().iter().map(|p| p.display().to_string()).collect();
        let left = if found > 0 { ", all of them skipped" } else { "" };
        let detail = format!("{} has {found} records{left}", files.join(", "));
        return Err(DataError::Empty { name: name.to_owned(), detail });
    }
    let sha256 = hash.finalize().iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    });
    Ok(Records { records, sha256 })
}

fn read_file(
    spec: &DataSpec,
    path: &Path,
    hash: &mut Sha256,
    out: &mut Vec<Record>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut lines = Lines { reader: BufReader::new(file), path, number: 0, hash, buffer: Vec::new() };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if extension == "txt" {
        return documents(&mut lines, out);
    }
    let mut is_list = false;
    let mut is_first = true;
    let mut text = String::new();
    let mut start = 1;
    while let Some(line) = lines.next()? {
        let trimmed = line.trim();
        if is_first && trimmed.starts_with('[') {
            is_list = true;
            start = lines.number;
        }
        is_first &= trimmed.is_empty();
        if is_list {
            text.push_str(&line);
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let place = format!("line {}", lines.number);
        let value: Value = serde_json::from_str(trimmed).map_err(|e| DataError::Broken {
            path: path.to_owned(),
            line: lines.number,
            detail: short(&e),
        })?;
        out.push(record(spec, &value, path, &place)?);
    }
    if is_list {
        let values: Vec<Value> = serde_json::from_str(&text).map_err(|e| DataError::Broken {
            path: path.to_owned(),
            line: start + e.line() as u64 - 1,
            detail: short(&e),
        })?;
        for (i, value) in values.iter().enumerate() {
            out.push(record(spec, value, path, &format!("record {}", i + 1))?);
        }
    }
    Ok(())
}

fn short(e: &serde_json::Error) -> String {
    let text = e.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// Blank lines separate documents.
fn documents(lines: &mut Lines, out: &mut Vec<Record>) -> Result<(), DataError> {
    let mut document = String::new();
    loop {
        let line = lines.next()?;
        let ends = line.as_ref().is_none_or(|l| l.trim().is_empty());
        if ends && !document.trim().is_empty() {
            out.push(vec![Piece { text: std::mem::take(&mut document), is_learned: true }]);
        }
        match line {
            None => return Ok(()),
            Some(_) if ends => document.clear(),
            Some(line) => document.push_str(&line),
        }
    }
}

/// Lines of a file, hashed as they pass.
struct Lines<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    number: u64,
    hash: &'a mut Sha256,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<String>, DataError> {
        self.buffer.clear();
        let read = (&mut self.reader)
            .take(LINE_LIMIT as u64 + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| DataError::Unreadable { path: self.path.to_owned(), source })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read > LINE_LIMIT {
            let (path, line) = (self.path.to_owned(), self.number);
            return Err(DataError::LineTooLong { path, line, limit: LINE_LIMIT });
        }
        self.hash.update(&self.buffer);
        match std::str::from_utf8(&self.buffer) {
            Ok(line) => Ok(Some(line.to_owned())),
            Err(e) => Err(DataError::NotUtf8 {
                path: self.path.to_owned(),
                line: self.number,
                byte: e.valid_up_to() + 1,
            }),
        }
    }
}

const MESSAGE_FIELDS: [&str; 3] = ["messages", "conversations", "items"];
const PROMPT_FIELDS: [&str; 3] = ["prompt", "question", "instruction"];
const RESPONSE_FIELDS: [&str; 4] = ["response", "answer", "output", "completion"];

fn record(spec: &DataSpec, value: &Value, path: &Path, place: &str) -> Result<Record, DataError> {
    let missing = |field: &str| {
        let found = match value {
            Value::Object(map) if !map.is_empty() => {
                map.keys().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
            }
            Value::Object(_) => "no fields".to_owned(),
            _ => "no fields: it is not an object".to_owned(),
        };
        DataError::MissingField {
            path: path.to_owned(),
            place: place.to_owned(),
            field: field.to_owned(),
            found,
        }
    };
    let text = |field: &str| value.get(field).and_then(Value::as_str).ok_or_else(|| missing(field));
    let pair = |prompt: String, response: &str| {
        vec![Piece { text: prompt, is_learned: false }, Piece { text: response.to_owned(), is_learned: true }]
    };
    if let Some(field) = &spec.text {
        return Ok(vec![Piece { text: text(field)?.to_owned(), is_learned: true }]);
    }
    if let Some(field) = &spec.messages {
        return messages(value.get(field).and_then(Value::as_array).ok_or_else(|| missing(field))?)
            .ok_or_else(|| missing(field));
    }
    if let Some(response) = &spec.response {
        let prompt = match (&spec.template, &spec.prompt) {
            (Some(template), _) => fill(template, &text)?,
            (None, Some(prompt)) => format!("{}\n", text(prompt)?),
            (None, None) => String::new(),
        };
        return Ok(pair(prompt, text(response)?));
    }
    let has = |field: &&&str| value.get(**field).is_some();
    if let Some(field) = MESSAGE_FIELDS.iter().find(has) {
        return value
            .get(field)
            .and_then(Value::as_array)
            .and_then(|l| messages(l))
            .ok_or_else(|| missing(field));
    }
    let (prompt, response) =
        (PROMPT_FIELDS.iter().position(|f| has(&f)), RESPONSE_FIELDS.iter().position(|f| has(&f)));
    if let (Some(prompt), Some(response)) = (prompt, response) {
        let (prompt, response) = (PROMPT_FIELDS[prompt], RESPONSE_FIELDS[response]);
        let mut question = format!("{}\n", text(prompt)?);
        if let Some(input) = value.get("input").and_then(Value::as_str).filter(|i| !i.is_empty()) {
            let _ = writeln!(question, "{input}");
        }
        return Ok(pair(question, text(response)?));
    }
    if value.get("text").is_none() {
        // half a pair: it is the other half that is missing
        if let Some(prompt) = prompt {
            return Err(missing(RESPONSE_FIELDS[prompt]));
        }
        if let Some(response) = response {
            return Err(missing(PROMPT_FIELDS[response.min(PROMPT_FIELDS.len() - 1)]));
        }
    }
    Ok(vec![Piece { text: text("text")?.to_owned(), is_learned: true }])
}

/// Roles before texts; the loss is on what the assistant says.
fn messages(list: &[Value]) -> Option<Record> {
    let mut pieces = Vec::new();
    for message in list {
        let get = |a: &str, b: &str| message.get(a).or_else(|| message.get(b)).and_then(Value::as_str);
        let (role, text) = (get("role", "from")?, get("content", "value")?);
        let is_learned = matches!(role, "assistant" | "gpt" | "model");
        pieces.push(Piece { text: format!("{text}\n"), is_learned });
    }
    pieces.iter().any(|p| p.is_learned).then_some(pieces)
}

/// Replaces `{field}` by the record's text; `{{` and `}}` are braces.
fn fill<'v>(template: &str, text: &impl Fn(&str) -> Result<&'v str, DataError>) -> Result<String, DataError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push_str(&tail[..1]);
            rest = &tail[2..];
        } else if let (Some(end), true) = (tail.find('}'), tail.starts_with('{')) {
            out.push_str(text(&tail[1..end])?);
            rest = &tail[end + 1..];
        } else {
            out.push_str(&tail[..1]);
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Fingerprints of records: the hash of the text with case and white space evened out.
pub fn fingerprints(records: &[Record]) -> Vec<[u8; 32]> {
    let of = |record: &Record| {
        let mut hash = Sha256::new();
        for word in record.iter().flat_map(|p| p.text.split_whitespace()) {
            hash.update(word.to_lowercase());
            hash.update(b" ");
        }
        hash.finalize().into()
    };
    records.iter().map(of).collect()
}

/// How many of the records stand in the other set as well.
pub fn overlap<S: std::hash::BuildHasher>(records: &[Record], others: &HashSet<[u8; 32], S>) -> u64 {
    fingerprints(records).iter().filter(|f| others.contains(*f)).count() as u64
}

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
}

impl Dataset {
    /// Tokenises records. An example is cut to `context` + 1 tokens: running text into several examples, anything
    /// else at its end, after its prompt has been cut at its beginning to half of the context.
    pub fn new(
        name: &str,
        records: &Records,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Self, ReweightError> {
        let mut set = Self {
            name: name.to_owned(),
            tokens: Vec::new(),
            is_learned: Vec::new(),
            starts: vec![0],
            info: DataInfo {
                examples: records.records.len() as u64,
                tokens: 0,
                loss_tokens: 0,
                truncated: 0,
                sha256: records.sha256.clone(),
            },
        };
        for record in &records.records {
            set.push(record, tokenizer, context)?;
        }
        set.info.tokens = set.tokens.len() as u64;
        set.info.loss_tokens = (0..set.len()).map(|i| set.loss_tokens(i) as u64).sum();
        if set.info.loss_tokens == 0 {
            let detail = format!("its {} records have no token under the loss", set.info.examples);
            return Err(DataError::Empty { name: name.to_owned(), detail }.into());
        }
        Ok(set)
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

/// The order in which a source's examples are drawn: shuffled passes, a function of (seed, name, order, position).
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    purpose: u64,
    size: usize,
    pass: Option<u64>,
    permutation: Vec<u32>,
}

impl Order {
    /// The order numbered `order` of a data set; different orders are independent.
    pub fn new(seed: u64, set: &Dataset, order: u64) -> Self {
        let digest = Sha256::digest(format!("{}\n{order}", set.name));
        let purpose = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        Self { seed, purpose, size: set.len(), pass: None, permutation: Vec::new() }
    }
    /// The example at a position of the endless sequence.
    pub fn at(&mut self, position: u64) -> usize {
        let pass = position / self.size as u64;
        if self.pass != Some(pass) {
            let mut stream = Stream::new(self.seed, self.purpose.wrapping_add(pass));
            self.permutation = (0..self.size as u32).collect();
            for i in (1..self.size).rev() {
                self.permutation.swap(i, stream.below(i as u64 + 1) as usize);
            }
            self.pass = Some(pass);
        }
        self.permutation[(position % self.size as u64) as usize] as usize
    }
    /// `count` examples from a position on.
    pub fn take(&mut self, position: u64, count: usize) -> Vec<usize> {
        (position..position + count as u64).map(|p| self.at(p)).collect()
    }
}

#[cfg(test)]
mod tests;
