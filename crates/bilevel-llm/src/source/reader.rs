//! Records of data files, one at a time.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Piece, Record, fields::record, rotation::Rotation};
use crate::{error::DataError, recipe::DataSpec};

/// Longest record that is read, in bytes: 64 MiB. Longer ones are refused, since one record is held in memory.
pub const RECORD_LIMIT: usize = 64 << 20;
/// Records from this size on, in bytes, are more often a file that was not split than a text.
const SUSPICIOUS: usize = 8 << 20;

/// What was read, known at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records in use.
    pub records: u64,
    /// SHA-256 of the files' bytes.
    pub sha256: String,
    /// Records that are suspiciously long: file, place and size, in words.
    pub long: Vec<String>,
}

/// The records of a data set, in the order of the files. One record is held in memory at a time; every byte of the
/// files is read and hashed, and every record parsed, those that `skip` and `take` leave out too.
#[derive(Debug)]
pub struct Reader<'a> {
    spec: &'a DataSpec,
    waiting: std::slice::Iter<'a, PathBuf>,
    open: Option<Open>,
    hash: Sha256,
    /// Records found, those left out too.
    found: u64,
    used: u64,
    long: Vec<String>,
    /// Present where answers are shuffled.
    rotation: Option<Rotation>,
}

impl<'a> Reader<'a> {
    /// A reader at the start of the first file; files are opened when they are reached.
    pub fn new(spec: &'a DataSpec) -> Self {
        let waiting = spec.path.as_slice().iter();
        let rotation = spec.shuffle_answers.then(Rotation::default);
        Self { spec, waiting, open: None, hash: Sha256::new(), found: 0, used: 0, long: Vec::new(), rotation }
    }

    /// Fails when a file cannot be opened, which is better known before hours of reading others.
    pub fn require_files(spec: &DataSpec) -> Result<(), DataError> {
        spec.path.as_slice().iter().try_for_each(|path| Open::new(path).map(drop))
    }

    /// What was read, after the last record.
    ///
    /// # Errors
    /// No record was left.
    pub fn finish(self, name: &str) -> Result<Summary, DataError> {
        if self.used == 0 {
            let files: Vec<String> =
                self.spec.path.as_slice().iter().map(|path| path.display().to_string()).collect();
            let left = if self.found > 0 { ", all of them skipped" } else { "" };
            let detail = format!("{} has {} records{left}", files.join(", "), self.found);
            return Err(DataError::Empty { name: name.to_owned(), detail });
        }
        if self.rotation.is_some() && self.used == 1 {
            return Err(self.no_answers());
        }
        let sha256 = self.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Summary { records: self.used, sha256, long: self.long })
    }

    /// Bytes of the files that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.record.len())
    }

    fn no_answers(&self) -> DataError {
        DataError::NoAnswers { path: self.spec.path.as_slice()[0].clone() }
    }

    /// The next record that `skip` and `take` do not leave out.
    fn used(&mut self) -> Result<Option<Record>, DataError> {
        while let Some(record) = self.any()? {
            self.found += 1;
            if self.found > self.spec.skip && self.spec.take.is_none_or(|take| self.used < take) {
                self.used += 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The next record of the files, left out or not.
    fn any(&mut self) -> Result<Option<Record>, DataError> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.waiting.next() else { return Ok(None) };
                self.open = Some(Open::new(path)?);
            }
            let open = self.open.as_mut().expect("just opened");
            let record = open.next(self.spec, &mut self.hash)?;
            let length = open.record.trim_ascii_end().len();
            if length >= SUSPICIOUS {
                self.long.push(format!("{}, {} is {length} bytes long", open.path.display(), open.place()));
                open.record = Vec::new();
            }
            match record {
                Some(record) => return Ok(Some(record)),
                None => self.open = None,
            }
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.used() {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let Some(rotation) = &mut self.rotation else { return record.map(Ok) };
            let Some(record) = record else { return rotation.last().map(Ok) };
            match rotation.turn(record) {
                Ok(Some(turned)) => return Some(Ok(turned)),
                Ok(None) => {}
                Err(_) => return Some(Err(self.no_answers())),
            }
        }
    }
}

