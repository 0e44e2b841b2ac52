//! `bilevel bench` as a user runs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const SMALL: &str = r#"
title = "Two methods on the tiny game"
[run]
seeds = [0, 1]
[budget]
steps = 3000
[judge]
reach = [1e-1, 1e-6]
[[problem]]
label = "tiny"
name = "pl-game-v2-tiny"
[[solver]]
label = "F2BA, lambda 10"
name = "f2ba"
settings = { lambda = 10.0, step_x = 0.1, step_y = 0.5, step_z = 0.5 }
[[solver]]
name = "residual-corrected"
settings = { step_x = 0.1 }
[[expect]]
problem = "tiny"
solver = "F2BA, lambda 10"
metric = "optimistic"
low = 3.587e-2
high = 3.588e-2
"#;

fn bilevel(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bilevel")).args(arguments).current_dir(folder).output().unwrap()
}

fn experiment(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// The message with which an experiment is refused.
fn refused(text: &str) -> String {
    let (folder, _) = experiment(text);
    let output = bilevel(folder.path(), &["bench", "small.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!folder.path().join("runs").exists(), "something ran");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_comparison_gives_table_files_and_report_and_is_done_once() {
    let (folder, _) = experiment(SMALL);
    let first = bilevel(folder.path(), &["bench", "small.toml", "--quiet"]);
    let text = String::from_utf8_lossy(&first.stdout);
    assert_eq!(first.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&first.stderr));
    assert!(text.contains("expected: 1 of 1 hold"), "{text}");
    let out = folder.path().join("runs/small");
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("results.jsonl").lines().count(), 4);
    let csv = read("results.csv");
    assert!(csv.lines().count() > 100 && csv.contains("\"F2BA, lambda 10\",1,OutOfSteps,3000,"), "{csv}");
    let summary: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    let lines = summary["lines"].as_array().unwrap();
    // the penalty's bias keeps the one from 1e-6, which the other reaches
    assert!(lines[0]["reached"][1]["price"].is_null());
    assert!(lines[1]["reached"][1]["price"].as_f64().unwrap() > 100.0);
    let html = read("report.html");
    assert!(html.contains("residual-corrected") && html.contains("<svg"), "no chart");
    // nothing is run twice, and the results are the same bytes
    let cells = || {
        let mut list: Vec<_> = fs::read_dir(out.join("cells"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), entry.metadata().unwrap().modified().unwrap())
            })
            .collect();
        list.sort();
        list
    };
    let (before, results) = (cells(), read("results.jsonl"));
    assert_eq!(bilevel(folder.path(), &["bench", "small.toml", "--quiet"]).status.code(), Some(0));
    assert_eq!(cells(), before);
    assert_eq!(read("results.jsonl"), results);
}

/// The results without the seconds, which no two runs share.
fn numbers(out: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(out.join("results.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut run: serde_json::Value = serde_json::from_str(line).unwrap();
            for row in run["outcome"]["rows"].as_array_mut().unwrap() {
                row["seconds"] = 0.into();
            }
            run
        })
        .collect()
}

#[test]
fn killed_at_any_moment_and_started_again_it_finds_the_same_numbers() {
    let text =
        SMALL.replace("steps = 3000", "steps = 200000").replace("[run]", "[run]\ncheckpoint_every = 500");
    let (folder, _) = experiment(&text);
    let whole = bilevel(folder.path(), &["bench", "small.toml", "--quiet", "--out", "whole"]);
    assert_eq!(whole.status.code(), Some(0));
    let cells = folder.path().join("cut/cells");
    let mut kills = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bilevel"))
            .args(["bench", "small.toml", "--quiet", "--out", "cut"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // until some run is under way, then a moment more
        while !cells.exists() && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(25 + 20 * kills));
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(Instant::now() < deadline, "it makes no headway");
    }
    assert!(kills >= 1, "it was over before it could be killed");
    assert_eq!(numbers(&folder.path().join("cut")), numbers(&folder.path().join("whole")));
}

