//! The learnt mixture in the forms that trainers read.
//!
//! One file per trainer, each a function from a [`Mixture`] to files. The weights p of this crate weigh *mean losses per
//! token*: p_i is the share of source i in the tokens under the loss. A trainer that draws examples needs the share q_i
//! of examples instead, q_i ∝ p_i / (tokens under the loss per example of source i); a trainer that cuts packed
//! sequences of equal length needs p itself. Each form gets the one that it needs, and its comments show both.

mod axolotl;
mod hf;
mod llama_factory;
mod nemo;
mod records;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_json::Value;

use crate::{
    error::ReweightError,
    recipe::{DataSpec, Method, Recipe},
    result::RunResult,
};

/// A trainer that the mixture can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Axolotl's `datasets:` list.
    Axolotl,
    /// LLaMA-Factory's `dataset_info.json` and `interleave_probs`.
    LlamaFactory,
    /// Hugging Face `datasets.interleave_datasets`.
    Hf,
    /// NeMo's and Megatron's blend of weights and prefixes.
    Nemo,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Axolotl, Self::LlamaFactory, Self::Hf, Self::Nemo];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Axolotl => "axolotl",
            Self::LlamaFactory => "llama-factory",
            Self::Hf => "hf",
            Self::Nemo => "nemo",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = ExportError;
    fn from_str(text: &str) -> Result<Self, ExportError> {
        Self::ALL
            .into_iter()
            .find(|target| target.name() == text)
            .ok_or_else(|| ExportError::UnknownTarget { found: text.into() })
    }
}

/// What can go wrong in an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No trainer of this name.
    #[error("no trainer is called `{found}`; known are axolotl, llama-factory, hf and nemo")]
    UnknownTarget {
        /// The name.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {cause}; {remedy}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file of the run's data cannot be read.
    #[error(
        "{cause}. The trainer needs records that are not in the files as they are, so that the files are read to write them; run where they are"
    )]
    Data {
        /// What is wrong with it.
        cause: String,
    },
    /// The data are not those of the run.
    #[error(
        "{name}: its files changed since the run, which used {expected} records; now {kept} of {of} would stay. Bring back the files, or run again"
    )]
    Changed {
        /// Source's name, or `validation`, or `test`.
        name: String,
        /// Records that stay now.
        kept: u64,
        /// Records that there are now.
        of: u64,
        /// Records that the run used.
        expected: u64,
    },
    /// The recipe inside the result cannot be read.
    #[error("the recipe in weights.json: {0}")]
    Recipe(#[from] ReweightError),
    /// The method did not run.
    #[error("the run has no weights of `{method}`; it has those of {known}; give one of them")]
    NoMethod {
        /// The method asked for.
        method: String,
        /// Those that ran.
        known: String,
    },
    /// The trainer cannot read the source as it is.
    #[error("{target} cannot read source `{source_name}`: {problem}; {remedy}")]
    Unreadable {
        /// The trainer.
        target: Target,
        /// The source.
        source_name: String,
        /// Why.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl ExportError {
    fn unwritable(path: &Path, cause: &std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            cause: cause.to_string(),
            remedy: "give a folder that can be written and has room",
        }
    }
}

/// What is in the records of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// A prompt without loss, and a response under the loss.
    Pair {
        /// Field of the prompt; none for a template that has not exactly one field.
        prompt: Option<String>,
        /// The prompt's text, with `{instruction}` where the field's text stands; the recipe's template otherwise.
        format: String,
        /// Field of the response.
        response: String,
    },
    /// A list of messages, the assistant's under the loss.
    Messages {
        /// Field of the list.
        field: String,
        /// Key of the role in a message, and key of its text.
        keys: (String, String),
    },
    /// Running text, all of it under the loss.
    Text {
        /// Field of the text.
        field: String,
    },
}

/// A source with its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its files.
    pub paths: Vec<PathBuf>,
    /// What their records hold.
    pub fields: Fields,
    /// Records left out at the start of the files.
    pub skip: u64,
    /// Whether records are left out at the end too.
    pub is_cut: bool,
    /// p_i: share of the tokens under the loss, six decimals; all shares sum to 1.
    pub token_share: f64,
    /// Its standard deviation over the seeds.
    pub spread: Option<f64>,
    /// q_i: share of the examples, six decimals; all shares sum to 1.
    pub example_share: f64,
    /// Records in use.
    pub examples: u64,
    /// Passes that the run's own budget makes over the source.
    pub epochs: f64,
    /// SHA-256 of its files.
    pub sha256: String,
    /// Whether the run wrote its records by the checkpoint's chat template.
    pub is_chat: bool,
    /// What else a user of another trainer should know, in words.
    pub notes: Vec<String>,
}

