//! What a daemon has told of its flows, and what follows from that: rates, what is behind, who holds others up.
//!
//! What is told may have more in it than is known here, and less.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use super::Told;

/// How many samples of counters are kept: a rate is that of the seconds between the first and the last.
const SAMPLES: usize = 5;

/// Which share of what may wait on an edge makes it full.
const FULL: f64 = 0.9;

/// A node that spends this share of its time waiting for room waits for the one behind it. The edge between them need not be full, if a batch does
/// not fit any more.
const WAITS: f64 = 0.1;

/// Nobody is said to hold others up unless one of them waits this share of its time.
const HELD_UP: f64 = 0.5;

/// The flows of a daemon.
#[derive(Default)]
pub struct Watched {
    flows: BTreeMap<String, Flow>,
    lost: Option<String>,
}

/// A flow, as it was told.
#[derive(Default)]
struct Flow {
    told: Json,
    samples: VecDeque<Json>,
}

/// A flow as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowRow {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: String,
    /// How it is: `ok`, `degraded` or `failing`.
    pub health: String,
    /// Rows a second that its inputs read.
    pub read_per_s: Option<f64>,
    /// Rows a second that come to its outputs.
    pub written_per_s: Option<f64>,
    /// How many rows were refused.
    pub failed: u64,
    /// How far event time at its outputs is behind the clock.
    pub lag_s: Option<f64>,
    /// How often it was started again.
    pub restarts: u64,
    /// The last checkpoint.
    pub checkpoint: Option<u64>,
    /// The node that holds others up.
    pub held_by: Option<String>,
    /// Why it is not well.
    pub reason: Option<String>,
}

/// A node as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Rows a second that it takes, or, of an input, reads.
    pub rows_per_s: Option<f64>,
    /// The share of its time in which it works.
    pub busy: Option<f64>,
    /// In which it waits for rows.
    pub waiting: Option<f64>,
    /// In which it waits for room behind it.
    pub blocked: Option<f64>,
    /// How full the fullest edge to it is.
    pub fill: Option<f64>,
    /// How many rows were refused.
    pub failed: u64,
    /// How far event time behind it is behind the clock.
    pub lag_s: Option<f64>,
    /// Whether others wait because of it.
    pub is_cause: bool,
    /// Why something is tried again.
    pub retrying: Option<String>,
}

impl Watched {
    /// Takes what was told.
    pub fn take(&mut self, told: Told) {
        match told {
            Told::Again(names) => {
                self.lost = None;
                // That the others are gone is not told again.
                self.flows.retain(|name, _| names.contains(name));
            }
            Told::Lost(why) => self.lost = Some(why),
            Told::Event(event) => match event.name.as_str() {
                "flow" => {
                    if let Some(name) = event.data["name"].as_str() {
                        let name = name.to_owned();
                        self.flows.entry(name).or_default().told = event.data;
                    }
                }
                "gone" => _ = event.data["name"].as_str().map(|name| self.flows.remove(name)),
                "stats" => {
                    if let Some(flow) = event.data["flow"].as_str().and_then(|name| self.flows.get_mut(name)) {
                        flow.add(event.data);
                    }
                }
                _ => {}
            },
        }
    }

    /// Why the daemon does not answer, if it does not.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The flows, by name.
    pub fn flows(&self) -> Vec<FlowRow> {
        self.flows.iter().map(|(name, flow)| flow.row(name)).collect()
    }

    /// The nodes of a flow: the causes of what waits first, then by name.
    pub fn nodes(&self, flow: &str) -> Vec<NodeRow> {
        let mut nodes = self.flows.get(flow).map(Flow::nodes).unwrap_or_default();
        nodes.sort_by_key(|node| !node.is_cause);
        nodes
    }
}

