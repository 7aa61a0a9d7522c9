//! `millstream replay`: trains a version of a model again, and compares.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use millstream_core::{Error, Result, ResultExt, State};
use millstream_engine::checkpoint::{
    CheckpointStore, Manifest, Replay, ResumeOptions, StartPoint, homes, kept_states, rename_nodes,
};
use millstream_engine::plan::{Plan, PlanOptions};
use millstream_engine::run::{FlowControl, RunMode, RunningFlow, Status};
use millstream_learn::staged_versions;
use millstream_models::registry::{ModelCard, ModelRegistry};
use millstream_models::sha256;
use millstream_store::local_folder;
use serde_json::json;

use crate::exit::{CommandError, Exit, Outcome};
use crate::flow_files::FlowArguments;
use crate::terminal::say;
use crate::workplace::{Workplace, control_runtime, data_runtime};

/// What `replay` takes.
#[derive(Clone, Debug, Args)]
pub struct ReplayArguments {
    /// The flow that trained the model.
    #[command(flatten)]
    pub flow: FlowArguments,
    /// The version: `fraud`, `fraud@champion`, `fraud@latest` or `fraud/3`.
    pub version: String,
    /// The folder with the state of the flow, or `s3://BUCKET/PREFIX`, which knows the order in which the rows of live inputs came.
    #[arg(long, value_name = "DIR")]
    pub state: Option<String>,
    /// Begin behind this checkpoint, which must still be kept, instead of at the first row.
    #[arg(long, value_name = "CHECKPOINT", requires = "state")]
    pub from: Option<u64>,
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
    let workplace = Workplace::here()?;
    let file = workplace.load(&arguments.flow.flow, &arguments.flow.sets)?;
    let kept = |location: &String| kept_states(location, &file.flow.name, &ResumeOptions::default());
    let kept = arguments.state.as_ref().map(kept).unwrap_or_default();
    let mut plan = Plan::new(&file, &PlanOptions { kept, ..workplace.plan_options() })?;
    let registry =
        ModelRegistry::open(millstream_store::open(&file.flow.registry, &workplace.folder)?, &file.flow.registry);
    let card = registry.resolve(&arguments.version)?.card;
    check(&plan, &card).map_err(|error| CommandError::Usage(error.to_string()))?;
    let start_point = start_point(&plan, &card, arguments)?;
    let homes = arguments.state.as_deref().and_then(local_folder).map(|folder| homes(folder, &plan.flow));
    plan.drop_outputs();
    let seen = run(plan, start_point, homes, &card)?;
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
fn check(plan: &Plan, card: &ModelCard) -> Result<()> {
    if plan.flow == card.flow && plan.node_once_called(&card.node).is_some() {
        return Ok(());
    }
    let version = format!("{}/{}", card.model, card.version);
    Err(Error::new(format!(
        "`{version}` was trained by node `{}` of flow `{}`, which this is not",
        card.node, card.flow
    )))
}

/// Where the replay begins, and what time had decided behind that.
fn start_point(plan: &Plan, card: &ModelCard, arguments: &ReplayArguments) -> Result<StartPoint> {
    let Some(location) = &arguments.state else {
        if !plan.is_strict() {
            return Err(Error::new(
                "the rows of this flow have no order of their own, or it asks others who may say something else now; `--state DIR` is where \
                 it was written down how they came, and what was said",
            ));
        }
        if has_resets(card) {
            return Err(Error::new(format!(
                "`{}/{}` is of a flow of which a part began from scratch in the middle; `--state DIR` is where that was written down",
                card.model, card.version
            )));
        }
        return Ok(StartPoint::default());
    };
    let store = millstream_store::open(location, Path::new("."))?;
    let checkpoint_store = CheckpointStore::new(store.into(), &plan.flow, location);
    let checkpoint = card.lineage.as_ref().and_then(|lineage| lineage["checkpoint"].as_u64());
    let from = match arguments.from {
        None if has_resets(card) => Some(behind_resets(&checkpoint_store, card, checkpoint)?),
        from => from,
    };
    let start_point = match from {
        None => StartPoint::default(),
        Some(number) => {
            let mut manifest = kept(&checkpoint_store, number)?;
            rename_nodes(&mut manifest, plan);
            StartPoint::behind(&checkpoint_store, manifest)?
        }
    };
    if from >= checkpoint && from.is_some() {
        let checkpoint = checkpoint.unwrap_or_default();
        return Err(Error::new(format!(
            "the version was published by checkpoint {checkpoint}, so that a replay has to begin behind one before it"
        )));
    }
    let mut replay_log = checkpoint_store.replay_log(from, checkpoint.unwrap_or_default())?;
    replay_log.rename_nodes(plan.renames());
    let mut quarantine = checkpoint_store.quarantine(checkpoint.unwrap_or_default())?;
    quarantine.rename_nodes(plan.renames());
    Ok(StartPoint { replay_log, quarantine, store: Some(checkpoint_store), ..start_point })
}

/// Whether the model or an input of it began from scratch before the version was made, so that the rows from the first on don't tell
/// what it has learned.
fn has_resets(card: &ModelCard) -> bool {
    card.lineage.as_ref().is_some_and(|lineage| !lineage["since"].is_null() || !lineage["earlier"].is_null())
}

/// The oldest checkpoint that is kept behind the resets that the version has in its lineage.
fn behind_resets(checkpoint_store: &CheckpointStore, card: &ModelCard, checkpoint: Option<u64>) -> Result<u64> {
    for number in checkpoint_store
        .numbers()?
        .into_iter()
        .filter(|number| checkpoint.is_none_or(|checkpoint| *number < checkpoint))
    {
        let mut known = json!({});
        if let Some(resets) = checkpoint_store.manifest(number)?.0.resets.get(&card.node) {
            resets.add_to(&mut known);
        }
        let is_same = |key: &str| card.lineage.as_ref().is_some_and(|lineage| lineage[key] == known[key]);
        if is_same("since") && is_same("earlier") {
            return Ok(number);
        }
    }
    Err(Error::new(format!(
        "`{}/{}` is of a flow of which a part began from scratch in the middle, and no checkpoint in `{}` is kept from then until it was published; `[checkpoint] keep` says how many are",
        card.model,
        card.version,
        checkpoint_store.location()
    )))
}

/// A checkpoint that is kept.
fn kept(checkpoint_store: &CheckpointStore, number: u64) -> Result<Manifest> {
    let numbers = checkpoint_store.numbers()?;
    if !numbers.contains(&number) {
        let kept = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Error::new(format!(
            "checkpoint {number} is not kept in `{}`; these are: {kept}. `[checkpoint] keep` says how many",
            checkpoint_store.location()
        )));
    }
    Ok(checkpoint_store.manifest(number)?.0)
}

fn run(plan: Plan, start_point: StartPoint, homes: Option<PathBuf>, card: &ModelCard) -> Result<Seen> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let watch = {
        let (seen, card) = (seen.clone(), card.clone());
        let trainer = plan.node_once_called(&card.node).map(|node| node.name.clone());
        Arc::new(move |node: &str, staged: &State| {
            if Some(node) == trainer.as_deref() {
                look(&card, staged, &seen);
            }
        })
    };
    let (control, data) = (control_runtime()?, data_runtime(None)?);
    let running = RunningFlow::start(plan, RunMode::Replay(Replay { start_point, homes, watch }), data.handle());
    let running = running.doing(|| "starting the replay")?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).control = Some(running.control());
    let outcome = control.block_on(running.join());
    data.shutdown_background();
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    match outcome.status {
        Status::Failed(error) if !seen.is_same && seen.other.is_none() => Err(Error::new(error.to_string())),
        _ => Ok(seen),
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
