//! `millstream checkpoints`: what is kept of flows, and whether it is whole.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use millstream_core::{Error, KeptNode, NodeTypes, Result, ResultExt, known_names};
use millstream_engine::checkpoint::{self, CheckpointStore, Manifest, NodeEntry, NodePhase};
use millstream_store::Store;
use serde_json::{Value, json};

use crate::exit::{Exit, Outcome};
use crate::nodes;
use crate::summary::new_table;
use crate::terminal::{note, print_json, say};

/// What `checkpoints` takes.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsArguments {
    /// The folder that flows were run with, or `s3://BUCKET/PREFIX`.
    #[arg(long, value_name = "DIR")]
    pub state: String,
    /// Only this flow.
    pub flow: Option<String>,
    /// Read everything that the checkpoints refer to, and say whether it is whole.
    #[arg(long)]
    pub verify: bool,
    /// Print one line of JSON a checkpoint.
    #[arg(long)]
    pub json: bool,
}

/// A checkpoint, and what is wrong with it.
struct Found {
    flow: String,
    number: u64,
    manifest: Result<Manifest>,
    is_visible: bool,
    damage: Option<Error>,
}

/// `millstream checkpoints`
pub fn checkpoints(arguments: CheckpointsArguments) -> Outcome {
    let store: Arc<dyn Store> = millstream_store::open(&arguments.state, Path::new("."))?.into();
    let flows = match &arguments.flow {
        Some(flow) => vec![flow.clone()],
        None => checkpoint::flows(&*store)?,
    };
    let mut found = Vec::new();
    for flow in flows {
        found.extend(find(&arguments, &store, &flow).doing(|| format!("looking for checkpoints of `{flow}`"))?);
    }
    if found.is_empty() {
        return Err(none_found(&arguments, &*store)?.into());
    }
    if arguments.json {
        found.iter().for_each(|checkpoint| print_json(checkpoint.to_json()))
    } else {
        print_table(&found)
    }
    let damaged = found.iter().filter_map(Found::problem);
    let damaged = damaged.inspect(|problem| note!("error: {problem}")).count();
    if damaged == 0 && arguments.verify && !arguments.json {
        say!("all of it was read, and is whole");
    }
    Ok(if damaged == 0 { Exit::Done } else { Exit::Failed })
}

/// Says that there is nothing, or nothing of the flow that was asked for.
fn none_found(arguments: &CheckpointsArguments, store: &dyn Store) -> Result<Error> {
    let state = &arguments.state;
    let others = checkpoint::flows(store)?;
    Ok(Error::new(match &arguments.flow {
        Some(flow) if !others.is_empty() => {
            let known = known_names(flow, others.iter().map(String::as_str));
            format!("there are no checkpoints of flow `{flow}` in `{state}`; {known}")
        }
        _ => format!("there are no checkpoints in `{state}`"),
    }))
}

fn find(arguments: &CheckpointsArguments, store: &Arc<dyn Store>, flow: &str) -> Result<Vec<Found>> {
    let checkpoint_store = CheckpointStore::new(store.clone(), flow, &arguments.state);
    let committed = checkpoint_store.committed()?;
    let look = |number: u64| {
        let manifest = checkpoint_store.manifest(number).map(|(manifest, _)| manifest);
        let damage = manifest
            .as_ref()
            .ok()
            .filter(|_| arguments.verify)
            .and_then(|manifest| checkpoint_store.verify(manifest).err());
        Found { flow: flow.to_owned(), number, manifest, is_visible: committed >= Some(number), damage }
    };
    let mut found: Vec<Found> = checkpoint_store.numbers()?.into_iter().map(look).collect();
    // What a flow that runs has removed meanwhile is no damage.
    let kept = checkpoint_store.numbers()?;
    if found.iter().any(|one| one.problem().is_some() && !kept.contains(&one.number)) {
        return find(arguments, store, flow);
    }
    // What a run would resume from.
    let latest = checkpoint_store.latest();
    if let Some(mut last) = found.pop() {
        match latest {
            Err(error) if last.manifest.is_ok() => _ = last.damage.get_or_insert(error),
            Ok(Some((manifest, _))) if arguments.verify && last.damage.is_none() => {
                last.damage = verify_nodes(&nodes::registry(), &checkpoint_store, &arguments.state, &manifest).err();
            }
            _ => {}
        }
        found.push(last);
    } else if let Err(error) = latest {
        let (flow, number) = (flow.to_owned(), committed.unwrap_or_default());
        found.push(Found { flow, number, manifest: Err(error), is_visible: true, damage: None });
    }
    Ok(found)
}

