//! One training step again and again, for `peers/python/training_step.py`, which runs the same step in PyTorch in turns.
//!
//! `cargo run --release -p bilevel-llm --example training_step -- FOLDER THREADS` writes the model's shape, parameters and
//! tokens into the folder, then answers each line of standard input: `gradient` with the loss at the start, and its gradient
//! in the folder; `steps N` with the seconds of N steps; `memory` with the largest resident size in bytes.

use std::{
    error::Error,
    fs,
    io::{BufRead, Write, stdin, stdout},
    path::Path,
    time::Instant,
};

use bilevel::rng::Stream;
use bilevel_llm::{
    model::{Batch, Decoder, ModelSizes},
    recipe::TrainSpec,
    train::{Network, Trained},
};
use serde_json::json;

const SIZES: ModelSizes =
    ModelSizes { layers: 4, width: 256, heads: 4, kv_heads: 4, ffn: 688, context: 128, rope_base: 1e4 };
const VOCABULARY: usize = 8192;
const SEQUENCES: usize = 8;

/// Sequences of random tokens, every position under the loss.
fn batch() -> Batch {
    let (mut stream, rows) = (Stream::new(1, 1), SEQUENCES * SIZES.context);
    let mut draw =
        |count: usize| -> Vec<u32> { (0..count).map(|_| stream.below(VOCABULARY as u64) as u32).collect() };
    Batch {
        tokens: draw(rows),
        lengths: vec![SIZES.context; SEQUENCES],
        rows: (0..rows as u32).collect(),
        targets: draw(rows),
    }
}

fn write_numbers(path: &Path, numbers: &[f32]) -> std::io::Result<()> {
    fs::write(path, numbers.iter().flat_map(|a| a.to_le_bytes()).collect::<Vec<u8>>())
}

/// The largest resident size so far, where the system says it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, threads] = &arguments[..] else {
        return Err("give a folder and a number of threads".into());
    };
    let folder = Path::new(folder);
    let decoder = Decoder::new(SIZES, VOCABULARY);
    let batch = batch();
    let start = decoder.initial(&mut Stream::new(1, 0));
    let tensors: Vec<_> = decoder
        .tensors()
        .into_iter()
        .map(|t| json!({"name": t.name, "shape": t.shape, "start": t.range.start}))
        .collect();
    let architecture = &decoder.architecture;
    let shape = json!({
        "layers": SIZES.layers, "width": SIZES.width, "heads": SIZES.heads, "ffn": SIZES.ffn,
        "context": SIZES.context, "rope_base": SIZES.rope_base, "vocabulary": VOCABULARY,
        "norm_epsilon": architecture.norm_epsilon, "tokens": batch.tokens, "targets": batch.targets,
        "parameters": start.len(), "tensors": tensors,
    });
    fs::write(folder.join("shape.json"), shape.to_string())?;
    write_numbers(&folder.join("parameters.f32"), &start)?;

    let spec = TrainSpec::default();
    let mut work = decoder.workspace().with_threads(threads.parse()?);
    let mut network = Network::new(Trained::All, start);
    let mut gradient = vec![0.0; network.y.len()];
    let scale = 1.0 / batch.rows.len() as f64;
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["gradient"] => {
                gradient.fill(0.0);
                let loss = decoder.loss_gradient(&network.y, &batch, scale, &mut gradient, &mut work) * scale;
                write_numbers(&folder.join("gradient.f32"), &gradient)?;
                loss.to_string()
            }
            ["steps", count] => {
                let began = Instant::now();
                for _ in 0..count.parse::<u64>()? {
                    gradient.fill(0.0);
                    decoder.loss_gradient(&network.y, &batch, scale, &mut gradient, &mut work);
                    network.update(&decoder, &spec, spec.lr, &mut gradient);
                }
                began.elapsed().as_secs_f64().to_string()
            }
            ["memory"] => {
                peak_memory().ok_or("the system does not say how much memory is resident")?.to_string()
            }
            _ => return Err(format!("`{line}` is not asked here").into()),
        };
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}
