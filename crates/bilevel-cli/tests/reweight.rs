//! `bilevel reweight`, `check` and `resume` on small data, as a user meets them.

// A few lines of data, made once.
#![allow(clippy::format_collect)]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

mod kill;

fn bilevel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bilevel")).args(arguments).output().unwrap()
}
fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// A folder with two sources, a validation and a test set, and a recipe of a few steps over them.
struct Job {
    folder: TempDir,
}

impl Job {
    fn new() -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap() };
        let sums = |from: usize, count: usize| -> String {
            (from..from + count)
                .map(|i| format!("{{\"prompt\": \"{i} + {i} = \", \"response\": \"{}\"}}\n", 2 * i))
                .collect()
        };
        let noise: String = (0..40)
            .map(|i| {
                format!("{{\"prompt\": \"{i} + {i} = \", \"response\": \"{}\"}}\n", (i * 7919 + 13) % 97)
            })
            .collect();
        job.write("sums.jsonl", sums(0, 40));
        job.write("noise.jsonl", &noise);
        job.write("validation.jsonl", sums(50, 12));
        job.write("test.jsonl", sums(70, 12));
        job.recipe("", "");
        job
    }
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
    /// The recipe, with lines added to `[run]` and at the end.
    fn recipe(&self, run: &str, end: &str) {
        self.write(
            "recipe.toml",
            format!(
                "[run]\nbudget = 60000\nseeds = [1, 2]\ncheckpoint_every = 2\n{run}\n\
                 [[source]]\nname = \"sums\"\npath = \"sums.jsonl\"\n\
                 [[source]]\nname = \"noise\"\npath = \"noise.jsonl\"\n\
                 [validation]\npath = \"validation.jsonl\"\n[test]\npath = \"test.jsonl\"\n\
                 [model]\npreset = \"nano\"\n[train]\nbatch = 2\nwarmup = 2\n\
                 [reweight]\nmethods = [\"hg-ms\", \"uniform\"]\ncycle = 4\ncontinuation_steps = 2\n{end}\n"
            ),
        );
    }
    fn failure(&self, code: i32) -> String {
        let output = bilevel(&["reweight", &self.path("recipe.toml"), "--out", &self.path("out")]);
        let text = error_of(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    }
}

