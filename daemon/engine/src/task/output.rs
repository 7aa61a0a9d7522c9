//! The loop of an output.

use std::future::pending;
use std::time::Duration;

use millstream_core::{Barrier, Epoch, Message, Output, Then, Watermark};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{NodeCheckpointing, Phase, Ports, Stop, reached};
use crate::align::{Event, Inputs};
use crate::stats::Activity;

/// Runs an output, which is restored, until everything is written and staged, and gives it back, since what was staged is still to be
/// committed or undone. If it or a node before it failed, that has been done here.
pub async fn run_output(
    mut output: Box<dyn Output>,
    inputs: Inputs,
    ports: Ports,
    checkpointing: NodeCheckpointing,
    mut phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Output>, Stop> {
    let durable = checkpointing.durable;
    let written = tokio::select! {
        biased;
        // A slow output need not write what waits for it when nothing of it will be committed.
        () = reached(&mut phase, Phase::Failing) => Err(Stop::Closed),
        written = write_all(output.as_mut(), inputs, &ports, &checkpointing) => written,
    };
    if let Err(stop) = written {
        // What a flow with state has staged is needed by the run that goes on with it.
        if !durable {
            output.abort().await;
        }
        return Err(stop);
    }
    Ok(output)
}

async fn write_all(
    output: &mut dyn Output,
    mut inputs: Inputs,
    ports: &Ports,
    checkpointing: &NodeCheckpointing,
) -> Result<(), Stop> {
    inputs.begin_behind(checkpointing.passed);
    if let Some(resume) = &checkpointing.resume {
        ports.stats().restore(&resume.entry.counters);
        if checkpointing.had_ended() {
            ports.remind(Message::End).await;
            return Ok(());
        }
        if let Some(fan_in) = checkpointing.fan_in() {
            inputs.restore(fan_in, &checkpointing.edges, checkpointing.passed);
        }
    }
    output.barrier(checkpointing.passed);
    if !checkpointing.goes_on {
        output.open(&checkpointing.home, &checkpointing.run).await?;
    }
    ports.stats().set_report(output.report());
    let mut passed = checkpointing.passed;
    let mut ticks = Ticks::every(output.tick_every());
    let mut out = ports.collector();
    loop {
        // Also of one to which no rows come.
        if ports.stats().is_report_wanted() {
            ports.stats().set_report(output.report());
        }
        let event = tokio::select! {
            event = ports.spend(Activity::Waiting, inputs.next()) => event?,
            () = ticks.next() => {
                output.tick().await?;
                continue;
            }
        };
        match event {
            Event::Batch(port, batch) => {
                ports.begin(port, &batch);
                output.write(batch, &mut out).await?;
                ports.flush(&mut out).await?;
                ports.finish();
            }
            Event::SetAside(port, row, error) => ports.set_aside(port, &row, &error).await?,
            Event::Barrier(epoch) => {
                passed = epoch;
                output.barrier(epoch);
                ports.check_failed()?;
                if let Some(barrier) = checkpointing.wanted(epoch) {
                    let snapshot = output.stage(barrier).await?;
                    checkpointing.report(barrier, ports, &mut inputs, snapshot);
                }
                // Who reads the rows that it refuses may have come to the barrier at which the flow stops.
                ports.remind(Message::Barrier(epoch)).await;
                if checkpointing.is_last(epoch) {
                    ports.stats().set_report(output.report());
                    return Ok(());
                }
            }
            Event::Watermark(at) => {
                output.watermark(at).await?;
                ports.broadcast(Message::Watermark(Watermark::At(at))).await?;
            }
            Event::Idle => ports.broadcast(Message::Watermark(Watermark::Idle)).await?,
            Event::PortEnded(_) | Event::Leave(_) => {}
            Event::End => {
                ports.check_failed()?;
                let snapshot = output.stage(end(passed)).await?;
                ports.stats().set_report(output.report());
                checkpointing.report_end(ports, &mut inputs, snapshot);
                return ports.broadcast(Message::End).await;
            }
        }
    }
}

/// Says when an output is to be called though no rows come.
struct Ticks(Option<Interval>);

impl Ticks {
    fn every(time: Option<Duration>) -> Self {
        Self(time.map(|time| {
            let mut ticks = interval_at(Instant::now() + time, time);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) {
        match &mut self.0 {
            Some(ticks) => _ = ticks.tick().await,
            None => pending().await,
        }
    }
}

/// The end of all rows.
fn end(passed: Epoch) -> Barrier {
    Barrier { epoch: passed.next(), then: Then::End }
}
