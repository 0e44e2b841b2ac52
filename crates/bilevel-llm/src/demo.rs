//! The data of the built-in demonstration: five sources of worded arithmetic of very different worth for one target.
//!
//! The target asks what two kinds of goods cost together; its worked solution is two products and their sum. The
//! sources, in the order of [`Kind::SOURCES`]:
//!
//! | source | what it teaches | worth |
//! |---|---|---|
//! | `shopping` | the target's own kind, in small number | most |
//! | `prices` | one product with its sentence: the first steps of the target's solution | some |
//! | `savings` | one sum or difference with its sentence: the last step | some |
//! | `guesses` | the target's questions with wrong operations, wrong numbers and wrong answers | none |
//! | `shuffled` | the words of the target's questions and solutions in random order | none |
//!
//! Everything is a function of the settings, seed included: the same settings give the same bytes.

mod maker;

use std::{
    io,
    path::{Path, PathBuf},
};

use bilevel::rng::Stream;
use serde::Serialize;

use maker::{Maker, Part};

/// The demonstration's recipe; its data paths are the files that [`Demo::write`] makes.
pub const DEMO_RECIPE: &str = include_str!("../demo.toml");

/// The kinds of examples that the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Two products and their sum: the target's kind.
    Shopping,
    /// One product.
    Prices,
    /// One sum or one difference.
    Savings,
    /// Questions of the target's kind, answered wrongly throughout.
    Guesses,
    /// Words of the target's kind in random order.
    Shuffled,
    /// Held-out questions of the target's kind, for the hypergradient.
    Validation,
    /// Held-out questions of the target's kind, for the final judgement.
    Test,
}

impl Kind {
    /// The five sources, in the order of the recipe.
    pub const SOURCES: [Self; 5] =
        [Self::Shopping, Self::Prices, Self::Savings, Self::Guesses, Self::Shuffled];
    /// The sources that help on the target.
    pub const USEFUL: [Self; 3] = [Self::Shopping, Self::Prices, Self::Savings];
    /// The sources that do not.
    pub const USELESS: [Self; 2] = [Self::Guesses, Self::Shuffled];

    /// The source's name in the recipe, and its file's name without `.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shopping => "shopping",
            Self::Prices => "prices",
            Self::Savings => "savings",
            Self::Guesses => "guesses",
            Self::Shuffled => "shuffled",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
    /// The purpose of the kind's random stream: each kind has its own, so that one size does not move the others' bytes.
    fn purpose(self) -> u64 {
        100 + self as u64
    }
}

/// How many examples of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Examples of the target's own kind.
    pub shopping: usize,
    /// Examples with one product.
    pub prices: usize,
    /// Examples with one sum or difference.
    pub savings: usize,
    /// Examples with wrong answers.
    pub guesses: usize,
    /// Examples of shuffled words.
    pub shuffled: usize,
    /// Held-out examples for the hypergradient.
    pub validation: usize,
    /// Held-out examples for the final judgement.
    pub test: usize,
}

impl Default for Sizes {
    /// Few examples of the target's own kind, many of the others, as it is with real data.
    fn default() -> Self {
        Self {
            shopping: 600,
            prices: 1500,
            savings: 1500,
            guesses: 1500,
            shuffled: 1500,
            validation: 300,
            test: 600,
        }
    }
}

impl Sizes {
    /// The number of examples of a kind.
    pub fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shopping => self.shopping,
            Kind::Prices => self.prices,
            Kind::Savings => self.savings,
            Kind::Guesses => self.guesses,
            Kind::Shuffled => self.shuffled,
            Kind::Validation => self.validation,
            Kind::Test => self.test,
        }
    }
}

/// What can go wrong in generating or writing the demonstration's data.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A size is out of range.
    #[error("size of `{kind}` is {value}; it must lie between 1 and {MAX_SIZE}")]
    Size {
        /// The kind's name.
        kind: &'static str,
        /// The size asked for.
        value: usize,
    },
    /// A file or folder cannot be written.
    #[error("{path}: cannot be written: {cause}; choose a folder that is writable and has room")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Most examples of one kind. The wordings and numbers allow several times as many different questions.
pub const MAX_SIZE: usize = 50_000;

/// One question with its worked solution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The question.
    pub prompt: String,
    /// The worked solution, ending in `Answer: N` (but for shuffled words).
    pub response: String,
}

/// Settings of the generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demo {
    /// Seed of everything.
    pub seed: u64,
    /// How many examples of each kind.
    pub sizes: Sizes,
}

/// Files written by [`Demo::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The sources, in the order of [`Kind::SOURCES`].
    pub sources: Vec<PathBuf>,
    /// The validation set.
    pub validation: PathBuf,
    /// The test set.
    pub test: PathBuf,
}

impl Demo {
    /// The examples of one kind.
    ///
    /// # Errors
    /// [`DemoError::Size`] when the kind's size is 0 or above [`MAX_SIZE`].
    pub fn examples(&self, kind: Kind) -> Result<Vec<Example>, DemoError> {
        let size = self.sizes.of(kind);
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(DemoError::Size { kind: kind.name(), value: size });
        }
        // The test set follows the validation set in one sequence of distinct held-out questions.
        let (stream_of, skipped) = match kind {
            Kind::Test => (Kind::Validation, self.sizes.validation),
            other => (other, 0),
        };
        let mut maker = Maker::new(Stream::new(self.seed, stream_of.purpose()), self.seed);
        let mut examples = maker.distinct(skipped + size, |maker| match kind {
            Kind::Shopping => maker.shopping(Part::Training),
            Kind::Prices => maker.prices(),
            Kind::Savings => maker.savings(),
            Kind::Guesses => maker.guesses(),
            Kind::Shuffled => maker.shuffled(),
            Kind::Validation | Kind::Test => maker.shopping(Part::HeldOut),
        });
        Ok(examples.split_off(skipped))
    }

    /// Writes the five sources, `validation.jsonl` and `test.jsonl` into a folder, which is made if absent. Each line
    /// is a JSON object with the fields `prompt` and `response`.
    ///
    /// # Errors
    /// [`DemoError`].
    pub fn write(&self, folder: &Path) -> Result<Written, DemoError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |cause| DemoError::Write { path, cause }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let write = |kind: Kind| {
            let path = folder.join(format!("{}.jsonl", kind.name()));
            std::fs::write(&path, jsonl(&self.examples(kind)?)).map_err(failed(&path))?;
            Ok(path)
        };
        Ok(Written {
            sources: Kind::SOURCES.into_iter().map(write).collect::<Result<_, DemoError>>()?,
            validation: write(Kind::Validation)?,
            test: write(Kind::Test)?,
        })
    }
}

/// One JSON object a line.
fn jsonl(examples: &[Example]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for Example { prompt, response } in examples {
        let (prompt, response) = (serde_json::Value::from(&**prompt), serde_json::Value::from(&**response));
        writeln!(text, r#"{{"prompt": {prompt}, "response": {response}}}"#).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests;
