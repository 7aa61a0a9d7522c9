//! Whether a flow can be resumed from its last checkpoint, and all that stands in the way of it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::{Error, MODEL, Role, Then, known_names};

use super::latest::{LatestCheckpoint, has_ended, name};
use super::manifest::{Manifest, NodeEntry};
use super::options::ResumeOptions;
use super::resume::NodeResume;
use crate::plan::{DEAD_LETTERS, Plan, PlannedBody, PlannedNode};

/// How a flow that has come to its end is run again.
pub const ANEW: &str = "to run it from the start, take another state folder, and other places for its outputs if what is there is \
                        to stay";

/// The nodes that start from scratch. What can't be read again does so in every run.
pub fn from_scratch(plan: &Plan, options: &ResumeOptions) -> BTreeSet<String> {
    options.resets.iter().cloned().chain(plan.unreplayable_inputs()).collect()
}

/// The inputs that lose rows in a crash, unless that is allowed.
pub fn unreplayable(plan: &Plan, options: &ResumeOptions) -> Vec<String> {
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
pub fn problems(found: &LatestCheckpoint, plan: &Plan, options: &ResumeOptions) -> Vec<String> {
    let manifest = &found.manifest;
    let mut problems = reset_problems(found, plan, options);
    if found.is_done() {
        problems.extend(nothing_more_comes(manifest, plan));
        return problems;
    }
    problems.extend(drift(manifest, options));
    let scratch = if has_ended(manifest) { BTreeSet::new() } else { from_scratch(plan, options) };
    problems.extend(misnamed(manifest, plan, &scratch));
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
        if !rename_node(&mut manifest.nodes, plan, (before, now), |entry| entry) {
            continue;
        }
        rename_key(&mut manifest.resets, before, now);
        for resets in manifest.resets.values_mut() {
            rename_key(&mut resets.since, before, now);
            rename_key(&mut resets.earlier, before, now);
        }
        manifest.set_aside.iter_mut().for_each(|row| row.rename_node(before, now));
    }
}

/// The same, of nodes that are no longer in a manifest.
pub(super) fn rename_resumed(nodes: &mut BTreeMap<String, NodeResume>, plan: &Plan) {
    plan.renames().for_each(|names| _ = rename_node(nodes, plan, names, |node| &mut node.entry));
}

/// Gives a node the name that it has now, unless there is one of that name or still one of the former. Whether it has it.
fn rename_node<T>(
    nodes: &mut BTreeMap<String, T>,
    plan: &Plan,
    (before, now): (&str, &str),
    entry: impl Fn(&mut T) -> &mut NodeEntry,
) -> bool {
    if nodes.contains_key(now) || plan.node(before).is_some() {
        return false;
    }
    rename_key(nodes, before, now);
    for edge in nodes.values_mut().filter_map(|node| entry(node).fan_in.as_mut()).flat_map(|fan| &mut fan.edges) {
        edge.from = match edge.from.split_once('.') {
            Some((node, port)) if node == before => format!("{now}.{port}"),
            None if edge.from == before => now.to_owned(),
            _ => continue,
        };
    }
    true
}

fn rename_key<T>(map: &mut BTreeMap<String, T>, before: &str, now: &str) {
    if let Some(value) = map.remove(before) {
        map.insert(now.to_owned(), value);
    }
}

/// What is wrong with another build or kind of machine, unless that is allowed.
fn drift(manifest: &Manifest, options: &ResumeOptions) -> Option<String> {
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
         in a run without interruption; `--allow-drift`, or `allow_drift = true` among the settings of a daemon, resumes it \
         nevertheless",
        manifest.number,
        differing.join(", ")
    ))
}

