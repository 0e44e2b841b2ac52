//! GGUF: one file with metadata, tokenizer and tensors in blocks of small numbers.

mod header;
mod model;
mod quant;
#[cfg(test)]
pub(crate) mod test_file;
#[cfg(test)]
pub(crate) mod test_model;
mod vocabulary;

use std::{
    fs,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

pub use header::{Header, HeaderError, TensorInfo, Value};
pub use quant::Format;

use super::PretrainedError;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// An open file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    file: fs::File,
    header: Header,
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read, does not keep to the format, or has something that is not read.
    pub fn open(path: &Path) -> Result<Self, PretrainedError> {
        let io = |source| PretrainedError::io(path, source);
        let file = fs::File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let header = Header::read(BufReader::new(&file), length).map_err(|error| match error {
            HeaderError::Io(source) => io(source),
            HeaderError::Broken(place, found, remedy) => {
                PretrainedError::Broken { path: path.into(), place, found, remedy: remedy.into() }
            }
            HeaderError::Unsupported(what, remedy) => {
                PretrainedError::Unsupported { path: path.into(), what, remedy: remedy.into() }
            }
        })?;
        Ok(Self { path: path.into(), file, header })
    }

    /// Metadata and tensor table.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads a tensor as f32, row-major.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When there is no such tensor, or `out` is not of its size.
    pub fn read(&mut self, name: &str, out: &mut [f32]) -> Result<(), PretrainedError> {
        let tensor = &self.header.tensors[name];
        let (block, block_bytes) = (tensor.format.block_len(), tensor.format.block_bytes());
        let blocks = PIECE / block_bytes;
        let mut bytes = vec![0; blocks * block_bytes];
        let io = |source| PretrainedError::io(&self.path, source);
        self.file.seek(SeekFrom::Start(tensor.start)).map_err(io)?;
        for out in out.chunks_mut(blocks * block) {
            let bytes = &mut bytes[..out.len() / block * block_bytes];
            self.file.read_exact(bytes).map_err(io)?;
            tensor.format.decode(bytes, out);
        }
        Ok(())
    }
}
