//! Checkpoints of a flow: those that its runs have completed lately, and those that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::DateTime;
use millstream_core::{Result, ResultExt as _, Role as NodeRole};
use millstream_engine::checkpoint::Manifest;
use millstream_engine::stats::{CheckpointStats, CheckpointedNode, CompletedCheckpoint, Trigger};
use millstream_host::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::flows::find;
use super::parameters::Path;
use super::route::Route;
use super::views::Page;
use crate::Admin;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/flows/{flow}/checkpoints", "listCheckpoints", "Checkpoints of a flow, the newest first.", list)
            .gives::<Page<CheckpointView>>(
            StatusCode::OK,
            "Those that are kept, and the last hundred since the daemon began.",
        ),
        Route::get("/flows/{flow}/checkpoints/{checkpoint}", "getCheckpoint", "A checkpoint, node by node.", get)
            .gives::<CheckpointDetails>(StatusCode::OK, "The checkpoint."),
    ]
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct CheckpointView {
    /// Its number.
    number: u64,
    /// When it was durable.
    at: Timestamp,
    /// Why it was taken; none if that was before the daemon began.
    trigger: Option<Trigger>,
    /// How long it took from the snapshot of the last node until it was durable; none if that was before the daemon began.
    took_s: Option<f64>,
    /// How many bytes the states of all nodes have, and what they have staged.
    bytes: u64,
    /// How many rows all inputs together had read, since the flow began.
    rows_read: u64,
    /// Whether it is kept, so that rows can be gone through again from there. A flow resumes from the newest.
    kept: bool,
}

/// A checkpoint, node by node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct CheckpointDetails {
    /// What there is to say of it as a whole.
    #[serde(flatten)]
    checkpoint: CheckpointView,
    /// The nodes, by name.
    nodes: BTreeMap<String, CheckpointedNode>,
}

impl From<CompletedCheckpoint> for CheckpointDetails {
    fn from(completed: CompletedCheckpoint) -> Self {
        let CompletedCheckpoint { stats, trigger, nodes } = completed;
        let CheckpointStats { number, rows_read, took, bytes, written, .. } = stats;
        let (trigger, took_s) = (Some(trigger), Some(took.as_secs_f64()));
        let checkpoint =
            CheckpointView { number, at: Timestamp(written), trigger, took_s, bytes, rows_read, kept: false };
        Self { checkpoint, nodes }
    }
}

impl TryFrom<&Manifest> for CheckpointDetails {
    type Error = millstream_core::Error;

    fn try_from(manifest: &Manifest) -> Result<Self> {
        let created = DateTime::parse_from_rfc3339(&manifest.created);
        let at = Timestamp(created.doing(|| format!("reading the time of checkpoint {}", manifest.number))?.into());
        let inputs = manifest.nodes.values().filter(|node| node.role == NodeRole::Input);
        let rows_read = inputs.map(|node| node.counters.rows_in).sum();
        let node = |entry: &millstream_engine::checkpoint::NodeEntry| CheckpointedNode {
            rows_in: entry.counters.rows_in,
            bytes: entry.bytes(),
        };
        let nodes: BTreeMap<_, _> = manifest.nodes.iter().map(|(name, entry)| (name.clone(), node(entry))).collect();
        let bytes = nodes.values().map(|node| node.bytes).sum();
        let (number, trigger, took_s) = (manifest.number, None, None);
        let checkpoint = CheckpointView { number, at, trigger, took_s, bytes, rows_read, kept: true };
        Ok(Self { checkpoint, nodes })
    }
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
) -> Result<Json<Page<CheckpointView>>, Problem> {
    let all = all(&admin, flow).await?;
    Ok(Json(Page { items: all.into_values().rev().map(|found| found.checkpoint).collect(), next: None }))
}

async fn get(
    State(admin): State<Arc<Admin>>,
    Path((flow, number)): Path<(String, u64)>,
) -> Result<Json<CheckpointDetails>, Problem> {
    let missing = || Problem::not_found(format!("checkpoint {number} of the flow `{flow}` is neither kept nor known"));
    all(&admin, flow.clone()).await?.remove(&number).map(Json).ok_or_else(missing)
}

/// All that is known, by number.
async fn all(admin: &Arc<Admin>, flow: String) -> Result<BTreeMap<u64, CheckpointDetails>, Problem> {
    let stats = find(admin, &flow)?.status.stats;
    let completed = stats.map(|stats| stats.completed_checkpoints()).unwrap_or_default();
    let mut all: BTreeMap<u64, CheckpointDetails> =
        completed.into_iter().map(|one| (one.stats.number, one.into())).collect();
    let admin = admin.clone();
    let kept = spawn_blocking(move || kept(&admin, &flow)).await.doing(|| "reading checkpoints")??;
    for found in kept {
        let number = found.checkpoint.number;
        all.entry(number).and_modify(|known| known.checkpoint.kept = true).or_insert(found);
    }
    Ok(all)
}

/// Those that are kept.
fn kept(admin: &Admin, flow: &str) -> Result<Vec<CheckpointDetails>> {
    let store = admin.checkpoints(flow)?;
    let mut found = Vec::new();
    for number in store.numbers()? {
        match store.manifest(number) {
            Ok((manifest, _)) => found.push((&manifest).try_into()?),
            // The flow has removed it meanwhile.
            Err(_) if !store.numbers()?.contains(&number) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
