//! All data of a recipe as tokens: read, held against one another, and cleaned.

use super::{Dataset, Encoder, Reader, Record, Sieve};
use crate::{
    error::{DataError, ReweightError},
    recipe::{DataSpec, Deduplicate, OnOverlap, Recipe, SourceSpec},
    result::{DataInfo, HeldOut, SourceInfo},
};

/// The data of a run.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The sources, in the order in which they were given.
    pub sources: Vec<Dataset>,
    /// The examples of each that are held out of it; no sets when the recipe asks for none.
    pub held_out: Vec<Dataset>,
    /// What was found in each.
    pub infos: Vec<SourceInfo>,
    /// The validation set.
    pub validation: Dataset,
    /// Its examples that overlap with the test set.
    pub validation_overlap_with_test: u64,
    /// The test set; nothing is ever left out of it.
    pub test: Dataset,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Reads all data of a recipe, its sources in the order given.
///
/// # Errors
/// When a file is not what the recipe says, nothing is left of a set, or `data.overlap = "refuse"` and there is one.
pub fn gather(
    recipe: &Recipe,
    sources: &[&SourceSpec],
    encoder: Encoder,
    context: usize,
) -> Result<Gathered, ReweightError> {
    let data = &recipe.data;
    let read = |name: &str, spec: &DataSpec, is_kept: &mut dyn FnMut(&Record) -> bool| {
        Dataset::read(name, Reader::new(spec), encoder, context, data.scratch.as_deref(), is_kept)
    };
    let mut sieve = Sieve::new(data);
    let test = read("test", &recipe.test, &mut |record| {
        sieve.test(record);
        true
    })?;
    sieve.end_of_test();
    let mut shared = 0;
    let validation = read("validation", &recipe.validation, &mut |record| {
        let (is_in_test, is_kept) = sieve.validation(record);
        shared += u64::from(is_in_test);
        is_kept
    })?;
    sieve.end_of_validation();
    let mut warnings = Vec::new();
    if shared > 0 {
        let of = validation.info.examples + validation.info.removed;
        refuse(data.overlap, "the validation set", shared, of, "test")?;
        warnings.push(format!(
            "{shared} of {of} validation examples also stand in the test set; {}",
            match data.overlap {
                OnOverlap::Remove => "they were left out",
                _ => "the test loss will be too low. Take them out",
            }
        ));
    }
    let (mut sets, mut held_out, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    for (number, spec) in sources.iter().enumerate() {
        let mut info = SourceInfo { name: spec.name.clone(), ..SourceInfo::default() };
        let mut set = read(&spec.name, &spec.data, &mut |record| {
            let shared = sieve.source(record, number as u32);
            info.overlap_with_validation += u64::from(shared.with_validation);
            info.overlap_with_test += u64::from(shared.with_test);
            info.duplicates += u64::from(shared.repeats == Some(number as u32));
            info.duplicates_of_others += u64::from(shared.repeats.is_some_and(|r| r != number as u32));
            shared.is_kept
        })?;
        info.data = set.info.clone();
        let of = info.data.examples + info.data.removed;
        let subject = format!("source {}", info.name);
        refuse(data.overlap, &subject, info.overlap_with_validation, of, "validation")?;
        refuse(data.overlap, &subject, info.overlap_with_test, of, "test")?;
        warnings.extend(warnings_of(&info, &set, recipe, context));
        if recipe.evaluate.source_examples > 0 {
            let held = set.hold_out(recipe.evaluate.source_examples, data.scratch.as_deref())?;
            let &DataInfo { examples, tokens, loss_tokens, .. } = &held.info;
            info.held_out = Some(HeldOut { examples, tokens, loss_tokens });
            held_out.push(held);
        }
        sets.push(set);
        infos.push(info);
    }
    let validation_overlap_with_test = shared;
    Ok(Gathered { sources: sets, held_out, infos, validation, validation_overlap_with_test, test, warnings })
}

/// Fails on an overlap that the recipe does not allow.
fn refuse(on: OnOverlap, subject: &str, count: u64, of: u64, other: &str) -> Result<(), DataError> {
    if on != OnOverlap::Refuse || count == 0 {
        return Ok(());
    }
    Err(DataError::Overlap { subject: subject.to_owned(), count, of, other: other.to_owned() })
}

fn warnings_of(info: &SourceInfo, set: &Dataset, recipe: &Recipe, context: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = &info.name;
    let n = info.data.examples;
    let of = n + info.data.removed;
    // one record of running text may make many windows
    if set.len() == 1 {
        warnings.push(format!(
            "source {name} has one example; every batch repeats it. Give it more, or delete it from the recipe"
        ));
    }
    warnings.extend(
        set.long.iter().map(|long| format!("source {name}: {long}; if it is many records in one, split it")),
    );
    for (count, other, what) in [
        (info.overlap_with_validation, "validation", "its weight will be too high"),
        (info.overlap_with_test, "test", "the test loss will be too low"),
    ] {
        if count > 0 {
            let done = match recipe.data.overlap {
                OnOverlap::Remove => "they were left out".to_owned(),
                _ => format!("{what}. Take them out, by data.overlap = \"remove\" for this run"),
            };
            warnings.push(format!(
                "source {name}: {count} of {of} examples also stand in the {other} set; {done}"
            ));
        }
    }
    let duplicates = info.duplicates + info.duplicates_of_others;
    if recipe.data.deduplicate == Deduplicate::None {
        // one in a hundred: fewer do not move a weight
        if duplicates > 0 && 100 * duplicates >= of {
            warnings.push(format!(
                "source {name}: {duplicates} of {of} examples repeat another one of the sources; data.deduplicate = \"exact\" leaves them out"
            ));
        }
    } else if duplicates > 0 {
        warnings.push(format!(
            "source {name}: {duplicates} of {of} examples repeat another one of the sources and were left out"
        ));
    }
    if info.data.removed > 0 {
        warnings.push(format!(
            "source {name}: its files still hold the {} examples that were left out; `bilevel export` writes those that stayed for other trainers",
            info.data.removed
        ));
    }
    if info.data.truncated > 0 {
        warnings.push(format!(
            "source {name}: {} of {n} examples are longer than the context of {context} tokens and were cut",
            info.data.truncated
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
