//! The engine under crashes: seeded, in virtual time, with a store and outputs in memory.
//!
//! Every simulation runs a flow again and again, each time with other batches, until a run comes through: crashed at a step
//! that the seed chooses, told to stop, or left alone. What is committed then must be what a run without interruption and
//! without state gives, row by row.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use super::crash::{self, MemoryStore};
use super::kinds::{committed_text, memory_text};
use super::running::plan;
use crate::checkpoint::{Keeper, KeeperOptions, Vault};
use crate::run::{Effects, RunningFlow, Status};

/// A small generator of numbers, so that a failure repeats.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The flows: linear; two inputs in turn; a fan-out that is put together again, with borders; a side input, then a
/// sequence; a model that follows another.
const GRAPHS: &[&str] = &[
    r#"
    input.a = { type = "count", rows = ROWS, refuse = 7, batch_rows = BATCH }
    processor.b = { type = "add", from = "a", by = 10 }
    output.c = { type = "file", from = "b", path = "PATH/rows" }
    output.bad = { type = "file", from = "a.failed", path = "PATH/bad" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 50, start = 1000, batch_rows = BATCH }
    processor.both = { type = "merge", from = ["a", "b"], rows = 3 }
    processor.marked = { type = "borders", from = "both" }
    output.c = { type = "file", from = "marked", path = "PATH/rows" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    processor.kinds = { type = "parity", from = "a" }
    processor.tens = { type = "add", from = "kinds.odd", by = 100 }
    processor.both = { type = "borders", from = ["tens", "kinds.even"] }
    output.c = { type = "file", from = "both", path = "PATH/rows" }
    output.odd = { type = "file", from = "kinds.odd", path = "PATH/bad" }
    "#,
    r#"
    input.side = { type = "count", rows = 40, batch_rows = BATCH }
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 30, start = 500, batch_rows = BATCH }
    processor.joined = { type = "after", from = "a", with = "side" }
    processor.both = { type = "borders", from = ["joined", "b"] }
    output.c = { type = "file", from = "both", path = "PATH/rows" }
    output.d = { type = "file", from = "side", path = "PATH/bad" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    processor.kinds = { type = "parity", from = "a" }
    processor.teacher = { type = "teach", from = "kinds.even", model = "m" }
    processor.pupil = { type = "obey", from = "kinds.odd", model = "m" }
    output.c = { type = "file", from = "pupil", path = "PATH/rows" }
    output.even = { type = "file", from = "teacher", path = "PATH/bad" }
    "#,
];

struct Simulation {
    name: String,
    numbers: Numbers,
    graph: &'static str,
    rows: u64,
    epoch_rows: u64,
    store: Arc<MemoryStore>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let graph = GRAPHS[numbers.below(GRAPHS.len() as u64) as usize];
        let (rows, epoch_rows) = (numbers.below(300), 1 + numbers.below(40));
        let name = format!("simulation{seed}");
        let store = Arc::new(MemoryStore { simulation: name.clone(), ..MemoryStore::default() });
        Self { name, numbers, graph, rows, epoch_rows, store }
    }

    fn flow(&mut self, path: &str) -> String {
        let text = self.graph.replace("PATH", path).replace("ROWS", &self.rows.to_string());
        let batch_rows = 1 + self.numbers.below(60);
        let epochs = 1 + self.numbers.below(5);
        format!(
            "flow.epoch.rows = {}\ncheckpoint.epochs = {epochs}\n{}",
            self.epoch_rows,
            text.replace("BATCH", &batch_rows.to_string())
        )
    }

    /// Runs the flow once more. Whether it came to its end.
    async fn attempt(&mut self, last: bool) -> bool {
        let path = self.name.clone();
        let plan = plan(&self.flow(&path));
        let steps = (!last && self.numbers.below(4) > 0).then(|| self.numbers.below(120));
        crash::after(&self.name, steps);
        let vault = Vault::new(self.store.clone(), &plan.flow, "memory");
        let keeper = match Keeper::open(&plan, vault, &KeeperOptions::default()) {
            Ok(keeper) => keeper,
            Err(error) => {
                assert_eq!(error.to_string(), "crashed");
                return false;
            }
        };
        let running = match RunningFlow::start(plan, Effects::Keep(keeper), &Handle::current()) {
            Ok(running) => running,
            Err(error) => {
                assert_eq!(error.error.to_string(), "crashed");
                return false;
            }
        };
        let stopper = running.stopper();
        let patience = Duration::from_micros(self.numbers.below(2000));
        let stop = async {
            if steps.is_none() && !last {
                tokio::time::sleep(patience).await;
                stopper.drain();
            }
        };
        let (outcome, ()) = tokio::join!(running.join(), stop);
        match outcome.status {
            Status::Done => true,
            Status::Stopped => false,
            Status::Failed(error) => {
                assert!(error.to_string().ends_with("crashed"), "{}: {error}", self.name);
                false
            }
        }
    }

    async fn run(mut self) {
        let control = format!("{}control", self.name);
        let plan = plan(&self.flow(&control));
        RunningFlow::start(plan, Effects::Commit, &Handle::current()).unwrap().join().await;
        let mut attempts = 0;
        while !self.attempt(attempts > 12).await {
            attempts += 1;
            assert!(attempts < 20, "{} does not come through", self.name);
        }
        for output in ["rows", "bad"] {
            let expected = memory_text(&format!("{control}/{output}"));
            assert_eq!(committed_text(&format!("{}/{output}", self.name)), expected, "{}, `{output}`", self.name);
        }
        let keys = self.store.keys.lock().unwrap();
        let manifests = keys.keys().filter(|key| key.contains("/manifests/")).count();
        assert!(manifests <= 4, "{} manifests are left", self.name);
    }
}

fn simulate(seeds: std::ops::Range<u64>) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for seed in seeds {
        let outcome = runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(3600), Simulation::new(seed).run()).await });
        outcome.unwrap_or_else(|_| panic!("seed {seed} hangs"));
    }
}

#[test]
fn crashes_at_any_step_lose_nothing_and_repeat_nothing() {
    simulate(0..200);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn crashes_at_any_step_of_many_more_flows() {
    simulate(200..20_000);
}
