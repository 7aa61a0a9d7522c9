//! `millstream run`: runs flows in the foreground until their inputs end.

use std::time::Duration;

use clap::Args;
use millstream_core::{Error, PortRole, ResultExt};
use millstream_engine::file::{Diagnostic, Diagnostics};
use millstream_engine::plan::{Plan, PlannedBody, PlannedNode};
use millstream_engine::run::{FlowControl, FlowError, Outcome as FlowOutcome, PreparedFlow, ReadyFlow, Status};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::console::Console;
use crate::exit::{CommandError, Exit, Outcome};
use crate::flow_files::FlowsArguments;
use crate::interrupts::Interrupts;
use crate::state::StateArguments;
use crate::summary::{self, Ended, given_up};
use crate::take_over::take_over;
use crate::terminal::note;
use crate::workplace::{Workplace, control_runtime, data_runtime};

/// What `run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The flows.
    #[command(flatten)]
    pub flows: FlowsArguments,
    /// What is kept of the flows.
    #[command(flatten)]
    pub state: StateArguments,
    /// How many threads the nodes share. Default: one a core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print one line of JSON a flow instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Print the first rows that leave a node (`NODE` or `NODE.PORT`).
    #[arg(long, value_name = "NODE")]
    pub show: Vec<String>,
    /// How many rows `--show` prints of each node.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show_rows: u64,
}

/// `millstream run`
pub fn run(arguments: RunArguments) -> Outcome {
    let control = control_runtime()?;
    // Before anything that takes time, so that a signal never ends the process without what it promises.
    let interrupts = Interrupts::listen(&control);
    let data = data_runtime(arguments.threads)?;
    let ended = control.block_on(prepare_and_run(interrupts, data.handle(), &arguments));
    // A node may still compute, or sit in a system call that never returns, such as reading a terminal; so may a plan.
    data.shutdown_background();
    control.shutdown_background();
    let ended = ended?;
    ended.iter().for_each(|flow| summary::print(flow, arguments.json));
    Ok(exit(&ended))
}

/// The worst of how the flows have ended.
fn exit(ended: &[Ended]) -> Exit {
    let any = |is: fn(&FlowOutcome) -> bool| ended.iter().any(|flow| is(&flow.outcome));
    match () {
        () if any(|outcome| matches!(outcome.status, Status::Failed(_))) => Exit::Failed,
        () if any(|outcome| outcome.unfinished) => Exit::Unfinished,
        () => Exit::Done,
    }
}

/// Plans all flows, or says all that is wrong with any.
fn plan_all(workplace: &Workplace, arguments: &RunArguments) -> Result<Vec<Plan>, CommandError> {
    let mut diagnostics = Diagnostics::default();
    let mut plans = Vec::new();
    for flow in &arguments.flows.flows {
        let planned = workplace.plan_resumed(flow, &sets(arguments), &arguments.state);
        match planned.and_then(|plan| arguments.state.met(flow, plan)) {
            Ok(plan) => plans.push(plan),
            Err(more) => {
                let more: Diagnostics = more.into_iter().map(|wrong| asked(wrong, arguments)).collect();
                if arguments.json {
                    summary::print_unchecked(flow, &more);
                }
                diagnostics.extend(more);
            }
        }
    }
    if diagnostics.is_empty() { Ok(plans) } else { Err(diagnostics.into()) }
}

/// The changes to a flow: those of the command line, and an output for every node that is to be shown.
fn sets(arguments: &RunArguments) -> Vec<String> {
    let shown = arguments.show.iter().map(|node| show(node, arguments));
    arguments.flows.sets.iter().cloned().chain(shown).collect()
}

/// An output for a node that is to be shown.
fn show(node: &str, arguments: &RunArguments) -> String {
    let stream = if arguments.json { "stderr" } else { "stdout" };
    let rows = arguments.show_rows;
    let name = format!("show_{}", node.replace('.', "_"));
    format!(
        r#"output.{name}={{ type = "stdout", from = "{node}", format = "table", rows = {rows}, stream = "{stream}" }}"#
    )
}

/// What is wrong with an output of `--show`, at what was written for it.
fn asked(wrong: Diagnostic, arguments: &RunArguments) -> Diagnostic {
    let set = wrong.path.strip_prefix("--set ");
    let node = set.and_then(|set| arguments.show.iter().find(|node| show(node, arguments) == set));
    match node {
        Some(node) => Diagnostic { path: format!("--show {node}"), ..wrong },
        None => wrong,
    }
}

/// What is said of a flow while it runs.
struct Shown {
    flow: String,
    kinds: Vec<&'static str>,
    hidden: Vec<bool>,
    places: Vec<Option<String>>,
    unread: Vec<Vec<String>>,
    rows: Option<u64>,
    is_live: bool,
}

/// Prepares all flows, then takes over the states from which they are resumed. No other process has lost a flow to this one
/// when one of them can't be prepared, and none has begun when one of them can't.
fn prepare_all(
    plans: Vec<Plan>,
    workplace: &Workplace,
    arguments: &RunArguments,
) -> Result<Vec<(Shown, ReadyFlow)>, CommandError> {
    let names: Vec<String> = plans.iter().map(|plan| plan.flow.clone()).collect();
    let unstarted = |name: &str, error: FlowError| {
        if arguments.json {
            names.iter().for_each(|flow| summary::print_unstarted(flow, name, &error));
        }
        match names.len() {
            1 => Error::new(error.to_string()),
            _ => Error::new(format!("flow `{name}`: {error}; no flow was started")),
        }
    };
    let mut prepared = Vec::with_capacity(plans.len());
    for (plan, name) in plans.into_iter().zip(&names) {
        prepared.push(prepare(plan, arguments).map_err(|error| unstarted(name, error))?);
    }
    let mut ready = Vec::with_capacity(prepared.len());
    for ((shown, flow), path) in prepared.into_iter().zip(&arguments.flows.flows) {
        let again = || workplace.plan_resumed(path, &sets(arguments), &arguments.state);
        let flow = take_over(flow, again)?.map_err(|error| unstarted(&shown.flow, error))?;
        ready.push((shown, flow));
    }
    Ok(ready)
}

