use std::sync::{Arc, atomic::Ordering};

use super::{
    kernels::{Accelerator, softmax, test_device::Plain},
    *,
};

const SIZES: ModelSizes =
    ModelSizes { layers: 2, width: 16, heads: 4, kv_heads: 2, ffn: 12, context: 9, rope_base: 10_000.0 };

fn tiny() -> Decoder {
    Decoder::new(SIZES, 11)
}

/// One of each kind: Llama as trained from scratch, with a head of its own, wide heads and stretched positions; Qwen2;
/// GPT-2.
pub(super) fn kinds() -> [Decoder; 4] {
    let plain = Architecture::llama(SIZES, 11);
    let stretched = Architecture {
        head_size: 6,
        is_head_tied: false,
        rope: RopeScaling::Divisors(vec![1.0, 2.5, 8.0]),
        ..plain.clone()
    };
    let qwen2 = Architecture { family: Family::Qwen2, norm_epsilon: 1e-6, ..plain.clone() };
    let gpt2 =
        Architecture { family: Family::Gpt2, sizes: ModelSizes { kv_heads: 4, ..SIZES }, ..plain.clone() };
    [plain, stretched, qwen2, gpt2].map(Decoder::of)
}

pub(super) fn batch() -> Batch {
    Batch {
        tokens: vec![1, 5, 3, 3, 10, 0, 2, 7, 4, 9, 9, 1],
        lengths: vec![7, 1, 4],
        rows: vec![2, 3, 4, 6, 7, 9, 11],
        targets: vec![3, 10, 0, 5, 1, 9, 8],
    }
}

/// Larger than at the start of training, so that every part of the model matters.
pub(super) fn point(decoder: &Decoder) -> Vec<f64> {
    let mut stream = Stream::new(3, 0);
    (0..decoder.parameters()).map(|_| 0.4 * stream.normal() + 0.1).collect()
}

pub(super) fn total<'y>(decoder: &Decoder, y: impl Into<Weights<'y, f64>>, batch: &Batch) -> f64 {
    decoder.row_losses(y, batch, &mut decoder.workspace()).iter().sum()
}

#[test]
fn gradient_agrees_with_central_differences() {
    for decoder in kinds() {
        let batch = batch();
        let y = point(&decoder);
        let mut gradient = vec![0.0; y.len()];
        let loss = decoder.loss_gradient(&y, &batch, 1.0, &mut gradient, &mut decoder.workspace());
        assert!((loss - total(&decoder, &y, &batch)).abs() < 1e-12);
        // one direction inside each tensor, so that no part can hide behind another
        let h = 1e-5;
        for tensor in decoder.tensors() {
            let mut stream = Stream::new(9, tensor.range.start as u64);
            let direction: Vec<f64> =
                (0..y.len()).map(|i| if tensor.range.contains(&i) { stream.normal() } else { 0.0 }).collect();
            let at = |s: f64| {
                let moved: Vec<f64> = y.iter().zip(&direction).map(|(y, d)| y + s * h * d).collect();
                total(&decoder, &moved, &batch)
            };
            let difference = (at(1.0) - at(-1.0)) / (2.0 * h);
            let inner: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            // rounding 1e-16·loss/h = 1e-10, truncation h² = 1e-10 times third derivatives of order 10²
            assert!(
                (difference - inner).abs() < 1e-7 * (1.0 + inner.abs()),
                "{:?}, {}: {difference} {inner}",
                decoder.architecture.family,
                tensor.name
            );
        }
    }
}