/// Why the state of a node can't be used, if it can't.
fn misfit(node: &str, entry: &NodeEntry, manifest: &Manifest, plan: &Plan) -> Option<String> {
    let Some(planned) = plan.node(node) else {
        let loss = loss(node, entry, None, manifest);
        return Some(match rejecting(node, manifest, plan) {
            Some(rejecting) => format!(
                "the dead letters of node `{rejecting}` have state in the last checkpoint, and the flow no longer writes them; say \
                 `on_error = {{ dead_letter = … }}` again, or {loss}"
            ),
            None => format!(
                "node `{node}` has state in the last checkpoint, and is no longer part of the flow; put it back, say \
                 `renamed_from = \"{node}\"` at the node that it has become, or {loss}"
            ),
        });
    };
    let difference = match () {
        () if entry.role != planned.role() => format!("it was an {} and is an {}", entry.role, planned.role()),
        () if entry.kind != planned.kind => format!("its type was `{}` and is `{}`", entry.kind, planned.kind),
        () if !planned.fits(&entry.shape) => planned.shape.differences(&entry.shape),
        () => return None,
    };
    Some(format!(
        "node `{node}` has other settings or columns than when its state was kept: {difference}; change that back, or {}",
        loss(node, entry, Some(planned), manifest)
    ))
}

/// The node whose dead letters a node was that is gone, and that no flow file has named.
fn rejecting<'a>(node: &'a str, manifest: &Manifest, plan: &Plan) -> Option<&'a str> {
    let rejecting = node.strip_prefix(DEAD_LETTERS)?;
    (manifest.nodes.contains_key(rejecting) || plan.node_once_called(rejecting).is_some()).then_some(rejecting)
}

/// PriorOutput names of nodes that the state does not know, while it knows a node that is gone, which may be meant.
fn misnamed(manifest: &Manifest, plan: &Plan, scratch: &BTreeSet<String>) -> Vec<String> {
    let is_gone = |name: &&str| plan.node_once_called(name).is_none();
    let gone: Vec<&str> = manifest.nodes.keys().map(String::as_str).filter(is_gone).collect();
    let is_known = |name: &str| manifest.nodes.contains_key(name) || scratch.contains(name);
    let unknown = plan.renames().filter(|(before, now)| !is_known(before) && !is_known(now));
    let is_written = |name: &str| plan.node(name).is_some_and(|node| !node.hidden);
    let unknown = unknown.filter(|(_, now)| !gone.is_empty() && is_written(now));
    let problem = |(before, now): (&str, &str)| {
        format!(
            "node `{now}` says `renamed_from = \"{before}\"`, and there is no state of a node of that name; {}",
            known_names(before, gone.iter().copied())
        )
    };
    unknown.map(problem).collect()
}

/// What a node is, or was.
enum Part {
    Input,
    Model,
    Processor,
    Output,
}

fn part(entry: &NodeEntry, planned: Option<&PlannedNode>) -> Part {
    match planned.map_or(entry.role, PlannedNode::role) {
        Role::Input => Part::Input,
        Role::Processor if entry.counters.rows_out.contains_key(MODEL) => Part::Model,
        Role::Processor => Part::Processor,
        Role::Output => Part::Output,
    }
}

/// What a reset would lose, and how to reset.
fn loss(node: &str, entry: &NodeEntry, planned: Option<&PlannedNode>, manifest: &Manifest) -> String {
    let is_stopped = manifest.then == name(Then::Stop);
    let lost = match (part(entry, planned), planned) {
        (Part::Input, None) => {
            "forget how far it was read, so that an input which reads the same under another name begins with its first row, and \
             rows that were read count twice,"
        }
        (Part::Input, Some(_)) => "read it from its first row, so that rows that were read count twice,",
        (Part::Model, _) => {
            "let its model start from scratch, of which the next version then becomes the latest (published versions stay),"
        }
        (Part::Processor, _) => "lose what it remembers of the rows so far",
        (Part::Output, None) if is_stopped => "drop it from the state (what it has published stays)",
        (Part::Output, None) => {
            "drop it, and lose the rows that it has not published yet (published ones stay; to lose none, run the flow as it was, \
             and stop it),"
        }
        (Part::Output, Some(_)) if is_stopped => {
            "let it begin behind the rows so far, which it has published and which stay,"
        }
        (Part::Output, Some(_)) => {
            "lose the rows that it has not published yet (published ones stay; to lose none, run the flow as it was, and stop it)"
        }
    };
    format!("{lost} with `--reset {node}`")
}

/// What the resets that were asked for lose, or let count twice.
pub fn losses(found: &LatestCheckpoint, plan: &Plan, options: &ResumeOptions) -> Vec<String> {
    let nodes = options.resets.iter().filter_map(|node| Some((node, found.manifest.nodes.get(node)?)));
    nodes.map(|(node, entry)| reset_loss(node, entry, plan.node(node), found, options)).collect()
}

