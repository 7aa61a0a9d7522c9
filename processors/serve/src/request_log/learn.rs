//! Takes labels of rows that were predicted, by their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::Error;
use millstream_models::Label;
use millstream_store::{LogReader, NotAppended};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::record::{Head, Kind, Labelled, pack, unpack};
use super::{RequestLog, label, lines, now};
use crate::refusal::{Reason, Refusal};

/// What became of a row that was predicted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The id that the prediction was answered with.
    pub id: String,
    /// What would have been right: a class, a number; what a chosen action was worth.
    pub label: Value,
}

/// What was made of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Learned {
    /// How many rows have got their label.
    pub rows: usize,
    /// How many had the same one already.
    pub known: usize,
}

/// Labels that are to be written, as a record of the log.
struct Ready {
    /// Of which rows, and what the labels are known by.
    of: Vec<(u64, u64)>,
    payload: Vec<u8>,
}

impl RequestLog {
    /// Takes labels of rows that a model has predicted: all of them or none. They are durable when this returns. A label that a row has already is taken as if
    /// for the first time.
    ///
    /// # Errors
    /// If one can't be taken, by its place among those that were sent: its row is not known, or no more, it has another label, or the
    /// model could not learn it. If they can't be written.
    pub async fn learn(
        self: &Arc<Self>,
        model: &str,
        (learned, largest): (&Label, f64),
        sent: Vec<Sent>,
    ) -> Result<Learned, Refusal> {
        self.check_there().map_err(|error| Refusal { reason: Reason::Unavailable, message: error.to_string() })?;
        let (log, model, learned) = (self.clone(), model.to_owned(), learned.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let count = sent.len();
            log.prepare(&model, (&learned, largest), sent).map(|ready| (count, ready))
        });
        let prepared = prepared.await.map_err(|error| Refusal::internal(&Error::new(error.to_string())))?;
        let (count, Some(ready)) = prepared? else { return Ok(Learned::default()) };
        let rows = ready.of.len();
        if rows > 0 {
            self.write(ready).await?;
        }
        Ok(Learned { rows, known: count - rows })
    }

    /// Checks labels, finds their rows, and notes that they are being written.
    fn prepare(
        &self,
        model: &str,
        (learned, largest): (&Label, f64),
        sent: Vec<Sent>,
    ) -> Result<Option<Ready>, Refusal> {
        if sent.is_empty() {
            return Ok(None);
        }
        let by_number = self.by_number((learned, largest), sent)?;
        let mut rows = Rows { log: self, model, finder: self.log.finder(), found: None };
        let mut of = Vec::with_capacity(by_number.len());
        let mut text = Vec::new();
        for (number, (at, value)) in &by_number {
            let (predicted, line) = rows.find(*number, *at)?;
            if self.is_new(*number, *at, value)? {
                of.push(Labelled { number: *number, label: label::fingerprint(value), ..predicted });
                lines::with(line, label::column(learned), value, &mut text);
            }
        }
        self.reserve(&of)?;
        let written = of.iter().map(|of| (of.number, of.label)).collect();
        let head = Head { model: model.to_owned(), at: now(), kind: Kind::Labelled { of } };
        let payload = pack(&head, &text).map_err(|error| Refusal::internal(&error))?;
        Ok(Some(Ready { of: written, payload }))
    }

    /// The labels by the numbers of their rows, with their places among those that were sent.
    fn by_number(
        &self,
        (learned, largest): (&Label, f64),
        sent: Vec<Sent>,
    ) -> Result<BTreeMap<u64, (usize, Value)>, Refusal> {
        let mut by_number: BTreeMap<u64, (usize, Value)> = BTreeMap::new();
        for (at, Sent { id, label: value }) in sent.into_iter().enumerate() {
            let value = label::plain(value);
            label::check(learned, largest, &value)
                .map_err(|why| Refusal::wrong(format!("`rows[{at}].label`: {why}")))?;
            let number = self.names.number(&id).ok_or_else(|| self.unknown(at))?;
            match by_number.get(&number) {
                Some((other, before)) if *before != value => {
                    let message = format!("`rows[{at}]` has another label for the same id as `rows[{other}]`");
                    return Err(Refusal::wrong(message));
                }
                _ => _ = by_number.entry(number).or_insert((at, value)),
            }
        }
        Ok(by_number)
    }

    /// Whether a row has no label yet.
    fn is_new(&self, number: u64, at: usize, value: &Value) -> Result<bool, Refusal> {
        match self.labelled.lock().get(&number) {
            None => Ok(true),
            Some(Some(label)) if *label == label::fingerprint(value) => Ok(false),
            Some(Some(_)) => {
                let message =
                    format!("`rows[{at}].id`: the prediction has another label already, and a label is learned once");
                Err(Refusal { reason: Reason::Conflict, message })
            }
            Some(None) => Err(Refusal::busy(format!("`rows[{at}].id`: another request is labelling the prediction"))),
        }
    }

    /// Notes that rows are being labelled. Others may have come first meanwhile.
    fn reserve(&self, of: &[Labelled]) -> Result<(), Refusal> {
        let mut labelled = self.labelled.lock();
        if of.iter().any(|of| labelled.contains_key(&of.number)) {
            return Err(Refusal::busy("another request is labelling the same predictions"));
        }
        labelled.extend(of.iter().map(|of| (of.number, None)));
        Ok(())
    }

    async fn write(&self, Ready { of, payload }: Ready) -> Result<(), Refusal> {
        let (sender, written) = oneshot::channel();
        let (labelled, rows) = (self.labelled.clone(), u32::try_from(of.len()).unwrap_or(u32::MAX));
        // Whether or not the one who has sent them still waits.
        self.log.append_then(payload, rows, move |number| {
            labelled.written(&of, number.is_ok());
            let _ = sender.send(number.map_err(|NotAppended { error, .. }| error));
        });
        let closed = || Refusal::busy("the log of requests is closed");
        match written.await.map_err(|_| closed())? {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::busy(format!("labels can't be taken now: {error}"))),
        }
    }

    fn unknown(&self, at: usize) -> Refusal {
        let message = format!("`rows[{at}].id` is of no prediction that this server has made, or keeps");
        Refusal::not_found(message)
    }
}

