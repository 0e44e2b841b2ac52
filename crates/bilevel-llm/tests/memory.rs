//! What passes and runs take of memory, measured against what is forecast.

use std::{fmt::Write as _, fs, sync::atomic::AtomicBool};

use bilevel::rng::Stream;
use bilevel_llm::{
    Recipe, Silent,
    model::{Architecture, Batch, BatchShape, Decoder, ModelSizes, Part, Weights},
    prepare, reweight,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes at the peak above what is held before.
fn peak<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    (result, (ALLOCATOR.peak_usage() - before) as u64)
}

/// Three sequences with every second position under the loss.
fn batch() -> Batch {
    let lengths = vec![100, 60, 120];
    let tokens: u32 = 280;
    Batch {
        tokens: (0..tokens).map(|t| t % 250).collect(),
        lengths,
        rows: (0..tokens).step_by(2).collect(),
        targets: (0..tokens).step_by(2).map(|t| (t + 1) % 250).collect(),
    }
}

/// Six sequences with every position under the loss, more than the head takes at once under a large vocabulary.
fn many_rows() -> Batch {
    let tokens: Vec<u32> = (0..720).collect();
    Batch { lengths: vec![120; 6], rows: tokens.clone(), targets: tokens.clone(), tokens }
}

/// One test, since the peak is that of the process.
#[test]
fn memory_is_as_forecast() {
    passes_take_what_their_numbers_say();
    the_logits_of_a_batch_are_never_whole();
    a_run_takes_no_more_than_forecast_and_most_of_it();
}

fn passes_take_what_their_numbers_say() {
    let sizes =
        ModelSizes { layers: 6, width: 64, heads: 4, kv_heads: 2, ffn: 176, context: 128, rope_base: 1e4 };
    let decoder = Decoder::of(Architecture::llama(sizes, 258));
    let y: Vec<f32> = decoder.initial(&mut Stream::new(1, 0));
    let batch = batch();
    let shape = BatchShape::of(&batch);
    let selection = decoder.select(&[Part::Block(4), Part::Block(5)]);
    let trained = selection.gather(&y);
    let (all, part) = (Weights::from(&y), Weights::with_trained(&y, &selection, &trained));
    let mut measured = Vec::new();
    for (weights, kept) in [(all, 6), (part, 2)] {
        for recompute in [false, true] {
            let mut g = vec![0.0; weights.trained().len()];
            let ((), bytes) = peak(|| {
                let mut work = decoder.workspace();
                work.recompute = recompute;
                decoder.loss_gradient(weights, &batch, 1.0, &mut g, &mut work);
            });
            // with everything kept nothing passes
            let unused = if kept == 6 && !recompute { decoder.kept_numbers(1, false, shape) } else { 0 };
            let numbers = decoder.kept_numbers(kept, recompute, shape)
                + decoder.passing_numbers(shape)
                + decoder.backward_numbers(shape)
                - unused;
            let ratio = bytes as f64 / (4 * numbers) as f64;
            // norms' scales, cosines, losses and the scores of one sequence are not counted
            assert!((0.97..1.1).contains(&ratio), "{kept} blocks, {recompute}: {ratio}");
            measured.push(bytes);
        }
    }
    // one block's values and six inputs instead of six blocks' values
    assert!(measured[1] * 3 < measured[0], "{measured:?}");
}

