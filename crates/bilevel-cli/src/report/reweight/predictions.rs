//! What methods expected of their weights, beside what models trained with them showed.

use super::{
    super::{
        mean_sd,
        page::{Cell, table},
        plus_minus,
    },
    data::{Outcome, PerMethod},
};

/// The method whose weights are those at which the searches start, unless the recipe says otherwise.
const START: &str = "uniform";

/// One row for each method that made predictions; `None` when none did.
pub fn predictions(outcome: &Outcome) -> Option<String> {
    let start = outcome.methods.iter().find(|m| m.method == START);
    let rows: Vec<Vec<Cell>> = outcome
        .methods
        .iter()
        .filter_map(|method| {
            let expected: Vec<f64> = method.seeds.iter().filter_map(|seed| seed.predicted_change).collect();
            if expected.is_empty() {
                return None;
            }
            Some(vec![
                outcome.name(&method.method),
                Cell::Number(spread(&expected)),
                Cell::Number(spread(&start.map_or_else(Vec::new, |start| changes(method, start)))),
            ])
        })
        .collect();
    rows.first()?;
    let mut html = table(&["method", "expected change", "change against uniform"], &rows);
    html += "<p class=\"soft\">Of the validation loss, in nats per token, over the seeds. Expectations were stored before a model was trained with the weights; they are against the weights at which the search started, equal ones unless the recipe says otherwise.</p>\n";
    Some(html)
}

/// Differences in validation loss, seed by seed.
fn changes(method: &PerMethod, start: &PerMethod) -> Vec<f64> {
    let loss = |of: &PerMethod, seed: u64| of.seeds.iter().find(|s| s.seed == seed)?.validation_loss;
    let seeds = method.seeds.iter().map(|seed| seed.seed);
    seeds.filter_map(|seed| Some(loss(method, seed)? - loss(start, seed)?)).collect()
}

fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return "–".to_owned();
    }
    let (mean, sd) = mean_sd(values.iter().copied());
    plus_minus(mean, sd, 4)
}
