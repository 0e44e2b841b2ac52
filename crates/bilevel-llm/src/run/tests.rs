use std::{fmt::Write as _, fs, path::PathBuf};

use super::{memory::Memory, *};
use crate::{
    eval::score,
    ledger::Entry,
    model::{Decoder, Part, Storage, Target},
    pretrained::Checkpoint,
    progress::Silent,
    recipe::{Given, ModelSizes, ModelSpec, ReweightSpec, TokenizerSpec, TuneSpec},
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

#[test]
fn the_last_block_of_a_checkpoint_is_tuned_and_the_rest_stands_still() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 30_000;
    recipe.run.threads = Some(1);
    recipe.reweight.methods.push(Method::Alignment);
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    let result = stopped_again_and_again(folder.path(), recipe.clone());
    assert_eq!((result.model.context, result.model.layers), (24, 2));
    let tuned = Checkpoint::load(&recipe.run.out.join("model")).unwrap();
    let is_trained = |name: &str| name.starts_with("model.layers.1.") || name == "model.norm.weight";
    for tensor in checkpoint.decoder.tensors() {
        let (old, new) =
            (&checkpoint.parameters[tensor.range.clone()], &tuned.parameters[tensor.range.clone()]);
        assert_eq!(old != new, is_trained(&tensor.name), "{}", tensor.name);
    }
    // what is saved on the way is the trained part alone
    let trained = prepare(&recipe).unwrap().setting.fresh(1, 0).y.len();
    assert!(trained < checkpoint.parameters.len() / 2, "{trained}");
    let done = fs::metadata(recipe.run.out.join("checkpoints/uniform-1.done.safetensors")).unwrap().len();
    assert!((done as usize) < 4 * trained + 40_000, "{done} bytes for {trained} numbers");
    // every method starts where the checkpoint is
    let first = losses_at_the_start(&recipe.run.out);
    assert!(first.len() >= 5 && first.iter().all(|loss| *loss == first[0]), "{first:?}");
}

/// Losses of the first validation examples at step 0 of every search and retraining.
fn losses_at_the_start(out: &Path) -> Vec<f64> {
    let text = fs::read_to_string(out.join("trace.jsonl")).unwrap();
    let rows = text.lines().map(|l| serde_json::from_str::<crate::TraceRow>(l).unwrap());
    rows.filter(|r| r.step == 0).map(|r| r.validation_loss.unwrap()).collect()
}

#[test]
fn low_rank_changes_are_tuned_by_every_kind_of_method_and_saved_merged() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 30_000;
    recipe.reweight.methods.extend([Method::Alignment, Method::ScaleBio]);
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    recipe.tune =
        TuneSpec::Lora { rank: 2, alpha: 4.0, targets: Some(vec![Target::Q, Target::V, Target::Up]) };
    let result = stopped_again_and_again(folder.path(), recipe.clone());
    // two blocks of q (16 → 16), v (16 → 8) and up (16 → 24)
    assert_eq!(result.model.trained, Some(2 * 2 * ((16 + 16) + (16 + 8) + (16 + 24))));
    let tuned = Checkpoint::load(&recipe.run.out.join("model")).unwrap();
    let is_changed = |name: &str| ["q_proj", "v_proj", "up_proj"].iter().any(|part| name.contains(part));
    for tensor in checkpoint.decoder.tensors() {
        let (old, new) =
            (&checkpoint.parameters[tensor.range.clone()], &tuned.parameters[tensor.range.clone()]);
        assert_eq!(old != new, is_changed(&tensor.name), "{}", tensor.name);
    }
    // every run begins at the checkpoint itself, and the saved model does what the run's did
    let setting = prepare(&recipe).unwrap().setting;
    let loss = |y: &[f32], set, limit| {
        score(&setting.decoder, y, set, limit, &mut setting.decoder.workspace()).mean()
    };
    let start = loss(&checkpoint.parameters, &setting.validation, methods::TRACED);
    let starts = losses_at_the_start(&recipe.run.out);
    assert!(starts.len() >= 7 && starts.iter().all(|loss| *loss == start), "{start} {starts:?}");
    let saved = loss(&tuned.parameters, &setting.test, usize::MAX);
    let of_run = result.methods[0].seeds[0].test_loss;
    // the order of sums differs: f32, logits of order 10
    assert!((saved - of_run).abs() < 1e-5 && of_run < start, "{saved} {of_run} {start}");

    recipe.model.checkpoint = Some(folder.path().join("gpt2"));
    let architecture = crate::model::Architecture {
        family: crate::model::Family::Gpt2,
        sizes: ModelSizes { kv_heads: 2, ..checkpoint.decoder.architecture.sizes },
        ..checkpoint.decoder.architecture.clone()
    };
    let gpt2 = Decoder::of(architecture);
    let parameters: Vec<f32> = gpt2.initial(&mut bilevel::rng::Stream::new(8, 0));
    pretrained::save(&folder.path().join("gpt2"), &gpt2, &parameters, &checkpoint.tokenizer, None).unwrap();
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None };
    assert!(prepare(&recipe).is_ok());
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: Some(vec![Target::Gate]) };
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("tune.targets") && error.contains("no gates"), "{error}");
}

