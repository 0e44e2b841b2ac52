//! SABA: SOBA's step with a memory of every batch, which takes the noise out (SAGA).

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{Direction, Directions},
    penalty::{batch, positive, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    sampling::{Draw, Sampler},
    vector::Vector,
};

/// Estimates of all three directions from one batch and the last answers on all others.
///
/// # Problem
///
/// Finite sums, g(x, ·) strongly convex. X and Y may be constrained by their prox. A level that is one term is taken whole.
///
/// # Method
///
/// The terms of each level are cut into blocks of `batch` consecutive ones, once for all. For every block b the last answers
/// q_b are kept, and their average q̄ = Σ (n_b/n) q_b, for each of ∇_y g, H v, J v, ∇_x f and ∇_y f; the paper's v is −v.
///
/// ```text
/// 0  the first step asks for every block, and moves along the averages
/// 1  draw a block of each level with probability n_b/n
/// 2  q̂ = q_b(x, y, v) − q_b + q̄,   q̄ ← q̄ + (n_b/n)(q_b(x, y, v) − q_b),   q_b ← q_b(x, y, v)
/// 3  D_y = ∇̂_y g,   D_v = Ĥv − ∇̂_y f,   D_x = ∇̂_x f − Ĵv
/// 4  y ← prox(y − step_y D_y),  v ← v − step_v D_v,  x ← prox(x − step_x D_x)
/// least-squares: r = Ĥv − ∇̂_y f, and D_v = Ĥr from a second block of g and a memory of its own
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_y`, `step_v` | ρ | 0.1, constant | benchopt/benchmark_bilevel, where they are one |
/// | `step_x` | γ = ρ/outer ratio | 0.1, constant | benchopt/benchmark_bilevel |
/// | `batch` | – | everything; 64 in the benchmark | benchopt/benchmark_bilevel |
/// | `direction` | – | plain | the paper |
/// | `tol` | – | none | ends the run when all three moves are at most this |
///
/// # Cost
///
/// On one batch: one `grad_y` of g, one `hvp_yy` (2 for least squares), one `jvp_xy`, one gradient of f; the first step the same
/// on every block. Memory, and so every checkpoint: 2d + m numbers for each block of g (3d + m for least squares) and d + m for
/// each of f. A step reads and writes those of its own blocks alone.
///
/// # Guarantee
///
/// O((n_f + n_g)^(2/3)/T) on the squared norm with constant steps; linear when F is PŁ (recalled from the paper).
///
/// # Target
///
/// Selected.
///
/// # Deviations
///
/// The paper keeps an answer for each term; blocks are kept here, as in benchopt/benchmark_bilevel, which takes them in
/// shuffled turns, drops the terms of a last block that is not full, and copies the whole memory at every step. Here blocks are
/// drawn independently, each term with equal chance, so that q̂ has the mean of the full average whatever the sizes. The
/// benchmark means to choose between a memory of zeros and a full pass at the start, but never hands its choice on; here the first
/// step is a full pass. On a singular H the kernel part of v drifts, as for every step on H v − ∇_y f;
/// `direction = "least-squares"` keeps v in the range.
///
/// # Source
///
/// M. Dagréou, P. Ablin, S. Vaiter, T. Moreau, *A framework for bilevel optimization that enables stochastic and global variance
/// reduction algorithms*, NeurIPS 2022, arXiv 2201.13409; constants as in benchopt/benchmark_bilevel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Saba {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Terms of a block, on both levels; `None`: everything is one block.
    pub batch: Option<u64>,
    /// How v moves.
    pub direction: Direction,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Saba {
    fn default() -> Self {
        Self { step_x: 0.1, step_y: 0.1, step_v: 0.1, batch: None, direction: Direction::Plain, tol: None }
    }
}

/// The blocks of one level, and the draws among them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Blocks {
    /// Terms of the level, terms of a block, and the source of terms; `None`: one block, everything.
    cut: Option<(u64, u64, Sampler)>,
}

/// One block of a level.
struct Block {
    number: usize,
    /// n_b/n.
    share: f64,
    /// `None`: everything.
    terms: Option<Vec<u64>>,
}

impl Block {
    fn sample(&self) -> Sample<'_> {
        self.terms.as_deref().map_or(Sample::Full, Sample::Batch)
    }
}

impl Blocks {
    fn new(terms: Option<u64>, size: Option<u64>, seed: u64, stream: u16) -> Result<Self, ConfigError> {
        let Some(size) = size else { return Ok(Self { cut: None }) };
        let n = terms.ok_or_else(|| {
            ConfigError::new(
                "batch",
                size,
                "saba remembers the terms of a finite sum, and a level of this problem has no count of terms; leave batch \
                 out for exact averages, or take soba for a stream",
            )
        })?;
        if size >= n {
            return Ok(Self { cut: None });
        }
        Ok(Self { cut: Some((n, size, Sampler::new(seed, stream, Draw::Independent { n }, 1)?)) })
    }
    /// Number of blocks.
    fn count(&self) -> usize {
        self.cut.as_ref().map_or(1, |(n, size, _)| n.div_ceil(*size) as usize)
    }
    fn block(&self, number: usize) -> Block {
        let Some((n, size, _)) = &self.cut else { return Block { number, share: 1.0, terms: None } };
        let start = number as u64 * size;
        let terms: Vec<u64> = (start..(start + size).min(*n)).collect();
        Block { number, share: terms.len() as f64 / *n as f64, terms: Some(terms) }
    }
    /// The oracle's answer on every block.
    fn ask<T>(&self, mut oracle: impl FnMut(Sample) -> OracleResult<T>) -> OracleResult<Vec<T>> {
        (0..self.count()).map(|number| oracle(self.block(number).sample())).collect()
    }
    /// The block of a uniform term.
    fn draw(&mut self) -> Block {
        let number = match &mut self.cut {
            None => 0,
            Some((_, size, terms)) => (terms.next_batch()[0] / *size) as usize,
        };
        self.block(number)
    }
}

/// The last answers q_b of one oracle on every block, and their average q̄.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "V: Vector")]
struct Memory<V> {
    answers: Vec<V>,
    average: V,
}

impl<V: Vector> Memory<V> {
    /// From an answer on every block.
    fn new(blocks: &Blocks, answers: Vec<V>) -> Self {
        let mut average = answers[0].zeros_like();
        for (number, answer) in answers.iter().enumerate() {
            average.axpy(blocks.block(number).share, answer);
        }
        Self { answers, average }
    }

    /// Line 2: q̂ from the present answer on one block, which takes the place of the last.
    fn estimate(&mut self, block: &Block, answer: V) -> V {
        // the only block: q_b = q̄, and left uncancelled their rounding would stay for ever
        if let [only] = &mut self.answers[..] {
            only.clone_from(&answer);
            self.average.clone_from(&answer);
            return answer;
        }
        let mut change = std::mem::replace(&mut self.answers[block.number], answer);
        change.scale(-1.0);
        change.axpy(1.0, &self.answers[block.number]);
        let estimate = self.average.plus(1.0, &change);
        self.average.axpy(block.share, &change);
        estimate
    }
}

/// The memories of all oracles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
struct Memories<X, Y> {
    f_x: Memory<X>,
    f_y: Memory<Y>,
    g_y: Memory<Y>,
    h_v: Memory<Y>,
    j_v: Memory<X>,
    /// H r of the least-squares direction.
    h_r: Option<Memory<Y>>,
}

/// State of [`Saba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct SabaState<X, Y> {
    x: X,
    y: Y,
    v: Y,
    upper: Blocks,
    lower: Blocks,
    /// `None` before the first step.
    memories: Option<Memories<X, Y>>,
}

