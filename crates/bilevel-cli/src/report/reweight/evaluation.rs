//! What the retrained models do beside their mean test loss: tables with intervals.

use bilevel_llm::result::{Estimate, Evaluation, ExactMatchDifference};

use super::{
    super::{
        page::{Cell, escape, table},
        plus_minus,
    },
    data::{Outcome, said},
};

/// A row for each method, then one for each source; `None` when no method was judged.
pub fn evaluation(outcome: &Outcome) -> Option<String> {
    let judged: Vec<(&str, &Evaluation)> =
        outcome.methods.iter().filter_map(|m| Some((m.method.as_str(), m.evaluation.as_ref()?))).collect();
    let exact = judged.iter().find_map(|(_, evaluation)| evaluation.exact_match.as_ref());
    let has_sources = judged.iter().any(|(_, evaluation)| !evaluation.source_losses.is_empty());
    judged.first()?;
    let mut headings = vec!["method".to_owned(), "test loss".to_owned()];
    if exact.is_some() {
        headings.extend(["exact match".to_owned(), "without an answer".to_owned()]);
    }
    let baselines: Vec<&str> = ["uniform", "proportional"]
        .into_iter()
        .filter(|name| outcome.comparisons.iter().any(|c| c.baseline == *name && c.exact_match.is_some()))
        .collect();
    headings.extend(baselines.iter().map(|name| format!("exact match against {name}")));
    let rows: Vec<Vec<Cell>> = judged
        .iter()
        .map(|(method, evaluation)| {
            let name = outcome.name(method);
            let mut row = vec![name, interval(&evaluation.test_loss, 1.0, 4)];
            if let Some(exact) = &evaluation.exact_match {
                row.push(interval(&exact.share, 100.0, 1));
                row.push(Cell::Number(format!("{:.1}", 100.0 * exact.unanswered)));
            }
            row.extend(baselines.iter().map(|baseline| {
                let compared = outcome.comparison(method, baseline).and_then(|c| c.exact_match);
                compared.map_or_else(|| Cell::Html("<span class=\"soft\">–</span>".into()), |c| against(&c))
            }));
            row
        })
        .collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut html = table(&headings, &rows);
    if has_sources {
        let headings: Vec<&str> = ["loss on examples of", "examples"]
            .into_iter()
            .chain(judged.iter().map(|(name, _)| *name))
            .collect();
        let rows: Vec<Vec<Cell>> = outcome
            .sources
            .iter()
            .enumerate()
            .map(|(i, source)| {
                let losses = judged.iter().map(|(_, evaluation)| {
                    let loss = evaluation.source_losses.get(i).and_then(Option::as_ref);
                    loss.map_or_else(|| Cell::Text("–".into()), |loss| interval(loss, 1.0, 3))
                });
                let held = source.held_out.map_or_else(|| "–".into(), |held| held.examples.to_string());
                [Cell::Html(escape(&source.name)), Cell::Number(held)].into_iter().chain(losses).collect()
            })
            .collect();
        html += &table(&headings, &rows);
    }
    html += "<p class=\"soft\">Means with their 95 % interval (bootstrap over examples and seeds). Losses in nats per token.";
    if let Some(exact) = exact {
        html += &format!(
            " Exact match: of {} test examples in percent, answered with the likeliest token each time; {} examples have no final answer of their own and were not asked.",
            exact.examples, exact.left_out
        );
    }
    if !baselines.is_empty() {
        html += " Differences of exact match (± one standard error) are paired over examples and seeds; one below two standard errors is no difference.";
    }
    if has_sources && outcome.sources.iter().any(|source| source.held_out.is_some()) {
        html += " Losses on a source are taken on examples of it that no model was trained on; a source of fewer than 20 has none.";
    } else if has_sources {
        html += " Losses on a source are those of an earlier version, on its first examples, which training may have seen.";
    }
    Some(html + "</p>\n")
}

fn interval(estimate: &Estimate, scale: f64, digits: usize) -> Cell {
    let (low, high) = estimate.interval;
    Cell::Html(format!(
        "{:.digits$}<br><span class=\"soft\">{:.digits$} to {:.digits$}</span>",
        scale * estimate.mean,
        scale * low,
        scale * high
    ))
}

fn against(compared: &ExactMatchDifference) -> Cell {
    let (class, words) = said(Some(compared.verdict));
    let number = plus_minus(100.0 * compared.difference, 100.0 * compared.standard_error, 1);
    Cell::Html(format!("<b class=\"{class}\">{words}</b><br><span class=\"soft\">{number}</span>"))
}