#[test]
fn what_stands_still_in_bf16_is_the_rounded_checkpoint_at_half_the_memory() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 12_000;
    recipe.reweight.methods = vec![Method::Alignment, Method::Uniform];
    let mut checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    recipe.model.storage = Storage::Bf16;
    let last_block = run(&recipe);
    assert!(last_block.methods[0].test_loss.is_finite());
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None };
    recipe.run.out = folder.path().join("halves");
    let halves = run(&recipe);
    let in_halves = prepare(&recipe).unwrap().memory();
    // the same numbers in f32
    for a in &mut checkpoint.parameters {
        *a = half::bf16::from_f32(*a).to_f32();
    }
    let path = recipe.model.checkpoint.clone().unwrap();
    pretrained::save(&path, &checkpoint.decoder, &checkpoint.parameters, &checkpoint.tokenizer, None)
        .unwrap();
    recipe.model.storage = Storage::F32;
    recipe.run.out = folder.path().join("whole");
    assert_eq!(run(&recipe).methods, halves.methods);
    let saved = |name: &str| fs::read(folder.path().join(name).join("model/model.safetensors")).unwrap();
    assert!(saved("halves") == saved("whole"));
    let in_whole = prepare(&recipe).unwrap().memory();
    assert_eq!(in_whole.held - in_halves.held, 2 * checkpoint.parameters.len() as u64);
    recipe.model.storage = Storage::Bf16;
    recipe.tune = TuneSpec::All;
    let error = recipe.validate().unwrap_err().to_string();
    assert!(error.contains("model.storage = bf16") && error.contains("tune.kind"), "{error}");
}

#[test]
fn a_few_blocks_at_a_time_are_tuned_by_every_kind_of_method() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 30_000;
    recipe.reweight.methods.extend([Method::Alignment, Method::ScaleBio]);
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    // a period that cycles, continuations and checkpoints do not share
    recipe.tune = TuneSpec::Lisa { layers: 1, period: 5, ends: true };
    let result = stopped_again_and_again(folder.path(), recipe.clone());
    let decoder = &checkpoint.decoder;
    let (of, block) = (decoder.parameters(), decoder.select(&[Part::Block(0)]).len());
    assert_eq!(result.model.trained, Some((of - block) as u64));
    let tuned = Checkpoint::load(&recipe.run.out.join("model")).unwrap();
    for tensor in decoder.tensors() {
        // in the end every block has been awake
        assert!(checkpoint.parameters[tensor.range.clone()] != tuned.parameters[tensor.range.clone()]);
    }
    let setting = prepare(&recipe).unwrap().setting;
    let score = |y: &[f32], set, limit| {
        score(&setting.decoder, y, set, limit, &mut setting.decoder.workspace()).mean()
    };
    let start = score(&checkpoint.parameters, &setting.validation, methods::TRACED);
    assert!(losses_at_the_start(&recipe.run.out).iter().all(|loss| *loss == start));
    let of_run = result.methods[0].seeds[0].test_loss;
    assert!((score(&tuned.parameters, &setting.test, usize::MAX) - of_run).abs() < 1e-12 && of_run < start);
    recipe.tune = TuneSpec::Lisa { layers: 3, period: 5, ends: true };
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("tune.layers = 3") && error.contains("2 blocks"), "{error}");
}

#[test]
fn checkpoints_of_a_recipe_with_relative_paths_belong_to_the_one_with_full_paths() {
    let (folder, recipe) = folder(&["up"]);
    let mut prepared = prepare(&recipe).unwrap();
    let whole = prepared.identity(Path::new("/elsewhere"));
    let mut text = recipe.to_toml();
    text = text.replace(&format!("{}/", folder.path().display()), "");
    prepared.setting.recipe = Recipe::parse(&text, Path::new("")).unwrap();
    assert_ne!(prepared.setting.recipe.test, recipe.test);
    assert_eq!(prepared.identity(folder.path()), whole);
    assert_ne!(prepared.identity(Path::new("/elsewhere")), whole);
}

