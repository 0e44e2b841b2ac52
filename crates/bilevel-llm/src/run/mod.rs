//! A whole run: read, search and retrain with every method and seed, judge, write.

mod chain;
mod checkpoint;
mod given;
mod judge;
mod kept;
mod list_file;
mod memory;
mod model;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bilevel::{ConfigError, run::checkpoint::write_atomically};
use serde::Serialize;

use crate::{
    device,
    error::ReweightError,
    eval::{compare, compare_answers, spread},
    methods::{self, Job, Learner, Visit},
    pretrained::{self, ChatTemplate},
    progress::{Progress, ProgressEvent},
    recipe::{EvaluateSpec, Method, Recipe},
    result::{Comparison, MethodResult, ModelInfo, RunResult, SourceInfo, Timings, WeightBar},
    source::{Dataset, Encoder, Order, Reader, gather},
    tokenizer::Tokenizer,
    train::{Buffers, Setting, StepBatch, weighted_gradient},
};
use chain::Chain;
use checkpoint::Store;
pub(crate) use checkpoint::hex;
use kept::{ChainResult, Judgement};
pub use memory::available_memory;
use model::Model;

/// Data that are read, a model that is shaped: everything before the first step.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What the run needs.
    pub setting: Setting,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint's chat template, which is kept with the tuned model.
    chat_template: Option<ChatTemplate>,
    /// Hash of the checkpoint's numbers and tokenizer; empty without a checkpoint.
    checkpoint_hash: String,
    /// The sources.
    pub sources: Vec<SourceInfo>,
    /// The examples of each source that no model is trained on; no sets when none are asked for. Methods do not see them, since they
    /// are not part of the setting.
    pub held_out: Vec<Dataset>,
    /// Validation examples that overlap with the test set.
    pub validation_overlap_with_test: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a run will need; measured, not guessed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Parameters of the model.
    pub parameters: u64,
    /// Those that are trained at a time.
    pub trained: u64,
    /// Training steps of a retraining.
    pub steps: u64,
    /// Seconds of the whole run on this machine, from a training step that was timed.
    pub seconds: f64,
    /// Bytes of memory at the peak, roughly: data, the checkpoint, and for each thread what its method holds and the buffers of
    /// its largest passes.
    pub memory: u64,
    /// Bytes of memory that the system can give to the run; absent where it does not say.
    pub available: Option<u64>,
}

/// Reads and checks everything that a recipe names.
///
/// # Errors
/// When the recipe, a data file or the checkpoint is not as it should be, or the checkpoint takes more memory than is available.
pub fn prepare(recipe: &Recipe) -> Result<Prepared, ReweightError> {
    prepare_within(recipe, available_memory())
}

/// [`prepare`] with so many bytes of memory for the checkpoint, where they are known.
fn prepare_within(recipe: &Recipe, available: Option<u64>) -> Result<Prepared, ReweightError> {
    recipe.validate()?;
    let recipe = &given::resolved(recipe)?;
    let mut accelerator = device::open(recipe.run.device)?;
    let mut specs: Vec<_> = recipe.sources.iter().collect();
    // ascending by name, so that the order in the recipe has no effect on any number
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    for data in specs.iter().map(|spec| &spec.data).chain([&recipe.validation, &recipe.test]) {
        Reader::require_files(data)?;
    }
    let model = Model::new(recipe, &specs, available)?;
    if let (Some(accelerator), Some(list)) = (&mut accelerator, model.trained.frozen_singles()) {
        let name = accelerator.name().to_owned();
        accelerator.keep(list).map_err(|said| ReweightError::Device { name, said })?;
    }
    for (table, data) in specs
        .iter()
        .map(|spec| (format!("source.{}", spec.name), &spec.data))
        .chain([("validation".to_owned(), &recipe.validation), ("test".to_owned(), &recipe.test)])
    {
        ConfigError::require(
            !data.chat || model.chat_template.is_some(),
            &format!("{table}.chat"),
            true,
            "the checkpoint has no chat template: leave chat out, or give a checkpoint with one",
        )?;
    }
    let encoder = Encoder::new(&model.tokenizer, model.chat_template.as_ref());
    let data = gather(recipe, &specs, encoder, model.context)?;
    let tokens: Vec<u64> = data.sources.iter().map(|source| source.info.tokens).collect();
    methods::require_room(recipe, &tokens)?;
    let mut warnings = data.warnings;
    if recipe.run.seeds.len() < 3 {
        warnings.push(format!(
            "{} seed(s): noise bars and standard errors want at least three",
            recipe.run.seeds.len()
        ));
    }
    let Model { decoder, tokenizer, context, start, trained, lisa, chat_template, hash } = model;
    let setting = Setting {
        recipe: recipe.clone(),
        decoder,
        context,
        start,
        trained,
        lisa,
        sources: data.sources,
        validation: data.validation,
        test: data.test,
        accelerator: accelerator.map(Arc::new),
    };
    let validation_overlap_with_test = data.validation_overlap_with_test;
    Ok(Prepared {
        setting,
        tokenizer,
        chat_template,
        checkpoint_hash: hash,
        sources: data.infos,
        held_out: data.held_out,
        validation_overlap_with_test,
        warnings,
    })
}