impl<X: Vector, Y: Vector> State<X, Y> for SabaState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl Saba {
    /// Line 0: the directions of the full averages, and the memories.
    fn first<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &mut SabaState<P::X, P::Y>,
    ) -> OracleResult<Directions<P::X, P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let SabaState { x, y, v, upper, lower, .. } = state;
        let (f_x, f_y) = upper.ask(|s| oracles.upper.grad(x, y, s))?.into_iter().unzip();
        let (f_x, f_y) = (Memory::new(upper, f_x), Memory::new(upper, f_y));
        let g_y = Memory::new(lower, lower.ask(|s| oracles.lower.grad_y(x, y, s))?);
        let h_v = Memory::new(lower, lower.ask(|s| oracles.lower.hvp_yy(x, y, v, s))?);
        let j_v = Memory::new(lower, lower.ask(|s| oracles.lower.jvp_xy(x, y, v, s))?);
        let mut d_v = h_v.average.plus(-1.0, &f_y.average);
        let h_r = match self.direction {
            Direction::Plain => None,
            Direction::LeastSquares => {
                Some(Memory::new(lower, lower.ask(|s| oracles.lower.hvp_yy(x, y, &d_v, s))?))
            }
        };
        if let Some(h_r) = &h_r {
            d_v.clone_from(&h_r.average);
        }
        let directions =
            Directions { x: f_x.average.plus(-1.0, &j_v.average), y: g_y.average.clone(), v: d_v };
        state.memories = Some(Memories { f_x, f_y, g_y, h_v, j_v, h_r });
        Ok(directions)
    }

    /// Lines 1 to 3.
    fn directions<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &mut SabaState<P::X, P::Y>,
    ) -> OracleResult<Directions<P::X, P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let SabaState { x, y, v, upper, lower, memories } = state;
        let Some(Memories { f_x, f_y, g_y, h_v, j_v, h_r }) = memories else {
            return self.first(oracles, state);
        };
        let (of_f, of_g) = (upper.draw(), lower.draw());
        let s = of_g.sample();
        let d_y = g_y.estimate(&of_g, oracles.lower.grad_y(x, y, s)?);
        let mut d_v = h_v.estimate(&of_g, oracles.lower.hvp_yy(x, y, v, s)?);
        let (by_x, by_y) = oracles.upper.grad(x, y, of_f.sample())?;
        d_v.axpy(-1.0, &f_y.estimate(&of_f, by_y));
        if let Some(h_r) = h_r {
            // a block of its own: the mean of a product of two estimates is that of their means if they are independent
            let second = lower.draw();
            d_v = h_r.estimate(&second, oracles.lower.hvp_yy(x, y, &d_v, second.sample())?);
        }
        let mut d_x = f_x.estimate(&of_f, by_x);
        d_x.axpy(-1.0, &j_v.estimate(&of_g, oracles.lower.jvp_xy(x, y, v, s)?));
        Ok(Directions { x: d_x, y: d_y, v: d_v })
    }
}

