//! What time has decided in a live flow: in which order rows came, where epochs ended, which partitions fell silent. And what
//! nodes were told that ask others.
//!
//! Where models are made, it is written down at every checkpoint, before the checkpoint decides: with it, the rows that trained
//! a version can be gone through again in the same order, whenever that is asked for.

mod turns;

use std::collections::{BTreeMap, VecDeque};

use millstream_core::{Epoch, Error, Result, ResultExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::turns::Turns;
use super::manifest::{FORMAT, Piece, checksum};

/// The decisions of the epochs of one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayLog {
    /// The number of the checkpoint before this one that has decisions, too.
    pub previous: Option<u64>,
    /// The last epoch that they are about.
    pub epoch: Epoch,
    /// Those at inputs, by their names.
    pub inputs: BTreeMap<String, VecDeque<InputEvent>>,
    /// Those where several edges meet, by the names of the nodes.
    pub orders: BTreeMap<String, VecDeque<FanInEvent>>,
    /// What nodes were told that ask others and may be told something else, by their names: for each checkpoint the parts of a state.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, VecDeque<BTreeMap<String, Piece>>>,
}

/// What a live input did next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputEvent {
    /// It sent the rows of a partition up to a position.
    Rows(String, u64),
    /// It sent rows of several partitions by turns.
    Turns(Turns),
    /// It ended its epoch.
    Barrier,
    /// It no longer waited for these partitions.
    Idle(Vec<String>),
    /// It found a partition of which rows may come, and this locator of it.
    Added(String, String),
    /// It found that no more rows of a partition come.
    Gone(String),
}

impl InputEvent {
    /// Whether it sent rows of a partition.
    pub fn has_rows_of(&self, partition: &str) -> bool {
        match self {
            Self::Rows(of, _) => of == partition,
            Self::Turns(turns) => turns.has(partition),
            Self::Barrier | Self::Idle(_) | Self::Added(..) | Self::Gone(_) => false,
        }
    }
}

/// What a node with several edges took next, where it takes them as they come; and of a node that keeps rows while there is no room
/// behind it, also of one edge, what left next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanInEvent {
    /// So many rows of an edge; edges are counted from 0.
    Rows(usize, usize),
    /// So many rows of an edge, which left as they came.
    Passed(usize, usize),
    /// So many of the rows that it had kept left.
    Left(usize),
    /// It gave up so many of the rows that it had kept longest.
    Expired(usize),
    /// How far event time has come at an edge.
    Time(usize),
    /// That nothing more comes at an edge.
    End(usize),
    /// The barrier of an epoch.
    Barrier,
}

/// The steps of a node.
#[derive(Clone, Debug, Default)]
pub enum ReplayEvents {
    /// It decides nothing.
    #[default]
    None,
    /// An input's.
    Input(VecDeque<InputEvent>),
    /// Those of a node with several edges.
    Order(VecDeque<FanInEvent>),
}

impl ReplayEvents {
    /// An input's steps, which are taken out.
    pub fn take_input(&mut self) -> Option<VecDeque<InputEvent>> {
        match std::mem::take(self) {
            Self::Input(steps) => Some(steps),
            _ => None,
        }
    }
}

/// What a node decides, until a checkpoint takes it. Nothing is noted where nobody will ask.
#[derive(Debug)]
pub struct Recorder<Step> {
    steps: Option<VecDeque<Step>>,
}

impl<Step> Default for Recorder<Step> {
    fn default() -> Self {
        Self { steps: None }
    }
}

impl<Step> Recorder<Step> {
    /// Notes are taken.
    pub fn taken() -> Self {
        Self { steps: Some(VecDeque::new()) }
    }