#[test]
fn the_gradient_in_a_part_is_that_part_of_the_gradient() {
    for decoder in kinds() {
        let batch = batch();
        let y = point(&decoder);
        let mut whole = vec![0.0; y.len()];
        let loss = decoder.loss_gradient(&y, &batch, 0.7, &mut whole, &mut decoder.workspace());
        for parts in [
            &[Part::Block(1), Part::FinalNorm][..],
            &[Part::Head],
            &[Part::FinalNorm],
            &[Part::Positions, Part::Block(0)],
            &[Part::Embedding, Part::Block(1), Part::Head],
        ] {
            let selection = decoder.select(parts);
            // what stands in the frozen list at trained places must not matter
            let mut frozen = y.clone();
            selection.scatter(&vec![f64::NAN; selection.len()], &mut frozen);
            let trained = selection.gather(&y);
            let mut gradient = vec![0.0; selection.len()];
            let weights = Weights::with_trained(&frozen, &selection, &trained);
            let mut work = decoder.workspace().with_threads(2);
            assert_eq!(decoder.loss_gradient(weights, &batch, 0.7, &mut gradient, &mut work), loss);
            assert_eq!(gradient, selection.gather(&whole), "{parts:?}");
            what_frozen_blocks_put_out_is_kept(&decoder, weights, &batch);
        }
    }
}

/// Losses, gradients and products with and without kept outputs of frozen blocks; the room is enough for all, for one, or none.
pub(super) fn what_frozen_blocks_put_out_is_kept(decoder: &Decoder, weights: Weights<f64>, batch: &Batch) {
    let n = weights.trained().len();
    let direction: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
    let all = |weights: Weights<f64>| {
        let mut work = decoder.workspace();
        let mut out = vec![0.0; n];
        let loss = decoder.loss_gradient(weights, batch, 0.7, &mut out, &mut work);
        decoder.gauss_newton(weights, &direction, 1e-3, batch, 0.3, &mut out, &mut work);
        (loss, out, decoder.row_losses(weights, batch, &mut work))
    };
    let whole = all(weights);
    let width = decoder.architecture.sizes.width;
    let one = 8 * (width * batch.lengths[0]) as u64;
    let has_frozen_blocks = decoder.kept_blocks(weights) < decoder.architecture.sizes.layers;
    for (bytes, kept) in [(1 << 20, batch.lengths.len()), (one, 1), (0, 0)] {
        let entrances = Entrances::new(bytes);
        let first = all(weights.keeping(Some(&entrances)));
        assert_eq!(entrances.len(), if has_frozen_blocks { kept } else { 0 });
        assert_eq!(all(weights.keeping(Some(&entrances))), first);
        // sequences by themselves instead of stacked: sums of a few dozen terms of order one, in another order
        let close =
            |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10 * (1.0 + b.abs()));
        assert!(close(&[first.0], &[whole.0]) && close(&first.1, &whole.1) && close(&first.2, &whole.2));
    }
}

#[test]
fn blocks_that_are_computed_anew_give_the_same_bits() {
    for decoder in kinds() {
        let batch = batch();
        let y = point(&decoder);
        let list: Vec<f64> = y.iter().take(4 * 16).copied().collect();
        let adapters = decoder.adapters(&[Target::V], 1, 2.0).unwrap();
        let selection = decoder.select(&[Part::Block(1)]);
        let trained = selection.gather(&y);
        let of = |weights: Weights<'_, f64>| {
            let gradient = |recompute| {
                let mut work = decoder.workspace().with_threads(2);
                work.recompute = recompute;
                let mut g = vec![0.0; weights.trained().len()];
                // twice, so that what the first pass left behind is met
                for _ in 0..2 {
                    decoder.loss_gradient(weights, &batch, 0.7, &mut g, &mut work);
                }
                decoder.gauss_newton(weights, &g.clone(), 1e-3, &batch, 0.5, &mut g, &mut work);
                g
            };
            assert_eq!(gradient(true), gradient(false));
        };
        of((&y).into());
        of(Weights::with_trained(&y, &selection, &trained));
        of(Weights::adapted(&y, &adapters, &list[..adapters.len()]));
    }
}

