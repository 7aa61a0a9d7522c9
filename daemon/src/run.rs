//! `millstream run`: runs flows in the foreground until their inputs end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::{Error, ResultExt};
use millstream_engine::file::Diagnostics;
use millstream_engine::plan::{Plan, PlannedBody};
use millstream_engine::run::{FlowError, Outcome as FlowOutcome, RunningFlow, Status, Stopper};
use millstream_engine::stats::FlowStats;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::cli::{CommandError, Exit, Outcome, RunArguments};
use crate::console::Console;
use crate::summary;
use crate::workplace::{Workplace, control_runtime, data_runtime};

/// A flow that has ended.
pub struct Ended {
    /// The flow's name.
    pub flow: String,
    /// Its nodes and their types, in the order of the counters.
    pub kinds: Vec<&'static str>,
    /// Its counters and reports.
    pub stats: Arc<FlowStats>,
    /// How it ended.
    pub outcome: FlowOutcome,
    /// Whether it keeps state, from which it can go on.
    pub is_durable: bool,
}

/// `millstream run`
pub fn run(arguments: RunArguments) -> Outcome {
    let workplace = Workplace::here()?;
    let plans = plan_all(&workplace, &arguments)?;
    let data = data_runtime(arguments.threads)?;
    let control = control_runtime()?;
    let ended = control.block_on(run_all(plans, data.handle(), &arguments));
    // A node may still compute, or sit in a system call that never returns, such as reading a terminal.
    data.shutdown_background();
    let ended = ended?;
    let mut exit = Exit::Done;
    for flow in &ended {
        summary::print(flow, arguments.json);
        if matches!(flow.outcome.status, Status::Failed(_)) {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// Plans all flows, or says all that is wrong with any.
fn plan_all(workplace: &Workplace, arguments: &RunArguments) -> Result<Vec<Plan>, CommandError> {
    let mut diagnostics = Diagnostics::default();
    let mut plans = Vec::new();
    for flow in &arguments.flows.flows {
        match workplace.plan(flow, &sets(arguments)) {
            Ok(plan) => plans.push(plan),
            Err(more) => {
                if arguments.json {
                    summary::print_unchecked(flow, &more);
                }
                diagnostics.extend(more);
            }
        }
    }
    match diagnostics.is_empty() {
        true => Ok(plans),
        false => Err(diagnostics.into()),
    }
}

/// The changes to a flow: those of the command line, and an output for every node that is to be shown.
fn sets(arguments: &RunArguments) -> Vec<String> {
    let stream = if arguments.json { "stderr" } else { "stdout" };
    let rows = arguments.show_rows;
    let shown = arguments.show.iter().map(|node| {
        let name = format!("show_{}", node.replace('.', "_"));
        format!(r#"output.{name}={{ type = "stdout", from = "{node}", format = "table", rows = {rows}, stream = "{stream}" }}"#)
    });
    arguments.flows.sets.iter().cloned().chain(shown).collect()
}

async fn run_all(plans: Vec<Plan>, data: &Handle, arguments: &RunArguments) -> Result<Vec<Ended>, CommandError> {
    let quiet = arguments.json;
    let console = Console::new(quiet);
    let is_durable = arguments.state.state.is_some();
    let mut stoppers = Vec::new();
    let mut flows = JoinSet::new();
    for (place, plan) in plans.into_iter().enumerate() {
        for warning in &plan.warnings {
            eprintln!("warning: {}: {warning}", plan.flow);
        }
        let (flow, rows) = (plan.flow.clone(), known_rows(&plan));
        let kinds = plan.nodes.iter().map(|node| node.kind).collect();
        let effects = arguments.state.effects(&plan).map_err(|error| FlowError { node: None, error });
        let running = effects.and_then(|effects| RunningFlow::start(plan, effects, data)).map_err(|error| {
            if quiet {
                summary::print_unstarted(&flow, &error);
            }
            Error::new(error.to_string())
        })?;
        let stats = running.stats();
        stoppers.push(running.stopper());
        let progress = console.flow(&flow, rows, stats.clone());
        flows.spawn(async move {
            let outcome = tokio::select! {
                outcome = running.join() => outcome,
                never = progress.draw() => match never {},
            };
            (place, Ended { flow, kinds, stats, outcome, is_durable })
        });
    }
    let mut ended = Vec::new();
    let (mut signals, mut interrupts) = (Interrupts::listen(), 0);
    loop {
        tokio::select! {
            joined = flows.join_next() => match joined {
                Some(joined) => ended.push(joined.doing(|| "waiting for a flow")?),
                None => break,
            },
            () = signals.next() => {
                interrupts += 1;
                stop(&stoppers, interrupts, is_durable);
            }
            () = tokio::time::sleep(PATIENCE), if interrupts > 1 => {
                return Err(Error::new("a node does not end; what it had staged may be left behind").into());
            }
        }
    }
    ended.sort_by_key(|(place, _)| *place);
    Ok(ended.into_iter().map(|(_, flow)| flow).collect())
}

/// How long nodes have to remove what they staged when a flow is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// `timeout` signals a process and then its group, so that one signal comes twice at once. People who give up are slower.
const ECHO: Duration = Duration::from_secs(1);

/// The first signal drains; the second gives up.
fn stop(stoppers: &[Stopper], interrupts: usize, is_durable: bool) {
    // Said when it is done, so that it holds by the time somebody reads it.
    if interrupts == 1 {
        stoppers.iter().for_each(Stopper::drain);
        eprintln!("stopping: finishing what was read; interrupt again to give up");
    } else {
        stoppers.iter().for_each(Stopper::give_up);
        eprintln!("giving up: {}", given_up(is_durable));
    }
}

/// What becomes of a flow that did not end well.
pub fn given_up(is_durable: bool) -> &'static str {
    match is_durable {
        true => "what its last checkpoint has decided stays, and it goes on from there when it is run again",
        false => "nothing is committed",
    }
}

/// Ctrl-C, and the signal that service managers send. Listened to from the start, so that none is missed while another
/// one is acted on.
struct Interrupts {
    signals: Vec<Signal>,
    /// When the first one came.
    first: Option<Instant>,
}

impl Interrupts {
    fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        // Where a signal can't be listened to, it ends the process as it would any other.
        Self { signals: kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect(), first: None }
    }

    /// Waits for the next signal that is no echo of the first one.
    async fn next(&mut self) {
        self.receive().await;
        while self.first.is_some_and(|first| first.elapsed() < ECHO) {
            self.receive().await;
        }
        self.first.get_or_insert_with(Instant::now);
    }

    async fn receive(&mut self) {
        match self.signals.as_mut_slice() {
            [interrupt, terminate] => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            [one] => _ = one.recv().await,
            _ => std::future::pending().await,
        }
    }
}

/// How many rows all inputs have together, if each knows.
fn known_rows(plan: &Plan) -> Option<u64> {
    let inputs = plan.nodes.iter().filter_map(|node| match node.body {
        PlannedBody::Input { rows, .. } => Some(rows),
        _ => None,
    });
    inputs.sum()
}
