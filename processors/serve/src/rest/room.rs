//! The memory that all bodies take together while they are read and answered: counted as they come, so that what does not come takes none.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::{Reason, Refusal};

/// What a permit stands for.
const UNIT: usize = 1024;

/// How much memory is left for bodies.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// Has so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// What one request takes of it, until it is dropped: nothing so far.
    pub fn share(&self) -> Share {
        Share { left: self.0.clone(), bytes: 0, taken: None }
    }
}

/// What a request takes of the memory for bodies.
#[derive(Debug)]
pub struct Share {
    left: Arc<Semaphore>,
    bytes: usize,
    taken: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes so many bytes more. It does not wait for others, whose bodies may come slowly.
    ///
    /// # Errors
    /// If there are not so many left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = self.bytes.div_ceil(UNIT).saturating_sub(taken);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing).ok().and_then(|more| self.left.clone().try_acquire_many_owned(more).ok());
        let more = more.ok_or_else(|| Refusal {
            reason: Reason::Overloaded,
            message:
                "the bodies of other requests take all the memory that there is for them; come again a little later"
                    .to_owned(),
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
        let room = Room::new(10 * UNIT);
        let (mut one, mut other) = (room.share(), room.share());
        one.grow(1).unwrap();
        one.grow(6 * UNIT - 1).unwrap();
        other.grow(4 * UNIT).unwrap();
        assert_eq!(other.grow(1).unwrap_err().reason, Reason::Overloaded);
        drop(one);
        other.grow(6 * UNIT - 1).unwrap();
    }
}