fn threads(recipe: &Recipe) -> usize {
    recipe.run.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl Prepared {
    /// Times one training step and says what the run will need.
    pub fn forecast(&self) -> Forecast {
        let setting = &self.setting;
        let recipe = &setting.recipe;
        let memory = self.memory();
        let available = available_memory().map(|available| available + memory.held);
        let mut orders: Vec<Order> = setting.sources.iter().map(|s| Order::new(0, s, 0)).collect();
        let network = setting.fresh(0, 0);
        let p = vec![1.0 / setting.sources.len() as f64; setting.sources.len()];
        let mut buffers = Buffers::new(setting);
        let (mut tokens, mut seconds, mut entering) = (0, 0.0, 0.0);
        for step in 0..3 {
            let batch = StepBatch::draw(setting, &mut orders, step);
            let mut timed = || {
                let began = Instant::now();
                weighted_gradient(setting, &network, &batch, &p, &mut buffers);
                began.elapsed().as_secs_f64()
            };
            let first = timed();
            // a second pass over the same examples finds there what frozen blocks put out
            let each = if setting.trained.keeps_entrances() { timed() } else { first };
            if step > 0 {
                // the first step fills the processor's caches
                tokens += batch.tokens;
                seconds += each;
                entering += (first - each).max(0.0);
            }
        }
        let per_token = recipe.ledger.training;
        let of_a_seed: f64 = recipe.reweight.methods.iter().map(|&method| self.units(method)).sum();
        let units = of_a_seed * recipe.run.seeds.len() as f64;
        let chains = recipe.reweight.methods.len() * recipe.run.seeds.len();
        let workers = threads(recipe).min(chains) as f64;
        let entering = entering / tokens as f64 * self.distinct_tokens() as f64;
        Forecast {
            parameters: setting.decoder.parameters() as u64,
            trained: network.y.len() as u64,
            steps: (recipe.run.budget as f64 / (per_token * tokens as f64 / 2.0)) as u64,
            seconds: (units / per_token / (tokens as f64 / seconds) + entering) / workers,
            memory: memory.held + memory.more,
            available,
        }
    }

    /// Tokens that the run reads at least once. Every method draws the same examples, so only seeds meet new ones.
    fn distinct_tokens(&self) -> u64 {
        let setting = &self.setting;
        let recipe = &setting.recipe;
        let drawn = recipe.run.seeds.len() as f64 * recipe.run.budget as f64 / recipe.ledger.training;
        let all = |sets: &[Dataset]| sets.iter().map(Dataset::inputs).sum::<u64>();
        let judged = setting.validation.inputs() + setting.test.inputs() + all(&self.held_out);
        all(&setting.sources).min(drawn as u64) + judged
    }

    /// Work units of a method with one seed: its search and its retraining.
    fn units(&self, method: Method) -> f64 {
        let recipe = &self.setting.recipe;
        (methods::budgets(method, recipe) + 1.0) * recipe.run.budget as f64
    }

    /// What the checkpoints of a method belong to: everything that decides a number of its chains, but the seed, which is in their
    /// name. So a recipe may get more seeds and methods, or ask more of the models, and what has been computed stays. Relative paths
    /// start at `here`, so that the recipe that is kept in the result folder, with paths in full, says the same.
    fn identity(&self, here: &Path, method: Method) -> String {
        let mut recipe = canonical(&self.setting.recipe);
        recipe.set_data_folder(here);
        recipe.run.seeds.clear();
        recipe.evaluate = EvaluateSpec::default();
        recipe.reweight = recipe.reweight.read_by(method);
        let mut text = recipe.to_toml();
        for info in self
            .sources
            .iter()
            .map(|s| &s.data)
            .chain([&self.setting.validation.info, &self.setting.test.info])
        {
            text.push_str(&info.sha256);
        }
        // of all that is asked of the models the only part that decides what they are trained on
        for held in self.sources.iter().filter_map(|s| s.held_out).filter(|held| held.examples > 0) {
            let _ = writeln!(text, "{} held out", held.examples);
        }
        text.push_str(&self.checkpoint_hash);
        text.push_str(env!("CARGO_PKG_VERSION"));
        hex(text)
    }
}

/// The recipe without what has no effect on the numbers.
fn canonical(recipe: &Recipe) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.run.out = "runs/reweight".into();
    recipe.run.threads = None;
    recipe.run.cache_mib = 0;
    recipe.run.checkpoint_every = 50;
    recipe.data.scratch = None;
    recipe.train.recompute = false;
    recipe
}