/// The sources with the weights of one method.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// The method.
    pub method: Method,
    /// The sources that have weight.
    pub parts: Vec<Part>,
    /// Sources whose weight rounds to zero.
    pub left_out: Vec<String>,
    /// Number of seeds behind the weights.
    pub seeds: usize,
    /// Version of this crate.
    pub version: String,
}

/// Writes a run's mixture for a trainer into a folder, which is made if absent; returns the files. `method` is the
/// bilevel one when absent, or the first that ran. Sources whose records the recipe changed (duplicates and overlaps left out, answers
/// shuffled, pairs written as conversations), and plain text that the trainer does not read, are written as files of records beside it.
///
/// # Errors
/// [`ExportError`].
pub fn write(
    run: &Path,
    target: Target,
    method: Option<Method>,
    out: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let (result, recipe) = load(run)?;
    let mut mixture = Mixture::of(&result, &recipe, method)?;
    let data = records::write(&result, &recipe, &mut mixture, target, out)?;
    let files = render(target, &mixture)?;
    std::fs::create_dir_all(out).map_err(|e| ExportError::unwritable(out, &e))?;
    files
        .into_iter()
        .map(|(name, text)| {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(|e| ExportError::unwritable(&path, &e))?;
            Ok(path)
        })
        .chain(data.into_iter().map(Ok))
        .collect()
}

/// The result in a folder, and its recipe: the one that is kept beside it, with paths in full, where it is there.
fn load(run: &Path) -> Result<(RunResult, Recipe), ExportError> {
    let path = run.join("weights.json");
    let refused = |cause: String| ExportError::File {
        path: path.clone(),
        cause,
        remedy: "give the result folder of a `reweight` that has ended",
    };
    let text = std::fs::read_to_string(&path).map_err(|e| refused(e.to_string()))?;
    let result: RunResult = serde_json::from_str(&text).map_err(|e| refused(e.to_string()))?;
    let kept = run.join("recipe.toml");
    let recipe =
        if kept.exists() { Recipe::load(&kept)? } else { Recipe::parse(&result.recipe, Path::new(""))? };
    Ok((result, recipe))
}

/// The files for a trainer: names and contents.
///
/// # Errors
/// [`ExportError::Unreadable`] for a source that the trainer cannot read as it is.
pub fn render(target: Target, mixture: &Mixture) -> Result<Vec<(&'static str, String)>, ExportError> {
    match target {
        Target::Axolotl => axolotl::files(mixture),
        Target::LlamaFactory => llama_factory::files(mixture),
        Target::Hf => hf::files(mixture),
        Target::Nemo => nemo::files(mixture),
    }
}

