//! Finds the row that a node can't bear. A node that fails twice among the same rows gets them one by one in the next run, which shows which
//! one it is; from then on the node does without it, and it is refused as others are.
//!
//! Only failures that are of the rows count: panics, and errors that say so. A service that is away fails at one place, too.

use millstream_core::{ErrorClass, Origin};
use millstream_engine::quarantine::{AtWork, PoisonedRow, Quarantine};
use millstream_engine::run::FlowError;
use millstream_engine::stats::FlowStats;

/// How many rows of a flow are set aside. Where there are more, it is not the rows.
const MOST: usize = 100;

/// What is known of the places at which a flow has failed.
#[derive(Debug, Default)]
pub struct Poison {
    /// The node that has failed last, and its rows.
    last: Option<(String, AtWork)>,
    /// What the next run is told.
    quarantine: Quarantine,
}

/// What a failure is about.
#[derive(Debug, PartialEq)]
pub enum Finding {
    /// Nobody knows.
    Nothing,
    /// It is among these rows, which go one by one in the next run.
    Among(Origin),
    /// It is this row, without which the node does in the next run.
    Row(PoisonedRow),
    /// It is these rows, and nothing helps but a person.
    Fails(String),
}

impl Poison {
    /// What the next run is told.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Forgets the failures: what failed is not what runs from now on.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// A flow has failed.
    pub fn failed(&mut self, error: &FlowError, stats: &FlowStats) -> Finding {
        let before = self.last.take();
        let suspects = self.quarantine.suspects.take();
        let class = error.error.class();
        let node = stats.nodes.iter().find(|node| Some(&node.name) == error.node.as_ref());
        let Some((node, rows)) = node.and_then(|node| Some((node, node.at_work()?))) else { return Finding::Nothing };
        let at_once = (class == ErrorClass::Data).then(|| rows.origin.clone());
        let again = before.filter(|(name, _)| *name == node.name).and_then(|(_, before)| rows.common(&before));
        let is_of_rows = matches!(class, ErrorClass::Bug | ErrorClass::Data);
        self.last = is_of_rows.then(|| (node.name.clone(), rows.clone()));
        let Some(common) = again.or(at_once).filter(|_| is_of_rows) else { return Finding::Nothing };
        match rows.poisoned(&node.name, &error.error.to_string()) {
            Some(_) if !node.may_refuse => Finding::Fails(nobody_takes(error, &rows.origin)),
            Some(_) if self.quarantine.rows.len() == MOST => Finding::Fails(too_many(error)),
            Some(row) => {
                self.quarantine.rows.push(row.clone());
                Finding::Row(row)
            }
            None if suspects.is_some_and(|suspects| contains(&suspects, &rows.origin)) => {
                Finding::Fails(indivisible(error, &rows.origin))
            }
            None => {
                self.quarantine.suspects = Some(common.clone());
                Finding::Among(common)
            }
        }
    }
}

/// Where rows come from, for people.
pub fn place(Origin { source, partition, start, end }: &Origin) -> String {
    let partition = if partition.is_empty() { String::new() } else { format!(", `{partition}`") };
    match end.saturating_sub(*start) {
        0 | 1 => format!("row {start} of input `{source}`{partition}"),
        _ => format!("rows {start} to {} of input `{source}`{partition}", end - 1),
    }
}

fn contains(outer: &Origin, inner: &Origin) -> bool {
    outer.source == inner.source
        && outer.partition == inner.partition
        && (outer.start..=outer.end).contains(&inner.start)
        && inner.end <= outer.end
}

fn nobody_takes(error: &FlowError, origin: &Origin) -> String {
    format!(
        "{error}, whenever it comes to {}; `on_error = \"drop\"` or `{{ dead_letter = \"FOLDER\" }}` lets a node that can refuse rows do \
         without it",
        place(origin)
    )
}

fn indivisible(error: &FlowError, origin: &Origin) -> String {
    format!("{error}, whenever it comes to {}, of which it can't be told which one it is", place(origin))
}

fn too_many(error: &FlowError) -> String {
    format!("{error}; {MOST} rows at which it has failed are set aside already, so that it seems not to be the rows")
}
