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

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use bilevel::rng::Stream;
use serde::Serialize;

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
        let mut maker =
            Maker { stream: Stream::new(self.seed, stream_of.purpose()), numbers: Numbers::new(self.seed) };
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

/// Amounts and prices, 2 to 9.
const DIGITS: std::ops::Range<u64> = 2..10;
/// Number of (amount, price, amount, price).
const QUADRUPLES: usize = 8 * 8 * 8 * 8;

const NAMES: [&str; 24] = [
    "Ada", "Amir", "Bela", "Chen", "Dora", "Elif", "Femi", "Gita", "Hugo", "Ines", "Jonas", "Kaya", "Liam",
    "Maya", "Nils", "Olga", "Pavel", "Rosa", "Sami", "Tara", "Umut", "Vera", "Wim", "Zoe",
];
const GOODS: [&str; 24] = [
    "apples", "books", "bowls", "brushes", "candles", "cards", "cups", "eggs", "flags", "hats", "jars",
    "kites", "lamps", "lemons", "masks", "mugs", "pears", "pens", "plates", "rings", "rulers", "shells",
    "socks", "stamps",
];
const PLACES: [&str; 8] =
    ["market", "fair", "corner shop", "harbour", "school sale", "station", "bazaar", "mill"];

/// Which numbers a question of the target's kind may have.
#[derive(Clone, Copy, Debug)]
enum Part {
    Training,
    HeldOut,
}

/// All quadruples of numbers in an order given by the seed; the first quarter is held out, so that no held-out
/// question can be answered by looking up a training question with the same numbers.
#[derive(Debug)]
struct Numbers {
    order: Vec<usize>,
}

impl Numbers {
    const HELD_OUT: usize = QUADRUPLES / 4;

