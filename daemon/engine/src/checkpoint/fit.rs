//! Whether a flow can be resumed from its last checkpoint, and all that stands in the way of it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::{Error, Role, Then};

use super::keeper::KeeperOptions;
use super::manifest::{Manifest, NodeEntry};
use super::resume::{Found, has_ended, name};
use crate::plan::{Plan, PlannedNode};

/// The nodes that start from scratch. What can't be read again does so in every run.
pub fn from_scratch(plan: &Plan, options: &KeeperOptions) -> BTreeSet<String> {
    options.resets.iter().cloned().chain(plan.unreplayable_inputs()).collect()
}

/// The inputs that lose rows in a crash, unless that is allowed.
pub fn unreplayable(plan: &Plan, options: &KeeperOptions) -> Vec<String> {
    let inputs = if options.allow_loss { Vec::new() } else { plan.unreplayable_inputs() };
    let problem = |input| {
        format!(
            "input `{input}` can't be read again from where it was, so that a crash would lose rows; `--allow-loss` keeps state \
             nevertheless"
        )
    };
    inputs.into_iter().map(problem).collect()
}

/// All that keeps a flow from being resumed from a checkpoint, whose nodes have the names that they have now.
pub fn problems(found: &Found, plan: &Plan, options: &KeeperOptions) -> Vec<String> {
    let manifest = &found.manifest;
    let mut problems = reset_problems(found, plan, options);
    if found.is_done() {
        problems.extend(nothing_more_comes(plan));
        return problems;
    }
    problems.extend(drift(manifest, options));
    let scratch = if has_ended(manifest) { BTreeSet::new() } else { from_scratch(plan, options) };
    let is_kept = |node: &String, entry: &NodeEntry| !scratch.contains(node) && has_something(entry);
    let kept = manifest.nodes.iter().filter(|(node, entry)| is_kept(node, entry));
    problems.extend(kept.filter_map(|(node, entry)| misfit(node, entry, manifest, plan)));
    problems
}

/// One error of all problems.
pub fn refusal(problems: &[String]) -> Error {
    match problems {
        [problem] => Error::new(problem),
        problems => Error::new(format!(
            "the flow can't be resumed from its last checkpoint, for {} reasons:\n  {}",
            problems.len(),
            problems.join("\n  ")
        )),
    }
}

/// Gives nodes the names that they have now.
pub fn rename_nodes(manifest: &mut Manifest, plan: &Plan) {
    for (before, now) in plan.renames() {
        if manifest.nodes.contains_key(now) || plan.node(before).is_some() {
            continue;
        }
        rename_key(&mut manifest.nodes, before, now);
        rename_key(&mut manifest.past, before, now);
        for past in manifest.past.values_mut() {
            rename_key(&mut past.since, before, now);
            rename_key(&mut past.earlier, before, now);
        }
        let edges = manifest.nodes.values_mut().filter_map(|node| node.fan_in.as_mut()).flat_map(|fan| &mut fan.edges);
        for edge in edges {
            edge.from = match edge.from.split_once('.') {
                Some((node, port)) if node == before => format!("{now}.{port}"),
                None if edge.from == before => now.to_owned(),
                _ => continue,
            };
        }
    }
}

fn rename_key<T>(map: &mut BTreeMap<String, T>, before: &str, now: &str) {
    if let Some(value) = map.remove(before) {
        map.insert(now.to_owned(), value);
    }
}

/// What is wrong with another build or kind of machine, unless that is allowed.
fn drift(manifest: &Manifest, options: &KeeperOptions) -> Option<String> {
    if options.allow_drift || manifest.fingerprint == options.fingerprint {
        return None;
    }
    let differs = |(name, now): &(&String, &String)| manifest.fingerprint.get(*name) != Some(now);
    let differing = options.fingerprint.iter().filter(differs).map(|(name, now)| {
        let before = manifest.fingerprint.get(name).map_or("unknown", String::as_str);
        format!("{name} was `{before}` and is `{now}`")
    });
    let differing: Vec<_> = differing.collect();
    Some(format!(
        "checkpoint {} was written by another build or kind of machine ({}), so that models may come out with other bits than \
         in a run without interruption; `--allow-drift` resumes it nevertheless",
        manifest.number,
        differing.join(", ")
    ))
}

