//! Where a replay begins, what time had decided behind that, and from which texts the flow went on.

use std::path::Path;

use millstream_core::{Epoch, Error, Result};
use millstream_engine::checkpoint::{CheckpointStore, Manifest, ReplayLog, RevisionStart, StartPoint, rename_nodes};
use millstream_engine::plan::Plan;
use millstream_engine::quarantine::Quarantine;
use millstream_models::registry::ModelCard;
use serde_json::json;

use super::texts::Texts;
use super::{ReplayArguments, check};
use crate::exit::CommandError;

/// How rows are gone through again.
#[derive(Default)]
pub struct Course {
    /// Where the state is, if there is one.
    pub location: Option<String>,
    /// The same, opened.
    store: Option<CheckpointStore>,
    /// The checkpoint behind which it begins, if that is not the first row.
    begin: Option<Manifest>,
    /// One text after the other.
    pub stretches: Vec<Stretch>,
    /// The rows that nodes did without.
    quarantine: Quarantine,
}

/// Rows that are gone through with one text.
#[derive(Default)]
pub struct Stretch {
    /// Where the flow went on from the text, if several are known.
    pub start: Option<RevisionStart>,
    /// The barrier behind which it went on from the next.
    pub until: Option<Epoch>,
    replay_log: ReplayLog,
}

impl Course {
    /// The one that leads to a version.
    pub fn plot(texts: &Texts, card: &ModelCard, arguments: &ReplayArguments) -> Result<Self, CommandError> {
        let location = arguments.location();
        if !texts.are_kept() {
            let plan = texts.plan(None, texts.kept(location.as_deref()))?;
            check(&plan, card)?;
            if location.is_none() {
                may_do_without_state(&plan, card)?;
            }
        }
        Ok(match location {
            Some(location) => Self::behind(location, texts, card, arguments.from)?,
            None => Self { stretches: vec![Stretch::default()], ..Self::default() },
        })
    }

    /// The same, by what is kept at a location.
    fn behind(location: String, texts: &Texts, card: &ModelCard, from: Option<u64>) -> Result<Self> {
        let opened = millstream_store::open(&location, Path::new("."))?;
        let store = CheckpointStore::new(opened.into(), &texts.newest.flow.name, &location);
        let checkpoint = card.lineage.as_ref().and_then(|lineage| lineage["checkpoint"].as_u64());
        let from = match from {
            None if has_resets(card) => Some(behind_resets(&store, card, checkpoint)?),
            from => from,
        };
        let begin = from.map(|number| kept(&store, number)).transpose()?;
        if from >= checkpoint && from.is_some() {
            let checkpoint = checkpoint.unwrap_or_default();
            return Err(Error::new(format!(
                "the version was published by checkpoint {checkpoint}, so that a replay has to begin behind one before it"
            )));
        }
        let until = checkpoint.unwrap_or_default();
        let starts = if texts.are_kept() { starts(&store, from, until)? } else { Vec::new() };
        let stretches = stretches(&store, starts, from, until)?;
        let quarantine = store.quarantine(until)?;
        Ok(Self { location: Some(location), store: Some(store), begin, stretches, quarantine })
    }

    /// Where it begins, with a text that this is the plan of.
    pub fn begin(&self, plan: &Plan) -> Result<StartPoint> {
        let (Some(manifest), Some(store)) = (&self.begin, &self.store) else { return Ok(StartPoint::default()) };
        let mut manifest = manifest.clone();
        rename_nodes(&mut manifest, plan);
        StartPoint::behind(store, manifest)
    }

    /// The same, with what time had decided in a stretch.
    pub fn followed(&self, start_point: StartPoint, stretch: &Stretch, plan: &Plan) -> StartPoint {
        let (mut replay_log, mut quarantine) = (stretch.replay_log.clone(), self.quarantine.clone());
        replay_log.rename_nodes(plan.renames());
        quarantine.rename_nodes(plan.renames());
        StartPoint { replay_log, quarantine, store: self.store.clone(), ..start_point }
    }
}

/// Whether rows alone tell how they are gone through.
fn may_do_without_state(plan: &Plan, card: &ModelCard) -> Result<()> {
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
    Ok(())
}

/// From which texts the flow went on between checkpoint `from`, or its first row, and checkpoint `until`.
fn starts(store: &CheckpointStore, from: Option<u64>, until: u64) -> Result<Vec<RevisionStart>> {
    let mut known = store.latest()?.map(|(manifest, _)| manifest.revisions).unwrap_or_default();
    known.retain(|start| start.checkpoint < until);
    let first = known.iter().rposition(|start| start.checkpoint <= from.unwrap_or_default());
    let first = first.ok_or_else(|| unknown(store, known.first()))?;
    Ok(known.split_off(first))
}

fn unknown(store: &CheckpointStore, first: Option<&RevisionStart>) -> Error {
    let location = store.location();
    match first.map(|start| start.checkpoint) {
        Some(known) => Error::new(format!(
            "`{location}` tells only since checkpoint {known} from which texts the flow has run, which may have been changed a thousand \
             times since, or was not run by a daemon before; `--from {known}` begins there, if that is kept"
        )),
        None => Error::new(format!(
            "`{location}` does not tell from which texts the flow has run when the version was made; a file with the right one, instead \
             of `--data`, has all rows gone through with that"
        )),
    }
}

fn stretches(
    store: &CheckpointStore,
    starts: Vec<RevisionStart>,
    from: Option<u64>,
    until: u64,
) -> Result<Vec<Stretch>> {
    let borders = starts.iter().skip(1).map(|start| start.checkpoint);
    let replay_logs = store.replay_logs(from, &borders.chain([until]).collect::<Vec<_>>())?;
    let ends: Vec<_> = starts.iter().skip(1).map(|start| Some(start.epoch)).chain([None]).collect();
    let starts = starts.into_iter().map(Some).chain([None]);
    let parts = replay_logs.into_iter().zip(ends).zip(starts);
    Ok(parts.map(|((replay_log, until), start)| Stretch { start, until, replay_log }).collect())
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
