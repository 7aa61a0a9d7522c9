//! The manifest of a checkpoint: one JSON document that says where everything is, with a checksum over itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_core::{Epoch, Error, EventTime, Positions, Result, ResultExt, Role, Watermark};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lineage_resets::LineageResets;
use super::revisions::RevisionStart;
use crate::plan::Shape;
use crate::quarantine::PoisonedRow;
use crate::stats::Counters;

/// The format that this build writes. Goes up with every change to manifests, or to the state of any node, that an older or newer
/// build would misread.
///
/// In format 4, nodes keep rows in chunks ([`millstream_core::Chunks`]); in format 5, models keep a sample of the rows that they have learned, and
/// figures of classes how far probabilities are off.
pub const FORMAT: u32 = 5;

/// The oldest format that this build reads.
pub const OLDEST_FORMAT: u32 = 3;

/// What to do about a checkpoint that is damaged.
pub const ADVICE: &str = "put it back from a copy, or start from scratch with another state folder, and other places for outputs, \
                          which reads all rows again";

/// What is needed to go on from a barrier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The flow's name.
    pub flow: String,
    /// A random name, drawn when the state began.
    pub incarnation: String,
    /// The number of the checkpoint; the highest is the one to go on from.
    pub number: u64,
    /// The number of the manifest by which the writer took the flow over.
    pub generation: u64,
    /// Who wrote it, in words.
    pub owner: String,
    /// When, in RFC 3339.
    pub created: String,
    /// The checksum of the manifest before.
    pub parent: Option<String>,
    /// The build and machine that wrote it.
    pub fingerprint: BTreeMap<String, String>,
    /// Which of the texts of the flow it was that wrote it, where somebody counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The last epoch that is part of it.
    pub epoch: Epoch,
    /// What follows: `continue`, `stop` or `end`.
    pub then: String,
    /// Live flows: the number of the last checkpoint, up to this one, with decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_log: Option<u64>,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeEntry>,
    /// By the names of the nodes that make models: what their inputs' positions don't say of what they have learned.
    #[serde(rename = "past", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resets: BTreeMap<String, LineageResets>,
    /// Rows that nodes do without, since they fail at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<PoisonedRow>,
    /// Of a flow that makes models, where somebody counts its texts: from which it has run, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionStart>,
}

/// A node at a barrier.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Whether it is an input, a processor or an output.
    pub role: Role,
    /// What `type` says in the flow file.
    pub kind: String,
    /// What its state depends on: settings and columns.
    #[serde(flatten)]
    pub shape: Shape,
    /// Whether it has begun or ended.
    pub phase: NodePhase,
    /// Inputs: the next position of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub positions: BTreeMap<String, u64>,
    /// Inputs with event time: how far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermarks: Option<WatermarkState>,
    /// Other nodes: what is known of their edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_in: Option<FanIn>,
    /// What the node has counted.
    pub counters: Counters,
    /// Reserved for nodes that are several tasks: the keys that this entry's state is of.
    #[serde(default)]
    pub key_groups: KeyGroups,
    /// Reserved for nodes that are several tasks: which of them, counted from 0.
    #[serde(default)]
    pub subtask: u32,
    /// The node's state, by its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, Piece>,
    /// What this checkpoint and those before have decided, and had not become visible when it was written; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingStage>,
}

/// A range of key groups, into which the keys of a node fall: [`KeyGroups::COUNT`] in every flow, so that a state can be handed out to
/// another number of tasks.
///
/// The group of a key is the hash of its values that `split` takes with the seed 0 (`processors/src/hash.rs`; it is the same on every
/// machine and stays so), modulo their number. Nothing computes it yet: every node is one task, whose state is of all groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroups {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl KeyGroups {
    /// How many there are, and so how many tasks a node could be.
    pub const COUNT: u16 = 128;
}

impl Default for KeyGroups {
    fn default() -> Self {
        Self { first: 0, last: Self::COUNT - 1 }
    }
}

/// A stage of a node that is to become visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStage {
    /// The number of the checkpoint that has decided it.
    pub checkpoint: u64,
    /// The last epoch in it.
    pub epoch: Epoch,
    /// What the node has handed over, by its parts.
    pub pieces: BTreeMap<String, Piece>,
}

impl NodeEntry {
    /// How far each partition of an input has been read.
    pub fn positions(&self) -> Positions {
        self.positions.iter().map(|(name, next)| (Arc::from(name.as_str()), *next)).collect()
    }

    /// All pieces that the entry refers to.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.state.values().chain(self.pending.iter().flat_map(|stage| stage.pieces.values()))
    }

    /// How many bytes its state has, and what it has staged.
    pub fn bytes(&self) -> u64 {
        self.pieces().map(Piece::bytes).sum()
    }
}

/// Where a node stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodePhase {
    /// An input that waits until others have ended.
    Waiting,
    /// At work.
    #[default]
    Running,
    /// Nothing more comes.
    Ended,
}

