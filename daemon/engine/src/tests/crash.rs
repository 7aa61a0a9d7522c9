//! Disturbances at chosen steps: a crash, which is only played (from some step on nothing of a simulation works any more),
//! or whatever else a test has in mind.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use millstream_core::{Error, Result};
use millstream_store::Store;

use super::sabotage::Sabotage;

/// The simulations, by name.
static PLAYED: LazyLock<Mutex<HashMap<String, Played>>> = LazyLock::new(Mutex::default);

/// How far a simulation has come, and what is to happen.
#[derive(Default)]
struct Played {
    steps: u64,
    crash_at: Option<u64>,
    actions: BTreeMap<u64, Action>,
}

type Action = Box<dyn FnOnce() + Send>;

/// Counts the steps of a simulation from 0 again, of which the disturbances before are no part.
pub fn begin(simulation: &str) {
    PLAYED.lock().unwrap().insert(simulation.to_owned(), Played::default());
}

/// Lets everything fail in a simulation after so many steps.
pub fn after(simulation: &str, steps: u64) {
    with(simulation, |played| played.crash_at = Some(steps));
}

/// Does something after so many steps.
pub fn then(simulation: &str, steps: u64, action: impl FnOnce() + Send + 'static) {
    with(simulation, |played| _ = played.actions.insert(steps, Box::new(action)));
}

fn with<T>(simulation: &str, action: impl FnOnce(&mut Played) -> T) -> T {
    action(PLAYED.lock().unwrap().entry(simulation.to_owned()).or_default())
}

/// One step that a crash can come before. A simulation is named by what stands before the `/` of a path in it.
pub fn step(path: &str) -> Result<()> {
    let mut simulations = PLAYED.lock().unwrap();
    let Some(played) = simulations.get_mut(path.split('/').next().unwrap_or_default()) else { return Ok(()) };
    let action = played.actions.remove(&played.steps);
    played.steps += 1;
    let has_crashed = played.crash_at.is_some_and(|crash_at| played.steps > crash_at);
    drop(simulations);
    action.into_iter().for_each(|action| action());
    if has_crashed { Err(Error::new("crashed")) } else { Ok(()) }
}

/// A store in memory that takes part in a simulation: a crash comes before something is written, or right after.
#[derive(Default)]
pub struct MemoryStore {
    pub simulation: String,
    pub keys: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    /// The highest number among the keys of a folder of the flow's.
    pub fn highest(&self, folder: &str) -> Option<u64> {
        let keys = self.keys.lock().unwrap();
        let names = keys.keys().filter(|key| key.contains(folder)).filter_map(|key| key.rsplit('/').next());
        names.filter_map(|name| name.split('.').next()?.parse().ok()).max()
    }

    /// The barrier of the newest checkpoint.
    pub fn epoch(&self) -> u64 {
        let keys = self.keys.lock().unwrap();
        let newest = keys.iter().rev().find(|(key, _)| key.contains("/manifests/")).unwrap();
        serde_json::from_slice::<serde_json::Value>(newest.1).unwrap()["manifest"]["epoch"].as_u64().unwrap()
    }

    /// Whether there is a key in a folder of the flow's that has a text in it.
    pub fn has(&self, folder: &str, text: &str) -> bool {
        let keys = self.keys.lock().unwrap();
        keys.iter().any(|(key, bytes)| key.contains(folder) && String::from_utf8_lossy(bytes).contains(text))
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        step(&self.simulation)?;
        Ok(self.keys.lock().unwrap().get(key).cloned())
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        step(&self.simulation)?;
        if Sabotage::MarkBeforeManifest.is_on(&self.simulation) && key.contains("/manifests/") {
            let mark = key.replace("/manifests/", "/commits/").replace(".json", "");
            self.keys.lock().unwrap().insert(mark, Vec::new());
            step(&self.simulation)?;
        }
        let mut keys = self.keys.lock().unwrap();
        let is_new = !keys.contains_key(key);
        if is_new {
            keys.insert(key.to_owned(), bytes.to_vec());
        }
        drop(keys);
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
