//! Fan-in: one order of messages out of several edges, with borders aligned.
//!
//! Edges are read in *stages*. A stage starts when all edges of the one before have ended, and opens the gates of the
//! inputs behind its own edges; so a join reads its side input to the end first, and a sequence its first input.
//! Within a stage, rows come as they arrive, in turn, or edge by edge up to the next border. The last two look at
//! edges that are not up yet, too, and keep what they find: branches of one input could otherwise block each other.
//! An edge that has shown a border shows nothing more until all others have, so no more than an epoch is kept, and nothing
//! at a border.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{FutureExt, select_all};
use millstream_core::{Batch, Epoch, EventTime, Message, Watermark};

use crate::checkpoint::{FanIn, FanInEdge, Notes, OrderStep};
use crate::edge::{Closed, Receiver};
use crate::gate::Gate;

/// The edges that are read at the same time.
#[derive(Debug)]
pub struct Stage {
    /// The positions in `edges` of the edges of this stage.
    pub edges: Vec<usize>,
    /// How their rows are ordered.
    pub turns: Turns,
    /// Opened when the stage starts.
    pub gates: Vec<Arc<Gate>>,
}

/// How the rows of the edges of one stage are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// As they come.
    Arrival,
    /// Edge by edge, up to the next border each.
    EpochByEpoch,
    /// So many rows of each edge in turn.
    RoundRobin(usize),
    /// The edge whose watermark is furthest behind; of several the first.
    EventTime,
}

/// What a node sees of its inputs.
#[derive(Debug)]
pub enum Event {
    /// Rows at an input port.
    Batch(usize, Batch),
    /// Rows with an earlier event time are late, at every port.
    Watermark(EventTime),
    /// Nothing comes at any port, for now.
    Idle,
    /// All edges have reached this border.
    Barrier(Epoch),
    /// All edges of an input port have ended.
    PortEnded(usize),
    /// All edges have ended.
    End,
}

/// The fan-in of one node.
#[derive(Debug)]
pub struct Inputs {
    edges: Vec<Edge>,
    stages: VecDeque<Stage>,
    /// Edges that are read in every stage, such as the one that brings a model's versions.
    always: Vec<usize>,
    /// Whose turn it is, as a position in the stage's edges, and how many rows it has had.
    turn: usize,
    turn_rows: usize,
    /// The last border that was passed.
    passed: Epoch,
    watermark: Option<EventTime>,
    /// Whether all edges have been idle.
    idle: bool,
    /// The ports that have not ended yet.
    open_ports: Vec<usize>,
    /// In which order rows were taken, where that is as they come.
    notes: Notes<OrderStep>,
    /// In which order they are to be taken instead.
    script: VecDeque<OrderStep>,
}

#[derive(Debug)]
struct Edge {
    receiver: Receiver,
    port: usize,
    /// What came before it was this edge's turn.
    kept: VecDeque<Message>,
    /// The border that this edge has shown and others have not.
    border: Option<Epoch>,
    watermark: Option<EventTime>,
    /// Nothing has come for a while.
    idle: bool,
    ended: bool,
}

impl Edge {
    /// Whether a message may be taken from the edge's channel now.
    fn is_readable(&self) -> bool {
        let is_end_kept = matches!(self.kept.back(), Some(Message::End));
        !(self.ended || is_end_kept || self.border.is_some())
    }

    /// Whether the edge has nothing more for this epoch.
    fn is_through(&self) -> bool {
        self.kept.is_empty() && !self.is_readable()
    }

    fn is_over(&self) -> bool {
        self.kept.is_empty() && self.ended
    }
}

impl Inputs {
    /// The fan-in of `edges`, each with the input port that it leads to. `stages` and `always` name each of them once.
    pub fn new(edges: Vec<(usize, Receiver)>, stages: Vec<Stage>, always: Vec<usize>) -> Self {
        let mut open_ports: Vec<usize> = edges.iter().map(|(port, _)| *port).collect();
        open_ports.sort_unstable();
        open_ports.dedup();
        let edges = edges.into_iter().map(|(port, receiver)| Edge {
            receiver,
            port,
            kept: VecDeque::new(),
            border: None,
            watermark: None,
            idle: false,
            ended: false,
        });
        Self {
            edges: edges.collect(),
            stages: stages.into(),
            always,
            turn: 0,
            turn_rows: 0,
            passed: Epoch::default(),
            watermark: None,
            idle: false,
            open_ports,
            notes: Notes::default(),
            script: VecDeque::new(),
        }
    }

