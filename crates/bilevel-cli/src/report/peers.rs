//! The part of a bench report that shows what `cargo xtask peers` measured: other software, timed in turns with ours.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::Result;
use serde::Deserialize;

use super::{
    axis::significant,
    page::{Cell, escape, paragraph, table},
};
use crate::exit::usage;

/// The newest form of the file that is understood.
const SCHEMA: u32 = 1;

/// The file, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub struct Peers {
    schema: u32,
    #[serde(default)]
    versions: BTreeMap<String, String>,
    #[serde(default)]
    threads: Option<u32>,
    #[serde(default)]
    repetitions: Option<u32>,
    #[serde(default)]
    workloads: BTreeMap<String, String>,
    #[serde(default)]
    races: Vec<Race>,
    #[serde(default)]
    cold: Vec<Race>,
    #[serde(default)]
    agreement: Vec<Agreement>,
    #[serde(default)]
    hypergradients: Vec<Hypergradient>,
}

#[derive(Clone, Debug, Deserialize)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Race {
    workload: String,
    solver: String,
    other: String,
    ratio: Spread,
    #[serde(default)]
    aim: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Agreement {
    difference: Option<f64>,
    allowed: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Hypergradient {
    workload: String,
    method: String,
    #[serde(default)]
    errors: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    ratio: Option<Spread>,
}

impl Peers {
    /// Reads a file that `cargo xtask peers` wrote.
    ///
    /// # Errors
    /// It is not there, not of this form, or of a later one.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            usage(format!("{}: {what}; give a file that `cargo xtask peers` wrote", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let peers: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if peers.schema > SCHEMA {
            return Err(wrong(format!(
                "schema = {} is of a later version, {SCHEMA} is known here",
                peers.schema
            )));
        }
        Ok(peers)
    }

    /// The section's HTML.
    pub fn section(&self) -> String {
        let mut html = paragraph(&self.lead());
        if !self.races.is_empty() {
            html += "<h3>Seconds of a warm step, theirs by ours</h3>\n";
            html += &races(&self.races);
        }
        if !self.cold.is_empty() {
            html += "<h3>From the start of the process to the first step</h3>\n";
            html += &races(&self.cold);
        }
        for workload in self.hypergradient_workloads() {
            let _ = writeln!(html, "<h3>One hypergradient of {}</h3>", escape(workload));
            html += &self.hypergradients(workload);
        }
        if !self.workloads.is_empty() {
            let items: Vec<String> = self
                .workloads
                .iter()
                .map(|(name, words)| format!("<li><b>{}</b>: {}</li>", escape(name), escape(words)))
                .collect();
            let _ = writeln!(html, "<ul>{}</ul>", items.concat());
        }
        html
    }

    fn lead(&self) -> String {
        let agree = self.agreement.iter().filter(|a| a.difference.is_some_and(|d| d <= a.allowed)).count();
        let mut text = String::from(
            "Both sides ran on one machine in turns, on the same data from the same start, every step's work done when its \
             clock stopped. A ratio is the median of theirs by ours over the repetitions, with the least and the largest; \
             above 1 ours is faster.",
        );
        if !self.agreement.is_empty() {
            let _ = write!(
                text,
                " Before they were timed, both computed the same within rounding in {agree} of {} comparisons.",
                self.agreement.len()
            );
        }
        if let (Some(threads), Some(repetitions)) = (self.threads, self.repetitions) {
            let _ = write!(text, " {repetitions} repetitions, {threads} threads each.");
        }
        if !self.versions.is_empty() {
            let versions: Vec<String> =
                self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            let _ = write!(text, " Versions: {}.", versions.join(", "));
        }
        text
    }

    /// Workloads with hypergradients, each once, in the file's order.
    fn hypergradient_workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.hypergradients.iter().map(|row| row.workload.as_str()).collect();
        names.dedup();
        names
    }

    fn hypergradients(&self, workload: &str) -> String {
        let rows: Vec<&Hypergradient> =
            self.hypergradients.iter().filter(|row| row.workload == workload).collect();
        let mut answers: Vec<&str> =
            rows.iter().flat_map(|row| row.errors.keys().map(String::as_str)).collect();
        answers.sort_unstable();
        answers.dedup();
        let is_timed = rows.iter().any(|row| row.ratio.is_some());
        let mut headings = vec!["method".to_owned()];
        headings.extend(answers.iter().map(|answer| format!("error against {answer}")));
        if is_timed {
            headings.push("seconds by ours".into());
        }
        headings.push("words of warning".into());
        let cells: Vec<Vec<Cell>> = rows
            .iter()
            .map(|row| {
                let mut cells = vec![Cell::Text(row.method.clone())];
                cells.extend(answers.iter().map(|answer| {
                    let error = row.errors.get(*answer).copied().flatten();
                    Cell::Number(significant(error.unwrap_or(f64::NAN), 2))
                }));
                if is_timed {
                    cells.push(Cell::Number(row.ratio.as_ref().map_or_else(|| "–".into(), spread)));
                }
                let words = if row.warnings.is_empty() { "none".into() } else { row.warnings.join("; ") };
                cells.push(Cell::Text(words));
                cells
            })
            .collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        table(&headings, &cells)
    }
}