#[test]
fn another_checkpoint_under_the_same_name_is_not_gone_on_with() {
    let (folder, mut recipe) = folder(&["up"]);
    recipe.run.budget = 3_000;
    recipe.reweight.methods = vec![Method::Uniform];
    let mut checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    run(&recipe);
    checkpoint.parameters[7] += 1.0;
    let path = recipe.model.checkpoint.clone().unwrap();
    pretrained::save(&path, &checkpoint.decoder, &checkpoint.parameters, &checkpoint.tokenizer, None)
        .unwrap();
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("uniform-1") && error.contains("belongs to"), "{error}");
    recipe.tune = TuneSpec::LastLayers { layers: 3 };
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("tune.layers = 3") && error.contains("2 blocks"), "{error}");
}

#[test]
fn conversations_go_through_the_template_of_the_checkpoint() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 6_000;
    recipe.reweight.methods = vec![Method::Uniform];
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    let plain = prepare(&recipe).unwrap().setting;
    recipe.validation.chat = true;
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("validation.chat") && error.contains("no chat template"), "{error}");
    let template = |source: &str| pretrained::ChatTemplate { source: source.into(), begin: None, end: None };
    let save = |source: &str| {
        let path = recipe.model.checkpoint.clone().unwrap();
        let (decoder, parameters) = (&checkpoint.decoder, &checkpoint.parameters);
        pretrained::save(&path, decoder, parameters, &checkpoint.tokenizer, Some(&template(source))).unwrap();
    };
    save(
        "{% for m in messages %}{{ m.role[0] + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}a{% endif %}",
    );
    let setting = prepare(&recipe).unwrap().setting;
    // the response of six letters and the end in both; a line's end against two roles and an end
    let (tokens, learned) = (setting.validation.info.tokens, setting.validation.info.loss_tokens);
    assert_eq!((tokens, learned), (40 * (1 + 3 + 1 + 1 + 7), 40 * 7));
    assert_eq!((plain.validation.info.tokens, plain.validation.info.loss_tokens), (40 * (1 + 3 + 7), 40 * 7));
    let (question, answer) = setting.validation.question_and_answer(0);
    assert_eq!((question[1], question[4], question[5]), (u32::from(b'u'), 257, u32::from(b'a')));
    assert_eq!(answer.last(), Some(&257));
    run(&recipe);
    // without chat nothing has changed
    assert_eq!(setting.sources[0].info, plain.sources[0].info);
    save("{{ raise_exception('only the system may speak') }}");
    let error = prepare(&recipe).unwrap_err().to_string();
    for part in ["validation, record 1 of", "only the system may speak", "roles of the messages"] {
        assert!(error.contains(part), "`{part}` not in: {error}");
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

/// Acceptance item 22 of the specification of HG-MS.
#[test]
fn acceptance_22_ledger_entries_sum_to_the_budget_within_one_training_step() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods.push(Method::Alignment);
    let result = run(&recipe);
    // 2 sources × 2 sequences × (10 tokens: begin, 8 letters, a line's end)
    let step = 3.0 * 4.0 * 10.0;
    for seed in result.methods.iter().flat_map(|m| &m.seeds) {
        for ledger in seed.search.iter().chain([&seed.retraining]) {
            let sum: f64 = ledger.entries.iter().map(|e| e.units).sum();
            assert!((sum - ledger.spent).abs() < 1e-6);
            assert!(sum <= ledger.budget && ledger.budget - sum < step, "{ledger:?}");
        }
    }
    spends_on_what_it_declares(&result);
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

#[test]
fn noise_falls_and_retraining_with_the_weights_beats_uniform() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 200_000;
    recipe.run.seeds = vec![1, 2, 3];
    let result = run(&recipe);
    assert_eq!(result.sources[0].name, "noise");
    for seed in &result.methods[0].seeds {
        assert!(seed.weights[0] < 0.25, "{:?}", seed.weights);
    }
    let comparison = &result.comparisons[0];
    assert!(comparison.difference < 0.0, "{comparison:?}");
}

#[test]
fn identical_sources_get_equal_weight_within_the_noise_bar() {
    let (_folder, mut recipe) = folder(&["up-a", "up-b"]);
    recipe.run.seeds = vec![1, 2, 3, 4];
    let result = run(&recipe);
    let [a, b] = &result.methods[0].weights[..] else { panic!("two sources") };
    // the difference of the two is 2·(a − ½); four seeds: three standard errors are 1.5 standard deviations
    assert!((a.mean - 0.5).abs() <= 1.5 * a.sd.unwrap() + 1e-12, "{a:?} {b:?}");
}

