//! What resets of inputs and models do to the lineage of versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How far each partition of an input has been read.
pub(super) type Positions = BTreeMap<String, u64>;

/// What the positions of a model's inputs don't say, since it or they have started from scratch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageResets {
    /// By input: where it was when the model began. Without it, at the first row.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: BTreeMap<String, Positions>,
    /// By input: what the model has learned of it before it was read from the first row again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub earlier: BTreeMap<String, Vec<RowRange>>,
}

/// Rows of an input: those behind `from`, and before `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRange {
    /// The first of each partition; 0 where it is not named.
    pub from: Positions,
    /// Those behind the last.
    pub to: Positions,
}

impl LineageResets {
    /// Adds it to the lineage of a version.
    pub fn add_to(&self, lineage: &mut Value) {
        if !self.since.is_empty() {
            lineage["since"] = json!(self.since);
        }
        if !self.earlier.is_empty() {
            lineage["earlier"] = json!(self.earlier);
        }
    }

    /// The model begins, behind what has been read of an input.
    pub(super) fn begin_behind(&mut self, input: &str, to: Positions) {
        if !to.is_empty() {
            self.since.insert(input.to_owned(), to);
        }
    }

    /// An input is read from its first row again.
    pub(super) fn read_again(&mut self, input: &str, to: Positions) {
        let from = self.since.remove(input).unwrap_or_default();
        if from != to {
            self.earlier.entry(input.to_owned()).or_default().push(RowRange { from, to });
        }
    }
}
