//! The engine under crashes: seeded, in virtual time, with a store and outputs in memory.
//!
//! Every simulation runs a flow again and again, each time with other batches, until a run comes through: crashed at a step
//! that the seed chooses, told to stop, taken over by another process, or left alone. What is committed then must be what a
//! run without interruption and without state gives, row by row; of live inputs, whose order differs, the same rows.

mod cadence;
mod edits;
mod graphs;
mod leaks;
mod numbers;
mod reckoned;
mod saboteurs;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use millstream_core::Role;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::crash::{self, MemoryStore};
use super::kinds::{committed_text, forget, lineages, published};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{FlowControl, Outcome, RunMode, RunningFlow, Status};
use graphs::{Graph, Pace};
use numbers::Numbers;
use tally::Tally;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    None,
    Crash,
    Stop,
    StopAndCrash,
    GiveUp,
    TakeOver,
    HandOver,
    HandOverAndCrash,
}

const DISTURBANCES: &[Disturbance] = &[
    Disturbance::None,
    Disturbance::Crash,
    Disturbance::Crash,
    Disturbance::Crash,
    Disturbance::Stop,
    Disturbance::Stop,
    Disturbance::StopAndCrash,
    Disturbance::GiveUp,
    Disturbance::TakeOver,
    Disturbance::TakeOver,
    Disturbance::HandOver,
    Disturbance::HandOver,
    Disturbance::HandOverAndCrash,
];

/// So many runs are disturbed at most.
const ATTEMPTS: usize = 12;

/// How a run ends that has been taken over.
const TAKEN_OVER: &str = "nothing more of this run counts";

/// How a run ends whose owner has written another checkpoint while it was prepared.
const OUTRUN: &str = "writes checkpoints faster";

struct Simulation<'t> {
    name: String,
    numbers: Numbers,
    graph: Graph,
    store: Arc<MemoryStore>,
    tally: &'t mut Tally,
    /// What may differ from run to run.
    pace: fn(&mut Numbers) -> Pace,
    /// What the last run had of that.
    last: Option<Pace>,
    /// Whether the run before has crashed.
    has_crashed: bool,
    /// The processors and outputs.
    nodes: Vec<(String, Role)>,
}

impl<'t> Simulation<'t> {
    fn new(name: &str, seed: u64, draw: impl Fn(&mut Numbers) -> Graph, tally: &'t mut Tally) -> Self {
        let mut numbers = Numbers::new(seed);
        let graph = draw(&mut numbers);
        let name = format!("{name}_{seed}");
        let store = Arc::new(MemoryStore { simulation: name.clone(), ..MemoryStore::default() });
        Self { name, numbers, graph, store, tally, pace: Pace::any, last: None, has_crashed: false, nodes: Vec::new() }
    }

    /// Runs the flow until it comes through.
    async fn run(mut self) -> Result<(), String> {
        let control = format!("{}_control", self.name);
        within_an_hour("without state", self.run_control(&control)).await?;
        for attempt in 0.. {
            let is_last = attempt >= ATTEMPTS;
            let disturbance = if is_last { Disturbance::None } else { *self.numbers.choose(DISTURBANCES) };
            let step = self.numbers.of_any_size();
            if within_an_hour(&format!("{disturbance:?}"), self.attempt(disturbance, step)).await? {
                if attempt == 0 && disturbance == Disturbance::None {
                    self.tally.add("came through undisturbed at once");
                }
                break;
            }
            if is_last {
                return Err("it does not come through".to_owned());
            }
        }
        self.compare(&control)
    }

    async fn run_control(&mut self, name: &str) -> Result<(), String> {
        let plan = self.graph.plan(name, &(self.pace)(&mut self.numbers));
        let running =
            RunningFlow::start(plan, RunMode::Commit { remove_published: false }, &Handle::current()).unwrap();
        match running.join().await.status {
            Status::Done => Ok(()),
            other => Err(format!("without state: {other:?}")),
        }
    }

    /// Runs the flow without interruption, to compare others with.
    async fn run_once(mut self, name: &str) -> Result<(), String> {
        within_an_hour("without state", self.run_control(name)).await
    }

    /// Runs the flow until it crashes at a step, and then to its end. Whether it comes to that step. It has run without
    /// interruption under the name `control`.
    async fn run_crashed_at(mut self, step: u64, control: &str) -> Result<bool, String> {
        let has_crashed = !within_an_hour("a crash", self.attempt(Disturbance::Crash, step)).await?;
        if has_crashed && !within_an_hour("a crash, and another run", self.attempt(Disturbance::None, 0)).await? {
            return Err("it does not come through".to_owned());
        }
        self.compare(control).map(|()| has_crashed)
    }

