//! The built-in demonstration from a program: writes its data, learns the weights, prints them with the test losses.
//! With a recipe, that one on the demonstration's data; with a data folder too, any recipe.
//!
//! `cargo run --release -p bilevel-llm --example demo -- FOLDER [RECIPE [DATA]]`

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use bilevel_llm::{
    ProgressEvent, Recipe,
    demo::{DEMO_RECIPE, Demo},
    prepare, reweight,
};

struct Lines;
impl bilevel_llm::Progress for Lines {
    fn report(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Started { parameters, warnings, .. } => {
                println!("{parameters} parameters");
                for warning in *warnings {
                    println!("warning: {warning}");
                }
            }
            ProgressEvent::Finished { method, seed, phase, seconds } => {
                println!("{method}, seed {seed}, {phase:?}: {seconds:.1} s");
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap_or_else(|| "runs/demo".into());
    let (recipe, data) = (arguments.next(), arguments.next());
    let demo_data = folder.join("data");
    if data.is_none() {
        Demo::default().write(&demo_data)?;
    }
    let mut recipe = match recipe {
        Some(path) => Recipe::load_with_data(&path, Some(&data.unwrap_or(demo_data)))?,
        None => Recipe::parse(DEMO_RECIPE, &demo_data)?,
    };
    recipe.run.out = folder;
    let forecast = prepare(&recipe)?.forecast();
    println!("about {} training steps, {:.0} s in all", forecast.steps, forecast.seconds);
    let began = Instant::now();
    let result = reweight(&recipe, &mut Lines, &AtomicBool::new(false))?;
    println!("{:.1} s", began.elapsed().as_secs_f64());
    for source in &result.sources {
        println!(
            "{:>12} {} tokens, {} under the loss",
            source.name, source.data.tokens, source.data.loss_tokens
        );
    }
    for method in &result.methods {
        println!(
            "{}: test loss {:.4} ± {:.4}",
            method.method,
            method.test_loss,
            method.test_loss_sd.unwrap_or(0.0)
        );
        for seed in &method.seeds {
            let weights: Vec<String> = seed.weights.iter().map(|w| format!("{w:.3}")).collect();
            println!(
                "  seed {}: {} | test {:.4}, accuracy {:.3}, online {:.4}, no signal in {} of {} cycles, {} steps",
                seed.seed,
                weights.join(" "),
                seed.test_loss,
                seed.test_accuracy,
                seed.online_test_loss.unwrap_or(f64::NAN),
                seed.no_signal,
                seed.cycles,
                seed.retraining.steps,
            );
        }
    }
    for c in &result.comparisons {
        println!(
            "{} against {}: {:+.4} ± {:.4} [{:+.4}, {:+.4}] {:?}",
            c.method, c.baseline, c.difference, c.standard_error, c.interval.0, c.interval.1, c.verdict
        );
    }
    Ok(())
}