/// How a file holds its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// JSON, of which no byte was seen.
    Json,
    /// A record a line.
    Lines,
    /// A JSON list.
    List,
    /// Text; blank lines separate documents.
    Documents,
    /// There are no more.
    Done,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    input: BufReader<File>,
    form: Form,
    /// The line that the next byte stands in, from 1, and bytes before it in that line.
    line: u64,
    column: usize,
    /// Records so far.
    records: u64,
    /// The bytes of the last record.
    record: Vec<u8>,
    /// Where it began.
    start: (u64, usize),
}

impl Open {
    fn new(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
        let input = BufReader::new(File::open(path).map_err(unreadable)?);
        let is_text = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"));
        let form = if is_text { Form::Documents } else { Form::Json };
        let path = path.to_owned();
        Ok(Self { path, input, form, line: 1, column: 0, records: 0, record: Vec::new(), start: (1, 0) })
    }

    fn unreadable(&self, source: io::Error) -> DataError {
        DataError::Unreadable { path: self.path.clone(), source }
    }
    fn broken(&self, line: u64, detail: &str) -> DataError {
        DataError::Broken { path: self.path.clone(), line, detail: detail.to_owned() }
    }
    /// Where the last record stands, in words.
    fn place(&self) -> String {
        match self.form {
            Form::List => format!("record {}", self.records),
            _ => format!("line {}", self.start.0),
        }
    }

    /// The next record.
    fn next(&mut self, spec: &DataSpec, hash: &mut Sha256) -> Result<Option<Record>, DataError> {
        if self.form == Form::Json {
            self.form = if self.skip_white(hash)? == Some(b'[') {
                self.consume(1, hash);
                Form::List
            } else {
                Form::Lines
            };
        }
        let is_there = match self.form {
            Form::Documents => return self.document(hash),
            Form::List => self.find_element(hash)?,
            _ => self.find_line(hash)?,
        };
        if !is_there {
            return Ok(None);
        }
        self.records += 1;
        let value: Value = serde_json::from_str(self.text()?.trim()).map_err(|error| {
            let message = error.to_string();
            let detail = message.split(" at line ").next().unwrap_or(&message);
            self.broken(self.start.0 + error.line().max(1) as u64 - 1, detail)
        })?;
        record(spec, &value, &self.path, &self.place()).map(Some)
    }

    /// The bytes of the last record as text.
    fn text(&self) -> Result<&str, DataError> {
        std::str::from_utf8(&self.record).map_err(|error| {
            let before = &self.record[..error.valid_up_to()];
            let column = match before.iter().rposition(|byte| *byte == b'\n') {
                None => self.start.1 + before.len(),
                Some(end) => before.len() - end - 1,
            };
            let (path, line) = (self.path.clone(), self.start.0 + line_ends(before));
            DataError::NotUtf8 { path, line, byte: column + 1 }
        })
    }

    /// Takes bytes of the buffer as read.
    fn consume(&mut self, count: usize, hash: &mut Sha256) {
        let bytes = &self.input.buffer()[..count];
        hash.update(bytes);
        advance(&mut self.line, &mut self.column, bytes);
        self.input.consume(count);
    }

