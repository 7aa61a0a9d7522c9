//! What must come out of a flow of small nodes, reckoned by hand: every row has its epoch, and that is all there is to order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::graphs::Pace;

/// A flow, and what it was before it was edited.
#[derive(Clone, Debug)]
pub struct Flow {
    pub nodes: Vec<Node>,
    pub epoch_rows: u64,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub from: Vec<Port>,
    /// The barrier behind which it was added to the flow.
    pub since: u64,
}

/// Where rows leave a node: of one that sorts numbers, the even ones or the odd ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub node: usize,
    pub rest: Option<i64>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Count {
        rows: u64,
    },
    /// What is added behind which barrier; the last that counts does.
    Add(Vec<(u64, i64)>),
    Parity,
    /// All of one stream after the other, or epoch by epoch where they stem from the same input.
    Union,
    /// Adds the sum of the second stream to the rows of the first.
    After,
    /// Sums of so many rows.
    Batched(u64),
    Teach,
    /// The number of rows that a teacher had had at the barrier before.
    Obey {
        teacher: usize,
    },
    Output,
}

/// Rows with their epochs, and the epoch in which they end.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    rows: Vec<(u64, i64)>,
    end: u64,
}

impl Stream {
    fn map(self, change: impl Fn(u64, i64) -> i64) -> Self {
        Self { rows: self.rows.into_iter().map(|(epoch, n)| (epoch, change(epoch, n))).collect(), ..self }
    }

    /// How many rows there are up to a barrier.
    fn count(&self, barrier: u64) -> i64 {
        self.rows.iter().filter(|(epoch, _)| *epoch <= barrier).count() as i64
    }
}

impl Port {
    fn name(self) -> String {
        let rest = self.rest.map_or("", |rest| if rest == 0 { ".even" } else { ".odd" });
        format!("n{}{rest}", self.node)
    }
}

impl Flow {
    /// The flow file. The numbers of its inputs are of different thousands.
    pub fn text(&self, name: &str, pace: &Pace) -> String {
        let mut text = format!("flow.name = \"{name}\"\nflow.epoch.rows = {}\n{}\n", self.epoch_rows, pace.checkpoint);
        let _ = writeln!(text, "flow.edge.rows = {}", pace.edge_rows);
        for (place, node) in self.nodes.iter().enumerate() {
            let from: Vec<_> = node.from.iter().map(|port| format!("{:?}", port.name())).collect();
            let (first, all) = (from.first().cloned().unwrap_or_default(), from.join(", "));
            let from = |kind: &str| format!("processor.n{place} = {{ type = \"{kind}\", from = {first}");
            let line = match &node.kind {
                Kind::Count { rows } => format!(
                    "input.n{place} = {{ type = \"count\", start = {}, rows = {rows}, batch_rows = {} }}",
                    first_number(place),
                    pace.batch_rows
                ),
                Kind::Add(by) => format!("{}, by = {} }}", from("add"), by.last().map_or(0, |(_, by)| *by)),
                Kind::Parity => format!("{} }}", from("parity")),
                Kind::Union => format!("processor.n{place} = {{ type = \"merge\", from = [{all}] }}"),
                Kind::After => format!("{}, with = {:?} }}", from("after"), node.from[1].name()),
                Kind::Batched(rows) => format!("{}, rows = {rows} }}", from("batched")),
                Kind::Teach => format!("{}, model = \"m{place}\" }}", from("teach")),
                Kind::Obey { teacher } => format!("{}, model = \"m{teacher}\" }}", from("obey")),
                Kind::Output => format!(
                    "output.n{place} = {{ type = \"file\", from = {first}, path = \"{name}/n{place}\", slow = {} }}",
                    pace.slow
                ),
            };
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// The numbers that each output must have.
    pub fn outputs(&self) -> BTreeMap<usize, Vec<i64>> {
        let reckoning = Reckoning { flow: self, known: RefCell::default() };
        let outputs = (0..self.nodes.len()).filter(|place| matches!(self.nodes[*place].kind, Kind::Output));
        outputs.map(|place| (place, reckoning.node(place).rows.into_iter().map(|(_, n)| n).collect())).collect()
    }
}

fn first_number(place: usize) -> i64 {
    place as i64 * 1000
}

struct Reckoning<'f> {
    flow: &'f Flow,
    known: RefCell<BTreeMap<usize, Stream>>,
}

impl Reckoning<'_> {
    fn node(&self, place: usize) -> Stream {
        if let Some(known) = self.known.borrow().get(&place) {
            return known.clone();
        }
        let stream = self.reckon(place);
        self.known.borrow_mut().insert(place, stream.clone());
        stream
    }

