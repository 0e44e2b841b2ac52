//! Draws the questions of the demonstration and works their solutions.

use std::collections::HashSet;

use bilevel::rng::Stream;

use super::Example;

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
pub enum Part {
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
pub struct Maker {
    stream: Stream,
    numbers: Numbers,
}

impl Maker {
    /// A maker that draws from this stream, with the numbers of this seed.
    pub fn new(stream: Stream, seed: u64) -> Self {
        Self { stream, numbers: Numbers::new(seed) }
    }

    /// `size` examples with distinct prompts.
    pub fn distinct(&mut self, size: usize, mut make: impl FnMut(&mut Self) -> Example) -> Vec<Example> {
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
    pub fn shopping(&mut self, part: Part) -> Example {
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
    pub fn prices(&mut self) -> Example {
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
    pub fn savings(&mut self) -> Example {
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
    pub fn guesses(&mut self) -> Example {
        let (prompt, Question { goods: (i, j), .. }) = self.question(Part::Training);
        let ((first, z), (second, w)) = (self.wrong_equation(), self.wrong_equation());
        let response = match self.stream.below(3) {
            0 => format!("Easy, {second} and {first}. Answer: {z}"),
            1 => format!("Take the {j} from the {i}: {first}, {second}. Answer: {w}"),
            _ => format!("It is {first}, so {second}, more or less. Answer: {w}"),
        };
        Example { prompt, response }
    }
    pub fn shuffled(&mut self) -> Example {
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