    /// Notes from now on in which order rows are taken where that is as they come.
    pub fn take_notes(&mut self) {
        self.notes = Notes::taken();
    }

    /// What was noted since the last time.
    pub fn notes(&mut self) -> VecDeque<OrderStep> {
        self.notes.take()
    }

    /// Takes rows in this order, instead of as they come.
    pub fn follow(&mut self, script: VecDeque<OrderStep>) {
        self.script = script;
    }

    /// What is known of the edges, called as `names` says. To be asked at a border, where nothing is kept.
    pub fn state(&self, names: &[String]) -> FanIn {
        debug_assert!(self.edges.iter().all(|edge| edge.kept.is_empty()));
        let edges = self.edges.iter().zip(names).map(|(edge, name)| FanInEdge {
            from: name.clone(),
            watermark: edge.watermark,
            idle: edge.idle,
            ended: edge.is_over(),
        });
        FanIn { edges: edges.collect(), watermark: self.watermark, idle: self.idle }
    }

    /// The epoch of the rows that come now.
    pub fn epoch(&self) -> Epoch {
        self.passed.next()
    }

    /// Begins behind the border `passed`.
    pub fn begin_behind(&mut self, passed: Epoch) {
        self.passed = passed;
    }

    /// Goes on behind the border `passed`. Ports that had ended then end again, and stages that were over are gone
    /// through again, before any row comes.
    pub fn restore(&mut self, state: &FanIn, names: &[String], passed: Epoch) {
        (self.passed, self.watermark, self.idle) = (passed, state.watermark, state.idle);
        for (edge, name) in self.edges.iter_mut().zip(names) {
            // An edge that is new in the flow has had nothing yet.
            let Some(known) = state.edges.iter().find(|known| known.from == *name) else { continue };
            (edge.watermark, edge.idle, edge.ended) = (known.watermark, known.idle, known.ended);
        }
    }

    /// The next event; none follows [`Event::End`]. `Closed` if an upstream node stopped before its end. Cancel safe.
    pub async fn next(&mut self) -> Result<Event, Closed> {
        loop {
            if let Some(event) = self.settled() {
                return Ok(event);
            }
            let (edge, message) = self.receive().await?;
            if let Some(event) = self.take(edge, message) {
                return Ok(event);
            }
        }
    }

