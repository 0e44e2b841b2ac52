use bilevel::rng::Stream;

use super::*;
use crate::model::{
    Part,
    tests::{kinds, point, variance_of_the_tangent},
};

/// Three sequences with twenty rows, which three chunks of six or seven hold.
fn batch() -> Batch {
    let mut stream = Stream::new(8, 0);
    let mut draw = |count: usize| -> Vec<u32> { (0..count).map(|_| stream.below(11) as u32).collect() };
    let rows: Vec<u32> = (0..24).filter(|row| row % 6 != 1).collect();
    Batch { tokens: draw(24), lengths: vec![9, 7, 8], targets: draw(rows.len()), rows }
}

fn work<T: Real>(decoder: &Decoder, rows_at_once: usize) -> Workspace<T> {
    let mut work = decoder.workspace();
    work.rows_at_once = rows_at_once;
    work
}

fn random(n: usize, purpose: u64) -> Vec<f64> {
    let mut stream = Stream::new(6, purpose);
    (0..n).map(|_| stream.normal()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < tolerance * (1.0 + b.abs()), "{a} {b}");
    }
}

#[test]
fn chunks_tile_the_rows_and_none_is_tiny() {
    for rows in 0..120 {
        for at_once in 1..40 {
            let chunks: Vec<_> = chunks(rows, at_once).collect();
            assert_eq!(
                chunks.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                (0..rows).collect::<Vec<_>>()
            );
            let sizes: Vec<usize> = chunks.iter().map(ExactSizeIterator::len).collect();
            assert!(rows <= BLOCKED_ABOVE || sizes.iter().all(|&n| n > BLOCKED_ABOVE), "{sizes:?}");
            let largest = sizes.iter().max().copied().unwrap_or(0);
            assert_eq!(largest, largest_chunk(rows, at_once));
            // two chunks of six are the first that can be two
            assert!(
                largest <= at_once.max(2 * BLOCKED_ABOVE + 1),
                "{rows} rows, {at_once} at once: {sizes:?}"
            );
            assert!(sizes.iter().all(|&n| n + 1 >= largest), "{sizes:?}");
        }
    }
}

#[test]
fn losses_are_those_of_the_whole_logits() {
    for decoder in kinds() {
        let (y, batch) = (point(&decoder), batch());
        let logits = decoder.logits(&y, &batch, &mut decoder.workspace()).to_vec();
        for rows_at_once in [1, 7, 10, 100] {
            let found = decoder.predictions(&y, &batch, &mut work(&decoder, rows_at_once));
            for ((found, row), &target) in found.iter().zip(logits.chunks_exact(11)).zip(&batch.targets) {
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                assert_eq!(found.is_likeliest, row[target as usize] == top);
                let expected = row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[target as usize];
                assert_close(&[found.loss], &[expected], 1e-13);
            }
        }
    }
}

#[test]
fn the_derivative_in_the_head_is_that_of_the_plain_composition() {
    // a head of its own, so that no other derivative stands in its place
    let [_, decoder, ..] = kinds();
    let (y, batch) = (point(&decoder), batch());
    let selection = decoder.select(&[Part::Head]);
    let trained = selection.gather(&y);
    let weights = Weights::with_trained(&y, &selection, &trained);
    let mut whole = decoder.workspace();
    let logits = decoder.logits(&y, &batch, &mut whole).to_vec();
    let mut expected = vec![0.0; trained.len()];
    let inputs = whole.head_input.chunks_exact(16);
    for ((row, &target), input) in logits.chunks_exact(11).zip(&batch.targets).zip(inputs) {
        let sum: f64 = row.iter().map(|l| l.exp()).sum();
        for (token, (d, l)) in expected.chunks_exact_mut(16).zip(row).enumerate() {
            let slope = l.exp() / sum - f64::from(u8::from(token == target as usize));
            d.iter_mut().zip(input).for_each(|(d, input)| *d += 0.3 * slope * input);
        }
    }
    for rows_at_once in [1, 7, 10, 100] {
        let mut gradient = vec![0.0; trained.len()];
        decoder.loss_gradient(weights, &batch, 0.3, &mut gradient, &mut work(&decoder, rows_at_once));
        // twenty terms of order one in each sum, in another order
        assert_close(&gradient, &expected, 1e-13);
    }
}

