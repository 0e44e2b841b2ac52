//! How each source makes its problem of data: splits, scaling, noise, starts.

pub mod cleaning;
mod fitted;
mod scaling;
pub mod strengths;