#[test]
fn a_session_gives_the_logits_of_the_whole_sequence() {
    for decoder in kinds() {
        let y = point(&decoder);
        let tokens = [1, 5, 3, 3, 10, 0, 2, 7];
        let all =
            Batch { tokens: tokens.to_vec(), lengths: vec![8], rows: (0..8).collect(), targets: vec![0; 8] };
        let whole = decoder.logits(&y, &all, &mut decoder.workspace()).to_vec();
        let mut session = Session::new(&decoder, &y, 1);
        let mut sequence = session.sequence(3);
        let mut read = 0;
        for piece in [3, 1, 1, 3] {
            let logits = session.read(&mut [(&mut sequence, &tokens[read..read + piece])]);
            read += piece;
            for (a, b) in logits.iter().zip(&whole[(read - 1) * 11..]) {
                // sums of a few dozen terms of order one, in another order
                assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{read}: {a} {b}");
            }
        }
        assert_eq!(sequence.len(), 8);
    }
}

#[test]
fn sequences_that_are_read_together_do_not_see_each_other() {
    for decoder in kinds() {
        let y = point(&decoder);
        let texts: [&[u32]; 3] = [&[1, 5, 3, 3, 10, 0], &[2, 7, 7], &[9, 4, 1, 8, 6]];
        // how many tokens of each text every call reads; a text may pause, and begin later than others
        let calls = [[2, 0, 0], [1, 2, 0], [0, 1, 3], [3, 0, 2]];
        let mut session = Session::new(&decoder, &y, 1);
        let mut together = texts.map(|_| session.sequence(0));
        let mut alone = Session::new(&decoder, &y, 1);
        let mut begun = [0; 3];
        for call in calls {
            let each = together.iter_mut().zip(texts).zip(call.iter().zip(&mut begun));
            let mut news = Vec::new();
            for ((sequence, text), (&count, begun)) in each {
                if count > 0 {
                    news.push((sequence, &text[*begun..*begun + count]));
                    *begun += count;
                }
            }
            let logits = session.read(&mut news).to_vec();
            let read = (0..3).filter(|&i| call[i] > 0);
            assert_eq!(logits.len(), 11 * news.len());
            for (i, row) in read.zip(logits.chunks_exact(11)) {
                let expected = alone.read(&mut [(&mut alone.sequence(6), &texts[i][..begun[i]])]).to_vec();
                for (a, b) in row.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "text {i}: {a} {b}");
                }
            }
        }
        assert_eq!(together.map(|sequence| sequence.len()), [6, 3, 5]);
    }
}

#[test]
fn a_sequence_does_not_see_its_neighbours_or_its_future() {
    for decoder in kinds() {
        let mut batch = batch();
        let y = point(&decoder);
        let before = decoder.row_losses(&y, &batch, &mut decoder.workspace());
        batch.tokens[5] = 8; // after rows 2, 3, 4; before row 6
        let after = decoder.row_losses(&y, &batch, &mut decoder.workspace());
        for (row, (a, b)) in batch.rows.iter().zip(before.iter().zip(&after)) {
            assert_eq!(a == b, *row != 6, "row {row}: {a} {b}");
        }
    }
}

/// Σ_rows of the variance of J v under π, which is ⟨v, H_GN v⟩; J v by a central difference of the logits.
pub fn variance_of_the_tangent(decoder: &Decoder, y: &[f64], v: &[f64], h: f64, batch: &Batch) -> f64 {
    let at = |s: f64| -> Vec<f64> {
        let moved: Vec<f64> = y.iter().zip(v).map(|(y, d)| y + s * h * d).collect();
        decoder.logits(&moved, batch, &mut decoder.workspace()).to_vec()
    };
    let tangent: Vec<f64> = at(1.0).iter().zip(at(-1.0)).map(|(a, b)| (a - b) / (2.0 * h)).collect();
    let mut sum = 0.0;
    for (row, t) in at(0.0).chunks(11).zip(tangent.chunks(11)) {
        let mut p = row.to_vec();
        softmax(&mut p);
        let mean: f64 = p.iter().zip(t).map(|(p, t)| p * t).sum();
        sum += p.iter().zip(t).map(|(p, t)| p * (t - mean).powi(2)).sum::<f64>();
    }
    sum
}

