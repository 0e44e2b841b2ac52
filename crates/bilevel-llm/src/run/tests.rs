mod device;
mod failures;
mod searches;
mod tuning;

use std::{fmt::Write as _, fs, path::PathBuf};

use super::{memory::Memory, *};
use crate::{
    eval::score,
    ledger::Entry,
    model::{Decoder, ModelSizes, Part, Storage, Target},
    pretrained::Checkpoint,
    progress::Silent,
    recipe::{Given, ModelSpec, ReweightSpec, TokenizerSpec, TuneSpec},
    result::Phase,
};

/// Sources of counting rows: `up` is the target's kind, `twin-a` and `twin-b` are one text, `noise` is random letters.
fn folder(sources: &[&str]) -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = String::from(
        "[run]\nbudget = 60000\nseeds = [1]\ncheckpoint_every = 7\nevaluations = 2\n[model]\nlayers = 1\nwidth = 16\nheads = 2\nkv_heads = 1\nffn = 24\ncontext = 24\n[train]\nbatch = 2\nwarmup = 5\nlr = 1e-2\n[reweight]\nmethods = [\"hg-ms\", \"uniform\"]\ncycle = 6\ncontinuation_steps = 2\nvalidation_batch = 16\nsource_batch = 8\ncurvature_batch = 4\ncg_steps = 2\n",
    );
    for name in sources {
        let kind = name.split('-').next().unwrap();
        fs::write(folder.path().join(format!("{name}.jsonl")), lines(kind, 1, 80)).unwrap();
        let _ = writeln!(recipe, "[[source]]\nname = \"{name}\"\npath = \"{name}.jsonl\"");
    }
    fs::write(folder.path().join("v.jsonl"), lines("up", 2, 40)).unwrap();
    fs::write(folder.path().join("t.jsonl"), lines("up", 3, 40)).unwrap();
    recipe.push_str("[validation]\npath = \"v.jsonl\"\n[test]\npath = \"t.jsonl\"\n");
    let mut recipe = Recipe::parse(&recipe, folder.path()).unwrap();
    recipe.run.out = folder.path().join("out");
    (folder, recipe)
}

fn lines(kind: &str, seed: u64, count: usize) -> String {
    let mut stream = bilevel::rng::Stream::new(seed, 0);
    let mut text = String::new();
    for _ in 0..count {
        let start = stream.below(18) as u8;
        let letter = |i: u8, stream: &mut bilevel::rng::Stream| match kind {
            "noise" => char::from(b'a' + stream.below(26) as u8),
            _ => char::from(b'a' + (start + i) % 26),
        };
        let row: String = (0..8).map(|i| letter(i, &mut stream)).collect();
        let _ = writeln!(text, "{{\"prompt\":\"{}\",\"response\":\"{}\"}}", &row[..2], &row[2..]);
    }
    text
}

fn run(recipe: &Recipe) -> RunResult {
    reweight(recipe, &mut Silent, &AtomicBool::new(false)).unwrap()
}

fn bytes(out: &Path) -> Vec<Vec<u8>> {
    ["weights.json", "trace.jsonl", "model/model.safetensors", "model/config.json", "model/tokenizer.json"]
        .iter()
        .map(|f| fs::read(out.join(f)).unwrap())
        .collect()
}