#[test]
fn permuting_the_sources_permutes_the_weights() {
    let (folder, recipe) = folder(&["up", "noise", "twin"]);
    let mut turned = recipe.clone();
    turned.sources.rotate_left(1);
    turned.run.out = folder.path().join("turned");
    let (a, b) = (run(&recipe), run(&turned));
    assert_eq!(a.methods, b.methods);
    assert_eq!(a.sources, b.sources);
}

#[test]
fn one_source_gets_weight_one_and_no_signal() {
    let (_folder, recipe) = folder(&["up"]);
    let result = run(&recipe);
    let seed = &result.methods[0].seeds[0];
    assert_eq!(seed.weights, [1.0]);
    assert!(seed.cycles > 0 && seed.no_signal == seed.cycles, "{seed:?}");
}

#[test]
fn a_random_mixture_is_one_of_its_seed_and_trained_with_the_same_budget() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.run.budget = 20_000;
    recipe.run.seeds = vec![1, 2];
    recipe.reweight.methods = vec![Method::Random, Method::Uniform];
    let result = run(&recipe);
    let seeds = &result.methods[0].seeds;
    assert_ne!(seeds[0].weights, seeds[1].weights);
    for seed in seeds {
        assert!((seed.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{seed:?}");
        assert!(seed.search.is_none(), "nothing is learned");
        assert_eq!(seed.retraining.budget, 20_000.0);
    }
    assert!(result.comparisons.iter().any(|c| (c.method, c.baseline) == (Method::Uniform, Method::Random)));
    assert_eq!(result.methods, run(&recipe).methods);
}

#[test]
fn scalebio_lowers_noise_gives_twins_equal_weight_and_pays_for_both_networks() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::ScaleBioReleased, Method::ScaleBio];
    recipe.reweight.scalebio.step = 0.05;
    let result = run(&recipe);
    spends_on_what_it_declares(&result);
    for method in &result.methods {
        for seed in &method.seeds {
            let search = seed.search.as_ref().unwrap();
            let tokens = |words: &str| search.entries.iter().find(|e| e.entry == words).unwrap().tokens;
            assert!(tokens("training") > 0 && tokens("validation gradients") > 0);
            // a step of the search costs more than two of the retraining
            assert!(2 * search.steps < seed.retraining.steps, "{search:?}");
            let total: f64 = seed.weights.iter().sum();
            assert!((total - 1.0).abs() < 1e-12, "{:?}", seed.weights);
        }
        let [noise, twin, up] = &method.weights[..] else { panic!("three sources") };
        assert!(noise.mean < twin.mean && noise.mean < up.mean, "{}: {:?}", method.method, method.weights);
    }
}

#[test]
fn published_rules_of_alignment_lower_noise_as_far_as_they_move() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::DoGe, Method::FastMix];
    let result = run(&recipe);
    for method in &result.methods {
        let [noise, twin, up] = &method.weights[..] else { panic!("three sources") };
        assert!(noise.mean < twin.mean && noise.mean < up.mean, "{}: {:?}", method.method, method.weights);
    }
    // an update of Adam is at most 0.1/√(0.05 (1 − 0.81/0.95)) = 1.17 times its step size
    let seed = &result.methods[1].seeds[0];
    let spread =
        (seed.weights[2] / seed.weights[0]).ln().abs().max((seed.weights[1] / seed.weights[0]).ln().abs());
    assert!(spread < 2.0 * 1.17e-2 * seed.cycles as f64, "{spread} in {} cycles", seed.cycles);
}

#[test]
fn f2ba_lowers_noise_and_certifies_each_cycle() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::F2ba];
    recipe.reweight.f2ba.lambda_end = Some(30.0);
    let result = run(&recipe);
    let [noise, twin, up] = &result.methods[0].weights[..] else { panic!("three sources") };
    assert!(noise.mean < twin.mean && noise.mean < up.mean, "{:?}", result.methods[0].weights);
    let seed = &result.methods[0].seeds[0];
    let steps = seed.search.as_ref().unwrap().steps;
    // two networks, a gradient on the target, and losses in each cycle
    assert!(2 * steps < seed.retraining.steps, "{seed:?}");
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let certificates = rows.iter().filter(|row| row.certificate.is_some());
    assert_eq!(certificates.count() as u64, steps / recipe.reweight.cycle);
}