    /// Runs the flow once more, and disturbs it at a step. Whether it came to its end.
    async fn attempt(&mut self, disturbance: Disturbance, step: u64) -> Result<bool, String> {
        crash::begin(&self.name);
        if disturbance == Disturbance::Crash {
            crash::after(&self.name, step);
        }
        let Some((_, running)) = self.start()? else { return Ok(false) };
        let taken_over = self.store.highest("/manifests/");
        self.prepare(disturbance, step, running.control());
        let outcome = match disturbance {
            Disturbance::TakeOver => self.take_over(step, running).await?,
            Disturbance::HandOver | Disturbance::HandOverAndCrash => self.hand_over(step, running).await?,
            _ => Some(running.join().await),
        };
        let Some(outcome) = outcome else { return Ok(false) };
        self.count(disturbance, &outcome, taken_over);
        self.judge(disturbance, outcome)
    }

    /// Lets the flow go on in place of itself, if it comes to a step; some of its nodes as they are.
    async fn hand_over(&mut self, step: u64, running: RunningFlow) -> Result<Option<Outcome>, String> {
        let (tell, told) = oneshot::channel();
        crash::then(&self.name, step, move || _ = tell.send(()));
        let pace = self.last.clone().filter(|_| self.numbers.one_in(2));
        let pace = pace.unwrap_or_else(|| (self.pace)(&mut self.numbers));
        let mut plan = self.graph.plan(&self.name, &pace);
        let (control, mut ended) = (running.control(), std::pin::pin!(running.join()));
        let outcome = tokio::select! {
            biased;
            Ok(()) = told => {
                let kept = control.build(&mut plan).map_err(|error| error.to_string())?;
                kept.into_iter().for_each(|kept| control.hand_over(kept));
                ended.await
            }
            outcome = &mut ended => outcome,
        };
        let Outcome { handed_over: Some(handed_over), .. } = outcome else { return Ok(Some(outcome)) };
        self.tally.add("handed over");
        match handed_over.go_on(plan, &ResumeOptions::default()) {
            Ok(ready) => Ok(Some(ready.start(&Handle::current()).join().await)),
            Err(error) if error.to_string().ends_with("crashed") => {
                self.count_crash();
                Ok(None)
            }
            Err(error) => Err(format!("it does not go on: {error}")),
        }
    }

