//! Metrics of a node, and of the model that it trains.

use std::time::SystemTime;

use millstream_core::{EventTime, Metrics, ModelReport, Report};
use millstream_engine::stats::{ConnectionState, NodeStats};

use super::Samples;
use super::table::{
    MODEL_METRIC, MODEL_ROWS, MODEL_VERSION, NODE_BYTES, NODE_CONNECTED, NODE_PENDING_COMMITS, NODE_RETRYING,
    NODE_ROWS, NODE_SECONDS, WATERMARK_LAG,
};

pub(super) fn collect(flow: &str, node: &NodeStats, [bytes_in, bytes_out]: [u64; 2], samples: &mut Samples) {
    let (name, counters, times) = (node.name.as_str(), node.counters_of_run(), node.clock.times());
    samples.add(&NODE_ROWS, [flow, name, "in", ""], counters.rows_in as f64);
    for (port, rows) in &counters.rows_out {
        samples.add(&NODE_ROWS, [flow, name, "out", port], *rows as f64);
    }
    samples.add(&NODE_ROWS, [flow, name, "failed", ""], counters.rows_failed as f64);
    for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
        samples.add(&NODE_BYTES, [flow, name, direction], bytes as f64);
    }
    for (state, time) in [("busy", times.busy), ("waiting", times.waiting), ("blocked", times.blocked)] {
        samples.add(&NODE_SECONDS, [flow, name, state], time.as_secs_f64());
    }
    samples.add(&NODE_PENDING_COMMITS, [flow, name], node.pending_commits() as f64);
    samples.add(&NODE_RETRYING, [flow, name], f64::from(u8::from(node.retrying().is_some())));
    if let Some(connection) = node.connection() {
        let is_connected = connection.state == ConnectionState::Connected;
        samples.add(&NODE_CONNECTED, [flow, name], f64::from(u8::from(is_connected)));
    }
    if let Some(at) = node.watermark().filter(|_| node.is_input) {
        samples.add(&WATERMARK_LAG, [flow, name], lag(at));
    }
    if let Some(Report::Model(model)) = node.report() {
        of_model(flow, &model, samples);
    }
}

pub(super) fn of_model(flow: &str, model: &ModelReport, samples: &mut Samples) {
    let name = model.model.as_str();
    samples.add(&MODEL_ROWS, [flow, name], model.rows as f64);
    if let Some(version) = model.version {
        samples.add(&MODEL_VERSION, [flow, name], version as f64);
    }
    let version = model.version.map(|version| version.to_string()).unwrap_or_default();
    let mut add = |of: &str, Metrics(metrics): &Metrics| {
        for (metric, value) in metrics {
            samples.add(&MODEL_METRIC, [flow, name, &version, of, metric], *value);
        }
    };
    add("learning", &model.metrics);
    add("recent", &model.recent);
    model.held_out.iter().for_each(|held_out| add("held_out", held_out));
    add("persistence", &model.baselines.persistence);
    add("majority", &model.baselines.majority);
}

/// How far a time in microseconds since 1970 is behind the clock, in seconds. Times to come are ahead of it, and less than 0.
#[expect(clippy::disallowed_methods, reason = "it is compared with times of rows, and nothing is computed from it")]
fn lag(at: EventTime) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs_f64() - at as f64 / 1e6
}
