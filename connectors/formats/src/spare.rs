//! Memory for texts that is used again: fresh memory costs the first use of each of its pages.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// So many texts are kept that nobody uses.
const MOST: usize = 16;

/// Texts that nobody uses any more.
#[derive(Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

/// A text whose memory goes back to where it is from when nobody needs the text any more.
#[derive(Default)]
pub(crate) struct SpareText {
    bytes: Vec<u8>,
    from: Spare,
}

impl Spare {
    /// An empty text.
    pub(crate) fn take(&self) -> SpareText {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        SpareText { bytes, from: self.clone() }
    }
}

impl Drop for SpareText {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut spare = self.from.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST {
            spare.push(bytes);
        }
    }
}

impl Deref for SpareText {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for SpareText {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_its_text_is_not_seen() {
        let spare = Spare::default();
        let mut first = spare.take();
        first.extend_from_slice(b"abc");
        let place = first.as_ptr();
        let second = spare.take();
        assert!(second.is_empty() && second.as_ptr() != place);
        drop(first);
        let third = spare.take();
        assert!(third.is_empty() && third.as_ptr() == place);
    }
}