/// Stops after so many messages.
struct StopAfter<'a>(u64, &'a AtomicBool);
impl Progress for StopAfter<'_> {
    fn report(&mut self, _event: &ProgressEvent) {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_run_that_is_stopped_again_and_again_ends_in_the_same_bytes_on_any_number_of_threads() {
    let (folder, recipe) = folder(&["up", "noise"]);
    stopped_again_and_again(folder.path(), recipe);
}

/// Whatever is registered keeps the rules of all methods, by being registered.
#[test]
fn every_method_ends_within_its_budget_pays_for_what_it_declares_and_resumes_to_the_same_bytes() {
    for method in Method::ALL {
        let (folder, mut recipe) = folder(&["up", "noise"]);
        recipe.run.budget = 20_000;
        recipe.reweight.methods = vec![method];
        recipe.reweight.grid_step = 0.5;
        recipe.reweight.given =
            Some(Given::Weights([("up".to_owned(), 0.75), ("noise".to_owned(), 0.25)].into()));
        let result = stopped_again_and_again(folder.path(), recipe.clone());
        spends_on_what_it_declares(&result);
        let seed = &result.methods[0].seeds[0];
        let sum: f64 = seed.weights.iter().sum();
        assert!((sum - 1.0).abs() < 1e-12 && seed.weights.iter().all(|p| *p >= 0.0), "{method}: {seed:?}");
        assert_eq!(seed.search.is_some(), methods::budgets(method, &recipe) > 0.0, "{method}");
        for ledger in seed.search.iter().chain([&seed.retraining]) {
            assert!(
                ledger.spent <= ledger.budget && ledger.spent > 0.7 * ledger.budget,
                "{method}: {ledger:?}"
            );
        }
        let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
        let rows = trace.lines().map(|line| serde_json::from_str::<crate::TraceRow>(line).unwrap());
        for row in rows {
            // a loss is a number, or was not measured; no row makes one up
            let numbers = row.source_losses.iter().flatten().chain(&row.train_loss).chain(&row.weights);
            assert!(numbers.into_iter().all(|a| a.is_finite() && *a >= 0.0), "{method}: {row:?}");
            assert_eq!(row.source_losses.is_empty(), row.step == 0, "{method}: {row:?}");
        }
    }
}

/// Runs a recipe whole on two threads and with stops on one, and compares.
fn stopped_again_and_again(folder: &Path, mut recipe: Recipe) -> RunResult {
    recipe.run.threads = Some(2);
    let whole = run(&recipe);
    let expected = bytes(&recipe.run.out);
    recipe.run.out = folder.join("again");
    recipe.run.threads = Some(1);
    let mut stops = 0;
    for patience in 1.. {
        let flag = AtomicBool::new(false);
        match reweight(&recipe, &mut StopAfter(patience * 3, &flag), &flag) {
            Err(ReweightError::Interrupted { .. }) => stops += 1,
            other => {
                assert_eq!(other.unwrap(), whole);
                break;
            }
        }
    }
    assert!(stops > 3, "{stops}");
    assert_eq!(bytes(&recipe.run.out), expected);
    // and from the folder alone
    let again = resume(&recipe.run.out, &mut Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!(again, whole);
    whole
}

#[test]
fn checkpoints_of_a_recipe_with_relative_paths_belong_to_the_one_with_full_paths() {
    let (folder, recipe) = folder(&["up"]);
    let mut prepared = prepare(&recipe).unwrap();
    let whole = prepared.identity(Path::new("/elsewhere"), Method::HgMs);
    let mut text = recipe.to_toml();
    text = text.replace(&format!("{}/", folder.path().display()), "");
    prepared.setting.recipe = Recipe::parse(&text, Path::new("")).unwrap();
    assert_ne!(prepared.setting.recipe.test, recipe.test);
    assert_eq!(prepared.identity(folder.path(), Method::HgMs), whole);
    assert_ne!(prepared.identity(Path::new("/elsewhere"), Method::HgMs), whole);
}

/// Takes down the work that a run sees before it.
struct Total(f64);
impl Progress for Total {
    fn report(&mut self, event: &ProgressEvent) {
        if let ProgressEvent::Started { total_units, .. } = event {
            self.0 = *total_units;
        }
    }
}

#[test]
fn a_run_that_gets_more_seeds_and_methods_keeps_what_it_has_and_ends_as_one_that_had_them_from_the_start() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    run(&recipe);
    let done = recipe.run.out.join("checkpoints/hg-ms-1.done.safetensors");
    let written = || fs::metadata(&done).unwrap().modified().unwrap();
    let before = written();

    recipe.run.seeds = vec![2, 1];
    recipe.reweight.methods = vec![Method::Temperature, Method::HgMs];
    recipe.reweight.exponent = 0.3;
    let mut total = Total(0.0);
    let more = reweight(&recipe, &mut total, &AtomicBool::new(false)).unwrap();
    // HG-MS searches and retrains with seed 2; `temperature` retrains with both
    assert!((total.0 - 4.0 * recipe.run.budget as f64).abs() < 1e-6, "{}", total.0);
    assert_eq!(written(), before);
    let expected = bytes(&recipe.run.out);
    recipe.run.out = folder.path().join("at-once");
    assert_eq!(run(&recipe), more);
    assert_eq!(bytes(&recipe.run.out), expected);

    // a recipe with other chains is refused, and the folder stays what it was
    recipe.run.budget += 1000;
    let kept = fs::read(recipe.run.out.join("recipe.toml")).unwrap();
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("-2.") && error.contains("recipe and data"), "{error}");
    assert_eq!(fs::read(recipe.run.out.join("recipe.toml")).unwrap(), kept);
}

