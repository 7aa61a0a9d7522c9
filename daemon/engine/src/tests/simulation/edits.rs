//! Flows that are put together at random, and edited between crashes.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle};

use super::super::crash::{self, MemoryStore};
use super::super::kinds::{committed_text, forget};
use super::graphs::Pace;
use super::numbers::Numbers;
use super::reckoned::{Flow, Kind, Node, Port};
use crate::checkpoint::{CheckpointStore, FlowCheckpoints, ResumeOptions};
use crate::run::{RunMode, RunningFlow, Status};
use crate::tests::running::{plan, try_plan};

/// Stands for the barrier behind which an edited flow goes on, until that is known.
const HERE: u64 = u64::MAX;

/// So many runs crash at most.
const CRASHES: usize = 6;

impl Flow {
    /// Any for which there is a plan. There is none where inputs would wait for each other, for example.
    fn any(numbers: &mut Numbers) -> Self {
        loop {
            let mut flow = Self { nodes: Vec::new(), epoch_rows: 1 + numbers.below(20) };
            for _ in 0..=numbers.below(4) {
                let rows = if numbers.one_in(3) { numbers.below(8) } else { numbers.below(120) };
                flow.add(Kind::Count { rows }, &[]);
            }
            for _ in 0..numbers.below(6) {
                flow.add_any(numbers);
            }
            for port in flow.ports() {
                let is_read = flow.nodes.iter().any(|node| node.from.contains(&port));
                if !is_read || numbers.one_in(4) {
                    flow.add(Kind::Output, &[port]);
                }
            }
            if try_plan(&flow.text("edited", &Pace::UNHURRIED)).is_ok() {
                return flow;
            }
        }
    }

    fn add(&mut self, kind: Kind, from: &[Port]) -> Port {
        self.nodes.push(Node { kind, from: from.to_vec(), since: 0 });
        Port { node: self.nodes.len() - 1, rest: None }
    }

    /// Where rows leave nodes.
    fn ports(&self) -> Vec<Port> {
        let ports = |(node, kind): (usize, &Kind)| match kind {
            Kind::Output => vec![],
            Kind::Parity => vec![Port { node, rest: Some(0) }, Port { node, rest: Some(1) }],
            _ => vec![Port { node, rest: None }],
        };
        self.nodes.iter().map(|node| &node.kind).enumerate().flat_map(ports).collect()
    }

    fn add_any(&mut self, numbers: &mut Numbers) {
        let port = |flow: &Self, numbers: &mut Numbers| *numbers.choose(&flow.ports());
        let from = port(self, numbers);
        match numbers.below(8) {
            0 => _ = self.add(Kind::Add(vec![(0, 2 + numbers.below(5) as i64)]), &[from]),
            1 => _ = self.add(Kind::Parity, &[from]),
            2 => {
                let with = port(self, numbers);
                self.add(Kind::After, &[from, with]);
            }
            3 => _ = self.add(Kind::Batched(1 + numbers.below(7)), &[from]),
            4 => {
                let teacher = self.add(Kind::Teach, &[from]).node;
                let from = port(self, numbers);
                self.add(Kind::Obey { teacher }, &[from]);
            }
            _ => {
                let mut ports = vec![from, port(self, numbers), port(self, numbers)];
                ports.dedup();
                if ports.len() == 3 && ports[0] == ports[2] {
                    ports.pop();
                }
                self.add(Kind::Union, &ports);
            }
        }
    }

    /// Changes what may change: nodes without state, and what is added.
    fn edit(&mut self, numbers: &mut Numbers) {
        let before = self.nodes.len();
        match numbers.below(4) {
            0 => {
                for node in &mut self.nodes {
                    if let Kind::Add(by) = &mut node.kind {
                        by.push((HERE, 1 + numbers.below(50) as i64));
                    }
                }
            }
            1 => {
                let from = *numbers.choose(&self.ports());
                self.add(Kind::Output, &[from]);
            }
            2 => {
                let from = *numbers.choose(&self.ports());
                let added = self.add(Kind::Batched(1 + numbers.below(4)), &[from]);
                self.add(Kind::Output, &[added]);
            }
            _ => {
                let added = self.add(Kind::Count { rows: numbers.below(60) }, &[]);
                let changed = self.add(Kind::Add(vec![(0, 7)]), &[added]);
                self.add(Kind::Output, &[changed]);
            }
        }
        self.nodes[before..].iter_mut().for_each(|node| node.since = HERE);
    }

    /// The flow goes on behind this barrier. If it has come to its end, nothing comes to what was added.
    fn begin_behind(&mut self, barrier: u64, is_done: bool) {
        self.nodes.retain(|node| !(is_done && node.since == HERE));
        for node in &mut self.nodes {
            if node.since == HERE {
                node.since = barrier;
            }
            if let Kind::Add(by) = &mut node.kind {
                by.iter_mut().filter(|(since, _)| *since == HERE).for_each(|(since, _)| *since = barrier);
            }
        }
    }
}

