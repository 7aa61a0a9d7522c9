//! The flows of simulations: some that were thought up, and any number that are put together at random.

use std::fmt::Write as _;

use super::numbers::Numbers;
use crate::plan::Plan;
use crate::tests::running::try_plan;

/// A flow, but for what may differ from run to run: batches and pauses.
#[derive(Clone, Debug)]
pub struct Graph {
    text: String,
    /// Whether inputs are live, so that rows come in another order in every run.
    pub is_live: bool,
}

/// What may differ from run to run.
#[derive(Clone)]
pub struct Pace {
    /// How many rows a batch has.
    pub batch_rows: u64,
    /// How long inputs wait before each, in milliseconds.
    pub pause: u64,
    /// How long outputs take for each, in milliseconds.
    pub slow: u64,
    /// How many rows may wait on an edge.
    pub edge_rows: u64,
    /// What `[checkpoint]` says.
    pub checkpoint: String,
}

impl Graph {
    /// One of those that were thought up, or one that is put together at random.
    pub fn any(numbers: &mut Numbers) -> Self {
        match numbers.below(8) {
            0 | 1 => Self::known(numbers),
            2 => Self::live(numbers),
            _ => Self::composed(numbers),
        }
    }

    /// One of those that were thought up.
    fn known(numbers: &mut Numbers) -> Self {
        let body = *numbers.choose(&[KNOWN, GATED].concat());
        let epoch_rows = 1 + numbers.below(40);
        Self::new(epoch_rows, &body.replace("ROWS", &rows(numbers, epoch_rows).to_string()), false)
    }

    /// How many there are with inputs that wait.
    pub const GATED: usize = GATED.len();

    /// One with inputs that wait until others have ended, and then have few rows.
    pub fn gated(number: usize) -> Self {
        // Those with side inputs have more rows.
        let epoch_rows = if number < 2 { 8 } else { 20 };
        Self::new(epoch_rows, &GATED[number].replace("ROWS", "12"), false)
    }

    /// One with a node that asks others, who are busy now and then, and of which a model learns.
    pub fn asking() -> Self {
        Self::new(8, ASKING, false)
    }

    /// One with nodes that learn.
    pub fn learning(numbers: &mut Numbers) -> Self {
        let epoch_rows = 1 + numbers.below(40);
        Self::new(epoch_rows, &LEARNING.replace("ROWS", "300"), false)
    }

    /// One with nodes that keep rows while there is no room behind them.
    pub fn waiting(numbers: &mut Numbers) -> Self {
        let interval = 1 + numbers.below(20);
        Self::of_waiting(interval, 60 + numbers.below(200))
    }

    /// The same, with so many rows, and epochs of so many milliseconds.
    pub fn of_waiting(interval: u64, rows: u64) -> Self {
        let body = WAITING.replace("ROWS", &rows.to_string());
        Self::new(1000, &format!("flow.epoch.interval = \"{interval}ms\"\n{body}"), true)
    }

    /// One whose inputs do not say that they will end.
    fn live(numbers: &mut Numbers) -> Self {
        let body = *numbers.choose(&[LIVE, &[WAITING]].concat());
        let epoch_rows = 1 + numbers.below(40);
        let interval = 1 + numbers.below(20);
        let text = body.replace("ROWS", &rows(numbers, epoch_rows).to_string());
        Self::new(epoch_rows, &format!("flow.epoch.interval = \"{interval}ms\"\n{text}"), true)
    }

    /// One that is put together at random.
    pub fn composed(numbers: &mut Numbers) -> Self {
        Self::planned(|| {
            let epoch_rows = 1 + numbers.below(40);
            Self::new(epoch_rows, &Composer::new(numbers, epoch_rows).compose(), false)
        })
    }

    /// One of nodes whose results do not depend on where epochs end.
    pub fn without_borders(numbers: &mut Numbers) -> Self {
        Self::planned(|| {
            let composer = Composer { knows_borders: false, timed: false, ..Composer::new(numbers, 1) };
            Self::new(1, &composer.compose(), false)
        })
    }

    /// The first of several for which there is a plan. There is none where inputs would wait for each other, for example.
    fn planned(mut compose: impl FnMut() -> Self) -> Self {
        loop {
            let graph = compose();
            if try_plan(&graph.flow("composed", &Pace::UNHURRIED)).is_ok() {
                return graph;
            }
        }
    }

