//! The records that a run used, where its files do not hold them as they are.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{ExportError, Fields, Mixture, Part, Target, absolute};
use crate::{
    recipe::{DataSpec, Recipe, SourceSpec},
    result::{DataInfo, RunResult},
    source::{Piece, Reader, Record, Sieve},
};

/// Writes `data/NAME.jsonl` for every source of the mixture whose records the recipe changed (some were left out as duplicates or overlaps,
/// answers were shuffled, or prompts and responses were written as conversations), and for plain text that the trainer does not read. The
/// parts of the mixture then name these files. Returns them.
///
/// # Errors
/// When a file cannot be read or written, or is not what the run read.
pub(super) fn write(
    result: &RunResult,
    recipe: &Recipe,
    mixture: &mut Mixture,
    target: Target,
    out: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let mut sources: Vec<&SourceSpec> = recipe.sources.iter().collect();
    // the order in which the run read them, which decides who repeats whom
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let mut remade: Vec<Option<Writer>> = Vec::new();
    for (spec, info) in sources.iter().zip(&result.sources) {
        let part = mixture.parts.iter_mut().find(|part| part.name == spec.name);
        remade.push(match part {
            Some(part) => {
                let mut changes = changes(&spec.data, &info.data, &part.fields);
                if part.is_text_unread(target) {
                    changes.push("one for each document of its plain text".into());
                }
                (!changes.is_empty()).then(|| Writer::new(part, &spec.data, &changes, out)).transpose()?
            }
            None => None,
        });
    }
    let Some(last) = remade.iter().rposition(Option::is_some) else { return Ok(Vec::new()) };
    let mut sieve = (!Sieve::keeps_all(&recipe.data)).then(|| Sieve::new(&recipe.data));
    if let Some(sieve) = &mut sieve {
        pass("test", &recipe.test, &result.test, |record| {
            sieve.test(record);
            Ok(true)
        })?;
        sieve.end_of_test();
        pass("validation", &recipe.validation, &result.validation, |record| Ok(sieve.validation(record).1))?;
        sieve.end_of_validation();
    }
    let mut files = Vec::new();
    for (number, ((spec, info), writer)) in
        sources.iter().zip(&result.sources).zip(&mut remade).take(last + 1).enumerate()
    {
        if writer.is_none() && sieve.is_none() {
            continue;
        }
        // with the names of those who speak, which the run itself needs for chat templates alone
        let told = DataSpec { chat: true, ..spec.data.clone() };
        let mut told = writer.as_ref().is_some_and(|w| w.are_roles_wanted).then(|| Reader::new(&told));
        pass(&spec.name, &spec.data, &info.data, |record| {
            let named = told.as_mut().and_then(Iterator::next).transpose().map_err(data_error)?;
            let is_kept = sieve.as_mut().is_none_or(|sieve| sieve.source(record, number as u32).is_kept);
            if let Some(writer) = writer.as_mut().filter(|_| is_kept) {
                writer.write(named.as_ref().unwrap_or(record), target)?;
            }
            Ok(is_kept)
        })?;
        if let Some(writer) = writer {
            files.push(writer.finish()?);
        }
    }
    for part in &mut mixture.parts {
        if let Some(writer) = remade.iter().flatten().find(|writer| writer.name == part.name) {
            part.paths = vec![absolute(&writer.path)];
            part.fields = writer.fields.clone();
            (part.skip, part.is_cut) = (0, false);
        }
    }
    Ok(files)
}

/// What the recipe changed in the records of a source, in words.
fn changes(spec: &DataSpec, info: &DataInfo, fields: &Fields) -> Vec<String> {
    let mut changes = Vec::new();
    if info.removed > 0 {
        changes.push(format!("{} left out as duplicates or overlaps", info.removed));
    }
    if spec.shuffle_answers {
        changes.push("with the answers of others (shuffle_answers)".into());
    }
    if spec.chat && matches!(fields, Fields::Pair { .. }) {
        changes.push("as conversations of a user and an assistant (chat)".into());
    }
    changes
}