    /// The next event that needs no further message.
    fn settled(&mut self) -> Option<Event> {
        loop {
            if let Some(port) = self.port_over() {
                return Some(Event::PortEnded(port));
            }
            if let Some((edge, message)) = self.kept_message() {
                match self.deliver(edge, message) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if self.stage_is_over() {
                self.start_next_stage();
                continue;
            }
            if self.active_edges().any(|edge| !self.edges[edge].is_through()) {
                return None;
            }
            let border = self.edges.iter().filter_map(|edge| edge.border).min();
            return Some(border.map_or(Event::End, |epoch| self.pass(epoch)));
        }
    }

    /// The first kept message of the edge whose turn it is. Takes part of a batch where the turn ends within it.
    fn kept_message(&mut self) -> Option<(usize, Message)> {
        let place = self.place_in_turn()?;
        let stage = self.stages.front()?;
        let (turns, count, edge) = (stage.turns, stage.edges.len(), stage.edges[place]);
        let message = self.edges[edge].kept.pop_front()?;
        if turns == Turns::Arrival {
            return Some((edge, self.as_scripted(edge, message)));
        }
        let (Turns::RoundRobin(rows), Message::Batch(batch)) = (turns, &message) else {
            return Some((edge, message));
        };
        let left = rows - self.turn_rows;
        if batch.len() < left {
            self.turn_rows += batch.len();
            return Some((edge, message));
        }
        if batch.len() > left {
            let rest = batch.with_rows(batch.rows.slice(left, batch.len() - left));
            self.edges[edge].kept.push_front(Message::Batch(rest));
        }
        (self.turn, self.turn_rows) = ((place + 1) % count, 0);
        let taken = batch.with_rows(batch.rows.slice(0, left));
        Some((edge, Message::Batch(taken)))
    }

    /// As much of a message as the script says.
    fn as_scripted(&mut self, edge: usize, message: Message) -> Message {
        let Message::Batch(batch) = message else {
            self.script.pop_front();
            return message;
        };
        let Some(OrderStep::Rows(_, left)) = self.script.front_mut() else { return Message::Batch(batch) };
        let count = batch.len().min(*left);
        *left -= count;
        if *left == 0 {
            self.script.pop_front();
        }
        if count < batch.len() {
            let rest = batch.with_rows(batch.rows.slice(count, batch.len() - count));
            self.edges[edge].kept.push_front(Message::Batch(rest));
        }
        Message::Batch(batch.with_rows(batch.rows.slice(0, count)))
    }

    /// Whose turn it is, as a position in the stage's edges. Edges that are through with the epoch pass their turn.
    fn place_in_turn(&mut self) -> Option<usize> {
        let stage = self.stages.front()?;
        let count = stage.edges.len();
        let first = match stage.turns {
            Turns::Arrival => return self.place_in_script(&stage.edges),
            Turns::EpochByEpoch => 0,
            Turns::RoundRobin(_) => self.turn,
            Turns::EventTime => return self.furthest_behind(&stage.edges),
        };
        let mut places = (0..count).map(|step| (first + step) % count);
        let place = places.find(|place| !self.edges[stage.edges[*place]].is_through())?;
        if place != self.turn {
            (self.turn, self.turn_rows) = (place, 0);
        }
        Some(place)
    }

    /// The place of the edge that the script names. Behind the script, that of an edge of which something is kept.
    fn place_in_script(&self, edges: &[usize]) -> Option<usize> {
        match self.script.front() {
            Some(OrderStep::Border) => None,
            Some(OrderStep::Rows(edge, _) | OrderStep::Time(edge) | OrderStep::End(edge)) => {
                edges.iter().position(|known| known == edge)
            }
            None => edges.iter().position(|edge| !self.edges[*edge].kept.is_empty()),
        }
    }

    /// The place of the edge that is furthest behind in event time. One that is idle is not waited for.
    fn furthest_behind(&self, edges: &[usize]) -> Option<usize> {
        let is_waited_for = |edge: &Edge| !(edge.is_through() || edge.idle && edge.kept.is_empty());
        let places = (0..edges.len()).filter(|place| is_waited_for(&self.edges[edges[*place]]));
        places.min_by_key(|place| self.edges[edges[*place]].watermark)
    }

    fn port_over(&mut self) -> Option<usize> {
        let over = |port: &usize| self.edges.iter().all(|edge| edge.port != *port || edge.is_over());
        let place = self.open_ports.iter().position(over)?;
        Some(self.open_ports.remove(place))
    }

    fn stage_is_over(&self) -> bool {
        self.stages.len() > 1 && self.stages[0].edges.iter().all(|edge| self.edges[*edge].is_over())
    }

    fn start_next_stage(&mut self) {
        self.stages.pop_front();
        (self.turn, self.turn_rows) = (0, 0);
        for gate in self.stages.front().iter().flat_map(|stage| &stage.gates) {
            gate.open(self.passed);
        }
    }

    /// Passes a border that all active edges have shown. One that started late may have shown a later one: it waits.
    fn pass(&mut self, epoch: Epoch) -> Event {
        for edge in &mut self.edges {
            if edge.border == Some(epoch) {
                edge.border = None;
            }
        }
        self.passed = epoch;
        (self.turn, self.turn_rows) = (0, 0);
        self.notes.step(OrderStep::Border);
        if self.script.front() == Some(&OrderStep::Border) {
            self.script.pop_front();
        }
        for gate in self.stages.iter().skip(1).flat_map(|stage| &stage.gates) {
            gate.pass(epoch);
        }
        Event::Barrier(epoch)
    }

    fn active_edges(&self) -> impl Iterator<Item = usize> + '_ {
        let stage = self.stages.front().map(|stage| stage.edges.as_slice()).unwrap_or_default();
        stage.iter().chain(&self.always).copied()
    }

    async fn receive(&self) -> Result<(usize, Message), Closed> {
        let receive = |edge: usize| async move { Ok((edge, self.edges[edge].receiver.recv().await?)) };
        let mut readable = self.active_edges().filter(|edge| self.edges[*edge].is_readable());
        match (readable.next(), readable.next()) {
            (Some(edge), None) => receive(edge).await,
            (first, second) => {
                let readable = first.into_iter().chain(second).chain(readable);
                select_all(readable.map(|edge| receive(edge).boxed())).await.0
            }
        }
    }

