//! The report of a solve.

use std::{collections::BTreeMap, fmt::Write};

use bilevel::{certificate::Finding, oracles::OracleCounts};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    axis::{Scale, count, significant},
    chart::{LineChart, Series},
    duration, or_nan,
    page::{Cell, Page, escape, figure, folded, pair, paragraph, table},
    thinned,
};

/// A line of the trace.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Row {
    step: u64,
    value: Option<f64>,
    stationarity: Option<f64>,
    #[serde(default)]
    counts: OracleCounts,
    #[serde(default)]
    certificate: Option<Map<String, Value>>,
    #[serde(default)]
    extras: BTreeMap<String, Option<f64>>,
}

/// A line of the times.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Time {
    seconds: f64,
}

/// The end of the run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outcome {
    version: String,
    problem: String,
    solver: String,
    target: String,
    seed: Option<u64>,
    end_in_words: String,
    x: Vec<Option<f64>>,
    y: Vec<Option<f64>>,
    value: Option<f64>,
    stationarity: Option<f64>,
    known_value: Option<f64>,
    counts: Option<OracleCounts>,
    certificate: Option<Map<String, Value>>,
}

/// Numbers of the certificate that are measured at every step: field, words, what is good.
const MEASURES: [(&str, &str, &str); 13] = [
    ("distance", "distance of y from S(x), at most", "near 0"),
    ("smallest_eigenvalue", "smallest curvature of g in y", "not negative"),
    ("range_min", "smallest curvature of g across S(x)", "well above 0"),
    ("value_spread", "spread of g over the landed points", "near 0"),
    ("kernel_dim", "dimension of S(x)", "a whole number"),
    ("rank_gap", "gap in the spectrum at the rank cut", "large"),
    ("range_ratio", "S(x) stable in x: |J P| / |J|", "near 0"),
    ("tangent_residual", "gradient of f left along S(x)", "near 0"),
    ("alpha", "smallest curvature of f along S(x)", "above 0"),
    ("tie_gap", "distance in f to the next selection", "above 0, or there is a kink"),
    ("missing_mass", "share of S(x) in basins not seen", "near 0"),
    ("solve_residual", "residual of the linear solve", "near 0"),
    ("error", "estimated error of the hypergradient", "below |G|"),
];

/// A finding as it is shown.
struct Shown {
    name: String,
    words: String,
    is_fatal: bool,
}

/// The page.
pub fn page(outcome: &Outcome, rows: &[Row], times: &[Time], recipe: &str) -> String {
    let last = rows.last();
    let value = outcome.value.or_else(|| last.and_then(|row| row.value));
    let stationarity = outcome.stationarity.or_else(|| last.and_then(|row| row.stationarity));
    let counts = outcome.counts.or_else(|| last.map(|row| row.counts)).unwrap_or_default();
    let certificate = outcome.certificate.as_ref().or_else(|| last.and_then(|row| row.certificate.as_ref()));
    let findings = certificate.map(findings_of).unwrap_or_default();

    let name = if outcome.problem.is_empty() { "a problem" } else { &outcome.problem };
    let mut page =
        Page::new(&format!("Solving {name}"), &lead(outcome, rows, value, stationarity, &counts, times));
    page.section("progress", "Progress", &progress(outcome, rows));
    page.section("certificate", "Certificate", &certificate_words(rows, certificate, &findings));
    page.section("selections", "Selections", &selections(rows, certificate));
    page.section("price", "Price", &price(&counts));
    page.section("settings", "Settings", &settings(outcome, recipe));
    page.html()
}

