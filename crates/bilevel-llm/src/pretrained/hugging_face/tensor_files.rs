//! The safetensors files of a folder, one or many, read tensor by tensor.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::Metadata};
use serde_json::Value;

use super::read_json;
use crate::pretrained::{Format, PretrainedError};

/// Bytes of a header; the library that made the format refuses longer ones.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

#[derive(Debug)]
struct Place {
    file: usize,
    shape: Vec<usize>,
    format: Format,
    /// Bytes from the beginning of the file.
    start: u64,
}

/// The open files, with the place of each tensor.
#[derive(Debug)]
pub(super) struct TensorFiles {
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, Place>,
}

impl TensorFiles {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<Self, PretrainedError> {
        let index = folder.join("model.safetensors.index.json");
        let names = match read_json(&index)? {
            Some(json) => shard_names(&index, &json)?,
            None => BTreeSet::from(["model.safetensors".to_owned()]),
        };
        let mut all = Self { files: Vec::new(), tensors: BTreeMap::new() };
        for name in names {
            let path = folder.join(&name);
            if !path.exists() && folder.join("pytorch_model.bin").exists() {
                return Err(PretrainedError::Unsupported {
                    path: folder.join("pytorch_model.bin"),
                    what: "a pickled checkpoint, which may run code when it is read,".into(),
                    remedy: "convert it with transformers: save_pretrained(folder, safe_serialization=True)"
                        .into(),
                });
            }
            all.add(path)?;
        }
        Ok(all)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), PretrainedError> {
        let io = |source| PretrainedError::io(&path, source);
        let broken = |place: &str, found: String| PretrainedError::Broken {
            path: path.clone(),
            place: place.into(),
            found,
            remedy: "the file is damaged or made to do harm: fetch it again from where it came".into(),
        };
        let mut file = File::open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut head = [0; 8];
        file.read_exact(&mut head)
            .map_err(|_| broken("the header's length", format!("the file of {length} bytes ends here")))?;
        let header_length = u64::from_le_bytes(head);
        if header_length > LARGEST_HEADER.min(length - 8) {
            return Err(broken(
                "the header's length",
                format!(
                    "{header_length}, where {} bytes follow and {LARGEST_HEADER} is the limit",
                    length - 8
                ),
            ));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io)?;
        // checks that tensors follow one another without gap or overlap, and have the bytes of their shapes
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| broken("the header", format!("no table of tensors ({e})")))?;
        let begin = 8 + header_length;
        let end = metadata.tensors().values().map(|info| info.data_offsets.1 as u64).max().unwrap_or(0);
        if begin.checked_add(end) != Some(length) {
            return Err(broken(
                "the tensors",
                format!("they take {end} bytes, where {} follow the header", length - begin),
            ));
        }
        for (name, info) in metadata.tensors() {
            let format = match info.dtype {
                Dtype::F32 => Format::F32,
                Dtype::F16 => Format::F16,
                Dtype::BF16 => Format::Bf16,
                other => {
                    return Err(PretrainedError::Unsupported {
                        path: path.clone(),
                        what: format!("the tensor {name} in {other:?}"),
                        remedy: "F32, F16 and BF16 are read: convert the file".into(),
                    });
                }
            };
            let start = begin + info.data_offsets.0 as u64;
            let place = Place { file: self.files.len(), shape: info.shape.clone(), format, start };
            if self.tensors.insert(name.clone(), place).is_some() {
                return Err(broken(&format!("tensor {name}"), "it is in another file too".into()));
            }
        }
        self.files.push((path, file));
        Ok(())
    }

    /// Names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), place.shape.as_slice()))
    }

    /// Reads a tensor as f32, in the file's order.
    ///
    /// # Panics
    /// When there is no such tensor, or `out` is not of its size.
    pub fn read(&mut self, name: &str, out: &mut [f32]) -> Result<(), PretrainedError> {
        let place = &self.tensors[name];
        assert_eq!(place.shape.iter().product::<usize>(), out.len(), "another shape");
        let (path, file) = &mut self.files[place.file];
        let io = |source| PretrainedError::io(&*path, source);
        file.seek(SeekFrom::Start(place.start)).map_err(io)?;
        let width = place.format.block_bytes();
        let mut bytes = vec![0; PIECE];
        for out in out.chunks_mut(PIECE / width) {
            let bytes = &mut bytes[..out.len() * width];
            file.read_exact(bytes).map_err(io)?;
            place.format.decode(bytes, out);
        }
        Ok(())
    }
}

/// The files that an index names; plain names only, so that no index reaches out of its folder.
fn shard_names(path: &Path, index: &Value) -> Result<BTreeSet<String>, PretrainedError> {
    let broken = |place: &str, found: String| PretrainedError::Broken {
        path: path.into(),
        place: place.into(),
        found,
        remedy: "the index is damaged or made to do harm: fetch it again from where it came".into(),
    };
    let map = index
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| broken("field weight_map", "no object of tensor and file names".into()))?;
    map.iter()
        .map(|(tensor, file)| {
            let name = file.as_str().filter(|name| {
                !name.is_empty() && *name != ".." && *name != "." && !name.contains(['/', '\\', ':', '\0'])
            });
            name.map(str::to_owned).ok_or_else(|| {
                broken(
                    &format!("tensor {tensor}"),
                    format!("{file}, which is no name of a file in this folder"),
                )
            })
        })
        .collect()
}
