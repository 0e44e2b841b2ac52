//! `bilevel list`

use anyhow::Result;
use bilevel::{
    Oracle, problems,
    solvers::{HyperObjective, registry as solvers},
};
use clap::{Args, ValueEnum};

use crate::{exit::Exit, output::Output, registry::dimensions};

const EXAMPLES: &str = "\
Examples:
  bilevel list              everything
  bilevel list problems     what `solve` can be tried on
  bilevel list solvers --json";

/// List the solvers, and the problems with known answers
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct List {
    /// What to list; everything without
    #[arg(value_enum)]
    what: Option<What>,
    /// As tables in Markdown
    #[arg(long)]
    markdown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Solvers,
    Problems,
}

/// A table: a title, the columns' names, and the rows.
struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

fn solvers() -> Table {
    let row = |entry: &solvers::Entry| {
        vec![
            entry.name.to_owned(),
            entry.card.summary.to_owned(),
            oracles(entry.card.oracles),
            entry.card.targets.iter().copied().map(HyperObjective::name).collect::<Vec<_>>().join(", "),
            entry.card.paper.to_owned(),
            entry.path.to_owned(),
        ]
    };
    Table {
        title: "solvers",
        columns: &["name", "what it does", "needs", "targets", "from", "in the library"],
        rows: solvers::entries().iter().map(row).collect(),
    }
}

/// `f: value, grad_y; g: grad_y`
fn oracles(needed: &[Oracle]) -> String {
    let of = |level: &str| {
        let names: Vec<&str> =
            needed.iter().filter_map(|oracle| oracle.name().strip_prefix(level)?.strip_prefix('.')).collect();
        names.join(", ")
    };
    [("f", "upper"), ("g", "lower")]
        .map(|(letter, level)| (letter, of(level)))
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(letter, names)| format!("{letter}: {names}"))
        .collect::<Vec<_>>()
        .join("; ")
}

fn problems() -> Table {
    let entry_row = |entry: &problems::Entry| {
        let size = entry.build(&problems::Parameters::new()).map(|problem| dimensions(&problem));
        vec![
            entry.name.to_owned(),
            entry.summary.to_owned(),
            entry.aliases.join(", "),
            size.unwrap_or_default(),
            parameters_in_words(entry.parameters),
        ]
    };
    let data_row = |entry: &bilevel_data::Entry| {
        vec![
            entry.name.to_owned(),
            format!("{}; data: {}", entry.summary, entry.data),
            String::new(),
            entry.size.to_owned(),
            parameters_in_words(entry.parameters),
        ]
    };
    let run_row = |run: problems::runs::NamedRun| {
        let size = dimensions(&run.problem);
        vec![run.name.to_owned(), run.summary.to_owned(), String::new(), size, String::new()]
    };
    Table {
        title: "problems",
        columns: &["name", "what it is", "also", "size", "parameters"],
        rows: problems::entries()
            .iter()
            .map(entry_row)
            .chain(bilevel_data::entries().iter().map(data_row))
            .chain(problems::runs::all().into_iter().map(run_row))
            .collect(),
    }
}

fn parameters_in_words(parameters: &[problems::Parameter]) -> String {
    let words: Vec<String> =
        parameters.iter().map(|p| format!("{} = {} ({})", p.name, p.default, p.summary)).collect();
    words.join(", ")
}

impl List {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let mut tables = Vec::new();
        if self.what != Some(What::Problems) {
            tables.push(solvers());
        }
        if self.what != Some(What::Solvers) {
            tables.push(problems());
        }
        let style = if self.markdown { Table::markdown } else { Table::plain };
        let text: Vec<String> = tables.iter().map(style).collect();
        output.result(&text.join("\n"), &json(&tables))?;
        Ok(Exit::Done)
    }
}

/// `{"solvers": [{"name": …}, …], …}`
fn json(tables: &[Table]) -> serde_json::Value {
    let object = |table: &Table, row: &Vec<String>| -> serde_json::Value {
        table
            .columns
            .iter()
            .zip(row)
            .map(|(name, cell)| ((*name).to_owned(), cell.clone().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let list =
        |table: &Table| -> serde_json::Value { table.rows.iter().map(|row| object(table, row)).collect() };
    tables.iter().map(|table| (table.title.to_owned(), list(table))).collect::<serde_json::Map<_, _>>().into()
}

impl Table {
    fn plain(&self) -> String {
        let width = self.rows.iter().map(|row| row[0].len()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.title);
        for row in &self.rows {
            text += &format!("  {:width$}  {}\n", row[0], row[1]);
            for (name, cell) in self.columns.iter().zip(row).skip(2).filter(|(_, cell)| !cell.is_empty()) {
                text += &format!("  {:width$}    {name}: {cell}\n", "");
            }
        }
        text
    }
    fn markdown(&self) -> String {
        // A bar inside a cell, as in |x|, would end it.
        let line = |cells: Vec<&str>| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(self.columns.to_vec());
        text += &line(vec!["---"; self.columns.len()]);
        for row in &self.rows {
            text += &line(row.iter().map(String::as_str).collect());
        }
        text
    }
}
