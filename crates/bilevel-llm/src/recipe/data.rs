//! The data of a recipe.

use std::path::PathBuf;

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{is_default, need};

/// `[[source]]`: a name, and the keys of [`DataSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "toml::Table")]
#[schemars(!try_from, extend("additionalProperties" = false))]
pub struct SourceSpec {
    /// Its name: letters, digits, `-`, `_`, `.`; random streams belong to the name, not to the place in the recipe.
    pub name: String,
    /// Where its examples are.
    #[serde(flatten)]
    pub data: DataSpec,
}

/// By hand, since a flattened struct cannot refuse unknown keys.
impl TryFrom<toml::Table> for SourceSpec {
    type Error = String;
    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let name = match table.remove("name") {
            Some(toml::Value::String(name)) => name,
            Some(other) => return Err(format!("source name {other} is not a string")),
            None => return Err("a [[source]] without a name".into()),
        };
        let data = DataSpec::deserialize(table).map_err(|e| e.message().to_owned())?;
        Ok(Self { name, data })
    }
}

/// Files and the meaning of their fields. When no field is named, the names are guessed from the first record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// One file or several: `.jsonl`, `.json` (a list of records) or `.txt` (documents separated by blank lines).
    pub path: Paths,
    /// Field of the prompt, on which there is no loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Field of the response, on which the loss is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Field of a list of messages (`role`/`content` or `from`/`value`); the loss is on the assistant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// Field of running text, all of it under the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How the prompt is made of fields: `"Question: {question}\nAnswer: "`. Replaces `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Writes messages, or prompts and responses, by the checkpoint's chat template, with the loss on the assistant's answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chat: bool,
    /// Records left out at the start of the (concatenated) files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skip: u64,
    /// Records taken after these; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<u64>,
    /// Gives each record the answer of the one after it, the last that of the first: a control that has to lose weight.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shuffle_answers: bool,
}

/// One path or a list of paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One file.
    One(PathBuf),
    /// Several, read in this order.
    Many(Vec<PathBuf>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Paths {
    /// The files in order.
    pub fn as_slice(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
    pub(super) fn as_mut_slice(&mut self) -> &mut [PathBuf] {
        match self {
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }
}

impl DataSpec {
    pub(super) fn validate(&self, table: &str, has_checkpoint: bool) -> Result<(), ConfigError> {
        need(!self.path.as_slice().is_empty(), &format!("{table}.path"), "[]", "give at least one file")?;
        let kinds = [
            self.prompt.is_some() || self.response.is_some() || self.template.is_some(),
            self.messages.is_some(),
            self.text.is_some(),
        ];
        need(
            kinds.iter().filter(|&&k| k).count() <= 1,
            table,
            "several kinds of fields",
            "name either prompt (or template) and response, or messages, or text",
        )?;
        need(
            !kinds[0] || (self.response.is_some() && (self.prompt.is_some() || self.template.is_some())),
            &format!("{table}.response"),
            self.response.as_deref().unwrap_or("(absent)"),
            "a prompt (or template) and a response go together",
        )?;
        need(
            self.prompt.is_none() || self.template.is_none(),
            &format!("{table}.template"),
            self.template.as_deref().unwrap_or(""),
            "give prompt or template, not both",
        )?;
        let is_prose = |path: &PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt"));
        need(
            !self.chat || (self.text.is_none() && !self.path.as_slice().iter().any(is_prose)),
            &format!("{table}.chat"),
            true,
            "running text is no conversation: leave chat out, or name messages, or prompt and response",
        )?;
        need(
            !self.chat || has_checkpoint,
            &format!("{table}.chat"),
            true,
            "a chat template comes with a checkpoint: set model.checkpoint, or leave chat out",
        )?;
        need(
            !self.shuffle_answers || self.text.is_none(),
            &format!("{table}.shuffle_answers"),
            true,
            "running text has no answers: name prompt and response, or leave it out",
        )?;
        need(self.take != Some(0), &format!("{table}.take"), 0, "at least 1, or leave it out for all records")
    }
}
