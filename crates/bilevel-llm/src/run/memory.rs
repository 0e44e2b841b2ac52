//! The memory that a run will need, and that the machine has.

use super::{Prepared, judge::answering_numbers, threads};
use crate::{
    error::ReweightError,
    eval::AT_ONCE,
    ledger::Entry,
    methods::{self, Drawn},
    model::{BatchShape, Decoder, Storage},
    recipe::{Recipe, TuneSpec},
    source::{Dataset, Order},
    train::Setting,
};

/// Draws by which the largest batch of a size is estimated.
const DRAWS: u64 = 16;

/// The largest of what some batches of this size go through the model as.
fn largest(
    set: &Dataset,
    count: usize,
    shapes: impl Fn(&Dataset, Vec<usize>) -> Vec<BatchShape>,
) -> BatchShape {
    let mut order = Order::new(0, set, 0);
    (0..DRAWS)
        .flat_map(|draw| shapes(set, order.take(draw * count as u64, count)))
        .fold(BatchShape::default(), BatchShape::max)
}

/// A batch as it is.
fn whole(set: &Dataset, examples: Vec<usize>) -> Vec<BatchShape> {
    vec![BatchShape::of(&set.batch(examples))]
}

/// Bytes of a run at its peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// What [`super::prepare`] has taken already: data and the checkpoint's parameters.
    pub held: u64,
    /// What comes on top while it runs.
    pub more: u64,
}

impl Prepared {
    /// Bytes that the run will take: the lists that its methods hold, and the buffers of their largest passes, for each thread, and what
    /// frozen blocks put out.
    pub(super) fn memory(&self) -> Memory {
        let setting = &self.setting;
        let recipe = &setting.recipe;
        let data: u64 =
            setting.sources.iter().chain([&setting.validation, &setting.test]).map(Dataset::memory).sum();
        let start = setting.start.as_ref().map_or(0, |start| 4 * start.len() as u64);
        let (trained, own) = (setting.trained_at_once() as u64, setting.own_frozen() as u64);
        let lists = recipe.reweight.methods.iter().map(|&m| {
            let footprint = methods::footprint(m, recipe);
            trained * footprint.lists() as u64 + own * footprint.models as u64
        });
        let workers = threads(recipe).min(recipe.reweight.methods.len() * recipe.run.seeds.len()) as u64;
        let answering = trained + answering_numbers(self);
        let numbers = lists.fold(answering, u64::max) + passes(setting);
        let width = setting.decoder.architecture.sizes.width as u64;
        let entrances = if setting.trained.keeps_entrances() {
            (recipe.run.cache_mib << 20).min(4 * width * self.distinct_tokens())
        } else {
            0
        };
        // at the end the whole model is put together once
        let more = 4 * (workers * numbers).max(setting.decoder.parameters() as u64 + trained);
        Memory { held: data + start + setting.trained.frozen_bytes(), more: more + entrances }
    }

    /// Refuses a run that needs more memory than is available, before it takes any; `available` is in bytes, `None` where the
    /// system does not say.
    ///
    /// # Errors
    /// When the forecast is larger.
    pub fn require_memory(&self, available: Option<u64>) -> Result<(), ReweightError> {
        let Memory { held, more } = self.memory();
        match available {
            Some(available) if more > available => Err(ReweightError::Memory { held, more, available }),
            _ => Ok(()),
        }
    }
}

/// Refuses a checkpoint that cannot be read into the memory that is available, from its shape alone; `available` is in bytes, `None`
/// where the system does not say.
///
/// Numbers are read as f32. From them come a copy of what is trained where that is a part, and the shared list in bf16 where the
/// recipe asks for it; the first list is given back only then.
///
/// # Errors
/// When it takes more.
pub(super) fn require_to_load(
    recipe: &Recipe,
    decoder: &Decoder,
    available: Option<u64>,
) -> Result<(), ReweightError> {
    let parameters = decoder.parameters() as u64;
    let trained = match recipe.tune {
        TuneSpec::LastLayers { layers } => decoder.last_blocks(layers).len() as u64,
        TuneSpec::All | TuneSpec::Lisa { .. } | TuneSpec::Lora { .. } => 0,
    };
    let halves = if recipe.model.storage == Storage::Bf16 { 2 * parameters } else { 0 };
    let needed = 4 * (parameters + trained) + halves;
    match available {
        Some(available) if needed > available => {
            Err(ReweightError::CheckpointMemory { parameters, needed, available })
        }
        _ => Ok(()),
    }
}

/// Numbers in the buffers of one worker's passes.
fn passes(setting: &Setting) -> u64 {
    let (decoder, recipe) = (&setting.decoder, &setting.recipe);
    let (train, spec) = (&recipe.train, &recipe.reweight);
    let kept = setting.kept_blocks();
    let most = |of: &dyn Fn(&Dataset) -> BatchShape| {
        setting.sources.iter().map(of).fold(BatchShape::default(), BatchShape::max)
    };
    let in_parts = |set: &Dataset, examples| Drawn::of(setting, set, examples).shapes();
    let of_sources = |count: usize| most(&|source| largest(source, count, in_parts));
    let declares = |entry: Entry| spec.methods.iter().any(|&m| methods::entries(m).contains(&entry));
    let mut differentiated = most(&|source| largest(source, train.part(), whole));
    let mut tangent = 0;
    if declares(Entry::ValidationGradient) {
        // hypergradients go by halves
        let part = largest(&setting.validation, spec.validation_batch.div_ceil(2), in_parts);
        differentiated = differentiated.max(part);
    }
    if declares(Entry::GaussNewton) {
        let curved = of_sources(spec.curvature_batch.div_ceil(2));
        differentiated = differentiated.max(curved);
        tangent = setting.tangent_numbers(curved);
    }
    let scored = [&setting.validation, &setting.test].map(|set| largest(set, AT_ONCE.min(set.len()), whole));
    let scored = scored[0].max(scored[1]);
    let read = if declares(Entry::Directional) {
        scored.max(of_sources(spec.source_batch.div_ceil(2)))
    } else {
        scored
    };
    decoder.kept_numbers(kept, train.recompute, differentiated)
        + decoder.passing_numbers(differentiated.max(read))
        + decoder.backward_numbers(differentiated)
        + tangent
        + if setting.trained.is_widened() { decoder.largest_tensor() } else { 0 }
}

/// Bytes that the system can still give to this process: what it says is available, and no more than the process's control
/// group allows. `None` where neither is known.
pub fn available_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let machine = read("/proc/meminfo").as_deref().and_then(of_meminfo);
    let group = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, used)| most.saturating_sub(used));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// `MemAvailable` in bytes.
fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24606692 kB\nMemFree:          100000 kB\nMemAvailable:   12345678 kB\n";
        assert_eq!(of_meminfo(text), Some(12_345_678 * 1024));
        assert_eq!(of_meminfo("MemTotal: 1 kB\n"), None);
    }
}
