//! What is printed when a flow has ended: tables for people, one line of JSON for programs.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};
use indicatif::HumanCount;
use millstream_core::{Baselines, ConfusionMatrix, Evaluation, Figures, Metrics, ModelReport, Report};
use millstream_engine::file::Diagnostics;
use millstream_engine::run::{FlowError, Outcome, Status};
use millstream_engine::stats::{FlowStats, NodeStats};
use serde_json::{Map, Value, json};

use crate::terminal::{note, print_json};

/// A flow that has ended.
pub struct Ended {
    /// The flow's name.
    pub flow: String,
    /// Its nodes and their types, in the order of the counters.
    pub kinds: Vec<&'static str>,
    /// Which of them no flow file names, such as outputs of dead letters.
    pub hidden: Vec<bool>,
    /// Its counters and reports.
    pub stats: Arc<FlowStats>,
    /// How it ended.
    pub outcome: Outcome,
    /// Where the rows of each node are when they are committed, in the order of the counters. None for nodes that have no place.
    pub places: Vec<Option<String>>,
    /// The side ports of each node that nobody reads.
    pub unread: Vec<Vec<String>>,
    /// Whether it keeps state, from which it can be resumed.
    pub is_durable: bool,
}

/// Prints how a flow has ended.
pub fn print(flow: &Ended, as_json: bool) {
    if as_json { print_json(to_json(flow)) } else { print_tables(flow) }
}

/// Prints the JSON line of a flow that does not check.
pub fn print_unchecked(flow: &Path, diagnostics: &Diagnostics) {
    let name = flow.file_stem().unwrap_or_default().to_string_lossy();
    print_not_run(&name, json!({ "node": null, "message": diagnostics.to_string() }));
}

/// Prints the JSON line of a flow that was not started because one, which it may be itself, can't be.
pub fn print_unstarted(flow: &str, cause: &str, error: &FlowError) {
    let error = if flow == cause {
        json!({ "node": error.node, "message": error.error.to_string() })
    } else {
        json!({ "node": null, "message": format!("not started, because flow `{cause}` can't be") })
    };
    print_not_run(flow, error);
}

fn print_not_run(flow: &str, error: Value) {
    let line = json!({
        "flow": flow,
        "status": "failed",
        "error": error,
        "elapsed_s": 0.0,
        "nodes": {},
        "outputs": {},
        "models": {},
        "evaluations": {},
        "reports": {},
    });
    print_json(line);
}

fn to_json(flow: &Ended) -> Value {
    let (status, error) = match &flow.outcome.status {
        Status::Done => ("done", Value::Null),
        Status::Stopped if flow.outcome.unfinished => ("unfinished", Value::Null),
        Status::Stopped => ("stopped", Value::Null),
        Status::Failed(error) => ("failed", json!({ "node": error.node, "message": error.error.to_string() })),
    };
    let (mut nodes, mut models, mut evaluations, mut reports) = (Map::new(), Map::new(), Map::new(), Map::new());
    for node in &flow.stats.nodes {
        nodes.insert(node.name.clone(), node_json(node));
        match node.report() {
            Some(Report::Model(model)) => _ = models.insert(model.model.clone(), json!(model)),
            Some(Report::Evaluation(evaluation)) => _ = evaluations.insert(node.name.clone(), json!(evaluation)),
            Some(Report::Figures(figures)) => _ = reports.insert(node.name.clone(), json!(figures)),
            None => {}
        }
    }
    let nodes_with_place = flow.stats.nodes.iter().zip(&flow.places);
    let outputs: Map<String, Value> = nodes_with_place
        .filter_map(|(node, place)| Some((node.name.clone(), json!({ "place": place.as_ref()? }))))
        .collect();
    let mut summary = json!({
        "flow": flow.flow,
        "status": status,
        "error": error,
        "elapsed_s": flow.outcome.elapsed.as_secs_f64(),
        "nodes": nodes,
        "outputs": outputs,
        "models": models,
        "evaluations": evaluations,
        "reports": reports,
    });
    if flow.stats.is_resumed() {
        let nodes = flow.stats.nodes.iter().map(|node| (node.name.clone(), this_run_json(node)));
        summary["this_run"] = Value::Object(nodes.collect());
    }
    summary
}

