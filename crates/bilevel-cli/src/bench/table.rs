//! The measurements as one flat table.

use std::{collections::BTreeSet, fmt::Write};

use bilevel::oracles::Tally;

use super::Finished;

/// One line per measurement, comma-separated, with a heading; numbers that are not known are empty.
pub fn csv(finished: &[Finished]) -> String {
    let rows = || finished.iter().flat_map(|run| run.outcome.rows.iter().map(move |row| (run, row)));
    let names: BTreeSet<&str> = rows().flat_map(|(_, row)| row.metrics.keys().map(String::as_str)).collect();
    let mut text = String::from("problem,solver,seed,end,step,seconds,gradient_equivalents");
    for level in ["upper", "lower"] {
        for kind in ["value", "grad_x", "grad_y", "hvp_yy", "jvp_xy", "samples"] {
            let _ = write!(text, ",{level}_{kind}");
        }
    }
    for name in &names {
        let _ = write!(text, ",{name}");
    }
    text.push('\n');
    for (run, row) in rows() {
        let _ = write!(
            text,
            "{},{},{},{},{},{},{}",
            quoted(&run.problem),
            quoted(&run.solver),
            run.outcome.key.seed,
            run.outcome.end,
            row.step,
            row.seconds,
            row.counts.gradient_equivalents()
        );
        for Tally { value, grad_x, grad_y, hvp_yy, jvp_xy, samples } in [row.counts.upper, row.counts.lower] {
            let _ = write!(text, ",{value},{grad_x},{grad_y},{hvp_yy},{jvp_xy},{samples}");
        }
        for name in &names {
            match row.metrics.get(*name) {
                Some(number) => drop(write!(text, ",{number}")),
                None => text.push(','),
            }
        }
        text.push('\n');
    }
    text
}

/// A field in quotes where it needs them (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_commas_stay_one_field() {
        assert_eq!(quoted("F2BA, lambda 10"), "\"F2BA, lambda 10\"");
        assert_eq!(quoted("say \"hg-ms\""), "\"say \"\"hg-ms\"\"\"");
        assert_eq!(quoted("V2"), "V2");
    }
}