#[test]
fn gauss_newton_is_symmetric_positive_and_the_hessian_of_a_linearised_model() {
    let (decoder, batch) = (tiny(), batch());
    let y = point(&decoder);
    let mut w = decoder.workspace();
    let mut stream = Stream::new(5, 0);
    let mut random = || -> Vec<f64> { (0..y.len()).map(|_| stream.normal()).collect() };
    let (u, v) = (random(), random());
    let mut product = |v: &[f64]| {
        let mut out = vec![0.0; y.len()];
        decoder.gauss_newton(&y, v, 1e-5, &batch, 1.0, &mut out, &mut w);
        out
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (hu, hv) = (product(&u), product(&v));
    // J v carries the truncation h²·|v|³ of its difference
    assert!((dot(&u, &hv) - dot(&v, &hu)).abs() < 1e-5 * dot(&u, &hu).abs());
    let expected = variance_of_the_tangent(&decoder, &y, &v, 1e-5, &batch);
    assert!((dot(&v, &hv) - expected).abs() < 1e-6 * expected);
}

#[test]
fn single_precision_follows_double_precision() {
    let (decoder, batch) = (tiny(), batch());
    let y = point(&decoder);
    let single: Vec<f32> = y.iter().map(|&a| a as f32).collect();
    let a = decoder.row_losses(&y, &batch, &mut decoder.workspace());
    let b = decoder.row_losses(&single, &batch, &mut decoder.workspace());
    for (a, b) in a.iter().zip(&b) {
        // 2^-24 relative in logits of order 10, through a few dozen operations
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn the_fast_exponential_is_exact_to_three_units() {
    for i in 0..87_000 {
        let x = -(i as f32) / 1000.0;
        let (fast, exact) = (f64::from(x.exp_nonpositive()), f64::from(x).exp());
        assert!((fast - exact).abs() <= 3.0 * 1.2e-7 * exact, "{x}: {fast} {exact}");
    }
}

#[test]
fn tensors_tile_the_parameters() {
    for decoder in kinds() {
        let mut end = 0;
        for tensor in decoder.tensors() {
            assert_eq!(tensor.range.start, end, "{}", tensor.name);
            assert_eq!(tensor.range.len(), tensor.shape.iter().product::<usize>(), "{}", tensor.name);
            end = tensor.range.end;
        }
        assert_eq!(end, decoder.parameters());
    }
}

#[test]
fn a_device_changes_rounding_alone_and_nothing_in_doubles() {
    for decoder in kinds() {
        let batch = batch();
        let y = point(&decoder);
        let singles: Vec<f32> = y.iter().map(|&a| a as f32).collect();
        let device = Plain::good();
        let calls = device.calls.clone();
        let device = Arc::new(Accelerator::new(Box::new(device)).unwrap().for_all_products());
        let tried = calls.load(Ordering::Relaxed);
        let of_doubles = |mut work: Workspace<f64>| {
            let mut g = vec![0.0; y.len()];
            (decoder.loss_gradient(&y, &batch, 0.7, &mut g, &mut work), g)
        };
        let (exact_loss, exact) = of_doubles(decoder.workspace());
        assert_eq!(of_doubles(decoder.workspace().on(Some(device.clone()))), (exact_loss, exact.clone()));
        assert_eq!(calls.load(Ordering::Relaxed), tried);
        let mut g = vec![0.0_f32; y.len()];
        let mut work = decoder.workspace().on(Some(device));
        let loss = decoder.loss_gradient(&singles, &batch, 0.7, &mut g, &mut work);
        // queries and keys, output, up, down of each block and the head, forward and twice backward
        assert_eq!(calls.load(Ordering::Relaxed) - tried, 3 * (4 * SIZES.layers + 1));
        // a few hundred roundings of 2^-24 one upon the other, in parameters of order 1
        assert!((loss - exact_loss).abs() < 1e-4 * exact_loss, "{loss} {exact_loss}");
        let scale = exact.iter().fold(0.0_f64, |m, a| m.max(a.abs()));
        for (a, b) in g.iter().zip(&exact) {
            assert!((f64::from(*a) - b).abs() < 1e-4 * scale, "{a} {b}");
        }
    }
}