#[test]
fn influences_lower_noise_are_projected_alike_and_fewer_where_they_are_dear() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::Less];
    recipe.reweight.source_batch = 16;
    let whole = run(&recipe);
    let weights =
        |result: &RunResult| result.methods[0].weights.iter().map(|bar| bar.mean).collect::<Vec<f64>>();
    let p = weights(&whole);
    assert!(p[0] < p[1].min(p[2]), "{p:?}");
    let tokens = |result: &RunResult| {
        let search = result.methods[0].seeds[0].search.as_ref().unwrap();
        search.entries.iter().find(|e| e.entry == "gradients of single examples").unwrap().tokens
    };
    // 16 examples of 10 tokens of 3 sources at 4 places
    assert_eq!(tokens(&whole), 4 * 3 * 16 * 10);
    recipe.run.out = recipe.run.out.join("projected");
    recipe.reweight.less.dimension = Some(4096);
    let q = weights(&run(&recipe));
    // cosines are off by about 1/64, each on its own, and the means of 64 of them by an eighth of that
    assert!(q[0] < q[1].min(q[2]) && q.iter().zip(&p).all(|(q, p)| (q - p).abs() < 0.1), "{p:?} {q:?}");
    // 3 units for each of (16 + 48) · 10 tokens: half of this budget pays for one place
    recipe.run.out = recipe.run.out.join("short");
    recipe.run.budget = 5_000;
    assert_eq!(tokens(&run(&recipe)), 3 * 16 * 10);
}

#[test]
fn doremi_and_regmix_spend_one_budget_and_twins_are_treated_alike() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::DoReMi, Method::RegMix];
    recipe.reweight.proxies = 6;
    let result = run(&recipe);
    spends_on_what_it_declares(&result);
    for method in &result.methods {
        for seed in &method.seeds {
            let search = seed.search.as_ref().unwrap();
            assert!(search.spent <= search.budget && search.spent > 0.7 * search.budget, "{search:?}");
            assert!((seed.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{:?}", seed.weights);
        }
    }
    // a proxy that differs from its reference by its weights alone has the same excess on equal sources, up to their
    // different examples
    let [_, twin, up] = &result.methods[0].weights[..] else { panic!("three sources") };
    assert!((twin.mean - up.mean).abs() < 0.1, "{:?}", result.methods[0].weights);
    assert_eq!(result.methods, run(&recipe).methods);
}

#[test]
fn the_bandit_goes_where_the_loss_is_and_has_steps_without_one_of_the_sources() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods = vec![Method::Odm];
    recipe.reweight.odm.draws = Some(1);
    recipe.run.evaluations = 50;
    let result = run(&recipe);
    // noise cannot be learned: its loss stays, and it is drawn more
    assert!(result.methods[0].weights[0].mean > 0.5, "{:?}", result.methods[0].weights);
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let search: Vec<_> = rows.iter().filter(|row| row.phase == Phase::Search && row.step > 0).collect();
    assert!(search.len() > 20);
    for row in search {
        assert_eq!(row.source_losses.iter().flatten().count(), 1, "{row:?}");
        assert_eq!(row.train_loss, row.source_losses.iter().flatten().next().copied());
    }
    // with one draw a step is half as dear, and there are twice as many
    let steps = |report: &crate::result::LedgerReport| report.steps as f64;
    let seed = &result.methods[0].seeds[0];
    let ratio = steps(seed.search.as_ref().unwrap()) / steps(&seed.retraining);
    assert!((ratio - 2.0).abs() < 0.02, "{ratio}");
}

#[test]
fn a_source_without_a_batch_adds_nothing_to_the_gradient() {
    let (_folder, recipe) = folder(&["up", "noise"]);
    let setting = prepare(&recipe).unwrap().setting;
    let mut orders: Vec<Order> = setting.sources.iter().map(|s| Order::new(1, s, 0)).collect();
    let network = setting.fresh(1, 0);
    let mut buffers = Buffers::new(&setting.decoder);
    let both = StepBatch::of(&setting, &mut orders, &[(6, 2), (6, 2)]);
    assert_eq!(both.tokens, StepBatch::draw(&setting, &mut orders, 3).tokens);
    let whole = weighted_gradient(&setting, &network, &both, &[0.0, 0.7], &mut buffers);
    let expected = buffers.total.clone();
    let one = StepBatch::of(&setting, &mut orders, &[(6, 0), (6, 2)]);
    let losses = weighted_gradient(&setting, &network, &one, &[0.3, 0.7], &mut buffers);
    assert_eq!((losses.losses[0], losses.gradient_norms[0]), (None, None));
    assert_eq!(losses.losses[1], whole.losses[1]);
    assert_eq!(losses.total, 0.7 * whole.losses[1].unwrap());
    assert_eq!(losses.largest_gradient(), losses.gradient_norms[1].unwrap());
    assert_eq!(buffers.total, expected);
}

