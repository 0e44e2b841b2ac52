//! Files from which a run goes on exactly where it stopped.
//!
//! A checkpoint is two lines of JSON. The first is the header: what wrote the file, for which solver and problem, and
//! length and checksum of the second line. The second is the checkpoint itself. It is written to a temporary file
//! in the same folder, read back, forced to the disk and renamed, so that at every moment there is one whole file.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Status;
use crate::{error::CheckpointError, oracles::OracleCounts, solvers::StepInfo};

/// Version of the layout of the file.
const SCHEMA: u32 = 1;
/// First field of every header, by which a checkpoint is told from another JSON file.
const FORMAT: &str = "bilevel-checkpoint";

/// The iterate with the lowest known hyper-objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best<X, Y> {
    /// Steps done when the run was there.
    pub step: u64,
    /// The hyper-objective, as the solver reported it.
    pub value: f64,
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
}

/// Everything needed to go on where a run stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(
    serialize = "X: Serialize, Y: Serialize, S: Serialize",
    deserialize = "X: DeserializeOwned, Y: DeserializeOwned, S: DeserializeOwned"
))]
pub struct Checkpoint<X, Y, S> {
    /// Name of the solver.
    pub solver: String,
    /// Name of the problem, as given to the run.
    pub problem: String,
    /// Seed of the run.
    pub seed: u64,
    /// Steps done.
    pub step: u64,
    /// Oracle calls so far.
    pub counts: OracleCounts,
    /// Time spent in the solver so far.
    pub wall: Duration,
    /// The iterate with the lowest known hyper-objective so far.
    pub best: Option<Best<X, Y>>,
    /// What the solver knew after the last step; `None` before the first.
    pub last: Option<StepInfo>,
    /// The end to which the solver came by itself; a run resumed from here ends at once in the same way.
    /// Budgets and observers are not such ends: a run resumed with a larger budget goes on.
    pub end: Option<Status>,
    /// The solver's state.
    pub state: S,
}

/// First line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    schema: u32,
    /// Version of the library that wrote the file.
    version: String,
    solver: String,
    problem: String,
    /// Bytes of the second line, its end not counted.
    length: usize,
    /// FNV-1a of the second line.
    checksum: String,
}

/// What a file says of itself, before its state is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the solver.
    pub solver: String,
    /// Name of the problem.
    pub problem: String,
    /// Version of the library that wrote the file.
    pub version: String,
}

/// 64-bit FNV-1a: finds every accident (cut files, edits), and is not meant against forgers.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |source| CheckpointError::Io { path: path.into(), source }
}

fn damaged(path: &Path, detail: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { path: path.into(), detail: detail.into() }
}

/// Header and body of a file, checked against each other.
fn read_parts(path: &Path) -> Result<(Header, Vec<u8>), CheckpointError> {
    let mut bytes = fs::read(path).map_err(io_error(path))?;
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Err(damaged(path, "the header line is missing or cut short"));
    };
    let mut body = bytes.split_off(end + 1);
    let header: Header = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(path, format!("the header cannot be read ({error})")))?;
    if header.format != FORMAT || header.schema != SCHEMA {
        return Err(CheckpointError::Foreign {
            path: path.into(),
            found: format!(
                "{} schema {} (written by version {})",
                header.format, header.schema, header.version
            ),
            expected: format!("{FORMAT} schema {SCHEMA}"),
        });
    }
    if body.last() == Some(&b'\n') {
        body.pop();
    }
    if body.len() != header.length {
        let detail = format!("it has {} bytes of {}", body.len(), header.length);
        return Err(damaged(path, detail));
    }
    let found = checksum(&body);
    if found != header.checksum {
        let detail = format!("its checksum is {found}, not {}", header.checksum);
        return Err(damaged(path, detail));
    }
    Ok((header, body))
}

/// Writes a file so that at every moment the old or the new content is there as a whole.
///
/// The content goes to `<name>.partial` in the same folder, is forced to the disk, and takes the name.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    write_atomically_with(path, |file| file.write_all(content))
}

/// As [`write_atomically`], with what `write` puts into the file.
///
/// # Errors
/// What the system says, or `write`; whatever stood at `path` before is then still there.
pub fn write_atomically_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&partial, path)) {
        // What is left of it is of no use, and on a full disk it takes room.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    // The rename itself is on the disk only when the folder is; file systems that cannot do that lose nothing but time.
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// What the file says of itself. Fails when it is damaged or no checkpoint.
pub fn origin(path: &Path) -> Result<Origin, CheckpointError> {
    let (header, _) = read_parts(path)?;
    Ok(Origin { solver: header.solver, problem: header.problem, version: header.version })
}

impl<X, Y, S> Checkpoint<X, Y, S>
where
    X: Serialize + DeserializeOwned,
    Y: Serialize + DeserializeOwned,
    S: Serialize + DeserializeOwned,
{
    /// Writes the file, whole or not at all.
    ///
    /// What was written is read back first: JSON has no NaN and no infinity, and a state with one in it must be found
    /// now and not when it is needed.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let unfaithful =
            |detail: String| CheckpointError::Unfaithful { path: path.into(), step: self.step, detail };
        let body = serde_json::to_vec(self).map_err(|error| unfaithful(error.to_string()))?;
        serde_json::from_slice::<Self>(&body).map_err(|error| unfaithful(error.to_string()))?;
        let header = Header {
            format: FORMAT.into(),
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            solver: self.solver.clone(),
            problem: self.problem.clone(),
            length: body.len(),
            checksum: checksum(&body),
        };
        let mut content = serde_json::to_vec(&header).map_err(|error| unfaithful(error.to_string()))?;
        content.push(b'\n');
        content.extend_from_slice(&body);
        content.push(b'\n');
        write_atomically(path, &content).map_err(io_error(path))
    }

    /// Reads a checkpoint of this solver on this problem.
    pub fn read(path: &Path, solver: &str, problem: &str) -> Result<Self, CheckpointError> {
        let (header, body) = read_parts(path)?;
        require_origin(path, (&header.solver, &header.problem), (solver, problem))?;
        serde_json::from_slice(&body).map_err(|error| CheckpointError::Foreign {
            path: path.into(),
            found: format!(
                "another state of {} ({error}; written by version {})",
                header.solver, header.version
            ),
            expected: format!("a state of {solver} of version {}", env!("CARGO_PKG_VERSION")),
        })
    }
}

/// Fails unless what was found, (solver, problem), is what is expected.
pub(super) fn require_origin(
    path: &Path,
    found: (&str, &str),
    expected: (&str, &str),
) -> Result<(), CheckpointError> {
    if found == expected {
        return Ok(());
    }
    let words = |(solver, problem)| format!("solver {solver} on problem {problem}");
    Err(CheckpointError::Foreign { path: path.into(), found: words(found), expected: words(expected) })
}
