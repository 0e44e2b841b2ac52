//! Checkpoints that are tuned whole or in part.

use super::*;

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
    let targets = Some(vec![Target::Q, Target::V, Target::Up]);
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets, layers: None };
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
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: None };
    assert!(prepare(&recipe).is_ok());
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: Some(vec![Target::Gate]), layers: None };
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("tune.targets") && error.contains("no gates"), "{error}");
}

#[test]
fn low_rank_changes_of_the_last_block_give_the_same_bytes_whether_outputs_below_are_kept_or_not() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 30_000;
    recipe.reweight.methods.push(Method::Alignment);
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: Some(1) };
    let result = run(&recipe);
    // q and o (16 and 16), k and v (16 and 8), gate, up and down (16 and 24)
    assert_eq!(result.model.trained, Some(2 * (2 * 32 + 2 * 24 + 3 * 40)));
    let kept = bytes(&recipe.run.out);
    let tuned = Checkpoint::load(&recipe.run.out.join("model")).unwrap();
    for tensor in checkpoint.decoder.tensors() {
        let (old, new) =
            (&checkpoint.parameters[tensor.range.clone()], &tuned.parameters[tensor.range.clone()]);
        let is_changed = tensor.name.starts_with("model.layers.1.") && tensor.name.contains("_proj");
        assert_eq!(old != new, is_changed, "{}", tensor.name);
    }
    let prepared = prepare(&recipe).unwrap();
    assert!(prepared.setting.trained.keeps_entrances() && prepared.setting.kept_blocks() == 1);
    recipe.run.cache_mib = 0;
    recipe.run.out = folder.path().join("none");
    let without = prepare(&recipe).unwrap();
    assert!(without.memory().more < prepared.memory().more);
    run(&recipe);
    assert!(bytes(&recipe.run.out) == kept);
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: Some(2) };
    let all = prepare(&recipe).unwrap().setting;
    assert!(!all.trained.keeps_entrances() && all.kept_blocks() == 2);
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: Some(3) };
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(error.contains("tune.layers = 3") && error.contains("2 blocks"), "{error}");
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
    recipe.tune = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: None };
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
