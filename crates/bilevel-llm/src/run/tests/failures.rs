//! Runs that cannot go on, and what is left of them.

use super::*;
use crate::{model::Architecture, pretrained::gguf::test_model::gguf};

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
    let mut buffers = Buffers::new(&setting);
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
fn a_checkpoint_that_does_not_fit_is_refused_before_a_tensor_is_read() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    let checkpoint = tune_a_checkpoint(folder.path(), &mut recipe);
    let n = checkpoint.parameters.len() as u64;
    let last = checkpoint.decoder.select(&[Part::Block(1), Part::FinalNorm]).len() as u64;
    let lora = TuneSpec::Lora { rank: 2, alpha: 4.0, targets: None, layers: None };
    for (tune, storage, needed) in [
        (TuneSpec::All, Storage::F32, 4 * n),
        (TuneSpec::LastLayers { layers: 1 }, Storage::F32, 4 * (n + last)),
        (TuneSpec::LastLayers { layers: 1 }, Storage::Bf16, 6 * n + 4 * last),
        (lora, Storage::Bf16, 6 * n),
    ] {
        (recipe.tune, recipe.model.storage) = (tune, storage);
        assert!(prepare_within(&recipe, Some(needed)).is_ok() && prepare_within(&recipe, None).is_ok());
        let error = prepare_within(&recipe, Some(needed - 1)).unwrap_err();
        let ReweightError::CheckpointMemory { parameters, needed: told, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((parameters, told), (n, needed));
        let text = error.to_string();
        assert!(text.contains(&format!("{n} parameters")) && text.contains("model.storage"), "{text}");
    }
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
// other systems would fill the disk with the hole
#[cfg(unix)]
fn a_gguf_file_that_does_not_fit_is_refused_by_its_header_alone() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    let sizes =
        ModelSizes { layers: 2, width: 16, heads: 2, kv_heads: 1, ffn: 24, context: 40, rope_base: 1e4 };
    let small = Architecture::llama(sizes, 258);
    let mut file = gguf(&small, &vec![0.5; Decoder::of(small.clone()).parameters()]);
    // the same model with sizes that no memory holds, as a header before a hole
    let large = ModelSizes { width: 1 << 14, ffn: 1 << 20, ..sizes };
    let large = Decoder::of(Architecture::llama(large, 258));
    let key_width = large.architecture.head_size as u64;
    for (_, dims, ..) in &mut file.tensors {
        for d in dims {
            *d = match *d {
                16 => 1 << 14,
                24 => 1 << 20,
                8 => key_width,
                other => other,
            };
        }
    }
    for (key, value) in &mut file.keys {
        let size: u32 = match key.as_str() {
            "llama.embedding_length" => 1 << 14,
            "llama.feed_forward_length" => 1 << 20,
            _ => continue,
        };
        *value = [4_u32.to_le_bytes(), size.to_le_bytes()].concat();
    }
    let mut end = 0;
    let places: Vec<u64> = file
        .tensors
        .iter()
        .map(|(_, dims, ..)| {
            let place = end;
            end = (end + 4 * dims.iter().product::<u64>()).next_multiple_of(32);
            place
        })
        .collect();
    let header = file.header(&places);
    let path = folder.path().join("large.gguf");
    let length = header.len() as u64 + end;
    fs::write(&path, header).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();

    recipe.model = ModelSpec { checkpoint: Some(path), context: Some(24), ..ModelSpec::default() };
    recipe.tune = TuneSpec::LastLayers { layers: 1 };
    let n = large.parameters() as u64;
    let last = large.select(&[Part::Block(1), Part::FinalNorm]).len() as u64;
    let error = prepare_within(&recipe, Some(1 << 34)).unwrap_err();
    let ReweightError::CheckpointMemory { parameters, needed, available } = error else { panic!("{error}") };
    assert_eq!((parameters, needed, available), (n, 4 * (n + last), 1 << 34));
}