/// What a resumed flow has counted in this run, of its totals.
fn this_run_json(node: &NodeStats) -> Value {
    let before = node.before();
    let out: Map<String, Value> = ports(node)
        .map(|(port, rows)| {
            (port.to_owned(), json!(rows - before.rows_out.get(port).copied().unwrap_or_default().min(rows)))
        })
        .collect();
    json!({
        "rows_in": of_this_run(&node.rows_in, before.rows_in),
        "rows_out": out,
        "rows_failed": of_this_run(&node.rows_failed, before.rows_failed),
    })
}

fn of_this_run(total: &AtomicU64, before: u64) -> u64 {
    total.load(Ordering::Relaxed).saturating_sub(before)
}

fn node_json(node: &NodeStats) -> Value {
    let out: Map<String, Value> = ports(node).map(|(port, rows)| (port.to_owned(), json!(rows))).collect();
    json!({
        "rows_in": node.rows_in.load(Ordering::Relaxed),
        "rows_out": out,
        "rows_failed": node.rows_failed.load(Ordering::Relaxed),
    })
}

/// On standard error, so that standard output holds nothing but rows.
fn print_tables(flow: &Ended) {
    note!("{}", node_table(flow));
    for node in &flow.stats.nodes {
        match node.report() {
            Some(Report::Model(model)) => note!("\n{}", model_table(&model)),
            Some(Report::Evaluation(evaluation)) => {
                evaluation_tables(&node.name, &evaluation).iter().for_each(|table| note!("\n{table}"));
            }
            Some(Report::Figures(figures)) => note!("\n{}", figures_table(&node.name, &figures)),
            None => {}
        }
    }
    dropped(flow).iter().chain(&pending(flow)).for_each(|line| note!("\n{line}"));
    let seconds = flow.outcome.elapsed.as_secs_f64();
    match &flow.outcome.status {
        Status::Done => note!("\nflow `{}`: done in {seconds:.2} s{}", flow.flow, places(flow)),
        Status::Stopped if flow.outcome.unfinished => {
            note!("\nflow `{}`: stopped after {seconds:.2} s; {}", flow.flow, unfinished(flow));
        }
        Status::Stopped => {
            let committed = if flow.outcome.abandoned {
                "it did not come to a barrier in time, and is resumed from its last checkpoint when it is run again"
                    .to_owned()
            } else {
                format!("what was read is committed{}", places(flow))
            };
            note!("\nflow `{}`: stopped after {seconds:.2} s; {committed}", flow.flow);
        }
        Status::Failed(error) => {
            let committed = match flow.outcome.committed.join("`, `") {
                _ if flow.is_durable => given_up(true).to_owned(),
                none if none.is_empty() => "nothing was committed".to_owned(),
                some => format!("`{some}` had been committed"),
            };
            note!("\nflow `{}`: failed after {seconds:.2} s; {committed}\n{error}", flow.flow);
        }
    }
}

/// What becomes of a flow that was stopped although its inputs would have ended.
fn unfinished(flow: &Ended) -> &'static str {
    if !flow.is_durable {
        "it is unfinished: nothing is committed, and what was there before stays; with `--state`, a run can be resumed"
    } else if flow.outcome.abandoned {
        "it is unfinished, and did not come to a barrier in time: the same command resumes it from its last checkpoint"
    } else {
        "it is unfinished, and the same command resumes it from where it is"
    }
}

/// What becomes of a flow that did not end well.
pub fn given_up(is_durable: bool) -> &'static str {
    if is_durable {
        "what its last checkpoint has decided stays, and it resumes from there when it is run again"
    } else {
        "nothing is committed"
    }
}

/// A line for each side port by which rows have left that nobody reads.
fn dropped(flow: &Ended) -> Vec<String> {
    let of_node = |(node, unread): (&NodeStats, &Vec<String>)| {
        let lost = ports(node).filter(|(port, rows)| *rows > 0 && unread.iter().any(|name| name == port));
        let line = |(port, rows)| {
            format!("warning: {} rows left by `{}.{port}`, which nobody reads", HumanCount(rows), node.name)
        };
        lost.map(line).collect::<Vec<_>>()
    };
    flow.stats.nodes.iter().zip(&flow.unread).flat_map(of_node).collect()
}

