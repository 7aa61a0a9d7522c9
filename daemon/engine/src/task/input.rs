//! The loop of an input: reads batches, and has them cut.

use std::sync::Arc;

use millstream_core::{Collector, Input, Message, Progress};

use super::epoch_writer::EpochWriter;
use super::replay::replay_input;
use super::{EpochPolicy, NodeCheckpointing, Phase, Ports, Stop, WatermarkGenerator, reached};
use crate::gate::Gate;
use crate::hold::Hold;
use crate::stats::Activity;

/// Runs an input, which is restored, to its end, or until the flow is stopped.
pub async fn run_input(
    mut input: Box<dyn Input>,
    ports: Ports,
    gate: Arc<Gate>,
    barriers: EpochPolicy,
    watermarks: Option<WatermarkGenerator>,
    mut checkpointing: NodeCheckpointing,
    mut hold: Hold,
) -> Result<(), Stop> {
    if checkpointing.had_ended() {
        end_again(&ports, &barriers, &checkpointing).await;
        return Ok(());
    }
    let mut phase = hold.phase();
    // A flow with state stops at a barrier; an input that has not begun by then won't.
    let (last_phase, waiting_ends) =
        if checkpointing.durable { (Phase::Failing, Phase::Stopped) } else { (Phase::Draining, Phase::Draining) };
    let replay = checkpointing.steps.take_input();
    let mut writer = EpochWriter::new(&ports, barriers, watermarks, &checkpointing);
    writer.resume();
    tokio::select! {
        biased;
        () = reached(&mut phase, waiting_ends) => return writer.leave(&phase).await,
        () = ports.spend(Activity::Waiting, writer.wait(&gate)) => {}
    }
    input.open(&checkpointing.home).await?;
    let mut out = ports.collector_of_input();
    if let Some(replay) = replay {
        return replay_input(input.as_mut(), &mut writer, replay, &mut out).await;
    }
    let mut completed = checkpointing.reporter.completed_checkpoints();
    let mut asked = checkpointing.reporter.schedule().asked();
    loop {
        let is_free = hold.may_read();
        let may_read = is_free || writer.is_awaited();
        let read = async {
            tokio::select! {
                biased;
                () = hold.changed(is_free) => Ok(None),
                Ok(()) = asked.changed(), if !may_read => Ok(None),
                progress = input.next(&mut out), if may_read => progress.map(Some),
            }
        };
        let progress = tokio::select! {
            biased;
            () = reached(&mut phase, last_phase) => return writer.end(&phase).await,
            Ok(()) = completed.changed() => {
                let now = *completed.borrow_and_update();
                writer.checkpoint_completed(input.as_mut(), now).await?;
                continue;
            }
            due = writer.due() => {
                // What the input has found before it was interrupted is part of its snapshot.
                out.take_partitions().into_iter().for_each(|change| writer.change_partition(change));
                writer.act(input.as_mut(), due).await?;
                continue;
            }
            read = ports.spend(Activity::Waiting, read) => match read? {
                Some(progress) => progress,
                // Whether it may read is another question now.
                None => continue,
            },
        };
        if ports.stats().is_report_wanted() || progress != Progress::More {
            ports.stats().set_report(input.report());
        }
        send_pushed(&mut writer, input.as_mut(), &mut out).await?;
        match progress {
            Progress::More => {}
            Progress::CaughtUp if checkpointing.durable => checkpointing.caught_up.note(true),
            Progress::CaughtUp | Progress::End => {
                checkpointing.caught_up.note(false);
                return writer.end(&phase).await;
            }
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
async fn send_pushed(writer: &mut EpochWriter<'_>, input: &mut dyn Input, out: &mut Collector) -> Result<(), Stop> {
    out.take_partitions().into_iter().for_each(|change| writer.change_partition(change));
    let mut failed = out.take_failed();
    for batch in out.take_all() {
        writer.send(input, batch, &mut failed).await?;
    }
    writer.send_refused(input, failed).await
}
