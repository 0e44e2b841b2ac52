//! Tasks of this repository: `cargo xtask test`, `cargo xtask generate-all`.
fn main() {}