fn the_logits_of_a_batch_are_never_whole() {
    let sizes =
        ModelSizes { layers: 1, width: 32, heads: 2, kv_heads: 2, ffn: 64, context: 128, rope_base: 1e4 };
    let decoder = Decoder::of(Architecture::llama(sizes, 20_000));
    let y: Vec<f32> = decoder.initial(&mut Stream::new(1, 0));
    let batch = many_rows();
    let shape = BatchShape::of(&batch);
    let selection = decoder.select(&[Part::Block(0)]);
    let trained = selection.gather(&y);
    let logits = shape.rows * 20_000;
    for weights in [Weights::from(&y), Weights::with_trained(&y, &selection, &trained)] {
        let n = weights.trained().len();
        let (v, mut g) = (vec![0.1; n], vec![0.0; n]);
        let numbers = decoder.passing_numbers(shape) + decoder.backward_numbers(shape);
        let ((), gradient) = peak(|| {
            decoder.loss_gradient(weights, &batch, 1.0, &mut g, &mut decoder.workspace());
        });
        assert!((0.9..1.1).contains(&(gradient as f64 / (4 * numbers) as f64)), "{gradient} {numbers}");
        let (_, losses) = peak(|| decoder.row_losses(weights, &batch, &mut decoder.workspace()));
        let ((), product) = peak(|| {
            decoder.gauss_newton(weights, &v, 0.1, &batch, 1.0, &mut g, &mut decoder.workspace());
        });
        let curved =
            numbers + decoder.kept_numbers(1, false, shape) + decoder.tangent_numbers(weights, shape);
        let ratio = product as f64 / (4 * curved) as f64;
        assert!((0.85..1.1).contains(&ratio), "{product} {curved}");
        assert!([gradient, losses].iter().all(|bytes| *bytes < 2 * logits), "{gradient} {losses} {logits}");
    }
}

fn a_run_takes_no_more_than_forecast_and_most_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let lines = |seed: u64, count: usize| {
        let mut stream = Stream::new(seed, 0);
        (0..count).fold(String::new(), |mut text, _| {
            let letters: String = (0..60).map(|_| char::from(b'a' + stream.below(26) as u8)).collect();
            let _ =
                writeln!(text, "{{\"prompt\":\"{}\",\"response\":\"{}\"}}", &letters[..30], &letters[30..]);
            text
        })
    };
    for (name, count) in [("a", 60), ("b", 60), ("v", 40), ("t", 40)] {
        fs::write(folder.path().join(format!("{name}.jsonl")), lines(count as u64, count)).unwrap();
    }
    let mut measured = Vec::new();
    for (method, recompute) in [("uniform", false), ("f2ba", false), ("hg-ms", false), ("hg-ms", true)] {
        let text = format!(
            "[run]\nbudget = 40000\nseeds = [1]\nthreads = 1\ncheckpoint_every = 1000\n[model]\nlayers = 4\nwidth = 96\nheads = 4\nkv_heads = 2\nffn = 256\ncontext = 96\n\
             [train]\nbatch = 4\nrecompute = {recompute}\n[evaluate]\nsource_examples = 0\n[reweight]\nmethods = [\"{method}\"]\ncycle = 5\ncontinuation_steps = 2\nvalidation_batch = 16\nsource_batch = 8\ncurvature_batch = 8\ncg_steps = 2\n\
             [[source]]\nname = \"a\"\npath = \"a.jsonl\"\n[[source]]\nname = \"b\"\npath = \"b.jsonl\"\n[validation]\npath = \"v.jsonl\"\n[test]\npath = \"t.jsonl\"\n"
        );
        let mut recipe = Recipe::parse(&text, folder.path()).unwrap();
        recipe.run.out = folder.path().join(format!("{method}-{recompute}"));
        let forecast = prepare(&recipe).unwrap().forecast().memory;
        let (_, bytes) = peak(|| reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap());
        let ratio = bytes as f64 / forecast as f64;
        // tokenizer, texts and pieces of a checkpoint while it is written are not counted
        assert!((0.9..1.1).contains(&ratio), "{method}, {recompute}: {bytes} bytes, {forecast} forecast");
        measured.push(bytes as f64);
    }
    // the solve takes less than a second copy of model and optimiser
    let [one, two, hg_ms, _] = measured[..] else { unreachable!("four runs") };
    assert!(one < hg_ms && hg_ms < 0.98 * two, "{measured:?}");
}
