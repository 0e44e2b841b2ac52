//! The report of a bench.

use std::fmt::Write;

use bilevel::solvers::HyperObjective;

use super::{
    axis::{Scale, count, significant},
    chart::{COLOURS, LineChart, Series},
    page::{Cell, Page, escape, figure, pair, paragraph, table},
    peers::Peers,
};
use crate::bench::{
    Finished,
    experiment::{Price, level_in_words},
    measure::Row,
    summary::{Line, Quartiles, Summary},
};

/// Places along a horizontal axis at which medians are taken.
const PLACES: usize = 60;

/// What runs are drawn against.
#[derive(Clone, Copy)]
struct Over {
    label: &'static str,
    of: fn(&Row) -> f64,
}

const STEPS: Over = Over { label: "steps", of: |row| row.step as f64 };
const SECONDS: Over = Over { label: "seconds in the solver", of: |row| row.seconds };

/// What was spent, as the experiment counts it.
fn spent(price: Price) -> Over {
    match price {
        Price::Gradients => Over {
            label: "gradients spent (a second-order product is two)",
            of: |row| row.counts.gradient_equivalents() as f64,
        },
        Price::Samples => {
            Over { label: "samples spent, of all oracle calls", of: |row| row.counts.samples() as f64 }
        }
    }
}

/// The page; `peers` is what was measured of other software.
pub fn page(summary: &Summary, finished: &[Finished], peers: Option<&Peers>) -> String {
    let mut page = Page::new(&summary.title, &lead(summary, finished));
    for (index, problem) in summary.problems().into_iter().enumerate() {
        let lines: Vec<&Line> = summary.lines.iter().filter(|line| line.problem == problem).collect();
        let mut html = ranking(summary, &lines);
        for (words, targets) in [
            ("Solvers that descend the selected hyper-objective", &[HyperObjective::Selected][..]),
            (
                "Solvers that descend the optimistic hyper-objective, or a penalty form of it",
                &[HyperObjective::Optimistic, HyperObjective::Penalised, HyperObjective::Pessimistic][..],
            ),
        ] {
            let shown: Vec<&Line> =
                lines.iter().copied().filter(|line| targets.contains(&line.target)).collect();
            if !shown.is_empty() {
                let _ = writeln!(html, "<h3>{}</h3>", escape(words));
                html += &charts(summary, &shown, finished);
            }
        }
        page.section(&format!("problem-{index}"), problem, &html);
    }
    if !summary.verdicts.is_empty() {
        page.section("expected", "Expected and found", &verdicts(summary));
    }
    if let Some(peers) = peers {
        page.section("peers", "Other software, same run", &peers.section());
    }
    page.section("how", "How to read this", &how(summary));
    page.html()
}

fn lead(summary: &Summary, finished: &[Finished]) -> String {
    let held = summary.verdicts.iter().filter(|verdict| verdict.holds).count();
    let mut html = paragraph(&summary.about);
    html.push_str("<ul class=\"facts\">");
    let mut fact = |number: String, words: &str| {
        let _ = write!(html, "<li><b>{}</b> {}</li>", escape(&number), escape(words));
    };
    fact(count(finished.len() as f64), "runs");
    if !summary.verdicts.is_empty() {
        fact(format!("{held} of {}", summary.verdicts.len()), "expected numbers came out");
    }
    html.push_str("</ul>\n");
    html
}

fn ranking(summary: &Summary, lines: &[&Line]) -> String {
    let judge = &summary.judge;
    let mut headings: Vec<String> =
        vec!["solver".into(), "descends".into(), format!("{}, median", judge.metric), "quartiles".into()];
    headings.extend(judge.reach.iter().map(|level| format!("price to {}", level_in_words(*level))));
    headings.extend(["price of the run".to_owned(), "ends".into()]);
    let mut sorted = lines.to_vec();
    // the best first; a solver without a number last
    let key = |line: &Line| {
        line.metrics
            .get(&judge.metric)
            .map_or(f64::INFINITY, |q| if judge.larger_is_better { -q.median } else { q.median })
    };
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let rows: Vec<Vec<Cell>> = sorted
        .iter()
        .map(|line| {
            let quartiles = line.metrics.get(&judge.metric);
            let mut solver = line.solver.clone();
            if !line.tuned.is_empty() {
                let settings: Vec<String> =
                    line.tuned.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                let _ = write!(solver, " (tuned: {})", settings.join(", "));
            }
            let mut cells = vec![
                Cell::Text(solver),
                Cell::Text(format!("{:?}", line.target).to_lowercase()),
                Cell::Number(significant(quartiles.map_or(f64::NAN, |q| q.median), 3)),
                Cell::Number(quartiles.map_or_else(
                    || "–".into(),
                    |q| format!("{} … {}", significant(q.low, 2), significant(q.high, 2)),
                )),
            ];
            cells.extend(line.reached.iter().map(|reached| {
                Cell::Number(match reached.price {
                    Some(price) => count(price),
                    None if reached.seeds > 0 => format!("– ({} of {})", reached.seeds, line.seeds),
                    None => "–".into(),
                })
            }));
            let ends: Vec<String> = line
                .ends
                .iter()
                .map(|(end, n)| if *n == line.seeds { end.clone() } else { format!("{end} ({n})") })
                .collect();
            cells.push(Cell::Number(line.price.map_or_else(|| "–".into(), |q| count(q.median))));
            cells.push(Cell::Text(ends.join(", ")));
            cells
        })
        .collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    table(&headings, &rows)
}