#[test]
fn a_chain_does_not_belong_to_a_recipe_that_changes_what_its_method_reads() {
    type Change = fn(&mut Recipe);
    let (_folder, recipe) = folder(&["up", "noise"]);
    let prepared = prepare(&recipe).unwrap();
    let identity = |method, change: Change| {
        let mut prepared = prepared.clone();
        change(&mut prepared.setting.recipe);
        prepared.identity(Path::new("/"), method)
    };
    let same = |_: &mut Recipe| {};
    for method in Method::ALL {
        assert_ne!(identity(method, same), identity(method, |r| r.run.budget += 1), "{method}");
        assert_ne!(identity(method, same), identity(method, |r| r.reweight.cycle += 1), "{method}");
        assert_eq!(identity(method, same), identity(method, |r| r.run.seeds.push(9)), "{method}");
    }
    let of_one: [(Change, &[Method]); 9] = [
        (|r| r.reweight.grid_step = 0.5, &[Method::Grid]),
        (|r| r.reweight.exponent = 0.9, &[Method::Temperature]),
        (|r| r.reweight.given = Some(Given::Weights([].into())), &[Method::Given]),
        (|r| r.reweight.proxies += 1, &[Method::RegMix]),
        (|r| r.reweight.regmix.leaf += 1, &[Method::RegMix]),
        (|r| r.reweight.scalebio.alpha *= 2.0, &[Method::ScaleBio, Method::ScaleBioReleased]),
        (|r| r.reweight.odm.smoothing /= 2.0, &[Method::Odm]),
        (|r| r.reweight.f2ba.lambda *= 2.0, &[Method::F2ba]),
        (|r| r.reweight.less.temperature *= 2.0, &[Method::Less]),
    ];
    for (change, readers) in of_one {
        let changed = Method::ALL.into_iter().filter(|&m| identity(m, same) != identity(m, change));
        let mut readers = readers.to_vec();
        readers.sort_by_key(|m| Method::ALL.iter().position(|n| n == m));
        assert_eq!(changed.collect::<Vec<_>>(), readers);
    }
}

/// Writes a checkpoint of two blocks with random numbers, and makes the recipe tune its last block.
fn tune_a_checkpoint(folder: &Path, recipe: &mut Recipe) -> Checkpoint {
    let sizes =
        ModelSizes { layers: 2, width: 16, heads: 2, kv_heads: 1, ffn: 24, context: 40, rope_base: 1e4 };
    let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap();
    let decoder = Decoder::new(sizes, tokenizer.vocabulary());
    let parameters: Vec<f32> = decoder.initial(&mut bilevel::rng::Stream::new(8, 0));
    let path = folder.join("tiny");
    pretrained::save(&path, &decoder, &parameters, &tokenizer, None).unwrap();
    recipe.model = ModelSpec { checkpoint: Some(path.clone()), context: Some(24), ..ModelSpec::default() };
    recipe.tune = TuneSpec::LastLayers { layers: 1 };
    Checkpoint::load(&path).unwrap()
}

/// Each search spends on every entry that its method declares, and on no other.
fn spends_on_what_it_declares(result: &RunResult) {
    for method in &result.methods {
        let declared = methods::entries(method.method);
        let lines =
            method.seeds.iter().filter_map(|seed| seed.search.as_ref()).flat_map(|search| {
                search.entries.iter().zip(Entry::ALL).filter(|(line, _)| line.weight > 0.0)
            });
        for (line, entry) in lines {
            assert_eq!(line.units > 0.0, declared.contains(&entry), "{}: {line:?}", method.method);
        }
    }
}