impl Mixture {
    /// Reads the result in a folder.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn load(run: &Path, method: Option<Method>) -> Result<Self, ExportError> {
        let (result, recipe) = load(run)?;
        Self::of(&result, &recipe, method)
    }

    /// The mixture of a result.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(result: &RunResult, method: Option<Method>) -> Result<Self, ExportError> {
        Self::of(result, &Recipe::parse(&result.recipe, Path::new(""))?, method)
    }

    fn of(result: &RunResult, recipe: &Recipe, method: Option<Method>) -> Result<Self, ExportError> {
        let Some(found) = result.of(method) else {
            let method = method.unwrap_or(Method::HgMs).to_string();
            return Err(ExportError::NoMethod { method, known: result.known() });
        };
        let p: Vec<f64> = found.weights.iter().map(|w| w.mean).collect();
        let per_example = result.sources.iter().map(|s| {
            // An example without a token under the loss weighs nothing; one token keeps the quotient finite.
            (s.data.loss_tokens as f64 / s.data.examples.max(1) as f64).max(1.0)
        });
        let q: Vec<f64> = p.iter().zip(per_example).map(|(p, tokens)| p / tokens).collect();
        let (token_shares, example_shares) = (rounded(&p), rounded(&q));
        let mut mixture = Self {
            method: found.method,
            parts: Vec::new(),
            left_out: Vec::new(),
            seeds: found.seeds.len(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        for (i, source) in result.sources.iter().enumerate() {
            if token_shares[i] == 0.0 || example_shares[i] == 0.0 {
                mixture.left_out.push(source.name.clone());
                continue;
            }
            let spec = recipe.sources.iter().find(|s| s.name == source.name).map(|s| &s.data);
            let spec = spec.ok_or_else(|| ExportError::File {
                path: "weights.json".into(),
                cause: format!("its recipe has no source `{}`", source.name),
                remedy: "the file was changed by hand; run again",
            })?;
            let fields = fields(spec)?;
            let notes = match &fields {
                Fields::Messages { .. } if !spec.chat => {
                    vec![
                        "the run read these conversations as lines of text, without a chat template"
                            .to_owned(),
                    ]
                }
                _ => Vec::new(),
            };
            mixture.parts.push(Part {
                name: source.name.clone(),
                paths: spec.path.as_slice().iter().map(|path| absolute(path)).collect(),
                fields,
                skip: spec.skip,
                is_cut: spec.take.is_some(),
                token_share: token_shares[i],
                spread: found.weights[i].sd,
                example_share: example_shares[i],
                examples: source.data.examples,
                epochs: found.weights[i].epochs,
                sha256: source.data.sha256.clone(),
                is_chat: spec.chat,
                notes,
            });
        }
        Ok(mixture)
    }

    /// Lines for a comment: where the weights are from and what each source is.
    fn provenance(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "Weights learnt by bilevel-llm {}, method {}, mean over {} seed(s).",
                self.version, self.method, self.seeds
            ),
            "p: share of the tokens under the loss (± standard deviation over the seeds); q: the same as a share of examples;"
                .into(),
            "passes: over the source, by the budget of the run; sha256: of the source's files, in order.".into(),
        ];
        for part in &self.parts {
            let spread = part.spread.map_or_else(String::new, |sd| format!(" ± {sd:.6}"));
            lines.push(format!(
                "  {}: p = {:.6}{spread}, q = {:.6}, {} examples, {:.3} passes, sha256 {}",
                part.name, part.token_share, part.example_share, part.examples, part.epochs, part.sha256
            ));
            lines.extend(part.notes.iter().map(|note| format!("    {note}")));
        }
        for name in &self.left_out {
            lines.push(format!("  {name}: left out, its weight rounds to zero"));
        }
        if self.is_chat() {
            lines.push("Conversations were written by the chat template of the run's checkpoint, with the loss on the assistant's answers:".into());
            lines.push("train with that template, which the folder `model` of the run holds.".into());
        }
        lines
    }

    /// Whether conversations were written by a chat template.
    fn is_chat(&self) -> bool {
        self.parts.iter().any(|part| part.is_chat)
    }
}

/// Shares with six decimals that sum to 1 to the last digit, as `numpy.random.Generator.choice` demands of them.
fn rounded(weights: &[f64]) -> Vec<f64> {
    const UNITS: f64 = 1e6;
    let sum: f64 = weights.iter().sum();
    let mut units: Vec<f64> = weights.iter().map(|w| (w / sum * UNITS).round()).collect();
    let rest = UNITS - units.iter().sum::<f64>();
    if let Some(largest) = units.iter_mut().max_by(|a, b| a.total_cmp(b)) {
        *largest += rest;
    }
    units.into_iter().map(|u| u / UNITS).collect()
}

/// The path from the root where the file is there; trainers run in other folders.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.into())
}

const MESSAGE_FIELDS: [&str; 3] = ["messages", "conversations", "items"];
const PROMPT_FIELDS: [&str; 3] = ["prompt", "question", "instruction"];
const RESPONSE_FIELDS: [&str; 4] = ["response", "answer", "output", "completion"];

/// What the records of a data set hold: what the recipe says, or what their first one shows.
fn fields(spec: &DataSpec) -> Result<Fields, ExportError> {
    if let Some(field) = &spec.text {
        return Ok(Fields::Text { field: field.clone() });
    }
    if let Some(response) = &spec.response {
        let (prompt, format) = match (&spec.template, &spec.prompt) {
            (Some(template), _) => of_template(template),
            (None, prompt) => (prompt.clone(), "{instruction}\n".into()),
        };
        return Ok(Fields::Pair { prompt, format, response: response.clone() });
    }
    let first = first_record(spec)?;
    let key =
        |names: &[&str]| names.iter().find(|name| first.get(**name).is_some()).map(|name| (*name).to_owned());
    if let Some(field) = spec.messages.clone().or_else(|| key(&MESSAGE_FIELDS)) {
        let has = |name: &str| {
            first.get(&field).and_then(|list| list.get(0)).is_some_and(|m| m.get(name).is_some())
        };
        let pick = |a: &str, b: &str| if has(a) { a.to_owned() } else { b.to_owned() };
        return Ok(Fields::Messages { keys: (pick("role", "from"), pick("content", "value")), field });
    }
    Ok(match (key(&PROMPT_FIELDS), key(&RESPONSE_FIELDS)) {
        (Some(prompt), Some(response)) => {
            Fields::Pair { prompt: Some(prompt), format: "{instruction}\n".into(), response }
        }
        _ => Fields::Text { field: "text".into() },
    })
}