/// Starts a flow where it was.
fn start(
    name: &str,
    numbers: &mut Numbers,
    flow: &Flow,
    store: &Arc<MemoryStore>,
) -> Result<(FlowCheckpoints, RunningFlow), String> {
    let plan = plan(&flow.text(name, &Pace::any(numbers)));
    let checkpoint_store = CheckpointStore::new(store.clone(), &plan.flow, "memory");
    let checkpoints =
        FlowCheckpoints::open(&plan, checkpoint_store, &ResumeOptions::default()).map_err(|error| error.to_string())?;
    let running = RunningFlow::start(plan, RunMode::Keep(checkpoints.clone()), &Handle::current());
    Ok((checkpoints, running.map_err(|error| error.to_string())?))
}

/// Runs a flow, and now and then has it edited meanwhile. How it ends.
async fn run(
    name: &str,
    numbers: &mut Numbers,
    flow: &mut Flow,
    store: &Arc<MemoryStore>,
    mut running: RunningFlow,
) -> Result<Status, String> {
    loop {
        if numbers.one_in(2) {
            return Ok(running.join().await.status);
        }
        let mut edited = flow.clone();
        edited.edit(numbers);
        let mut planned = plan(&edited.text(name, &Pace::any(numbers)));
        let (tell, told) = tokio::sync::oneshot::channel();
        crash::then(name, numbers.of_any_size(), move || _ = tell.send(()));
        let (control, mut ended) = (running.control(), std::pin::pin!(running.join()));
        let outcome = tokio::select! {
            Ok(()) = told => {
                let kept = control.build(&mut planned).map_err(|error| error.to_string())?;
                kept.into_iter().for_each(|kept| control.hand_over(kept));
                ended.await
            }
            outcome = &mut ended => outcome,
        };
        let Some(handed_over) = outcome.handed_over else { return Ok(outcome.status) };
        *flow = edited;
        flow.begin_behind(store.epoch(), false);
        match handed_over.go_on(planned, &ResumeOptions::default()) {
            Ok(ready) => running = ready.start(&Handle::current()),
            Err(not_taken_over) => return Ok(Status::Failed(not_taken_over.error)),
        }
    }
}

/// Runs a flow, crashes and edits it, until it comes through. The error says what is wrong.
async fn simulate(name: &str, numbers: &mut Numbers, flow: &mut Flow) -> Result<(), String> {
    let store = Arc::new(MemoryStore { simulation: name.to_owned(), ..MemoryStore::default() });
    for attempt in 0..=CRASHES {
        crash::begin(name);
        if attempt > 0 && numbers.one_in(2) {
            flow.edit(numbers);
        }
        if attempt < CRASHES && !numbers.one_in(6) {
            crash::after(name, numbers.of_any_size());
        }
        let mut started = start(name, numbers, flow, &store);
        if let Err(error) = &started
            && error.contains("the flow has come to its end before")
        {
            // It crashed behind its last checkpoint. What was added is taken back.
            flow.begin_behind(store.epoch(), true);
            started = start(name, numbers, flow, &store);
        }
        let status = match started {
            Ok((checkpoints, running)) => {
                flow.begin_behind(store.epoch(), checkpoints.is_done());
                run(name, numbers, flow, &store, running).await?
            }
            Err(error) if error.ends_with("crashed") => continue,
            Err(error) => return Err(format!("it does not start: {error}")),
        };
        match status {
            Status::Done => break,
            Status::Failed(error) if error.to_string().ends_with("crashed") => {}
            other => return Err(format!("{other:?}")),
        }
    }
    for (output, expected) in flow.outputs() {
        let text = committed_text(&format!("{name}/n{output}"));
        let got: Vec<i64> = text.lines().skip(1).filter_map(|line| line.parse().ok()).collect();
        if got != expected {
            return Err(format!("`n{output}` has\n{got:?}\ninstead of\n{expected:?}"));
        }
    }
    Ok(())
}

fn simulate_all(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let (name, mut numbers) = (format!("edits_{seed}"), Numbers::new(seed));
        let mut flow = Flow::any(&mut numbers);
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let outcome = runtime.block_on(async {
            let simulated = tokio::time::timeout(hour, simulate(&name, &mut numbers, &mut flow)).await;
            simulated.unwrap_or_else(|_| Err("it hangs".to_owned()))
        });
        forget(&name);
        if let Err(wrong) = outcome {
            panic!("{name}: {wrong}\n{}", flow.text(&name, &Pace::UNHURRIED));
        }
    }
}

#[test]
fn what_comes_out_of_edited_flows_is_what_was_reckoned() {
    simulate_all(0..20);
}

#[test]
#[ignore = "takes minutes; part of the nightly run"]
fn what_comes_out_of_many_more_edited_flows_is_what_was_reckoned() {
    simulate_all(20..20_000);
}