/// Copies the result folder at one message, as a process killed at that moment would leave it.
struct CopyAt<'a> {
    messages: u64,
    from: &'a Path,
    to: &'a Path,
}
impl Progress for CopyAt<'_> {
    fn report(&mut self, _event: &ProgressEvent) {
        self.messages = self.messages.wrapping_sub(1);
        if self.messages == 0 {
            fs::create_dir_all(self.to.join("checkpoints")).unwrap();
            fs::copy(self.from.join("recipe.toml"), self.to.join("recipe.toml")).unwrap();
            for entry in fs::read_dir(self.from.join("checkpoints")).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, self.to.join("checkpoints").join(path.file_name().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn what_a_killed_run_leaves_behind_resumes_to_the_same_bytes() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.threads = Some(1);
    let mut expected = None;
    for messages in [3, 40, 90, 140, 230] {
        recipe.run.out = folder.path().join(format!("whole-{messages}"));
        let left = folder.path().join(format!("left-{messages}"));
        let out = recipe.run.out.clone();
        let mut copier = CopyAt { messages, from: &out, to: &left };
        reweight(&recipe, &mut copier, &AtomicBool::new(false)).unwrap();
        assert!(copier.messages > u64::MAX / 2, "the run ended before message {messages}");
        let expected = expected.get_or_insert_with(|| bytes(&out));
        resume(&left, &mut Silent, &AtomicBool::new(false)).unwrap();
        assert_eq!(&bytes(&left), expected, "killed at message {messages}");
    }
}

#[test]
fn accumulation_equals_the_big_batch() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.train.batch = 6;
    let gradient = |accumulation| {
        let mut recipe = recipe.clone();
        recipe.train.accumulation = accumulation;
        let setting = prepare(&recipe).unwrap().setting;
        let mut orders: Vec<Order> = setting.sources.iter().map(|s| Order::new(1, s, 0)).collect();
        let network = setting.fresh(1, 0);
        let mut buffers = Buffers::new(&setting);
        let batch = StepBatch::draw(&setting, &mut orders, 3);
        weighted_gradient(&setting, &network, &batch, &[0.3, 0.7], &mut buffers);
        buffers.total
    };
    let (whole, parts) = (gradient(1), gradient(4));
    let scale = whole.iter().fold(0.0_f32, |m, a| m.max(a.abs()));
    for (a, b) in whole.iter().zip(&parts) {
        // f32 sums in another order: a few hundred terms of 2^-24
        assert!((a - b).abs() < 2e-5 * scale, "{a} {b}");
    }
}

#[test]
fn overlap_with_the_validation_set_is_warned_with_its_count() {
    let (folder, recipe) = folder(&["up", "noise"]);
    let validation = fs::read_to_string(folder.path().join("v.jsonl")).unwrap();
    let two: String = validation.lines().take(2).fold(String::new(), |s, l| s + l + "\n");
    fs::write(folder.path().join("noise.jsonl"), lines("noise", 1, 5) + &two).unwrap();
    let warnings = prepare(&recipe).unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.contains("source noise: 2 of 7 examples also stand in the validation")),
        "{warnings:?}"
    );
}

#[test]
fn one_example_is_enough_and_warned() {
    let (folder, recipe) = folder(&["up", "noise"]);
    fs::write(folder.path().join("noise.jsonl"), lines("noise", 1, 1)).unwrap();
    let warnings = run(&recipe).warnings;
    assert!(warnings.iter().any(|w| w.contains("noise has one example")), "{warnings:?}");
}

#[test]
fn the_trace_has_both_phases_and_reads_back() {
    let (_folder, recipe) = folder(&["up", "noise"]);
    run(&recipe);
    let text = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for phase in [Phase::Search, Phase::Retraining] {
        assert!(
            rows.iter().any(|r| r.method == Method::HgMs && r.phase == phase && r.validation_loss.is_some())
        );
    }
    assert!(rows.iter().filter_map(|r| r.certificate.as_ref()).any(|c| c.continuations.len() == 2));
}

