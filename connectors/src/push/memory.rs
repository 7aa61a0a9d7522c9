//! The memory that all that comes takes together: counted as it comes, so that what does not come takes none.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refused::Refused;

/// What one permit stands for.
const UNIT: usize = 1024;

/// How much memory is left.
#[derive(Clone)]
pub struct Memory(Arc<Semaphore>);

impl Memory {
    /// Has so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// What one sender takes of it: nothing so far.
    pub fn share(&self) -> Share {
        Share { left: self.0.clone(), taken: None }
    }
}

/// What one sender takes of the memory, until it is dropped.
pub struct Share {
    left: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so many bytes in all. It does not wait for others, whose bodies may come slowly.
    ///
    /// # Errors
    /// If there is no memory left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(UNIT).saturating_sub(taken);
        if missing == 0 {
            return Ok(());
        }
        let more = self.left.clone().try_acquire_many_owned(missing as u32).map_err(|_| {
            Refused::NoRoom("what others send takes all the memory that there is for it; send it again".to_owned())
        })?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken => *taken = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let memory = Memory::new(10 * UNIT);
        let (mut one, mut other) = (memory.share(), memory.share());
        one.grow(1).unwrap();
        one.grow(6 * UNIT).unwrap();
        one.grow(2 * UNIT).unwrap();
        assert!(other.grow(5 * UNIT).is_err());
        other.grow(4 * UNIT).unwrap();
        drop(one);
        other.grow(10 * UNIT).unwrap();
    }
}