    /// Takes what has just been received: for now, or for when it is the edge's turn.
    fn take(&mut self, edge: usize, message: Message) -> Option<Event> {
        let at_once = self.always.contains(&edge)
            || self
                .stages
                .front()
                .is_some_and(|stage| stage.edges.len() == 1 || stage.turns == Turns::Arrival && self.script.is_empty());
        match message {
            // An input that starts late shows borders that this node has passed already.
            Message::Barrier(epoch) if epoch <= self.passed => {}
            Message::Barrier(epoch) => self.edges[edge].border = Some(epoch),
            message if at_once => return self.deliver(edge, message),
            message => self.edges[edge].kept.push_back(message),
        }
        None
    }

    fn deliver(&mut self, edge: usize, message: Message) -> Option<Event> {
        self.note(edge, &message);
        match message {
            Message::Batch(batch) => {
                (self.edges[edge].idle, self.idle) = (false, false);
                Some(Event::Batch(self.edges[edge].port, batch))
            }
            Message::Watermark(Watermark::At(at)) => {
                let known = &mut self.edges[edge];
                (known.watermark, known.idle) = (known.watermark.max(Some(at)), false);
                self.advance_watermark()
            }
            Message::Watermark(Watermark::Idle) => {
                self.edges[edge].idle = true;
                self.advance_watermark()
            }
            Message::End => {
                self.edges[edge].ended = true;
                self.advance_watermark()
            }
            // Never delivered: `take` keeps it as the state of their edge.
            Message::Barrier(_) => None,
        }
    }

    /// Notes what is taken of an edge as it comes.
    fn note(&mut self, edge: usize, message: &Message) {
        let is_open =
            |stage: &Stage| stage.turns == Turns::Arrival && stage.edges.len() > 1 && stage.edges.contains(&edge);
        if !self.stages.front().is_some_and(is_open) {
            return;
        }
        match message {
            Message::Batch(batch) => self.notes.rows(edge, batch.len()),
            Message::Watermark(_) => self.notes.step(OrderStep::Time(edge)),
            Message::End => self.notes.step(OrderStep::End(edge)),
            Message::Barrier(_) => {}
        }
    }

    /// The lowest watermark of all edges wins; edges that are over or idle hold nothing back, and those that are always read
    /// have no part in it: between two borders, what they bring comes at another time in every run.
    fn advance_watermark(&mut self) -> Option<Event> {
        let has_part = |(place, edge): &(usize, &Edge)| !(edge.is_over() || self.always.contains(place));
        let mut running = self.edges.iter().enumerate().filter(has_part).map(|(_, edge)| edge).peekable();
        running.peek()?;
        let Some(lowest) = running.filter(|edge| !edge.idle).map(|edge| edge.watermark).min() else {
            return (!std::mem::replace(&mut self.idle, true)).then_some(Event::Idle);
        };
        self.idle = false;
        if lowest <= self.watermark {
            return None;
        }
        self.watermark = lowest;
        lowest.map(Event::Watermark)
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{batch, table};

    use super::*;
    use crate::edge::{Limits, Sender, edge};

    const LIMITS: Limits = Limits { rows: 1 << 20, bytes: 1 << 30 };

    fn fan_in(ports: &[usize], stages: Vec<Stage>, always: &[usize]) -> (Vec<Sender>, Inputs) {
        let (senders, receivers): (Vec<_>, Vec<_>) = ports.iter().map(|_| edge(LIMITS)).unzip();
        let edges = ports.iter().copied().zip(receivers).collect();
        (senders, Inputs::new(edges, stages, always.to_vec()))
    }

    fn stage(edges: &[usize], turns: Turns) -> Stage {
        Stage { edges: edges.to_vec(), turns, gates: Vec::new() }
    }

    fn row(values: &[i64]) -> Message {
        let lines: String = values.iter().map(|value| format!("\n{value}")).collect();
        Message::Batch(batch(table(&format!("n:int64{lines}"))))
    }

    async fn send(sender: &Sender, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            sender.send(message).await.expect("open");
        }
    }

