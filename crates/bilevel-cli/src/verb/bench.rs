//! `bilevel bench`

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Args;

use crate::{
    bench::{
        Bench,
        experiment::{Experiment, level_in_words},
        summary::Summary,
    },
    exit::{Exit, usage},
    interrupt,
    output::Output,
    recipe,
    report::Peers,
    run_folder,
};

const EXAMPLES: &str = "\
Examples:
  bilevel bench experiments/pl_game_v2.toml              the comparison that the file describes
  bilevel bench experiments/pl_game_v2.toml --threads 2  two runs at a time
  bilevel bench experiments/pl_game_v2.toml --seeds 0    one seed, to see how long it takes
  bilevel bench experiments/pl_game_v2.toml --peers target/peers/peers.json
                                                         with what `cargo xtask peers` measured of other software

Every run is kept in the result folder and done once: the same command goes on after an interruption, and does only
what a change of the file made new. Results: results.jsonl, results.csv, summary.json, report.html.";

/// Compare solvers on problems whose answer is known, at equal price
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchVerb {
    /// An experiment file
    experiment: PathBuf,
    /// Seeds in place of the file's
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    seeds: Option<Vec<u64>>,
    /// Runs at a time in place of the file's
    #[arg(long)]
    threads: Option<usize>,
    /// Shows in the report what `cargo xtask peers` wrote to this file: other software on the same problems
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Result folder; `runs/` and the name of the file without
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl BenchVerb {
    pub fn run(self, output: Output) -> Result<Exit> {
        let text = recipe::read(&self.experiment)?;
        let mut experiment = Experiment::parse(&self.experiment, &text)?;
        if let Some(seeds) = self.seeds {
            experiment.run.seeds = seeds;
        }
        if let Some(threads) = self.threads {
            experiment.run.threads = threads;
        }
        experiment.check()?;
        let out = self.out.or_else(|| experiment.run.out.clone()).unwrap_or_else(|| {
            let name = self.experiment.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            Path::new("runs").join(name.unwrap_or_else(|| "bench".into()))
        });
        // a wrong file is refused before anything runs
        let peers = self.peers.map(|path| Peers::read(&path).map(|_| path)).transpose()?;
        run(&experiment, &out, peers.as_deref(), output)
    }
}

/// Goes on with the experiment of a result folder.
pub fn resume(folder: &Path, path: &Path, text: &str, output: Output) -> Result<Exit> {
    run(&Experiment::parse(path, text)?, folder, None, output)
}

/// The experiment, with a file of `cargo xtask peers` copied into its folder, where every later report finds it.
fn run(experiment: &Experiment, out: &Path, peers: Option<&Path>, output: Output) -> Result<Exit> {
    let flag = interrupt::flag()?;
    let bench = Bench::new(experiment, out.to_owned(), &flag)?;
    std::fs::create_dir_all(out).map_err(|error| {
        usage(format!(
            "the result folder {} cannot be made: {error}; give a folder that can be written with --out",
            out.display()
        ))
    })?;
    run_folder::write(&out.join("recipe.toml"), toml::to_string(experiment)?.as_bytes())?;
    if let Some(peers) = peers {
        run_folder::write(&out.join("peers.json"), &std::fs::read(peers)?)?;
    }
    let Some(finished) = bench.run(output)? else {
        output.note(&format!("interrupted; go on with: bilevel resume {}", out.display()));
        return Ok(Exit::Interrupted);
    };
    let (summary, report) = bench.write(&finished)?;
    output.result(&in_words(&summary), &summary)?;
    output.note(&format!("report: {}", report.display()));
    let all_hold = summary.verdicts.iter().all(|verdict| verdict.holds);
    Ok(if all_hold { Exit::Done } else { Exit::Unconverged })
}

/// The summary for people: a table per problem, then what was expected.
fn in_words(summary: &Summary) -> String {
    let mut text = format!("{}\n", summary.title);
    let judge = &summary.judge;
    for problem in summary.problems() {
        let lines: Vec<_> = summary.lines.iter().filter(|line| line.problem == problem).collect();
        let width = lines.iter().map(|line| line.solver.chars().count()).max().unwrap_or(0).max(6);
        let _ = writeln!(text, "\n{problem}");
        let mut head = format!("{:width$}  {:>9}  {:>21}", "solver", judge.metric, "quartiles");
        for level in &judge.reach {
            let _ = write!(head, "  {:>9}", format!("to {}", level_in_words(*level)));
        }
        let _ = writeln!(text, "{head}  ends");
        for line in lines {
            let (median, spread) =
                line.metrics.get(&judge.metric).map_or(("–".into(), String::new()), |q| {
                    (format!("{:.3e}", q.median), format!("{:.2e} … {:.2e}", q.low, q.high))
                });
            let mut row = format!("{:width$}  {median:>9}  {spread:>21}", line.solver);
            for reached in &line.reached {
                let price = reached.price.map_or_else(|| "–".into(), |price| format!("{price:.0}"));
                let _ = write!(row, "  {price:>9}");
            }
            let ends: Vec<String> =
                line.ends.iter().map(|(end, count)| format!("{end} {count}/{}", line.seeds)).collect();
            let _ = writeln!(text, "{row}  {}", ends.join(", "));
        }
    }
    text.push_str(&format!("\nprices are medians over the seeds, in {}\n", judge.price.unit()));
    if !summary.verdicts.is_empty() {
        let held = summary.verdicts.iter().filter(|verdict| verdict.holds).count();
        let _ = writeln!(text, "\nexpected: {held} of {} hold", summary.verdicts.len());
        for verdict in summary.verdicts.iter().filter(|verdict| !verdict.holds) {
            let _ = writeln!(
                text,
                "  {} on {}: {} {} expected, found {}",
                verdict.solver, verdict.problem, verdict.metric, verdict.wanted, verdict.found
            );
        }
    }
    text
}
