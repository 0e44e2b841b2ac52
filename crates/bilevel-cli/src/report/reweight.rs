//! The report of a reweighting run.

mod curves;
mod data;
mod evaluation;
mod predictions;
mod tables;

use std::fmt::Write;

use super::{
    axis::count,
    chart::{Dot, DotChart},
    duration, mean_sd, or_nan,
    page::{Cell, Page, escape, figure, paragraph, table},
    plus_minus,
};
use curves::{certificate, source_losses, validation, weights_over_time};
use data::{PerMethod, PerSeed, said};
use evaluation::evaluation;
use predictions::predictions;
use tables::{ledger, settings, sources};

pub use data::{Outcome, Row, Timings};

const SEARCH: &str = "search";
const RETRAINING: &str = "retraining";
const UNITS: &str = "tokens spent, in forward-token units";

/// The page.
pub fn page(outcome: &Outcome, rows: &[Row], timings: &Timings) -> String {
    let mut page = Page::new("Which data sources to train on", &lead(outcome));
    page.section("weights", "Final weights", &final_weights(outcome));
    page.section("methods", "Methods compared", &methods(outcome, timings));
    if let Some(html) = evaluation(outcome) {
        page.section("evaluation", "What the retrained models do", &html);
    }
    if let Some(html) = predictions(outcome) {
        page.section("predictions", "Expected and found", &html);
    }
    page.section("over-time", "Weights over time", &weights_over_time(outcome, rows));
    page.section("validation", "Validation loss against tokens", &validation(outcome, rows));
    page.section("certificate", "Certificate", &certificate(outcome, rows));
    page.section("source-losses", "Loss on each source", &source_losses(outcome, rows));
    page.section("ledger", "Token ledger", &ledger(outcome));
    page.section("sources", "Sources", &sources(outcome));
    page.section("settings", "Settings and versions", &settings(outcome));
    page.html()
}