impl Flow {
    fn add(&mut self, stats: Json) {
        let began = self.samples.back().is_some_and(|before| {
            let is_less = |(name, node): (&String, &Json)| flowed(node) < flowed(&before["nodes"][name]);
            before["revision"] != stats["revision"] || stats["nodes"].as_object().into_iter().flatten().any(is_less)
        });
        if began {
            self.samples.clear();
        }
        self.samples.push_back(stats);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    fn row(&self, name: &str) -> FlowRow {
        let text = |pointer: &str| self.told.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        let number = |pointer: &str| self.told.pointer(pointer).and_then(Json::as_u64);
        let nodes = self.nodes();
        let is_input = |node: &&NodeRow| !self.edges().any(|edge| edge.to == node.name);
        let is_output = |node: &&NodeRow| !self.edges().any(|edge| edge.from == node.name);
        let is_running = self.told["state"] == "running" && !self.samples.is_empty();
        let cause = nodes.iter().find(|node| node.is_cause).map(|node| node.name.clone());
        let retrying = nodes.iter().find_map(|node| Some(format!("{}: {}", node.name, node.retrying.as_deref()?)));
        FlowRow {
            name: name.to_owned(),
            state: if self.told["paused"].is_null() { text("/state").unwrap_or_default() } else { "paused".to_owned() },
            health: text("/health").unwrap_or_default(),
            read_per_s: sum(nodes.iter().filter(is_input)).filter(|_| is_running),
            written_per_s: sum(nodes.iter().filter(is_output)).filter(|_| is_running),
            failed: nodes.iter().map(|node| node.failed).sum::<u64>().max(number("/rows/failed").unwrap_or_default()),
            lag_s: nodes.iter().filter(is_output).filter_map(|node| node.lag_s).reduce(f64::max).filter(|_| is_running),
            restarts: number("/restarts/count").unwrap_or_default(),
            checkpoint: self.last("/checkpoint/number").and_then(Json::as_u64).or_else(|| number("/checkpoint/number")),
            held_by: cause.filter(|_| is_running),
            reason: text("/reason").or_else(|| text("/problem/reason")).or_else(|| text("/paused")).or(retrying),
        }
    }

    /// Something of the last sample.
    fn last(&self, pointer: &str) -> Option<&Json> {
        self.samples.back()?.pointer(pointer)
    }

    fn nodes(&self) -> Vec<NodeRow> {
        let nodes = self.last("/nodes").and_then(Json::as_object);
        let mut nodes: Vec<NodeRow> = nodes.into_iter().flatten().map(|(name, node)| self.node(name, node)).collect();
        let waiting =
            |share: f64| nodes.iter().filter(move |node| self.waits(node, share)).map(|node| node.name.clone());
        if waiting(HELD_UP).next().is_none() {
            return nodes;
        }
        let waiting: Vec<String> = waiting(WAITS).collect();
        for node in &mut nodes {
            let mut before = self.edges().filter(|edge| edge.to == node.name);
            let holds_up =
                before.any(|edge| edge.fill >= FULL || edge.fill > 0.0 && waiting.iter().any(|name| name == edge.from));
            // Only the last one in a row of nodes that wait is the cause.
            node.is_cause = holds_up && !waiting.contains(&node.name);
        }
        nodes
    }

    /// Whether a node waits for room behind it, for this share of its time at least.
    fn waits(&self, node: &NodeRow, share: f64) -> bool {
        let is_full = self.edges().any(|edge| edge.from == node.name && edge.fill >= FULL);
        is_full || node.blocked.is_some_and(|blocked| blocked >= share)
    }

    fn node(&self, name: &str, node: &Json) -> NodeRow {
        let fill = self.edges().filter(|edge| edge.to == name).map(|edge| edge.fill).reduce(f64::max);
        let spent = |key: &str| (self.grown(name, key).unwrap_or_default()).max(0.0);
        let [busy, waiting, blocked] = ["busy_s", "waiting_s", "blocked_s"].map(spent);
        let all = busy + waiting + blocked;
        let share = |seconds: f64| (all > 0.0).then(|| seconds / all);
        NodeRow {
            name: name.to_owned(),
            rows_per_s: self.rate(name, "rows_in"),
            busy: share(busy),
            waiting: share(waiting),
            blocked: share(blocked),
            fill,
            failed: node["rows_failed"].as_u64().unwrap_or_default(),
            lag_s: self.lag(node),
            is_cause: false,
            retrying: node["retrying"].as_str().map(str::to_owned),
        }
    }

    fn lag(&self, node: &Json) -> Option<f64> {
        let (now, reached) = (time(self.last("/at")?)?, time(&node["watermark"])?);
        Some(((now - reached).num_milliseconds() as f64 / 1000.0).max(0.0))
    }

    /// By how much a counter of a node has grown between the first and the last sample.
    fn grown(&self, node: &str, counter: &str) -> Option<f64> {
        let value = |sample: &Json| sample.pointer(&format!("/nodes/{node}/{counter}"))?.as_f64();
        Some(value(self.samples.back()?)? - value(self.samples.front()?)?)
    }

    fn rate(&self, node: &str, counter: &str) -> Option<f64> {
        let (first, last) = (time(&self.samples.front()?["at"])?, time(&self.samples.back()?["at"])?);
        let seconds = (last - first).num_milliseconds() as f64 / 1000.0;
        self.grown(node, counter).filter(|_| seconds > 0.0).map(|grown| grown / seconds)
    }

    fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        let edges = self.last("/edges").and_then(Json::as_object);
        edges.into_iter().flatten().filter_map(|(name, edge)| Edge::new(name, edge))
    }
}

