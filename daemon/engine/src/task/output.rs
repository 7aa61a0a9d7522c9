//! The loop of an output.

use millstream_core::{Border, Epoch, Output, Then};
use tokio::sync::watch;

use super::keeping::is_last;
use super::{Keeping, Phase, Ports, Stop, reached};
use crate::align::{Event, Inputs};

/// Runs an output, which is restored, until everything is written and staged, and gives it back, since what was staged is still to be
/// committed or undone. If it or a node before it failed, that has been done here.
pub async fn run_output(
    mut output: Box<dyn Output>,
    inputs: Inputs,
    ports: Ports,
    keeping: Keeping,
    mut phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Output>, Stop> {
    let durable = keeping.durable;
    let written = tokio::select! {
        biased;
        // A slow output need not write what waits for it when nothing of it will be committed.
        () = reached(&mut phase, Phase::Failing) => Err(Stop::Closed),
        written = write_all(output.as_mut(), inputs, &ports, &keeping) => written,
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

async fn write_all(output: &mut dyn Output, mut inputs: Inputs, ports: &Ports, keeping: &Keeping) -> Result<(), Stop> {
    inputs.begin_behind(keeping.passed);
    if let Some(resume) = &keeping.resume {
        ports.stats().restore(&resume.entry.counters);
        if keeping.had_ended() {
            return Ok(());
        }
        if let Some(fan_in) = keeping.fan_in() {
            inputs.restore(fan_in, &keeping.edges, keeping.passed);
        }
    }
    output.border(keeping.passed);
    output.open(&keeping.home, &keeping.run).await?;
    let mut passed = keeping.passed;
    loop {
        match inputs.next().await? {
            Event::Batch(_, batch) => {
                ports.stats().add_in(batch.len());
                output.write(batch).await?;
            }
            Event::Barrier(epoch) => {
                passed = epoch;
                output.border(epoch);
                let Some(border) = keeping.wanted(epoch) else { continue };
                let snapshot = output.stage(border).await?;
                keeping.report(border, ports, &mut inputs, snapshot);
                if is_last(Some(border)) {
                    return Ok(());
                }
            }
            Event::Watermark(_) | Event::Idle | Event::PortEnded(_) => {}
            Event::End => {
                let snapshot = output.stage(end(passed)).await?;
                keeping.report_end(ports, &mut inputs, snapshot);
                return Ok(());
            }
        }
    }
}

/// The end of all rows.
fn end(passed: Epoch) -> Border {
    Border { epoch: passed.next(), then: Then::End }
}
