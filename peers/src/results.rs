//! What was found, as a file and as tables.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

/// Median with least and largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Least.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Largest.
    pub high: f64,
}

impl Spread {
    /// Of some numbers; `None` of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { low, median, high })
    }
}

/// Steps of one solver against one statement of the other side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Race {
    /// Name of the workload.
    pub workload: String,
    /// Solver.
    pub solver: String,
    /// The other statement.
    pub other: String,
    /// Steps in a repetition.
    pub steps: u64,
    /// Seconds of the other side by ours, repetition by repetition.
    pub ratio: Spread,
    /// The least ratio that is aimed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<f64>,
    /// Microseconds of a step, ours and the other's; of this machine, so not for publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microseconds: Option<[Spread; 2]>,
}

/// From the start of a process to its first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// Name of the workload.
    pub workload: String,
    /// Solver.
    pub solver: String,
    /// The other statement.
    pub other: String,
    /// Seconds of the other side by ours.
    pub ratio: Spread,
    /// Whether ours takes less than a tenth of a second.
    pub is_below_a_tenth_of_a_second: bool,
    /// Seconds, ours and the other's; of this machine, so not for publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<[Spread; 2]>,
}

/// Whether both sides compute the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Name of the workload.
    pub workload: String,
    /// What was compared.
    pub what: String,
    /// Largest difference, relative to 1 + the norm.
    pub difference: f64,
    /// The largest that rounding explains.
    pub allowed: f64,
}

/// One hypergradient by one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hypergradient {
    /// Name of the workload.
    pub workload: String,
    /// Library and method.
    pub method: String,
    /// F.
    pub value: Option<f64>,
    /// |∇_y g| at its lower solution.
    pub lower_gradient: Option<f64>,
    /// Relative error of ∇F against each lawful answer, by its name; `None`: not a number.
    pub errors: BTreeMap<String, Option<f64>>,
    /// Words of warning.
    pub warnings: Vec<String>,
    /// Its seconds by ours, where times are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Spread>,
}

/// Everything of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this file's form.
    pub schema: u32,
    /// Versions of everything that ran.
    pub versions: BTreeMap<String, String>,
    /// Threads of each side.
    pub threads: usize,
    /// Repetitions of each side, in turns.
    pub repetitions: usize,
    /// The workloads in words.
    pub workloads: BTreeMap<String, String>,
    /// Times of steps.
    pub races: Vec<Race>,
    /// Times of cold starts.
    pub cold: Vec<Cold>,
    /// Agreement.
    pub agreement: Vec<Agreement>,
    /// Hypergradients.
    pub hypergradients: Vec<Hypergradient>,
}

impl Results {
    /// The same without numbers that belong to one machine.
    #[must_use]
    pub fn ratios_only(mut self) -> Self {
        self.races.iter_mut().for_each(|race| race.microseconds = None);
        self.cold.iter_mut().for_each(|cold| cold.seconds = None);
        self
    }

    /// Comparisons that differ by more than rounding explains.
    pub fn disagreements(&self) -> impl Iterator<Item = &Agreement> {
        // a difference that is not a number agrees with nothing
        self.agreement.iter().filter(|a| a.difference.is_nan() || a.difference > a.allowed)
    }

    /// Tables for people.
    pub fn in_words(&self) -> String {
        let mut text = String::new();
        for race in &self.races {
            if text.is_empty() {
                let _ = writeln!(
                    text,
                    "{:<16} {:<6} {:<28} {:>9} {:>17} {:>6} {:>11} {:>11}",
                    "workload", "solver", "other", "ratio", "least…largest", "aim", "ours µs", "other µs"
                );
            }
            let Spread { low, median, high } = race.ratio;
            let aim = race.aim.map_or_else(String::new, |aim| format!("{aim:.2}"));
            let [ours, theirs] = race
                .microseconds
                .map_or_else(Default::default, |both| both.map(|s| format!("{:.1}", s.median)));
            let _ = writeln!(
                text,
                "{:<16} {:<6} {:<28} {median:>9.2} {:>17} {aim:>6} {ours:>11} {theirs:>11}",
                race.workload,
                race.solver,
                race.other,
                format!("{low:.2}…{high:.2}"),
            );
        }
        if !self.cold.is_empty() {
            let _ = writeln!(text, "\nfrom the start of the process to the first step");
        }
        for cold in &self.cold {
            let Spread { low, median, high } = cold.ratio;
            let seconds = cold.seconds.map_or_else(String::new, |[ours, theirs]| {
                format!("{:.3} s and {:.2} s", ours.median, theirs.median)
            });
            let _ = writeln!(
                text,
                "{:<16} {:<6} {:<28} {median:>9.0} {:>17}  {seconds}",
                cold.workload,
                cold.solver,
                cold.other,
                format!("{low:.0}…{high:.0}"),
            );
        }
        if !self.hypergradients.is_empty() {
            let _ = writeln!(text, "\nhypergradients");
        }
        for row in &self.hypergradients {
            let number = |n: Option<f64>| n.map_or_else(|| "–".into(), |n| format!("{n:.1e}"));
            let errors: Vec<String> =
                row.errors.iter().map(|(name, error)| format!("{name} {}", number(*error))).collect();
            let ratio =
                row.ratio.map_or_else(String::new, |ratio| format!("; seconds by ours {:.2}", ratio.median));
            let _ = writeln!(
                text,
                "{:<18} {:<28} |∇_y g| {}; error against {}{ratio}{}",
                row.workload,
                row.method,
                number(row.lower_gradient),
                errors.join(", "),
                if row.warnings.is_empty() {
                    String::new()
                } else {
                    format!("; {}", row.warnings.join("; "))
                }
            );
        }
        let worst = self.agreement.iter().map(|a| a.difference / a.allowed).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "\nboth sides agree in {} of {} comparisons; the worst uses {:.0} % of what rounding explains",
            self.agreement.len() - self.disagreements().count(),
            self.agreement.len(),
            100.0 * worst
        );
        for a in self.disagreements() {
            let _ = writeln!(
                text,
                "  {} {}: {:.1e}, allowed {:.1e}",
                a.workload, a.what, a.difference, a.allowed
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_between_its_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { low: 1.0, median: 2.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { low: 1.0, median: 2.5, high: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_difference_that_is_not_a_number_is_a_disagreement() {
        let of =
            |difference| Agreement { workload: "w".into(), what: "f".into(), difference, allowed: 1e-12 };
        let results = Results {
            schema: 1,
            versions: BTreeMap::new(),
            threads: 2,
            repetitions: 5,
            workloads: BTreeMap::new(),
            races: Vec::new(),
            cold: Vec::new(),
            agreement: vec![of(1e-13), of(f64::NAN), of(1e-11)],
            hypergradients: Vec::new(),
        };
        assert_eq!(results.disagreements().count(), 2);
        assert!(results.in_words().contains("agree in 1 of 3"));
    }
}
