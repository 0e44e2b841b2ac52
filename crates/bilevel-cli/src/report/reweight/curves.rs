//! What is drawn over the tokens spent.

use std::{collections::BTreeMap, fmt::Write};

use super::super::{
    axis::Scale,
    chart::{LineChart, Series},
    mean_sd, or_nan,
    page::{escape, figure, pair, paragraph},
    thinned,
};
use super::{
    RETRAINING, SEARCH, UNITS,
    data::{Certificate, Outcome, Row},
};

pub fn weights_over_time(outcome: &Outcome, rows: &[Row]) -> String {
    let mut html = String::new();
    let (mut set_at_the_end, mut fixed) = (Vec::new(), Vec::new());
    for method in &outcome.methods {
        let search = part(rows, &method.method, SEARCH);
        if search.is_empty() {
            fixed.push(method.method.as_str());
            continue;
        }
        if !method.moved_weights() {
            set_at_the_end.push(method.method.as_str());
            continue;
        }
        let series = outcome.sources.iter().enumerate().map(|(i, source)| {
            with_band(&source.name, i, over_seeds(&search, |row| row.weights.get(i).copied().flatten()))
        });
        let chart = LineChart {
            title: format!("Weights over time, {}", method.method),
            x_label: UNITS.into(),
            y_label: "weight".into(),
            series: series.collect(),
            y_reaches: vec![0.0],
            ..LineChart::default()
        };
        let _ = writeln!(html, "<h3>{}</h3>", escape(&method.method));
        html +=
            &figure(&chart.svg(), "Line: mean over the seeds; band: one standard deviation over the seeds.");
    }
    if html.is_empty() {
        return paragraph("No method moved its weights, or the trace is missing.");
    }
    for (words, methods) in
        [("Weights set when the search had ended", set_at_the_end), ("Fixed weights from the start", fixed)]
    {
        if !methods.is_empty() {
            html += &paragraph(&format!("{words}: {}.", methods.join(", ")));
        }
    }
    html
}

/// Rows of a method and phase.
fn part<'a>(rows: &'a [Row], method: &str, phase: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.method == method && row.phase == phase).collect()
}

/// A line over the seeds: the mean of what is asked for, with its spread, against the mean of the tokens spent. The
/// k-th measurement of one seed goes with the k-th of the others, since the steps at which budgets are spent differ.
fn over_seeds(rows: &[&Row], number: impl Fn(&Row) -> Option<f64>) -> (Vec<(f64, f64)>, Vec<f64>) {
    let mut seeds: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        if let Some(value) = number(row) {
            seeds.entry(row.seed).or_default().push((or_nan(row.spent), value));
        }
    }
    let common = seeds.values().map(Vec::len).min().unwrap_or(0);
    (0..common)
        .map(|k| {
            let (spent, _) = mean_sd(seeds.values().map(|points| points[k].0));
            let (mean, sd) = mean_sd(seeds.values().map(|points| points[k].1));
            ((spent, mean), sd)
        })
        .unzip()
}

fn with_band(name: &str, colour: usize, (points, spread): (Vec<(f64, f64)>, Vec<f64>)) -> Series {
    const MOST: usize = 800;
    let every = points.len().div_ceil(MOST).max(1);
    let keep = |i: usize| i.is_multiple_of(every) || i + 1 == points.len();
    Series {
        name: name.into(),
        colour,
        band: points
            .iter()
            .zip(&spread)
            .enumerate()
            .filter(|(i, _)| keep(*i))
            .map(|(_, ((_, y), spread))| (y - spread, y + spread))
            .collect(),
        points: points.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, p)| *p).collect(),
        ..Series::default()
    }
}

/// A line without its first tenth of tokens, when enough is left: the steep fall of the start would hide all else.
pub fn without_start((points, spread): (Vec<(f64, f64)>, Vec<f64>)) -> (Vec<(f64, f64)>, Vec<f64>) {
    let end = points.last().map_or(0.0, |p| p.0);
    let from = points.iter().position(|p| p.0 >= 0.1 * end).unwrap_or(0);
    if points.len() < from + 4 {
        (points, spread)
    } else {
        (points[from..].to_vec(), spread[from..].to_vec())
    }
}

