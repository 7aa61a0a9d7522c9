//! A flow as a function: requests go on to its inputs that take rows by HTTP.

use std::path::Path;
use std::time::Duration;

use millstream_admin::function::forward;
use millstream_core::{Error, HttpEndpoint, Result, ResultExt as _};
use millstream_engine::plan::{Plan, PlannedBody, PlannedNode};
use millstream_engine::run::{Outcome as FlowOutcome, PreparedFlow, ReadyFlow, RunningFlow, Status};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::FunctionArguments;
use super::front::Front;
use crate::exit::{CommandError, Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::logging;
use crate::state::StateArguments;
use crate::take_over::take_over;
use crate::terminal::note;
use crate::workplace::{Workplace, data_runtime};

/// How long it is waited before it is looked again whether the flow listens.
const MOMENT: Duration = Duration::from_millis(2);

/// Runs the flow until it is told to end.
pub fn run(arguments: &FunctionArguments) -> Outcome {
    let settings = arguments.config.settings()?;
    logging::start(&settings.log, false);
    let runtime = Builder::new_multi_thread().thread_name("serve").enable_all().build();
    let runtime = runtime.doing(|| "starting the threads that serve")?;
    let interrupts = Interrupts::listen(&runtime);
    let data = data_runtime(None)?;
    let state = State::of(arguments)?;
    let (flow, endpoints) = prepare(arguments, &state.arguments)?;
    let running = flow.start(data.handle());
    let ran = runtime.block_on(serve(arguments, running, endpoints, interrupts));
    data.shutdown_background();
    runtime.shutdown_background();
    ended(ran?)
}

/// Where the flow keeps its state.
struct State {
    arguments: StateArguments,
    /// The folder, if it goes with the process.
    _temporary: Option<TempDir>,
}

impl State {
    fn of(arguments: &FunctionArguments) -> Result<Self> {
        if let Some(location) = &arguments.state {
            return Ok(Self { arguments: StateArguments::at(location.clone()), _temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("millstream-").tempdir();
        let temporary = temporary.doing(|| "making a folder for what the flow keeps while it runs")?;
        let arguments = StateArguments::at(temporary.path().display().to_string());
        Ok(Self { arguments, _temporary: Some(temporary) })
    }
}

/// The flow, ready to start, and where its inputs will take rows.
fn prepare(
    arguments: &FunctionArguments,
    state: &StateArguments,
) -> Result<(ReadyFlow, Vec<HttpEndpoint>), CommandError> {
    let (workplace, file) = (Workplace::here()?, Path::new(&arguments.target));
    let plan = || workplace.plan_resumed(file, &arguments.sets, state);
    let planned = state.met(file, plan()?)?;
    planned.warnings.iter().for_each(|warning| note!("warning: {}: {warning}", planned.flow));
    let endpoints = endpoints(&planned)?;
    check_outputs(&planned, arguments)?;
    let (mode, notes) = state.effects(&planned)?;
    notes.iter().for_each(|line| note!("{line}"));
    let failed = |error| Error::new(format!("{error}"));
    let prepared = PreparedFlow::new(planned, mode).map_err(failed)?;
    Ok((take_over(prepared, plan)?.map_err(failed)?, endpoints))
}

/// Where the inputs of a flow take rows by HTTP.
fn endpoints(plan: &Plan) -> Result<Vec<HttpEndpoint>, CommandError> {
    let mut endpoints: Vec<HttpEndpoint> = Vec::new();
    for node in &plan.nodes {
        let PlannedBody::Input { endpoint: Some(endpoint), .. } = &node.body else { continue };
        let wrong = |what: &str| {
            let message = format!("input `{}` of flow `{}` {what}", node.name, plan.flow);
            Err(CommandError::Usage(message))
        };
        if endpoint.address.port() == 0 {
            return wrong("listens at any port, and it has to be known which: say one that is free");
        }
        if endpoint.is_encrypted {
            return wrong("listens with `tls`; in a function the platform has the encryption, so leave that out");
        }
        if endpoints.iter().any(|other| other.path == endpoint.path) {
            return wrong(&format!(
                "takes rows at the path `{}`, as another one does; in a function each needs its own",
                endpoint.path
            ));
        }
        endpoints.push(endpoint.clone());
    }
    if endpoints.is_empty() {
        let message = format!(
            "flow `{}` has no input that takes rows by HTTP, such as `http_listen`: nobody could ask the function",
            plan.flow
        );
        return Err(CommandError::Usage(message));
    }
    Ok(endpoints)
}

/// Refuses outputs whose files the next run of the function would not know, since it begins from scratch. Refused rows add up in any case.
fn check_outputs(plan: &Plan, arguments: &FunctionArguments) -> Result<(), CommandError> {
    let publishes =
        |node: &&PlannedNode| !node.hidden && matches!(node.body, PlannedBody::Output { writes: Some(_), .. });
    match plan.nodes.iter().find(publishes) {
        Some(node) if arguments.state.is_none() => Err(CommandError::Usage(format!(
            "output `{}` of flow `{}` publishes files, and has to know later which are its own: keep its state with `--state DIR`",
            node.name, plan.flow
        ))),
        _ => Ok(()),
    }
}

/// Has requests answered as soon as the flow listens, until it ends or is told to.
async fn serve(
    arguments: &FunctionArguments,
    running: RunningFlow,
    endpoints: Vec<HttpEndpoint>,
    mut interrupts: Interrupts,
) -> Result<FlowOutcome> {
    let control = running.control();
    let mut flow = Box::pin(running.join());
    let front = tokio::select! {
        outcome = &mut flow => return Ok(outcome),
        () = interrupts.next() => None,
        () = listens(&endpoints) => Some(Front::start(arguments, forward(endpoints.clone())).await),
    };
    if let Some(front) = front.transpose()? {
        tokio::select! {
            outcome = &mut flow => return Ok(outcome),
            () = interrupts.next() => {}
        }
        front.leave(arguments, &mut interrupts).await;
    }
    control.stop();
    tokio::select! {
        outcome = &mut flow => Ok(outcome),
        () = interrupts.next() => {
            control.give_up();
            Ok(flow.await)
        }
    }
}

/// Waits until all of them take connections.
async fn listens(endpoints: &[HttpEndpoint]) {
    for endpoint in endpoints {
        while TcpStream::connect(endpoint.address).await.is_err() {
            sleep(MOMENT).await;
        }
    }
}

fn ended(outcome: FlowOutcome) -> Outcome {
    match outcome.status {
        Status::Failed(error) => Err(Error::new(error.to_string()).into()),
        Status::Done | Status::Stopped => Ok(Exit::Done),
    }
}