    /// One of a text, in which `NAME`, `BATCH` and `PAUSE` are replaced.
    pub fn new(epoch_rows: u64, body: &str, is_live: bool) -> Self {
        Self { text: format!("flow.name = \"NAME\"\nflow.epoch.rows = {epoch_rows}\n{body}"), is_live }
    }

    /// The flow file.
    pub fn flow(&self, name: &str, pace: &Pace) -> String {
        let text = self.text.replace("NAME", name).replace("BATCH", &pace.batch_rows.to_string());
        let text = text.replace("PAUSE", &pace.pause.to_string()).replace("SLOW", &pace.slow.to_string());
        format!("{}\nflow.edge.rows = {}\n{text}", pace.checkpoint, pace.edge_rows)
    }

    /// The plan.
    pub fn plan(&self, name: &str, pace: &Pace) -> Plan {
        try_plan(&self.flow(name, pace)).unwrap_or_else(|wrong| panic!("{wrong}"))
    }
}

impl Pace {
    /// Large batches, no pauses, and no checkpoint before the end.
    pub const UNHURRIED: Self =
        Self { batch_rows: 8192, pause: 0, slow: 0, edge_rows: 65536, checkpoint: String::new() };

    /// Outputs come to barriers long after the others, and checkpoints are taken all the time.
    pub fn with_slow_outputs(numbers: &mut Numbers) -> Self {
        let (batch_rows, checkpoint) = (4 + numbers.below(5), "checkpoint.epochs = 1".to_owned());
        Self { batch_rows, slow: 2, checkpoint, ..Self::UNHURRIED }
    }

    /// Any.
    pub fn any(numbers: &mut Numbers) -> Self {
        let cadence = match numbers.below(4) {
            0 => format!("checkpoint.interval = \"{}ms\"", 1 + numbers.below(12)),
            _ => format!("checkpoint.epochs = {}", 1 + numbers.below(5)),
        };
        let edge_rows = if numbers.below(3) == 0 { 1 + numbers.below(50) } else { 65536 };
        let checkpoint = format!("{cadence}\ncheckpoint.keep = {}", 1 + numbers.below(4));
        let (pause, slow) = (numbers.below(6).saturating_sub(3), numbers.below(8).saturating_sub(4));
        Self { batch_rows: 1 + numbers.below(60), pause, slow, edge_rows, checkpoint }
    }
}

/// How many rows an input has: none, whole epochs, a few, or any number.
fn rows(numbers: &mut Numbers, epoch_rows: u64) -> u64 {
    match numbers.below(8) {
        0 => 0,
        1 => epoch_rows * (1 + numbers.below(5)),
        2 => 1 + numbers.below(12),
        _ => numbers.below(300),
    }
}

