//! A full list of parameters as it is kept in memory.

use std::{ops::Range, sync::Arc};

use half::bf16;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kernels::Real;

/// In which numbers parameters that stand still are kept. Whatever is computed is computed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Four bytes each.
    #[default]
    F32,
    /// Two bytes each: the upper half of an f32, to the nearest. Exact for checkpoints that were published in bf16.
    Bf16,
}

/// A full list that is looked at.
#[derive(Debug)]
pub enum List<'a, T> {
    /// Its numbers themselves.
    Whole(&'a [T]),
    /// Their upper halves; a tensor is widened when its turn comes.
    Bf16(&'a [bf16]),
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for List<'_, T> {}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(list: &'a [T]) -> Self {
        Self::Whole(list)
    }
}
impl<'a, T> From<&'a Vec<T>> for List<'a, T> {
    fn from(list: &'a Vec<T>) -> Self {
        Self::Whole(list)
    }
}

/// The upper half of an f32 as a whole one.
fn widen<T: Real>(half: bf16) -> T {
    T::of_f32(f32::from_bits(u32::from(half.to_bits()) << 16))
}

impl<'a, T> List<'a, T> {
    /// Number of parameters.
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(list) => list.len(),
            Self::Bf16(list) => list.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A tensor; `room` is used where it has to be widened.
    pub(super) fn get<'s>(&self, tensor: &Range<usize>, room: &'s mut Vec<T>) -> &'s [T]
    where
        T: Real,
        'a: 's,
    {
        match self {
            Self::Whole(list) => &list[tensor.clone()],
            Self::Bf16(list) => {
                room.clear();
                room.reserve_exact(tensor.len());
                room.extend(list[tensor.clone()].iter().map(|&half| widen::<T>(half)));
                room
            }
        }
    }
}

/// A full list that stands still and is shared.
#[derive(Clone, Debug)]
pub enum Frozen {
    /// In f32.
    F32(Arc<Vec<f32>>),
    /// In bf16.
    Bf16(Arc<Vec<bf16>>),
}

impl Frozen {
    /// The list in these numbers.
    pub fn new(list: &Arc<Vec<f32>>, storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32(list.clone()),
            Storage::Bf16 => Self::Bf16(Arc::new(list.iter().map(|&a| bf16::from_f32(a)).collect())),
        }
    }

    /// The list, to be looked at.
    pub fn list(&self) -> List<'_, f32> {
        match self {
            Self::F32(list) => List::Whole(list),
            Self::Bf16(list) => List::Bf16(list),
        }
    }

    /// A copy in f32.
    pub fn to_vec(&self) -> Vec<f32> {
        match self {
            Self::F32(list) => list.to_vec(),
            Self::Bf16(list) => list.iter().map(|&half| widen(half)).collect(),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::F32(list) => 4 * list.len() as u64,
            Self::Bf16(list) => 2 * list.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use bilevel::rng::Stream;

    use super::*;
    use crate::model::{
        Part, Session, Target, Weights,
        tests::{batch, kinds, point},
    };

    #[test]
    fn numbers_that_are_upper_halves_come_back_exactly_and_others_to_the_nearest() {
        let exact = [0.0, -0.0, 1.0, -1.5, 3.140625, f32::INFINITY, 1e-40_f32];
        let list: Vec<f32> = exact.iter().map(|&a| bf16::from_f32(a).to_f32()).collect();
        let frozen = Frozen::new(&Arc::new(list.clone()), Storage::Bf16);
        assert!(frozen.to_vec().iter().zip(&list).all(|(a, b)| a.to_bits() == b.to_bits()));
        let mut room = Vec::new();
        assert_eq!(frozen.list().get(&(2..5), &mut room), [1.0, -1.5, 3.140625]);
        assert_eq!((frozen.bytes(), frozen.list().len()), (14, 7));
        let mut stream = Stream::new(1, 0);
        let random: Vec<f32> = (0..1000).map(|_| stream.normal() as f32).collect();
        let near = Frozen::new(&Arc::new(random.clone()), Storage::Bf16).to_vec();
        // eight bits of significand
        assert!(random.iter().zip(&near).all(|(a, b)| (a - b).abs() <= a.abs() / 256.0));
        assert!(random != near);
    }

    #[test]
    fn a_model_in_halves_computes_what_the_model_of_the_rounded_numbers_computes() {
        for decoder in kinds() {
            let y: Vec<f32> = point(&decoder).iter().map(|&a| a as f32).collect();
            let frozen = Frozen::new(&Arc::new(y), Storage::Bf16);
            let rounded = frozen.to_vec();
            let adapters = decoder.adapters(&[Target::K, Target::O, Target::Down], 2, 3.0).unwrap();
            let mut stream = Stream::new(2, 0);
            let low: Vec<f32> = (0..adapters.len()).map(|_| 0.3 * stream.normal() as f32).collect();
            let selection = decoder.select(&[Part::Block(1), Part::FinalNorm]);
            let part: Vec<f32> = selection.gather(&rounded).iter().map(|a| 1.1 * a).collect();
            for (halves, whole) in [
                (
                    Weights::adapted(frozen.list(), &adapters, &low),
                    Weights::adapted(&rounded, &adapters, &low),
                ),
                (
                    Weights::with_trained(frozen.list(), &selection, &part),
                    Weights::with_trained(&rounded, &selection, &part),
                ),
            ] {
                let gradient = |weights: Weights<'_, f32>| {
                    let mut g = vec![0.0; weights.trained().len()];
                    let loss =
                        decoder.loss_gradient(weights, &batch(), 0.7, &mut g, &mut decoder.workspace());
                    (loss, g)
                };
                assert!(gradient(halves) == gradient(whole));
                let read = |weights: Weights<'_, f32>| {
                    let mut session = Session::new(&decoder, weights, 1);
                    let mut sequence = session.sequence(4);
                    session.read(&mut [(&mut sequence, &[1, 5, 3])]);
                    session.read(&mut [(&mut sequence, &[7])]).to_vec()
                };
                assert_eq!(read(halves), read(whole));
            }
        }
    }
}