/// Every training example has the same answer, and half of the test examples.
#[test]
fn retrained_models_answer_and_their_answers_are_compared() {
    let (folder, mut recipe) = folder(&["up"]);
    let put = |name: &str, answers: &[&str]| {
        let text = answers.iter().enumerate().fold(String::new(), |mut text, (i, answer)| {
            let letter = char::from(b'a' + (i % 26) as u8);
            let _ = writeln!(text, "{{\"prompt\":\"{letter}?\",\"response\":\"{answer}\"}}");
            text
        });
        fs::write(folder.path().join(name), text).unwrap();
    };
    put("up.jsonl", &["#### 7,000"; 40]);
    put("v.jsonl", &["#### 7,000"; 8]);
    put("t.jsonl", &["#### $7000.0", "#### 8", "no mark", "#### 7000", "#### seven", "#### 8"]);
    recipe.evaluate.exact_match = 5;
    recipe.evaluate.source_examples = 10;
    recipe.reweight.methods = vec![Method::Uniform, Method::Proportional];
    recipe.run.seeds = vec![1, 2];
    let result = run(&recipe);
    let evaluation = result.methods[0].evaluation.as_ref().unwrap();
    let exact = evaluation.exact_match.as_ref().unwrap();
    assert_eq!((exact.examples, exact.left_out), (4, 1));
    assert_eq!((&exact.seeds[..], exact.share.mean, exact.unanswered), (&[0.5, 0.5][..], 0.5, 0.0));
    // four answers drawn anew, half of them right: none or all with probability 1/16 each
    assert_eq!(exact.share.interval, (0.0, 1.0));
    // one source: both methods train the same models
    assert!(result.comparisons.len() == 2 && result.comparisons.iter().all(|c| c.difference == 0.0));
    let compared = result.comparisons[0].exact_match.unwrap();
    assert_eq!((compared.difference, compared.interval), (0.0, (0.0, 0.0)));
    // 1/(4 + 2), and nothing from the seeds
    assert!((compared.standard_error - 1.0 / 6.0).abs() < 1e-15);
    assert_eq!(evaluation.source_losses.len(), 1);
    let (own, test) = (evaluation.source_losses[0].unwrap(), evaluation.test_loss);
    assert_eq!(result.sources[0].held_out.unwrap().examples, 2);
    assert!(own.mean < 0.1 && own.mean < test.mean, "{own:?} {test:?}");
    assert!(test.interval.0 < test.mean && test.mean < test.interval.1);
    let mean = result.methods[0].seeds.iter().map(|s| s.test_loss).sum::<f64>() / 2.0;
    assert!((test.mean - mean).abs() < 1e-12);
    // the judgement is kept, and goes with the checkpoints
    let kept = fs::read(recipe.run.out.join("checkpoints/uniform-1.judged.safetensors")).unwrap();
    assert_eq!(resume(&recipe.run.out, &mut Silent, &AtomicBool::new(false)).unwrap(), result);
    assert_eq!(fs::read(recipe.run.out.join("checkpoints/uniform-1.judged.safetensors")).unwrap(), kept);
    // asked something else, the models that are there answer
    let trained = |recipe: &Recipe| {
        let path = recipe.run.out.join("checkpoints/uniform-1.done.safetensors");
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = trained(&recipe);
    recipe.evaluate.exact_match = 2;
    let again = run(&recipe);
    let exact = again.methods[0].evaluation.as_ref().unwrap().exact_match.as_ref().unwrap();
    assert_eq!((exact.examples, trained(&recipe)), (2, before));
    assert_eq!(again.methods[0].seeds, result.methods[0].seeds);

    // a twentieth is all that there is, and so it stays
    recipe.evaluate.source_examples = 3;
    assert_eq!(run(&recipe).methods, again.methods);
    assert_eq!(trained(&recipe), before);
    // a model that was trained on an example cannot be judged on it
    recipe.evaluate.source_examples = 1;
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("recipe and data"), "{error}");
}
