//! What can be wrong with a file of data.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use bilevel::ConfigError;

use crate::images::ImagesError;

/// Data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No file of the names that a data set is known by.
    #[error("{folder} has none of {}; {remedy}", names.join(", "))]
    Absent {
        /// Where was looked.
        folder: PathBuf,
        /// What was looked for.
        names: Vec<String>,
        /// Where such files come from.
        remedy: &'static str,
    },
    /// The file system refused, or a compressed file is damaged.
    #[error("{path}: {source}; check that the file can be read and, if it is compressed, that it is whole")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not what the format asks for.
    #[error("{path}, line {line}: {detail}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, and what is right.
        detail: String,
    },
    /// The file holds too little for the problem.
    #[error("{path}: {detail}")]
    TooFew {
        /// The file.
        path: PathBuf,
        /// What there is, and what is asked for.
        detail: String,
    },
    /// Images.
    #[error(transparent)]
    Images(#[from] ImagesError),
}

impl DataError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
    pub(crate) fn line(path: &Path, line: usize, detail: impl Into<String>) -> Self {
        Self::Line { path: path.to_owned(), line, detail: detail.into() }
    }
    /// As the error of the setting that named the folder.
    pub(crate) fn of_setting(&self, folder: &Path) -> ConfigError {
        ConfigError::new("data", folder.display(), self.to_string())
    }
}

/// The first of these files that is in the folder.
pub(crate) fn find(folder: &Path, names: &[&str], remedy: &'static str) -> Result<PathBuf, DataError> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| DataError::Absent {
        folder: folder.to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        remedy,
    })
}

/// A file, unpacked by its ending: `.gz`, `.bz2`, or plain.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = BufReader::new(File::open(path).map_err(|error| DataError::io(path, error))?);
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz" | "tgz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("bz2") => Box::new(bzip2::read::MultiBzDecoder::new(file)),
        _ => Box::new(file),
    })
}
