//! Which data sources should a language model be tuned on: learned source weights by bilevel optimisation.

pub mod demo;
