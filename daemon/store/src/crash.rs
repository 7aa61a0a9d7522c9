//! Crash points: places at which a test can have the process killed, as the machine might; and rows at which it can have a node panic.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that names a point, and which time it is reached the process dies: `manifest-written:2`.
pub const VARIABLE: &str = "MILLSTREAM_CRASH";

/// All crash points, in the order in which a flow comes by.
pub const POINTS: &[&str] = &[
    // A flow begins, or goes on.
    "recovery-begins",
    "recovery-taken-over",
    "recovery-before-commit",
    "recovery-after-commit",
    // The output `file`.
    "ledger-created",
    "output-staged",
    "file-noted",
    "file-published",
    "journal-removed",
    // Outputs that reach their targets by network.
    "spool-sealed",
    "spool-durable",
    "spool-removed",
    // The output `kafka`.
    "kafka-part-sent",
    "kafka-marker-sent",
    "kafka-part-committed",
    // The input and the output `mqtt`.
    "mqtt-kept",
    "mqtt-published",
    // The input `git`.
    "git-kept",
    // The output `nats`.
    "nats-rows-sent",
    "nats-marked",
    // The output `http`.
    "http-answered",
    "http-noted",
    // The output `mysql`.
    "mysql-part-written",
    "mysql-part-committed",
    // The output `postgres`.
    "postgres-part-written",
    "postgres-part-committed",
    // The output `objects`.
    "objects-staged",
    "objects-uploaded",
    "objects-completed",
    "objects-marked",
    "objects-removed",
    // The output `delta`.
    "delta-uploaded",
    "delta-committed",
    // Models.
    "version-numbered",
    "version-written",
    "version-decided",
    // A checkpoint.
    "checkpoint-asked",
    "input-reported",
    "barrier-sent",
    "snapshot-taken",
    "snapshots-gathered",
    "blob-written",
    "replay-log-written",
    "before-manifest",
    "after-manifest",
    "before-commit",
    "after-commit",
    "marked-committed",
    "manifest-removed",
    "blob-removed",
    "collected",
    // A flow goes on in place of another.
    "change-planned",
    "change-asked",
    "change-border",
    "change-handed-over",
    "change-restored",
    "change-begun",
    // The ingest log.
    "log-append",
    "log-before-sync",
    "log-after-sync",
    "log-roll",
    "log-trim",
    "log-cut-tail",
    // The store, under all of these.
    "store-before-link",
    "store-after-link",
    "store-delete",
];

/// The environment variable that names a node and a text, `NODE=TEXT`: the node panics at rows that have it.
pub const POISON: &str = "MILLSTREAM_POISON";

struct Wanted {
    point: String,
    left: AtomicU64,
}

/// Dies here if this is the point that [`VARIABLE`] names. It is SIGKILL, so that nothing is tidied up.
pub fn point(name: &str) {
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    debug_assert!(POINTS.contains(&name), "`{name}` is missing in the list of crash points");
    let Some(wanted) = WANTED.get_or_init(wanted) else { return };
    if wanted.point == name && wanted.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal may take a moment, in which nothing more must happen.
        loop {
            std::thread::park();
        }
    }
}

/// Panics if [`POISON`] names this node and a text that `rows` have.
#[expect(clippy::panic, reason = "a panic is what is asked for")]
pub fn poison(node: &str, rows: impl FnOnce() -> String) {
    static POISONED: OnceLock<Option<(String, String)>> = OnceLock::new();
    let poisoned =
        || std::env::var(POISON).ok()?.split_once('=').map(|(node, text)| (node.to_owned(), text.to_owned()));
    if let Some((poisoned, text)) = POISONED.get_or_init(poisoned)
        && poisoned == node
        && rows().contains(text)
    {
        panic!("it can't bear `{text}`");
    }
}

fn wanted() -> Option<Wanted> {
    let text = std::env::var(VARIABLE).ok()?;
    let (point, occurrence) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Wanted { point: point.to_owned(), left: AtomicU64::new(occurrence.parse().ok()?) })
}
