//! The loop of an output.

use millstream_core::Output;
use tokio::sync::watch;

use super::{Phase, Ports, Stop, reached};
use crate::align::{Event, Inputs};

/// Runs an output until everything is written and prepared, and gives it back, to be committed or aborted. If it or
/// a node before it failed, it has been aborted.
pub async fn run_output(
    mut output: Box<dyn Output>,
    inputs: Inputs,
    ports: Ports,
    mut phase: watch::Receiver<Phase>,
) -> Result<Box<dyn Output>, Stop> {
    let written = tokio::select! {
        biased;
        // A slow output need not write what waits for it when nothing of it will be committed.
        () = reached(&mut phase, Phase::Failing) => Err(Stop::Closed),
        written = write_all(output.as_mut(), inputs, &ports) => written,
    };
    if let Err(stop) = written {
        output.abort().await;
        return Err(stop);
    }
    Ok(output)
}

async fn write_all(output: &mut dyn Output, mut inputs: Inputs, ports: &Ports) -> Result<(), Stop> {
    output.open().await?;
    loop {
        match inputs.next().await? {
            Event::Batch(_, batch) => {
                ports.stats().add_in(batch.len());
                output.write(batch).await?;
            }
            Event::Watermark(_) | Event::Idle | Event::Barrier(_) | Event::PortEnded(_) => {}
            Event::End => return Ok(output.prepare().await?),
        }
    }
}
