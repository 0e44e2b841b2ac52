//! Arrays as `.npy` files, which NumPy reads: a header of text, then the numbers.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// The numbers of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Real ones.
    Real(Vec<f64>),
    /// Whole ones.
    Whole(Vec<i32>),
}

/// An array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its lengths, outermost first.
    pub shape: Vec<usize>,
    /// Its entries.
    pub numbers: Numbers,
}

impl Array {
    /// Real numbers of this shape.
    pub fn real(shape: &[usize], numbers: impl Into<Vec<f64>>) -> Self {
        Self { shape: shape.to_vec(), numbers: Numbers::Real(numbers.into()) }
    }
    /// Whole numbers of this shape.
    pub fn whole(shape: &[usize], numbers: impl Into<Vec<i32>>) -> Self {
        Self { shape: shape.to_vec(), numbers: Numbers::Whole(numbers.into()) }
    }

    /// The file's bytes: magic, version 1.0, the length of the header, the header padded to 64 bytes, the numbers.
    fn bytes(&self) -> Result<Vec<u8>> {
        let (kind, len, numbers): (_, _, Vec<u8>) = match &self.numbers {
            Numbers::Real(n) => ("<f8", n.len(), n.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Numbers::Whole(n) => ("<i4", n.len(), n.iter().flat_map(|n| n.to_le_bytes()).collect()),
        };
        let size: usize = self.shape.iter().product();
        ensure!(size == len, "an array of shape {:?} has {size} entries, not {len}", self.shape);
        let lengths: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({},), }}", lengths.join(", "));
        // magic, version and length take 10 bytes, the line's end 1
        let total = (10 + header.len() + 1).next_multiple_of(64);
        let length = u16::try_from(total - 10)?;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.resize(total - 1, b' ');
        bytes.push(b'\n');
        bytes.extend(numbers);
        Ok(bytes)
    }

    /// Writes `name.npy` into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let path = folder.join(format!("{name}.npy"));
        let bytes = self.bytes().with_context(|| name.to_owned())?;
        fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_version_one() {
        let bytes = Array::whole(&[2, 3], [1, 2, 3, 4, 5, -1]).bytes().unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert_eq!(header.trim_end(), "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3,), }");
        assert!(header.ends_with('\n'));
        assert_eq!(bytes.len(), 10 + length + 24);
        assert_eq!(&bytes[10 + length + 20..], [255; 4]);
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        let error = Array::real(&[2, 2], [1.0, 2.0, 3.0]).bytes().unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("not 3"), "{error}");
    }
}
