//! How retrained models are judged beside their losses on the target.

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::need;

/// `[evaluate]`: what is measured of every retrained model; no method sees it, and no budget pays for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSpec {
    /// Test examples that the model answers in words, the likeliest token each time, and whose final answer is compared with
    /// the example's; 0 for none.
    pub exact_match: usize,
    /// How a final answer is marked.
    pub answer: AnswerForm,
    /// Tokens after which an answer is given up.
    pub max_tokens: usize,
    /// Examples of each source that no model is trained on, and on which the loss is measured: at most a twentieth of a source,
    /// so none of one with fewer than 20. 0 for none of any.
    pub source_examples: usize,
}

impl Default for EvaluateSpec {
    fn default() -> Self {
        Self { exact_match: 0, answer: AnswerForm::Gsm8k, max_tokens: 256, source_examples: 64 }
    }
}

/// How a text marks its final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerForm {
    /// `#### 42` at the end, as in GSM8K.
    Gsm8k,
    /// `\boxed{42}`, as in MATH.
    Boxed,
}

impl EvaluateSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        need(self.max_tokens > 0, "evaluate.max_tokens", 0, "at least 1")
    }
}
