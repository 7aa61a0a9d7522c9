//! The loop of an input: reads batches, and has them cut.

use std::sync::Arc;

use millstream_core::{Collector, Input, Message, Progress};

use super::epoch_writer::{EpochWriter, Unsent};
use super::replay::replay_input;
use super::{EpochPolicy, NodeCheckpointing, Phase, Ports, Stop, WatermarkGenerator, reached};
use crate::gate::Gate;
use crate::hold::Hold;
use crate::stats::Activity;

/// An input, as its task gets it and gives it back.
pub struct InputAtWork {
    /// The input.
    pub input: Box<dyn Input>,
    /// What it has read and not sent, once it is open.
    pub rest: Option<InputRest>,
}

/// What an input has read and not sent.
#[derive(Default)]
pub struct InputRest {
    unsent: Unsent,
    /// What it has said with the last of that.
    progress: Option<Progress>,
}

/// Runs an input, which is restored or goes on as it was, to its end, or until the flow is stopped, and gives it back.
pub async fn run_input(
    InputAtWork { mut input, rest }: InputAtWork,
    ports: Ports,
    gate: Arc<Gate>,
    barriers: EpochPolicy,
    watermarks: Option<WatermarkGenerator>,
    mut checkpointing: NodeCheckpointing,
    hold: Hold,
) -> Result<InputAtWork, Stop> {
    if checkpointing.had_ended() {
        end_again(&ports, &barriers, &checkpointing).await;
        return Ok(InputAtWork { input, rest });
    }
    let mut phase = hold.phase();
    let waiting_ends = if checkpointing.durable { Phase::Stopped } else { Phase::Draining };
    let replay = checkpointing.steps.take_input();
    let mut writer = EpochWriter::new(&ports, barriers, watermarks, &checkpointing);
    writer.resume();
    tokio::select! {
        biased;
        // An input that has not begun by then won't.
        () = reached(&mut phase, waiting_ends) => {
            return at_barrier(writer.leave(&phase).await).map(|()| InputAtWork { input, rest });
        }
        () = ports.spend(Activity::Waiting, writer.wait(&gate)) => {}
    }
    if rest.is_none() {
        input.open(&checkpointing.home).await?;
        ports.stats().set_report(input.report());
    }
    let mut rest = rest.unwrap_or_default();
    let mut out = ports.collector_of_input();
    let ended = match replay {
        Some(replay) => replay_input(input.as_mut(), &mut writer, replay, &mut out).await,
        None => read(input.as_mut(), &mut writer, &mut rest, &mut out, hold).await,
    };
    at_barrier(ended)?;
    rest.unsent.take(&mut out);
    Ok(InputAtWork { input, rest: Some(rest) })
}

/// The end of a task, if the barrier was reached at which it ends.
fn at_barrier(ended: Result<(), Stop>) -> Result<(), Stop> {
    match ended {
        Err(Stop::AtBarrier) => Ok(()),
        ended => ended,
    }
}

/// Reads, and sends what is read.
async fn read(
    input: &mut dyn Input,
    writer: &mut EpochWriter<'_>,
    rest: &mut InputRest,
    out: &mut Collector,
    mut hold: Hold,
) -> Result<(), Stop> {
    let (ports, checkpointing) = (writer.ports, writer.checkpointing);
    let mut phase = hold.phase();
    // A flow with state stops at a barrier.
    let last_phase = if checkpointing.durable { Phase::Failing } else { Phase::Draining };
    let mut completed = checkpointing.reporter.completed_checkpoints();
    let mut asked = checkpointing.reporter.schedule().asked();
    // What the flow before has read is sent first.
    let mut progress = rest.progress.unwrap_or(Progress::More);
    // One that goes on may have been held before.
    let mut held = hold.reason();
    input.hold(held.as_ref());
    loop {
        rest.progress = Some(progress);
        send_pushed(writer, input, &mut rest.unsent, out).await?;
        match progress {
            Progress::More => {}
            Progress::CaughtUp if checkpointing.durable => checkpointing.caught_up.note(true),
            Progress::CaughtUp | Progress::End => {
                checkpointing.caught_up.note(false);
                return writer.end(&phase).await;
            }
        }
        progress = loop {
            // Also of one that waits for what does not come.
            if ports.stats().is_report_wanted() {
                ports.stats().set_report(input.report());
            }
            let reason = hold.reason();
            if held != reason {
                input.hold(reason.as_ref());
                held = reason;
            }
            let may_read = held.is_none() || writer.is_awaited();
            let read = async {
                tokio::select! {
                    biased;
                    () = hold.changed(held.as_ref()) => Ok(None),
                    Ok(()) = asked.changed(), if !may_read => Ok(None),
                    progress = input.next(out), if may_read => progress.map(Some),
                }
            };
            tokio::select! {
                biased;
                () = reached(&mut phase, last_phase) => return writer.end(&phase).await,
                Ok(()) = completed.changed() => {
                    let now = *completed.borrow_and_update();
                    writer.checkpoint_completed(input, now).await?;
                }
                due = writer.due() => {
                    // What the input has found before it was interrupted is part of its snapshot.
                    out.take_partitions().into_iter().for_each(|change| writer.change_partition(change));
                    writer.act(input, due).await?;
                }
                read = ports.spend(Activity::Waiting, read) => {
                    // Otherwise, whether it may read is another question now.
                    if let Some(progress) = read? {
                        break progress;
                    }
                }
            }
        };
        if progress != Progress::More {
            ports.stats().set_report(input.report());
        }
    }
}

/// Says once more that an input has ended which had ended in a run before.
async fn end_again(ports: &Ports, barriers: &EpochPolicy, checkpointing: &NodeCheckpointing) {
    checkpointing.caught_up.note(false);
    if let (Some(member), Some(come)) = (&barriers.member, checkpointing.had_come()) {
        member.come_to(come);
    }
    checkpointing.resume.iter().for_each(|resume| ports.stats().restore(&resume.entry.counters));
    ports.remind(Message::End).await;
}

/// Sends on what an input has pushed: changes of partitions first, then rows, with the rejected ones between them.
async fn send_pushed(
    writer: &mut EpochWriter<'_>,
    input: &mut dyn Input,
    unsent: &mut Unsent,
    out: &mut Collector,
) -> Result<(), Stop> {
    out.take_partitions().into_iter().for_each(|change| writer.change_partition(change));
    unsent.take(out);
    writer.send_all(input, unsent).await
}
