//! The header of a GGUF file: metadata and the table of tensors.
//!
//! Every length is held against what is left of the file before memory is reserved for it, and against a limit far above
//! any model's.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
};

use super::quant::Format;

/// Bytes of a string; chat templates are the longest that occur, some 10 kB.
const LONGEST_STRING: u64 = 1 << 24;
/// Entries of an array; the largest vocabularies have 2^18.
const LONGEST_ARRAY: u64 = 1 << 24;
/// Keys; models have some dozens.
const MOST_KEYS: u64 = 1 << 16;
/// Tensors; models of a thousand blocks have 2^14.
const MOST_TENSORS: u64 = 1 << 20;
/// Bytes of a header; the largest vocabularies take 2^24.
const LARGEST_HEADER: u64 = 1 << 30;
/// Dimensions of a tensor, by the specification.
const MOST_DIMENSIONS: u32 = 4;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number; of unsigned 64-bit ones only those below 2^63 are read.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of whole numbers.
    Integers(Vec<i64>),
    /// An array of numbers.
    Floats(Vec<f64>),
    /// An array of yes and no.
    Bools(Vec<bool>),
}

impl Value {
    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Texts(_) => "an array of texts",
            Self::Integers(_) => "an array of whole numbers",
            Self::Floats(_) => "an array of numbers",
            Self::Bools(_) => "an array of true and false",
        }
    }
}

/// A tensor of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Rows first, as everywhere but in the file.
    pub shape: Vec<usize>,
    /// Number format.
    pub format: Format,
    /// Bytes from the beginning of the file.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The header of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Metadata.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// Why a header is refused.
#[derive(Debug)]
pub enum HeaderError {
    /// Reading failed.
    Io(std::io::Error),
    /// The format is not kept to: place, what was found, what to do.
    Broken(String, String, &'static str),
    /// Something that is not read, and what to do.
    Unsupported(String, &'static str),
}

impl From<std::io::Error> for HeaderError {
    fn from(source: std::io::Error) -> Self {
        Self::Io(source)
    }
}

const AGAIN: &str = "the file is damaged or made to do harm: fetch it again from where it came";

fn broken<T>(place: impl Into<String>, found: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError::Broken(place.into(), found.into(), AGAIN))
}

struct Reader<R> {
    file: R,
    at: u64,
    /// Bytes of the file.
    length: u64,
}

impl<R: BufRead> Reader<R> {
    /// Bytes that the header may still take.
    fn left(&self) -> u64 {
        self.length.min(LARGEST_HEADER).saturating_sub(self.at)
    }

    fn bytes<const N: usize>(&mut self, place: &str) -> Result<[u8; N], HeaderError> {
        if self.left() < N as u64 {
            return broken(place, format!("the file of {} bytes ends here", self.length));
        }
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }
    fn u32(&mut self, place: &str) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.bytes(place)?))
    }
    fn u64(&mut self, place: &str) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.bytes(place)?))
    }

    /// A number of things of at least `smallest` bytes each.
    fn count(&mut self, place: &str, smallest: u64, most: u64) -> Result<u64, HeaderError> {
        let n = self.u64(place)?;
        if n > most || n > self.left() / smallest {
            return broken(
                place,
                format!(
                    "a count or length of {n}, where {} bytes are left and {most} is the limit",
                    self.left()
                ),
            );
        }
        Ok(n)
    }

    fn text(&mut self, place: &str) -> Result<String, HeaderError> {
        let n = self.count(place, 1, LONGEST_STRING)?;
        let mut bytes = Vec::with_capacity(n as usize);
        self.file.by_ref().take(n).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != n {
            return broken(place, "the file ends inside this text");
        }
        self.at += n;
        String::from_utf8(bytes)
            .or_else(|e| broken(place, format!("text that is not UTF-8 ({})", e.utf8_error())))
    }

    fn integer(&mut self, kind: u32, place: &str) -> Result<i64, HeaderError> {
        Ok(match kind {
            0 => i64::from(self.bytes::<1>(place)?[0]),
            1 => i64::from(self.bytes::<1>(place)?[0].cast_signed()),
            2 => i64::from(u16::from_le_bytes(self.bytes(place)?)),
            3 => i64::from(i16::from_le_bytes(self.bytes(place)?)),
            4 => i64::from(self.u32(place)?),
            5 => i64::from(i32::from_le_bytes(self.bytes(place)?)),
            10 => {
                let n = self.u64(place)?;
                i64::try_from(n).or_else(|_| broken(place, format!("{n}, which is above 2^63")))?
            }
            _ => i64::from_le_bytes(self.bytes(place)?),
        })
    }
    fn float(&mut self, kind: u32, place: &str) -> Result<f64, HeaderError> {
        Ok(if kind == 6 {
            f64::from(f32::from_le_bytes(self.bytes(place)?))
        } else {
            f64::from_le_bytes(self.bytes(place)?)
        })
    }
    fn bool(&mut self, place: &str) -> Result<bool, HeaderError> {
        match self.bytes::<1>(place)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => broken(place, format!("{other} where 0 or 1 says true or false")),
        }
    }

    fn value(&mut self, place: &str) -> Result<Value, HeaderError> {
        let kind = self.u32(place)?;
        Ok(match kind {
            0..=5 | 10 | 11 => Value::Integer(self.integer(kind, place)?),
            6 | 12 => Value::Float(self.float(kind, place)?),
            7 => Value::Bool(self.bool(place)?),
            8 => Value::Text(self.text(place)?),
            9 => self.array(place)?,
            _ => return broken(place, format!("a value of kind {kind}, where 0 to 12 are defined")),
        })
    }

    fn array(&mut self, place: &str) -> Result<Value, HeaderError> {
        let kind = self.u32(place)?;
        let smallest = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => {
                return Err(HeaderError::Unsupported(
                    format!("an array of arrays in {place}"),
                    "no known model has one",
                ));
            }
            _ => return broken(place, format!("an array of kind {kind}, where 0 to 12 are defined")),
        };
        let n = self.count(place, smallest, LONGEST_ARRAY)? as usize;
        Ok(match kind {
            6 | 12 => Value::Floats((0..n).map(|_| self.float(kind, place)).collect::<Result<_, _>>()?),
            7 => Value::Bools((0..n).map(|_| self.bool(place)).collect::<Result<_, _>>()?),
            8 => Value::Texts((0..n).map(|_| self.text(place)).collect::<Result<_, _>>()?),
            _ => Value::Integers((0..n).map(|_| self.integer(kind, place)).collect::<Result<_, _>>()?),
        })
    }

    /// A row of the tensor table; its start still counts from the beginning of the data.
    fn tensor(&mut self, name: &str) -> Result<TensorInfo, HeaderError> {
        let place = format!("tensor {name}");
        let dimensions = self.u32(&place)?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return broken(
                place,
                format!("{dimensions} dimensions, where 1 to {MOST_DIMENSIONS} are allowed"),
            );
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&place)?);
        }
        let number = self.u32(&place)?;
        let start = self.u64(&place)?;
        let format = Format::of_number(number).map_err(|name| {
            HeaderError::Unsupported(
                format!("{place}, in {name},"),
                "use a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K",
            )
        })?;
        let row = shape[0];
        let numbers = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d)).filter(|&n| n > 0);
        let bytes = numbers
            .filter(|_| row.is_multiple_of(format.block_len() as u64))
            .and_then(|n| (n / format.block_len() as u64).checked_mul(format.block_bytes() as u64))
            .filter(|&bytes| bytes <= self.length);
        let Some(bytes) = bytes else {
            return broken(
                place,
                format!(
                    "the shape {shape:?} in {format:?}, which is empty, cut inside a block of {}, or larger than the file of {} bytes",
                    format.block_len(),
                    self.length
                ),
            );
        };
        // each dimension is below the file's length, or another one is 0
        let shape = shape.iter().rev().map(|&d| d as usize).collect();
        Ok(TensorInfo { shape, format, start, bytes })
    }
}