    /// Goes over white space; the byte that comes next, `None` at the end of the file.
    fn skip_white(&mut self, hash: &mut Sha256) -> Result<Option<u8>, DataError> {
        loop {
            let buffer = self.input.fill_buf();
            let buffer = buffer.map_err(|e| DataError::Unreadable { path: self.path.clone(), source: e })?;
            let white = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = buffer.get(white).copied();
            let is_end = buffer.is_empty();
            self.consume(white, hash);
            if is_end || next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Reads the next line that is not blank into `record`.
    fn find_line(&mut self, hash: &mut Sha256) -> Result<bool, DataError> {
        while self.read_line(hash)? {
            if !self.record.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the next line into `record`; false at the end of the file.
    fn read_line(&mut self, hash: &mut Sha256) -> Result<bool, DataError> {
        self.start = (self.line, self.column);
        self.record.clear();
        let read = (&mut self.input).take(RECORD_LIMIT as u64 + 1).read_until(b'\n', &mut self.record);
        let read = read.map_err(|source| self.unreadable(source))?;
        if read > RECORD_LIMIT {
            return Err(self.too_long());
        }
        hash.update(&self.record);
        advance(&mut self.line, &mut self.column, &self.record);
        Ok(read > 0)
    }

    fn too_long(&self) -> DataError {
        DataError::LineTooLong { path: self.path.clone(), line: self.start.0, limit: RECORD_LIMIT }
    }

    /// Reads the next element of a list into `record`; false at the end of the list.
    fn find_element(&mut self, hash: &mut Sha256) -> Result<bool, DataError> {
        let unended = |open: &Self| open.broken(open.line, "EOF while parsing a list");
        let mut next = self.skip_white(hash)?.ok_or_else(|| unended(self))?;
        if next == b']' {
            self.consume(1, hash);
            if self.skip_white(hash)?.is_some() {
                return Err(self.broken(self.line, "trailing characters"));
            }
            self.form = Form::Done;
            return Ok(false);
        }
        if self.records > 0 {
            if next != b',' {
                return Err(self.broken(self.line, "expected `,` or `]`"));
            }
            self.consume(1, hash);
            next = self.skip_white(hash)?.ok_or_else(|| unended(self))?;
        }
        if next == b',' || next == b']' {
            return Err(self.broken(self.line, "expected value"));
        }
        self.start = (self.line, self.column);
        self.record.clear();
        let mut scan = Scan::default();
        loop {
            let buffer = self.input.fill_buf();
            let buffer = buffer.map_err(|e| DataError::Unreadable { path: self.path.clone(), source: e })?;
            // At the end of the file the parser says what is missing.
            if buffer.is_empty() {
                return Ok(true);
            }
            let (count, is_whole) = scan.go_over(buffer);
            self.record.extend_from_slice(&buffer[..count]);
            self.consume(count, hash);
            if self.record.len() > RECORD_LIMIT {
                return Err(self.too_long());
            }
            if is_whole {
                return Ok(true);
            }
        }
    }

    /// The next document of a text.
    fn document(&mut self, hash: &mut Sha256) -> Result<Option<Record>, DataError> {
        let mut document = String::new();
        loop {
            let is_line = self.read_line(hash)?;
            let line = self.text()?;
            if line.trim().is_empty() {
                if !document.trim().is_empty() {
                    return Ok(Some(vec![Piece::new(document, true)]));
                }
                document.clear();
            } else {
                document.push_str(line);
            }
            if !is_line {
                return Ok(None);
            }
        }
    }
}

/// Ends of lines among bytes.
fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Moves a place in a file over bytes.
fn advance(line: &mut u64, column: &mut usize, bytes: &[u8]) {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        None => *column += bytes.len(),
        Some(last) => {
            *line += line_ends(bytes);
            *column = bytes.len() - last - 1;
        }
    }
}

/// Finds the end of a JSON value by its brackets and quotes; whether it is one is the parser's to say.
#[derive(Default)]
struct Scan {
    depth: u64,
    is_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// How many of the bytes belong to the value, and whether it ends there.
    fn go_over(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (index, byte) in bytes.iter().enumerate() {
            if self.is_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => {
                        self.is_string = false;
                        if self.depth == 0 {
                            return (index + 1, true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t' if self.depth == 0 => return (index, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (index + 1, true);
                    }
                }
                _ => {}
            }
        }
        (bytes.len(), false)
    }
}