#[test]
fn given_weights_are_trained_with() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 20_000;
    recipe.reweight.methods = vec![Method::Given];
    assert!(recipe.validate().unwrap_err().to_string().contains("reweight.given"));
    recipe.reweight.given = Some(Given::Weights([("up".to_owned(), 0.9), ("noise".to_owned(), 0.1)].into()));
    assert_eq!(run(&recipe).methods[0].seeds[0].weights, [0.1, 0.9]);
}

/// Weights learned on a small proxy are applied to a larger model, by the path of the proxy's result.
#[test]
fn weights_of_another_run_are_transferred_by_its_file_and_the_file_is_not_needed_again() {
    let (folder, mut proxy) = folder(&["up", "noise"]);
    proxy.run.budget = 20_000;
    proxy.reweight.methods = vec![Method::Uniform, Method::Random];
    proxy.run.out = folder.path().join("proxy");
    let learned = run(&proxy).methods[1].seeds[0].weights.clone();
    let file = proxy.run.out.join("weights.json");

    let text = proxy.to_toml() + "\n[reweight.given]\nfile = \"proxy/weights.json\"\nmethod = \"random\"\n";
    let mut recipe = Recipe::parse(&text, folder.path()).unwrap();
    recipe.model.layers = Some(2);
    recipe.reweight.methods = vec![Method::Given];
    recipe.run.out = folder.path().join("large");
    let result = run(&recipe);
    assert_eq!(result.methods[0].seeds[0].weights, learned);
    // the first method that ran there, when none is named
    recipe.reweight.given = Some(Given::File(file.clone()));
    assert_eq!(prepare(&recipe).unwrap().setting.recipe.reweight.given, Some(equal()));

    let refused = |given: Given| {
        let recipe = Recipe {
            reweight: ReweightSpec { given: Some(given), ..recipe.reweight.clone() },
            ..recipe.clone()
        };
        prepare(&recipe).unwrap_err().to_string()
    };
    let error = refused(Given::OfMethod { file: file.clone(), method: Method::HgMs });
    assert!(error.contains("no weights of hg-ms; it has those of uniform, random"), "{error}");
    let error = refused(Given::File(folder.path().join("up.jsonl")));
    assert!(error.contains("up.jsonl") && error.contains("not the weights.json of a run"), "{error}");
    let error = refused(Given::File(folder.path().join("none.json")));
    assert!(error.contains("none.json") && error.contains("run that has ended"), "{error}");
    let mut others = recipe.clone();
    others.sources[0].name = "rise".into();
    let error = prepare(&others).unwrap_err().to_string();
    assert!(
        error.contains("reweight.given.up") && error.contains("rise, noise") && error.contains("proxy"),
        "{error}"
    );

    fs::remove_file(&file).unwrap();
    assert_eq!(resume(&folder.path().join("large"), &mut Silent, &AtomicBool::new(false)).unwrap(), result);
}

/// The weights of two sources by name, equal.
fn equal() -> Given {
    Given::Weights([("up".to_owned(), 0.5), ("noise".to_owned(), 0.5)].into())
}

#[test]
fn no_method_repeats_a_source_more_often_than_allowed() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    fs::write(folder.path().join("up.jsonl"), lines("up", 1, 20)).unwrap();
    recipe.run.budget = 20_000;
    recipe.reweight.grid_step = 0.5;
    recipe.reweight.given = Some(equal());
    recipe.reweight.methods = Method::ALL.to_vec();
    recipe.reweight.max_epochs = Some(10.0);
    let result = run(&recipe);
    // a training token costs 3 units; at 10 passes a third of the budget for the smaller source, more than all for the other
    let (trained, tokens) = (20_000.0 / 3.0, result.sources[1].data.tokens as f64);
    let most = 10.0 * tokens / trained;
    assert!(most < 0.4 && result.sources[0].data.tokens as f64 > 3.0 * tokens);
    for method in &result.methods {
        let bar = &method.weights[1];
        assert!(bar.mean <= most + 1e-12 && bar.epochs <= 10.0 + 1e-9, "{}: {bar:?}", method.method);
    }
    let of = |method| result.of(Some(method)).unwrap().weights[1].mean;
    assert!((of(Method::Uniform) - most).abs() < 1e-12 && of(Method::Proportional) < 0.21);

    recipe.run.out = folder.path().join("full");
    recipe.reweight.max_epochs = Some(6.0);
    let error = prepare(&recipe).unwrap_err().to_string();
    let all: u64 = result.sources.iter().map(|source| source.data.tokens).sum();
    let least = (1000.0 * trained / all as f64).ceil() / 1000.0;
    assert!(
        error.contains("reweight.max_epochs = 6 ") && error.contains(&format!("at least {least}")),
        "{error}"
    );
    recipe.reweight.max_epochs = Some(least);
    assert!(prepare(&recipe).is_ok());
}

