//! Files of a run in progress: one safetensors file for each chain, with its state and a checksum in the header.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use bilevel::CheckpointError;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use sha2::{Digest, Sha256};

use super::{
    kept::{ChainResult, ChainState, Judgement},
    list_file::{self, ListFile},
};
use crate::{
    error::ReweightError,
    train::{Awake, Network, Setting},
};

/// Where chains keep their checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// What the checkpoints belong to: hash of the recipe, as far as it has a part in them, and of the data.
    identity: String,
}

/// Ending of a finished chain's file.
const DONE: &str = "done.safetensors";

/// A chain in progress.
type Saved<M> = (ChainState<M>, Vec<Network>);

/// Names of the lists of so many networks.
fn list_names(networks: usize) -> Vec<String> {
    (0..networks).flat_map(|i| ["first", "second", "y"].map(|list| format!("{i}.{list}"))).collect()
}

/// The state as text, and the lists that were asked for.
type Contents = (String, Vec<Vec<f32>>);

/// Hash of bytes, as text.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    digits(Sha256::new_with_prefix(bytes))
}

/// A hash as text.
pub fn digits(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

impl Store {
    /// A store in a folder, made if need be.
    pub fn new(folder: PathBuf, identity: String) -> Result<Self, ReweightError> {
        fs::create_dir_all(&folder).map_err(|e| ReweightError::io(&folder, e))?;
        Ok(Self { folder, identity })
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }

    fn write(&self, path: &Path, text: String, tensors: &[(&str, &[f32])]) -> Result<(), ReweightError> {
        let mut sum = Sha256::new();
        sum.update(&text);
        for (_, list) in tensors {
            list_file::hash(&mut sum, list);
        }
        let entries = HashMap::from([
            ("identity".to_owned(), self.identity.clone()),
            ("state".to_owned(), text),
            ("checksum".to_owned(), digits(sum)),
        ]);
        list_file::write(path, entries, tensors)
            .map_err(|source| CheckpointError::Io { path: path.to_owned(), source }.into())
    }

    fn require_own(&self, path: &Path, file: &ListFile) -> Result<(), CheckpointError> {
        let identity = file.entry("identity").ok_or_else(|| CheckpointError::Damaged {
            path: path.to_owned(),
            detail: "no entry `identity`".into(),
        })?;
        if *identity == self.identity {
            return Ok(());
        }
        Err(CheckpointError::Foreign {
            path: path.to_owned(),
            found: format!("recipe and data {}", &identity[..identity.len().min(12)]),
            expected: format!("recipe and data {}", &self.identity[..12]),
        })
    }

    /// Makes sure that what was kept of a chain belongs to this store.
    pub fn require_chain(&self, name: &str) -> Result<(), ReweightError> {
        for ending in ["checkpoint.safetensors", DONE, "judged.safetensors"] {
            let path = self.path(name, ending);
            // what cannot be read is told of where it is needed
            if let Ok(file) = ListFile::open(&path) {
                self.require_own(&path, &file)?;
            }
        }
        Ok(())
    }

    /// The text of a file and the lists that `names` asks for once it has seen the text.
    fn read(
        &self,
        path: &Path,
        names: impl FnOnce(&str) -> Result<Vec<String>, CheckpointError>,
    ) -> Result<Option<Contents>, CheckpointError> {
        let damaged = |detail: String| CheckpointError::Damaged { path: path.to_owned(), detail };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(source.to_string()),
            _ => CheckpointError::Io { path: path.to_owned(), source },
        };
        let mut file = match ListFile::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
            Ok(file) => file,
        };
        self.require_own(path, &file)?;
        let get = |key: &str| file.entry(key).cloned().ok_or_else(|| damaged(format!("no entry `{key}`")));
        let (text, expected) = (get("state")?, get("checksum")?);
        let mut sum = Sha256::new();
        sum.update(&text);
        let mut lists = Vec::new();
        for name in names(&text)? {
            lists.push(file.read(&name, &mut sum).map_err(failed)?);
        }
        if digits(sum) != expected {
            return Err(damaged("the checksum does not match".into()));
        }
        Ok(Some((text, lists)))
    }

    /// Saves a chain in progress.
    pub fn save<M: Serialize>(
        &self,
        name: &str,
        state: &ChainState<M>,
        networks: &[Network],
    ) -> Result<(), ReweightError> {
        let counts: Vec<(u64, &Option<Awake>)> = networks.iter().map(|n| (n.updates, &n.awake)).collect();
        let text = serde_json::to_string(&(state, counts)).expect("a state is made of numbers");
        let names = list_names(networks.len());
        let settled: Vec<_> = networks.iter().map(Network::settled).collect();
        let lists = networks.iter().zip(&settled).flat_map(|(n, y)| [&n.first[..], &n.second, y]);
        let tensors: Vec<(&str, &[f32])> = names.iter().map(String::as_str).zip(lists).collect();
        self.write(&self.path(name, "checkpoint.safetensors"), text, &tensors)
    }

    /// The chain in progress, if it was saved.
    pub fn load<M: DeserializeOwned>(
        &self,
        name: &str,
        setting: &Setting,
    ) -> Result<Option<Saved<M>>, ReweightError> {
        let path = self.path(name, "checkpoint.safetensors");
        let damaged =
            |e: serde_json::Error| CheckpointError::Damaged { path: path.clone(), detail: e.to_string() };
        let found = self.read(&path, |text| {
            let (_, counts): (IgnoredAny, Vec<IgnoredAny>) = serde_json::from_str(text).map_err(damaged)?;
            Ok(list_names(counts.len()))
        })?;
        let Some((text, lists)) = found else { return Ok(None) };
        let (state, counts): (ChainState<M>, Vec<(u64, Option<Awake>)>) =
            serde_json::from_str(&text).map_err(damaged)?;
        let mut lists = lists.into_iter();
        let mut next = || lists.next().expect("three lists for each network");
        let networks = counts
            .into_iter()
            .map(|(updates, awake)| {
                let (first, second, y) = (next(), next(), next());
                match (setting.lisa, awake) {
                    (Some(lisa), Some(awake)) => {
                        Network::awakened(lisa, &setting.decoder, y, (first, second), updates, awake)
                    }
                    (_, awake) => {
                        Network { trained: setting.trained.clone(), y, first, second, updates, awake }
                    }
                }
            })
            .collect();
        Ok(Some((state, networks)))
    }

    /// Whether a finished chain was saved.
    pub fn has_ended(&self, name: &str) -> bool {
        self.path(name, DONE).exists()
    }

    /// Saves a finished chain, with its model, and deletes its checkpoint.
    pub fn remember(&self, name: &str, result: &ChainResult, network: &Network) -> Result<(), ReweightError> {
        let text = serde_json::to_string(result).expect("a result is made of numbers");
        self.write(&self.path(name, DONE), text, &[("y", &network.settled())])?;
        let _ = fs::remove_file(self.path(name, "checkpoint.safetensors"));
        Ok(())
    }

    /// Saves what a finished chain was judged by.
    pub fn remember_judgement(&self, name: &str, judgement: &Judgement) -> Result<(), ReweightError> {
        let text = serde_json::to_string(judgement).expect("a judgement is made of numbers");
        self.write(&self.path(name, "judged.safetensors"), text, &[])
    }

    /// What a finished chain was judged by, if it was saved.
    pub fn recall_judgement(&self, name: &str) -> Result<Option<Judgement>, ReweightError> {
        let path = self.path(name, "judged.safetensors");
        let Some((text, _)) = self.read(&path, |_| Ok(Vec::new()))? else { return Ok(None) };
        let judgement = serde_json::from_str(&text)
            .map_err(|e| CheckpointError::Damaged { path, detail: e.to_string() })?;
        Ok(Some(judgement))
    }

    /// A finished chain and its model.
    pub fn recall(&self, name: &str) -> Result<Option<(ChainResult, Vec<f32>)>, ReweightError> {
        let path = self.path(name, DONE);
        let Some((text, mut lists)) = self.read(&path, |_| Ok(vec!["y".to_owned()]))? else {
            return Ok(None);
        };
        let result = serde_json::from_str(&text)
            .map_err(|e| CheckpointError::Damaged { path, detail: e.to_string() })?;
        Ok(Some((result, lists.remove(0))))
    }
}