impl Header {
    /// Reads the header of a file of this many bytes.
    pub fn read(file: impl BufRead, length: u64) -> Result<Self, HeaderError> {
        let mut r = Reader { file, at: 0, length };
        let magic: [u8; 4] = r.bytes("the first bytes")?;
        if &magic != b"GGUF" {
            return Err(HeaderError::Broken(
                "the first bytes".into(),
                format!("{magic:02x?}, where GGUF is written"),
                "give a GGUF file, or the folder of a Hugging Face checkpoint",
            ));
        }
        match r.u32("the version")? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 2 | 3) => {
                return Err(HeaderError::Unsupported(
                    "a big-endian file".into(),
                    "convert it to little-endian",
                ));
            }
            version => {
                return Err(HeaderError::Unsupported(
                    format!("version {version}"),
                    "use a file of version 2 or 3",
                ));
            }
        }
        // name, dimensions, one size, format, offset
        let tensors = r.count("the number of tensors", 8 + 4 + 8 + 4 + 8, MOST_TENSORS)?;
        // name, kind, value
        let keys = r.count("the number of keys", 8 + 4 + 1, MOST_KEYS)?;
        let mut header = Self::default();
        for i in 0..keys {
            let key = r.text(&format!("the name of key {i}"))?;
            let value = r.value(&format!("key {key}"))?;
            if header.metadata.insert(key.clone(), value).is_some() {
                return broken(format!("key {key}"), "given twice");
            }
        }
        for i in 0..tensors {
            let name = r.text(&format!("the name of tensor {i}"))?;
            let tensor = r.tensor(&name)?;
            if header.tensors.insert(name.clone(), tensor).is_some() {
                return broken(format!("tensor {name}"), "given twice");
            }
        }
        header.place(r.at, length)?;
        Ok(header)
    }

    /// Turns offsets into places of the file, and holds them against it and against each other.
    fn place(&mut self, header_end: u64, length: u64) -> Result<(), HeaderError> {
        let alignment = match self.metadata.get("general.alignment") {
            None => 32,
            Some(Value::Integer(n)) if (8..=1 << 20).contains(n) && n.count_ones() == 1 => n.cast_unsigned(),
            Some(other) => {
                return broken(
                    "key general.alignment",
                    format!("{other:?}, where a power of two from 8 is allowed"),
                );
            }
        };
        let data = header_end.next_multiple_of(alignment);
        for (name, tensor) in &mut self.tensors {
            let end = data.checked_add(tensor.start).and_then(|start| start.checked_add(tensor.bytes));
            if !tensor.start.is_multiple_of(alignment) || end.is_none_or(|end| end > length) {
                return broken(
                    format!("tensor {name}"),
                    format!(
                        "{} bytes at offset {} of the data, which begins at byte {data} of {length} and is aligned to {alignment}",
                        tensor.bytes, tensor.start
                    ),
                );
            }
            tensor.start += data;
        }
        let mut by_place: Vec<(&String, &TensorInfo)> = self.tensors.iter().collect();
        by_place.sort_by_key(|(_, tensor)| tensor.start);
        for pair in by_place.windows(2) {
            if pair[0].1.start + pair[0].1.bytes > pair[1].1.start {
                return broken(
                    format!("tensor {}", pair[1].0),
                    format!("begins inside tensor {}", pair[0].0),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