    /// The steps since they were taken away last.
    pub fn take(&mut self) -> VecDeque<Step> {
        self.steps.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes a step, unless it can be told together with the last one.
    pub fn note(&mut self, step: impl FnOnce() -> Step, joins: impl FnOnce(&mut Step) -> bool) {
        let Some(steps) = &mut self.steps else { return };
        if !steps.back_mut().is_some_and(joins) {
            steps.push_back(step());
        }
    }
}

impl Recorder<InputEvent> {
    /// Rows of a partition were sent up to a position.
    pub fn rows(&mut self, partition: &str, next: u64) {
        let Some(steps) = &mut self.steps else { return };
        match steps.back_mut() {
            Some(InputEvent::Rows(known, to)) if known == partition && *to <= next => *to = next,
            _ => {
                turns::fold(steps);
                steps.push_back(InputEvent::Rows(partition.to_owned(), next));
            }
        }
    }

    /// Anything else.
    pub fn step(&mut self, step: impl FnOnce() -> InputEvent) {
        self.note(step, |_| false);
    }
}

impl Recorder<FanInEvent> {
    /// So many rows of an edge were taken.
    pub fn rows(&mut self, edge: usize, rows: usize) {
        let joins = |last: &mut FanInEvent| match last {
            FanInEvent::Rows(known, count) if *known == edge => {
                *count += rows;
                true
            }
            _ => false,
        };
        self.note(|| FanInEvent::Rows(edge, rows), joins);
    }

    /// So many of the rows that were taken last left as they came.
    pub fn passed(&mut self, rows: usize) {
        let Some(steps) = &mut self.steps else { return };
        let Some(FanInEvent::Rows(edge, taken)) = steps.back_mut() else { return };
        let edge = *edge;
        *taken = taken.saturating_sub(rows);
        if *taken == 0 {
            steps.pop_back();
        }
        match steps.back_mut() {
            Some(FanInEvent::Passed(known, count)) if *known == edge => *count += rows,
            _ => steps.push_back(FanInEvent::Passed(edge, rows)),
        }
    }

    /// So many rows that were kept left.
    pub fn left(&mut self, rows: usize) {
        let joins = |last: &mut FanInEvent| match last {
            FanInEvent::Left(count) => {
                *count += rows;
                true
            }
            _ => false,
        };
        self.note(|| FanInEvent::Left(rows), joins);
    }

    /// So many rows that were kept were given up.
    pub fn expired(&mut self, rows: usize) {
        let joins = |last: &mut FanInEvent| match last {
            FanInEvent::Expired(count) => {
                *count += rows;
                true
            }
            _ => false,
        };
        self.note(|| FanInEvent::Expired(rows), joins);
    }

    /// Anything else.
    pub fn step(&mut self, step: FanInEvent) {
        self.note(|| step, |_| false);
    }
}

/// The decisions as text, and the checksum of that text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    format: u32,
    blake3: String,
    #[serde(borrow)]
    replay_log: &'a RawValue,
}

/// What a node has decided under its former name comes before what it has decided under the one that it has now.
fn rename_steps<Step>(steps: &mut BTreeMap<String, VecDeque<Step>>, before: &str, now: &str) {
    if let Some(mut first) = steps.remove(before) {
        first.extend(steps.remove(now).into_iter().flatten());
        steps.insert(now.to_owned(), first);
    }
}

impl ReplayLog {
    /// Gives nodes the names that they have now, by their former ones.
    pub fn rename_nodes<'a>(&mut self, renames: impl Iterator<Item = (&'a str, &'a str)>) {
        for (before, now) in renames {
            rename_steps(&mut self.inputs, before, now);
            rename_steps(&mut self.orders, before, now);
            rename_steps(&mut self.answers, before, now);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.orders.is_empty() && self.answers.is_empty()
    }

