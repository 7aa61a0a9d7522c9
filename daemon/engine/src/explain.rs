//! What a flow promises: columns, order, deliveries, limits, in words.

use std::fmt::Write as _;

use arrow::datatypes::Schema;
use millstream_core::{ByteSize, Delivery, type_name};

use crate::align::ReadOrder;
use crate::file::Interval;
use crate::file::{OnError, ReplayLogRetention};
use crate::graph::is_shown;
use crate::plan::{
    Plan, PlannedBody, PlannedBuffering, PlannedMember, PlannedNode, PlannedRequests, PlannedStage, PlannedTime,
    PlannedTimeGroup,
};

/// A page about a plan.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "flow `{}`", plan.flow);
    if let Some(description) = &plan.description {
        let _ = writeln!(text, "  {description}");
    }
    let _ = writeln!(text, "\nnodes");
    for node in &plan.nodes {
        node_page(plan, node, &mut text);
    }
    let _ = writeln!(text, "\norder\n  {}", order(plan));
    let _ = writeln!(text, "  an epoch ends after {} rows of an input", plan.epoch_rows);
    for group in &plan.time_groups {
        let _ = writeln!(text, "  {}", together(plan, group));
    }
    let keep = plan.keep_checkpoints;
    let _ = writeln!(text, "\ncheckpoints\n  with `--state`, {}; the last {keep} are kept", checkpoints(plan));
    let limits = plan.limits;
    let _ = writeln!(
        text,
        "\nlimits\n  each of {} edges holds at most {} rows and {}; a larger batch passes alone",
        plan.edges.len(),
        limits.rows,
        ByteSize(limits.bytes)
    );
    for warning in &plan.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}

fn node_page(plan: &Plan, node: &PlannedNode, text: &mut String) {
    let _ = writeln!(text, "  {} `{}`, {}", node.role(), node.name, node.kind);
    for line in reading(plan, node) {
        let _ = writeln!(text, "      {line}");
    }
    for port in node.ports.iter().filter(|port| is_shown(port)) {
        let _ = writeln!(text, "      {}: {}", port.name, columns(port.canonical.schema()));
    }
    let line = match &node.body {
        PlannedBody::Output { delivery: Delivery::ExactlyOnce, writes: Some(_), .. } => {
            let without = if plan.is_finite() { "when the flow ends" } else { "when the flow is stopped" };
            format!("delivers every row exactly once: visible {without}, or with `--state` at the checkpoint at which its file is whole")
        }
        PlannedBody::Output { delivery: Delivery::ExactlyOnce, .. } if plan.is_finite() => {
            "delivers every row exactly once: visible when the flow ends, or with `--state` behind each checkpoint".to_owned()
        }
        PlannedBody::Output { delivery: Delivery::ExactlyOnce, .. } => {
            "delivers every row exactly once with `--state`: visible behind each checkpoint; without, at least once, as they come".to_owned()
        }
        PlannedBody::Output { delivery: Delivery::AtLeastOnce, .. } => {
            "delivers at least once: rows are visible as they are written, and those since the last checkpoint again after a crash"
                .to_owned()
        }
        PlannedBody::Input { finite, pauses, replayable, event_time, .. } => {
            let end = match (finite, pauses) {
                (true, _) => "ends by itself",
                (false, true) => "each run ends behind what is there, and the next one goes on with what is new",
                (false, false) => "live",
            };
            let replay = if *replayable { "can be read again from any position" } else { "can't be read again" };
            format!("{end}, {replay}{}", lateness(node, event_time.as_ref()))
        }
        PlannedBody::Processor { requests: Some(requests), .. } => asking(plan, requests),
        PlannedBody::Processor { buffering: Some(buffering), .. } => buffering_line(plan, buffering),
        PlannedBody::Processor { .. } => String::new(),
    };
    if !line.is_empty() {
        let _ = writeln!(text, "      {line}");
    }
    let is_open = node.ports.iter().any(|port| port.name == millstream_core::FAILED && port.edges.is_empty());
    if is_open {
        let _ = writeln!(
            text,
            "      rejected rows: {}",
            match &node.on_error {
                OnError::Fail => "the flow fails".to_owned(),
                OnError::Drop => "counted and dropped".to_owned(),
                OnError::DeadLetter(path) => format!("written to {path}"),
            }
        );
    }
}

/// How a node asks others, and what is kept of what they say.
fn asking(plan: &Plan, requests: &PlannedRequests) -> String {
    let PlannedRequests { in_flight, timeout, answers_may_differ } = requests;
    let again = match (answers_may_differ, plan.makes_models(), plan.replay_log_retention) {
        (false, _, _) => "it is told the same whenever it asks",
        (true, false, _) => {
            "it may be told something else another time, and what it is told is not kept, since the flow makes no model that could be \
             trained again"
        }
        (true, true, ReplayLogRetention::All) => {
            "it may be told something else another time: with `--state`, what it is told is recorded for `millstream replay`, and kept \
             for good"
        }
        (true, true, ReplayLogRetention::Kept) => {
            "it may be told something else another time: with `--state`, what it is told is recorded for `millstream replay`, and kept \
             back to the oldest checkpoint that is kept"
        }
    };
    format!(
        "asks others about {in_flight} batches at a time, which leave in the order in which they came; what takes longer than {} s, or \
         fails in a way that may be over in a while, is asked again; {again}",
        timeout.as_secs_f64()
    )
}