impl<P: Problem> Solver<P> for Saba
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = SabaState<P::X, P::Y>;
    const NAME: &'static str = "saba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        batch("batch", self.batch)?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let blocks = |terms: Option<u64>, stream: u16| {
            Blocks::new(terms, self.batch, seed, stream)
                .map_err(|error| OracleError::failed("n_samples", error))
        };
        Ok(SabaState {
            upper: blocks(oracles.upper.n_samples(), 0)?,
            lower: blocks(oracles.lower.n_samples(), 1)?,
            v: y.zeros_like(),
            x,
            y,
            memories: None,
        })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let moved = self.directions(oracles, state)?;
        let SabaState { x, y, v, .. } = state;
        Ok(moved.advance(oracles, (x, y, v), (self.step_x, self.step_y, self.step_v), self.tol))
    }
}

impl Registered for Saba {
    const CARD: Card = Card {
        title: "SABA",
        summary: "one step each of x, y and v, with a memory of every batch",
        paper: "NeurIPS 2022, arXiv 2201.13409",
        targets: &[HyperObjective::Selected],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        // the problems of the tests have lower Hessians of norm 10
        Self { step_y: 0.05, step_v: 0.05, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a block at two times; the last block of 7 terms in threes is smaller.
    fn answer(time: f64, s: Sample) -> Vec<f64> {
        let Sample::Batch(terms) = s else { return vec![f64::NAN; 2] };
        let sum = |f: &dyn Fn(f64) -> f64| terms.iter().map(|&i| f(i as f64)).sum::<f64>();
        let size = terms.len() as f64;
        vec![sum(&|i| (i + time).sin()) / size, sum(&|i| (time * i).cos()) / size]
    }
    fn filled(blocks: &Blocks, time: f64) -> Memory<Vec<f64>> {
        Memory::new(blocks, blocks.ask(|s| Ok(answer(time, s))).unwrap())
    }
    fn mean(time: f64) -> Vec<f64> {
        answer(time, Sample::Batch(&[0, 1, 2, 3, 4, 5, 6]))
    }

    #[test]
    fn an_estimate_has_the_mean_of_the_full_average() {
        let blocks = Blocks::new(Some(7), Some(3), 0, 0).unwrap();
        assert_eq!(blocks.count(), 3);
        let mut memory = filled(&blocks, 0.3);
        // entries of different ages
        let old = blocks.block(1);
        memory.estimate(&old, answer(0.9, old.sample()));
        let mut expected = vec![0.0; 2];
        for number in 0..3 {
            let block = blocks.block(number);
            let estimate = memory.clone().estimate(&block, answer(1.7, block.sample()));
            expected.axpy(block.share, &estimate);
            assert!(estimate.distance(&mean(1.7)) > 1e-2, "block {number} has no noise");
        }
        assert!(expected.distance(&mean(1.7)) < 1e-14, "{expected:?}");
    }

    #[test]
    fn blocks_are_drawn_as_often_as_they_have_terms() {
        let mut blocks = Blocks::new(Some(7), Some(3), 5, 0).unwrap();
        let mut counts = [0.0_f64; 3];
        for _ in 0..7_000 {
            counts[blocks.draw().number] += 1.0;
        }
        // χ² with 2 degrees of freedom is below 13.8 with probability 0.999
        let chi_square: f64 =
            counts.iter().zip([3e3, 3e3, 1e3]).map(|(count, mean)| (count - mean).powi(2) / mean).sum();
        assert!(chi_square < 13.8, "{counts:?}");
    }

    #[test]
    fn the_average_stays_that_of_the_answers() {
        let mut blocks = Blocks::new(Some(7), Some(3), 1, 0).unwrap();
        let mut memory = filled(&blocks, 0.0);
        for step in 1..100 {
            let block = blocks.draw();
            memory.estimate(&block, answer(f64::from(step) / 10.0, block.sample()));
        }
        let mut average = vec![0.0; 2];
        for number in 0..3 {
            average.axpy(blocks.block(number).share, &memory.answers[number]);
        }
        // a hundred roundings of numbers of at most 1
        assert!(average.distance(&memory.average) < 100.0 * f64::EPSILON);
    }

    #[test]
    fn one_block_is_exact() {
        for blocks in [Blocks::new(None, None, 0, 0).unwrap(), Blocks::new(Some(7), Some(7), 0, 0).unwrap()] {
            assert!(blocks.count() == 1 && blocks.block(0).terms.is_none());
            let mut memory = Memory::new(&blocks, vec![vec![1e16]]);
            assert_eq!(memory.estimate(&blocks.block(0), vec![0.3]), [0.3]);
            assert_eq!((memory.average, memory.answers), (vec![0.3], vec![vec![0.3]]));
        }
    }

    #[test]
    fn a_level_without_a_count_of_terms_is_refused_with_a_remedy() {
        let error = Blocks::new(None, Some(4), 0, 0).unwrap_err();
        assert_eq!(error.field, "batch");
        assert!(error.remedy.contains("leave batch out") && error.remedy.contains("soba"), "{error}");
    }
}
