use std::fmt::Write as _;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// The page must stand alone: nothing loaded, nothing run.
fn assert_is_self_contained(html: &str) {
    for foreign in ["http://", "https://", "<script", "<link", "@import", "url(", "src=", "javascript:"] {
        assert!(!html.contains(foreign), "found {foreign}");
    }
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    assert!(!html.contains("NaN") && !html.contains("inf\"") && !html.contains("undefined"));
    for tag in ["section", "table", "figure", "svg", "div", "p", "ul", "details", "tr", "td", "th"] {
        let opened = html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "unbalanced <{tag}>");
    }
}

const WEIGHTS: &str = r#"{
  "schema": 1, "versions": {"bilevel": "0.1.0"},
  "sources": [
    {"name": "good", "examples": 100, "tokens": 5000, "loss_tokens": 2500, "truncated": 0, "sha256": "abcdef0123456789", "overlap_with_validation": 0, "overlap_with_test": 1},
    {"name": "bad <b>", "examples": 200, "tokens": 9000, "loss_tokens": 4500, "truncated": 3, "sha256": "0123456789abcdef", "overlap_with_validation": 2, "overlap_with_test": 0}],
  "validation": {"examples": 10, "tokens": 500, "loss_tokens": 250, "truncated": 0, "sha256": "aa"},
  "test": {"examples": 20, "tokens": 1000, "loss_tokens": 500, "truncated": 0, "sha256": "bb"},
  "model": {"parameters": 50000, "layers": 2, "width": 48, "context": 96, "vocabulary": 260},
  "seeds": [1, 2], "budget": 30000,
  "methods": [
    {"method": "hg-ms", "test_loss": 1.5, "test_loss_sd": 0.02,
     "weights": [{"mean": 0.8, "sd": 0.05, "epochs": 1.6}, {"mean": 0.2, "sd": 0.05, "epochs": 0.2}],
     "seeds": [{"seed": 1, "weights": [0.75, 0.25], "no_signal": 1, "cycles": 4, "test_loss": 1.48, "test_accuracy": 0.5, "validation_loss": 1.4, "online_test_loss": 1.55,
       "search": {"budget": 30000, "spent": 29900, "steps": 10, "weights": {"training": 3, "evaluation": 1, "gradient": 3, "gauss_newton": 6, "directional": 2}, "entries": [{"entry": "training", "tokens": 9000, "weight": 3, "units": 27000}, {"entry": "final evaluation", "tokens": 1000, "weight": 0, "units": 0}]},
       "retraining": {"budget": 30000, "spent": 30000, "steps": 12, "weights": {"training": 3, "evaluation": 1, "gradient": 3, "gauss_newton": 6, "directional": 2}, "entries": [{"entry": "training", "tokens": 10000, "weight": 3, "units": 30000}]}}]},
    {"method": "uniform", "test_loss": 1.7, "test_loss_sd": null,
     "weights": [{"mean": 0.5, "sd": null, "epochs": 1}, {"mean": 0.5, "sd": null, "epochs": 0.5}], "seeds": []}],
  "comparisons": [{"method": "hg-ms", "baseline": "uniform", "difference": -0.2, "standard_error": 0.03, "interval": [-0.26, -0.14], "verdict": "better"}],
  "warnings": ["two seeds only"], "recipe": "[run]\nbudget = 30000\n"}"#;