#[test]
fn gradients_and_curvature_do_not_depend_on_the_chunks() {
    for decoder in kinds() {
        let (y, batch) = (point(&decoder), batch());
        let adapters = decoder.adapters(&[crate::model::Target::V], 2, 2.0).unwrap();
        let list: Vec<f64> = random(adapters.len(), 3).iter().map(|a| 0.3 * a).collect();
        let selection = decoder.select(&[Part::Block(1), Part::Head]);
        let trained = selection.gather(&y);
        for weights in [
            Weights::from(&y),
            Weights::with_trained(&y, &selection, &trained),
            Weights::adapted(&y, &adapters, &list),
        ] {
            let v = random(weights.trained().len(), 1);
            let all = |rows_at_once| {
                let mut work = work(&decoder, rows_at_once);
                let (mut g, mut hv) = (vec![0.0; v.len()], vec![0.0; v.len()]);
                let loss = decoder.loss_gradient(weights, &batch, 0.7, &mut g, &mut work);
                decoder.gauss_newton(weights, &v, 1e-4, &batch, 0.7, &mut hv, &mut work);
                assert!(work.logits.capacity() <= 11 * largest_chunk(20, rows_at_once));
                (loss, g, hv)
            };
            let whole = all(20);
            for rows_at_once in [1, 7, 10] {
                let (loss, g, hv) = all(rows_at_once);
                assert_eq!(loss, whole.0);
                // sums of twenty terms of order one, in another order; a tangent divides the rounding of logits by 1e-4, and not the chunks
                assert_close(&g, &whole.1, 1e-12);
                assert_close(&hv, &whole.2, 1e-12);
            }
        }
    }
}

#[test]
fn the_gradient_by_chunks_agrees_with_central_differences() {
    for decoder in kinds() {
        let (y, batch) = (point(&decoder), batch());
        let mut work = work(&decoder, 7);
        let mut gradient = vec![0.0; y.len()];
        let loss = decoder.loss_gradient(&y, &batch, 1.0, &mut gradient, &mut work);
        let (direction, h) = (random(y.len(), 2), 1e-6);
        let mut at = |s: f64| -> f64 {
            let moved: Vec<f64> = y.iter().zip(&direction).map(|(y, d)| y + s * h * d).collect();
            decoder.row_losses(&moved, &batch, &mut work).iter().sum()
        };
        assert_eq!(at(0.0), loss);
        let (difference, inner) = ((at(1.0) - at(-1.0)) / (2.0 * h), dot(&gradient, &direction));
        // rounding 1e-16·loss/h = 1e-8, truncation h² = 1e-12 times third derivatives of order 10⁴ along all parameters
        assert!((difference - inner).abs() < 1e-6 * (1.0 + inner.abs()), "{difference} {inner}");
    }
}

#[test]
fn curvature_by_chunks_is_the_variance_of_the_logits_derivative() {
    for decoder in kinds() {
        let (y, batch) = (point(&decoder), batch());
        let (v, h) = (random(y.len(), 4), 1e-5);
        let mut product = vec![0.0; y.len()];
        decoder.gauss_newton(&y, &v, h, &batch, 1.0, &mut product, &mut work(&decoder, 6));
        let expected = variance_of_the_tangent(&decoder, &y, &v, h, &batch);
        // one side has ⟨∇, v⟩ where the other has a difference: h² = 1e-10 times a third derivative
        assert!((dot(&v, &product) - expected).abs() < 1e-5 * expected, "{} {expected}", dot(&v, &product));
    }
}

#[test]
fn several_chunks_on_several_threads_give_the_same_bits() {
    let sizes = crate::model::ModelSizes {
        layers: 1,
        width: 64,
        heads: 2,
        kv_heads: 2,
        ffn: 64,
        context: 40,
        rope_base: 1e4,
    };
    // a chunk of 32 rows is worth two threads: 32 · 64 · 2300 is more than two parts of 2²¹ multiplications
    let decoder = Decoder::new(sizes, 2300);
    let y: Vec<f32> = decoder.initial(&mut Stream::new(1, 0));
    let tokens: Vec<u32> = (0..80).map(|t| t * 26 % 2300).collect();
    let batch = Batch { targets: tokens.clone(), tokens, lengths: vec![40, 40], rows: (0..80).collect() };
    let all = |threads: usize| {
        let mut work = work(&decoder, 40).with_threads(threads);
        let (mut g, mut hv) = (vec![0.0; y.len()], vec![0.0; y.len()]);
        let loss = decoder.loss_gradient(&y, &batch, 0.1, &mut g, &mut work);
        decoder.gauss_newton(&y, &g, 0.1, &batch, 0.1, &mut hv, &mut work);
        (loss, g, hv, decoder.row_losses(&y, &batch, &mut work))
    };
    let one = all(1);
    assert!([2, 3].into_iter().all(|threads| all(threads) == one));
    assert_eq!(one.3, decoder.row_losses(&y, &batch, &mut work(&decoder, 80)));
}