/// How a node keeps rows, and what is recorded of that.
fn buffering_line(plan: &Plan, buffering: &PlannedBuffering) -> String {
    if !buffering.is_live {
        return "lets rows pass at once, since all inputs behind it end".to_owned();
    }
    let recorded = match (plan.makes_models(), plan.replay_log_retention) {
        (false, _) => "",
        (true, ReplayLogRetention::All) => {
            "; with `--state`, it is recorded for `millstream replay` when rows have left, and kept for good"
        }
        (true, ReplayLogRetention::Kept) => {
            "; with `--state`, it is recorded for `millstream replay` when rows have left, and kept back to the oldest checkpoint that is kept"
        }
    };
    format!(
        "keeps rows while those behind it have no room; barriers pass them, and they belong to the epoch in which they leave{recorded}"
    )
}

/// What becomes of rows that come out of order.
fn lateness(node: &PlannedNode, time: Option<&PlannedTime>) -> String {
    let Some(time) = time else { return String::new() };
    let column = node.ports[0].event_time.as_deref().unwrap_or_default();
    let lateness = time.lateness as f64 / 1e6;
    format!(
        "; the watermark is the latest `{column}` less {lateness} s, and moves after every {} rows and at barriers; a row that is \
         earlier is late",
        time.watermark_rows
    )
}

/// How a node with several edges reads them.
fn reading(plan: &Plan, node: &PlannedNode) -> Vec<String> {
    let name = |edge: &usize| {
        let (from, port) = plan.edges[*edge].from;
        let (from, port) = (&plan.nodes[from], &plan.nodes[from].ports[port].name);
        if port == millstream_core::MAIN { format!("`{}`", from.name) } else { format!("`{}.{port}`", from.name) }
    };
    let stages = node.stages.iter().map(|stage| {
        let edges = stage.edges.iter().map(name).collect::<Vec<_>>().join(", ");
        match (stage.edges.len(), stage.read_order) {
            (1, _) => edges,
            (_, ReadOrder::Arrival) => format!("{edges} as rows arrive"),
            (_, ReadOrder::EpochByEpoch) => format!("{edges} one after the other in every epoch"),
            (_, ReadOrder::RoundRobin(rows)) => format!("{edges} in turn, {rows} rows each"),
            (_, ReadOrder::EventTime) => format!("{edges} as their event times come along"),
        }
    });
    let stages: Vec<String> = stages.collect();
    if stages.is_empty() {
        return stages;
    }
    vec![format!("reads {}", stages.join(", then "))]
}

/// Whether two runs give the same, and why not.
fn order(plan: &Plan) -> String {
    if plan.is_strict() {
        return "strict: every run on the same data gives the same rows and the same models, bit for bit, also through a crash"
            .to_owned();
    }
    let live = plan.nodes.iter().filter_map(|node| match node.body {
        PlannedBody::Input { pauses: true, .. } => Some(format!("input `{}` goes on with every run", node.name)),
        PlannedBody::Input { finite: false, .. } => Some(format!("input `{}` is live", node.name)),
        PlannedBody::Input { replayable: false, .. } => Some(format!("input `{}` can't be read again", node.name)),
        _ => None,
    });
    let mixed = plan.nodes.iter().filter(|node| node.stages.iter().any(PlannedStage::is_by_arrival));
    let mixed = mixed.map(|node| format!("`{}` takes rows as they arrive", node.name));
    let told = plan.nodes.iter().filter(|node| node.may_be_told_otherwise());
    let told = told.map(|node| format!("`{}` goes by what others tell it", node.name));
    format!(
        "logged: {}; with `--state` it is written down what came when, and `millstream replay` goes through it again",
        live.chain(mixed).chain(told).collect::<Vec<_>>().join(", ")
    )
}

/// How inputs advance together in event time.
fn together(plan: &Plan, group: &PlannedTimeGroup) -> String {
    let name = |member: &PlannedMember| format!("`{}`", plan.nodes[member.input].name);
    let names = |members: &mut dyn Iterator<Item = &PlannedMember>| members.map(name).collect::<Vec<_>>().join(", ");
    if group.is_strict {
        let all = names(&mut group.members.iter());
        return format!(
            "{all} advance together in event time: an epoch ends in all of them at the event time at which the first has so \
             many rows; so no row is predicted by what became known later"
        );
    }
    let waiting = group.members.iter().filter(|member| !member.waits_for.is_empty());
    let waiting = waiting.map(|member| {
        let others = names(&mut member.waits_for.iter().map(|other| &group.members[*other]));
        let name = name(member);
        format!("rows of {name} wait until {others} has come as far in event time, or is idle, so none is predicted by later rows of {name}")
    });
    waiting.collect::<Vec<_>>().join("; ")
}

/// How often checkpoints are taken.
fn checkpoints(plan: &Plan) -> String {
    match plan.checkpoints {
        Interval::Time(time) => format!("every {} s, at the next barrier", time.as_secs_f64()),
        Interval::Epochs(1) => "at every barrier".to_owned(),
        Interval::Epochs(epochs) => format!("at every {epochs} barriers"),
        Interval::Never => "never".to_owned(),
    }
}

fn columns(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|field| {
        let question = if field.is_nullable() { "?" } else { "" };
        format!("{} {}{question}", field.name(), type_name(field.data_type()))
    });
    columns.collect::<Vec<_>>().join(", ")
}