/// How far the event time of an input has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkState {
    /// The partitions: name, latest time, rows since the watermark was moved, whether it is idle.
    pub partitions: Vec<(String, Option<EventTime>, usize, bool)>,
    /// The watermark that was sent last.
    pub said: Option<Watermark>,
    /// How far it has come for the inputs that wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub come: Option<EventTime>,
}

/// What a node knows of its edges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanIn {
    /// The edges.
    pub edges: Vec<FanInEdge>,
    /// The lowest of their watermarks.
    pub watermark: Option<EventTime>,
    /// Whether all are idle.
    pub idle: bool,
}

/// What a node knows of one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanInEdge {
    /// The port that it leads from: `NODE.PORT`.
    pub from: String,
    /// The watermark that came last.
    pub watermark: Option<EventTime>,
    /// Whether nothing has come for a while.
    pub idle: bool,
    /// Whether nothing more comes.
    pub ended: bool,
}

/// One part of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    /// Small: its bytes are here, in base64.
    Inline {
        /// The bytes.
        base64: String,
    },
    /// Large: its bytes are in a blob of their own.
    Blob(PieceKey),
}

/// Where the bytes of a piece are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceKey {
    /// The blob's key, below the flow's folder.
    pub blob: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Their BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

impl Piece {
    /// A piece whose bytes are here.
    pub fn inline(bytes: &[u8]) -> Self {
        Self::Inline { base64: BASE64.encode(bytes) }
    }

    /// How many bytes it has, about.
    fn bytes(&self) -> u64 {
        match self {
            Self::Inline { base64 } => base64.len() as u64 / 4 * 3,
            Self::Blob(key) => key.bytes,
        }
    }

    /// The bytes, if they are here.
    pub fn inline_bytes(&self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Inline { base64 } => BASE64.decode(base64).map(Some).doing(|| "reading a manifest"),
            Self::Blob(_) => Ok(None),
        }
    }
}

/// The document: the manifest as text, and the checksum of that text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    format: u32,
    blake3: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Manifest {
    /// How many bytes the states of all nodes have, and what they have staged.
    pub fn bytes(&self) -> u64 {
        self.nodes.values().map(NodeEntry::bytes).sum()
    }

    /// The document, and its checksum.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, String)> {
        let doing = || "writing a manifest";
        let manifest = serde_json::value::to_raw_value(self).doing(doing)?;
        let blake3 = checksum(FORMAT, manifest.get());
        let document = Document { format: FORMAT, blake3: blake3.clone(), manifest: &manifest };
        Ok((serde_json::to_vec(&document).doing(doing)?, blake3))
    }

    /// Reads a document that [`Manifest::to_bytes`] made, and its checksum.
    ///
    /// # Errors
    /// If a single bit of it has changed, or another build has written it in a format that this one does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, String)> {
        let damaged = |error: &dyn std::fmt::Display| Error::new(format!("it is damaged: {error}; {ADVICE}"));
        let text = std::str::from_utf8(bytes).map_err(|error| damaged(&error))?;
        if let Some(format) = format_of(text).filter(|format| !is_read(*format)) {
            return Err(Error::new(format!(
                "it has format {format}, and this build reads formats {OLDEST_FORMAT} to {FORMAT}; run the flow with the build that \
                 wrote it, or start it from scratch with another state folder, and other places for its outputs, which reads all rows again"
            )));
        }
        let document: Document<'_> = serde_json::from_str(text).map_err(|error| damaged(&error))?;
        if checksum(document.format, document.manifest.get()) != document.blake3 {
            return Err(damaged(&"its checksum is another one"));
        }
        let manifest = serde_json::from_str(document.manifest.get()).map_err(|error| damaged(&error))?;
        Ok((manifest, document.blake3))
    }
}

/// Whether this build reads a format.
fn is_read(format: u32) -> bool {
    (OLDEST_FORMAT..=FORMAT).contains(&format)
}

/// The checksum of a document of a format. From 4 on it is over the format, too, which could be taken for another one otherwise.
pub fn checksum(format: u32, text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    if format >= 4 {
        hasher.update(&format.to_le_bytes());
    }
    hasher.update(text.as_bytes()).finalize().to_hex().to_string()
}

/// The format that a document says it has, however the rest of it looks.
fn format_of(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("{\"format\":")?;
    digits.split_once(',')?.0.parse().ok()
}