fn lead(
    outcome: &Outcome,
    rows: &[Row],
    value: Option<f64>,
    stationarity: Option<f64>,
    counts: &OracleCounts,
    times: &[Time],
) -> String {
    let steps = rows.last().map_or(0, |row| row.step);
    let class = if outcome.end_in_words.starts_with("Converged") { "good" } else { "bad" };
    let mut html = String::new();
    if !outcome.end_in_words.is_empty() {
        let _ = writeln!(
            html,
            "<p class=\"lead\"><b class=\"{class}\">{}</b> after {} steps{}.</p>",
            escape(&outcome.end_in_words),
            count(steps as f64),
            if outcome.solver.is_empty() {
                String::new()
            } else {
                format!(" of {}", escape(&outcome.solver))
            }
        );
    }
    html.push_str("<ul class=\"facts\">");
    let mut fact = |number: String, what: &str| {
        let _ = write!(html, "<li><b>{}</b><span>{}</span></li>", escape(&number), escape(what));
    };
    fact(significant(or_nan(value), 8), "hyper-objective F(x)");
    if let (Some(known), Some(value)) = (outcome.known_value, value) {
        fact(significant(value - known, 2), "difference to the closed form");
    }
    fact(significant(or_nan(stationarity), 3), "stationarity |G|");
    fact(count(counts.gradient_equivalents() as f64), "gradients (a second-order product is two)");
    if let Some(time) = times.last() {
        fact(duration(time.seconds), "in the solver");
    }
    html.push_str("</ul>\n");
    html
}

fn progress(outcome: &Outcome, rows: &[Row]) -> String {
    if rows.is_empty() {
        return paragraph("The trace is empty: the run ended before its first step was done.");
    }
    let line = |name: &str, x: fn(&Row) -> f64, y: &dyn Fn(&Row) -> Option<f64>| Series {
        name: name.into(),
        points: thinned(rows.iter().map(|row| (x(row), or_nan(y(row)))).collect()),
        ..Series::default()
    };
    let steps: fn(&Row) -> f64 = |row| row.step as f64;
    let calls: fn(&Row) -> f64 = |row| row.counts.gradient_equivalents() as f64;
    let over = [(steps, "steps"), (calls, "gradients spent (a second-order product is two)")];
    let chart = |title: &str,
                 y_label: &str,
                 y_scale,
                 x: fn(&Row) -> f64,
                 x_label: &str,
                 y: &dyn Fn(&Row) -> Option<f64>| {
        LineChart {
            title: format!("{title} against {x_label}"),
            x_label: x_label.into(),
            y_label: y_label.into(),
            y_scale,
            series: vec![line("", x, y)],
            is_half: true,
            ..LineChart::default()
        }
        .svg()
    };
    let lowest =
        rows.iter().filter_map(|row| row.value).chain(outcome.known_value).fold(f64::INFINITY, f64::min);
    let mut html = pair(&over.map(|(x, label)| {
        figure(&chart("Hyper-objective", "F(x)", Scale::Linear, x, label, &|row| row.value), "")
    }));
    let is_above = rows.iter().any(|row| row.value.is_some_and(|value| value > lowest));
    if is_above {
        let above = match outcome.known_value {
            Some(known) if known <= lowest => "F(x) above the closed form at the end",
            _ => "F(x) above the lowest value of the run",
        };
        html += &pair(&over.map(|(x, label)| {
            figure(
                &chart(above, above, Scale::Log, x, label, &|row| row.value.map(|value| value - lowest)),
                "",
            )
        }));
    }
    html += &pair(&over.map(|(x, label)| {
        figure(&chart("Stationarity", "|G|", Scale::Log, x, label, &|row| row.stationarity), "")
    }));
    html.replace("<figcaption></figcaption>", "")
        + "<p class=\"soft\">Values belong to the point from which a step started. Where a line breaks, the number was not known or has no place on a logarithmic axis.</p>\n"
}

fn findings_of(certificate: &Map<String, Value>) -> Vec<Shown> {
    let findings = certificate.get("findings").and_then(Value::as_array);
    findings
        .into_iter()
        .flatten()
        .map(|finding| {
            if let Ok(known) = serde_json::from_value::<Finding>(finding.clone()) {
                let (name, words) = (known.name().to_owned(), known.to_string());
                let words = words.strip_prefix(&format!("{name}: ")).map_or(words.clone(), str::to_owned);
                return Shown { name, words, is_fatal: known.is_fatal() };
            }
            // Of a later version: the name is still worth showing, and trust is not to be assumed.
            let name = finding.get("finding").and_then(Value::as_str).unwrap_or("unknown finding");
            Shown { name: name.to_owned(), words: "not known to this version".into(), is_fatal: true }
        })
        .collect()
}

