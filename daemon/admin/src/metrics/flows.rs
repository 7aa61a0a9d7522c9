//! Metrics of a flow: what it is doing, its last checkpoint, and what waits on its edges.

use millstream_engine::stats::{CheckpointStats, FlowStats, ResumedCheckpoint};
use millstream_host::FlowStatus;

use super::table::{
    CHECKPOINT_AGE, CHECKPOINT_BYTES, CHECKPOINT_DURATION, CHECKPOINT_NUMBER, EDGE_QUEUE_BATCHES, EDGE_QUEUE_BYTES,
    EDGE_QUEUE_LIMIT_BYTES, EDGE_QUEUE_LIMIT_ROWS, EDGE_QUEUE_ROWS, FLOW_EPOCH, FLOW_PAUSED, FLOW_RESTARTS,
    FLOW_REVISION, FLOW_STATE,
};
use super::{Samples, nodes};

pub(super) fn collect(status: &FlowStatus, samples: &mut Samples) {
    let flow = status.flow.as_str();
    samples.add(&FLOW_STATE, [flow, status.state.name()], 1.0);
    samples.add(&FLOW_PAUSED, [flow], f64::from(u8::from(status.paused.is_some())));
    samples.add(&FLOW_REVISION, [flow], status.revision as f64);
    samples.add(&FLOW_RESTARTS, [flow], status.restarts as f64);
    if let Some(stats) = &status.stats {
        of_run(flow, stats, samples);
    }
}

/// Of a flow that runs or has run.
pub(super) fn of_run(flow: &str, stats: &FlowStats, samples: &mut Samples) {
    samples.add(&FLOW_EPOCH, [flow], stats.epoch() as f64);
    match (stats.checkpoint(), stats.resumed()) {
        (Some(last), _) => of_checkpoint(flow, &last, samples),
        (None, Some(last)) => of_resumed(flow, &last, samples),
        (None, None) => {}
    }
    of_edges(flow, stats, samples);
    for (index, node) in stats.nodes.iter().enumerate() {
        nodes::collect(flow, node, [stats.bytes_in(index), stats.bytes_out(index)], samples);
    }
}

fn of_checkpoint(flow: &str, last: &CheckpointStats, samples: &mut Samples) {
    samples.add(&CHECKPOINT_AGE, [flow], last.at.elapsed().as_secs_f64());
    samples.add(&CHECKPOINT_DURATION, [flow], last.took.as_secs_f64());
    samples.add(&CHECKPOINT_BYTES, [flow], last.bytes as f64);
    samples.add(&CHECKPOINT_NUMBER, [flow], last.number as f64);
}

/// Of the checkpoint that a run goes on from, which took as long as nobody knows any more.
fn of_resumed(flow: &str, last: &ResumedCheckpoint, samples: &mut Samples) {
    // A clock that was set back has written it in the future.
    let age = last.written.elapsed().unwrap_or_default();
    samples.add(&CHECKPOINT_AGE, [flow], age.as_secs_f64());
    samples.add(&CHECKPOINT_BYTES, [flow], last.bytes as f64);
    samples.add(&CHECKPOINT_NUMBER, [flow], last.number as f64);
}

/// Several edges from one port to one node are one here, as everywhere that people look.
fn of_edges(flow: &str, stats: &FlowStats, samples: &mut Samples) {
    for (edge, snapshot) in stats.edges_by_name() {
        let labels = [flow, edge.as_str()];
        samples.add(&EDGE_QUEUE_ROWS, labels, snapshot.rows as f64);
        samples.add(&EDGE_QUEUE_BYTES, labels, snapshot.bytes as f64);
        samples.add(&EDGE_QUEUE_BATCHES, labels, snapshot.batches as f64);
        samples.add(&EDGE_QUEUE_LIMIT_ROWS, labels, snapshot.limit_rows as f64);
        samples.add(&EDGE_QUEUE_LIMIT_BYTES, labels, snapshot.limit_bytes as f64);
    }
}
