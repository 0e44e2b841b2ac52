//! What frozen blocks put out, so that it is computed once for each sequence.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The residual stream at the entrance of the lowest trained block, for each sequence that was read.
///
/// What stands below that block does not move in a run, so it maps a sequence to the same numbers at every step, in every
/// method and with every seed. Each sequence is computed by itself, whether it is kept or not, so the numbers depend neither
/// on the batch in which it comes nor on the room that is left.
#[derive(Debug)]
pub struct Entrances<T> {
    kept: Mutex<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    by_tokens: HashMap<Box<[u32]>, Arc<[T]>>,
    /// Numbers for which there is room still.
    room: usize,
}

impl<T> Entrances<T> {
    /// Nothing yet, and room for so many bytes; what comes when it is full is computed again each time.
    pub fn new(bytes: u64) -> Self {
        let room = (bytes / size_of::<T>() as u64) as usize;
        Self { kept: Mutex::new(Kept { by_tokens: HashMap::new(), room }) }
    }

    /// The stream of a sequence: kept, or computed.
    pub(super) fn of(&self, tokens: &[u32], compute: impl FnOnce() -> Arc<[T]>) -> Arc<[T]> {
        if let Some(stream) = self.lock().by_tokens.get(tokens) {
            return stream.clone();
        }
        // Two threads that need the same sequence at once both compute it, and to the same numbers.
        let stream = compute();
        let mut kept = self.lock();
        if stream.len() <= kept.room && kept.by_tokens.insert(tokens.into(), stream.clone()).is_none() {
            kept.room -= stream.len();
        }
        stream
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept<T>> {
        // entries are written whole, so a panic elsewhere leaves nothing half done
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_tokens.len()
    }
}
