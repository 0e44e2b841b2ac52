//! `bilevel schema`

use anyhow::Result;
use bilevel::{problems, solvers::registry};
use clap::Args;
use serde_json::{Map, Value, json};

use super::init::Kind;
use crate::{exit::Exit, output::Output};

const EXAMPLES: &str = "\
Examples:
  bilevel schema reweight > reweight.schema.json   then, as the first line of a recipe:
                                                   #:schema ./reweight.schema.json
  bilevel schema solve                             with the settings of every solver";

/// Print the JSON schema of a recipe, by which editors complete and check it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Schema {
    /// What the recipe is for
    #[arg(value_enum)]
    kind: Kind,
}

impl Schema {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let schema = match self.kind {
            Kind::Reweight => bilevel_llm::recipe::schema(),
            Kind::Solve => solve(),
        };
        output.result(&serde_json::to_string_pretty(&schema)?, &schema)?;
        Ok(Exit::Done)
    }
}

/// The schema of a solve. Problems and solvers are those of the registries; the settings of a solver are known by its
/// defaults, and their ranges are the solver's to check.
fn solve() -> Value {
    let numbers = json!({ "type": "array", "items": { "type": "number" } });
    let limit = |what: &str| json!({ "type": "integer", "minimum": 0, "description": what });
    let parameters: Map<String, Value> = problems::entries()
        .iter()
        .flat_map(|entry| entry.parameters)
        .chain(bilevel_data::entries().iter().flat_map(|entry| entry.parameters))
        .map(|p| (p.name.to_owned(), json!({ "type": "number", "description": p.summary })))
        .collect();
    let names = [problems::names(), bilevel_data::names()].concat();
    let solvers: Vec<Value> = registry::entries().iter().map(solver).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe of bilevel solve",
        "type": "object",
        "required": ["problem"],
        "additionalProperties": false,
        "properties": {
            "problem": {
                "type": "object",
                "description": "What to solve.",
                "required": ["name"],
                "additionalProperties": false,
                "properties": {
                    "name": {
                        "type": "string",
                        "description": "One of `bilevel list problems`, in upper or lower case.",
                        "examples": names,
                    },
                    "parameters": {
                        "type": "object",
                        "description": "Its parameters, where it has some.",
                        "additionalProperties": false,
                        "properties": parameters,
                    },
                    "data": {
                        "type": "string",
                        "description": "Folder with its data, for problems that are made of data.",
                    },
                    "x": numbers,
                    "y": numbers,
                },
            },
            "solver": {
                "description": "How: the solver's name, hg-ms without, and its settings.",
                "anyOf": solvers,
            },
            "budget": {
                "type": "object",
                "description": "How much may be spent; the first limit that is reached ends the run.",
                "additionalProperties": false,
                "properties": {
                    "steps": limit("Upper steps."),
                    "gradients": limit("Gradients of both levels, a second-order product counted as two."),
                    "samples": limit("Samples touched by oracle calls of both levels."),
                    "seconds": { "type": "number", "minimum": 0, "description": "Seconds spent in the solver." },
                },
            },
            "run": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "seed": limit("Seed of every random number of the run."),
                    "out": { "type": "string", "description": "Result folder; runs/ and the recipe's name without." },
                    "checkpoint_every": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "A checkpoint is written every so many steps.",
                    },
                    "certify": {
                        "type": "integer",
                        "minimum": 1,
                        "description": "The lower level is looked at every so many steps and at the end; one that falls without bound ends the run.",
                    },
                },
            },
        },
    })
}

/// The table of one solver.
fn solver(entry: &registry::Entry) -> Value {
    let defaults = serde_json::to_value(entry.default_solver()).unwrap_or_default();
    let mut schema = of_default(&defaults);
    schema["description"] = entry.card.summary.into();
    schema["properties"]["name"] = json!({ "const": entry.name });
    if entry.name != "hg-ms" {
        schema["required"] = json!(["name"]);
    }
    schema
}

/// What a setting may be, by its default: a table has the keys of its default, a number is a number. A table with a tag (its
/// other keys belong to that tag), a list and an absent value may be anything; so may what has a number by default,
/// be it a step size, which may be a schedule.
fn of_default(default: &Value) -> Value {
    match default {
        Value::Object(fields) if !is_tagged(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), of_default(value))).collect();
            json!({ "type": "object", "additionalProperties": false, "properties": properties })
        }
        Value::Bool(_) => json!({ "type": "boolean", "default": default }),
        Value::String(_) => json!({ "type": "string", "default": default }),
        Value::Number(_) => json!({ "type": "number", "default": default }),
        Value::Null => json!({}),
        _ => json!({ "default": default }),
    }
}

/// Whether a table says by one of its words which keys it has.
fn is_tagged(fields: &Map<String, Value>) -> bool {
    ["schedule", "kind", "method"].iter().any(|tag| fields.get(*tag).is_some_and(Value::is_string))
}