/// Flows that were thought up: linear, with an input and an output that refuse rows; two inputs in turn; a fan-out that is put together again, with barriers; an input of several
/// tables; a model that follows another.
const KNOWN: &[&str] = &[
    r#"
    input.a = { type = "count", rows = ROWS, refuse = 7, batch_rows = BATCH }
    processor.b = { type = "add", from = "a", by = 10 }
    output.c = { type = "file", from = "b", path = "NAME/c", refuses = 5, on_error = { dead_letter = "NAME/dead_letter_c" } }
    output.bad = { type = "file", from = "a.failed", path = "NAME/bad" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 50, start = 1000, batch_rows = BATCH }
    processor.both = { type = "merge", from = ["a", "b"], rows = 3 }
    processor.marked = { type = "barriers", from = "both" }
    output.c = { type = "file", from = "marked", path = "NAME/c" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    processor.kinds = { type = "parity", from = "a" }
    processor.tens = { type = "add", from = "kinds.odd", by = 100 }
    processor.both = { type = "barriers", from = ["tens", "kinds.even"] }
    output.c = { type = "file", from = "both", path = "NAME/c" }
    output.odd = { type = "file", from = "kinds.odd", path = "NAME/odd" }
    "#,
    r#"
    input.a = { type = "known", rows = ROWS, every = 1, disorder = 5, tables = 3, refuse = 7, batch_rows = BATCH, event_time = { column = "at", lateness = "2s", watermark_rows = 9 } }
    processor.held = { type = "hold", from = ["a.t2", "a.t0"] }
    processor.teacher = { type = "teach", from = "a.t1", model = "m" }
    processor.pupil = { type = "obey", from = "held", model = "m" }
    output.c = { type = "file", from = "pupil", path = "NAME/c", slow = SLOW }
    output.late = { type = "file", from = "held.late", path = "NAME/late" }
    output.d = { type = "file", from = "teacher", path = "NAME/d" }
    output.bad = { type = "file", from = "a.failed", path = "NAME/bad" }
    "#,
    LEARNING,
];

/// Flows with inputs that wait until others have ended: a sequence, of which the output refuses rows; one that learns; a side input, then a sequence; an input
/// behind the gates of two nodes, which open at different barriers, and which somebody else reads as well.
const GATED: &[&str] = &[
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 5, start = 1000, batch_rows = BATCH }
    output.c = { type = "file", from = ["a", "b"], path = "NAME/c", slow = SLOW, refuses = 4 }
    output.refused = { type = "file", from = "c.failed", path = "NAME/refused" }
    "#,
    r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 7, start = 1000, batch_rows = BATCH }
    input.c = { type = "count", rows = 3, start = 2000, batch_rows = BATCH }
    processor.tens = { type = "add", from = "b", by = 10 }
    processor.teacher = { type = "teach", from = ["a", "tens", "c"], model = "m" }
    processor.pupil = { type = "obey", from = "a", model = "m" }
    output.d = { type = "file", from = "teacher", path = "NAME/d", slow = SLOW }
    output.e = { type = "file", from = "pupil", path = "NAME/e" }
    "#,
    SIDE,
    r#"
    input.short = { type = "count", rows = 20, batch_rows = BATCH }
    input.long = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.a = { type = "count", rows = 60, batch_rows = BATCH }
    processor.early = { type = "after", from = "a", with = "short" }
    processor.late = { type = "after", from = "a", with = "long" }
    output.c = { type = "file", from = "early", path = "NAME/c" }
    output.d = { type = "file", from = "late", path = "NAME/d", slow = SLOW }
    output.e = { type = "file", from = "a", path = "NAME/e" }
    "#,
];

/// One with a side input, then a sequence.
const SIDE: &str = r#"
    input.side = { type = "count", rows = 40, batch_rows = BATCH }
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    input.b = { type = "count", rows = 30, start = 500, batch_rows = BATCH }
    processor.joined = { type = "after", from = "a", with = "side" }
    processor.both = { type = "barriers", from = ["joined", "b"] }
    output.c = { type = "file", from = "both", path = "NAME/c", slow = SLOW }
    output.d = { type = "file", from = "side", path = "NAME/d" }
    "#;

/// One with a node that asks others.
const ASKING: &str = r#"
    input.a = { type = "count", rows = 60, batch_rows = BATCH }
    processor.asking = { type = "ask", from = "a", service = "NAME/s", busy = 5, refuse = 7, in_flight = 3 }
    processor.teacher = { type = "teach", from = "asking", model = "m" }
    output.c = { type = "file", from = "teacher", path = "NAME/c", slow = SLOW }
    output.bad = { type = "file", from = "asking.failed", path = "NAME/bad" }
    "#;

/// One with a node of every kind that learns.
const LEARNING: &str = r#"
    input.a = { type = "count", rows = ROWS, batch_rows = BATCH }
    processor.kinds = { type = "parity", from = "a" }
    processor.teacher = { type = "teach", from = "kinds.even", model = "m" }
    processor.pupil = { type = "obey", from = "kinds.odd", model = "m" }
    processor.sums = { type = "batched", from = "pupil", rows = 7 }
    processor.thrown = { type = "dice", from = "sums", seed = 3 }
    processor.published = { type = "publish", from = "teacher", every = 20 }
    output.c = { type = "file", from = "thrown", path = "NAME/c", slow = SLOW }
    output.even = { type = "file", from = "published", path = "NAME/even" }
    "#;