/// Finds rows by their numbers, the least first.
struct Rows<'a> {
    log: &'a RequestLog,
    model: &'a str,
    finder: LogReader,
    found: Option<Found>,
}

/// A record of rows that were predicted.
struct Found {
    first: u64,
    end: u64,
    head: Head,
    version: u64,
    lines: Vec<Box<[u8]>>,
}

impl Rows<'_> {
    /// The row of a number, sent at a place: what is known of it, and its line.
    fn find(&mut self, number: u64, at: usize) -> Result<(Labelled, &[u8]), Refusal> {
        if self.found.as_ref().is_none_or(|found| number >= found.end) {
            self.found = Some(self.read(number, at)?);
        }
        let unknown = || self.log.unknown(at);
        let found = self.found.as_ref().ok_or_else(unknown)?;
        let line = number.checked_sub(found.first).and_then(|row| found.lines.get(row as usize)).ok_or_else(unknown)?;
        if found.head.model != self.model {
            let message = format!(
                "`rows[{at}].id` is of a prediction of model `{}`, and not of `{}`",
                found.head.model, self.model
            );
            return Err(Refusal::not_found(message));
        }
        if self.log.is_late(found.head.at) {
            let within = self.log.limits.labels_within;
            let message = format!(
                "`rows[{at}].id` is of a prediction that is older than {within:?}, within which labels are taken"
            );
            return Err(Refusal::not_found(message));
        }
        Ok((Labelled { number, version: found.version, predicted_at: found.head.at, label: 0 }, line))
    }

    fn read(&mut self, number: u64, at: usize) -> Result<Found, Refusal> {
        if number < self.log.log.oldest() {
            return Err(self.log.unknown(at));
        }
        // It may have been trimmed away meanwhile.
        let gone =
            |error| if number < self.log.log.oldest() { self.log.unknown(at) } else { Refusal::internal(&error) };
        let record = self.finder.find(number).map_err(gone)?;
        let record = record.ok_or_else(|| self.log.unknown(at))?;
        let (head, lines) = unpack(&record.payload).map_err(|error| Refusal::internal(&error))?;
        let Kind::Predicted { version } = head.kind else { return Err(self.log.unknown(at)) };
        let lines = lines.split_inclusive(|byte| *byte == b'\n').map(Into::into).collect();
        Ok(Found { first: record.number, end: record.end(), version, head, lines })
    }
}