/// Runs a recipe and writes its result folder. A folder that holds checkpoints of the same recipe and data is gone on
/// with, also when seeds or methods were added or left out since, or something else is asked of the models.
pub fn reweight(
    recipe: &Recipe,
    progress: &mut dyn Progress,
    interrupt: &AtomicBool,
) -> Result<RunResult, ReweightError> {
    let out = &recipe.run.out;
    fs::create_dir_all(out).map_err(|e| ReweightError::io(out, e))?;
    let prepared = prepare(recipe)?;
    prepared.require_memory(available_memory())?;
    let mut kept = prepared.setting.recipe.clone();
    // the folder may be moved, the data not: their paths are written out in full
    kept.run.out = ".".into();
    let here = std::env::current_dir().map_err(|e| ReweightError::io(".", e))?;
    kept.set_data_folder(&here);
    let pairs: Vec<(Method, u64)> =
        recipe.reweight.methods.iter().flat_map(|&m| recipe.run.seeds.iter().map(move |&s| (m, s))).collect();
    let store =
        |&(method, _): &(Method, u64)| Store::new(out.join("checkpoints"), prepared.identity(&here, method));
    let stores: Vec<Store> = pairs.iter().map(store).collect::<Result<_, _>>()?;
    // an earlier run's recipe stays unless this one goes on with its chains
    for (&pair, store) in pairs.iter().zip(&stores) {
        store.require_chain(&chain_name(pair))?;
    }
    save(&out.join("recipe.toml"), kept.to_toml().as_bytes())?;
    progress.report(&ProgressEvent::Started {
        total_units: pairs
            .iter()
            .zip(&stores)
            .filter(|(pair, store)| !store.has_ended(&chain_name(**pair)))
            .map(|((method, _), _)| prepared.units(*method))
            .sum(),
        parameters: prepared.setting.decoder.parameters() as u64,
        warnings: &prepared.warnings,
    });
    let results = run_chains(&prepared, &pairs, progress, interrupt, &stores)?;
    finish(&prepared, &pairs, &results, &stores[0])
}

/// Goes on with the run in a result folder.
pub fn resume(
    out: &Path,
    progress: &mut dyn Progress,
    interrupt: &AtomicBool,
) -> Result<RunResult, ReweightError> {
    let mut recipe = Recipe::load(&out.join("recipe.toml"))?;
    out.clone_into(&mut recipe.run.out);
    reweight(&recipe, progress, interrupt)
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), ReweightError> {
    write_atomically(path, bytes).map_err(|e| ReweightError::io(path, e))
}

type ChainEnd = (ChainResult, Judgement);

/// Under which a chain is kept.
fn chain_name((method, seed): (Method, u64)) -> String {
    format!("{method}-{seed}")
}

/// Runs a chain with its method's learner.
struct Run<'c, 'a, 'p>(&'c Chain<'a, 'p>);

impl Visit for Run<'_, '_, '_> {
    type Output = Result<ChainResult, ReweightError>;
    fn visit<L: Learner>(self, learner: &L) -> Self::Output {
        self.0.run(learner)
    }
}

/// Chains side by side on all threads; each is a function of its method and seed alone, so the numbers do not depend
/// on who runs what when.
fn run_chains(
    prepared: &Prepared,
    pairs: &[(Method, u64)],
    progress: &mut dyn Progress,
    interrupt: &AtomicBool,
    stores: &[Store],
) -> Result<Vec<ChainEnd>, ReweightError> {
    let progress = Mutex::new(progress);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let ends: Vec<Mutex<Option<Result<ChainEnd, ReweightError>>>> =
        pairs.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads(&prepared.setting.recipe).min(pairs.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= pairs.len() || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let ((method, seed), store) = (pairs[i], &stores[i]);
                    let name = chain_name((method, seed));
                    let job = Job { setting: &prepared.setting, method, seed };
                    let chain = Chain { job, interrupt, progress: &progress, store };
                    let end = match store.recall(&name) {
                        Ok(Some(end)) => Ok(end),
                        Ok(None) => methods::visit(method, Run(&chain)).and_then(|_| {
                            store.recall(&name).map(|end| end.expect("a chain that ended was remembered"))
                        }),
                        Err(e) => Err(e),
                    };
                    let end = end.and_then(|(chain, y)| {
                        let judgement = judge::kept_or_judged(prepared, store, &name, &y, interrupt)?;
                        Ok((chain, judgement))
                    });
                    if end.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    *ends[i].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(end);
                }
            });
        }
    });
    let mut results = Vec::new();
    let mut missing = false;
    for end in ends {
        match end.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(end) => results.push(end?),
            None => missing = true,
        }
    }
    debug_assert!(!missing, "chains are left out only after an error, which was returned");
    Ok(results)
}

