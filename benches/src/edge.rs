//! How long a batch takes over an edge on which nothing else waits, from one task to another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use millstream_core::{Batch, Error, Message, Origin, Result, ResultExt};
use millstream_engine::edge::{Limits, Receiver, Sender, edge};
use tokio::sync::mpsc;

use crate::flow;
use crate::measurement::{Goal, Measurement, median, quantile};

const BATCHES: usize = 2_000;
/// Long enough for the receiving task, and the thread that ran it, to be at rest.
const PAUSE: Duration = Duration::from_millis(1);

/// The median time and the 99th percentile.
pub fn run() -> Result<Vec<Measurement>> {
    let runtime = flow::runtime(std::thread::available_parallelism()?.get())?;
    let times = runtime.block_on(cross())?;
    let measure = |name: &str, time| {
        Measurement::new(format!("edge: a batch over an idle edge, {name}"), "µs", time, Goal::AtMost(50.0))
    };
    Ok(vec![measure("median", median(times.clone())), measure("99th percentile", quantile(times, 0.99))])
}

/// The time of every crossing in microseconds.
async fn cross() -> Result<Vec<f64>> {
    let (sender, receiver) = edge(Limits { rows: 65_536, bytes: 64 << 20 });
    let (departed, departures) = mpsc::unbounded_channel();
    let arrivals = tokio::spawn(receive(receiver, departures));
    let sent = tokio::spawn(send(sender, departed));
    sent.await.doing(|| "sending")??;
    arrivals.await.doing(|| "receiving")
}

async fn send(sender: Sender, departed: mpsc::UnboundedSender<Instant>) -> Result<()> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1024));
    let batch = Batch::new(RecordBatch::try_from_iter([("n", column)])?, Origin::new("input", "", 0, 1024));
    for _ in 0..BATCHES {
        tokio::time::sleep(PAUSE).await;
        let message = Message::Batch(batch.clone());
        departed.send(Instant::now()).doing(|| "noting the time")?;
        sender.send(message).await.map_err(|_| Error::new("the receiver is gone"))?;
    }
    Ok(())
}

async fn receive(receiver: Receiver, mut departures: mpsc::UnboundedReceiver<Instant>) -> Vec<f64> {
    let mut times = Vec::with_capacity(BATCHES);
    while receiver.recv().await.is_ok() {
        let arrived = Instant::now();
        // The time was noted before the batch was sent.
        if let Ok(departed) = departures.try_recv() {
            times.push((arrived - departed).as_secs_f64() * 1e6);
        }
    }
    times
}
