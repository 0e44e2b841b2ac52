//! Which data sources should a language model be tuned on: learned source weights by bilevel optimisation.

pub mod answer;
pub mod demo;
pub mod device;
pub mod error;
pub mod eval;
pub mod export;
pub mod ledger;
pub mod methods;
pub mod model;
pub mod pretrained;
pub mod progress;
pub mod recipe;
pub mod result;
pub mod run;
pub mod source;
pub mod tokenizer;
pub mod train;

pub use error::{DataError, ReweightError};
pub use pretrained::{Checkpoint as PretrainedModel, PretrainedError};
pub use progress::{Progress, ProgressEvent, Silent};
pub use recipe::{Method, Recipe};
pub use result::{RunResult, TraceRow};
pub use run::{Forecast, Prepared, available_memory, prepare, resume, reweight};
