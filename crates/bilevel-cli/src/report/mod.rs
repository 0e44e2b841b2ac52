//! `report.html`: what a run found, in one static file that can be mailed, printed and opened years later.
//!
//! Measuring and drawing are apart: everything drawn is read from the files of a result folder, so a report can be
//! drawn again at any time, and no run waits for it. The readers are lenient: a file or a number that is not there
//! leaves its part of the page out, or a gap in its line.

mod axis;
mod bench;
mod chart;
mod page;
mod peers;
mod reweight;
mod solve;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;

use axis::{count, significant};
pub use peers::Peers;

/// Draws `report.html` of a result folder of `bilevel reweight` from its `weights.json`, `trace.jsonl` and
/// `timings.json`, and returns its path. Without the latter two the parts that need them are left out.
pub fn reweight(dir: &Path) -> Result<PathBuf> {
    let result = json(&dir.join("weights.json"))?.ok_or_else(|| missing(&dir.join("weights.json")))?;
    let timings = json(&dir.join("timings.json"))?.unwrap_or_default();
    write(dir, &reweight::page(&result, &lines(&dir.join("trace.jsonl"))?, &timings))
}

/// Draws `report.html` of a result folder of `bilevel solve` from its `trace.jsonl`, `result.json`, `times.jsonl` and
/// `recipe.toml`, and returns its path. Only the trace is needed.
pub fn solve(dir: &Path) -> Result<PathBuf> {
    let trace = dir.join("trace.jsonl");
    if !trace.exists() {
        return Err(missing(&trace));
    }
    let result = json(&dir.join("result.json"))?.unwrap_or_default();
    let recipe = fs::read_to_string(dir.join("recipe.toml")).unwrap_or_default();
    write(dir, &solve::page(&result, &lines(&trace)?, &lines(&dir.join("times.jsonl"))?, &recipe))
}

/// Draws `report.html` of a result folder of `bilevel bench` from its `summary.json` and `results.jsonl`, and of its
/// `peers.json` where there is one, and returns its path.
pub fn bench(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("summary.json");
    let summary = json(&path)?.ok_or_else(|| missing(&path))?;
    let peers = dir.join("peers.json");
    let peers = if peers.exists() { Some(Peers::read(&peers)?) } else { None };
    write(dir, &bench::page(&summary, &lines(&dir.join("results.jsonl"))?, peers.as_ref()))
}

fn missing(path: &Path) -> anyhow::Error {
    anyhow!("{} is missing; give the result folder of a run that has ended", path.display())
}

/// A JSON file; `None` when there is none.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).map(Some).map_err(|error| {
        anyhow!(
            "{}: {error}; the file is damaged or of another program, run again to replace it",
            path.display()
        )
    })
}

/// A file of JSON lines; empty when there is none. A last line without its end, cut off by a crash, is left out.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| anyhow!("{}, line {}: {error}", path.display(), index + 1))
        })
        .collect()
}

fn write(dir: &Path, html: &str) -> Result<PathBuf> {
    let path = dir.join("report.html");
    fs::write(&path, html).with_context(|| {
        format!("{} cannot be written; check that its folder is writable and has room", path.display())
    })?;
    Ok(path)
}

/// The number, or NaN where the file has none.
fn or_nan(number: Option<f64>) -> f64 {
    number.unwrap_or(f64::NAN)
}

/// Mean and standard deviation (n − 1) of the finite ones among some numbers; NaN where there are too few.
fn mean_sd(numbers: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let numbers: Vec<f64> = numbers.into_iter().filter(|x| x.is_finite()).collect();
    let n = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / n;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, if numbers.len() > 1 { variance.sqrt() } else { f64::NAN })
}

/// `mean ± spread` on one line, or the mean alone.
fn plus_minus(mean: f64, spread: f64, digits: usize) -> String {
    if spread.is_finite() {
        // The spread says how many decimals of the mean are worth printing.
        let decimals =
            if spread > 0.0 { (1.0 - spread.log10().floor()).clamp(0.0, 6.0) as usize } else { digits };
        format!("{mean:.decimals$}\u{a0}±\u{a0}{spread:.decimals$}").replace('-', "−")
    } else {
        significant(mean, digits)
    }
}

/// Every n-th of many points and the last, so that a chart of a long run stays small.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const MOST: usize = 800;
    let every = points.len().div_ceil(MOST).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last).map(|(_, p)| p).collect()
}

/// Seconds in the unit that people would use.
fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "–".into(),
        s if s < 100.0 => format!("{} s", significant(s, 3)),
        s if s < 6000.0 => format!("{} min", significant(s / 60.0, 3)),
        s => format!("{} h", count(s / 3600.0)),
    }
}