pub fn validation(outcome: &Outcome, rows: &[Row]) -> String {
    let chart = |phase: &str, title: &str| {
        let series: Vec<Series> = outcome
            .methods
            .iter()
            .map(|method| {
                let own = part(rows, &method.method, phase);
                let line = without_start(over_seeds(&own, |row| row.validation_loss));
                with_band(&method.method, outcome.colour(&method.method), line)
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        let is_any = !series.is_empty();
        let chart = LineChart {
            title: title.into(),
            x_label: UNITS.into(),
            y_label: "validation loss, nats per token".into(),
            series,
            ..LineChart::default()
        };
        is_any.then(|| chart.svg())
    };
    let mut html = String::new();
    if let Some(svg) = chart(RETRAINING, "Validation loss while retraining") {
        html += "<h3>Models trained with the final weights</h3>\n";
        html += &figure(
            &svg,
            "The fair comparison: the weights are fixed, and every method trains on the same number of tokens. Band: one standard deviation over the seeds. The first tenth, where every loss falls steeply, is left out.",
        );
    }
    if let Some(svg) = chart(SEARCH, "Validation loss during the search") {
        html += "<h3>Models of the search</h3>\n";
        html += &figure(
            &svg,
            "Models whose weights are being learned. The search pays for its hypergradients out of the same budget. The first tenth is left out.",
        );
    }
    if html.is_empty() { paragraph("The trace holds no validation losses.") } else { html }
}

pub fn certificate(outcome: &Outcome, rows: &[Row]) -> String {
    let mut html = String::new();
    for method in &outcome.methods {
        let cycles: Vec<&Row> =
            part(rows, &method.method, SEARCH).into_iter().filter(|row| row.certificate.is_some()).collect();
        if cycles.is_empty() {
            continue;
        }
        let line = |name: &str, colour, number: fn(&Certificate) -> Option<f64>| {
            let points = over_seeds(&cycles, |row| number(row.certificate.as_ref()?));
            Series { band: Vec::new(), ..with_band(name, colour, points) }
        };
        let silent: Vec<f64> = cycles
            .iter()
            .filter(|row| row.certificate.as_ref().is_some_and(|c| c.no_signal))
            .map(|row| or_nan(row.spent))
            .collect();
        let base =
            LineChart { x_label: UNITS.into(), y_scale: Scale::Log, is_half: true, ..LineChart::default() };
        let signal = LineChart {
            title: format!("Hypergradient and its noise, {}", method.method),
            y_label: "size".into(),
            series: vec![
                line("|G|", 0, |c| c.gradient_norm),
                Series { is_dashed: true, ..line("noise", 1, |c| c.noise) },
            ],
            marks: silent.clone(),
            ..base.clone()
        };
        let mut fit = vec![line("r", 2, |c| c.r)];
        let residual = line("residual", 3, |c| c.solve_residual);
        if !residual.points.is_empty() {
            fit.push(residual);
        }
        let fit = LineChart {
            title: format!("Relative size of the sources' gradients, {}", method.method),
            y_label: "r, and the relative residual of the linear solve".into(),
            series: fit,
            ..base
        };
        let _ = writeln!(html, "<h3>{}</h3>", escape(&method.method));
        html += &pair(&[
            figure(
                &signal.svg(),
                "The weights move only while the hypergradient |G| stands above its noise, which is the difference between two half-batches. A red tick marks a cycle without signal, in which they stayed.",
            ),
            figure(
                &fit.svg(),
                "r is the largest gradient of a source against that at the start. Near 0 the sources are fitted, and no weights can be told apart.",
            ),
        ]);
        html += &paragraph(&format!(
            "{} of {} cycles over all seeds had no signal above the noise.",
            silent.len(),
            cycles.len()
        ));
    }
    if html.is_empty() {
        paragraph("No method of this run measures a hypergradient, or the trace is missing.")
    } else {
        html
    }
}

pub fn source_losses(outcome: &Outcome, rows: &[Row]) -> String {
    let Some((method, own)) = outcome.main().into_iter().chain(&outcome.methods).find_map(|method| {
        [SEARCH, RETRAINING].into_iter().find_map(|phase| {
            let own = part(rows, &method.method, phase);
            own.iter().any(|row| !row.source_losses.is_empty()).then_some((method, own))
        })
    }) else {
        return paragraph("The trace holds no losses of single sources.");
    };
    let series = outcome.sources.iter().enumerate().map(|(i, source)| {
        let (points, _) = over_seeds(&own, |row| row.source_losses.get(i).copied().flatten());
        Series {
            name: source.name.clone(),
            colour: i,
            points: thinned(smoothed(&points)),
            ..Series::default()
        }
    });
    let chart = LineChart {
        title: "Training loss on each source".into(),
        x_label: UNITS.into(),
        y_label: "loss, nats per token".into(),
        series: series.collect(),
        ..LineChart::default()
    };
    figure(
        &chart.svg(),
        &format!(
            "Losses on the training batches of {}, mean over the seeds and over neighbouring steps.",
            method.method
        ),
    )
}

/// Means of neighbouring points, at most a hundred and fifty of them: single batches are noisy.
pub fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let block = points.len().div_ceil(150).max(1);
    points
        .chunks(block)
        .map(|c| (mean_sd(c.iter().map(|p| p.0)).0, mean_sd(c.iter().map(|p| p.1)).0))
        .collect()
}