fn prepare(plan: Plan, arguments: &RunArguments) -> Result<(Shown, PreparedFlow), FlowError> {
    for warning in &plan.warnings {
        note!("warning: {}: {warning}", plan.flow);
    }
    let kinds = plan.nodes.iter().map(|node| node.kind).collect();
    let hidden = plan.nodes.iter().map(|node| node.hidden).collect();
    let places = plan.nodes.iter().map(place).collect();
    let unread = plan.nodes.iter().map(unread_sides).collect();
    let (flow, rows, is_live) = (plan.flow.clone(), known_rows(&plan), !plan.is_finite());
    let shown = Shown { flow, kinds, hidden, places, unread, rows, is_live };
    let (effects, notes) = arguments.state.effects(&plan).map_err(|error| FlowError { node: None, error })?;
    notes.iter().for_each(|line| note!("{line}"));
    Ok((shown, PreparedFlow::new(plan, effects)?))
}

/// Plans and prepares all flows, and runs them. One that is interrupted before it has begun is stopped when it begins.
async fn prepare_and_run(
    mut interrupts: Interrupts,
    data: &Handle,
    arguments: &RunArguments,
) -> Result<Vec<Ended>, CommandError> {
    let prepared = {
        let mut arguments = arguments.clone();
        tokio::task::spawn_blocking(move || {
            let workplace = Workplace::here()?;
            arguments.flows.flows = arguments.flows.files()?;
            prepare_all(plan_all(&workplace, &arguments)?, &workplace, &arguments)
        })
    };
    tokio::pin!(prepared);
    let ready = loop {
        tokio::select! {
            ready = &mut prepared => break ready.doing(|| "preparing the flows")??,
            () = interrupts.next() => if interrupts.count > 1 {
                return Err(Error::new("interrupted before a flow has begun; nothing has been read").into());
            }
        }
    };
    run_all(ready, interrupts, data, arguments).await
}

async fn run_all(
    ready: Vec<(Shown, ReadyFlow)>,
    mut interrupts: Interrupts,
    data: &Handle,
    arguments: &RunArguments,
) -> Result<Vec<Ended>, CommandError> {
    let console = Console::new(arguments.json);
    let is_durable = arguments.state.state.is_some();
    let mut controls = Vec::new();
    let mut flows = JoinSet::new();
    for (number, (Shown { flow, kinds, hidden, places, unread, rows, is_live }, ready)) in ready.into_iter().enumerate()
    {
        let running = ready.start(data);
        let stats = running.stats();
        controls.push(running.control());
        let progress = console.flow(&flow, rows, is_live, stats.clone());
        flows.spawn(async move {
            let outcome = tokio::select! {
                outcome = running.join() => outcome,
                never = progress.draw() => match never {},
            };
            (number, Ended { flow, kinds, hidden, places, unread, stats, outcome, is_durable })
        });
    }
    if interrupts.count > 0 {
        stop(&controls, interrupts.count, is_durable);
    }
    let mut ended = Vec::new();
    loop {
        tokio::select! {
            joined = flows.join_next() => match joined {
                Some(joined) => ended.push(joined.doing(|| "waiting for a flow")?),
                None => break,
            },
            () = interrupts.next() => stop(&controls, interrupts.count, is_durable),
            () = tokio::time::sleep(PATIENCE), if interrupts.count > 1 => {
                return Err(Error::new("a node does not end; what it had staged may be left behind").into());
            }
        }
    }
    ended.sort_by_key(|(number, _)| *number);
    Ok(ended.into_iter().map(|(_, flow)| flow).collect())
}

/// How long nodes have to remove what they staged when a flow is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first signal stops; the second gives up.
fn stop(controls: &[FlowControl], interrupts: usize, is_durable: bool) {
    // Said when it is done, so that it holds by the time somebody reads it.
    if interrupts == 1 {
        controls.iter().for_each(FlowControl::stop);
        if controls.iter().any(FlowControl::commits) {
            note!("stopping: finishing what was read; interrupt again to give up")
        } else {
            note!("stopping: nothing is committed")
        }
    } else {
        controls.iter().for_each(FlowControl::give_up);
        note!("giving up: {}", given_up(is_durable));
    }
}

/// Where the committed rows of a node are, if it is an output with a place.
fn place(node: &PlannedNode) -> Option<String> {
    match &node.body {
        PlannedBody::Output { place, .. } => place.clone(),
        _ => None,
    }
}

/// The side ports of a node that nobody reads, such as `late`.
fn unread_sides(node: &PlannedNode) -> Vec<String> {
    let unread = node.ports.iter().filter(|port| port.role == PortRole::Side && port.edges.is_empty());
    unread.map(|port| port.name.clone()).collect()
}

/// How many rows all inputs have together, if each knows.
fn known_rows(plan: &Plan) -> Option<u64> {
    let inputs = plan.nodes.iter().filter_map(|node| match node.body {
        PlannedBody::Input { rows, .. } => Some(rows),
        _ => None,
    });
    inputs.sum()
}