fn data_error(error: impl std::fmt::Display) -> ExportError {
    ExportError::Data { cause: error.to_string() }
}

/// Reads a set to its end, and fails when it is not what the run read. The function says of each record whether it stays.
fn pass(
    name: &str,
    spec: &DataSpec,
    info: &DataInfo,
    mut each: impl FnMut(&Record) -> Result<bool, ExportError>,
) -> Result<(), ExportError> {
    let mut reader = Reader::new(spec);
    let mut kept = 0;
    for record in &mut reader {
        kept += u64::from(each(&record.map_err(data_error)?)?);
    }
    let summary = reader.finish(name).map_err(data_error)?;
    if summary.sha256 != info.sha256 || kept != info.examples {
        return Err(ExportError::Changed {
            name: name.to_owned(),
            kept,
            of: summary.records,
            expected: info.examples,
        });
    }
    Ok(())
}

/// A file that comes to be.
struct Writer {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    /// What its records hold.
    fields: Fields,
    /// Whether the run's own records lack the names of those who speak.
    are_roles_wanted: bool,
    /// Whether one line's end is taken from prompts, since the format puts it back.
    is_end_cut: bool,
}

impl Writer {
    fn new(part: &mut Part, spec: &DataSpec, changes: &[String], out: &Path) -> Result<Self, ExportError> {
        let folder = out.join("data");
        let path = folder.join(format!("{}.jsonl", part.name));
        let file = std::fs::create_dir_all(&folder).and_then(|()| File::create(&path));
        let file = file.map_err(|error| ExportError::unwritable(&path, &error))?;
        let mut is_end_cut = false;
        let fields = match &part.fields {
            Fields::Pair { format, .. } if !spec.chat => {
                is_end_cut = format == "{instruction}\n";
                Fields::Pair {
                    prompt: Some("prompt".into()),
                    format: if is_end_cut { format.clone() } else { "{instruction}".into() },
                    response: "response".into(),
                }
            }
            Fields::Pair { .. } | Fields::Messages { .. } => {
                Fields::Messages { field: "messages".into(), keys: ("role".into(), "content".into()) }
            }
            Fields::Text { .. } => Fields::Text { field: "text".into() },
        };
        part.notes.push(format!(
            "data/{}.jsonl holds its records as the run used them: {}",
            part.name,
            changes.join(", ")
        ));
        let are_roles_wanted = matches!(part.fields, Fields::Messages { .. }) && !spec.chat;
        Ok(Self {
            name: part.name.clone(),
            path,
            file: BufWriter::new(file),
            fields,
            are_roles_wanted,
            is_end_cut,
        })
    }

    fn write(&mut self, record: &Record, target: Target) -> Result<(), ExportError> {
        let line = match (&self.fields, record.as_slice()) {
            (Fields::Messages { .. }, pieces) if pieces.iter().all(|piece| piece.role.is_some()) => {
                let messages: Vec<Value> =
                    pieces.iter().map(|p| json!({ "role": p.role, "content": p.text })).collect();
                json!({ "messages": messages })
            }
            (Fields::Pair { .. }, [Piece { text: prompt, is_learned: false, .. }, response]) => {
                let prompt = prompt.strip_suffix('\n').filter(|_| self.is_end_cut).unwrap_or(prompt);
                json!({ "prompt": prompt, "response": response.text })
            }
            (Fields::Text { .. }, [Piece { text, is_learned: true, .. }]) => json!({ "text": text }),
            _ => {
                return Err(ExportError::Unreadable {
                    target,
                    source_name: self.name.clone(),
                    problem: "its records are of several kinds, which one file of records cannot hold".into(),
                    remedy: "make a source of each kind, or name its fields in the recipe, and run on that",
                });
            }
        };
        writeln!(self.file, "{line}").map_err(|error| ExportError::unwritable(&self.path, &error))
    }

    fn finish(&mut self) -> Result<PathBuf, ExportError> {
        self.file.flush().map_err(|error| ExportError::unwritable(&self.path, &error))?;
        Ok(self.path.clone())
    }
}