fn trace() -> String {
    let mut text = String::new();
    for seed in [1, 2] {
        for step in 0..6u64 {
            let p = 0.5 + 0.05 * step as f64;
            let certificate = if step % 2 == 1 {
                format!(
                    r#"{{"r": {}, "gradient_norm": 0.1, "noise": 0.05, "gradient": [0.1, -0.1], "no_signal": {}, "solve_residual": 0.1, "damping": 0.3, "continuations": []}}"#,
                    1.0 / step as f64,
                    step == 5
                )
            } else {
                "null".into()
            };
            let validation =
                if step % 2 == 0 { format!("{}", 3.0 - 0.2 * step as f64) } else { "null".into() };
            let losses = if step == 3 { "[null, 2.0]" } else { "[1.5, 2.5]" };
            for phase in ["search", "retraining"] {
                let certificate = if phase == "search" { &certificate } else { "null" };
                let _ = writeln!(
                    text,
                    r#"{{"method": "hg-ms", "seed": {seed}, "phase": "{phase}", "step": {step}, "spent": {}, "weights": [{p}, {}], "step_size": 0.01, "train_loss": 2.0, "source_losses": {losses}, "validation_loss": {validation}, "certificate": {certificate}}}"#,
                    5000 * step,
                    1.0 - p
                );
            }
        }
    }
    text
}

const TIMINGS: &str = r#"{"rows": [{"method": "hg-ms", "seed": 1, "phase": "search", "seconds": 12.5, "tokens_per_second": 900}]}"#;

const SECTIONS: [&str; 9] = [
    "weights",
    "methods",
    "over-time",
    "validation",
    "certificate",
    "source-losses",
    "ledger",
    "sources",
    "settings",
];

fn drawn(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let path = reweight(folder.path()).unwrap();
    assert_eq!(path, folder.path().join("report.html"));
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_reweighting_report_has_every_part_and_stands_alone() {
    let html = drawn(&[("weights.json", WEIGHTS), ("trace.jsonl", &trace()), ("timings.json", TIMINGS)]);
    assert_is_self_contained(&html);
    for section in SECTIONS {
        assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    assert!(
        html.contains("0.80\u{a0}±\u{a0}0.05") || html.contains("0.800\u{a0}±\u{a0}0.050"),
        "weights with noise bars"
    );
    assert!(html.contains("bad &lt;b&gt;") && !html.contains("bad <b>"), "names are escaped");
    assert!(html.contains("<b class=\"good\">better</b>") && html.contains("−0.200\u{a0}±\u{a0}0.030"));
    assert!(
        html.contains("two seeds only") && html.contains("12.5 s") && html.contains("abcdef012345</code>")
    );
    assert!(html.contains("2 of 6 cycles over all seeds had no signal"));
    assert!(html.contains("class=\"mark\""), "cycles without signal are marked");
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("@media print"));
}

#[test]
fn weights_that_are_set_after_the_search_are_on_no_way() {
    let files = |weights: &str| drawn(&[("weights.json", weights), ("trace.jsonl", &trace())]);
    let moved = files(WEIGHTS);
    assert!(moved.contains("Weights over time, hg-ms") && moved.contains("from the start: uniform."));
    assert!(!moved.contains("Weights set when the search had ended"));
    // a second method whose search is traced, and whose model was not trained with the weights that it found
    let mut result: serde_json::Value = serde_json::from_str(WEIGHTS).unwrap();
    let mut other = result["methods"][0].clone();
    other["method"] = "trials".into();
    other["seeds"][0]["online_test_loss"] = serde_json::Value::Null;
    result["methods"].as_array_mut().unwrap().push(other);
    let trace = trace() + &trace().replace("hg-ms", "trials");
    let both = drawn(&[("weights.json", &result.to_string()), ("trace.jsonl", &trace)]);
    assert!(both.contains("Weights over time, hg-ms") && !both.contains("Weights over time, trials"));
    assert!(both.contains("Weights set when the search had ended: trials."));
}

#[test]
fn the_verdict_is_that_of_the_result() {
    for (verdict, words) in [("no-difference", ">no difference<"), ("one-seed", ">one seed, no verdict<")] {
        let weights = WEIGHTS.replace(r#""verdict": "better""#, &format!(r#""verdict": "{verdict}""#));
        let html = drawn(&[("weights.json", &weights)]);
        assert!(html.contains(words) && !html.contains(">better<"), "{verdict}");
    }
}

#[test]
fn answers_are_compared_and_the_device_is_named() {
    let judged = |name: &str, share: f64| {
        let estimate = |mean: f64| format!(r#"{{"mean": {mean}, "interval": [0.1, 0.9]}}"#);
        format!(
            r#"{{"method": "{name}", "weights": [{{"mean": 1.0}}], "seeds": [{{"seed": 1}}], "evaluation": {{"test_loss": {}, "source_losses": [],
                "exact_match": {{"share": {}, "seeds": [{share}], "examples": 50, "left_out": 1, "unanswered": 0.1}}}}}}"#,
            estimate(1.5),
            estimate(share)
        )
    };
    let drawn_with = |compared: &str| {
        drawn(&[(
            "weights.json",
            &format!(
                r#"{{"sources": [{{"name": "only"}}], "model": {{"parameters": 9}}, "device": "A <device>", "methods": [{}, {}],
                    "comparisons": [{{"method": "less", "baseline": "uniform", "difference": 0.0, "standard_error": 0.1, "interval": [0, 0], "verdict": "no-difference"{compared}}}]}}"#,
                judged("less", 0.5),
                judged("uniform", 0.25)
            ),
        )])
    };
    let html = drawn_with(
        r#", "exact_match": {"difference": 0.25, "standard_error": 0.0625, "interval": [0.125, 0.375], "verdict": "better"}"#,
    );
    assert_is_self_contained(&html);
    assert!(
        html.contains("exact match against uniform") && !html.contains("exact match against proportional")
    );
    let number = "<b class=\"good\">better</b><br><span class=\"soft\">25.0\u{a0}±\u{a0}6.2</span>";
    assert!(html.contains(number), "{html}");
    assert!(html.contains("made on A &lt;device&gt;."));
    // a result without the comparison has no column for it
    assert!(!drawn_with("").contains("exact match against"));
}

