//! The loop of a processor.

use std::sync::Arc;

use millstream_core::{Collector, Epoch, Message, Parts, Processor, Snapshot, Watermark};
use tokio::sync::watch;
use tokio::time::sleep;

use super::answers::AnswerReplay;
use super::buffering::run_buffer;
use super::concurrent::run_concurrently;
use super::lanes::Lanes;
use super::requests::PendingRequests;
use super::{NodeCheckpointing, Phase, Ports, Stop, reached};
use crate::align::{Event, Inputs};
use crate::gate::Gate;
use crate::plan::PlannedRequests;
use crate::stats::Activity;

/// In which manner a processor is run.
pub enum Manner {
    /// One call after the other, or where its rows don't depend on those before on several batches at a time.
    InOrder,
    /// It asks others.
    Asking(PlannedRequests),
    /// It keeps rows while there is no room behind it, if any wait at all, and gives none before its gate is open.
    Buffering {
        /// Whether rows wait at all.
        is_live: bool,
        /// The gate.
        gate: Arc<Gate>,
    },
}

/// Runs a processor, which is restored, to its end, or to the barrier at which the flow stops, and gives it back.
pub async fn run_processor(
    processor: Box<dyn Processor>,
    manner: Manner,
    inputs: Inputs,
    ports: Ports,
    mut checkpointing: NodeCheckpointing,
    phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Processor>, Stop> {
    if let Some(recorded) = checkpointing.told.take() {
        return run_concurrently(AnswerReplay::new(processor, recorded), inputs, ports, checkpointing, phase).await;
    }
    let processor = match manner {
        Manner::Buffering { is_live, gate } => {
            let run = run_buffer(processor, is_live, gate, inputs, ports, checkpointing);
            return unless_failing(phase, run).await;
        }
        Manner::Asking(planned) => match processor.asks() {
            Some(asker) => {
                let requests = PendingRequests::new(processor, asker, planned, &ports, &checkpointing, phase.clone());
                return run_concurrently(requests, inputs, ports, checkpointing, phase).await;
            }
            None => processor,
        },
        Manner::InOrder => processor,
    };
    match Lanes::new(processor, &ports) {
        Ok(lanes) => run_concurrently(lanes, inputs, ports, checkpointing, phase).await,
        Err(processor) => {
            let run = run_in_order(processor, inputs, ports, checkpointing, phase.clone());
            unless_failing(phase, run).await
        }
    }
}

/// Gives up what is done when the flow fails.
async fn unless_failing<T>(
    mut phase: watch::Receiver<Phase>,
    done: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        () = reached(&mut phase, Phase::Failing) => Err(Stop::Closed),
        done = done => done,
    }
}

/// Runs a processor whose rows depend on those before.
async fn run_in_order(
    mut processor: Box<dyn Processor>,
    mut inputs: Inputs,
    ports: Ports,
    checkpointing: NodeCheckpointing,
    phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Processor>, Stop> {
    resume(Some(processor.as_ref()), &mut inputs, &ports, &checkpointing);
    if checkpointing.had_ended() {
        ports.remind(Message::End).await;
        return Ok(processor);
    }
    let mut out = ports.collector();
    loop {
        let event = ports.spend(Activity::Waiting, inputs.next()).await?;
        // A slow node need not work off what waits for it when nothing of it counts.
        if *phase.borrow() >= Phase::Failing {
            return Err(Stop::Closed);
        }
        match event {
            Event::Batch(port, batch) => {
                ports.begin(port, &batch);
                processor.process(port, batch, &mut out)?;
                flush(processor.as_mut(), &ports, &mut out).await?;
                ports.finish();
                if ports.stats().is_report_wanted() {
                    ports.stats().set_report(processor.report());
                }
            }
            Event::SetAside(port, row, error) => ports.set_aside(port, &row, &error).await?,
            Event::Watermark(at) => {
                let at = processor.watermark(at, &mut out)?;
                flush(processor.as_mut(), &ports, &mut out).await?;
                ports.broadcast(Message::Watermark(Watermark::At(at))).await?;
            }
            Event::Idle => ports.broadcast(Message::Watermark(Watermark::Idle)).await?,
            Event::Barrier(epoch) => {
                if pass_barrier(processor.as_mut(), epoch, &mut out, &mut inputs, &ports, &checkpointing).await? {
                    ports.stats().set_report(processor.report());
                    return Ok(processor);
                }
            }
            Event::PortEnded(port) => {
                processor.ended(port, &mut out)?;
                flush(processor.as_mut(), &ports, &mut out).await?;
            }
            Event::End => {
                finish(processor.as_mut(), Parts::default(), &mut inputs, &ports, &checkpointing).await?;
                return Ok(processor);
            }
            // It keeps none.
            Event::Leave(_) => {}
        }
    }
}

/// All inputs have come to the barrier of an epoch. Returns whether the flow stops there.
pub(super) async fn pass_barrier(
    processor: &mut dyn Processor,
    epoch: Epoch,
    out: &mut Collector,
    inputs: &mut Inputs,
    ports: &Ports,
    checkpointing: &NodeCheckpointing,
) -> Result<bool, Stop> {
    processor.barrier(epoch, out)?;
    if let Some(has_made_version) = ports.has_version(out) {
        checkpointing.reporter.learned(checkpointing.node, epoch, has_made_version);
    }
    flush(processor, ports, out).await?;
    ports.check_failed()?;
    if let Some(barrier) = checkpointing.wanted(epoch) {
        checkpointing.report(barrier, ports, inputs, processor.snapshot()?);
    }
    // A reader that does not read these rows yet may have come to the barrier at which the flow stops.
    ports.remind(Message::Barrier(epoch)).await;
    Ok(checkpointing.is_last(epoch))
}

/// All inputs have ended: sends the last rows. `answers` is what a replay will need.
pub(super) async fn finish(
    processor: &mut dyn Processor,
    answers: Parts,
    inputs: &mut Inputs,
    ports: &Ports,
    checkpointing: &NodeCheckpointing,
) -> Result<(), Stop> {
    let mut out = ports.collector();
    processor.finish(&mut out)?;
    flush(processor, ports, &mut out).await?;
    ports.check_failed()?;
    ports.stats().set_report(processor.report());
    let snapshot = Snapshot { answers, ..processor.snapshot()? };
    checkpointing.report_end(ports, inputs, snapshot);
    ports.broadcast(Message::End).await
}

/// Sends on what the processor has pushed, and what follows from it, piece by piece.
pub(super) async fn flush(processor: &mut dyn Processor, ports: &Ports, out: &mut Collector) -> Result<(), Stop> {
    ports.flush(out).await?;
    while processor.more(out)? {
        ports.flush(out).await?;
        if let Some(pause) = processor.pause() {
            sleep(pause).await;
        }
    }
    Ok(())
}

/// Goes on with counters and edges where they were.
pub(super) fn resume(
    processor: Option<&dyn Processor>,
    inputs: &mut Inputs,
    ports: &Ports,
    checkpointing: &NodeCheckpointing,
) {
    if let Some(resume) = &checkpointing.resume {
        ports.stats().restore(&resume.entry.counters);
        ports.stats().set_report(processor.and_then(Processor::report));
    }
    match checkpointing.fan_in() {
        Some(fan_in) => inputs.restore(fan_in, &checkpointing.edges, checkpointing.passed),
        None => inputs.begin_behind(checkpointing.passed),
    }
    if checkpointing.goes_on {
        inputs.know_ended();
    }
}
