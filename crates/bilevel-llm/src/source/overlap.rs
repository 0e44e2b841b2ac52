//! Which records stand in two data sets.

use sha2::{Digest, Sha256};

use super::Record;

/// Fingerprint of a record: the hash of its text with case and white space evened out.
pub fn fingerprint(record: &Record) -> [u8; 32] {
    let mut hash = Sha256::new();
    for word in record.iter().flat_map(|piece| piece.text.split_whitespace()) {
        hash.update(word.to_lowercase());
        hash.update(b" ");
    }
    hash.finalize().into()
}