/// An edge, `NODE.PORT>NODE`, and how full it is.
struct Edge<'s> {
    from: &'s str,
    to: &'s str,
    fill: f64,
}

impl<'s> Edge<'s> {
    fn new(name: &'s str, edge: &Json) -> Option<Self> {
        let (from, to) = name.split_once('>')?;
        let share =
            |waits: &str, limit: &str| Some(edge[waits].as_f64()? / edge[limit].as_f64().filter(|limit| *limit > 0.0)?);
        let fill =
            [share("rows", "limit_rows"), share("bytes", "limit_bytes")].into_iter().flatten().fold(0.0, f64::max);
        Some(Self { from: from.split('.').next()?, to, fill })
    }
}

/// All rows that have come to a node, or, of an input, that it has read.
fn flowed(node: &Json) -> f64 {
    node["rows_in"].as_f64().unwrap_or_default()
}

fn sum<'a>(nodes: impl Iterator<Item = &'a NodeRow>) -> Option<f64> {
    nodes.filter_map(|node| node.rows_per_s).reduce(|sum, rate| sum + rate)
}

fn time(text: &Json) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(text.as_str()?).ok()?.to_utc())
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::super::super::events::Event;
    use super::*;

    /// What a daemon told of a flow whose output is slow, as `GET /events` gave it, and something that is not known here.
    pub fn told() -> Watched {
        let mut watched = Watched::default();
        watched.take(Told::Again(Vec::new()));
        let text = include_str!("told.ndjson");
        for line in text.lines() {
            let told: Json = serde_json::from_str(line).expect("JSON");
            let name = told["event"].as_str().expect("an event").to_owned();
            watched.take(Told::Event(Event { name, data: told["data"].clone() }));
        }
        watched
    }

    #[test]
    fn rates_and_causes_follow_from_what_was_told() {
        let watched = told();
        let flows = watched.flows();
        let names: Vec<_> = flows.iter().map(|flow| (flow.name.as_str(), flow.state.as_str())).collect();
        assert_eq!(names, [("broken", "failed"), ("slow", "running")]);
        let slow = &flows[1];
        assert_eq!(slow.held_by.as_deref(), Some("halved"), "{slow:#?}");
        assert!(slow.read_per_s.is_some_and(|rate| rate > 0.0) && slow.written_per_s.is_some(), "{slow:#?}");
        let nodes = watched.nodes("slow");
        assert_eq!(nodes[0].name, "halved", "{nodes:#?}");
        assert!(nodes[0].is_cause && nodes[0].busy > Some(0.5) && nodes[0].fill > Some(0.0), "{nodes:#?}");
        assert!(nodes[1..].iter().all(|node| !node.is_cause), "{nodes:#?}");
        assert!(flows[0].reason.is_some() && flows[0].read_per_s.is_none(), "{:#?}", flows[0]);
    }

    #[test]
    fn what_is_told_may_have_more_and_less_in_it() {
        let mut watched = Watched::default();
        let event = |name: &str, data: Json| Told::Event(Event { name: name.to_owned(), data });
        watched.take(event("flow", json!({ "name": "a", "news": { "more": 1 } })));
        watched.take(event("flow", json!({ "no name": 3 })));
        watched.take(event(
            "stats",
            json!({ "flow": "a", "nodes": { "x": null, "y": { "rows_in": "many" } }, "edges": { "odd": {} } }),
        ));
        watched.take(event("stats", json!({ "flow": "nobody" })));
        watched.take(event("weather", json!("fine")));
        assert_eq!((watched.flows().len(), watched.nodes("a").len(), watched.nodes("b").len()), (1, 2, 0));
        watched.take(Told::Lost("it has ended".to_owned()));
        assert_eq!((watched.flows().len(), watched.lost()), (1, Some("it has ended")), "what was seen last stays");
        watched.take(Told::Again(vec!["a".to_owned()]));
        assert_eq!((watched.flows().len(), watched.lost()), (1, None));
        watched.take(event("flow", json!({ "name": "b" })));
        watched.take(event("gone", json!({ "name": "a" })));
        assert_eq!(watched.flows()[0].name, "b");
        watched.take(Told::Again(Vec::new()));
        assert!(watched.flows().is_empty());
    }
}
