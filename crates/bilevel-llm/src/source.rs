//! Data files to examples: JSONL, JSON lists and plain text, streamed, counted and hashed.

mod dataset;
mod duplicates;
mod encoder;
mod fields;
mod gather;
mod held;
mod order;
mod overlap;
mod reader;
mod rotation;
mod sieve;
mod tokens;
mod words;

pub use dataset::Dataset;
pub use duplicates::Seen;
pub use encoder::Encoder;
pub use gather::{Gathered, gather};
pub use order::Order;
pub use overlap::{Overlap, fingerprint};
pub use reader::{RECORD_LIMIT, Reader, Summary};
pub use sieve::{Shared, Sieve};
pub use tokens::Tokens;
pub(crate) use words::mix;

/// A piece of text, and whether the loss is on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether its tokens are to be learned.
    pub is_learned: bool,
    /// Who says it, in data that go through a chat template: `system`, `user`, `assistant`, or another of the template's.
    pub role: Option<String>,
}

/// A record as text.
pub type Record = Vec<Piece>;

#[cfg(test)]
mod tests;
