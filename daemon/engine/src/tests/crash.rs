//! Crashes that are only played: from some step on nothing of a simulation works any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use millstream_core::{Error, Result};
use millstream_store::Store;

/// How many steps are left in each simulation.
static LEFT: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// Lets everything fail in a simulation after so many steps; `None` for never.
pub fn after(simulation: &str, steps: Option<u64>) {
    let mut left = LEFT.lock().unwrap();
    match steps {
        Some(steps) => _ = left.insert(simulation.to_owned(), steps),
        None => _ = left.remove(simulation),
    }
}

/// One step that a crash can come before. A simulation is named by what stands before the `/` of a path in it.
pub fn step(path: &str) -> Result<()> {
    let mut left = LEFT.lock().unwrap();
    match left.get_mut(path.split('/').next().unwrap_or_default()) {
        None => Ok(()),
        Some(0) => Err(Error::new("crashed")),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
    }
}

/// A store in memory that takes part in a simulation: a crash comes before something is written, or right after.
#[derive(Default)]
pub struct MemoryStore {
    pub simulation: String,
    pub keys: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        step(&self.simulation)?;
        Ok(self.keys.lock().unwrap().get(key).cloned())
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        step(&self.simulation)?;
        let mut keys = self.keys.lock().unwrap();
        let is_new = !keys.contains_key(key);
        if is_new {
            keys.insert(key.to_owned(), bytes.to_vec());
        }
        step(&self.simulation)?;
        Ok(is_new)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        step(&self.simulation)?;
        Ok(self.keys.lock().unwrap().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        step(&self.simulation)?;
        self.keys.lock().unwrap().remove(key);
        step(&self.simulation)
    }
}
