//! A tree of parameters as one vector: named tensors, sorted by name.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bilevel::vector::Vector;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Shape, Storage, Tensor, Var};
use safetensors::{SafeTensors, tensor::TensorView};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{base64, error::TensorError};

/// Named tensors of type f32 or f64, sorted by name: an element of a real inner-product space.
///
/// The inner product is the sum over all entries, accumulated in f64, whatever the storage. On the CPU its order
/// is fixed, and sums and multiples are computed in f64 and rounded once to the storage type. The tensors are copies that nobody else
/// writes to and that carry no gradient graph.
///
/// With serde a tree is a map with one string, base 64 of its safetensors bytes: exact and compact. Trees read from
/// bytes lie on the CPU.
///
/// ```
/// use bilevel::vector::Vector;
/// use bilevel_tensor::TensorTree;
/// use candle_core::{Device, Tensor};
///
/// let weight = Tensor::new(&[[3f32, 0.0], [0.0, 4.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[12f32, 0.0], &Device::Cpu)?;
/// let mut y = TensorTree::new(vec![("weight".into(), weight), ("bias".into(), bias)])?;
/// assert_eq!((y.dim(), y.norm()), (6, 13.0));
/// let gradient = y.clone();
/// y.axpy(-0.5, &gradient);
/// assert_eq!(y.get("bias").unwrap().to_vec1::<f32>()?, [6.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorTree {
    /// Sorted by name, names unique, contiguous, detached, f32 or f64.
    entries: Vec<(String, Tensor)>,
}

impl TensorTree {
    /// A tree of copies of these tensors, in any order.
    ///
    /// # Errors
    /// A name used twice; a type that is neither f32 nor f64.
    pub fn new(entries: Vec<(String, Tensor)>) -> Result<Self, TensorError> {
        let mut copies = Vec::with_capacity(entries.len());
        for (name, tensor) in entries {
            if !matches!(tensor.dtype(), DType::F32 | DType::F64) {
                return Err(TensorError::UnsupportedDType {
                    name,
                    dtype: tensor.dtype().as_str().to_owned(),
                });
            }
            // a copy, not a view: a `Var` writes to its storage in place
            copies.push((name, tensor.detach().force_contiguous()?));
        }
        copies.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(pair) = copies.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(TensorError::DuplicateName { name: pair[0].0.clone() });
        }
        Ok(Self { entries: copies })
    }

    /// A tree of the names and order of `self` with other tensors, which must be fresh: results of an operation.
    pub(crate) fn with_tensors(
        &self,
        tensors: impl IntoIterator<Item = Tensor>,
    ) -> candle_core::Result<Self> {
        let entries = self
            .entries
            .iter()
            .zip(tensors)
            .map(|((name, _), tensor)| Ok((name.clone(), tensor.detach().contiguous()?)))
            .collect::<candle_core::Result<Vec<_>>>()?;
        assert_eq!(entries.len(), self.entries.len(), "one tensor for each name");
        Ok(Self { entries })
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| &self.entries[i].1)
    }
    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// Variables with copies of the tensors, sorted by name, to build a loss on.
    pub fn to_vars(&self) -> candle_core::Result<Vec<(String, Var)>> {
        self.entries.iter().map(|(name, tensor)| Ok((name.clone(), Var::from_tensor(tensor)?))).collect()
    }
    /// The same tree in another storage type.
    ///
    /// # Errors
    /// A type that is neither f32 nor f64.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self, TensorError> {
        Self::new(
            self.entries
                .iter()
                .map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(dtype)?)))
                .collect::<candle_core::Result<_>>()?,
        )
    }
    /// The same tree on another device.
    pub fn to_device(&self, device: &Device) -> candle_core::Result<Self> {
        self.with_tensors(
            self.entries.iter().map(|(_, t)| t.to_device(device)).collect::<candle_core::Result<Vec<_>>>()?,
        )
    }

    /// Checks that `self` has exactly the names, shapes and types of `template`.
    ///
    /// # Errors
    /// The first difference, by name.
    pub fn expect_like(&self, template: &Self) -> Result<(), TensorError> {
        for (name, wanted) in template.iter() {
            let found = self.get(name).ok_or_else(|| TensorError::Missing {
                name: name.to_owned(),
                shape: wanted.dims().to_vec(),
            })?;
            if found.dims() != wanted.dims() {
                return Err(TensorError::WrongShape {
                    name: name.to_owned(),
                    expected: wanted.dims().to_vec(),
                    found: found.dims().to_vec(),
                });
            }
            if found.dtype() != wanted.dtype() {
                return Err(TensorError::WrongDType {
                    name: name.to_owned(),
                    expected: wanted.dtype(),
                    found: found.dtype(),
                });
            }
        }
        match self.iter().find(|(name, _)| template.get(name).is_none()) {
            Some((name, _)) => Err(TensorError::Unexpected { name: name.to_owned() }),
            None => Ok(()),
        }
    }

    /// The tree as the bytes of a safetensors file; equal trees give equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TensorError> {
        let data =
            self.entries.iter().map(|(_, t)| little_endian(t)).collect::<candle_core::Result<Vec<_>>>()?;
        let views = self.entries.iter().zip(&data).map(|((name, tensor), bytes)| {
            let dtype = match tensor.dtype() {
                DType::F64 => safetensors::Dtype::F64,
                _ => safetensors::Dtype::F32,
            };
            TensorView::new(dtype, tensor.dims().to_vec(), bytes).map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(&error))?;
        safetensors::serialize(views, None).map_err(|error| damaged(&error))
    }

    /// The tree in the bytes of a safetensors file, on the CPU.
    ///
    /// # Errors
    /// Bytes cut short or changed in their header or length; tensors that are neither f32 nor f64.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TensorError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error))?;
        let mut entries = Vec::with_capacity(file.len());
        for (name, view) in file.iter() {
            let tensor = match view.dtype() {
                safetensors::Dtype::F32 => {
                    let values: Vec<f32> =
                        view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    Tensor::from_vec(values, view.shape(), &Device::Cpu)?
                }
                safetensors::Dtype::F64 => {
                    let values: Vec<f64> =
                        view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
                    Tensor::from_vec(values, view.shape(), &Device::Cpu)?
                }
                other => {
                    return Err(TensorError::UnsupportedDType {
                        name: name.to_owned(),
                        dtype: format!("{other:?}").to_lowercase(),
                    });
                }
            };
            entries.push((name.to_owned(), tensor));
        }
        Self::new(entries)
    }

    /// Writes a safetensors file: to a temporary file beside it first, then renamed, so that `path` always holds
    /// either the old or the new tree.
    ///
    /// # Errors
    /// The file system's refusal, with the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TensorError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        let temporary = temporary_beside(path);
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(|source| {
            // the half-written file is of no use to anybody; that it may not exist is no second error
            let _ = fs::remove_file(&temporary);
            TensorError::Io { path: path.to_owned(), source }
        })
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// A file that cannot be read, is cut short, or holds tensors that are neither f32 nor f64.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TensorError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| TensorError::Io { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
            .map_err(|source| TensorError::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads a safetensors file that must hold exactly the names, shapes and types of `template`.
    ///
    /// # Errors
    /// Those of [`TensorTree::load`] and [`TensorTree::expect_like`].
    pub fn load_like(path: impl AsRef<Path>, template: &Self) -> Result<Self, TensorError> {
        let path = path.as_ref();
        let tree = Self::load(path)?;
        tree.expect_like(template)
            .map_err(|source| TensorError::File { path: path.to_owned(), source: Box::new(source) })?;
        Ok(tree)
    }

    fn assert_like(&self, other: &Self, operation: &str) {
        if let Err(difference) = other.expect_like(self) {
            panic!("{operation} of trees of different shape: {difference}");
        }
    }
}

