//! The loop of an input: reads batches, and has them cut.

use std::sync::Arc;

use millstream_core::{Batch, Input, Message, Progress};
use tokio::sync::watch;

use super::cutter::Cutter;
use super::replay::run_script;
use super::{Borders, Clock, Keeping, Phase, Ports, Stop, reached};
use crate::gate::Gate;

/// Runs an input, which is restored, to its end, or until the flow is stopped.
pub async fn run_input(
    mut input: Box<dyn Input>,
    ports: Ports,
    gate: Arc<Gate>,
    borders: Borders,
    clock: Option<Clock>,
    mut keeping: Keeping,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), Stop> {
    if keeping.had_ended() {
        keeping.caught_up.note(false);
        keeping.resume.iter().for_each(|resume| ports.stats().restore(&resume.entry.counters));
        ports.remind(Message::End).await;
        return Ok(());
    }
    // A flow with state stops at a border; an input that has not begun by then won't.
    let (last_phase, waiting_ends) = match keeping.durable {
        true => (Phase::Failing, Phase::Stopped),
        false => (Phase::Draining, Phase::Draining),
    };
    let script = keeping.steps.take_input();
    let mut cutter = Cutter::new(&ports, borders, clock, &keeping);
    cutter.resume();
    tokio::select! {
        biased;
        () = reached(&mut phase, waiting_ends) => return cutter.leave(&phase).await,
        () = cutter.wait(&gate) => {}
    }
    input.open(&keeping.home).await?;
    let mut out = ports.collector_of_input();
    if let Some(script) = script {
        return run_script(input.as_mut(), &mut cutter, script, &mut out).await;
    }
    let mut covered = keeping.reporter.covered();
    loop {
        let progress = tokio::select! {
            biased;
            () = reached(&mut phase, last_phase) => return cutter.end(&phase).await,
            Ok(()) = covered.changed() => {
                let now = *covered.borrow_and_update();
                cutter.covered(input.as_mut(), now).await?;
                continue;
            }
            due = cutter.due() => {
                // What the input has found before it was interrupted is part of its snapshot.
                out.take_partitions().into_iter().for_each(|change| cutter.change_partition(change));
                cutter.act(input.as_mut(), due).await?;
                continue;
            }
            progress = input.next(&mut out) => progress?,
        };
        out.take_partitions().into_iter().for_each(|change| cutter.change_partition(change));
        let mut failed = out.take_failed();
        let batches: Vec<Batch> = out.take(0).collect();
        for batch in batches {
            cutter.send(input.as_mut(), batch, &mut failed).await?;
        }
        cutter.send_refused(input.as_mut(), failed).await?;
        match progress {
            Progress::More => {}
            Progress::CaughtUp if keeping.durable => keeping.caught_up.note(true),
            Progress::CaughtUp | Progress::End => {
                keeping.caught_up.note(false);
                return cutter.end(&phase).await;
            }
        }
    }
}