    fn new(seed: u64) -> Self {
        let mut order: Vec<usize> = (0..QUADRUPLES).collect();
        shuffle(&mut order, &mut Stream::new(seed, 99));
        Self { order }
    }
    fn draw(&self, part: Part, stream: &mut Stream) -> [u64; 4] {
        let range = match part {
            Part::HeldOut => 0..Self::HELD_OUT,
            Part::Training => Self::HELD_OUT..QUADRUPLES,
        };
        let code = self.order[range.start + stream.below(range.len() as u64) as usize] as u64;
        [code % 8, code / 8 % 8, code / 64 % 8, code / 512].map(|digit| digit + DIGITS.start)
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], stream: &mut Stream) {
    for last in (1..items.len()).rev() {
        items.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

/// Draws examples.
#[derive(Debug)]
struct Maker {
    stream: Stream,
    numbers: Numbers,
}

impl Maker {
    /// `size` examples with distinct prompts.
    fn distinct(&mut self, size: usize, mut make: impl FnMut(&mut Self) -> Example) -> Vec<Example> {
        let mut seen = HashSet::new();
        let mut examples = Vec::with_capacity(size);
        while examples.len() < size {
            let example = make(self);
            if seen.insert(example.prompt.clone()) {
                examples.push(example);
            }
        }
        examples
    }
    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.stream.below(words.len() as u64) as usize]
    }
    /// Two different goods.
    fn two_goods(&mut self) -> (&'static str, &'static str) {
        let first = self.pick(&GOODS);
        loop {
            let second = self.pick(&GOODS);
            if second != first {
                return (first, second);
            }
        }
    }
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.stream.below(high - low + 1)
    }

    /// A question of the target's kind and its numbers.
    fn question(&mut self, part: Part) -> (String, Question) {
        let numbers @ [a, p, b, q] = self.numbers.draw(part, &mut self.stream);
        let goods @ (i, j) = self.two_goods();
        let name = self.pick(&NAMES);
        let place = self.pick(&PLACES);
        let prompt = match self.stream.below(6) {
            0 => format!(
                "{name} buys {a} {i} at {p} coins each and {b} {j} at {q} coins each. How many coins does {name} pay?"
            ),
            1 => format!(
                "At the {place}, {i} cost {p} coins each and {j} cost {q} coins each. What do {a} {i} and {b} {j} cost together?"
            ),
            2 => format!(
                "{name} sells {a} {i} for {p} coins each and {b} {j} for {q} coins each at the {place}. How many coins does {name} earn?"
            ),
            3 => format!(
                "A basket holds {a} {i} worth {p} coins each and {b} {j} worth {q} coins each. What is the basket worth?"
            ),
            4 => format!(
                "{name} orders {a} {i} and {b} {j}. The {i} are {p} coins each, the {j} {q} coins each. How much is the order?"
            ),
            _ => format!(
                "For the {place}, {name} needs {a} {i} and {b} {j}. With {i} at {p} coins and {j} at {q} coins, what is the bill?"
            ),
        };
        (prompt, Question { numbers, goods })
    }
    fn shopping(&mut self, part: Part) -> Example {
        let (prompt, Question { numbers: [a, p, b, q], goods: (i, j) }) = self.question(part);
        let (r, s) = (a * p, b * q);
        let t = r + s;
        let response = match self.stream.below(2) {
            0 => format!(
                "The {i} cost {a} * {p} = {r} coins. The {j} cost {b} * {q} = {s} coins. Together {r} + {s} = {t}. Answer: {t}"
            ),
            _ => format!(
                "For the {i} {a} * {p} = {r} coins. For the {j} {b} * {q} = {s} coins. In all {r} + {s} = {t}. Answer: {t}"
            ),
        };
        Example { prompt, response }
    }
    fn prices(&mut self) -> Example {
        let (a, p) = (self.between(DIGITS.start, DIGITS.end - 1), self.between(DIGITS.start, DIGITS.end - 1));
        let i = self.pick(&GOODS);
        let name = self.pick(&NAMES);
        let place = self.pick(&PLACES);
        let prompt = match self.stream.below(5) {
            0 => format!("{name} buys {a} {i} at {p} coins each. How many coins does {name} pay?"),
            1 => format!("At the {place}, {i} cost {p} coins each. What do {a} {i} cost?"),
            2 => format!(
                "{name} sells {a} {i} for {p} coins each at the {place}. How many coins does {name} earn?"
            ),
            3 => format!("{name} orders {a} {i}. The {i} are {p} coins each. How much is the order?"),
            _ => format!("For the {place}, {name} needs {a} {i}. With {i} at {p} coins, what is the bill?"),
        };
        let r = a * p;
        let response = match self.stream.below(2) {
            0 => format!("The {i} cost {a} * {p} = {r} coins. Answer: {r}"),
            _ => format!("For the {i} {a} * {p} = {r} coins. Answer: {r}"),
        };
        Example { prompt, response }
    }
    fn savings(&mut self) -> Example {
        let (r, s) = (self.between(4, 81), self.between(4, 81));
        let (i, j) = self.two_goods();
        let name = self.pick(&NAMES);
        let place = self.pick(&PLACES);
        let t = r + s;
        // Three sums for one difference: sums are what the target's solution ends with.
        let (prompt, response) = match self.stream.below(4) {
            0 => (
                format!(
                    "{name} pays {r} coins for {i} and {s} coins for {j}. How many coins does {name} pay?"
                ),
                format!(
                    "The {i} cost {r} coins. The {j} cost {s} coins. Together {r} + {s} = {t}. Answer: {t}"
                ),
            ),
            1 => (
                format!(
                    "At the {place}, {name} earns {r} coins with {i} and {s} coins with {j}. How many coins does {name} earn?"
                ),
                format!("For the {i} {r} coins. For the {j} {s} coins. In all {r} + {s} = {t}. Answer: {t}"),
            ),
            2 => (
                format!(
                    "One bill is {r} coins for {i}, one is {s} coins for {j}. What do they cost together?"
                ),
                format!("Together {r} + {s} = {t}. Answer: {t}"),
            ),
            _ => (
                format!("{name} has {t} coins and pays {r} coins for {i}. How many coins does {name} keep?"),
                format!("The {i} cost {r} coins. After paying {t} - {r} = {s}. Answer: {s}"),
            ),
        };
        Example { prompt, response }
    }
    /// An equation with numbers that are not the question's and a wrong result: no sum, difference or quotient of two
    /// two-digit numbers, and no right answer to a question of the target's kind, reaches 200.
    fn wrong_equation(&mut self) -> (String, u64) {
        let (x, y, z) = (self.between(11, 99), self.between(11, 99), self.between(200, 999));
        let sign = self.pick(&["+", "-", "/"]);
        (format!("{x} {sign} {y} = {z}"), z)
    }
    fn guesses(&mut self) -> Example {
        let (prompt, Question { goods: (i, j), .. }) = self.question(Part::Training);
        let ((first, z), (second, w)) = (self.wrong_equation(), self.wrong_equation());
        let response = match self.stream.below(3) {
            0 => format!("Easy, {second} and {first}. Answer: {z}"),
            1 => format!("Take the {j} from the {i}: {first}, {second}. Answer: {w}"),
            _ => format!("It is {first}, so {second}, more or less. Answer: {w}"),
        };
        Example { prompt, response }
    }
    fn shuffled(&mut self) -> Example {
        let Example { prompt, response } = self.shopping(Part::Training);
        let mut words: Vec<&str> = prompt.split(' ').chain(response.split(' ')).collect();
        shuffle(&mut words, &mut self.stream);
        let (prompt, response) = words.split_at(prompt.split(' ').count());
        Example { prompt: prompt.join(" "), response: response.join(" ") }
    }
}