fn damaged(error: &safetensors::SafeTensorError) -> TensorError {
    TensorError::Damaged { detail: error.to_string() }
}

/// `name.safetensors` → `.name.safetensors.PID.tmp` in the same folder, so that the rename stays on one file system.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// The entries as little-endian bytes.
fn little_endian(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    with_slices(tensor, tensor, |a, _| match a {
        Slice::F32(a) => a.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Slice::F64(a) => a.iter().flat_map(|v| v.to_le_bytes()).collect(),
    })
}

/// The entries of a contiguous tensor.
enum Slice<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Slice<'a>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("tensor of a tree is not contiguous".into()))?;
    match storage {
        CpuStorage::F32(values) => Ok(Slice::F32(&values[start..end])),
        CpuStorage::F64(values) => Ok(Slice::F64(&values[start..end])),
        other => {
            Err(candle_core::Error::Msg(format!("tensor of a tree has the type {:?}", storage_dtype(other))))
        }
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Calls `with` on the entries of two tensors, brought to the CPU if they lie elsewhere.
fn with_slices<T>(a: &Tensor, b: &Tensor, with: impl FnOnce(Slice, Slice) -> T) -> candle_core::Result<T> {
    let (a, b) = (a.to_device(&Device::Cpu)?, b.to_device(&Device::Cpu)?);
    let ((a, a_layout), (b, b_layout)) = (a.storage_and_layout(), b.storage_and_layout());
    match (&*a, &*b) {
        (Storage::Cpu(a), Storage::Cpu(b)) => Ok(with(slice(a, a_layout)?, slice(b, b_layout)?)),
        _ => Err(candle_core::Error::Msg("tensor is not on the CPU".into())),
    }
}

/// Sum of products in f64. Eight interleaved partial sums, so that the order is fixed and the processor can work on
/// several at once.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let mut lanes = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] += a[i].into() * b[i].into();
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| a.into() * b.into()).sum();
    lanes.iter().sum::<f64>() + rest
}

/// self + a·x with one allocation: computed in f64, rounded once.
struct Axpy(f64);

