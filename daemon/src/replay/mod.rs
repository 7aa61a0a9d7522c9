//! `millstream replay`: trains a version of a model again, and compares.

mod course;
mod texts;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{ArgGroup, Args};
use millstream_core::{Error, Result, ResultExt, State};
use millstream_engine::checkpoint::{NodeResume, Replay, StartPoint, homes, kept_behind};
use millstream_engine::plan::Plan;
use millstream_engine::run::{FlowControl, Outcome as FlowOutcome, RunMode, RunningFlow, Status};
use millstream_learn::staged_versions;
use millstream_models::registry::{ModelCard, ModelRegistry};
use millstream_models::sha256;
use millstream_store::local_folder;
use tokio::runtime::Runtime;

use self::course::{Course, Stretch};
use self::texts::Texts;
use crate::exit::{CommandError, Exit, Outcome};
use crate::flow_files::FlowArguments;
use crate::terminal::say;
use crate::workplace::{control_runtime, data_runtime};

/// What `replay` takes.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("kept").args(["state", "data"]).multiple(true)))]
pub struct ReplayArguments {
    /// The flow that trained the model.
    #[command(flatten)]
    pub flow: FlowArguments,
    /// The version: `fraud`, `fraud@champion`, `fraud@latest` or `fraud/3`.
    pub version: String,
    /// The folder with the state of the flow, or `s3://BUCKET/PREFIX`, which knows the order in which the rows of live inputs came.
    #[arg(long, value_name = "DIR")]
    pub state: Option<String>,
    /// The folder of the daemon that has run the flow, its setting `data`. `FLOW` is the name of the flow then, and each of its rows is gone
    /// through with the text that it was worked on with. The state is in `state` there, unless `--state` says otherwise.
    #[arg(long, value_name = "DIR", conflicts_with = "sets")]
    pub data: Option<PathBuf>,
    /// Begin behind this checkpoint, which must still be kept, instead of at the first row.
    #[arg(long, value_name = "CHECKPOINT", requires = "kept")]
    pub from: Option<u64>,
}

impl ReplayArguments {
    /// Where the state is.
    fn location(&self) -> Option<String> {
        let of_daemon = || self.data.as_ref().map(|data| data.join("state").display().to_string());
        self.state.clone().or_else(of_daemon)
    }
}

/// What has been seen of the version.
#[derive(Default)]
struct Seen {
    is_same: bool,
    /// The checksum of a version of as many rows that is another one.
    other: Option<String>,
    control: Option<FlowControl>,
}

/// `millstream replay`
pub fn replay(arguments: &ReplayArguments) -> Outcome {
    let texts = Texts::open(arguments)?;
    let settings = &texts.newest.flow;
    let store = millstream_store::open(&settings.registry, &texts.workplace.folder)?;
    let card = ModelRegistry::open(store, &settings.registry).resolve(&arguments.version)?.card;
    let course = Course::plot(&texts, &card, arguments)?;
    let threads = (control_runtime()?, data_runtime(None)?);
    let seen = go_through(&course, &texts, &card, &threads);
    threads.1.shutdown_background();
    let seen = seen?;
    let name = format!("{}/{}", card.model, card.version);
    match (seen.is_same, seen.other) {
        (true, _) => {
            say!("{name}: the same bits after {} rows, sha256 {}", card.rows, card.sha256);
            Ok(Exit::Done)
        }
        (false, Some(other)) => {
            let error = format!(
                "{name} comes out otherwise: its sha256 is {}, and that of the replay {other}. The data has changed since, or \
                 the flow, or the build",
                card.sha256
            );
            Err(Error::new(error).into())
        }
        (false, None) => {
            let error = format!("{name}: the flow made no version of {} rows; has it or its data changed?", card.rows);
            Err(Error::new(error).into())
        }
    }
}

/// The flow must be the one that trained the version.
fn check(plan: &Plan, card: &ModelCard) -> Result<(), CommandError> {
    if plan.flow == card.flow && plan.node_once_called(&card.node).is_some() {
        return Ok(());
    }
    let version = format!("{}/{}", card.model, card.version);
    Err(CommandError::Usage(format!(
        "`{version}` was trained by node `{}` of flow `{}`, which this is not",
        card.node, card.flow
    )))
}