/// A line for each node whose target does not have all yet that counts.
fn pending(flow: &Ended) -> Vec<String> {
    let of_node = |node: &NodeStats| {
        let commits = node.pending_commits.load(Ordering::Relaxed);
        let why = node.retrying().map_or_else(String::new, |why| format!(" ({why})"));
        let name = &node.name;
        let line =
            format!("warning: {commits} commits of `{name}` are pending{why}; the next run makes their rows visible");
        (flow.is_durable && commits > 0).then_some(line)
    };
    flow.stats.nodes.iter().filter_map(of_node).collect()
}

/// A line for each place that has got rows.
fn places(flow: &Ended) -> String {
    let nodes = flow.stats.nodes.iter().zip(&flow.places);
    let placed = nodes.filter_map(|(node, place)| Some((node.rows_in.load(Ordering::Relaxed), place.as_ref()?)));
    let lines = placed.filter(|(rows, _)| *rows > 0).map(|(rows, place)| match rows {
        1 => format!("\n  1 row in {place}"),
        _ => format!("\n  {} rows in {place}", HumanCount(rows)),
    });
    lines.collect()
}

/// A line a node. Those of a resumed flow have totals, and say what is of this run.
fn node_table(flow: &Ended) -> Table {
    let is_resumed = flow.stats.is_resumed();
    let this_run = is_resumed.then_some("of this run");
    let header = ["node", "type", "rows in"].into_iter().chain(this_run).chain(["rows out", "failed"]);
    let mut table = new_table(header);
    let written = flow.stats.nodes.iter().zip(&flow.kinds).zip(&flow.hidden).filter(|(_, hidden)| !**hidden);
    for ((node, kind), _) in written {
        let count = |rows: u64| Cell::new(HumanCount(rows)).set_alignment(CellAlignment::Right);
        let this_run = is_resumed.then(|| count(of_this_run(&node.rows_in, node.before().rows_in)));
        let first = [Cell::new(&node.name), Cell::new(kind), count(node.rows_in.load(Ordering::Relaxed))];
        let last = [Cell::new(rows_out(node)), count(node.rows_failed.load(Ordering::Relaxed))];
        table.add_row(first.into_iter().chain(this_run).chain(last));
    }
    table
}