#[test]
fn a_run_ends_with_weights_a_table_and_a_report() {
    let job = Job::new();
    let out = job.path("out");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(
        &String::from_utf8(output.stdout).unwrap(),
        &["method", "hg-ms", "uniform", "sums", "noise"],
    );
    let weights: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("weights.json")).unwrap()).unwrap();
    for method in weights["methods"].as_array().unwrap() {
        let sum: f64 =
            method["weights"].as_array().unwrap().iter().map(|bar| bar["mean"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{method}");
    }
    assert!(fs::read_to_string(Path::new(&out).join("report.html")).unwrap().contains("</html>"));
    let again = bilevel(&["report", &out]);
    assert!(again.status.success(), "{}", error_of(&again));
    let export = |method: &str| bilevel(&["export", &out, "--to", "hf", "--method", method]);
    let uniform = export("uniform");
    assert!(uniform.status.success(), "{}", error_of(&uniform));
    let written =
        fs::read_to_string(String::from_utf8(uniform.stdout).unwrap().lines().next().unwrap()).unwrap();
    assert!(written.contains("0.5") && written.contains("uniform"), "{written}");
    let unknown = export("unifrom");
    assert_eq!(unknown.status.code(), Some(2));
    contains_all(&error_of(&unknown), &["unifrom", "did you mean uniform?"]);
    contains_all(&error_of(&export("grid")), &["no weights of `grid`", "hg-ms, uniform", "give one of them"]);
    for trainer in ["axolotl", "llama-factory", "hf", "nemo"] {
        let export = bilevel(&["export", &out, "--to", trainer]);
        assert!(export.status.success(), "{trainer}: {}", error_of(&export));
        for file in String::from_utf8(export.stdout).unwrap().lines() {
            assert!(Path::new(file).exists(), "{file}");
        }
    }
}

#[test]
fn the_model_of_a_run_is_read_written_and_goes_on_after_a_prompt() {
    let job = Job::new();
    let out = job.path("out");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", error_of(&output));
    let (model, copy) = (format!("{out}/model"), job.path("copy"));
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = bilevel(arguments);
        assert!(output.status.success(), "{}", error_of(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let looked =
        json(&["model", &model, "--save", &copy, "--loss", &job.path("test.jsonl"), "--json", "--quiet"]);
    assert_eq!((&looked["architecture"], &looked["vocabulary"]), (&"llama".into(), &258.into()));
    // a model that has learned nothing at all has a loss of ln 258 = 5.6 a byte
    let mean = looked["loss"]["mean"].as_f64().unwrap();
    assert!(mean > 0.1 && mean < 5.6, "{mean}");
    let write = |model: &str, more: &[&str]| {
        json(
            &[&["generate", "--model", model, "--prompt", "3 + 3 = ", "--tokens", "5", "--json"], more]
                .concat(),
        )
    };
    let greedy = write(&model, &[]);
    // eight bytes, and the token that begins every example
    assert_eq!(greedy["prompt_tokens"], 9);
    assert_eq!(greedy, write(&copy, &["--threads", "2"]));
    let drawn = ["--temperature", "2", "--top-p", "0.9", "--seed", "4"];
    assert_eq!(write(&model, &drawn), write(&copy, &drawn));

    let failure = |arguments: &[&str], code: i32, parts: &[&str]| {
        let output = bilevel(&[&["generate", "--prompt", "a", "--model"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", error_of(&output));
        contains_all(&error_of(&output), parts);
    };
    failure(&[&job.path("sums.jsonl")], 1, &["sums.jsonl", "the first bytes", "give a GGUF file"]);
    failure(&[&job.path("no.gguf")], 1, &["no.gguf", "check the path"]);
    failure(&[&job.path("")], 1, &["config.json"]);
    failure(&[&model, "--chat"], 1, &["no chat template", "leave --chat out"]);
    failure(&[&model, "--temperature", "0"], 2, &["--temperature is 0", "positive"]);
    failure(&[&model, "--temperature", "1", "--top-p", "1.5"], 2, &["--top-p is 1.5", "at most 1"]);
}

#[cfg(unix)]
#[test]
fn a_run_killed_at_any_moment_and_resumed_gives_the_bytes_of_one_never_stopped() {
    let job = Job::new();
    let run = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bilevel"));
        command.args(["reweight", &job.path("recipe.toml"), "--quiet", "--out", out]);
        command
    };
    let straight = job.path("straight");
    let clock = std::time::Instant::now();
    assert!(run(&straight).stdout(Stdio::null()).status().unwrap().success());
    let whole = clock.elapsed();
    // Moments spread over the run; how far it has come at each is up to the machine.
    for share in [0.0, 0.2, 0.6] {
        let cut = job.path(&format!("cut-{share}"));
        let folder = Path::new(&cut);
        kill::while_it_runs(|| run(&cut), folder, ["recipe.toml", "weights.json"], whole.mul_f64(share));
        let resumed = bilevel(&["resume", &cut, "--quiet"]);
        assert!(resumed.status.success(), "{}", error_of(&resumed));
        for file in ["weights.json", "trace.jsonl"] {
            let read = |folder: &str| fs::read(Path::new(folder).join(file)).unwrap();
            assert!(read(&cut) == read(&straight), "{file} differs after a kill at {share} of the run");
        }
    }
}

#[test]
fn check_reads_everything_and_forecasts() {
    let job = Job::new();
    let output = bilevel(&["check", &job.path("recipe.toml")]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(
        &String::from_utf8(output.stdout).unwrap(),
        &["source sums", "40 examples", "2 of them are judged on", "parameters", "forecast", "of memory"],
    );
    let output = bilevel(&["check", &job.path("recipe.toml"), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["forecast"]["memory"].as_u64().unwrap() > 0);
}

#[test]
fn an_unknown_key_is_told_with_line_and_nearest_match() {
    let job = Job::new();
    job.recipe("chekpoint_every = 3", "");
    contains_all(
        &job.failure(2),
        &["recipe.toml", "line 5", "chekpoint_every", "did you mean `checkpoint_every`"],
    );
}

#[test]
fn a_device_that_is_not_known_or_not_built_in_is_refused() {
    let job = Job::new();
    job.recipe("device = \"gpu\"", "");
    contains_all(&job.failure(2), &["line 5", "`gpu`", "Known here: cpu, cuda"]);
    if !cfg!(feature = "cuda") {
        job.recipe("device = \"cuda\"", "");
        contains_all(&job.failure(2), &["run.device = cuda is not allowed", "--features cuda", "\"cpu\""]);
        let output = bilevel(&["check", &job.path("recipe.toml")]);
        contains_all(&error_of(&output), &["run.device = cuda is not allowed"]);
    }
}

#[test]
fn a_negative_budget_is_refused() {
    let job = Job::new();
    let text = fs::read_to_string(job.path("recipe.toml")).unwrap();
    job.write("recipe.toml", text.replace("budget = 60000", "budget = -60000"));
    contains_all(&job.failure(2), &["line 2", "budget = -60000"]);
}

#[test]
fn weights_outside_the_simplex_are_refused() {
    let job = Job::new();
    job.recipe("", "initial = { sums = 1.2, noise = -0.2 }");
    contains_all(&job.failure(2), &["reweight.initial.", "simplex"]);
    job.recipe("", "initial = { sums = 0.5, noise = 0.7 }");
    contains_all(&job.failure(2), &["reweight.initial", "1.2", "must sum to 1"]);
}

#[test]
fn a_missing_source_file_is_named() {
    let job = Job::new();
    fs::remove_file(job.path("noise.jsonl")).unwrap();
    contains_all(&job.failure(1), &["noise.jsonl", "check the path"]);
}

#[test]
fn broken_data_is_told_with_file_line_and_remedy() {
    let job = Job::new();
    job.write("noise.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n{\"prompt\": \"a\", \n");
    contains_all(&job.failure(1), &["noise.jsonl", "line 2", "broken JSON", "mend or delete"]);
    job.write("noise.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n{\"prompt\": \"a\"}\n");
    contains_all(
        &job.failure(1),
        &["noise.jsonl", "line 2", "no text in field `response`", "Set prompt and response"],
    );
    job.write("noise.jsonl", b"{\"prompt\": \"a\", \"response\": \"b\"}\n{\"prompt\": \"\xff\"}\n");
    contains_all(&job.failure(1), &["noise.jsonl", "line 2", "UTF-8"]);
    job.write("noise.jsonl", "");
    contains_all(&job.failure(1), &["noise", "empty"]);
}

#[test]
fn an_overlap_of_validation_and_source_is_warned_of_with_its_count() {
    let job = Job::new();
    let sums = fs::read_to_string(job.path("sums.jsonl")).unwrap();
    let five: String = sums.lines().take(5).map(|line| format!("{line}\n")).collect();
    let validation = fs::read_to_string(job.path("validation.jsonl")).unwrap();
    job.write("validation.jsonl", validation + &five);
    let output = bilevel(&["check", &job.path("recipe.toml")]);
    assert!(output.status.success(), "{}", error_of(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let warning =
        text.lines().find(|line| line.contains("warning") && line.contains("sums")).unwrap_or(&text);
    contains_all(warning, &["5", "validation"]);
}

#[test]
fn duplicates_and_overlaps_are_left_out_and_stand_in_result_and_report() {
    let job = Job::new();
    let read = |name: &str| fs::read_to_string(job.path(name)).unwrap();
    let lines = |name: &str, count: usize| -> String {
        read(name).lines().take(count).map(|line| format!("{line}\n")).collect()
    };
    // three examples twice, four of the other source, two of the test set
    job.write(
        "sums.jsonl",
        read("sums.jsonl") + &lines("sums.jsonl", 3) + &lines("noise.jsonl", 4) + &lines("test.jsonl", 2),
    );
    job.recipe("", "[data]\ndeduplicate = \"exact\"\noverlap = \"remove\"");
    let out = job.path("out");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(
        &error_of(&output),
        &["2 of 49 examples also stand in the test set; they were left out", "7 of 49 examples repeat"],
    );
    let result: serde_json::Value = serde_json::from_str(&read("out/weights.json")).unwrap();
    // ascending by name: `noise` keeps the shared ones
    let sums = &result["sources"][1];
    for (field, count) in [
        ("examples", 40),
        ("removed", 9),
        ("duplicates", 3),
        ("duplicates_of_others", 4),
        ("overlap_with_test", 2),
        ("overlap_with_validation", 0),
    ] {
        assert_eq!(sums[field], count, "{field}");
    }
    contains_all(&read("out/report.html"), &["left out", "also in other sources"]);

    job.recipe("", "[data]\noverlap = \"refuse\"");
    contains_all(
        &{
            let output = bilevel(&["check", &job.path("recipe.toml")]);
            assert_eq!(output.status.code(), Some(1));
            error_of(&output)
        },
        &["2 of 49 examples of source sums", "test set", "\"remove\""],
    );
    job.recipe("", "[data]\ndeduplicat = \"exact\"");
    fs::remove_dir_all(&out).unwrap();
    contains_all(&job.failure(2), &["did you mean `deduplicate`"]);
    job.recipe("", "[data]\nsimilarity = 1.5");
    contains_all(&job.failure(2), &["data.similarity = 1.5", "at most 1"]);
}

#[test]
fn answers_are_compared_and_stand_in_table_result_and_report() {
    let job = Job::new();
    let marked = |name: &str| {
        let text = fs::read_to_string(job.path(name)).unwrap();
        job.write(name, text.replace("\"response\": \"", "\"response\": \"#### "));
    };
    for name in ["sums.jsonl", "noise.jsonl", "validation.jsonl", "test.jsonl"] {
        marked(name);
    }
    job.recipe("", "[evaluate]\nexact_match = 4\nmax_tokens = 6\nsource_examples = 3");
    let out = job.path("out");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(&String::from_utf8(output.stdout).unwrap(), &["of 4 final answers are right"]);
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("weights.json")).unwrap()).unwrap();
    for method in result["methods"].as_array().unwrap() {
        let exact = &method["evaluation"]["exact_match"];
        assert_eq!((&exact["examples"], &exact["left_out"]), (&4.into(), &0.into()), "{method}");
        let losses = method["evaluation"]["source_losses"].as_array().unwrap();
        assert!(
            losses.len() == 2 && losses.iter().all(|loss| loss["mean"].as_f64().unwrap() > 0.0),
            "{losses:?}"
        );
    }
    // 40 examples each, and three were wanted
    for source in result["sources"].as_array().unwrap() {
        assert_eq!(source["held_out"]["examples"], 2, "{source}");
    }
    let report = fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    contains_all(
        &report,
        &["What the retrained models do", "exact match", "loss on examples of", "not asked"],
    );
    fs::remove_dir_all(&out).unwrap();
    job.recipe("", "[evaluate]\nanswer = \"boxd\"");
    contains_all(&job.failure(2), &["did you mean `boxed`"]);
    job.recipe("", "[evaluate]\nmax_tokens = 0");
    contains_all(&job.failure(2), &["evaluate.max_tokens = 0", "at least 1"]);
    job.recipe("", "[evaluate]\nsource_examples = -1");
    contains_all(&job.failure(2), &["source_examples = -1", "expected usize"]);
}

#[test]
fn tokens_in_scratch_files_give_the_same_bytes() {
    let job = Job::new();
    let run = |out: &str| {
        let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &job.path(out)]);
        assert!(output.status.success(), "{}", error_of(&output));
    };
    run("memory");
    let scratch = job.path("scratch");
    job.recipe("", &format!("[data]\nscratch = {scratch:?}"));
    run("files");
    for file in ["weights.json", "trace.jsonl"] {
        let read = |out: &str| fs::read(Path::new(&job.path(out)).join(file)).unwrap();
        assert!(read("memory") == read("files"), "{file}");
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "scratch files are left behind");
}

#[test]
fn a_truncated_checkpoint_is_told() {
    let job = Job::new();
    let out = job.path("out");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]);
    assert!(output.status.success(), "{}", error_of(&output));
    let file = fs::read_dir(Path::new(&out).join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let resumed = bilevel(&["resume", &out]);
    assert_eq!(resumed.status.code(), Some(1));
    contains_all(&error_of(&resumed), &[&file.file_name().unwrap().to_string_lossy(), "damaged"]);
}

#[test]
fn a_foreign_checkpoint_is_told() {
    let job = Job::new();
    let (out, other) = (job.path("out"), job.path("other"));
    let run = |out: &str| bilevel(&["reweight", &job.path("recipe.toml"), "--out", out]);
    assert!(run(&out).status.success());
    // Another recipe over the same data, with the same methods and seeds.
    job.recipe("", "average_last = 0.5");
    assert!(run(&other).status.success());
    let name = "uniform-1.done.safetensors";
    let of = |folder: &str| Path::new(folder).join("checkpoints").join(name);
    fs::copy(of(&other), of(&out)).unwrap();
    let resumed = bilevel(&["resume", &out]);
    assert_eq!(resumed.status.code(), Some(1));
    contains_all(
        &error_of(&resumed),
        &[name, "belongs to recipe and data", "not to recipe and data", "give the recipe it was made with"],
    );
}

#[test]
fn changed_data_make_checkpoints_foreign() {
    let job = Job::new();
    let out = job.path("out");
    assert!(bilevel(&["reweight", &job.path("recipe.toml"), "--out", &out]).status.success());
    let noise = fs::read_to_string(job.path("noise.jsonl")).unwrap();
    job.write("noise.jsonl", noise.replacen("13", "14", 1));
    let resumed = bilevel(&["resume", &out]);
    assert_eq!(resumed.status.code(), Some(1));
    contains_all(&error_of(&resumed), &["belongs to recipe and data"]);
}

#[test]
fn a_source_of_one_example_is_warned_of() {
    let job = Job::new();
    job.write("noise.jsonl", "{\"prompt\": \"a\", \"response\": \"b\"}\n");
    let parts = ["source noise", "one example", "every batch repeats it", "Give it more, or delete it"];
    let output = bilevel(&["check", &job.path("recipe.toml")]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(&String::from_utf8(output.stdout).unwrap(), &parts);
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &job.path("out")]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(&error_of(&output), &parts);
}

#[test]
fn a_line_of_ten_megabytes_is_read_and_warned_of() {
    let job = Job::new();
    let long = format!(
        "{{\"prompt\": \"a\", \"response\": \"b\"}}\n{{\"prompt\": \"a\", \"response\": \"{}\"}}\n",
        "b".repeat(10 << 20)
    );
    job.write("noise.jsonl", long);
    let parts = ["source noise", "noise.jsonl, line 2", "10485791 bytes", "split it", "were cut"];
    let output = bilevel(&["check", &job.path("recipe.toml")]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(&String::from_utf8(output.stdout).unwrap(), &parts);
    // near duplicates look at the whole line
    job.recipe("", "[data]\ndeduplicate = \"near\"");
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", &job.path("out")]);
    assert!(output.status.success(), "{}", error_of(&output));
    contains_all(&error_of(&output), &parts);
}

/// A folder of the kernel's is read-only for everyone, the superuser included.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_told() {
    let job = Job::new();
    let output = bilevel(&["reweight", &job.path("recipe.toml"), "--out", "/sys/kernel/bilevel-run"]);
    assert_eq!(output.status.code(), Some(1));
    contains_all(
        &error_of(&output),
        &["/sys/kernel/bilevel-run", "check that the folder exists, is writable and has room"],
    );
}

/// Each file in turn goes to a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    for file in ["recipe.toml", "checkpoints/uniform-1.done.safetensors", "trace.jsonl", "weights.json"] {
        let job = Job::new();
        let folder = job.path("out");
        fs::create_dir_all(Path::new(&folder).join("checkpoints")).unwrap();
        let partial = Path::new(&folder).join(format!("{file}.partial"));
        std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
        contains_all(&job.failure(1), &[file, "No space left", "is writable and has room"]);
        assert!(!partial.exists(), "what cannot be finished takes no room");
    }
}

#[test]
fn a_result_folder_that_cannot_be_made_is_told() {
    // A file where a folder should be refuses everyone, the superuser included.
    let job = Job::new();
    job.write("out", "");
    contains_all(&job.failure(1), &["out", "check that the folder exists, is writable"]);
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let job = Job::new();
    fs::create_dir(job.path("out")).unwrap();
    job.write("out/recipe.toml", "");
    contains_all(&job.failure(2), &["holds a run", "bilevel resume", "--force"]);
}

#[test]
fn a_run_is_extended_by_seeds_and_refused_to_another_recipe() {
    let job = Job::new();
    let (recipe, out) = (job.path("recipe.toml"), job.path("out"));
    let extend = |seeds: &str| bilevel(&["reweight", &recipe, "--out", &out, "--seeds", seeds, "--extend"]);
    let file = |name: &str| Path::new(&out).join(name);
    assert!(extend("1").status.success());
    let written = || fs::metadata(file("checkpoints/hg-ms-1.done.safetensors")).unwrap().modified().unwrap();
    let before = written();
    let output = extend("1,2");
    assert!(output.status.success(), "{}", error_of(&output));
    assert_eq!(written(), before);
    let weights = fs::read_to_string(file("weights.json")).unwrap();
    assert!(weights.contains("\"seed\": 2"), "{weights}");

    let kept = fs::read(file("recipe.toml")).unwrap();
    job.recipe("", "average_last = 0.5");
    let refused = extend("1,2");
    assert_eq!(refused.status.code(), Some(1));
    contains_all(&error_of(&refused), &["hg-ms-1.done.safetensors", "give the recipe it was made with"]);
    assert_eq!(fs::read(file("recipe.toml")).unwrap(), kept);
}

#[test]
fn the_recipe_of_init_is_understood_up_to_its_missing_files() {
    let job = Job::new();
    let recipe = job.path("init.toml");
    assert!(bilevel(&["init", "reweight", "--to", &recipe]).status.success());
    let output = bilevel(&["check", &recipe]);
    assert_eq!(output.status.code(), Some(1), "{}", error_of(&output));
    contains_all(&error_of(&output), &["books.txt", "check the path"]);
}
