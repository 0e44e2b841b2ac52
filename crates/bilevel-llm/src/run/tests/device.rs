//! Runs whose large products are made elsewhere.

use std::sync::{Arc, atomic::Ordering};

use super::*;
use crate::{
    model::kernels::{Accelerator, test_device::Plain},
    recipe::DeviceKind,
};

/// Runs the first method of a recipe with a device.
fn run_on(recipe: &Recipe, device: Plain) -> Result<Vec<ChainEnd>, ReweightError> {
    let mut prepared = prepare(recipe).unwrap();
    let accelerator = Accelerator::new(Box::new(device)).unwrap().for_all_products();
    prepared.setting.accelerator = Some(Arc::new(accelerator));
    fs::create_dir_all(&recipe.run.out).unwrap();
    let store = Store::new(
        recipe.run.out.join("checkpoints"),
        prepared.identity(Path::new(""), recipe.reweight.methods[0]),
    )
    .unwrap();
    let pairs = [(recipe.reweight.methods[0], recipe.run.seeds[0])];
    run_chains(&prepared, &pairs, &mut Silent, &AtomicBool::new(false), &[store])
}

#[test]
fn a_run_on_a_device_finds_what_the_processor_finds_up_to_rounding() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods = vec![Method::Uniform];
    recipe.run.budget = 10_000;
    let device = Plain::good();
    let calls = device.calls.clone();
    let ends = run_on(&recipe, device).unwrap();
    assert!(calls.load(Ordering::Relaxed) > 1000);
    recipe.run.out = folder.path().join("processor");
    let here = run(&recipe);
    let (there, here) = (ends[0].0.seed.test_loss, here.methods[0].test_loss);
    // a hundred steps, each off by roundings of 2^-24
    assert!((there - here).abs() < 1e-3 * here && there != here, "{there} {here}");
}

#[test]
fn a_device_that_fails_ends_the_run_and_the_last_checkpoint_is_gone_on_from() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods = vec![Method::Uniform];
    recipe.run.budget = 10_000;
    let whole = run_on(&recipe, Plain::good()).unwrap();
    recipe.run.out = folder.path().join("failing");
    let failing = Plain::good();
    // the trial of the device, and some steps
    failing.reach.store(1500, Ordering::Relaxed);
    let error = run_on(&recipe, failing).unwrap_err();
    assert!(matches!(error, ReweightError::Device { .. }));
    let text = error.to_string();
    assert!(text.starts_with("plain failed: out of reach; ") && text.contains("bilevel resume"), "{text}");
    let (again, there) = (run_on(&recipe, Plain::good()).unwrap(), &whole[0]);
    assert_eq!(again[0].0.seed, there.0.seed);
    assert_eq!(again[0].1, there.1);
}

#[test]
fn the_device_belongs_to_what_a_checkpoint_belongs_to() {
    let (_folder, recipe) = folder(&["up"]);
    let mut prepared = prepare(&recipe).unwrap();
    let here = prepared.identity(Path::new(""), Method::Uniform);
    assert!(!recipe.to_toml().contains("device"));
    prepared.setting.recipe.run.device = DeviceKind::Cuda;
    assert_ne!(prepared.identity(Path::new(""), Method::Uniform), here);
    assert!(prepared.setting.recipe.to_toml().contains("device = \"cuda\""));
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_this_program_does_not_know_is_refused_before_anything_is_read() {
    let (folder, mut recipe) = folder(&["up"]);
    recipe.run.device = DeviceKind::Cuda;
    fs::remove_file(folder.path().join("t.jsonl")).unwrap();
    let error = prepare(&recipe).unwrap_err().to_string();
    assert!(
        error.starts_with("run.device = cuda is not allowed") && error.contains("--features cuda"),
        "{error}"
    );
}