    /// All events as short texts: `0:1,2` rows at port 0, `w5` a watermark, `|1` a border, `.0` a port's end.
    async fn events(inputs: &mut Inputs) -> String {
        let mut words = Vec::new();
        loop {
            words.push(match inputs.next().await.expect("open") {
                Event::Batch(port, batch) => {
                    let text = millstream_testkit::rows_as_text([&batch.rows]);
                    format!("{port}:{}", text.lines().skip(1).collect::<Vec<_>>().join(","))
                }
                Event::Watermark(at) => format!("w{at}"),
                Event::Idle => "idle".to_owned(),
                Event::Barrier(epoch) => format!("|{epoch}"),
                Event::PortEnded(port) => format!(".{port}"),
                Event::End => return words.join(" "),
            });
        }
    }

    fn mark(at: EventTime) -> Message {
        Message::Watermark(Watermark::At(at))
    }

    fn barrier(epoch: u64) -> Message {
        Message::Barrier(Epoch(epoch))
    }

    #[tokio::test]
    async fn nothing_overtakes_a_border() {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::Arrival)], &[]);
        send(&senders[0], [row(&[1]), barrier(1), row(&[2]), Message::End]).await;
        send(&senders[1], [row(&[3]), row(&[4]), barrier(1), row(&[5]), barrier(2), Message::End]).await;
        assert_eq!(events(&mut inputs).await, "0:1 0:3 0:4 |1 0:2 0:5 |2 .0");
    }

    #[tokio::test]
    async fn rows_are_taken_again_in_the_order_that_was_noted() {
        let values = [[1, 2, 3, 4], [5, 6, 7, 8]];
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::Arrival)], &[]);
        inputs.take_notes();
        send(&senders[1], [row(&values[1][..1]), mark(3), row(&values[1][1..]), barrier(1), Message::End]).await;
        send(&senders[0], [row(&values[0][..3]), mark(2), barrier(1), row(&values[0][3..]), Message::End]).await;
        let expected = events(&mut inputs).await;
        let notes = inputs.notes();
        for cut in 1..5 {
            let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::Arrival)], &[]);
            inputs.follow(notes.clone());
            send(&senders[0], values[0][..3].chunks(cut).map(row)).await;
            send(&senders[0], [mark(2), barrier(1), row(&values[0][3..]), Message::End]).await;
            send(&senders[1], [row(&values[1][..1]), mark(3)]).await;
            send(&senders[1], values[1][1..].chunks(cut).map(row)).await;
            send(&senders[1], [barrier(1), Message::End]).await;
            let digits = |text: &str| text.replace("0:", "").replace([' ', ','], "");
            assert_eq!(digits(&events(&mut inputs).await), digits(&expected), "batches of {cut}");
        }
    }

    #[tokio::test]
    async fn branches_of_one_input_are_put_together_epoch_by_epoch() {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::EpochByEpoch)], &[]);
        send(&senders[1], [row(&[10]), barrier(1), row(&[20]), Message::End]).await;
        send(&senders[0], [row(&[1]), row(&[2]), barrier(1), row(&[3]), Message::End]).await;
        assert_eq!(events(&mut inputs).await, "0:1 0:2 0:10 |1 0:3 0:20 .0");
    }

    #[tokio::test]
    async fn rows_in_turn_do_not_depend_on_batches() {
        for cut in 1..5 {
            let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::RoundRobin(2))], &[]);
            for (sender, values) in senders.iter().zip([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) {
                send(sender, values.chunks(cut).map(row)).await;
                send(sender, [Message::End]).await;
            }
            let rows = events(&mut inputs).await.replace("0:", "").replace(' ', ",");
            assert_eq!(rows, "1,2,6,7,3,4,8,9,5,10,.0", "batches of {cut}");
        }
    }

    #[tokio::test]
    async fn a_later_stage_opens_its_gates_and_goes_on_with_the_epochs() {
        let gate = Gate::new(1);
        let second = Stage { edges: vec![0], turns: Turns::Arrival, gates: vec![gate.clone()] };
        let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[1], Turns::Arrival), second], &[]);
        send(&senders[1], [row(&[1]), barrier(1), barrier(2), Message::End]).await;
        let from = async {
            let mut shown = Epoch::default();
            let mut is_open = false;
            while !is_open {
                (shown, is_open) = gate.changed(shown).await;
            }
            send(&senders[0], [row(&[7]), Message::Barrier(shown.next()), Message::End]).await;
        };
        let (text, ()) = tokio::join!(events(&mut inputs), from);
        assert_eq!(text, "1:1 |1 |2 .1 0:7 |3 .0");
    }

    #[tokio::test]
    async fn an_edge_that_is_always_read_takes_part_in_borders() {
        let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0], Turns::Arrival)], &[1]);
        send(&senders[0], [row(&[1]), barrier(1), row(&[2]), Message::End]).await;
        send(&senders[1], [barrier(1), row(&[9]), Message::End]).await;
        let text = events(&mut inputs).await;
        assert!(text.starts_with("0:1 |1 "), "{text}");
        assert!(text.contains("0:2") && text.contains("1:9") && text.ends_with(".1") | text.ends_with(".0"), "{text}");
    }

    #[tokio::test]
    async fn the_lowest_watermark_wins_until_its_edge_ends() {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::Arrival)], &[]);
        send(&senders[0], [mark(5), mark(9), Message::End]).await;
        send(&senders[1], [mark(3), mark(20), Message::End]).await;
        let text = events(&mut inputs).await;
        assert_eq!(text, "w3 w20 .0", "edge 0 ends at once; then only edge 1 counts");
    }

    #[tokio::test]
    async fn an_idle_edge_holds_nobody_back() {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], Turns::EpochByEpoch)], &[]);
        let idle = || Message::Watermark(Watermark::Idle);
        send(&senders[0], [mark(5), idle(), barrier(1), row(&[1]), Message::End]).await;
        send(&senders[1], [mark(8), idle(), barrier(1), mark(20), Message::End]).await;
        assert_eq!(events(&mut inputs).await, "w8 idle |1 0:1 idle w20 .0", "until it has rows again, or its end");
    }

    #[tokio::test]
    async fn edges_come_along_together_in_event_time() {
        for first in [0, 1] {
            let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0, 1], Turns::EventTime)], &[]);
            let messages = [
                vec![row(&[1]), mark(10), row(&[2]), mark(30), row(&[3]), Message::End],
                vec![row(&[11]), mark(20), row(&[12]), mark(25), barrier(1), row(&[13]), mark(40), Message::End],
            ];
            for edge in [first, 1 - first] {
                send(&senders[edge], messages[edge].clone()).await;
            }
            let text = events(&mut inputs).await;
            assert_eq!(text, "0:1 1:11 w10 0:2 w20 1:12 w25 0:3 .0 |1 1:13 w40 .1", "whichever comes first");
        }
    }

    #[tokio::test]
    async fn an_end_that_comes_before_its_turn_waits_for_it() {
        for turns in [Turns::EventTime, Turns::EpochByEpoch] {
            let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0, 1], turns)], &[]);
            send(&senders[0], [row(&[1]), mark(30)]).await;
            send(&senders[1], [mark(10), Message::End]).await;
            let mut seen = Vec::new();
            // Lets both edges be read as far as they go.
            while let Some(event) = inputs.next().now_or_never() {
                seen.push(format!("{:?}", event.expect("open")));
            }
            send(&senders[0], [row(&[2]), Message::End]).await;
            let rest = events(&mut inputs).await;
            let expected = if turns == Turns::EventTime { "0:2 .0" } else { "0:2 .0 w10 .1" };
            assert_eq!(rest, expected, "after {seen:?}");
        }
    }

    #[tokio::test]
    async fn what_is_always_read_does_not_hold_event_time_back() {
        let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0], Turns::Arrival)], &[1]);
        send(&senders[0], [mark(5), row(&[1]), Message::End]).await;
        let text = async {
            let event = inputs.next().await.expect("open");
            assert!(matches!(event, Event::Watermark(5)), "{event:?}");
            send(&senders[1], [mark(3), Message::End]).await;
            events(&mut inputs).await
        };
        assert_eq!(text.await, "0:1 .0 .1");
    }

    #[tokio::test]
    async fn an_upstream_node_that_stops_early_is_noticed() {
        let (senders, mut inputs) = fan_in(&[0], vec![stage(&[0], Turns::Arrival)], &[]);
        drop(senders);
        assert_eq!(inputs.next().await.map(|_| ()), Err(Closed));
    }
}