    /// As a document.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let doing = || "writing replay_log";
        let replay_log = serde_json::value::to_raw_value(self).doing(doing)?;
        let blake3 = checksum(FORMAT, replay_log.get());
        serde_json::to_vec(&Document { format: FORMAT, blake3, replay_log: &replay_log }).doing(doing)
    }

    /// Reads a document that [`ReplayLog::to_bytes`] made.
    ///
    /// # Errors
    /// If a single bit of it has changed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let document: Document<'_> = serde_json::from_slice(bytes).doing(|| "it is damaged")?;
        if checksum(document.format, document.replay_log.get()) != document.blake3 {
            return Err(Error::new("it is damaged: its checksum is another one"));
        }
        serde_json::from_str(document.replay_log.get()).doing(|| "it is damaged")
    }

    /// Adds those of a node.
    pub fn add(&mut self, node: &str, steps: ReplayEvents) {
        match steps {
            ReplayEvents::Input(steps) if !steps.is_empty() => _ = self.inputs.insert(node.to_owned(), steps),
            ReplayEvents::Order(steps) if !steps.is_empty() => _ = self.orders.insert(node.to_owned(), steps),
            ReplayEvents::None | ReplayEvents::Input(_) | ReplayEvents::Order(_) => {}
        }
    }

    /// Those of a node.
    pub fn of(&self, node: &str) -> ReplayEvents {
        match (self.inputs.get(node), self.orders.get(node)) {
            (Some(steps), _) => ReplayEvents::Input(steps.clone()),
            (None, Some(steps)) => ReplayEvents::Order(steps.clone()),
            (None, None) => ReplayEvents::None,
        }
    }

    /// Adds those that follow.
    pub fn append(&mut self, later: Self) {
        self.epoch = later.epoch;
        for (input, steps) in later.inputs {
            self.inputs.entry(input).or_default().extend(steps);
        }
        for (node, steps) in later.orders {
            self.orders.entry(node).or_default().extend(steps);
        }
        for (node, answers) in later.answers {
            self.answers.entry(node).or_default().extend(answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_kind_are_told_together() {
        let mut recorder = Recorder::<InputEvent>::taken();
        recorder.rows("a", 5);
        recorder.rows("a", 8);
        recorder.rows("b", 2);
        recorder.rows("b", 1);
        recorder.step(|| InputEvent::Barrier);
        recorder.rows("b", 3);
        let rows = |partition: &str, next| InputEvent::Rows(partition.to_owned(), next);
        assert_eq!(recorder.take(), [rows("a", 8), rows("b", 2), rows("b", 1), InputEvent::Barrier, rows("b", 3)]);
        let mut order = Recorder::<FanInEvent>::taken();
        order.rows(0, 2);
        order.rows(0, 3);
        order.step(FanInEvent::Time(0));
        order.rows(0, 1);
        assert_eq!(order.take(), [FanInEvent::Rows(0, 5), FanInEvent::Time(0), FanInEvent::Rows(0, 1)]);
        for rows in [3, 2] {
            order.rows(0, rows);
            order.passed(rows);
        }
        order.rows(0, 9);
        [4, 1].into_iter().for_each(|rows| order.left(rows));
        [1, 1].into_iter().for_each(|rows| order.expired(rows));
        let kept = [FanInEvent::Rows(0, 9), FanInEvent::Left(5), FanInEvent::Expired(2)];
        assert_eq!(order.take(), [vec![FanInEvent::Passed(0, 5)], kept.to_vec()].concat());
        let mut untaken = Recorder::<FanInEvent>::default();
        untaken.rows(0, 2);
        assert!(untaken.take().is_empty());
    }

    #[test]
    fn decisions_read_back_and_damage_is_noticed() {
        let replay_log = ReplayLog {
            previous: Some(3),
            epoch: Epoch(9),
            inputs: [("in".to_owned(), [InputEvent::Rows("a".into(), 7), InputEvent::Barrier].into())].into(),
            orders: [("both".to_owned(), [FanInEvent::Rows(1, 7), FanInEvent::Barrier].into())].into(),
            answers: [("asking".to_owned(), [[("answers".to_owned(), Piece::inline(b"7"))].into()].into())].into(),
        };
        let bytes = replay_log.to_bytes().expect("they can be written");
        assert_eq!(ReplayLog::from_bytes(&bytes).expect("they are whole"), replay_log);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ReplayLog::from_bytes(&damaged).is_err(), "bit {bit}");
        }
    }
}
