//! `bilevel solve`, `resume`, `init`, `list` and their exit codes, as a user meets them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

mod kill;

fn bilevel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bilevel")).args(arguments).output().unwrap()
}
fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
/// Runs and returns the error text, which must come with this exit code.
fn failure(code: i32, arguments: &[&str]) -> String {
    let output = bilevel(arguments);
    let text = error_of(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}
fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    (folder, out)
}
fn recipe_of(folder: &TempDir, text: &str) -> String {
    let path = folder.path().join("recipe.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn a_solve_converges_and_writes_its_files() {
    let (_keep, out) = folder();
    let output = bilevel(&["solve", "--problem", "r6", "--out", &out, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_of(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["end"]["status"], "converged");
    // The minimum of the run R6 in the zoo; seven of its eight branches are traps.
    assert!((result["value"].as_f64().unwrap() + 4.240_627_213_62).abs() < 1e-8, "{result}");
    for file in ["recipe.toml", "trace.jsonl", "times.jsonl", "checkpoint.json", "result.json"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    let on_disk: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("result.json")).unwrap()).unwrap();
    assert_eq!(on_disk, result);
}

#[test]
fn an_unbounded_lower_level_is_the_end_of_the_run_and_not_an_error() {
    for problem in ["unbounded", "pl-game-literal"] {
        let (_keep, out) = folder();
        let output = bilevel(&["solve", "--problem", problem, "--out", &out, "--json"]);
        assert_eq!(output.status.code(), Some(3), "{problem}: {}", error_of(&output));
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        contains_all(result["end_in_words"].as_str().unwrap(), &["LowerLevelUnbounded", "slope"]);
        assert_eq!(result["stationarity"], serde_json::Value::Null);
        // and its end is kept
        let again = bilevel(&["resume", &out, "--quiet"]);
        assert_eq!(again.status.code(), Some(3), "{problem}: {}", error_of(&again));
    }
}

#[test]
fn a_certified_solve_ends_where_the_lower_level_falls_without_bound() {
    let keep = tempfile::tempdir().unwrap();
    let text = "[problem]\nname = \"pl-game-literal\"\nparameters = { d = 12, l = 9, n = 600 }\n\
                [budget]\nsteps = 40\n[run]\ncertify = 10\n";
    let recipe = recipe_of(&keep, text);
    for solver in ["hjfbio", "f2ba", "soba"] {
        let (_keep, out) = folder();
        let output = bilevel(&["solve", &recipe, "--solver", solver, "--out", &out, "--json"]);
        assert_eq!(output.status.code(), Some(3), "{solver}: {}", error_of(&output));
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        contains_all(result["end_in_words"].as_str().unwrap(), &["LowerLevelUnbounded", "slope"]);
        assert_eq!(result["steps"], 10, "{solver}");
        // and its end is kept
        let again = bilevel(&["resume", &out, "--json", "--quiet"]);
        let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!((&again["end"], &again["steps"]), (&result["end"], &result["steps"]), "{solver}");
    }
    // the option goes before the key: at the end alone
    let (_keep, out) = folder();
    let late = ["solve", &recipe, "--solver", "soba", "--certify", "1000", "--out", &out, "--json"];
    let result: serde_json::Value = serde_json::from_slice(&bilevel(&late).stdout).unwrap();
    contains_all(result["end_in_words"].as_str().unwrap(), &["LowerLevelUnbounded"]);
    assert_eq!(result["steps"], 40);
    // without either the method never learns of it
    let plain = recipe_of(&keep, &text.replace("certify = 10", ""));
    let (_keep, out) = folder();
    let output = bilevel(&["solve", &plain, "--solver", "soba", "--out", &out, "--json"]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    contains_all(result["end_in_words"].as_str().unwrap(), &["OutOfSteps"]);
    let refused = failure(2, &["solve", "--problem", "r2", "--certify", "0"]);
    contains_all(&refused, &["run.certify = 0 is not allowed", "1 or more", "leave it out"]);
}

#[test]
fn certifying_a_bounded_lower_level_changes_nothing() {
    let (_keep, plain) = folder();
    let (_keep, certified) = folder();
    let arguments = ["solve", "--problem", "pl-game-v2-tiny", "--solver", "ba", "--steps", "30", "--out"];
    bilevel(&[&arguments[..], &[&plain]].concat());
    bilevel(&[&arguments[..], &[&certified, "--certify", "7"]].concat());
    for file in ["trace.jsonl", "result.json"] {
        let read = |folder: &str| fs::read_to_string(Path::new(folder).join(file)).unwrap();
        assert_eq!(read(&plain), read(&certified), "{file}");
    }
}

#[test]
fn results_go_to_standard_output_and_quiet_silences_the_rest() {
    let (_keep, out) = folder();
    let output = bilevel(&["solve", "--problem", "r2", "--out", &out, "--quiet"]);
    assert_eq!(error_of(&output), "");
    contains_all(
        &String::from_utf8(output.stdout).unwrap(),
        &["Converged", "F(x)", "closed form", "certificate"],
    );
}

#[test]
fn running_out_of_budget_has_an_exit_code_of_its_own_and_resume_goes_on() {
    let (_keep, out) = folder();
    let first = bilevel(&["solve", "--problem", "r6", "--out", &out, "--steps", "4"]);
    assert_eq!(first.status.code(), Some(3), "{}", error_of(&first));
    let second = bilevel(&["resume", &out, "--steps", "100"]);
    assert_eq!(second.status.code(), Some(0), "{}", error_of(&second));
    let (_keep, straight) = folder();
    bilevel(&["solve", "--problem", "r6", "--out", &straight, "--steps", "100"]);
    assert_same_files(Path::new(&out), Path::new(&straight));
}

/// The files that do not depend on the clock are the same, byte for byte.
fn assert_same_files(one: &Path, other: &Path) {
    for file in ["recipe.toml", "trace.jsonl", "result.json"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap();
        assert!(read(one) == read(other), "{file} differs");
    }
}

#[cfg(unix)]
#[test]
fn a_run_killed_at_any_moment_and_resumed_gives_the_bytes_of_one_never_stopped() {
    // T2 has no minimiser in x, so the run always spends its budget: long enough to be killed in the middle.
    let arguments = |out: &Path| {
        let out = out.display().to_string();
        ["solve", "--problem", "t2", "--steps", "300", "--quiet", "--out", &out].map(str::to_owned)
    };
    let keep = tempfile::tempdir().unwrap();
    let straight = keep.path().join("straight");
    let clock = std::time::Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_bilevel")).args(arguments(&straight)).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", error_of(&output));
    let whole = clock.elapsed();
    // Moments spread over the run; how far it has come at each is up to the machine.
    for (index, share) in [0.0, 0.3, 0.55, 0.8].into_iter().enumerate() {
        let cut = keep.path().join(format!("cut-{index}"));
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bilevel"));
            command.args(arguments(&cut));
            command
        };
        kill::while_it_runs(run, &cut, ["checkpoint.json", "result.json"], whole.mul_f64(share));
        let resumed = bilevel(&["resume", &cut.display().to_string(), "--quiet"]);
        assert_eq!(resumed.status.code(), Some(3), "{}", error_of(&resumed));
        assert_same_files(&cut, &straight);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_go_on() {
    let (_keep, out) = folder();
    let child = Command::new(env!("CARGO_BIN_EXE_bilevel"))
        .args(["solve", "--problem", "t2", "--steps", "100000000", "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first checkpoint shows that the run has begun.
    let checkpoint = Path::new(&out).join("checkpoint.json");
    for _ in 0..600 {
        if checkpoint.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", error_of(&output));
    contains_all(&error_of(&output), &["interrupted after step", &format!("bilevel resume {out}")]);
    let resumed = bilevel(&["resume", &out, "--steps", "1", "--quiet"]);
    assert_eq!(resumed.status.code(), Some(3), "{}", error_of(&resumed));
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let (_keep, out) = folder();
    assert!(bilevel(&["solve", "--problem", "r2", "--out", &out]).status.success());
    let text = failure(2, &["solve", "--problem", "r2", "--out", &out]);
    contains_all(&text, &["holds a run", "bilevel resume", "--force"]);
    assert!(bilevel(&["solve", "--problem", "r2", "--out", &out, "--force"]).status.success());
}

#[test]
fn a_missing_recipe_is_named_with_the_remedy() {
    let text = failure(1, &["solve", "nowhere.toml"]);
    contains_all(&text, &["recipe nowhere.toml", "check the path", "bilevel init"]);
}

#[test]
fn an_unknown_key_is_told_with_line_and_nearest_match() {
    let keep = tempfile::tempdir().unwrap();
    let recipe = recipe_of(&keep, "[problem]\nname = \"r2\"\n\n[budget]\nstpes = 5\n");
    let text = failure(2, &["solve", &recipe]);
    contains_all(
        &text,
        &["recipe.toml, line 5 (`stpes = 5`)", "unknown key `stpes`", "did you mean `steps`"],
    );
    let recipe = recipe_of(&keep, "[problem]\nname = \"r2\"\n\n[solver]\nname = \"hg-ms\"\nmax_branch = 5\n");
    let text = failure(2, &["solve", &recipe]);
    contains_all(&text, &["unknown key `max_branch`", "did you mean `max_branches`"]);
}

#[test]
fn a_recipe_that_is_no_toml_is_told_with_its_line() {
    let keep = tempfile::tempdir().unwrap();
    let recipe = recipe_of(&keep, "[problem]\nname = r2\n");
    contains_all(&failure(2, &["solve", &recipe]), &["recipe.toml, line 2 (`name = r2`)"]);
}

#[test]
fn a_negative_budget_is_refused() {
    let keep = tempfile::tempdir().unwrap();
    let recipe = recipe_of(&keep, "[problem]\nname = \"r2\"\n[budget]\nsteps = -5\n");
    contains_all(&failure(2, &["solve", &recipe]), &["line 4 (`steps = -5`)", "-5"]);
    let recipe = recipe_of(&keep, "[problem]\nname = \"r2\"\n[budget]\nseconds = -1.5\n");
    let text = failure(2, &["solve", &recipe]);
    contains_all(&text, &["budget.seconds = -1.5 is not allowed", "zero or a positive number"]);
}

#[test]
fn settings_out_of_range_name_the_field() {
    let (_keep, out) = folder();
    let text = failure(2, &["solve", "--problem", "r2", "--set", "solver.max_branches=0", "--out", &out]);
    contains_all(&text, &["max_branches = 0 is not allowed", "give at least 1"]);
}

#[test]
fn unknown_names_get_the_nearest_match() {
    contains_all(&failure(2, &["solve", "--problem", "taurus"]), &["taurus", "did you mean torus?"]);
    let text = failure(2, &["solve", "--problem", "r6", "--solver", "hgms"]);
    contains_all(&text, &["solver = hgms is not allowed", "did you mean hg-ms?"]);
    contains_all(&failure(2, &["sovle"]), &["solve"]);
}

#[test]
fn a_start_of_the_wrong_size_is_refused() {
    let text = failure(2, &["solve", "--problem", "r2", "--x=-1.0,2.0"]);
    contains_all(&text, &["problem.x = [-1.0, 2.0] has 2 numbers", "r2 has 1 upper coordinates"]);
    let text = failure(2, &["solve", "--problem", "r2", "--x=nan"]);
    contains_all(&text, &["NaN", "finite"]);
}

/// A run that is out of steps, for tampering with its checkpoint.
fn stopped(keep: &TempDir) -> (String, PathBuf) {
    let out = keep.path().join("out");
    let text = out.display().to_string();
    bilevel(&["solve", "--problem", "r6", "--steps", "3", "--out", &text]);
    (text, out.join("checkpoint.json"))
}

#[test]
fn a_truncated_checkpoint_is_told() {
    let keep = tempfile::tempdir().unwrap();
    let (out, checkpoint) = stopped(&keep);
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    contains_all(&failure(1, &["resume", &out]), &["checkpoint.json is damaged", "start the run again"]);
}

#[test]
fn a_foreign_checkpoint_is_told() {
    let keep = tempfile::tempdir().unwrap();
    let (out, checkpoint) = stopped(&keep);
    let (_other, other) = folder();
    bilevel(&["solve", "--problem", "r2", "--out", &other]);
    fs::copy(Path::new(&other).join("checkpoint.json"), checkpoint).unwrap();
    let text = failure(1, &["resume", &out]);
    contains_all(&text, &["solver hg-ms on problem r2", "not to solver hg-ms on problem r6", "recipe"]);
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let keep = tempfile::tempdir().unwrap();
    let text = failure(2, &["resume", &keep.path().display().to_string()]);
    contains_all(&text, &["holds no run", "recipe.toml"]);
}

#[test]
fn a_result_folder_that_cannot_be_made_is_told() {
    // A file where a folder should be refuses everyone, the superuser included.
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("file");
    fs::write(&file, "").unwrap();
    let out = file.join("out").display().to_string();
    let text = failure(1, &["solve", "--problem", "r2", "--out", &out]);
    contains_all(&text, &["result folder", "cannot be made", "--out"]);
}

/// A folder of the kernel's is read-only for everyone, the superuser included.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_told() {
    let text = failure(1, &["solve", "--problem", "r2", "--out", "/sys/kernel/bilevel-run"]);
    contains_all(&text, &["result folder /sys/kernel/bilevel-run", "cannot be made", "--out"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    // The trace goes to a device that is always full.
    let keep = tempfile::tempdir().unwrap();
    let out = keep.path().join("out");
    fs::create_dir(&out).unwrap();
    std::os::unix::fs::symlink("/dev/full", out.join("trace.jsonl")).unwrap();
    let text = failure(1, &["solve", "--problem", "r2", "--out", &out.display().to_string()]);
    contains_all(&text, &["trace.jsonl", "No space left", "has room"]);
}

#[test]
fn init_writes_recipes_that_the_command_accepts() {
    let keep = tempfile::tempdir().unwrap();
    let recipe = keep.path().join("r.toml").display().to_string();
    assert!(bilevel(&["init", "solve", "--to", &recipe]).status.success());
    let out = keep.path().join("out").display().to_string();
    let output = bilevel(&["solve", &recipe, "--steps", "2", "--out", &out]);
    assert_eq!(output.status.code(), Some(3), "{}", error_of(&output));
    contains_all(&failure(2, &["init", "solve", "--to", &recipe]), &["exists", "--force"]);
}

#[test]
fn every_listed_problem_has_a_start_and_matching_sizes() {
    let output = bilevel(&["list", "--json"]);
    let lists: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(lists["problems"].as_array().unwrap().len() >= 18);
    let solvers: Vec<&str> =
        lists["solvers"].as_array().unwrap().iter().filter_map(|solver| solver["name"].as_str()).collect();
    assert!(["hg-ms", "bome", "hjfbio", "superquantile-gibbs"].iter().all(|name| solvers.contains(name)));
    assert!(solvers.is_sorted(), "{solvers:?}");
}

#[test]
fn a_solver_of_the_registry_runs_is_checked_and_resumes() {
    let keep = tempfile::tempdir().unwrap();
    let text = "[problem]\nname = \"r2\"\n[solver]\nname = \"superquantile-gibbs\"\ntarget = \"optimistic\"\n\
                chains = 100\nlevel = 0.1\nstep_x = 0.05\n[budget]\nsteps = 6\n";
    let recipe = recipe_of(&keep, text);
    assert!(bilevel(&["check", &recipe]).status.success());
    let (whole, cut) = (keep.path().join("whole"), keep.path().join("cut"));
    let solve = |out: &Path, steps: &str| {
        let output = bilevel(&["solve", &recipe, "--steps", steps, "--out", &out.display().to_string()]);
        assert_eq!(output.status.code(), Some(3), "{}", error_of(&output));
    };
    solve(&whole, "6");
    solve(&cut, "2");
    let resumed = bilevel(&["resume", &cut.display().to_string(), "--steps", "6"]);
    assert_eq!(resumed.status.code(), Some(3), "{}", error_of(&resumed));
    for file in ["trace.jsonl", "result.json", "checkpoint.json"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap();
        if file == "checkpoint.json" {
            // It holds the time spent, too.
            assert!(read(&whole).contains("\"superquantile-gibbs\""));
        } else {
            assert!(read(&whole) == read(&cut), "{file} differs");
        }
    }
    let wrong = recipe_of(&keep, &text.replace("chains", "chain"));
    contains_all(&failure(2, &["solve", &wrong]), &["solver.chain = 100", "did you mean `chains`?"]);
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bilevel(&["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("bilevel"));
    }
}