#[test]
fn predictions_stand_in_the_trace_before_the_model_is_trained_that_shows_whether_they_hold() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 200_000;
    recipe.reweight.proxies = 8;
    recipe.reweight.methods = vec![
        Method::HgMs,
        Method::ScaleBio,
        Method::F2ba,
        Method::RegMix,
        Method::Alignment,
        Method::Uniform,
    ];
    let silent = [Method::Alignment, Method::Uniform];
    let result = run(&recipe);
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let uniform = result.of(Some(Method::Uniform)).unwrap().seeds[0].validation_loss;
    for method in &result.methods {
        let seed = &method.seeds[0];
        let first = rows
            .iter()
            .find(|row| row.method == method.method && row.phase == Phase::Retraining && row.step == 0)
            .unwrap();
        assert_eq!(first.predicted_change, seed.predicted_change, "{}", method.method);
        assert_eq!(seed.predicted_change.is_none(), silent.contains(&method.method));
        // less noise is better, and each of them says so
        if let Some(predicted) = seed.predicted_change {
            assert!(predicted < 0.0 && predicted.is_finite(), "{}: {predicted}", method.method);
        }
        if method.method == Method::HgMs {
            assert!(seed.validation_loss < uniform, "{seed:?}");
        }
    }
    let told = rows.iter().filter(|row| row.predicted_change.is_some());
    assert_eq!(told.count(), 4);
}

#[test]
fn random_mixtures_are_uniform_on_the_simplex() {
    // The mean of a coordinate of Dirichlet(1, 1, 1) is 1/3, its variance 1/18.
    let mut stream = bilevel::rng::Stream::new(3, 0);
    let draws: Vec<f64> = (0..4000).map(|_| crate::methods::dirichlet(3, &mut stream)[1]).collect();
    let mean = draws.iter().sum::<f64>() / 4000.0;
    let variance = draws.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / 4000.0;
    // Standard errors √(1/18/4000) = 0.0037 and about 0.0011.
    assert!((mean - 1.0 / 3.0).abs() < 0.015 && (variance - 1.0 / 18.0).abs() < 0.005, "{mean} {variance}");
}

#[test]
fn the_grid_tries_every_point_and_says_what_it_cost() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 20_000;
    recipe.reweight.methods = vec![Method::Grid];
    recipe.reweight.grid_step = 0.5;
    let result = run(&recipe);
    let seed = &result.methods[0].seeds[0];
    assert!((seed.search.as_ref().unwrap().budget - 60_000.0).abs() < 1e-9);
    assert!([vec![0.0, 1.0], vec![0.5, 0.5]].contains(&seed.weights), "{:?}", seed.weights);
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
        let mut buffers = Buffers::new(&setting.decoder);
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
fn a_loss_that_is_not_finite_names_step_and_source() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.train.lr = 1e30;
    recipe.train.clip = None;
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(
        error.contains("source noise is not finite in step") && error.contains("lower train.lr"),
        "{error}"
    );
}

#[test]
fn a_loss_that_is_not_finite_names_the_examples_of_its_batch_and_nothing_is_updated() {
    let (_folder, recipe) = folder(&["up", "noise"]);
    let setting = prepare(&recipe).unwrap().setting;
    let job = Job { setting: &setting, method: Method::Uniform, seed: 5 };
    let mut orders: Vec<Order> = setting.sources.iter().map(|s| Order::new(5, s, 0)).collect();
    let batch = StepBatch::draw(&setting, &mut orders, 3);
    let mut network = job.fresh(0);
    network.y[7] = f32::NAN;
    let before = network.y.clone();
    let mut buffers = Buffers::new(&setting.decoder);
    let error = job.update(3, &mut network, &batch, &[0.5, 0.5], 1e-3, &mut buffers).unwrap_err().to_string();
    let [a, b] = batch.examples(0) else { panic!("two sequences of each source") };
    let expected = format!(
        "source noise is not finite in step 4 of uniform, seed 5, with its examples {}, {}",
        a + 1,
        b + 1
    );
    assert!(error.contains(&expected), "{error}");
    assert!(network.y.iter().zip(&before).all(|(a, b)| a.to_bits() == b.to_bits()) && network.updates == 0);
}