fn reset_loss(
    node: &str,
    entry: &NodeEntry,
    planned: Option<&PlannedNode>,
    found: &LatestCheckpoint,
    options: &ResumeOptions,
) -> String {
    let is_stopped = found.manifest.then == name(Then::Stop);
    match (part(entry, planned), planned) {
        (Part::Input, Some(_)) => format!(
            "input `{node}` is read from its first row again; what has learned of its rows, or has written them, has them twice, \
             unless it is reset, too"
        ),
        (Part::Input, None) => format!(
            "it is forgotten how far input `{node}` was read; an input that reads the same under another name begins with its \
             first row, so that rows that were read count twice"
        ),
        (Part::Model, _) => format!(
            "the model of node `{node}` starts from scratch, and the next version of it becomes the latest; published ones stay"
        ),
        (Part::Processor, _) => format!("node `{node}` loses what it remembers of the rows so far"),
        (Part::Output, _) if !is_stopped => format!(
            "output `{node}` loses the rows that it has not published yet; to lose none, run the flow as it was, and stop it, before"
        ),
        (Part::Output, Some(_)) if options.remove_published => format!(
            "output `{node}` begins behind the rows so far, and does with those that it has published what `if_exists` says"
        ),
        (Part::Output, Some(_)) => {
            format!("output `{node}` begins behind the rows so far; what it has published stays")
        }
        (Part::Output, None) => format!("output `{node}` is forgotten; what it has published stays"),
    }
}

fn has_something(entry: &NodeEntry) -> bool {
    !(entry.state.is_empty() && entry.pending.is_empty() && entry.positions.is_empty())
}

/// What is wrong with the nodes that are to start from scratch: they aren't there, rows would be lost, or none would come.
fn reset_problems(found: &LatestCheckpoint, plan: &Plan, options: &ResumeOptions) -> Vec<String> {
    let entry = |node: &String| found.manifest.nodes.get(node);
    let mut problems = Vec::new();
    for node in &options.resets {
        if plan.node(node).is_none() && entry(node).is_none() {
            problems.push(format!("`--reset {node}`: there is no node of that name"));
        }
        if !found.is_visible && !options.allow_loss && entry(node).is_some_and(|entry| !entry.pending.is_empty()) {
            problems.push(format!(
                "`--reset {node}`: the last checkpoint has decided rows or versions that it has not made visible yet; run the \
                 flow as it was once more, or lose them with `--allow-loss`"
            ));
        }
    }
    if let (Some(node), true) = (options.resets.first(), has_ended(&found.manifest)) {
        problems
            .push(format!("`--reset {node}`: the flow has come to its end, so that no more rows would come; {ANEW}"));
    }
    problems
}

/// A flow that has ended takes no more rows, and whoever sends them, or lets it read others, must not believe so.
fn nothing_more_comes(manifest: &Manifest, plan: &Plan) -> Vec<String> {
    if let Some(input) = plan.unreplayable_inputs().into_iter().next() {
        return vec![format!(
            "the flow has come to its end before, and rows that come to input `{input}` now would not count; {ANEW}"
        )];
    }
    let changed =
        plan.nodes.iter().filter_map(|node| Some((node, input_change(node, manifest.nodes.get(&node.name))?)));
    let problem = |(input, change): (&PlannedNode, String)| {
        format!(
            "the flow has come to its end before, and reads nothing more, while input `{}` {change}; {ANEW}",
            input.name
        )
    };
    changed.map(problem).collect()
}

/// In what an input is another one than when its flow came to its end.
fn input_change(node: &PlannedNode, entry: Option<&NodeEntry>) -> Option<String> {
    let PlannedBody::Input { finite, .. } = node.body else { return None };
    let Some(entry) = entry else { return Some("is new".to_owned()) };
    let is_known = !entry.shape.settings.is_empty();
    if is_known && entry.shape.settings == node.shape.settings {
        // Also one that did not say that it would end has come to its end.
        None
    } else if !finite {
        Some("does not end any more".to_owned())
    } else {
        is_known.then(|| format!("has other settings: {}", node.shape.differences(&entry.shape)))
    }
}