impl CustomOp2 for Axpy {
    fn name(&self) -> &'static str {
        "axpy"
    }
    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        s_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let sum = match (slice(s, s_layout)?, slice(x, x_layout)?) {
            (Slice::F32(s), Slice::F32(x)) => CpuStorage::F32(
                s.iter().zip(x).map(|(&s, &x)| (f64::from(s) + self.0 * f64::from(x)) as f32).collect(),
            ),
            (Slice::F64(s), Slice::F64(x)) => {
                CpuStorage::F64(s.iter().zip(x).map(|(s, x)| s + self.0 * x).collect())
            }
            _ => return Err(candle_core::Error::Msg("sum of tensors of different type".into())),
        };
        Ok((sum, s_layout.shape().clone()))
    }
}

/// a·self, computed in f64 and rounded once.
struct Scale(f64);

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn cpu_fwd(&self, s: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let product = match slice(s, layout)? {
            Slice::F32(s) => CpuStorage::F32(s.iter().map(|&s| (self.0 * f64::from(s)) as f32).collect()),
            Slice::F64(s) => CpuStorage::F64(s.iter().map(|s| self.0 * s).collect()),
        };
        Ok((product, layout.shape().clone()))
    }
}

const ON_EQUAL_SHAPES: &str = "tensor algebra on equal shapes";

impl Vector for TensorTree {
    fn dim(&self) -> usize {
        self.entries.iter().map(|(_, t)| t.elem_count()).sum()
    }

    fn resolution(&self) -> f64 {
        let single = self.entries.iter().any(|(_, t)| t.dtype() == DType::F32);
        if single { f64::from(f32::EPSILON) } else { f64::EPSILON }
    }

    fn zeros_like(&self) -> Self {
        self.with_tensors(self.entries.iter().map(|(_, t)| t.zeros_like().expect(ON_EQUAL_SHAPES)))
            .expect(ON_EQUAL_SHAPES)
    }

    fn dot(&self, other: &Self) -> f64 {
        self.assert_like(other, "dot product");
        let products = self.entries.iter().zip(&other.entries).map(|((_, a), (_, b))| {
            if a.device().is_cpu() {
                with_slices(a, b, |a, b| match (a, b) {
                    (Slice::F32(a), Slice::F32(b)) => dot(a, b),
                    (Slice::F64(a), Slice::F64(b)) => dot(a, b),
                    _ => unreachable!("types were compared"),
                })
            } else {
                a.to_dtype(DType::F64)?.mul(&b.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()
            }
        });
        products.map(|product| product.expect(ON_EQUAL_SHAPES)).sum()
    }

    fn axpy(&mut self, a: f64, x: &Self) {
        self.assert_like(x, "sum");
        for ((_, s), (_, x)) in self.entries.iter_mut().zip(&x.entries) {
            let sum = if s.device().is_cpu() {
                s.apply_op2_no_bwd(x, &Axpy(a))
            } else {
                x.affine(a, 0.0).and_then(|ax| s.add(&ax))
            };
            *s = sum.expect(ON_EQUAL_SHAPES);
        }
    }

    fn scale(&mut self, a: f64) {
        for (_, s) in &mut self.entries {
            let product = if s.device().is_cpu() { s.apply_op1_no_bwd(&Scale(a)) } else { s.affine(a, 0.0) };
            *s = product.expect(ON_EQUAL_SHAPES);
        }
    }

    fn coordinates(&self) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.dim());
        for (_, tensor) in &self.entries {
            with_slices(tensor, tensor, |a, _| match a {
                Slice::F32(a) => all.extend(a.iter().map(|&v| f64::from(v))),
                Slice::F64(a) => all.extend_from_slice(a),
            })
            .expect("tensors of a tree can be read");
        }
        all
    }

    fn with_coordinates(&self, coordinates: &[f64]) -> Self {
        assert_eq!(self.dim(), coordinates.len(), "coordinates of another dimension");
        let mut rest = coordinates;
        let tensors = self.entries.iter().map(|(_, like)| {
            let (values, after) = rest.split_at(like.elem_count());
            rest = after;
            let on_cpu = match like.dtype() {
                DType::F64 => Tensor::from_slice(values, like.shape(), &Device::Cpu),
                _ => Tensor::from_vec(values.iter().map(|&v| v as f32).collect(), like.shape(), &Device::Cpu),
            };
            on_cpu.and_then(|t| t.to_device(like.device())).expect(ON_EQUAL_SHAPES)
        });
        let tensors: Vec<Tensor> = tensors.collect();
        self.with_tensors(tensors).expect(ON_EQUAL_SHAPES)
    }
}

/// What serde sees.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    /// Base 64 of safetensors bytes.
    safetensors: String,
}

impl Serialize for TensorTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_bytes().map_err(serde::ser::Error::custom)?;
        Encoded { safetensors: base64::encode(&bytes) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TensorTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Encoded::deserialize(deserializer)?;
        let bytes = base64::decode(&encoded.safetensors).ok_or_else(|| {
            D::Error::custom("a tree of tensors is not base 64; the text was cut or changed")
        })?;
        Self::from_bytes(&bytes).map_err(D::Error::custom)
    }
}