#[test]
fn parameters_that_are_not_finite_do_not_replace_a_checkpoint() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.checkpoint_every = 1;
    recipe.reweight.methods = vec![Method::Uniform];
    // in f32 this is infinite, so that the first update leaves no number
    recipe.train.lr = 1e300;
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(
        error.contains("not finite after step 1 of uniform, seed 1") && error.contains("is kept"),
        "{error}"
    );
    assert_eq!(fs::read_dir(recipe.run.out.join("checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_run_that_needs_more_memory_than_there_is_is_refused_with_both_numbers_and_remedies() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.threads = Some(1);
    tune_a_checkpoint(folder.path(), &mut recipe);
    let part = prepare(&recipe).unwrap();
    assert!(part.require_memory(None).is_ok() && part.require_memory(Some(1 << 40)).is_ok());
    let error = part.require_memory(Some(3 << 10)).unwrap_err();
    let ReweightError::Memory { more, .. } = error else { panic!("{error}") };
    let text = error.to_string();
    for word in
        ["0.00 GiB are available", "tune.kind", "run.threads", "train.accumulation", "train.recompute"]
    {
        assert!(text.contains(word), "{text}");
    }
    assert!(part.require_memory(Some(more)).is_ok() && part.require_memory(Some(more - 1)).is_err());
    // the remedies are remedies
    let need = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = recipe.clone();
        change(&mut recipe);
        let Memory { held, more } = prepare(&recipe).unwrap().memory();
        held + more
    };
    let now = need(&|_| ());
    assert_eq!(now, part.forecast().memory);
    assert!(need(&|r| r.tune = TuneSpec::All) > now);
    assert!(need(&|r| r.run.threads = Some(2)) > now);
    assert!(need(&|r| r.reweight.methods = vec![Method::Uniform]) < now);
    assert!(need(&|r| r.train.recompute = true) < now);
    let big = |accumulation| move |r: &mut Recipe| (r.train.batch, r.train.accumulation) = (64, accumulation);
    assert!(need(&big(8)) < need(&big(1)));
}

#[test]
fn truncated_and_foreign_checkpoints_are_refused_by_name() {
    let (folder, recipe) = folder(&["up", "noise"]);
    run(&recipe);
    let path: PathBuf = recipe.run.out.join("checkpoints/hg-ms-1.done.safetensors");
    let mut other = recipe.clone();
    other.train.lr = 2e-2;
    let error = reweight(&other, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("hg-ms-1") && error.contains("belongs to"), "{error}");
    let whole = fs::read(&path).unwrap();
    for broken in [whole[..whole.len() / 2].to_vec(), {
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        flipped
    }] {
        fs::write(&path, broken).unwrap();
        let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
    }
    drop(folder);
}

#[test]
fn a_result_folder_that_cannot_be_made_is_named() {
    let (folder, mut recipe) = folder(&["up"]);
    recipe.run.out = folder.path().join("up.jsonl/out");
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("up.jsonl/out") && error.contains("writable"), "{error}");
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
    recipe.reweight.methods = vec![Method::Uniform];
    recipe.run.seeds = vec![1, 2];
    let result = run(&recipe);
    let evaluation = result.methods[0].evaluation.as_ref().unwrap();
    let exact = evaluation.exact_match.as_ref().unwrap();
    assert_eq!((exact.examples, exact.left_out), (4, 1));
    assert_eq!((&exact.seeds[..], exact.share.mean, exact.unanswered), (&[0.5, 0.5][..], 0.5, 0.0));
    // four answers drawn anew, half of them right: none or all with probability 1/16 each
    assert_eq!(exact.share.interval, (0.0, 1.0));
    assert_eq!(evaluation.source_losses.len(), 1);
    let (own, test) = (evaluation.source_losses[0], evaluation.test_loss);
    assert!(own.mean < 0.1 && own.mean < test.mean, "{own:?} {test:?}");
    assert!(test.interval.0 < test.mean && test.mean < test.interval.1);
    let mean = result.methods[0].seeds.iter().map(|s| s.test_loss).sum::<f64>() / 2.0;
    assert!((test.mean - mean).abs() < 1e-12);
    // the judgement is kept, and goes with the checkpoints
    let kept = fs::read(recipe.run.out.join("checkpoints/uniform-1.judged.safetensors")).unwrap();
    assert_eq!(resume(&recipe.run.out, &mut Silent, &AtomicBool::new(false)).unwrap(), result);
    assert_eq!(fs::read(recipe.run.out.join("checkpoints/uniform-1.judged.safetensors")).unwrap(), kept);
}
