//! Tokenised examples, in memory or in scratch files.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::error::ReweightError;

/// The bit of a number that marks a token under the loss; token ids are below it.
const LEARNED: u32 = 1 << 31;
/// The bit of an end that marks an example that goes on with the record of the one before it; places of tokens are below it.
const CONTINUED: u64 = 1 << 63;
/// Bytes that are gathered before they are written to a scratch file.
const PIECE: usize = 1 << 20;

/// The tokens of a data set, example by example: four bytes for each token and eight for each example, in memory or in
/// files without a name, which the system deletes with the process.
#[derive(Clone, Debug)]
pub struct Tokens {
    place: Place,
    examples: usize,
}

#[derive(Clone, Debug)]
enum Place {
    /// Tokens with their mark, and where each example ends in them, with its own.
    Memory { tokens: Vec<u32>, ends: Vec<u64> },
    /// The same in bytes, little-endian.
    Scratch { tokens: Scratch, ends: Scratch },
}

impl Tokens {
    /// No examples; they are kept in scratch files of this folder, or in memory without.
    ///
    /// # Errors
    /// When the folder or its files cannot be made.
    pub fn new(scratch: Option<&Path>) -> Result<Self, ReweightError> {
        let place = match scratch {
            None => Place::Memory { tokens: Vec::new(), ends: Vec::new() },
            Some(folder) => Place::Scratch { tokens: Scratch::new(folder)?, ends: Scratch::new(folder)? },
        };
        Ok(Self { place, examples: 0 })
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// Bytes of memory.
    pub fn memory(&self) -> u64 {
        match &self.place {
            Place::Memory { tokens, ends } => 4 * tokens.len() as u64 + 8 * ends.len() as u64,
            Place::Scratch { .. } => 2 * PIECE as u64,
        }
    }

    /// Adds an example: its tokens, whether each is under the loss, and whether it goes on with the record of the example
    /// before it.
    ///
    /// # Errors
    /// When a scratch file cannot be written.
    pub fn push(
        &mut self,
        tokens: &[u32],
        is_learned: &[bool],
        is_continued: bool,
    ) -> Result<(), ReweightError> {
        let mark = if is_continued { CONTINUED } else { 0 };
        let marked = tokens.iter().zip(is_learned).map(|(t, &l)| if l { t | LEARNED } else { *t });
        match &mut self.place {
            Place::Memory { tokens, ends } => {
                tokens.extend(marked);
                ends.push(tokens.len() as u64 | mark);
            }
            Place::Scratch { tokens, ends } => {
                marked.for_each(|token| tokens.waiting.extend(token.to_le_bytes()));
                let end = (tokens.written + tokens.waiting.len() as u64) / 4;
                ends.waiting.extend((end | mark).to_le_bytes());
                tokens.write(PIECE)?;
                ends.write(PIECE)?;
            }
        }
        self.examples += 1;
        Ok(())
    }

    /// Makes the examples ready to be read, once the last was added.
    ///
    /// # Errors
    /// When a scratch file cannot be written.
    pub fn finish(&mut self) -> Result<(), ReweightError> {
        if let Place::Scratch { tokens, ends } = &mut self.place {
            tokens.write(0)?;
            ends.write(0)?;
            tokens.waiting = Vec::new();
            ends.waiting = Vec::new();
        }
        Ok(())
    }

    /// The tokens of an example, each with whether it is under the loss.
    ///
    /// # Panics
    /// When there is no such example, or a scratch file that was written cannot be read: then the disk has failed, and
    /// the run goes on from its checkpoint on another.
    pub fn example(&self, i: usize) -> Vec<(u32, bool)> {
        let split = |word: u32| (word & !LEARNED, word & LEARNED != 0);
        match &self.place {
            Place::Memory { tokens, ends } => {
                let place = |i: usize| (ends[i] & !CONTINUED) as usize;
                let start = if i == 0 { 0 } else { place(i - 1) };
                tokens[start..place(i)].iter().map(|&word| split(word)).collect()
            }
            Place::Scratch { tokens, ends } => {
                assert!(i < self.examples, "example {i} of {}", self.examples);
                let count = if i == 0 { 1 } else { 2 };
                let bounds = ends.read(8 * (i as u64 + 1 - count), 8 * count as usize);
                let place = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes) & !CONTINUED;
                let bounds: Vec<u64> = bounds.as_chunks().0.iter().map(place).collect();
                let (start, end) = (if i == 0 { 0 } else { bounds[0] }, bounds[bounds.len() - 1]);
                let bytes = tokens.read(4 * start, 4 * (end - start) as usize);
                bytes.as_chunks().0.iter().map(|&b| split(u32::from_le_bytes(b))).collect()
            }
        }
    }