    fn port(&self, port: Port) -> Stream {
        let mut stream = self.node(port.node);
        stream.rows.retain(|(_, n)| port.rest.is_none_or(|rest| n % 2 == rest));
        stream
    }

    fn reckon(&self, place: usize) -> Stream {
        let node = &self.flow.nodes[place];
        match &node.kind {
            Kind::Count { rows } => self.count(place, *rows),
            Kind::Add(by) => self.rows(place).map(|epoch, n| {
                let counts = by.iter().rev().find(|(barrier, _)| *barrier < epoch);
                n + counts.map_or(0, |(_, by)| *by)
            }),
            Kind::Parity | Kind::Union | Kind::Teach | Kind::Output => self.rows(place),
            Kind::After => {
                let sum: i64 = self.port(node.from[1]).rows.iter().map(|(_, n)| n).sum();
                self.rows(place).map(|_, n| n + sum)
            }
            Kind::Batched(count) => {
                let stream = self.rows(place);
                let whole = stream.rows.chunks_exact(*count as usize);
                let rows = whole.map(|rows| (rows[rows.len() - 1].0, rows.iter().map(|(_, n)| n).sum())).collect();
                Stream { rows, ..stream }
            }
            Kind::Obey { teacher } => {
                let taught = self.node(*teacher);
                let rows = self.rows(place).map(|epoch, _| taught.count((epoch - 1).min(taught.end - 1)));
                // A node ends when all edges to it have, also that by which versions come.
                Stream { end: rows.end.max(taught.end), ..rows }
            }
        }
    }

    fn count(&self, place: usize, rows: u64) -> Stream {
        let (start, every) = (self.start(place), self.flow.epoch_rows);
        let row = |row: u64| (start + row / every, first_number(place) + row as i64);
        Stream { rows: (0..rows).map(row).collect(), end: start + rows / every }
    }

    /// The epoch in which an input begins: the first one, or that in which all have ended for which it waits.
    fn start(&self, input: usize) -> u64 {
        let mut start = self.flow.nodes[input].since + 1;
        for place in 0..self.flow.nodes.len() {
            let stages = self.stages(place);
            let is_behind = |stage: &Vec<Port>| stage.iter().any(|port| self.sources(port.node).contains(&input));
            for (number, _) in stages.iter().enumerate().filter(|(_, stage)| is_behind(stage)) {
                let before = stages[..number].iter().flatten().map(|port| self.port(*port).end);
                start = before.fold(start, u64::max);
            }
        }
        start
    }

    /// The ports that a node reads one after the other, and those that it reads together.
    fn stages(&self, place: usize) -> Vec<Vec<Port>> {
        let node = &self.flow.nodes[place];
        let (side, main) = match node.kind {
            Kind::After => (vec![vec![node.from[1]]], &node.from[..1]),
            _ => (Vec::new(), &node.from[..]),
        };
        let mut groups: Vec<(Vec<Port>, BTreeSet<usize>)> = Vec::new();
        for port in main {
            let mut group = (Vec::new(), self.sources(port.node));
            let mut place = groups.len();
            while let Some(related) = groups.iter().position(|(_, inputs)| !inputs.is_disjoint(&group.1)) {
                let (ports, inputs) = groups.remove(related);
                place = place.min(related);
                group.0.extend(ports);
                group.1.extend(inputs);
            }
            group.0.push(*port);
            group.0.sort_by_key(|port| main.iter().position(|known| known == port));
            groups.insert(place.min(groups.len()), group);
        }
        side.into_iter().chain(groups.into_iter().map(|(ports, _)| ports)).collect()
    }

    /// The inputs that the rows of a node stem from. What a model has learned is another matter.
    fn sources(&self, place: usize) -> BTreeSet<usize> {
        let node = &self.flow.nodes[place];
        let mut sources: BTreeSet<usize> = node.from.iter().flat_map(|port| self.sources(port.node)).collect();
        match node.kind {
            Kind::Count { .. } => _ = sources.insert(place),
            Kind::Obey { teacher } => sources.extend(self.sources(teacher)),
            _ => {}
        }
        sources
    }

    /// The rows that arrive at a node, but for those of a side input.
    fn rows(&self, place: usize) -> Stream {
        let node = &self.flow.nodes[place];
        let side = usize::from(matches!(node.kind, Kind::After));
        let mut all = Stream::default();
        for stage in self.stages(place).into_iter().skip(side) {
            let mut together: Vec<(u64, i64)> = Vec::new();
            for port in stage {
                let stream = self.port(port);
                together.extend(stream.rows);
                all.end = all.end.max(stream.end);
            }
            // Of each epoch, the rows of the first port come first.
            together.sort_by_key(|(epoch, _)| *epoch);
            all.rows.extend(together);
        }
        all.rows.retain(|(epoch, _)| *epoch > node.since);
        all
    }
}