/// Flows with inputs that do not say that they will end. What arrives is the same, in any order.
const LIVE: &[&str] = &[
    r#"
    input.a = { type = "events", rows = ROWS, partitions = 3, mixed = true, batch_rows = BATCH, pause = PAUSE, live = true, event_time = { column = "at", lateness = "20s", watermark_rows = 9, idle = "4ms" } }
    input.b = { type = "events", rows = 80, start = 10000, batch_rows = BATCH, pause = PAUSE, live = true, event_time = { column = "at", lateness = "20s", watermark_rows = 5 } }
    processor.held = { type = "hold", from = ["a", "b"] }
    processor.all = { type = "merge", from = ["held", "held.late"] }
    output.c = { type = "file", from = "all", path = "NAME/c" }
    "#,
    r#"
    input.a = { type = "events", rows = ROWS, batch_rows = BATCH, pause = PAUSE, live = true, refuse = 9 }
    input.b = { type = "events", rows = 80, start = 10000, batch_rows = BATCH, pause = 3 }
    processor.both = { type = "merge", from = ["a", "b"] }
    processor.kinds = { type = "parity", from = "both" }
    output.c = { type = "file", from = "kinds.odd", path = "NAME/c" }
    output.d = { type = "file", from = "kinds.even", path = "NAME/d", slow = 1 }
    output.bad = { type = "file", from = "a.failed", path = "NAME/bad" }
    "#,
    r#"
    input.a = { type = "known", rows = ROWS, every = 1, tables = 2, batch_rows = BATCH, pause = PAUSE, live = true, refuse = 9 }
    processor.tens = { type = "add", from = "a.t1", by = 10000 }
    output.c = { type = "file", from = "tens", path = "NAME/c" }
    output.d = { type = "file", from = "a.t0", path = "NAME/d", slow = 1 }
    output.bad = { type = "file", from = "a.failed", path = "NAME/bad" }
    "#,
];

/// One with nodes that keep rows while there is no room behind them: all as they came, and some before others.
const WAITING: &str = r#"
    input.a = { type = "events", rows = ROWS, partitions = 3, mixed = true, batch_rows = BATCH, pause = PAUSE, live = true, event_time = { column = "at", lateness = "20s", watermark_rows = 9, idle = "4ms" } }
    input.b = { type = "events", rows = 30, start = 10000, batch_rows = BATCH, pause = PAUSE, live = true, event_time = { column = "at", lateness = "20s", watermark_rows = 5 } }
    processor.kept = { type = "wait", from = ["a", "b"], most = 50 }
    processor.held = { type = "hold", from = "kept" }
    processor.all = { type = "merge", from = ["held", "held.late"] }
    processor.again = { type = "wait", from = "all", first = 3 }
    output.c = { type = "file", from = "again", path = "NAME/c", slow = 20 }
    output.d = { type = "file", from = "kept", path = "NAME/d", slow = 10 }
    "#;

/// Puts flows together.
struct Composer<'n> {
    numbers: &'n mut Numbers,
    epoch_rows: u64,
    /// Whether the rows have event times.
    timed: bool,
    /// Whether there are nodes whose results depend on where epochs end.
    knows_borders: bool,
    text: String,
    nodes: usize,
    inputs: Vec<String>,
    /// The ports that there are, and whether anybody reads them.
    ports: Vec<(String, bool)>,
}

impl<'n> Composer<'n> {
    fn new(numbers: &'n mut Numbers, epoch_rows: u64) -> Self {
        let timed = numbers.one_in(2);
        let (knows_borders, text) = (true, String::new());
        Self { numbers, epoch_rows, timed, knows_borders, text, nodes: 0, inputs: Vec::new(), ports: Vec::new() }
    }

    fn compose(mut self) -> String {
        for _ in 0..=self.numbers.below(4) {
            self.add_input();
        }
        for _ in 0..self.numbers.below(7) {
            self.add_processor();
        }
        for (port, is_read) in std::mem::take(&mut self.ports) {
            // Some ports are read by nobody, and some by an output beside others.
            let is_wanted = self.numbers.one_in(6) == is_read;
            if is_wanted || !self.text.contains("output.") {
                self.add_output(&port);
            }
        }
        self.text
    }

    fn add(&mut self, role: &str, settings: &str) -> String {
        let name = format!("n{}", self.nodes);
        self.nodes += 1;
        writeln!(self.text, "{role}.{name} = {{ {settings} }}").unwrap();
        name
    }

