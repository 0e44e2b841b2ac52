//! Ledger, sources and settings as tables.

use std::fmt::Write;

use super::super::{
    axis::{count, significant},
    mean_sd, or_nan,
    page::{Cell, escape, folded, paragraph, table},
};
use super::data::{Data, Ledger, LedgerLine, Outcome, PerMethod, PerSeed};

/// One of a seed's ledgers.
type LedgerOf = fn(&PerSeed) -> Option<&Ledger>;

pub fn ledger(outcome: &Outcome) -> String {
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

pub fn sources(outcome: &Outcome) -> String {
    let number = |n: Option<f64>| Cell::Number(count(or_nan(n)));
    let hash = |sha: &str| {
        let short: String = sha.chars().take(12).collect();
        Cell::Html(format!("<code title=\"{}\">{}</code>", escape(sha), escape(&short)))
    };
    let epochs = |i: usize| outcome.main().and_then(|m| m.weights.get(i)).and_then(|w| w.epochs);
    let data = |name: &str, d: &Data, shared: [Option<f64>; 4], epochs: Option<f64>| {
        let mut cells = vec![
            Cell::Text(name.into()),
            number(d.examples),
            number(d.tokens),
            number(d.loss_tokens),
            number(d.truncated),
        ];
        cells.extend(shared.map(number));
        cells.extend([number(d.removed), Cell::Number(significant(or_nan(epochs), 3)), hash(&d.sha256)]);
        cells
    };
    let mut rows: Vec<_> = outcome
        .sources
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let shared =
                [s.duplicates, s.duplicates_of_others, s.overlap_with_validation, s.overlap_with_test];
            data(&s.name, &s.data, shared, epochs(i))
        })
        .collect();
    let shared = [None, None, None, outcome.validation_overlap_with_test];
    rows.push(data("(validation)", &outcome.validation, shared, None));
    rows.push(data("(test)", &outcome.test, [None; 4], None));
    let headings = [
        "source",
        "examples",
        "tokens",
        "under the loss",
        "cut short",
        "repeated",
        "also in other sources",
        "also in validation",
        "also in test",
        "left out",
        "passes",
        "SHA-256",
    ];
    table(&headings, &rows)
        + &format!(
            "<p class=\"soft\">Repeated: examples that stand in the same source before; also in other sources: in one that comes earlier by name. Left out: by <code>data.deduplicate</code> and <code>data.overlap</code> of the recipe. Passes: how often the whole budget, sampled with the weights of {}, goes through the source. Many passes over a small source mean repetition.</p>\n",
            escape(outcome.main().map_or("no method", |m| &m.method))
        )
}

pub fn settings(outcome: &Outcome) -> String {
    let model = &outcome.model;
    let mut html = String::new();
    if model.parameters.is_some() {
        let trained = match model.trained {
            Some(trained) if model.trained != model.parameters => {
                format!(", of which {} are trained", count(trained))
            }
            _ => String::new(),
        };
        html += &paragraph(&format!(
            "The model has {} parameters{}: {} blocks of width {}, context {} and {} tokens in the vocabulary. Seeds: {}.",
            count(or_nan(model.parameters)),
            trained,
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
    if let Some(device) = &outcome.device {
        html += &paragraph(&format!("Large matrix products were made on {device}."));
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