#[test]
fn losses_on_sources_stand_beside_the_number_of_examples_held_out() {
    let html = drawn(&[(
        "weights.json",
        r#"{"sources": [{"name": "large", "held_out": {"examples": 37, "tokens": 400, "loss_tokens": 300}},
                        {"name": "tiny", "held_out": {"examples": 0, "tokens": 0, "loss_tokens": 0}}],
            "methods": [{"method": "uniform", "weights": [{"mean": 0.5}, {"mean": 0.5}], "seeds": [{"seed": 1}],
                         "evaluation": {"test_loss": {"mean": 1.5, "interval": [1.4, 1.6]}, "exact_match": null,
                                        "source_losses": [{"mean": 2.25, "interval": [2.0, 2.5]}, null]}}]}"#,
    )]);
    assert_is_self_contained(&html);
    let rows = [
        "<td>large</td><td class=\"n\">37</td><td>2.250<br>",
        "<td>tiny</td><td class=\"n\">0</td><td>–</td>",
    ];
    for row in rows {
        assert!(html.contains(row), "`{row}` not in: {html}");
    }
    assert!(html.contains("no model was trained on"));
}

#[test]
fn what_was_expected_stands_beside_what_was_found_seed_by_seed() {
    let method = |name: &str, seeds: [(&str, f64); 2]| {
        let seeds: Vec<String> = seeds
            .iter()
            .zip(1..)
            .map(|((expected, loss), seed)| {
                format!(r#"{{"seed": {seed}, {expected} "validation_loss": {loss}}}"#)
            })
            .collect();
        format!(r#"{{"method": "{name}", "weights": [{{"mean": 1.0}}], "seeds": [{}]}}"#, seeds.join(", "))
    };
    let expected = [(r#""predicted_change": -0.25,"#, 2.0), (r#""predicted_change": -0.75,"#, 3.0)];
    let silent = [("", 2.125), ("", 3.375)];
    let drawn_with = |methods: &[String]| {
        let sources = r#""sources": [{"name": "only"}]"#;
        drawn(&[("weights.json", &format!(r#"{{{sources}, "methods": [{}]}}"#, methods.join(", ")))])
    };
    let html = drawn_with(&[method("f2ba", expected), method("uniform", silent)]);
    assert_is_self_contained(&html);
    // mean and deviation of −0.25 and −0.75, and of −0.125 and −0.375
    assert!(html.contains("−0.50\u{a0}±\u{a0}0.35") && html.contains("−0.25\u{a0}±\u{a0}0.18"));
    assert!(drawn_with(&[method("f2ba", expected)]).contains("<td class=\"n\">–</td>"));
    assert!(!drawn_with(&[method("uniform", silent)]).contains("expected change"));
}

#[test]
fn one_method_one_seed_one_step_and_nothing_optional() {
    let weights = r#"{"sources": [{"name": "only"}], "methods": [{"method": "uniform", "weights": [{"mean": 1.0}], "seeds": [{"seed": 1}]}]}"#;
    let row = r#"{"method": "uniform", "seed": 1, "phase": "retraining", "step": 1, "spent": 10, "weights": [1.0], "validation_loss": 2.0}
"#;
    for files in [vec![("weights.json", weights)], vec![("weights.json", weights), ("trace.jsonl", row)]] {
        let html = drawn(&files);
        assert_is_self_contained(&html);
        for section in SECTIONS {
            assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
        }
    }
    assert_is_self_contained(&drawn(&[("weights.json", "{}")]));
}

#[test]
fn a_torn_last_line_is_left_out_and_a_damaged_one_is_named() {
    let torn = trace() + r#"{"method": "hg-"#;
    assert_is_self_contained(&drawn(&[("weights.json", WEIGHTS), ("trace.jsonl", &torn)]));

    let damaged = folder(&[("weights.json", WEIGHTS), ("trace.jsonl", "{}\n{\"step\": }\n{}\n")]);
    let error = reweight(damaged.path()).unwrap_err().to_string();
    assert!(error.contains("trace.jsonl, line 2"), "{error}");
}

#[test]
fn a_folder_without_results_is_named() {
    let empty = folder(&[]);
    let error = reweight(empty.path()).unwrap_err().to_string();
    assert!(error.contains("weights.json is missing"), "{error}");
    let error = solve(empty.path()).unwrap_err().to_string();
    assert!(error.contains("trace.jsonl is missing"), "{error}");
}

#[test]
fn equal_files_give_equal_bytes() {
    let files = [("weights.json", WEIGHTS), ("trace.jsonl", &*trace())];
    assert_eq!(drawn(&files), drawn(&files));
}

const SOLVED: &str = r#"{"schema": 1, "version": "0.1.0", "problem": "t5", "solver": "hg-ms", "target": "optimistic", "seed": 0,
  "end": {"status": "converged"}, "end_in_words": "Converged", "steps": 3, "x": [0.5, null], "y": [1.0], "value": 0.25, "stationarity": 1e-9,
  "known_value": 0.25, "counts": {"upper": {"value": 9, "grad_x": 8, "grad_y": 7, "hvp_yy": 0, "jvp_xy": 0, "samples": 24}, "lower": {"value": 90, "grad_x": 0, "grad_y": 70, "hvp_yy": 60, "jvp_xy": 5, "samples": 225}}}"#;

fn solve_trace(finding: &str) -> String {
    let mut text = String::new();
    for (step, value, stationarity) in [(1, "1.0", "0.5"), (2, "null", "null"), (3, "0.25", "1e-9")] {
        let _ = writeln!(
            text,
            r#"{{"step": {step}, "value": {value}, "stationarity": {stationarity}, "counts": {{"upper": {{"value": 1, "grad_x": 1, "grad_y": 1, "hvp_yy": 0, "jvp_xy": 0, "samples": 3}}, "lower": {{"value": {step}, "grad_x": 0, "grad_y": {step}, "hvp_yy": 5, "jvp_xy": 1, "samples": 9}}}}, "certificate": {{"distance": 1e-12, "kernel_dim": 1, "error": 1e-{step}, "findings": [{finding}]}}, "extras": {{"branches": {step}.0, "weight_0": 0.25, "weight_1": null}}}}"#
        );
    }
    text
}

fn solved(finding: &str) -> String {
    let folder = folder(&[
        ("result.json", SOLVED),
        ("trace.jsonl", &solve_trace(finding)),
        ("times.jsonl", "{\"step\": 3, \"seconds\": 0.5}\n"),
        ("recipe.toml", "[problem]\nname = \"t5\"\n"),
    ]);
    fs::read_to_string(solve(folder.path()).unwrap()).unwrap()
}

#[test]
fn a_solve_report_has_every_part_and_stands_alone() {
    let html = solved("");
    assert_is_self_contained(&html);
    for section in ["progress", "certificate", "selections", "price", "settings"] {
        assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    assert!(html.contains("Certified.") && html.contains("<b class=\"good\">Converged</b>"));
    assert!(html.contains("dimension of S(x)") && html.contains("name = &quot;t5&quot;"));
    assert!(html.contains("0.500 s") && html.contains(">gradients (a second-order product is two)<"));
}

#[test]
fn findings_are_said_in_words() {
    let html =
        solved(r#"{"finding": "tie", "values": [0.25, 0.25], "gradients": [[1.0, 0.0], [-1.0, 0.0]]}"#);
    assert!(html.contains("something to know") && html.contains("F has a kink") && html.contains(">branch<"));
    let html = solved(r#"{"finding": "not-selected", "residual": 0.5}"#);
    assert!(
        html.contains("Not certified.")
            && html.contains("NotSelected")
            && html.contains("can still be lowered")
    );
    let html = solved(r#"{"finding": "of-a-later-version"}"#);
    assert!(html.contains("of-a-later-version"));
}

#[test]
fn a_solve_that_ended_before_its_first_step_has_a_report() {
    let folder = folder(&[("trace.jsonl", "")]);
    let html = fs::read_to_string(solve(folder.path()).unwrap()).unwrap();
    assert_is_self_contained(&html);
    assert!(html.contains("The trace is empty"));
}

#[test]
fn numbers_are_printed_as_far_as_their_spread_allows() {
    assert_eq!(plus_minus(0.123456, 0.0123, 3), "0.123\u{a0}±\u{a0}0.012");
    assert_eq!(plus_minus(-12.3456, 1.23, 3), "−12.3\u{a0}±\u{a0}1.2");
    assert_eq!(plus_minus(0.5, f64::NAN, 3), "0.500");
    assert_eq!(mean_sd([1.0, 3.0, f64::NAN]), (2.0, 2f64.sqrt()));
    assert!(mean_sd([]).0.is_nan());
    assert_eq!(duration(12.345), "12.3 s");
    assert_eq!(duration(600.0), "10.0 min");
}

#[test]
fn a_small_page_looks_as_it_did() {
    let row = r#"{"step": 1, "value": 1.5, "stationarity": 0.25, "certificate": {"distance": 1e-12, "kernel_dim": 1, "findings": []}}"#;
    let folder = folder(&[("trace.jsonl", &format!("{row}\n"))]);
    let html = fs::read_to_string(solve(folder.path()).unwrap()).unwrap();
    let (_, after_style) = html.split_once("</style>").unwrap();
    insta::assert_snapshot!(after_style);
}

/// The readers here are lenient; the writers' own types hold the files of these tests to what is really written.
#[test]
fn the_files_drawn_here_are_of_the_form_that_runs_write() {
    serde_json::from_str::<bilevel_llm::result::RunResult>(WEIGHTS).unwrap();
    serde_json::from_str::<bilevel_llm::result::Timings>(TIMINGS).unwrap();
    for line in trace().lines().filter(|line| !line.contains("[null")) {
        serde_json::from_str::<bilevel_llm::result::TraceRow>(line).unwrap();
    }
}