#[test]
fn two_threads_find_what_one_finds() {
    let (folder, _) = experiment(SMALL);
    for (threads, out) in [("1", "one"), ("2", "two")] {
        let run =
            bilevel(folder.path(), &["bench", "small.toml", "--quiet", "--threads", threads, "--out", out]);
        assert_eq!(run.status.code(), Some(0));
    }
    assert_eq!(numbers(&folder.path().join("one")), numbers(&folder.path().join("two")));
}

#[test]
fn a_run_that_diverges_is_recorded_and_the_rest_goes_on() {
    let text = SMALL.replace("settings = { step_x = 0.1 }", "settings = { step_x = 1e9 }");
    let (folder, _) = experiment(&text);
    let output = bilevel(folder.path(), &["bench", "small.toml", "--quiet", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["lines"][1]["ends"], serde_json::json!({ "NonFinite": 2 }));
    assert_eq!(summary["lines"][0]["ends"], serde_json::json!({ "OutOfSteps": 2 }));
}

#[test]
fn a_grid_is_searched_beyond_its_edges_on_a_seed_of_its_own() {
    let text = SMALL
        .replace("[[problem]]", "[tuning]\nruns = 6\nseed = 9\nbudget = { steps = 300 }\n[[problem]]")
        .replace("settings = { step_x = 0.1 }", "grid = { step_x = [0.0005, 0.001] }");
    let (folder, _) = experiment(&text);
    let output = bilevel(folder.path(), &["bench", "small.toml", "--quiet", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let step = summary["lines"][1]["tuned"]["step_x"].as_f64().unwrap();
    // each step beyond the edge doubles, so four more runs come to 0.016 at most
    assert!((step - 0.016).abs() < 1e-12, "{step}");
}

#[test]
fn certified_runs_end_where_the_lower_level_falls_without_bound() {
    let text = SMALL
        .replace("steps = 3000", "steps = 60")
        .replace(
            "name = \"pl-game-v2-tiny\"",
            "name = \"pl-game-literal\"\nparameters = { d = 12, l = 9, n = 600 }",
        )
        .replace("step_x = 0.1, step_y = 0.5, step_z = 0.5", "step_x = 0.01, step_y = 0.01, step_z = 0.01")
        .replace("low = 3.587e-2\nhigh = 3.588e-2", "end = \"LowerLevelUnbounded\"");
    let (folder, path) = experiment(&text);
    let ends = |code: i32| {
        let output = bilevel(folder.path(), &["bench", "small.toml", "--quiet"]);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        numbers(&folder.path().join("runs/small"))
            .iter()
            .map(|run| format!("{} {}", run["outcome"]["end"].as_str().unwrap(), run["outcome"]["steps"]))
            .collect::<Vec<String>>()
    };
    // the methods themselves do not see it, so the expectation fails
    assert_eq!(ends(3), ["OutOfSteps 60"; 4]);
    // asked to, every run ends so; a solver may be asked at other steps, and runs that were not asked are not reused
    let solver = "name = \"residual-corrected\"";
    let certified = text
        .replace("seeds = [0, 1]", "seeds = [0, 1]\ncertify = 20")
        .replace(solver, &format!("{solver}\ncertify = 1000"));
    fs::write(&path, &certified).unwrap();
    let (early, late) = ("LowerLevelUnbounded 20", "LowerLevelUnbounded 60");
    assert_eq!(ends(0), [early, late, early, late]);
    let message = refused(&certified.replace("certify = 20", "certify = 0"));
    assert!(message.contains("run.certify = 0") && message.contains("leave it out"), "{message}");
    let message = refused(&certified.replace("certify = 1000", "certify = 0"));
    assert!(message.contains("solver residual-corrected: certify = 0"), "{message}");
}

#[test]
fn unknown_names_and_empty_grids_are_refused_with_the_nearest_match_before_anything_runs() {
    for (from, to, parts) in [
        ("name = \"f2ba\"", "name = \"f2bb\"", vec!["F2BA, lambda 10", "f2bb", "did you mean f2ba?"]),
        (
            "name = \"pl-game-v2-tiny\"",
            "name = \"pl-game-tiny\"",
            vec!["pl-game-tiny", "did you mean pl-game-v2-tiny?"],
        ),
        ("lambda = 10.0", "lamda = 10.0", vec!["lamda", "did you mean `lambda`?"]),
        ("lambda = 10.0", "lambda = -1.0", vec!["lambda = -1", "F2BA, lambda 10"]),
        ("[judge]", "[juge]", vec!["line 7", "juge", "did you mean `judge`?"]),
        (
            "solver = \"F2BA, lambda 10\"",
            "solver = \"F2BA, lambda 100\"",
            vec!["expect.solver", "did you mean `F2BA, lambda 10`?"],
        ),
        ("settings = { step_x = 0.1 }", "grid = { step_x = [] }", vec!["grid.step_x = []", "leaves no run"]),
        ("settings = { step_x = 0.1 }", "grid = { step_x = [0.1] }", vec!["no [tuning]", "tuning.runs"]),
        ("seeds = [0, 1]", "seeds = []", vec!["run.seeds = []", "at least one"]),
        ("steps = 3000", "", vec!["[budget]", "no limit"]),
        (
            "name = \"residual-corrected\"",
            "name = \"f2ba\"\nlabel = \"F2BA, lambda 10\"",
            vec!["two tables [[solver]]", "its own label"],
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let message = refused(&SMALL.replacen(from, to, 1));
        for part in parts {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    }
}

#[test]
fn a_damaged_result_of_a_run_is_named_with_the_way_out() {
    let (folder, _) = experiment(SMALL);
    assert_eq!(bilevel(folder.path(), &["bench", "small.toml", "--quiet"]).status.code(), Some(0));
    let cell = fs::read_dir(folder.path().join("runs/small/cells")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&cell).unwrap();
    fs::write(&cell, &text[..text.len() / 2]).unwrap();
    let output = bilevel(folder.path(), &["bench", "small.toml", "--quiet"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let name = cell.file_name().unwrap().to_string_lossy().into_owned();
    assert!(message.contains(&name) && message.contains("remove it"), "{message}");
}

#[test]
fn what_was_measured_of_other_software_is_in_every_report_of_the_folder() {
    let short = SMALL.replace("steps = 3000", "steps = 30");
    let (folder, _) = experiment(short.split_once("[[expect]]").unwrap().0);
    let peers = r#"{"schema": 1, "races": [{"workload": "quadratics", "solver": "soba", "other": "JAX, f64",
        "ratio": {"low": 5.5, "median": 6.25, "high": 7.0}, "aim": 5.0}]}"#;
    fs::write(folder.path().join("measured.json"), peers).unwrap();
    let wrong = bilevel(folder.path(), &["bench", "small.toml", "--peers", "small.toml"]);
    let words = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{words}");
    assert!(words.contains("cargo xtask peers") && !folder.path().join("runs").exists(), "{words}");
    let done = bilevel(folder.path(), &["bench", "small.toml", "--quiet", "--peers", "measured.json"]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let report = folder.path().join("runs/small/report.html");
    let has_section = || {
        let html = fs::read_to_string(&report).unwrap();
        html.contains("Other software, same run") && html.contains("6.25 (5.50 … 7.00)")
    };
    assert!(has_section());
    // drawn again, from the folder alone
    fs::remove_file(&report).unwrap();
    fs::remove_file(folder.path().join("measured.json")).unwrap();
    assert_eq!(bilevel(folder.path(), &["report", "runs/small"]).status.code(), Some(0));
    assert!(has_section());
}
