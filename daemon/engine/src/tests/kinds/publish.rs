//! A processor with effects of its own: it publishes versions of what it has counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{one_port, values};
use crate::tests::crash;

/// Adds up numbers, and publishes the sum after every so many rows, and at the end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// After how many rows.
    every: u64,
}

impl Kind for Publish {
    const NAME: &'static str = "publish";
    const EXAMPLE: &'static str = "every = 3";
}

impl ProcessorSettings for Publish {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let place = format!("{}/{}", context.flow, context.node);
        Ok(one_port(inputs, Publishing { place, every: self.every, rows: 0, sum: 0, versions: Vec::new() }))
    }
}

/// The versions that were published, by flow and node.
static PUBLISHED: LazyLock<Mutex<HashMap<String, BTreeMap<u64, i64>>>> = LazyLock::new(Mutex::default);

/// The versions that a node has published, as text.
pub fn published(flow: &str, node: &str) -> String {
    format!("{:?}", PUBLISHED.lock().unwrap().get(&format!("{flow}/{node}")))
}

/// Forgets what was published at other places.
pub fn retain(is_wanted: impl Fn(&str) -> bool) {
    PUBLISHED.lock().unwrap().retain(|place, _| is_wanted(place));
}

struct Publishing {
    place: String,
    every: u64,
    rows: u64,
    sum: i64,
    /// Those that are to be published at the next checkpoint: after how many rows, and the sum.
    versions: Vec<(u64, i64)>,
}

/// So many bytes make a part of a state a blob of its own.
const LARGE: usize = 5000;

impl Publishing {
    /// The part of the state that is large and changes rarely.
    fn weights(&self) -> Vec<u8> {
        vec![(self.rows / 100) as u8; LARGE]
    }
}

impl Processor for Publishing {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        for n in values(&batch.rows) {
            (self.rows, self.sum) = (self.rows + 1, self.sum + n);
            if self.rows.is_multiple_of(self.every) {
                self.versions.push((self.rows, self.sum));
            }
        }
        out.push(0, batch);
        Ok(())
    }

    fn finish(&mut self, _: &mut Collector) -> Result<()> {
        self.versions.push((self.rows, self.sum));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.state.put("sum", &(self.rows, self.sum))?;
        snapshot.state.put_bytes("weights", self.weights());
        if !self.versions.is_empty() {
            snapshot.staged.put("versions", &std::mem::take(&mut self.versions))?;
            snapshot.staged.put_bytes("weights", self.weights());
        }
        Ok(snapshot)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        (self.rows, self.sum) = state.get("sum")?;
        if state.bytes("weights")? == self.weights() {
            Ok(())
        } else {
            Err(Error::new("the weights are those of another checkpoint"))
        }
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        Some(Box::new(Publisher(self.place.clone())))
    }
}

struct Publisher(String);

#[async_trait]
impl Committer for Publisher {
    async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        let staged = &pending.staged;
        for (rows, sum) in staged.get::<Vec<(u64, i64)>>("versions")? {
            crash::step(&self.0)?;
            tokio::task::yield_now().await;
            let mut published = PUBLISHED.lock().unwrap();
            let before = *published.entry(self.0.clone()).or_default().entry(rows).or_insert(sum);
            if before != sum {
                return Err(Error::new(format!("the version of {rows} rows was published before, with another sum")));
            }
        }
        crash::step(&self.0)
    }
}