/// Checks what nodes keep outside of checkpoints, with which a flow would resume from its newest one.
fn verify_nodes(
    node_types: &NodeTypes,
    checkpoint_store: &CheckpointStore,
    state: &str,
    newest: &Manifest,
) -> Result<()> {
    let committed = checkpoint_store.committed()?;
    let homes = millstream_store::local_folder(state).map(|folder| checkpoint::homes(folder, &newest.flow));
    let begun = newest.nodes.iter().filter(|(_, node)| node.phase != NodePhase::Waiting);
    let verified = begun.map(|(name, node)| {
        let home = homes.as_ref().map(|homes| homes.join(name));
        let remark = verify_node(node_types, checkpoint_store, node, committed, home.as_deref());
        let remark = remark.doing(|| format!("{} `{name}`", node.role))?;
        if let Some(remark) = remark {
            note!("warning: {}: {} `{name}`: {remark}", newest.flow, node.role);
        }
        Ok(())
    });
    let verified = verified.collect::<Result<Vec<()>>>().map(|_| ());
    // A flow that runs meanwhile moves its files, which is no damage.
    let has_gone_on =
        (checkpoint_store.numbers()?.pop(), checkpoint_store.committed()?) != (Some(newest.number), committed);
    if has_gone_on { Ok(()) } else { verified }
}

fn verify_node(
    node_types: &NodeTypes,
    checkpoint_store: &CheckpointStore,
    node: &NodeEntry,
    committed: Option<u64>,
    home: Option<&Path>,
) -> Result<Option<String>> {
    let Some(node_type) = node_types.find(node.role, &node.kind) else { return Ok(None) };
    let pending = node.pending.iter().filter(|stage| Some(stage.checkpoint) > committed);
    let pending = pending.map(|stage| checkpoint_store.state(&stage.pieces)).collect::<Result<Vec<_>>>()?;
    node_type.verify(&KeptNode { state: &checkpoint_store.state(&node.state)?, pending: &pending, home })
}

impl Found {
    fn problem(&self) -> Option<&Error> {
        self.manifest.as_ref().err().or(self.damage.as_ref())
    }

    fn to_json(&self) -> Value {
        let problem = self.problem().map(ToString::to_string);
        let Ok(manifest) = &self.manifest else {
            return json!({ "flow": self.flow, "checkpoint": self.number, "problem": problem });
        };
        let inputs: serde_json::Map<_, _> = manifest
            .nodes
            .iter()
            .filter(|(_, node)| !node.positions.is_empty())
            .map(|(name, node)| (name.clone(), json!(node.positions)))
            .collect();
        json!({
            "flow": self.flow,
            "checkpoint": self.number,
            "epoch": manifest.epoch,
            "created": manifest.created,
            "owner": manifest.owner,
            "incarnation": manifest.incarnation,
            "generation": manifest.generation,
            "then": manifest.then,
            "visible": self.is_visible,
            "bytes": manifest.bytes(),
            "inputs": inputs,
            "problem": problem,
        })
    }
}

fn print_table(found: &[Found]) {
    let mut table =
        new_table(["flow", "checkpoint", "created", "epoch", "rows read", "size", "what follows", "outputs"]);
    for checkpoint in found {
        let Ok(manifest) = &checkpoint.manifest else {
            table.add_row([checkpoint.flow.clone(), checkpoint.number.to_string(), "damaged".to_owned()]);
            continue;
        };
        let inputs = manifest.nodes.values().filter(|node| node.fan_in.is_none());
        let rows: u64 = inputs.filter(|node| !node.positions.is_empty()).map(|node| node.counters.rows_in).sum();
        let follows = match manifest.then.as_str() {
            "continue" => "more rows",
            "stop" => "more rows, in another run",
            _ => "nothing: the flow is done",
        };
        table.add_row([
            checkpoint.flow.clone(),
            checkpoint.number.to_string(),
            manifest.created.clone(),
            manifest.epoch.to_string(),
            indicatif::HumanCount(rows).to_string(),
            indicatif::HumanBytes(manifest.bytes()).to_string(),
            follows.to_owned(),
            if checkpoint.is_visible { "committed" } else { "not all committed" }.to_owned(),
        ]);
    }
    say!("{table}");
}