    /// Whether an example goes on with the record of the one before it.
    ///
    /// # Panics
    /// As [`Self::example`].
    pub fn is_continued(&self, i: usize) -> bool {
        let end = match &self.place {
            Place::Memory { ends, .. } => ends[i],
            Place::Scratch { ends, .. } => {
                assert!(i < self.examples, "example {i} of {}", self.examples);
                u64::from_le_bytes(ends.read(8 * i as u64, 8).try_into().expect("eight bytes were read"))
            }
        };
        end & CONTINUED != 0
    }
}

/// A file that is written to its end, then read anywhere.
#[derive(Clone, Debug)]
struct Scratch {
    folder: PathBuf,
    file: Arc<Mutex<File>>,
    /// Bytes in the file.
    written: u64,
    /// Bytes that come after them.
    waiting: Vec<u8>,
}

impl Scratch {
    fn new(folder: &Path) -> Result<Self, ReweightError> {
        let file = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        let file = file.map_err(|e| ReweightError::io(folder, e))?;
        let file = Arc::new(Mutex::new(file));
        Ok(Self { folder: folder.to_owned(), file, written: 0, waiting: Vec::new() })
    }

    /// Writes what waits, when it is more than this many bytes.
    fn write(&mut self, more_than: usize) -> Result<(), ReweightError> {
        if self.waiting.len() > more_than {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&self.waiting).map_err(|e| ReweightError::io(&self.folder, e))?;
            self.written += self.waiting.len() as u64;
            self.waiting.clear();
        }
        Ok(())
    }

    fn read(&self, from: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_exact(&mut bytes))
            .expect("a scratch file that was written can be read");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_come_back_as_they_were_from_memory_and_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("new");
        for place in [None, Some(scratch.as_path())] {
            let mut tokens = Tokens::new(place).unwrap();
            // 3 MB: pieces are written in between
            let examples: Vec<(Vec<u32>, Vec<bool>)> = (0..3000_usize)
                .map(|i| {
                    let n = 1 + i % 500;
                    ((0..n).map(|j| (i * j) as u32).collect(), (0..n).map(|j| j % 3 == i % 3).collect())
                })
                .collect();
            for (i, (ids, learned)) in examples.iter().enumerate() {
                tokens.push(ids, learned, i % 7 > 3).unwrap();
            }
            tokens.finish().unwrap();
            assert_eq!(tokens.examples(), 3000);
            for i in [0, 2999, 17, 1, 2000, 499, 500] {
                let (ids, learned) = &examples[i];
                let expected: Vec<(u32, bool)> = ids.iter().copied().zip(learned.iter().copied()).collect();
                assert_eq!(tokens.example(i), expected, "example {i}");
                assert_eq!(tokens.is_continued(i), i % 7 > 3, "example {i}");
            }
        }
        // the files have no names, so that nothing is left behind
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[test]
    fn scratch_files_keep_memory_constant() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokens = Tokens::new(Some(folder.path())).unwrap();
        for _ in 0..2000 {
            tokens.push(&[7; 1000], &[true; 1000], false).unwrap();
            let Place::Scratch { tokens, ends } = &tokens.place else { panic!("in memory") };
            assert!(tokens.waiting.capacity() <= 4 * PIECE && ends.waiting.capacity() <= 4 * PIECE);
        }
        tokens.finish().unwrap();
        let Place::Scratch { tokens, ends } = &tokens.place else { panic!("in memory") };
        assert_eq!((tokens.written, ends.written), (8_000_000, 16_000));
        assert_eq!((tokens.waiting.capacity(), ends.waiting.capacity()), (0, 0));
    }
}