fn charts(summary: &Summary, lines: &[&Line], finished: &[Finished]) -> String {
    let metric = &summary.judge.metric;
    let chart = |over: Over, is_half: bool| {
        let series = lines
            .iter()
            .enumerate()
            .map(|(index, line)| {
                let runs: Vec<&[Row]> = finished
                    .iter()
                    .filter(|run| run.problem == line.problem && run.solver == line.solver)
                    .map(|run| run.outcome.rows.as_slice())
                    .collect();
                Series {
                    name: if is_half { String::new() } else { line.solver.clone() },
                    colour: index % COLOURS,
                    is_dashed: index >= COLOURS,
                    ..medians(&runs, over.of, metric)
                }
            })
            .collect();
        LineChart {
            title: format!("{metric} against {}", over.label),
            x_label: over.label.into(),
            y_label: metric.clone(),
            x_scale: Scale::Log,
            y_scale: if summary.judge.larger_is_better { Scale::Linear } else { Scale::Log },
            series,
            is_half,
            ..LineChart::default()
        }
        .svg()
    };
    let caption = "Medians over the seeds; the bands reach from the first to the third quartile.";
    figure(&chart(spent(summary.judge.price), false), caption)
        + &pair(&[figure(&chart(STEPS, true), ""), figure(&chart(SECONDS, true), "")])
            .replace("<figcaption></figcaption>", "")
}

/// Medians and quartiles over runs, at places that lie evenly on a logarithmic scale; each run counts with its latest
/// measurement, after its end with its last.
fn medians(runs: &[&[Row]], over: fn(&Row) -> f64, metric: &str) -> Series {
    let mut series = Series::default();
    let xs = || runs.iter().flat_map(|rows| rows.iter()).map(over).filter(|x| *x > 0.0);
    let (first, last) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    if first > last {
        return series;
    }
    for place in 0..=PLACES {
        // the last place is the last number itself, not its rounded power
        let share = place as f64 / PLACES as f64;
        let x = if place == PLACES { last } else { first * (last / first).powf(share) };
        let values = runs.iter().filter_map(|rows| {
            rows.iter().take_while(|row| over(row) <= x).filter_map(|row| row.metrics.get(metric)).last()
        });
        if let Some(Quartiles { low, median, high }) = Quartiles::of(values.copied()) {
            series.points.push((x, median));
            series.band.push((low, high));
        }
    }
    series
}

fn verdicts(summary: &Summary) -> String {
    let rows: Vec<Vec<Cell>> = summary
        .verdicts
        .iter()
        .map(|verdict| {
            let mark = if verdict.holds { "<b class=\"good\">yes</b>" } else { "<b class=\"bad\">no</b>" };
            vec![
                Cell::Text(verdict.problem.clone()),
                Cell::Text(verdict.solver.clone()),
                Cell::Text(verdict.metric.clone()),
                Cell::Text(verdict.wanted.clone()),
                Cell::Text(verdict.found.clone()),
                Cell::Html(mark.into()),
            ]
        })
        .collect();
    table(&["problem", "solver", "number", "expected", "found, seed by seed", "holds"], &rows)
}

fn how(summary: &Summary) -> String {
    let slowest = "Seconds are those in the solver alone: the clock stands still while a run is measured.";
    let judge = match summary.judge.metric.as_str() {
        "target" => {
            "Runs are judged by the norm of the gradient of the hyper-objective that the solver itself descends, by the problem's closed form. Where S(x) is not one point, the selected and the optimistic hyper-objective are two different problems: a small number of one family says nothing of the other."
        }
        _ => "Runs are judged by the number named above, measured by the problem itself.",
    };
    let levels: Vec<String> = summary.judge.reach.iter().map(|level| level_in_words(*level)).collect();
    let price = format!(
        "A price is the number of {} that were spent when the number first came to {}; a dash stands where half of the seeds or more never did. Runs are measured at twenty steps in each factor of ten, so a price is exact to a tenth.",
        summary.judge.price.unit(),
        levels.join(", ")
    );
    paragraph(judge) + &paragraph(&price) + &paragraph(slowest)
}
