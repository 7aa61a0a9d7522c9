//! The way out of a node: canonical types, counters, edges, and what becomes of refused rows.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Collector, Epoch, Error, ErrorClass, FAILED, FailedRow, Message, Origin, PortRole, Watermark, failed_batch,
    json_row,
};
use millstream_store::crash;

use super::Stop;
use crate::edge::{Closed, Sender};
use crate::file::{OnError, Secrets};
use crate::plan::{NodeIndex, OutputPort, PlannedNode};
use crate::quarantine::{AtWork, failed_row};
use crate::stats::{Activity, FlowStats, NodeStats};

/// The output ports of a running node.
pub struct Ports {
    node: NodeIndex,
    stats: Arc<FlowStats>,
    secrets: Arc<Secrets>,
    ports: Vec<(OutputPort, Vec<Sender>)>,
    on_error: OnError,
    max_failed: Option<f64>,
    /// The input port at which a model's versions arrive, which are no rows of the flow.
    model_port: Option<usize>,
    /// The output port by which versions leave of a model that the node makes.
    made_model: Option<usize>,
}

impl Ports {
    /// The ports of a planned node; `senders` are those of its edges, by port.
    pub fn new(
        node: NodeIndex,
        planned: &PlannedNode,
        senders: Vec<Vec<Sender>>,
        stats: Arc<FlowStats>,
        secrets: Arc<Secrets>,
    ) -> Self {
        Self {
            node,
            stats,
            secrets,
            ports: planned.ports.iter().cloned().zip(senders).collect(),
            on_error: planned.on_error.clone(),
            max_failed: planned.max_failed.map(|share| share.0),
            model_port: planned.inputs.iter().position(|input| input.role == PortRole::Versions),
            made_model: planned.ports.iter().position(|port| port.role == PortRole::Versions),
        }
    }

    /// The node's counters.
    pub fn stats(&self) -> &NodeStats {
        &self.stats.nodes[self.node]
    }

    /// Waits for something; if it is not there at once, the node counts as doing that.
    pub async fn spend<T>(&self, activity: Activity, future: impl Future<Output = T>) -> T {
        self.stats().clock.spend(activity, future).await
    }

    /// The node, an input, has come to the end of an epoch.
    pub fn end_epoch(&self, epoch: Epoch) {
        self.stats.end_epoch(epoch);
    }