/// A BLAKE3 hash in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use millstream_core::Origin;
    use proptest::collection::btree_map;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let entry = NodeEntry {
            kind: "train".into(),
            shape: Shape { hash: "abc".into(), ..Shape::default() },
            positions: [("a.csv".to_owned(), u64::MAX)].into(),
            state: [("model".to_owned(), Piece::inline(b"\0\xff"))].into(),
            ..NodeEntry::default()
        };
        Manifest {
            flow: "fraud".into(),
            incarnation: "0123456789abcdef".into(),
            number: 7,
            generation: 5,
            owner: "process 1 on here".into(),
            created: "2026-11-24T00:00:00Z".into(),
            parent: None,
            fingerprint: BTreeMap::new(),
            revision: None,
            epoch: Epoch(12),
            then: "continue".into(),
            replay_log: None,
            nodes: [("learner".to_owned(), entry)].into(),
            resets: BTreeMap::new(),
            set_aside: vec![PoisonedRow {
                node: "seen".into(),
                origin: Origin::new("rows", "a.csv", 6, 7),
                blake3: checksum(FORMAT, "7"),
                error: "panicked".into(),
                checkpoint: 5,
            }],
            revisions: vec![RevisionStart {
                revision: 2,
                checkpoint: 3,
                epoch: Epoch(9),
                resets: ["learner".into()].into(),
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let (bytes, checksum) = manifest().to_bytes().expect("it can be written");
        assert_eq!(Manifest::from_bytes(&bytes).expect("it is whole"), (manifest(), checksum));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (bytes, _) = manifest().to_bytes().expect("it can be written");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::from_bytes(&damaged).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        let blob = (".*", any::<u64>(), ".*").prop_map(|(blob, bytes, blake3)| PieceKey { blob, bytes, blake3 });
        prop_oneof![any::<Vec<u8>>().prop_map(|bytes| Piece::inline(&bytes)), blob.prop_map(Piece::Blob)]
    }

    fn any_clock() -> impl Strategy<Value = WatermarkState> {
        let partition = (".*", any::<Option<EventTime>>(), any::<usize>(), any::<bool>());
        let said = prop_oneof![Just(Watermark::Idle), any::<EventTime>().prop_map(Watermark::At)];
        let watermarks = (proptest::collection::vec(partition, 0..3), option::of(said));
        watermarks.prop_map(|(partitions, said)| WatermarkState { partitions, said, come: None })
    }

    fn any_fan_in() -> impl Strategy<Value = FanIn> {
        let edge = (".*", any::<Option<EventTime>>(), any::<bool>(), any::<bool>());
        let edge = edge.prop_map(|(from, watermark, idle, ended)| FanInEdge { from, watermark, idle, ended });
        let fan_in = (proptest::collection::vec(edge, 0..3), any::<Option<EventTime>>(), any::<bool>());
        fan_in.prop_map(|(edges, watermark, idle)| FanIn { edges, watermark, idle })
    }

    fn any_entry() -> impl Strategy<Value = NodeEntry> {
        let phase = prop_oneof![Just(NodePhase::Waiting), Just(NodePhase::Running), Just(NodePhase::Ended)];
        let pieces = || btree_map(".*", any_piece(), 0..3);
        let positions = btree_map(".*", any::<u64>(), 0..3);
        let whole = (".*", phase, positions, option::of(any_clock()), option::of(any_fan_in()), pieces(), pieces());
        whole.prop_map(|(kind, phase, positions, watermarks, fan_in, state, pieces)| {
            let pending = vec![PendingStage { checkpoint: 3, epoch: Epoch(7), pieces }];
            let counters = Counters { rows_in: positions.len() as u64, rows_out: positions.clone(), rows_failed: 1 };
            let shape =
                Shape { hash: kind.clone(), settings: [(kind.clone(), "1".into())].into(), columns: BTreeMap::new() };
            NodeEntry {
                role: Role::Output,
                shape,
                kind,
                phase,
                positions,
                watermarks,
                fan_in,
                counters,
                state,
                pending,
                key_groups: KeyGroups { first: 3, last: 9 },
                subtask: 1,
            }
        })
    }

    fn any_manifest() -> impl Strategy<Value = Manifest> {
        let nodes = btree_map(".*", any_entry(), 0..4);
        (".*", any::<u64>(), any::<Option<String>>(), nodes).prop_map(|(flow, number, parent, nodes)| Manifest {
            flow,
            number,
            parent,
            nodes,
            ..manifest()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_manifest_reads_back_and_damage_is_refused(
            manifest in any_manifest(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let (bytes, checksum) = manifest.to_bytes().expect("it can be written");
            prop_assert_eq!(Manifest::from_bytes(&bytes).expect("it is whole"), (manifest.clone(), checksum));
            let place = place.index(bytes.len());
            let mut changed = bytes.clone();
            changed[place] = byte;
            prop_assert!(changed == bytes || Manifest::from_bytes(&changed).is_err());
            prop_assert!(Manifest::from_bytes(&bytes[..place]).is_err());
            let mut longer = bytes.clone();
            longer.insert(place, byte);
            // Between the parts of the document there may be blanks.
            prop_assert!(Manifest::from_bytes(&longer).map_or(true, |(read, _)| byte.is_ascii_whitespace() && read == manifest));
        }
    }

    #[test]
    fn another_format_is_refused_in_words() {
        let error = Manifest::from_bytes(b"{\"format\":6,\"zstd\":true}").expect_err("not known").to_string();
        assert!(error.starts_with("it has format 6, and this build reads formats 3 to 5"), "{error}");
    }
}
