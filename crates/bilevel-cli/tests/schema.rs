//! The schemas of `bilevel schema` hold for the recipes that ship, and refuse what the command refuses.

use std::process::Command;

use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_bilevel")).args(["schema", kind]).output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn recipe(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

/// The first fault of a value by a schema, `None` when there is none. Keywords that do not occur in our schemas are not known
/// here, and a schema with one of them is refused by a panic.
fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(always) = schema.as_bool() {
        return (!always).then(|| format!("{value} is not allowed"));
    }
    let schema = schema.as_object().unwrap();
    let at = |schema: &Value, value: &Value| fault(root, schema, value);
    let empty = json!({});
    let own = schema.get("properties").unwrap_or(&empty);
    let wrong = |what: &Value| Some(format!("{value} is not {what}"));
    for (keyword, wanted) in schema {
        let found = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" | "format"
            | "properties" => None,
            "$ref" => at(root.pointer(wanted.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                let any = wanted.as_array().map_or_else(|| is(wanted), |names| names.iter().any(is));
                if any { None } else { wrong(wanted) }
            }
            "const" => (value != wanted).then(|| format!("{value} is not {wanted}")),
            "enum" => {
                if wanted.as_array().unwrap().contains(value) {
                    None
                } else {
                    wrong(wanted)
                }
            }
            "minimum" => value
                .as_f64()
                .filter(|it| *it < wanted.as_f64().unwrap())
                .map(|it| format!("{it} < {wanted}")),
            "maximum" => value
                .as_f64()
                .filter(|it| *it > wanted.as_f64().unwrap())
                .map(|it| format!("{it} > {wanted}")),
            "required" => wanted
                .as_array()
                .unwrap()
                .iter()
                .find(|key| value.is_object() && value.get(key.as_str().unwrap()).is_none())
                .map(|key| format!("{key} is missing")),
            "additionalProperties" => value.as_object().and_then(|fields| {
                fields
                    .iter()
                    .filter(|(key, _)| own.get(key.as_str()).is_none())
                    .find_map(|(key, value)| at(wanted, value).map(|fault| format!("{key}: {fault}")))
            }),
            "items" => value.as_array().and_then(|list| list.iter().find_map(|item| at(wanted, item))),
            "anyOf" | "oneOf" => {
                let faults: Vec<Option<String>> =
                    wanted.as_array().unwrap().iter().map(|choice| at(choice, value)).collect();
                let fitting = faults.iter().filter(|fault| fault.is_none()).count();
                let fits = if keyword == "oneOf" { fitting == 1 } else { fitting > 0 };
                (!fits).then(|| format!("{fitting} choices fit {value}: {faults:?}"))
            }
            "allOf" => wanted.as_array().unwrap().iter().find_map(|part| at(part, value)),
            other => panic!("the keyword {other} is not known to this test"),
        };
        if found.is_some() {
            return found;
        }
    }
    let fields = own.as_object().unwrap();
    fields.iter().find_map(|(key, schema)| {
        let fault = at(schema, value.get(key)?)?;
        Some(format!("{key}: {fault}"))
    })
}

fn assert_holds(schema: &Value, text: &str) {
    assert_eq!(fault(schema, schema, &recipe(text)), None, "{text}");
}

/// TOML has no null: what is absent by default is left out.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_null(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

const SOLVE: &str = include_str!("../recipes/solve.toml");
const REWEIGHT: &str = include_str!("../recipes/reweight.toml");

#[test]
fn the_schema_of_reweight_holds_for_shipped_recipes() {
    let schema = schema("reweight");
    assert_holds(&schema, REWEIGHT);
    assert_holds(&schema, include_str!("../../../experiments/gsm8k.toml"));
    assert_holds(&schema, bilevel_llm::demo::DEMO_RECIPE);
    assert_holds(&schema, &format!("{REWEIGHT}\nstep = 0.2\ndamping = 0.1\n"));
    assert_holds(&schema, &format!("{REWEIGHT}\nstep = {{ reach = 3.0 }}\ndamping = \"horizon\"\n"));
    assert_holds(&schema, &format!("{REWEIGHT}\ngiven = \"a/weights.json\"\nmax_epochs = 4\n"));
    assert_holds(&schema, &format!("{REWEIGHT}\ngiven = {{ file = \"w.json\", method = \"less\" }}\n"));
    assert_holds(&schema, &format!("{REWEIGHT}\ngiven = {{ books = 0.4, chats = 0.6 }}\n"));
    for wrong in [
        REWEIGHT.replace("[model]", "[modell]"),
        REWEIGHT.replace("\"alignment\"", "\"alingment\""),
        REWEIGHT.replace("lr = 3e-3", "lr = \"fast\""),
        REWEIGHT.replacen("path =", "pth =", 1),
        REWEIGHT.replacen("[[source]]", "[[source]]\nwieght = 1", 1),
        format!("{REWEIGHT}\ncycel = 3\n"),
    ] {
        assert!(fault(&schema, &schema, &recipe(&wrong)).is_some(), "{wrong}");
    }
}

#[test]
fn the_schema_of_solve_holds_for_the_shipped_recipe_and_every_solver() {
    let schema = schema("solve");
    assert_holds(&schema, SOLVE);
    assert_holds(&schema, "[problem]\nname = \"r2\"\n[run]\ncertify = 100\n");
    for entry in bilevel::solvers::registry::entries() {
        let defaults = serde_json::to_value(entry.default_solver()).unwrap();
        let whole = json!({ "problem": { "name": "r2" }, "solver": defaults });
        assert_eq!(fault(&schema, &schema, &without_null(whole)), None, "{}", entry.name);
    }
    for wrong in [
        SOLVE.replace("name = \"hg-ms\"", "name = \"hgms\""),
        SOLVE.replace("name = \"hg-ms\"", "name = \"hg-ms\"\nmax_branch = 3"),
        SOLVE.replace("steps = 200", "stpes = 200"),
        SOLVE.replace("steps = 200", "steps = -200"),
    ] {
        assert!(fault(&schema, &schema, &recipe(&wrong)).is_some(), "{wrong}");
    }
}