    /// Starts the flow where it was. None if it crashed.
    fn start(&mut self) -> Result<Option<(FlowCheckpoints, RunningFlow)>, String> {
        let pace = (self.pace)(&mut self.numbers);
        let plan = self.graph.plan(&self.name, &pace);
        self.last = Some(pace);
        let nodes = plan.nodes.iter().filter(|node| node.role() != Role::Input);
        self.nodes = nodes.map(|node| (node.name.clone(), node.role())).collect();
        let checkpoint_store = CheckpointStore::new(self.store.clone(), &plan.flow, "memory");
        let opened = FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default())
            .map_err(|error| error.to_string());
        let started = opened.and_then(|checkpoints| {
            let running = RunningFlow::start(plan, RunMode::Keep(checkpoints.clone()), &Handle::current());
            Ok((checkpoints, running.map_err(|error| error.to_string())?))
        });
        match started {
            Ok(started) => Ok(Some(started)),
            Err(error) if error.ends_with("crashed") => {
                self.count_crash();
                self.tally.add("crashed in recovery");
                Ok(None)
            }
            Err(error) => Err(format!("it does not start: {error}")),
        }
    }

    fn prepare(&mut self, disturbance: Disturbance, step: u64, control: FlowControl) {
        match disturbance {
            Disturbance::Stop => crash::then(&self.name, step, move || control.stop()),
            Disturbance::StopAndCrash => {
                crash::then(&self.name, step, move || control.stop());
                crash::after(&self.name, step + 1 + self.numbers.below(20));
            }
            Disturbance::GiveUp => crash::then(&self.name, step, move || control.give_up()),
            Disturbance::HandOverAndCrash => crash::after(&self.name, step + 1 + self.numbers.below(40)),
            Disturbance::None | Disturbance::Crash | Disturbance::TakeOver | Disturbance::HandOver => {}
        }
    }

    /// Lets another process take the flow over, if it comes to a step. That one runs undisturbed.
    async fn take_over(&mut self, step: u64, running: RunningFlow) -> Result<Option<Outcome>, String> {
        let (tell, told) = oneshot::channel();
        crash::then(&self.name, step, move || _ = tell.send(()));
        let first = tokio::spawn(running.join());
        tokio::pin!(first);
        tokio::select! {
            biased;
            Ok(()) = told => {}
            outcome = &mut first => return Ok(Some(outcome.unwrap())),
        }
        let started = match self.start() {
            // The first run has written a checkpoint while the second one read the one before.
            Err(error) if error.ends_with(TAKEN_OVER) || error.contains(OUTRUN) => self.start()?,
            started => started?,
        };
        let Some((checkpoints, second)) = started else { return Ok(None) };
        let was_done = checkpoints.is_done();
        let (first, second) = tokio::join!(first, second.join());
        match first.unwrap().status {
            Status::Done if was_done => self.tally.add("taken over near its end"),
            Status::Failed(error) if error.to_string().ends_with(TAKEN_OVER) => self.tally.add("taken over"),
            other => return Err(format!("the first run was taken over, and then: {other:?}")),
        }
        Ok(Some(second))
    }

    fn judge(&self, disturbance: Disturbance, outcome: Outcome) -> Result<bool, String> {
        let may_crash =
            matches!(disturbance, Disturbance::Crash | Disturbance::StopAndCrash | Disturbance::HandOverAndCrash);
        let may_stop = matches!(disturbance, Disturbance::Stop | Disturbance::StopAndCrash);
        match outcome.status {
            Status::Done => Ok(true),
            Status::Stopped if may_stop => Ok(false),
            Status::Failed(error) if may_crash && error.to_string().ends_with("crashed") => Ok(false),
            Status::Failed(error)
                if disturbance == Disturbance::GiveUp && error.to_string().contains("interrupted") =>
            {
                Ok(false)
            }
            other => Err(format!("{disturbance:?}, and then: {other:?}")),
        }
    }

    /// Counts what has come of a disturbance.
    fn count(&mut self, disturbance: Disturbance, outcome: &Outcome, taken_over: Option<u64>) {
        let (manifest, committed) = (self.store.highest("/manifests/"), self.store.highest("/commits/"));
        if self.store.has("/blobs/", "") {
            self.tally.add("had a blob");
        }
        if self.store.has("/manifests/", "\"phase\":\"waiting\"") && !matches!(outcome.status, Status::Done) {
            self.tally.add("an input waited when it was disturbed");
        }
        match &outcome.status {
            Status::Done => self.has_crashed = false,
            Status::Stopped => {
                self.has_crashed = false;
                self.tally.add("stopped");
            }
            Status::Failed(_) if disturbance == Disturbance::GiveUp => self.tally.add("gave up"),
            Status::Failed(_) => {
                self.count_crash();
                if committed < taken_over {
                    self.tally.add("crashed in recovery");
                } else if committed < manifest {
                    self.tally.add("crashed with a manifest whose effects are not visible");
                }
                if disturbance == Disturbance::StopAndCrash {
                    self.tally.add("crashed while it was to stop");
                }
            }
        }
    }

    fn count_crash(&mut self) {
        self.tally.add("crashed");
        if std::mem::replace(&mut self.has_crashed, true) {
            self.tally.add("crashed again at once");
        }
    }

    /// Compares what is committed with what a run without interruption gives.
    fn compare(&mut self, control: &str) -> Result<(), String> {
        for (node, role) in &self.nodes {
            let of = |flow: &str| if *role == Role::Output { self.rows(flow, node) } else { made(flow, node) };
            let (got, expected) = (of(&self.name), of(control));
            if got != expected {
                return Err(format!("`{node}` has\n{got}\ninstead of\n{expected}"));
            }
        }
        let manifests = self.store.keys.lock().unwrap().keys().filter(|key| key.contains("/manifests/")).count();
        // One may have been written by a run that had been taken over.
        if manifests > 4 + 1 { Err(format!("{manifests} manifests are left")) } else { Ok(()) }
    }

    fn rows(&self, flow: &str, output: &str) -> String {
        let text = committed_text(&format!("{flow}/{output}"));
        // Of several partitions, rejected rows come in another order than the others, if a batch has no others.
        if !self.graph.is_live && !text.starts_with("node:utf8 error:utf8") {
            return text;
        }
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

/// The versions that a node has published, and what those of a node that makes a model have learned of.
fn made(flow: &str, node: &str) -> String {
    format!("{}, {:?}", published(flow, node), lineages(flow, node))
}

/// Waits for something that in virtual time takes no longer, unless it hangs.
async fn within_an_hour<T>(what: &str, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(Duration::from_secs(3600), work).await;
    done.unwrap_or_else(|_| Err(format!("{what}, and then it hangs")))
}

/// Runs one simulation. The error says what is wrong.
fn simulate(simulation: Simulation<'_>) -> Result<(), String> {
    simulate_with(simulation, |simulation| simulation.run().boxed_local())
}

fn simulate_with<'t, T>(
    simulation: Simulation<'t>,
    run: impl FnOnce(Simulation<'t>) -> LocalBoxFuture<'t, Result<T, String>>,
) -> Result<T, String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (graph, simulated) = (simulation.graph.clone(), simulation.name.clone());
    let outcome = runtime.block_on(run(simulation));
    forget(&simulated);
    forget(&format!("{simulated}_control"));
    outcome.map_err(|error| format!("{simulated}: {error}\n{graph:?}"))
}

