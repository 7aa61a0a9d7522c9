//! The loop of a processor.

use millstream_core::{Message, Processor, Watermark};

use super::{Ports, Stop};
use crate::align::{Event, Inputs};

/// Runs a processor to its end and gives it back, to be committed.
pub async fn run_processor(
    mut processor: Box<dyn Processor>,
    mut inputs: Inputs,
    ports: Ports,
) -> Result<Box<dyn Processor>, Stop> {
    let mut out = ports.collector();
    loop {
        match inputs.next().await? {
            Event::Batch(port, batch) => {
                ports.add_in(port, batch.len());
                processor.process(port, batch, &mut out)?;
                ports.flush(&mut out).await?;
                if ports.stats().is_report_wanted() {
                    ports.stats().set_report(processor.report());
                }
            }
            Event::Watermark(at) => {
                let at = processor.watermark(at, &mut out)?;
                ports.flush(&mut out).await?;
                ports.broadcast(Message::Watermark(Watermark::At(at))).await?;
            }
            Event::Idle => ports.broadcast(Message::Watermark(Watermark::Idle)).await?,
            Event::Barrier(epoch) => {
                processor.border(epoch, &mut out)?;
                ports.flush(&mut out).await?;
                ports.check_failed()?;
                ports.broadcast(Message::Barrier(epoch)).await?;
            }
            Event::PortEnded(port) => {
                processor.ended(port, &mut out)?;
                ports.flush(&mut out).await?;
            }
            Event::End => {
                processor.finish(&mut out)?;
                ports.flush(&mut out).await?;
                ports.check_failed()?;
                ports.stats().set_report(processor.report());
                ports.broadcast(Message::End).await?;
                return Ok(processor);
            }
        }
    }
}