/// The one field of a template and the template with `{instruction}` in its place; no field when it has not just one.
fn of_template(template: &str) -> (Option<String>, String) {
    let names: Vec<&str> =
        template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
    match names.as_slice() {
        [one] if !template.contains("{{") && !template.contains("}}") => {
            (Some((*one).to_owned()), template.replace(&format!("{{{one}}}"), "{instruction}"))
        }
        _ => (None, template.to_owned()),
    }
}

/// The first record of the first file; null for plain text.
fn first_record(spec: &DataSpec) -> Result<Value, ExportError> {
    let Some(path) = spec.path.as_slice().first().filter(|path| !is_text(path)) else {
        return Ok(Value::Null);
    };
    let refused = |cause: String| ExportError::File {
        path: path.clone(),
        cause,
        remedy: "the recipe names no fields, so the file is needed to see them; run where the sources are",
    };
    let file = File::open(path).map_err(|e| refused(e.to_string()))?;
    let mut text = String::new();
    let mut reader = BufReader::new(file);
    while text.trim().is_empty() {
        if reader.read_line(&mut text).map_err(|e| refused(e.to_string()))? == 0 {
            return Err(refused("it has no record".into()));
        }
    }
    if text.trim_start().starts_with('[') {
        std::io::Read::read_to_string(&mut reader, &mut text).map_err(|e| refused(e.to_string()))?;
        let list: Value = serde_json::from_str(&text).map_err(|e| refused(e.to_string()))?;
        return Ok(list.get(0).cloned().unwrap_or(Value::Null));
    }
    serde_json::from_str(&text).map_err(|e| refused(e.to_string()))
}

/// Whether a file is plain text, documents separated by blank lines.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
}

impl Part {
    /// The records in use as a slice of `datasets`' split, `train[a:b]`.
    fn split(&self) -> String {
        self.slice(0, self.examples)
    }
    /// Some of the records in use as a slice.
    fn slice(&self, from: u64, to: u64) -> String {
        let (from, to) = (self.skip + from, self.skip + to);
        match (from, self.is_cut || to < self.skip + self.examples) {
            (0, false) => "train".into(),
            (from, false) => format!("train[{from}:]"),
            (0, true) => format!("train[:{to}]"),
            (from, true) => format!("train[{from}:{to}]"),
        }
    }
    fn unreadable(&self, target: Target, problem: &str, remedy: &'static str) -> ExportError {
        ExportError::Unreadable { target, source_name: self.name.clone(), problem: problem.into(), remedy }
    }
    /// Whether it has plain text that the trainer does not read, or would cut by lines and not by documents.
    fn is_text_unread(&self, target: Target) -> bool {
        let is_text = |path: &PathBuf| is_text(path);
        match target {
            Target::Axolotl | Target::LlamaFactory | Target::Nemo => self.paths.iter().any(is_text),
            // reads documents, but not among records
            Target::Hf => self.paths.iter().any(is_text) && !self.paths.iter().all(is_text),
        }
    }
    /// Fails for plain text that the trainer does not read.
    fn require_records(&self, target: Target) -> Result<(), ExportError> {
        if self.is_text_unread(target) {
            let problem = match target {
                Target::Hf => "it mixes plain text with JSON",
                _ => "it is plain text, which the trainer would cut by lines instead of documents",
            };
            return Err(self.unreadable(
                target,
                problem,
                "export it from the run's folder, which writes its documents as records",
            ));
        }
        Ok(())
    }
    /// The prompt's field, or why there is none.
    fn prompt<'a>(&self, target: Target, prompt: Option<&'a String>) -> Result<&'a str, ExportError> {
        prompt.map(String::as_str).ok_or_else(|| {
            let problem = "its prompt is not made of exactly one field";
            self.unreadable(target, problem, "write the prompts out into one field and run on that")
        })
    }
}

/// Lines as comments.
fn comments(lines: &[String]) -> String {
    lines.iter().flat_map(|line| ["# ", line, "\n"]).collect()
}

/// A string as JSON, which YAML and Python read too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A path as a JSON string.
fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