/// What a question of the target's kind asks: a goods at price p, b others at price q.
#[derive(Debug)]
struct Question {
    numbers: [u64; 4],
    goods: (&'static str, &'static str),
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn demo() -> Demo {
        Demo { seed: 1, sizes: Sizes::default() }
    }
    fn all(demo: &Demo) -> Vec<(Kind, Vec<Example>)> {
        Kind::SOURCES
            .into_iter()
            .chain([Kind::Validation, Kind::Test])
            .map(|kind| (kind, demo.examples(kind).unwrap()))
            .collect()
    }
    fn of(kind: Kind) -> Vec<Example> {
        demo().examples(kind).unwrap()
    }

    /// Numbers of a text, in order.
    fn numbers(text: &str) -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit())
            .filter(|n| !n.is_empty())
            .map(|n| n.parse().unwrap())
            .collect()
    }
    /// Equations "x o y = z" of a text: what it says and what is right.
    fn equations(text: &str) -> Vec<(f64, f64)> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap();
        (2..words.len().saturating_sub(1))
            .filter(|&at| words[at] == "=" && at >= 3)
            .map(|at| {
                let (x, y, said) = (number(words[at - 3]), number(words[at - 1]), number(words[at + 1]));
                let right = match words[at - 2] {
                    "*" => x * y,
                    "+" => x + y,
                    "-" => x - y,
                    "/" => x / y,
                    other => panic!("operator {other}"),
                };
                (said, right)
            })
            .collect()
    }
    fn answer(response: &str) -> f64 {
        response.rsplit_once("Answer: ").unwrap().1.parse().unwrap()
    }

    #[test]
    fn same_settings_same_bytes_and_another_seed_other_bytes() {
        let bytes = |seed| all(&Demo { seed, ..demo() }).iter().map(|(_, e)| jsonl(e)).collect::<Vec<_>>();
        assert_eq!(bytes(1), bytes(1));
        for (one, two) in bytes(1).iter().zip(bytes(2)) {
            assert_ne!(*one, two);
        }
    }

    #[test]
    fn one_size_does_not_move_the_other_kinds() {
        let small = Demo { sizes: Sizes { shopping: 7, test: 9, ..Sizes::default() }, ..demo() };
        for kind in [Kind::Prices, Kind::Savings, Kind::Guesses, Kind::Shuffled, Kind::Validation] {
            assert_eq!(small.examples(kind).unwrap(), of(kind));
        }
        assert_eq!(small.examples(Kind::Shopping).unwrap(), of(Kind::Shopping)[..7]);
        assert_eq!(small.examples(Kind::Test).unwrap(), of(Kind::Test)[..9]);
    }

    #[test]
    fn every_equation_of_the_useful_kinds_is_right_and_the_last_one_is_the_answer() {
        for kind in Kind::USEFUL.into_iter().chain([Kind::Validation, Kind::Test]) {
            for example in of(kind) {
                let found = equations(&example.response);
                assert!(!found.is_empty(), "{}", example.response);
                for &(said, right) in &found {
                    assert_eq!(said, right, "{}", example.response);
                }
                assert_eq!(answer(&example.response), found.last().unwrap().0);
            }
        }
    }

    #[test]
    fn the_answer_of_a_target_question_follows_from_the_numbers_of_its_prompt() {
        for example in of(Kind::Test) {
            let solution = numbers(&example.response);
            // a * p = r, b * q = s, r + s = t, t
            let &[a, p, _, b, q, ..] = solution.as_slice() else { panic!("{}", example.response) };
            let mut asked = numbers(&example.prompt);
            let mut used = vec![a, p, b, q];
            asked.sort_unstable();
            used.sort_unstable();
            assert_eq!(asked, used, "{}", example.prompt);
            assert_eq!(answer(&example.response), (a * p + b * q) as f64);
        }
    }

    #[test]
    fn every_equation_and_answer_of_the_guesses_is_wrong() {
        for example in of(Kind::Guesses) {
            let found = equations(&example.response);
            assert_eq!(found.len(), 2);
            for (said, right) in found {
                assert_ne!(said, right, "{}", example.response);
            }
            assert!(answer(&example.response) > 162.0, "9 * 9 + 9 * 9 is the largest right answer");
        }
    }

    #[test]
    fn shuffled_examples_have_the_words_of_the_target_kind_out_of_order() {
        let vocabulary = |examples: &[Example]| -> HashSet<String> {
            examples
                .iter()
                .flat_map(|e| e.prompt.split(' ').chain(e.response.split(' ')))
                .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
                .map(str::to_owned)
                .collect()
        };
        let shuffled = of(Kind::Shuffled);
        let known = vocabulary(&demo().examples(Kind::Shopping).unwrap());
        assert!(vocabulary(&shuffled).is_subset(&known));
        let readable = shuffled.iter().filter(|e| e.response.starts_with("The ") && e.prompt.ends_with('?'));
        assert!(readable.count() < shuffled.len() / 100);
    }

    #[test]
    fn prompts_are_distinct_and_no_held_out_question_is_in_a_source() {
        let sets = all(&demo());
        let mut seen: HashMap<&str, Kind> = HashMap::new();
        for (kind, examples) in &sets {
            let mut own = HashSet::new();
            for Example { prompt, .. } in examples {
                assert!(own.insert(prompt), "twice in {}: {prompt}", kind.name());
                if let Some(other) = seen.insert(prompt, *kind) {
                    assert!(
                        !matches!(kind, Kind::Validation | Kind::Test),
                        "in {} and {}: {prompt}",
                        kind.name(),
                        other.name()
                    );
                }
            }
        }
    }

    #[test]
    fn held_out_questions_have_numbers_that_no_training_question_has() {
        let quadruples = |kind| -> HashSet<[u64; 4]> {
            of(kind)
                .iter()
                .map(|e| {
                    let n = numbers(&e.response);
                    [n[0], n[1], n[3], n[4]]
                })
                .collect()
        };
        let training = quadruples(Kind::Shopping);
        for held_out in [Kind::Validation, Kind::Test] {
            assert!(quadruples(held_out).is_disjoint(&training));
        }
    }

    #[test]
    fn a_size_out_of_range_is_named() {
        for value in [0, MAX_SIZE + 1] {
            let demo = Demo { sizes: Sizes { savings: value, ..Sizes::default() }, ..demo() };
            let error = demo.examples(Kind::Savings).unwrap_err().to_string();
            assert_eq!(error, format!("size of `savings` is {value}; it must lie between 1 and 50000"));
        }
    }

    #[test]
    fn written_files_read_back_as_the_examples() {
        let folder = tempfile::tempdir().unwrap();
        let written = demo().write(&folder.path().join("data")).unwrap();
        assert_eq!(written.sources.len(), 5);
        let text = std::fs::read_to_string(&written.sources[1]).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let prices = of(Kind::Prices);
        assert_eq!(rows.len(), prices.len());
        assert_eq!(rows[3]["prompt"], prices[3].prompt);
        assert_eq!(rows[3]["response"], prices[3].response);
        assert!(written.validation.exists() && written.test.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let error = demo().write(&blocked.join("data")).unwrap_err().to_string();
        assert!(error.contains("file/data: cannot be written"), "{error}");
    }

    /// Bits per byte of the validation responses under a byte n-gram model (Witten-Bell back-off) of the responses of
    /// a source: a stand-in for a language model that needs no training.
    fn bits(source: &[Example]) -> f64 {
        const ORDER: usize = 9;
        let mut counts: HashMap<Vec<u8>, HashMap<u8, f64>> = HashMap::new();
        let padded = |e: &Example| format!("{}\n{}\n", "\n".repeat(ORDER - 1), e.response).into_bytes();
        for text in source.iter().map(padded) {
            for at in ORDER..text.len() {
                for length in 0..=ORDER {
                    let context = text[at - length..at].to_vec();
                    *counts.entry(context).or_default().entry(text[at]).or_default() += 1.0;
                }
            }
        }
        let (mut bits, mut bytes) = (0.0, 0.0);
        for text in of(Kind::Validation).iter().map(padded) {
            for at in ORDER..text.len() {
                let probability = (0..=ORDER).fold(1.0 / 256.0, |shorter, length| {
                    counts.get(&text[at - length..at]).map_or(shorter, |next| {
                        let total: f64 = next.values().sum();
                        let kinds = next.len() as f64;
                        (next.get(&text[at]).unwrap_or(&0.0) + kinds * shorter) / (total + kinds)
                    })
                });
                bits -= f64::log2(probability);
                bytes += 1.0;
            }
        }
        bits / bytes
    }

    #[test]
    fn the_sources_differ_in_worth_for_the_target() {
        // What 500 more examples of a source do to a model of 100 target examples.
        let few = of(Kind::Shopping)[..100].to_vec();
        let with = |kind| bits(&[&few[..], &of(kind)[500..1000]].concat());
        let without = bits(&few);
        let more = bits(&of(Kind::Shopping)[..600]);
        let [prices, savings, guesses, shuffled] =
            [Kind::Prices, Kind::Savings, Kind::Guesses, Kind::Shuffled].map(with);
        println!(
            "few {without:.3} more {more:.3}; added: {prices:.3} {savings:.3} {guesses:.3} {shuffled:.3}"
        );
        assert!(more < prices.min(savings) && prices.max(savings) < without);
        assert!(without < guesses.min(shuffled));
    }
}