fn finish(
    prepared: &Prepared,
    pairs: &[(Method, u64)],
    ends: &[ChainEnd],
    store: &Store,
) -> Result<RunResult, ReweightError> {
    let setting = &prepared.setting;
    let recipe = &setting.recipe;
    let out = &recipe.run.out;
    let mut trace = String::new();
    let mut timings = Timings::default();
    for (chain, _) in ends {
        for row in &chain.rows {
            trace.push_str(&serde_json::to_string(row).expect("a row is made of numbers"));
            trace.push('\n');
        }
        timings.rows.extend(chain.timings.iter().cloned());
    }
    let of = |method: Method| -> Vec<&ChainResult> {
        pairs.iter().zip(ends).filter(|((m, _), _)| *m == method).map(|(_, (chain, _))| chain).collect()
    };
    let judged = |method: Method| -> Vec<&Judgement> {
        pairs.iter().zip(ends).filter(|((m, _), _)| *m == method).map(|(_, (_, judged))| judged).collect()
    };
    let methods: Vec<MethodResult> =
        recipe.reweight.methods.iter().map(|&m| method_result(prepared, m, &of(m), &judged(m))).collect();
    let mut comparisons = Vec::new();
    for baseline in [Method::Uniform, Method::Proportional, Method::Random] {
        for &method in &recipe.reweight.methods {
            if method == baseline || !recipe.reweight.methods.contains(&baseline) {
                continue;
            }
            let (a, b) = (of(method), of(baseline));
            let (a, b): (Vec<_>, Vec<_>) =
                (a.iter().map(|c| &c.scores).collect(), b.iter().map(|c| &c.scores).collect());
            let right = |method| judge::right_answers(&judged(method));
            let exact_match = compare_answers(&right(method), &right(baseline));
            comparisons.push(Comparison { exact_match, ..compare(method, baseline, &a, &b) });
        }
    }
    let sizes = &setting.decoder.architecture.sizes;
    let result = RunResult {
        schema: 1,
        versions: BTreeMap::from([("bilevel".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        sources: prepared.sources.clone(),
        validation: setting.validation.info.clone(),
        test: setting.test.info.clone(),
        validation_overlap_with_test: prepared.validation_overlap_with_test,
        model: ModelInfo {
            parameters: setting.decoder.parameters() as u64,
            trained: Some(setting.trained_at_once() as u64),
            layers: sizes.layers,
            width: sizes.width,
            context: setting.context,
            vocabulary: setting.decoder.architecture.vocabulary,
        },
        device: setting.accelerator.as_ref().map(|a| a.name().to_owned()),
        seeds: recipe.run.seeds.clone(),
        budget: recipe.run.budget,
        methods,
        comparisons,
        warnings: prepared.warnings.clone(),
        recipe: canonical(recipe).to_toml(),
    };
    save(&out.join("trace.jsonl"), trace.as_bytes())?;
    save(&out.join("timings.json"), &pretty(&timings))?;
    // read again: the models of all methods and seeds at once would be more than any training takes
    let kept = store.recall(&chain_name(pairs[0]))?;
    let (_, y) = kept.expect("a chain that ended was remembered");
    let parameters = setting.trained.full(&y);
    let template = prepared.chat_template.as_ref();
    pretrained::save(&out.join("model"), &setting.decoder, &parameters, &prepared.tokenizer, template)?;
    save(&out.join("weights.json"), &pretty(&result))?;
    Ok(result)
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("results are made of numbers and strings");
    text.push(b'\n');
    text
}

fn method_result(
    prepared: &Prepared,
    method: Method,
    chains: &[&ChainResult],
    judged: &[&Judgement],
) -> MethodResult {
    let recipe = &prepared.setting.recipe;
    // tokens that the budget trains on, were all of it training
    let trained = recipe.run.budget as f64 / recipe.ledger.training;
    let weights = prepared
        .sources
        .iter()
        .enumerate()
        .map(|(i, source)| {
            let (mean, sd) = spread(&chains.iter().map(|c| c.seed.weights[i]).collect::<Vec<_>>());
            WeightBar { mean, sd, epochs: mean * trained / source.trained_tokens() as f64 }
        })
        .collect();
    let (test_loss, test_loss_sd) = spread(&chains.iter().map(|c| c.seed.test_loss).collect::<Vec<_>>());
    MethodResult {
        method,
        weights,
        seeds: chains.iter().map(|c| c.seed.clone()).collect(),
        test_loss,
        test_loss_sd,
        evaluation: Some(judge::summarise(chains, judged)),
    }
}

#[cfg(test)]
mod tests;