    /// The counters of all nodes, and which are the node's.
    pub fn flow_stats(&self) -> (Arc<FlowStats>, usize) {
        (self.stats.clone(), self.node)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// The columns that leave by each.
    pub fn schemas(&self) -> Vec<SchemaRef> {
        self.ports.iter().map(|(port, _)| port.canonical.schema().clone()).collect()
    }

    /// Rows have arrived at an input port, and the node begins with them. Versions of a model are no rows.
    pub fn begin(&self, port: usize, batch: &Batch) {
        if Some(port) != self.model_port {
            self.stats().add_in(batch.len());
            self.stats().set_at_work(Some(AtWork::of(batch)));
            crash::poison(&self.stats().name, || text_of(batch));
        }
    }

    /// The node is through with what it has begun with.
    pub fn finish(&self) {
        self.stats().set_at_work(None);
    }

    /// Refuses a row in place of the node, which would fail at it.
    pub async fn set_aside(&self, port: usize, row: &Batch, error: &Arc<str>) -> Result<(), Stop> {
        if Some(port) != self.model_port {
            self.stats().add_in(row.len());
        }
        self.send_failed(&[failed_row(row, error)?]).await
    }

    /// A collector for the node.
    pub fn collector(&self) -> Collector {
        Collector::new(self.ports.len())
    }

    /// A collector for an input.
    pub fn collector_of_input(&self) -> Collector {
        Collector::of_input(self.ports.len())
    }

    /// Whether the node has pushed a version of its model. None if it makes none.
    pub fn has_version(&self, out: &Collector) -> Option<bool> {
        self.made_model.map(|port| out.has(port))
    }

    /// Sends on what the node has pushed.
    pub async fn flush(&self, out: &mut Collector) -> Result<(), Stop> {
        for (port, batch) in out.take_all() {
            self.send(port, batch).await?;
        }
        let failed = out.take_failed();
        self.send_failed(&failed).await
    }

    /// Whether no rows wait on the edges of the first port.
    pub fn are_drained(&self) -> bool {
        self.first().iter().all(Sender::is_drained)
    }

    /// Waits until no rows wait on the edges of the first port. Cancel safe.
    pub async fn drained(&self) -> Result<(), Stop> {
        for sender in self.first() {
            sender.drained().await?;
        }
        Ok(())
    }

    fn first(&self) -> &[Sender] {
        self.ports.first().map(|(_, senders)| senders.as_slice()).unwrap_or_default()
    }

    /// The rows in the types that leave by a port.
    pub fn canonical(&self, port: usize, rows: RecordBatch) -> Result<RecordBatch, Error> {
        self.ports[port].0.canonical.apply(rows)
    }

    /// Sends rows out by one port.
    pub async fn send(&self, port: usize, batch: Batch) -> Result<(), Stop> {
        self.stats().add_out(port, batch.len());
        let tap = &self.stats().taps[port];
        let (port, senders) = &self.ports[port];
        if senders.is_empty() {
            return Ok(());
        }
        // Behind an input, rows have no positions of their own.
        let batch = Batch::new(port.canonical.apply(batch.rows)?, batch.origin);
        tap.offer(&batch);
        for sender in senders {
            self.send_to(sender, Message::Batch(sender.united(&batch)?)).await?;
        }
        Ok(())
    }

    /// Does with refused rows what the flow says.
    pub async fn send_failed(&self, rows: &[FailedRow]) -> Result<(), Stop> {
        let Some(first) = rows.first() else { return Ok(()) };
        self.stats().add_failed(rows.len());
        // The planner puts `failed` last.
        let failed = self.ports.len().checked_sub(1).filter(|port| self.ports[*port].0.name == FAILED);
        let Some(port) = failed else {
            let error =
                Error::new(format!("it refuses rows, which it did not say when it was planned: {}", first.error));
            return Err(error.of_class(ErrorClass::Bug).into());
        };
        let is_read = !self.ports[port].1.is_empty();
        if is_read {
            let start = first.position.unwrap_or_default();
            let origin = Origin::new(first.source.clone(), first.partition.clone(), start, start + rows.len() as u64);
            let batch = Batch::new(failed_batch(&self.stats().name, &self.without_secrets(rows))?, origin);
            return self.send(port, batch).await;
        }
        match self.on_error {
            OnError::Fail => Err(refused(first).into()),
            OnError::Drop | OnError::DeadLetter(_) => Ok(()),
        }
    }

    /// Refused rows, whose errors name variables in place of their values.
    fn without_secrets<'a>(&self, rows: &'a [FailedRow]) -> Cow<'a, [FailedRow]> {
        if self.secrets.is_empty() {
            return Cow::Borrowed(rows);
        }
        let hidden = |row: &FailedRow| FailedRow { error: self.secrets.hide(&row.error).into_owned(), ..row.clone() };
        Cow::Owned(rows.iter().map(hidden).collect())
    }

    /// Sends a message that is no batch to all readers.
    pub async fn broadcast(&self, message: Message) -> Result<(), Stop> {
        if let Message::Watermark(Watermark::At(at)) = message {
            self.stats().set_watermark(at);
        }
        for sender in self.ports.iter().flat_map(|(_, senders)| senders) {
            self.send_to(sender, message.clone()).await?;
        }
        Ok(())
    }

    async fn send_to(&self, sender: &Sender, message: Message) -> Result<(), Closed> {
        self.spend(Activity::Blocked, sender.send(message)).await
    }

    /// Sends a message that is no batch to those readers that are still there: some may have come to their end before, or
    /// to the barrier at which the flow stops.
    pub async fn remind(&self, message: Message) {
        for sender in self.ports.iter().flat_map(|(_, senders)| senders) {
            let _ = sender.send(message.clone()).await;
        }
    }

    /// Fails the flow where too many rows were refused. Asked at barriers, so that the answer is the same in every run.
    pub fn check_failed(&self) -> Result<(), Error> {
        let Some(share) = self.max_failed else { return Ok(()) };
        let failed = self.stats().rows_failed.load(Ordering::Relaxed);
        let rows = self.stats().rows_in.load(Ordering::Relaxed);
        if failed as f64 <= share * rows as f64 {
            return Ok(());
        }
        let percent = share * 100.0;
        Err(Error::new(format!(
            "{failed} of {rows} rows were rejected, more than `max_failed = \"{percent}%\"` allows"
        )))
    }
}

/// The rows as JSON, for tests.
fn text_of(batch: &Batch) -> String {
    (0..batch.len()).filter_map(|row| json_row(&batch.rows, row).ok()).collect()
}

fn refused(row: &FailedRow) -> Error {
    let FailedRow { error, source, partition, position, line, row, .. } = row;
    let partition = if partition.is_empty() { String::new() } else { format!(", {partition}") };
    let position = position.map_or_else(String::new, |position| format!(", row {position}"));
    let line = line.map_or_else(String::new, |line| format!(", line {line}"));
    Error::new(format!(
        "{error} (input `{source}`{partition}{position}{line}: {row}); `on_error` says what to do with such rows"
    ))
}
