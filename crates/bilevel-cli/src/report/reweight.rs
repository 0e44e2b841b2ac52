//! The report of a reweighting run.

use std::{collections::BTreeMap, fmt::Write};

use bilevel_llm::result::Verdict;
use serde::Deserialize;

use super::{
    axis::{Scale, count, significant},
    chart::{COLOURS, Dot, DotChart, LineChart, Series},
    duration, mean_sd, or_nan,
    page::{Cell, Page, escape, figure, folded, pair, paragraph, table},
    plus_minus, thinned,
};

/// What the report needs of `weights.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    versions: BTreeMap<String, String>,
    sources: Vec<Source>,
    validation: Data,
    test: Data,
    model: Model,
    seeds: Vec<u64>,
    budget: Option<f64>,
    methods: Vec<PerMethod>,
    comparisons: Vec<Comparison>,
    warnings: Vec<String>,
    recipe: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    examples: Option<f64>,
    tokens: Option<f64>,
    loss_tokens: Option<f64>,
    truncated: Option<f64>,
    sha256: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    name: String,
    #[serde(flatten)]
    data: Data,
    overlap_with_validation: Option<f64>,
    overlap_with_test: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Model {
    parameters: Option<f64>,
    layers: Option<f64>,
    width: Option<f64>,
    context: Option<f64>,
    vocabulary: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PerMethod {
    method: String,
    weights: Vec<Weight>,
    seeds: Vec<PerSeed>,
    test_loss: Option<f64>,
    test_loss_sd: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Weight {
    mean: Option<f64>,
    sd: Option<f64>,
    epochs: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PerSeed {
    seed: u64,
    weights: Vec<Option<f64>>,
    search: Option<Ledger>,
    retraining: Option<Ledger>,
    no_signal: u64,
    cycles: u64,
    test_loss: Option<f64>,
    test_accuracy: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ledger {
    spent: Option<f64>,
    entries: Vec<LedgerLine>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LedgerLine {
    entry: String,
    tokens: Option<f64>,
    weight: Option<f64>,
    units: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Comparison {
    method: String,
    baseline: String,
    difference: Option<f64>,
    standard_error: Option<f64>,
    verdict: Option<Verdict>,
}

/// A line of `trace.jsonl`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    method: String,
    seed: u64,
    phase: String,
    step: u64,
    spent: Option<f64>,
    weights: Vec<Option<f64>>,
    source_losses: Vec<Option<f64>>,
    validation_loss: Option<f64>,
    certificate: Option<Certificate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Certificate {
    r: Option<f64>,
    gradient_norm: Option<f64>,
    noise: Option<f64>,
    no_signal: bool,
    solve_residual: Option<f64>,
}

/// `timings.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Timings {
    rows: Vec<Timing>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Timing {
    method: String,
    seconds: Option<f64>,
}

const SEARCH: &str = "search";
const RETRAINING: &str = "retraining";
const UNITS: &str = "tokens spent, in forward-token units";

impl Outcome {
    /// The method that the report is about: the bilevel one if it ran.
    fn main(&self) -> Option<&PerMethod> {
        self.methods.iter().find(|m| m.method == "hg-ms").or_else(|| self.methods.first())
    }
    fn colour(&self, method: &str) -> usize {
        self.methods.iter().position(|m| m.method == method).unwrap_or(0) % COLOURS
    }
    fn comparison(&self, method: &str, baseline: &str) -> Option<&Comparison> {
        self.comparisons.iter().find(|c| c.method == method && c.baseline == baseline)
    }
}

impl Comparison {
    /// What may be said, and its colour.
    fn verdict(&self) -> (&'static str, &'static str) {
        match self.verdict {
            Some(Verdict::Better) => ("good", "better"),
            Some(Verdict::Worse) => ("bad", "worse"),
            Some(Verdict::OneSeed) => ("soft", "one seed, no verdict"),
            Some(Verdict::NoDifference) | None => ("soft", "no difference"),
        }
    }
}

/// The page.
pub fn page(outcome: &Outcome, rows: &[Row], timings: &Timings) -> String {
    let mut page = Page::new("Which data sources to train on", &lead(outcome));
    page.section("weights", "Final weights", &final_weights(outcome));
    page.section("methods", "Methods compared", &methods(outcome, timings));
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
            let (class, words) = comparison.verdict();
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
            let (class, words) = comparison.verdict();
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
            let key = outcome.colour(&method.method);
            vec![
                Cell::Html(format!("<span class=\"key s{key}\"></span>{}", escape(&method.method))),
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
        spread: spread.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, s)| *s).collect(),
        points: points.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, p)| *p).collect(),
        ..Series::default()
    }
}

fn weights_over_time(outcome: &Outcome, rows: &[Row]) -> String {
    let mut html = String::new();
    for method in &outcome.methods {
        let search = part(rows, &method.method, SEARCH);
        if search.is_empty() {
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
    let fixed: Vec<&str> = outcome
        .methods
        .iter()
        .filter(|m| part(rows, &m.method, SEARCH).is_empty())
        .map(|m| m.method.as_str())
        .collect();
    if html.is_empty() {
        return paragraph("No method moved its weights, or the trace is missing.");
    }
    if !fixed.is_empty() {
        html += &paragraph(&format!("Fixed weights from the start: {}.", fixed.join(", ")));
    }
    html
}

/// A line without its first tenth of tokens, when enough is left: the steep fall of the start would hide all else.
fn without_start((points, spread): (Vec<(f64, f64)>, Vec<f64>)) -> (Vec<(f64, f64)>, Vec<f64>) {
    let end = points.last().map_or(0.0, |p| p.0);
    let from = points.iter().position(|p| p.0 >= 0.1 * end).unwrap_or(0);
    if points.len() < from + 4 {
        (points, spread)
    } else {
        (points[from..].to_vec(), spread[from..].to_vec())
    }
}

fn validation(outcome: &Outcome, rows: &[Row]) -> String {
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

fn certificate(outcome: &Outcome, rows: &[Row]) -> String {
    let mut html = String::new();
    for method in &outcome.methods {
        let cycles: Vec<&Row> =
            part(rows, &method.method, SEARCH).into_iter().filter(|row| row.certificate.is_some()).collect();
        if cycles.is_empty() {
            continue;
        }
        let line = |name: &str, colour, number: fn(&Certificate) -> Option<f64>| {
            let points = over_seeds(&cycles, |row| number(row.certificate.as_ref()?));
            Series { spread: Vec::new(), ..with_band(name, colour, points) }
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

fn source_losses(outcome: &Outcome, rows: &[Row]) -> String {
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
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let block = points.len().div_ceil(150).max(1);
    points
        .chunks(block)
        .map(|c| (mean_sd(c.iter().map(|p| p.0)).0, mean_sd(c.iter().map(|p| p.1)).0))
        .collect()
}

/// One of a seed's ledgers.
type LedgerOf = fn(&PerSeed) -> Option<&Ledger>;

fn ledger(outcome: &Outcome) -> String {
    let phases: [(&str, LedgerOf); 2] = [
        ("Finding the weights", |seed| seed.search.as_ref()),
        ("Retraining with them", |seed| seed.retraining.as_ref()),
    ];
    let mut html = String::new();
    for (heading, of) in phases {
        let with: Vec<&PerMethod> =
            outcome.methods.iter().filter(|m| m.seeds.iter().any(|s| of(s).is_some())).collect();
        let mut entries: Vec<&LedgerLine> = Vec::new();
        for entry in
            with.iter().flat_map(|m| m.seeds.iter().filter_map(of)).flat_map(|ledger| &ledger.entries)
        {
            if !entries.iter().any(|known| known.entry == entry.entry) {
                entries.push(entry);
            }
        }
        if entries.is_empty() {
            continue;
        }
        let mean = |method: &PerMethod, number: &dyn Fn(&Ledger) -> Option<f64>| {
            mean_sd(method.seeds.iter().filter_map(of).filter_map(number)).0
        };
        let tokens = |method: &PerMethod, name: &str| {
            mean(method, &|ledger| ledger.entries.iter().find(|e| e.entry == name)?.tokens)
        };
        let mut rows: Vec<Vec<Cell>> = entries
            .iter()
            .filter(|entry| with.iter().any(|method| tokens(method, &entry.entry) > 0.0))
            .map(|entry| {
                let weight = match entry.weight {
                    Some(0.0) => "not counted".into(),
                    weight => significant(or_nan(weight), 2),
                };
                let cells = with.iter().map(|method| Cell::Number(count(tokens(method, &entry.entry))));
                [Cell::Text(entry.entry.clone()), Cell::Number(weight)].into_iter().chain(cells).collect()
            })
            .collect();
        let units = with.iter().map(|method| {
            Cell::Number(count(mean(method, &|ledger| {
                Some(ledger.entries.iter().filter_map(|e| e.units).sum())
            })))
        });
        let all = [Cell::Text("all, in units".into()), Cell::Number(String::new())];
        rows.push(all.into_iter().chain(units).collect());
        let mut headings = vec!["tokens of".to_owned(), "units per token".to_owned()];
        headings.extend(with.iter().map(|method| method.method.clone()));
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let _ = writeln!(html, "<h3>{heading}</h3>");
        html += &table(&headings, &rows);
    }
    if html.is_empty() {
        return paragraph("No ledger was kept.");
    }
    html + "<p class=\"soft\">Means over the seeds. A unit is the work of one token in a forward pass; the units per token are estimates and part of the recipe.</p>\n"
}

fn sources(outcome: &Outcome) -> String {
    let number = |n: Option<f64>| Cell::Number(count(or_nan(n)));
    let hash = |sha: &str| {
        let short: String = sha.chars().take(12).collect();
        Cell::Html(format!("<code title=\"{}\">{}</code>", escape(sha), escape(&short)))
    };
    let epochs = |i: usize| outcome.main().and_then(|m| m.weights.get(i)).and_then(|w| w.epochs);
    let data = |name: &str, d: &Data, overlaps: (Option<f64>, Option<f64>), epochs: Option<f64>| {
        vec![
            Cell::Text(name.into()),
            number(d.examples),
            number(d.tokens),
            number(d.loss_tokens),
            number(d.truncated),
            number(overlaps.0),
            number(overlaps.1),
            Cell::Number(significant(or_nan(epochs), 3)),
            hash(&d.sha256),
        ]
    };
    let mut rows: Vec<_> = outcome
        .sources
        .iter()
        .enumerate()
        .map(|(i, s)| data(&s.name, &s.data, (s.overlap_with_validation, s.overlap_with_test), epochs(i)))
        .collect();
    rows.push(data("(validation)", &outcome.validation, (None, None), None));
    rows.push(data("(test)", &outcome.test, (None, None), None));
    let headings = [
        "source",
        "examples",
        "tokens",
        "under the loss",
        "cut short",
        "also in validation",
        "also in test",
        "passes",
        "SHA-256",
    ];
    table(&headings, &rows)
        + &format!(
            "<p class=\"soft\">Passes: how often the whole budget, sampled with the weights of {}, goes through the source. Many passes over a small source mean repetition.</p>\n",
            escape(outcome.main().map_or("no method", |m| &m.method))
        )
}

fn settings(outcome: &Outcome) -> String {
    let model = &outcome.model;
    let mut html = String::new();
    if model.parameters.is_some() {
        html += &paragraph(&format!(
            "The model has {} parameters: {} blocks of width {}, context {} and {} tokens in the vocabulary. Seeds: {}.",
            count(or_nan(model.parameters)),
            count(or_nan(model.layers)),
            count(or_nan(model.width)),
            count(or_nan(model.context)),
            count(or_nan(model.vocabulary)),
            outcome
                .main()
                .map(|m| m.seeds.iter().map(|s| s.seed.to_string()).collect::<Vec<_>>().join(", "))
                .unwrap_or_default()
        ));
    }
    if !outcome.versions.is_empty() {
        let rows: Vec<_> = outcome
            .versions
            .iter()
            .map(|(name, version)| vec![Cell::Text(name.clone()), Cell::Text(version.clone())])
            .collect();
        html += &table(&["program", "version"], &rows);
    }
    if !outcome.recipe.is_empty() {
        html += &folded("The recipe", &outcome.recipe);
    }
    html
}
