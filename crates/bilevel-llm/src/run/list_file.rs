//! Lists of numbers in a safetensors file, written and read piece by piece: a copy of the lists as bytes would double the memory
//! of a run.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use bilevel::run::checkpoint::write_atomically_with;
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use sha2::{Digest, Sha256};

/// Numbers that are turned into bytes at a time.
const PIECE: usize = 1 << 16;

/// The bytes of a list, piece by piece.
fn pieces(list: &[f32]) -> impl Iterator<Item = Vec<u8>> {
    list.chunks(PIECE).map(|piece| piece.iter().flat_map(|a| a.to_le_bytes()).collect())
}

/// Adds the bytes of a list to a hash.
pub(super) fn hash(sum: &mut Sha256, list: &[f32]) {
    for bytes in pieces(list) {
        sum.update(bytes);
    }
}

/// Writes the lists in this order under a header with these entries, whole or not at all.
pub(super) fn write(
    path: &Path,
    entries: HashMap<String, String>,
    lists: &[(&str, &[f32])],
) -> io::Result<()> {
    let mut end = 0;
    let infos = lists.iter().map(|(name, list)| {
        let start = end;
        end += 4 * list.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: vec![list.len()], data_offsets: (start, end) };
        ((*name).to_owned(), info)
    });
    let metadata = Metadata::new(Some(entries), infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    // numbers begin at a multiple of eight bytes, as the format recommends
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomically_with(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        lists.iter().flat_map(|(_, list)| pieces(list)).try_for_each(|bytes| out.write_all(&bytes))?;
        out.flush()
    })
}

/// An open file of lists.
#[derive(Debug)]
pub(super) struct ListFile {
    file: File,
    metadata: Metadata,
    /// Where the numbers begin.
    begin: u64,
}

impl ListFile {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// What the system says; `InvalidData` when the file is none of ours, or cut.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut head = [0; 8];
        file.read_exact(&mut head).map_err(|_| broken(format!("it ends after {length} bytes")))?;
        let header = u64::from_le_bytes(head);
        if header > length - 8 {
            return Err(broken(format!("a header of {header} bytes, where {} follow", length - 8)));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        let begin = 8 + header;
        let end = metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
        if begin.checked_add(end) != Some(length) {
            return Err(broken(format!("lists of {end} bytes, where {} follow", length - begin)));
        }
        Ok(Self { file, metadata, begin })
    }

    /// An entry of the header.
    pub fn entry(&self, key: &str) -> Option<&String> {
        self.metadata.metadata().as_ref()?.get(key)
    }

    /// Reads a list, and adds its bytes to a hash.
    ///
    /// # Errors
    /// What the system says; `InvalidData` when there is no such list of f32.
    pub fn read(&mut self, name: &str, sum: &mut Sha256) -> io::Result<Vec<f32>> {
        let info = self.metadata.info(name).filter(|info| info.dtype == Dtype::F32);
        let info = info.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("no list of numbers `{name}`"))
        })?;
        let (start, end) = info.data_offsets;
        self.file.seek(SeekFrom::Start(self.begin + start as u64))?;
        let mut list = Vec::with_capacity((end - start) / 4);
        let mut bytes = vec![0; 4 * PIECE];
        while list.len() < (end - start) / 4 {
            let bytes = &mut bytes[..(end - start - 4 * list.len()).min(4 * PIECE)];
            self.file.read_exact(bytes)?;
            sum.update(&*bytes);
            list.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_and_the_format_is_that_of_safetensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let long: Vec<f32> = (0..PIECE + 7).map(|i| i as f32 * 0.5).collect();
        let lists = [("a", &long[..]), ("b", &[]), ("c", &[f32::NAN, -0.0])];
        write(&path, HashMap::from([("k".to_owned(), "v".to_owned())]), &lists).unwrap();
        let mut file = ListFile::open(&path).unwrap();
        assert_eq!((file.entry("k").map(String::as_str), file.entry("l")), (Some("v"), None));
        let (mut written, mut read) = (Sha256::new(), Sha256::new());
        for (name, list) in lists {
            hash(&mut written, list);
            let back = file.read(name, &mut read).unwrap();
            assert!(back.iter().map(|a| a.to_bits()).eq(list.iter().map(|a| a.to_bits())), "{name}");
        }
        assert_eq!(written.finalize(), read.finalize());
        assert!(file.read("d", &mut Sha256::new()).is_err());
        let bytes = std::fs::read(&path).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.tensor("a").unwrap().data().len(), 4 * long.len());
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, HashMap::new(), &[("a", &[1.0; 9])]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(
                ListFile::open(&path).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{length} bytes"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        std::fs::write(&path, longer).unwrap();
        assert!(ListFile::open(&path).is_err());
        let mut huge = whole;
        huge[..8].fill(0xff);
        std::fs::write(&path, huge).unwrap();
        assert!(ListFile::open(&path).unwrap_err().to_string().contains("a header of 18446744073709551615"));
    }
}