/// Rows by port; the name of the only port needs no mention.
fn rows_out(node: &NodeStats) -> String {
    let shown = ports(node).map(|(port, rows)| match port {
        millstream_core::MAIN => HumanCount(rows).to_string(),
        port => format!("{port} {}", HumanCount(rows)),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Rows by port. Rejected rows are counted apart, whether or not anybody reads them.
fn ports(node: &NodeStats) -> impl Iterator<Item = (&str, u64)> {
    let ports = node.rows_out.iter().filter(|(port, _)| port != millstream_core::FAILED);
    ports.map(|(port, rows)| (port.as_str(), rows.load(Ordering::Relaxed)))
}

fn model_table(model: &ModelReport) -> Table {
    let version = model.version.map_or_else(|| "not published".to_owned(), |version| format!("version {version}"));
    let title = format!("model `{}`, {version}, {} rows learned", model.model, HumanCount(model.rows));
    let mut rows = vec![("before learning each row", &model.metrics), ("of these, the last 1,000", &model.recent)];
    rows.extend(model.held_out.as_ref().map(|metrics| ("rows held out", metrics)));
    rows.extend(baselines(&model.baselines));
    metrics_table(&title, &rows)
}

/// What needs no model. There is none where there is no label, or nobody knows which classes there are.
fn baselines(Baselines { persistence, majority }: &Baselines) -> impl Iterator<Item = (&'static str, &Metrics)> {
    let is_regression = majority.get("mae").is_some();
    let of_majority = if is_regression { "baseline: mean so far" } else { "baseline: most frequent so far" };
    let both = [("baseline: persistence", persistence), (of_majority, majority)];
    both.into_iter().filter(|(_, metrics)| !metrics.0.is_empty())
}

/// The most classes and segments that are printed; JSON has more.
const MOST_SHOWN: usize = 10;

/// The figures of all rows, of classes, and of the largest segments.
fn evaluation_tables(node: &str, evaluation: &Evaluation) -> Vec<Table> {
    let title = format!("evaluation `{node}`, {} rows", HumanCount(evaluation.rows));
    let mut rows = vec![("predictions", &evaluation.metrics), ("the last 1,000", &evaluation.recent)];
    rows.extend(baselines(&evaluation.baselines));
    let mut tables = vec![metrics_table(&title, &rows)];
    if let Some(confusion) = evaluation.confusion.as_ref().filter(|known| known.classes.len() <= MOST_SHOWN) {
        tables.push(confusion_table(confusion));
        let by_class: Vec<_> = evaluation.by_class.iter().map(|(class, figures)| (class.as_str(), figures)).collect();
        tables.push(metrics_table("class", &by_class));
    }
    let mut segments: Vec<_> = evaluation.segments.iter().collect();
    segments.sort_by_key(|(_, segment)| Reverse(segment.rows));
    let named = segments
        .iter()
        .take(MOST_SHOWN)
        .map(|(value, segment)| (format!("`{value}`, {} rows", HumanCount(segment.rows)), &segment.metrics));
    let named: Vec<_> = named.collect();
    if !named.is_empty() {
        let rows: Vec<_> = named.iter().map(|(name, metrics)| (name.as_str(), *metrics)).collect();
        tables.push(metrics_table("segment", &rows));
    }
    tables
}

fn confusion_table(confusion: &ConfusionMatrix) -> Table {
    let predicted = confusion.classes.iter().map(|class| format!("predicted `{class}`"));
    let mut table = new_table(std::iter::once("rows of".to_owned()).chain(predicted));
    for (class, counts) in confusion.classes.iter().zip(&confusion.counts) {
        let count = |rows: &u64| Cell::new(HumanCount(*rows)).set_alignment(CellAlignment::Right);
        table.add_row(std::iter::once(Cell::new(format!("`{class}`"))).chain(counts.iter().map(count)));
    }
    table
}

fn metrics_table(title: &str, rows: &[(&str, &Metrics)]) -> Table {
    let names = rows.first().map(|(_, metrics)| metrics.0.iter().map(|(name, _)| *name)).into_iter().flatten();
    let mut table = new_table(std::iter::once(title).chain(names.clone()));
    for (label, metrics) in rows {
        let figures = names.clone().map(|name| match metrics.get(name) {
            Some(rows) if name == "rows" => HumanCount(rows as u64).to_string(),
            Some(value) if !value.is_nan() => format!("{value:.4}"),
            _ => "-".to_owned(),
        });
        let cells = figures.map(|figure| Cell::new(figure).set_alignment(CellAlignment::Right));
        table.add_row(std::iter::once(Cell::new(label)).chain(cells));
    }
    table
}

/// A line for each figure that a node reports in words of its own.
fn figures_table(node: &str, figures: &Figures) -> Table {
    let mut table = new_table([format!("`{node}`: {}", figures.title).as_str(), ""]);
    for (name, value) in &figures.values {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        table.add_row([Cell::new(name), Cell::new(shown).set_alignment(CellAlignment::Right)]);
    }
    table
}

/// A table with a line below its header and no other.
pub fn new_table<T: Into<Cell>>(header: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.into_iter().collect::<Vec<_>>());
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_reports_in_words_of_its_own_is_shown_as_it_is() {
        let values = vec![("hits", json!(31)), ("share", json!(0.75)), ("from", json!("a cache"))];
        let figures = Figures { title: "cache of prices".into(), values };
        assert_eq!(json!(figures), json!({ "hits": 31, "share": 0.75, "from": "a cache" }));
        let table = figures_table("prices", &figures).trim_fmt();
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "`prices`: cache of prices");
        assert_eq!(lines[2..], ["hits 31", "share 0.75", "from a cache"]);
    }
}