fn certificate_words(rows: &[Row], certificate: Option<&Map<String, Value>>, findings: &[Shown]) -> String {
    let Some(certificate) = certificate else {
        return paragraph("This solver does not certify its hypergradients.");
    };
    let verdict = if findings.iter().any(|finding| finding.is_fatal) {
        "<p><b class=\"bad\">Not certified.</b> The last hypergradient must not be trusted:</p>\n"
    } else if findings.is_empty() {
        "<p><b class=\"good\">Certified.</b> Every condition that was checked at the last step holds.</p>\n"
    } else {
        "<p><b class=\"good\">Certified</b>, with something to know:</p>\n"
    };
    let mut html = verdict.to_owned();
    if !findings.is_empty() {
        html.push_str("<ul class=\"notes\">");
        for Shown { name, words, is_fatal } in findings {
            let class = if *is_fatal { "bad" } else { "soft" };
            let _ = write!(html, "<li><b class=\"{class}\">{}</b> {}</li>", escape(name), escape(words));
        }
        html.push_str("</ul>\n");
    }
    let measured: Vec<_> = MEASURES
        .iter()
        .filter_map(|(field, words, good)| {
            let number = certificate.get(*field)?.as_f64()?;
            Some(vec![
                Cell::Text((*words).into()),
                Cell::Number(if number.fract() == 0.0 && number.abs() < 1e6 {
                    count(number)
                } else {
                    significant(number, 4)
                }),
                Cell::Text((*good).into()),
            ])
        })
        .collect();
    if !measured.is_empty() {
        html += &table(&["measured at the last step", "value", "should be"], &measured);
    }
    let over_time: Vec<Series> =
        [("distance", "distance"), ("tangent_residual", "left along S"), ("error", "error of G")]
            .iter()
            .enumerate()
            .map(|(colour, (field, name))| {
                let number = |row: &Row| row.certificate.as_ref()?.get(*field)?.as_f64();
                let points = rows.iter().map(|row| (row.step as f64, or_nan(number(row)))).collect();
                Series {
                    name: (*name).into(),
                    colour: colour + 1,
                    points: thinned(points),
                    ..Series::default()
                }
            })
            .filter(|series| series.points.iter().any(|(_, y)| *y > 0.0))
            .collect();
    if !over_time.is_empty() {
        let stationarity = rows.iter().map(|row| (row.step as f64, or_nan(row.stationarity))).collect();
        let gradient = Series {
            name: "|G|".into(),
            points: thinned(stationarity),
            is_dashed: true,
            ..Series::default()
        };
        let chart = LineChart {
            title: "Numbers of the certificate against steps".into(),
            x_label: "steps".into(),
            y_label: "size".into(),
            y_scale: Scale::Log,
            series: over_time.into_iter().chain([gradient]).collect(),
            ..LineChart::default()
        };
        html += &figure(
            &chart.svg(),
            "While the estimated error stays below |G|, the direction of the hypergradient is worth following; when they meet, the run is as exact as its tolerances allow.",
        );
    }
    html
}