/// Why the state of a node can't be used, if it can't.
fn misfit(node: &str, entry: &NodeEntry, manifest: &Manifest, plan: &Plan) -> Option<String> {
    let Some(planned) = plan.node(node) else {
        return Some(format!(
            "node `{node}` has state in the last checkpoint, and is no longer part of the flow; put it back, say \
             `renamed_from = \"{node}\"` at the node that it has become, or {}",
            loss(node, entry, None, manifest)
        ));
    };
    let difference = match () {
        () if entry.kind != planned.kind => format!("its type was `{}` and is `{}`", entry.kind, planned.kind),
        () if !planned.fits(&entry.shape) => planned.shape.differences(&entry.shape),
        () => return None,
    };
    Some(format!(
        "node `{node}` has other settings or columns than when its state was kept: {difference}; change that back, or {}",
        loss(node, entry, Some(planned), manifest)
    ))
}

/// What a reset would lose, and how to reset.
fn loss(node: &str, entry: &NodeEntry, planned: Option<&PlannedNode>, manifest: &Manifest) -> String {
    let role = match planned {
        Some(planned) => Some(planned.role()),
        None if entry.fan_in.is_none() && !entry.positions.is_empty() => Some(Role::Input),
        None if !entry.counters.rows_out.is_empty() => Some(Role::Processor),
        None => None,
    };
    let is_stopped = manifest.then == name(Then::Stop);
    let lost = match role {
        Some(Role::Input) if planned.is_none() => "forget how far it was read",
        Some(Role::Input) => "read it from its first row, so that rows that were read count twice,",
        Some(Role::Processor) => "lose what it remembers of the rows so far (published versions of models stay)",
        Some(Role::Output) | None if is_stopped => {
            "let it begin behind the rows so far, which it has published and which stay,"
        }
        Some(Role::Output) | None => {
            "lose the rows that it has not published yet (published ones stay; to lose none, run the flow as it was, and stop it)"
        }
    };
    format!("{lost} with `--reset {node}`")
}

fn has_something(entry: &NodeEntry) -> bool {
    !(entry.state.is_empty() && entry.staged.is_empty() && entry.positions.is_empty())
}

/// What is wrong with the nodes that are to start from scratch: they aren't there, rows would be lost, or none would come.
fn reset_problems(found: &Found, plan: &Plan, options: &KeeperOptions) -> Vec<String> {
    let entry = |node: &String| found.manifest.nodes.get(node);
    let mut problems = Vec::new();
    for node in &options.resets {
        if plan.node(node).is_none() && entry(node).is_none() {
            problems.push(format!("`--reset {node}`: there is no node of that name"));
        }
        if !found.is_visible && !options.allow_loss && entry(node).is_some_and(|entry| !entry.staged.is_empty()) {
            problems.push(format!(
                "`--reset {node}`: the last checkpoint has decided rows or versions that it has not made visible yet; run the \
                 flow as it was once more, or lose them with `--allow-loss`"
            ));
        }
    }
    if let (Some(node), true) = (options.resets.first(), has_ended(&found.manifest)) {
        problems.push(format!(
            "`--reset {node}`: the flow has come to its end, so that no more rows would come; to run it from the start, take \
             another state folder, and other places for its outputs if what is there is to stay"
        ));
    }
    problems
}

/// A flow that has ended takes no more rows, and whoever sends them must not believe so.
fn nothing_more_comes(plan: &Plan) -> Option<String> {
    let input = plan.unreplayable_inputs().into_iter().next()?;
    Some(format!(
        "the flow has come to its end before, and rows that come to input `{input}` now would not count; to run it again, take \
         another state folder, and other places for its outputs if what is there is to stay"
    ))
}