fn spread(ratio: &Spread) -> String {
    let [low, median, high] = [ratio.low, ratio.median, ratio.high].map(|number| significant(number, 3));
    format!("{median} ({low} … {high})")
}

fn races(races: &[Race]) -> String {
    let has_aims = races.iter().any(|race| race.aim.is_some());
    let rows: Vec<Vec<Cell>> = races
        .iter()
        .map(|race| {
            let mut cells = vec![
                Cell::Text(race.workload.clone()),
                Cell::Text(race.solver.clone()),
                Cell::Text(race.other.clone()),
                Cell::Number(spread(&race.ratio)),
            ];
            if has_aims {
                cells.push(Cell::Html(match race.aim {
                    None => String::new(),
                    Some(aim) => {
                        let (class, word) =
                            if race.ratio.median >= aim { ("good", "reached") } else { ("bad", "missed") };
                        format!("{}: <b class=\"{class}\">{word}</b>", significant(aim, 2))
                    }
                }));
            }
            cells
        })
        .collect();
    let mut headings = vec!["problem", "solver", "other software", "ratio"];
    if has_aims {
        headings.push("aim");
    }
    table(&headings, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
      "schema": 1, "versions": {"bilevel": "0.1.0", "jax": "0.10.2"}, "threads": 2, "repetitions": 5,
      "workloads": {"quadratics": "1,024 terms <each>"},
      "races": [
        {"workload": "quadratics", "solver": "soba", "other": "jax f64", "steps": 512,
         "ratio": {"low": 5.5, "median": 6.25, "high": 7.0}, "aim": 5.0},
        {"workload": "ijcnn1", "solver": "soba", "other": "jax f32", "steps": 512,
         "ratio": {"low": 0.5, "median": 0.625, "high": 0.7}, "aim": 0.769}],
      "cold": [{"workload": "quadratics", "solver": "soba", "other": "jax f64", "is_below_a_tenth_of_a_second": true,
         "ratio": {"low": 80.0, "median": 90.0, "high": 99.0}}],
      "agreement": [
        {"workload": "quadratics", "what": "f", "difference": 1e-14, "allowed": 1e-12},
        {"workload": "quadratics", "what": "g", "difference": null, "allowed": 1e-12}],
      "hypergradients": [
        {"workload": "rotating-manifold", "method": "hg-ms", "value": 1.0, "lower_gradient": 1e-13,
         "errors": {"optimistic": 1.8e-12}, "warnings": []},
        {"workload": "rotating-manifold", "method": "other", "value": null, "lower_gradient": null,
         "errors": {"optimistic": null}, "warnings": ["it diverged"]}]
    }"#;

    fn peers() -> Peers {
        serde_json::from_str(FILE).unwrap()
    }

    #[test]
    fn ratios_and_whether_their_aims_are_reached_are_shown() {
        let html = peers().section();
        assert!(html.contains("6.25 (5.50 … 7.00)"), "{html}");
        assert!(html.contains("5.0: <b class=\"good\">reached</b>"), "{html}");
        assert!(html.contains("0.77: <b class=\"bad\">missed</b>"), "{html}");
        assert!(html.contains("90.0 (80.0 … 99.0)") && html.contains("jax 0.10.2"), "{html}");
        assert!(html.contains("1,024 terms &lt;each&gt;"), "{html}");
    }

    #[test]
    fn a_number_that_is_none_is_a_dash_and_agrees_with_nothing() {
        let html = peers().section();
        assert!(html.contains("1 of 2 comparisons"), "{html}");
        assert!(html.contains("1.8e−12") && html.contains("it diverged"), "{html}");
    }

    #[test]
    fn a_file_of_something_else_or_of_a_later_version_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.json");
        let refused = |text: Option<&str>| {
            text.inspect(|text| fs::write(&path, text).unwrap());
            format!("{:#}", Peers::read(&path).unwrap_err())
        };
        for error in [
            refused(None),
            refused(Some("[]")),
            refused(Some(&FILE.replace("\"schema\": 1", "\"schema\": 9"))),
        ] {
            assert!(error.contains("peers.json") && error.contains("cargo xtask peers"), "{error}");
        }
        fs::write(&path, FILE).unwrap();
        assert!(Peers::read(&path).is_ok());
    }
}
