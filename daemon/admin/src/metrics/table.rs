//! All metrics that there are. The page `conf/METRICS.md` is made of this table.

use std::fmt::Write as _;

use prometheus_client::metrics::MetricType;

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, as it is asked for.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricType,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

impl Metric {
    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: MetricType::Counter, labels, help }
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: MetricType::Gauge, labels, help }
    }

    /// The name without what the format adds to those of counters.
    pub(super) fn base_name(&self) -> &'static str {
        match self.kind {
            MetricType::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            _ => self.name,
        }
    }
}

/// Declares metrics, and the list of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident($name:literal, $labels:expr, $help:literal);)*) => {
        $(pub(super) static $constant: Metric = Metric::$kind($name, &$labels, $help);)*

        /// All metrics, in the order in which they are shown.
        pub static METRICS: &[&Metric] = &[$(&$constant),*];
    };
}

metrics! {
    FLOW_STATE = gauge("millstream_flow_state", ["flow", "state"], "1 for the state that the flow is in; the others are not there.");
    FLOW_PAUSED = gauge("millstream_flow_paused", ["flow"], "1 while the inputs of the flow are held, else 0.");
    FLOW_REVISION = gauge("millstream_flow_revision", ["flow"], "Which text of the flow runs.");
    FLOW_RESTARTS = counter("millstream_flow_restarts_total", ["flow"], "How often the flow was started again after a failure.");
    FLOW_EPOCH = gauge("millstream_flow_epoch", ["flow"], "The last epoch that an input of this run has ended.");
    CHECKPOINT_AGE = gauge("millstream_checkpoint_age_seconds", ["flow"], "How long ago the last checkpoint was durable: of this run, or the one that it goes on from.");
    CHECKPOINT_DURATION = gauge("millstream_checkpoint_duration_seconds", ["flow"], "How long the last checkpoint of this run took from the snapshot of the last node until it was durable.");
    CHECKPOINT_BYTES = gauge("millstream_checkpoint_bytes", ["flow"], "How large the states of all nodes are at the last checkpoint, and what they have staged.");
    CHECKPOINT_NUMBER = gauge("millstream_checkpoint_number", ["flow"], "The number of the last checkpoint.");
    NODE_ROWS = counter("millstream_node_rows_total", ["flow", "node", "direction", "port"], "Rows in this run: `direction` is `in`, `out`, with the port that they left by, or `failed`.");
    NODE_BYTES = counter("millstream_node_bytes_total", ["flow", "node", "direction"], "Bytes of rows in memory that have come over edges (`in`) or left by ports that somebody reads (`out`) in this run.");
    NODE_SECONDS = counter("millstream_node_seconds_total", ["flow", "node", "state"], "What the node has spent its time with in this run: `busy`, `waiting` for rows, or `blocked`, because there is no room behind it.");
    NODE_PENDING_COMMITS = gauge("millstream_node_pending_commits", ["flow", "node"], "How many stages are decided and not visible yet.");
    NODE_RETRYING = gauge("millstream_node_retrying", ["flow", "node"], "1 while a commit or a request has failed and is tried again, else 0.");
    NODE_CONNECTED = gauge("millstream_node_connected", ["flow", "node"], "1 while the node is connected with its other side, such as a broker; 0 before that, and while it tries again. Nodes that have none are not there.");
    WATERMARK_LAG = gauge("millstream_watermark_lag_seconds", ["flow", "node"], "How far the event time behind an input is behind the clock.");
    EDGE_QUEUE_ROWS = gauge("millstream_edge_queue_rows", ["flow", "edge"], "Rows that wait on the edge.");
    EDGE_QUEUE_BYTES = gauge("millstream_edge_queue_bytes", ["flow", "edge"], "Bytes of these rows.");
    EDGE_QUEUE_BATCHES = gauge("millstream_edge_queue_batches", ["flow", "edge"], "Batches that wait on the edge.");
    EDGE_QUEUE_LIMIT_ROWS = gauge("millstream_edge_queue_limit_rows", ["flow", "edge"], "How many rows may wait on the edge.");
    EDGE_QUEUE_LIMIT_BYTES = gauge("millstream_edge_queue_limit_bytes", ["flow", "edge"], "How many bytes may wait on the edge.");
    MODEL_ROWS = gauge("millstream_model_rows", ["flow", "model"], "Rows that the model has learned since it began.");
    MODEL_VERSION = gauge("millstream_model_version", ["flow", "model"], "The version that was published last.");
    MODEL_METRIC = gauge("millstream_model_metric", ["flow", "model", "version", "of", "metric"], "How good the model is, by metric: `of` says of which predictions: those before `learning` each row, the `recent` of these, those of rows that were `held_out`, and those without any model, `persistence` and `majority`. The version is the one that was published last.");
    SERVED_VERSION = gauge("millstream_serve_version", ["model", "version"], "1 for each version of a model that is served.");
    SERVED_REQUESTS = counter("millstream_serve_requests_total", ["model", "version", "result"], "Requests for predictions by the version: `result` is `success` or `fail`.");
    SERVED_ROWS = counter("millstream_serve_rows_total", ["model", "version"], "Rows that were predicted.");
    SERVED_BATCHES = counter("millstream_serve_batches_total", ["model", "version"], "Requests for predictions that were computed; less than that where some were computed together.");
    SERVED_SHADOW_ROWS = counter("millstream_serve_shadow_rows_total", ["model", "version", "result"], "Rows that another version has answered and this one, on trial, has predicted as well: `result` says whether it says the `same`, something `other`, or can't predict them (`fail`).");
    SERVED_INPUT_DRIFT = gauge("millstream_serve_input_drift", ["model", "version", "feature"], "How far the values of a feature lie from those that the version has learned, over the last 5,000 to 10,000 rows: the population stability index, of which 0.25 is a lot. Not there before 200 rows.");
    SERVED_INPUT_MISSING = gauge("millstream_serve_input_missing_ratio", ["model", "version", "feature"], "The share of these rows that lack the feature.");
    SERVED_INPUT_UNSEEN = gauge("millstream_serve_input_unseen_ratio", ["model", "version", "feature"], "The share of these rows with a value for which the version has no slot of its own, of features that are encoded by `one_hot`.");
    SERVED_LOGGED_ROWS = counter("millstream_serve_logged_rows_total", ["model", "version", "result"], "Rows for the log of requests, if there is one: those that were `predicted`, those that were `lost` since they could not be written, and those that were `labelled` while the version was the usual one.");
    SERVED_SECONDS = counter("millstream_serve_seconds_total", ["model", "version", "stage"], "How long requests took, by `stage`: `queue`, `input`, `infer`, `output`; `request` is all of it, for those that were answered.");
    FUNCTION_IN_FLIGHT = gauge("http_requests_in_flight", [], "Requests to a function that are being answered; platforms scale it by that.");
    FUNCTION_REQUESTS = counter("http_requests_total", ["method", "code"], "Requests that a function has answered.");
    FUNCTION_SECONDS = counter("http_request_seconds_total", [], "How long these took together.");
    MEMORY = gauge("process_resident_memory_bytes", [], "Memory that the process holds in RAM.");
    CPU = counter("process_cpu_seconds_total", [], "How long processors have worked for the process.");
    OPEN_FILES = gauge("process_open_fds", [], "Files, connections and the like that the process has open.");
    THREADS = gauge("process_threads", [], "Threads of the process.");
    MEMORY_LIMIT = gauge("millstream_memory_limit_bytes", [], "Memory that there is for the process: the limit of its control group, or else the machine's.");
    DISK_FREE = gauge("millstream_disk_free_bytes", ["folder"], "What can still be written on the disk with the data.");
    DISK_TOTAL = gauge("millstream_disk_total_bytes", ["folder"], "How large the disk with the data is.");
    BUILD = gauge("millstream_build_info", ["version"], "1, with the version of the program.");
}

/// The page of all metrics.
pub fn page() -> String {
    let mut page = "# Metrics\n\nMade from the table in `daemon/admin/src/metrics/table.rs`: a test compares, and \
        `MILLSTREAM_UPDATE=1 cargo test -p millstream-admin` writes it anew.\n\n\
        The daemon answers `GET /metrics` in Prometheus' text format. Metrics are read when they are asked for: those of a flow that was \
        removed are gone with it. Counters of nodes begin with each run of a flow: a run that resumes from a checkpoint reads rows again \
        that the one before had counted, and a counter that went back by a little would be taken for one that began anew.\n\n\
        | metric | kind | labels | |\n|---|---|---|---|\n"
        .to_owned();
    for Metric { name, kind, labels, help } in METRICS {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {} | {} | {help} |", kind.as_str(), labels.join(", "));
    }
    page
}
