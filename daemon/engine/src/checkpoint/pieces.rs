//! The pieces of a node's state, each read when somebody asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use millstream_core::{Parts, Result, State};

/// The pieces of a node's state, by name. They are cheap to clone.
#[derive(Clone, Default)]
pub struct Pieces(BTreeMap<String, Reader>);

type Reader = Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;

impl Pieces {
    /// Those that lie elsewhere.
    pub fn elsewhere<R: Fn() -> Result<Vec<u8>> + Send + Sync + 'static>(
        pieces: impl Iterator<Item = (String, R)>,
    ) -> Self {
        Self(pieces.map(|(name, read)| (name, Arc::new(read) as Reader)).collect())
    }

    /// Those of a snapshot that was taken behind these, which has handed over only what has changed since. They are in memory.
    pub fn followed_by(&self, snapshot: Parts) -> Result<Self> {
        let in_memory = |bytes: Vec<u8>| Arc::new(move || Ok(bytes.clone())) as Reader;
        snapshot.write(|name| self.0.get(name).cloned(), |_, bytes| Ok(in_memory(bytes))).map(Self)
    }

    /// The state that a node is restored from.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for (name, read) in &self.0 {
            let read = read.clone();
            state.put_elsewhere(name, move || read());
        }
        state
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