fn selections(rows: &[Row], certificate: Option<&Map<String, Value>>) -> String {
    let known = |row: &Row| {
        row.extras
            .get("branches")
            .copied()
            .flatten()
            .or_else(|| row.certificate.as_ref()?.get("branches")?.as_f64())
    };
    let mut html = String::new();
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (row.step as f64, or_nan(known(row)))).collect();
    let most = points.iter().map(|p| p.1).filter(|n| n.is_finite()).fold(0.0, f64::max);
    if most == 0.0 {
        return paragraph("This solver follows one selection and does not look for others.");
    }
    let now = points.last().map_or(f64::NAN, |p| p.1);
    html += &paragraph(&format!(
        "{} selection(s) known at the end, at most {} during the run.",
        count(now),
        count(most)
    ));
    if most > 1.0 {
        let chart = LineChart {
            title: "Known selections against steps".into(),
            x_label: "steps".into(),
            y_label: "selections known".into(),
            series: vec![Series { points: thinned(points), ..Series::default() }],
            y_reaches: vec![0.0],
            ..LineChart::default()
        };
        html += &figure(&chart.svg(), "");
    }
    if let Some((values, gradients)) = certificate.and_then(tie) {
        let weights = rows.last().map(|row| &row.extras);
        let rows: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(i, value)| {
                let weight = weights.and_then(|extras| extras.get(&format!("weight_{i}")).copied().flatten());
                vec![
                    Cell::Number(format!("{}", i + 1)),
                    Cell::Number(significant(*value, 10)),
                    Cell::Number(significant(or_nan(weight), 3)),
                    Cell::Text(vector(gradients.get(i).map_or(&[], Vec::as_slice))),
                ]
            })
            .collect();
        html += &paragraph("These are tied: F has a kink here, and a step descends on all of them at once.");
        html += &table(&["branch", "F", "weight in the step", "hypergradient"], &rows);
    }
    html.replace("<figcaption></figcaption>", "")
}

/// Values and hypergradients of a tie, if one was found.
fn tie(certificate: &Map<String, Value>) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
    let findings = certificate.get("findings")?.as_array()?;
    findings.iter().find_map(|finding| match serde_json::from_value(finding.clone()).ok()? {
        Finding::Tie { values, gradients } => Some((values, gradients)),
        _ => None,
    })
}

/// The first numbers of a vector.
fn vector(numbers: &[f64]) -> String {
    const MOST: usize = 12;
    let shown: Vec<String> = numbers.iter().take(MOST).map(|x| significant(*x, 7)).collect();
    let rest = if numbers.len() > MOST { format!(", … {} in all", numbers.len()) } else { String::new() };
    format!("({}{rest})", shown.join(", "))
}

fn price(counts: &OracleCounts) -> String {
    let levels = [("upper, f", counts.upper), ("lower, g", counts.lower)];
    let rows: Vec<_> = levels
        .iter()
        .map(|(name, tally)| {
            let numbers =
                [tally.value, tally.grad_x, tally.grad_y, tally.hvp_yy, tally.jvp_xy, tally.samples];
            let cells = numbers.iter().map(|n| Cell::Number(count(*n as f64)));
            [Cell::Text((*name).into())].into_iter().chain(cells).collect()
        })
        .collect();
    table(
        &["level", "values", "gradients in x", "gradients in y", "products H v", "products J v", "samples"],
        &rows,
    )
}

fn settings(outcome: &Outcome, recipe: &str) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![Cell::Text(name.into()), Cell::Text(value)]);
        }
    };
    row("problem", outcome.problem.clone());
    row("solver", outcome.solver.clone());
    row(
        "descends",
        if outcome.target.is_empty() {
            String::new()
        } else {
            format!("the {} hyper-objective", outcome.target)
        },
    );
    row("seed", outcome.seed.map(|seed| seed.to_string()).unwrap_or_default());
    let shown = |list: &[Option<f64>]| {
        if list.is_empty() {
            String::new()
        } else {
            vector(&list.iter().map(|x| or_nan(*x)).collect::<Vec<_>>())
        }
    };
    row("x at the end", shown(&outcome.x));
    row("y at the end", shown(&outcome.y));
    row("bilevel", outcome.version.clone());
    let mut html = if rows.is_empty() { String::new() } else { table(&["what", "value"], &rows) };
    if recipe.is_empty() {
        html += &paragraph("The folder holds no recipe.");
    } else {
        html += &folded("The recipe", recipe);
    }
    html
}