    fn add_input(&mut self) {
        let (start, rows) = (self.nodes as u64 * 10_000, rows(self.numbers, self.epoch_rows));
        let (partitions, mixed) = (1 + self.numbers.below(3), self.numbers.one_in(2));
        let time = if self.timed {
            let rows = 1 + self.numbers.below(30);
            format!("event_time = {{ column = \"at\", lateness = \"20s\", watermark_rows = {rows} }}, ")
        } else {
            String::new()
        };
        let (refusing, is_read) = match self.numbers.below(4) {
            0 => (", refuse = 5, timeless = 11", true),
            1 => (", refuse = 5, timeless = 11, on_error = \"drop\", max_failed = \"100%\"", false),
            _ => ("", false),
        };
        let name = self.add(
            "input",
            &format!(
                "type = \"events\", start = {start}, rows = {rows}, partitions = {partitions}, mixed = {mixed}, {time}\
                 batch_rows = BATCH, pause = PAUSE{refusing}"
            ),
        );
        if is_read {
            self.add_output(&format!("{name}.failed"));
        }
        self.inputs.push(name.clone());
        self.ports.push((name, false));
    }

    fn add_output(&mut self, port: &str) {
        let path = format!("NAME/n{}", self.nodes);
        self.add("output", &format!("type = \"file\", from = \"{port}\", path = \"{path}\", slow = SLOW"));
    }

    /// Any port, which is now read.
    fn port(&mut self) -> String {
        let place = self.numbers.below(self.ports.len() as u64) as usize;
        self.ports[place].1 = true;
        self.ports[place].0.clone()
    }

    /// Two or three ports, as a list.
    fn several(&mut self) -> String {
        let mut ports: Vec<String> = (0..2 + self.numbers.below(2)).map(|_| format!("\"{}\"", self.port())).collect();
        ports.sort();
        ports.dedup();
        // In another order than that of the file.
        if self.numbers.one_in(2) {
            ports.reverse();
        }
        format!("[{}]", ports.join(", "))
    }

    fn add_processor(&mut self) {
        let kinds = match (self.knows_borders, self.timed) {
            (false, _) => 7,
            (true, false) => 11,
            (true, true) => 14,
        };
        match self.numbers.below(kinds) {
            0 if self.numbers.one_in(2) => self.change("type = \"add\", by = 1"),
            0 => {
                let service = format!("NAME/n{}", self.nodes);
                self.change(&format!("type = \"ask\", service = \"{service}\", busy = 5, in_flight = 3"));
            }
            1 => self.change("type = \"batched\", rows = 7"),
            2 => self.change("type = \"dice\", seed = 3"),
            3 => self.change("type = \"publish\", every = 20"),
            4 => {
                let from = self.port();
                let name = self.add("processor", &format!("type = \"parity\", from = \"{from}\""));
                self.ports.extend([(format!("{name}.even"), false), (format!("{name}.odd"), false)]);
            }
            5 => {
                let with = self.port();
                self.change(&format!("type = \"after\", with = \"{with}\""));
            }
            6 => {
                // Inputs come one after the other. Branches of one input would come epoch by epoch.
                let inputs: Vec<_> = self.inputs.iter().map(|name| format!("\"{name}\"")).collect();
                let name = self.add("processor", &format!("type = \"merge\", from = [{}]", inputs.join(", ")));
                self.ports.push((name, false));
            }
            7 => self.unite("type = \"barriers\""),
            8 => self.unite("type = \"merge\""),
            9 => self.unite("type = \"merge\", rows = 3"),
            10 => {
                let model = format!("m{}", self.nodes);
                self.change(&format!("type = \"teach\", model = \"{model}\""));
                self.change(&format!("type = \"obey\", model = \"{model}\""));
            }
            11 => self.unite("type = \"merge\", timed = true"),
            _ => {
                let from = self.several();
                let name = self.add("processor", &format!("type = \"hold\", from = {from}"));
                self.ports.extend([(name.clone(), false), (format!("{name}.late"), false)]);
            }
        }
    }

    /// Adds a processor that reads one port.
    fn change(&mut self, settings: &str) {
        let from = self.port();
        let name = self.add("processor", &format!("{settings}, from = \"{from}\""));
        self.ports.push((name, false));
    }

    /// Adds a processor that reads several.
    fn unite(&mut self, settings: &str) {
        let from = self.several();
        let name = self.add("processor", &format!("{settings}, from = {from}"));
        self.ports.push((name, false));
    }
}