fn lead(outcome: &Outcome) -> String {
    let mut html = String::new();
    let Some(main) = outcome.main() else {
        return paragraph("No method has ended yet.");
    };
    let mut ranked: Vec<_> = outcome
        .sources
        .iter()
        .zip(&main.weights)
        .filter_map(|(source, weight)| Some((weight.mean?, weight, source)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    if let Some((mean, weight, source)) = ranked.first() {
        let _ = write!(
            html,
            "<p class=\"lead\">{} puts most weight on <b>{}</b>, {}",
            escape(&main.method),
            escape(&source.name),
            plus_minus(*mean, or_nan(weight.sd), 3)
        );
        if let Some((mean, weight, source)) = ranked.last().filter(|_| ranked.len() > 1) {
            let share = plus_minus(*mean, or_nan(weight.sd), 3);
            let _ = write!(html, ", and least on <b>{}</b>, {share}", escape(&source.name));
        }
        html.push_str(".</p>\n");
    }
    for baseline in ["uniform", "proportional"] {
        if let Some(comparison) = outcome.comparison(&main.method, baseline) {
            let (class, words) = said(comparison.verdict);
            let _ = writeln!(
                html,
                "<p>Test loss against {baseline} weights at the same number of tokens: <b class=\"{class}\">{words}</b>, {} nats per token (± one standard error; paired over test examples and seeds).</p>",
                plus_minus(or_nan(comparison.difference), or_nan(comparison.standard_error), 3)
            );
        }
    }
    let (silent, cycles) = main
        .seeds
        .iter()
        .fold((0, 0), |(silent, cycles), seed| (silent + seed.no_signal, cycles + seed.cycles));
    html.push_str("<ul class=\"facts\">");
    let mut fact = |number: String, what: &str| {
        let _ = write!(html, "<li><b>{}</b><span>{}</span></li>", escape(&number), escape(what));
    };
    let loss = plus_minus(or_nan(main.test_loss), or_nan(main.test_loss_sd), 4);
    fact(loss, &format!("test loss of {}, nats per token", main.method));
    fact(count(or_nan(outcome.budget)), "token units for each method and seed");
    fact(
        format!("{}", outcome.seeds.len()),
        if outcome.seeds.len() == 1 { "seed: no noise bars" } else { "seeds" },
    );
    if cycles > 0 {
        fact(format!("{} of {cycles}", cycles - silent.min(cycles)), "cycles with a signal above the noise");
    }
    html.push_str("</ul>\n");
    html
}

fn final_weights(outcome: &Outcome) -> String {
    let rows = outcome.sources.iter().enumerate().map(|(i, source)| {
        let dots = outcome.methods.iter().enumerate().map(|(group, method)| {
            let weight = method.weights.get(i).copied().unwrap_or_default();
            let singles = method.seeds.iter().map(|s| or_nan(s.weights.get(i).copied().flatten())).collect();
            Dot { group, value: or_nan(weight.mean), spread: or_nan(weight.sd), singles }
        });
        (source.name.clone(), dots.collect())
    });
    let chart = DotChart {
        title: "Final weight of each source by each method".into(),
        x_label: "weight (share of the training loss)".into(),
        groups: outcome.methods.iter().map(|m| m.method.clone()).collect(),
        rows: rows.collect(),
        x_reaches: vec![0.0],
        x_most: Some(1.0),
    };
    let mut html = figure(
        &chart.svg(),
        "Large dot: mean over the seeds; bar: one standard deviation over the seeds to either side; small dots: single seeds.",
    );
    if !outcome.warnings.is_empty() {
        html.push_str("<h3>To know before using them</h3>\n<ul class=\"notes\">");
        for warning in &outcome.warnings {
            let _ = write!(html, "<li>{}</li>", escape(warning));
        }
        html.push_str("</ul>\n");
    }
    html
}

fn methods(outcome: &Outcome, timings: &Timings) -> String {
    let rows = outcome.methods.iter().enumerate().map(|(group, method)| {
        let singles = method.seeds.iter().map(|s| or_nan(s.test_loss)).collect();
        let dot =
            Dot { group, value: or_nan(method.test_loss), spread: or_nan(method.test_loss_sd), singles };
        (method.method.clone(), vec![dot])
    });
    let chart = DotChart {
        title: "Test loss of each method".into(),
        x_label: "test loss of models retrained with the final weights, nats per token (lower is better)"
            .into(),
        rows: rows.collect(),
        ..DotChart::default()
    };
    let against = |method: &str, baseline: &str| match outcome.comparison(method, baseline) {
        Some(comparison) => {
            let (class, words) = said(comparison.verdict);
            let number = plus_minus(or_nan(comparison.difference), or_nan(comparison.standard_error), 3);
            Cell::Html(format!("<b class=\"{class}\">{words}</b><br><span class=\"soft\">{number}</span>"))
        }
        None => Cell::Html("<span class=\"soft\">–</span>".into()),
    };
    let spent = |method: &PerMethod| {
        let mean = |part: fn(&PerSeed) -> Option<f64>| mean_sd(method.seeds.iter().filter_map(part)).0;
        let search = mean(|seed| seed.search.as_ref()?.spent);
        let retraining = short_count(mean(|seed| seed.retraining.as_ref()?.spent));
        Cell::Number(if search.is_finite() {
            format!("{} + {retraining}", short_count(search))
        } else {
            retraining
        })
    };
    let rows: Vec<_> = outcome
        .methods
        .iter()
        .map(|method| {
            let seconds: Vec<f64> =
                timings.rows.iter().filter(|t| t.method == method.method).filter_map(|t| t.seconds).collect();
            let (accuracy, _) = mean_sd(method.seeds.iter().map(|s| or_nan(s.test_accuracy)));
            vec![
                outcome.name(&method.method),
                Cell::Number(plus_minus(or_nan(method.test_loss), or_nan(method.test_loss_sd), 4)),
                Cell::Number(if accuracy.is_finite() {
                    format!("{:.1} %", 100.0 * accuracy)
                } else {
                    "–".into()
                }),
                against(&method.method, "uniform"),
                against(&method.method, "proportional"),
                spent(method),
                Cell::Number(if seconds.is_empty() { "–".into() } else { duration(seconds.iter().sum()) }),
            ]
        })
        .collect();
    let headings = [
        "method",
        "test loss ± spread",
        "accuracy",
        "against uniform",
        "against proportional",
        "token units",
        "time",
    ];
    figure(
        &chart.svg(),
        "Large dot: mean over the seeds; bar: one standard deviation over the seeds; small dots: single seeds.",
    ) + &table(&headings, &rows)
        + "<p class=\"soft\">A model is trained anew with each method's final weights, with the same budget and the same order of examples for all. Differences (± one standard error) are paired over test examples and seeds; one below two standard errors is no difference. Token units: for the search, if there was one, plus for the retraining, mean over the seeds. Time: of all seeds together. Accuracy: share of test tokens that the model holds most likely.</p>\n"
}

/// A count in thousands or millions.
fn short_count(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n => count(n),
    }
}
