//! A run as lines of JSON, one per step.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::observer::{Event, Observer, ObserverError};
use crate::{certificate::Certificate, oracles::OracleCounts, problem::Problem, vector::Vector};

/// Upper iterates of more coordinates than this are left out of the trace.
const MAX_X: usize = 64;

/// One line of a trace. Numbers that are not finite are `null` in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Steps done, this one included.
    pub step: u64,
    /// Hyper-objective at the iterate that the step started from, if known.
    pub value: Option<f64>,
    /// The solver's measure of stationarity; `None` where it has none.
    pub stationarity: Option<f64>,
    /// Coordinates of the upper iterate after the step, when there are at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<Vec<f64>>,
    /// Oracle calls since the start.
    pub counts: OracleCounts,
    /// The certificate of the step's hypergradient, if the solver certifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The solver's other numbers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, Option<f64>>,
}

/// A file of trace rows could not be written.
#[derive(Debug, thiserror::Error)]
#[error("trace {path}: {source}; check that the folder exists, is writable and has room")]
pub struct TraceError {
    path: PathBuf,
    source: io::Error,
}

/// Observer that writes a [`Row`] per step.
///
/// The file depends on problem, solver and seed alone, so two runs can be compared byte by byte; times go to a file
/// of their own ([`Trace::with_times`]). When a run is resumed, rows after the checkpoint are cut off and
/// written again.
#[derive(Debug)]
pub struct Trace {
    rows: Lines,
    times: Option<Lines>,
}

impl Trace {
    /// A trace in this file; a run that starts anew writes it anew.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { rows: Lines::new(path.into()), times: None }
    }
    /// Writes the time in the solver too, `{"step": …, "seconds": …}` per line, to this file.
    #[must_use]
    pub fn with_times(mut self, path: impl Into<PathBuf>) -> Self {
        self.times = Some(Lines::new(path.into()));
        self
    }
}

#[derive(Serialize)]
struct TimeRow {
    step: u64,
    seconds: f64,
}

impl<P: Problem> Observer<P> for Trace {
    fn begin(&mut self, step: u64) -> Result<(), ObserverError> {
        self.rows.open_at(step)?;
        if let Some(times) = &mut self.times {
            times.open_at(step)?;
        }
        Ok(())
    }

    fn observe(&mut self, event: &Event<P>) -> Result<ControlFlow<String>, ObserverError> {
        let finite = |number: f64| number.is_finite().then_some(number);
        self.rows.append(&Row {
            step: event.step,
            value: event.info.value.and_then(finite),
            stationarity: finite(event.info.stationarity),
            x: (event.x.dim() <= MAX_X).then(|| event.x.coordinates()),
            counts: event.counts,
            certificate: event.info.certificate.clone(),
            extras: event.info.extras.iter().map(|(name, number)| (name.clone(), finite(*number))).collect(),
        })?;
        if let Some(times) = &mut self.times {
            times.append(&TimeRow { step: event.step, seconds: event.wall.as_secs_f64() })?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The rows of a trace file. A last line cut short by a crash is left out.
pub fn read(path: &Path) -> io::Result<Vec<Row>> {
    read_lines(path)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", index + 1))
            })
        })
        .collect()
}

/// A file of JSON lines with a `step` in each, for observers that write rows of their own.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: Option<File>,
}

/// The only field that is needed to find one's place.
#[derive(Deserialize)]
struct StepOnly {
    step: u64,
}

impl Lines {
    /// In this file, which is not touched before it is opened.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Opens the file for rows after `step` and cuts off what it has of them.
    pub fn open_at(&mut self, step: u64) -> Result<(), TraceError> {
        let open = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
            let mut keep = 0;
            let mut reader = BufReader::new(&file);
            let mut line = Vec::new();
            while step > 0 && reader.read_until(b'\n', &mut line)? > 0 {
                // The first line that is torn, foreign or later than the checkpoint ends what is kept.
                if !line.ends_with(b"\n")
                    || !serde_json::from_slice::<StepOnly>(&line).is_ok_and(|row| row.step <= step)
                {
                    break;
                }
                keep += line.len() as u64;
                line.clear();
            }
            if file.metadata()?.len() > keep {
                file.set_len(keep)?;
            }
            file.seek(SeekFrom::Start(keep))?;
            Ok(file)
        };
        self.file = Some(open().map_err(|source| TraceError { path: self.path.clone(), source })?);
        Ok(())
    }

    /// The rows that the file holds.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<Vec<T>, TraceError> {
        read_lines(&self.path).map_err(|source| TraceError { path: self.path.clone(), source })
    }

    /// Writes one row in one call, so that a process killed at any moment leaves at most one torn line.
    pub fn append(&mut self, row: &impl Serialize) -> Result<(), TraceError> {
        let write = |file: &mut File| {
            let mut line = serde_json::to_vec(row)?;
            line.push(b'\n');
            file.write_all(&line)
        };
        let begun = self.file.as_mut().ok_or_else(|| io::Error::other("a row before the run began"));
        begun.and_then(write).map_err(|source| TraceError { path: self.path.clone(), source })
    }
}