/// Goes through all rows, with one text after the other.
fn go_through(
    course: &Course,
    texts: &Texts,
    card: &ModelCard,
    threads: &(Runtime, Runtime),
) -> Result<Seen, CommandError> {
    let homes = course.location.as_deref().and_then(local_folder).map(|folder| homes(folder, &card.flow));
    let mut nodes: BTreeMap<String, NodeResume> = BTreeMap::new();
    let mut seen = Seen::default();
    for (number, stretch) in course.stretches.iter().enumerate() {
        let kept = match &stretch.start {
            Some(start) if number > 0 => kept_behind(&nodes, &start.resets),
            _ => texts.kept(course.location.as_deref()),
        };
        let mut plan = texts.plan(stretch.start.as_ref(), kept)?;
        let start_point = match &stretch.start {
            Some(start) if number > 0 => StartPoint::of_revision(start, std::mem::take(&mut nodes), &plan),
            _ => course.begin(&plan)?,
        };
        let start_point = course.followed(start_point, stretch, &plan);
        if stretch.until.is_none() {
            check(&plan, card)?;
        }
        plan.drop_outputs();
        let replay = Replay { start_point, until: stretch.until, homes: homes.clone(), watch: Arc::new(|_, _| {}) };
        let outcome;
        (outcome, seen) = run(plan, replay, card, threads)?;
        match stretch.until {
            Some(_) => nodes = at_border(outcome, stretch)?,
            None => failed(outcome, &seen)?,
        }
    }
    Ok(seen)
}

/// Goes through the rows of a stretch. In the last one, the version is looked for.
fn run(
    plan: Plan,
    replay: Replay,
    card: &ModelCard,
    (control, data): &(Runtime, Runtime),
) -> Result<(FlowOutcome, Seen)> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let watch = {
        let (seen, card) = (seen.clone(), card.clone());
        let trainer = plan.node_once_called(&card.node).filter(|_| replay.until.is_none());
        let trainer = trainer.map(|node| node.name.clone());
        Arc::new(move |node: &str, staged: &State| {
            if Some(node) == trainer.as_deref() {
                look(&card, staged, &seen);
            }
        })
    };
    let running = RunningFlow::start(plan, RunMode::Replay(Replay { watch, ..replay }), data.handle());
    let running = running.doing(|| "starting the replay")?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).control = Some(running.control());
    let outcome = control.block_on(running.join());
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((outcome, seen))
}

/// Where the nodes are at the border at which the flow went on from another text.
fn at_border(outcome: FlowOutcome, stretch: &Stretch) -> Result<BTreeMap<String, NodeResume>> {
    let revision = stretch.start.as_ref().map(|start| start.revision).unwrap_or_default();
    match outcome.status {
        Status::Failed(error) => Err(Error::new(format!("with revision {revision}: {error}"))),
        Status::Done | Status::Stopped => outcome.replayed.ok_or_else(|| {
            Error::new(format!(
                "with revision {revision}, the flow comes to its end before it went on from another text; has its data changed?"
            ))
        }),
    }
}

/// That the flow has failed, unless enough was seen before. It is given up as soon as that is so.
fn failed(outcome: FlowOutcome, seen: &Seen) -> Result<()> {
    match outcome.status {
        Status::Failed(error) if !seen.is_same && seen.other.is_none() => Err(Error::new(error.to_string())),
        _ => Ok(()),
    }
}

/// Compares what the node has staged with the version; once that is found, the rest is of no interest.
fn look(card: &ModelCard, staged: &State, seen: &Mutex<Seen>) {
    // What can't be read is no version.
    for (made, bytes) in staged_versions(staged).unwrap_or_default() {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let checksum = sha256(bytes);
        if checksum == card.sha256 {
            seen.is_same = true;
        } else if made.rows == card.rows {
            seen.other = Some(checksum);
        } else {
            continue;
        }
        seen.control.iter().for_each(FlowControl::give_up);
    }
}