fn simulate_all(seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    let wrong = |seed| simulate(Simulation::new("simulation", seed, Graph::any, &mut tally)).err();
    let wrong: Vec<String> = seeds.filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n").replace("\\n", "\n"));
    tally
}

#[test]
fn crashes_at_any_step_lose_nothing_and_repeat_nothing() {
    let mut tally = simulate_all(0..160);
    // Where a crash falls depends on threads as well as on the seed, so that what is rare may take some more.
    for more in 1..10 {
        if tally.lacks(1).is_empty() {
            break;
        }
        tally.add_all(simulate_all(more * 160..(more + 1) * 160));
    }
    tally.check(1);
}

/// A simulation of a flow whose outputs come to barriers long after the others.
fn with_slow_outputs<'t>(name: &str, seed: u64, graph: &Graph, tally: &'t mut Tally) -> Simulation<'t> {
    Simulation { pace: Pace::with_slow_outputs, ..Simulation::new(name, seed, |_| graph.clone(), tally) }
}

/// Crashes a flow with inputs that wait at each of its steps, so many times.
///
/// An input that waits may come to its end while the checkpoint of a barrier is gathered that lies before its first row.
fn crash_gated(number: usize, times: u64) {
    crash_at_each_step(&format!("gates{number}"), &Graph::gated(number), times);
}

/// Crashes a flow with slow outputs at each of its steps, so many times.
fn crash_at_each_step(name: &str, graph: &Graph, times: u64) {
    for time in 0..times {
        let crashed = try_crash_at_each_step(&format!("{name}_{times}_{time}"), graph, time << 32, |_| {});
        crashed.unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// Crashes a flow with slow outputs at each of its steps. The error says what is wrong behind the first crash that something is wrong
/// behind. Their seeds count from `first` on; `prepare` is told the name of each simulation before it begins.
fn try_crash_at_each_step(name: &str, graph: &Graph, first: u64, prepare: impl Fn(&str)) -> Result<(), String> {
    let mut tally = Tally::default();
    let control = format!("{name}_control");
    let once = with_slow_outputs(&control, 0, graph, &mut tally);
    simulate_with(once, |once| once.run_once(&control).boxed_local())?;
    let mut crash_at = |step| {
        let crashed = with_slow_outputs(name, first + step, graph, &mut tally);
        prepare(&crashed.name);
        let ran = simulate_with(crashed, |crashed| crashed.run_crashed_at(step, &control).boxed_local());
        ran.map_err(|wrong| format!("a crash at step {step}: {wrong}"))
    };
    let mut step = 0;
    while crash_at(step)? {
        step += 1;
    }
    assert!(step > 20, "{graph:?} has hardly any steps");
    forget(&control);
    Ok(())
}

#[test]
fn a_crash_at_each_step_of_a_sequence() {
    crash_gated(0, 1);
}

#[test]
fn a_crash_at_each_step_of_a_sequence_with_a_model() {
    crash_gated(1, 1);
}

#[test]
fn a_crash_at_each_step_of_a_side_input_and_a_sequence() {
    crash_gated(2, 1);
}

#[test]
fn a_crash_at_each_step_of_two_side_inputs() {
    crash_gated(3, 1);
}

#[test]
fn a_crash_at_each_step_of_a_flow_that_asks_others() {
    crash_at_each_step("asking", &Graph::asking(), 1);
}

#[test]
fn a_crash_at_each_step_of_a_flow_in_which_rows_wait() {
    crash_at_each_step("waiting", &Graph::of_waiting(20, 20), 1);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn a_crash_at_each_step_of_many_runs_of_flows_with_gates() {
    (0..Graph::GATED).for_each(|number| crash_gated(number, 20));
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn crashes_at_any_step_of_many_more_flows() {
    simulate_all(80..20_000).check(100);
}
