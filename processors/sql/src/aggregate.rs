//! The processor `aggregate`: all rows so far, summed up by groups.

use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Epoch, Error, Kind, Origin, Parts, PlanContext, PortPlan, PortTime, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, batch_bytes,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accumulate::aggregate::{Aggregate, Arguments};
use crate::accumulate::groups::{Assignment, Groups, Table};
use crate::accumulate::{BATCH_ROWS, key_columns, selected};
use crate::halve::Halves;

/// Aggregates all rows by groups, as GROUP BY does: one row a group, or a single one without `keys`. (`window` aggregates stretches
/// of event time, `over` adds to each row what came before it.)
///
/// Out come the keys and the columns of `select`, groups in the order in which their first rows came. When that happens, `emit`
/// says: `end` is once, when the input has ended. `update` is at every barrier of an epoch as well: the groups that rows have come
/// for since the barrier before, as they are now, so that the last row of a group is the one that counts. `complete` is all groups
/// at every barrier, if rows have come since the barrier before. Unless it is set, inputs that end get `end`, and live ones `update`.
/// With `end`, a live flow gives its rows when it is stopped; with `--state` it keeps them instead, and goes on.
///
/// The aggregates are those of `window`, with `FILTER (WHERE …)`; `first_value` and `last_value` go by the order in which rows
/// came. Null is a key like any other; keys and values are compared as there. Without `keys` there is a row also if none has come,
/// in which `count` is 0 and all else null.
///
/// What comes out has no event time.
///
/// Everything is computed row by row, so no result depends on how rows are cut into batches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregateSettings {
    /// The columns whose values make a group. Without them, all rows are one.
    #[serde(default)]
    keys: Vec<String>,
    /// The columns that come out, and the aggregate that each is: `{ n = "count(*)", mean = "avg(amount)" }`.
    #[schemars(length(min = 1))]
    select: IndexMap<String, String>,
    /// When rows leave: `end`, `update` or `complete`.
    emit: Option<Emit>,
    /// How many groups there may be; a row that would need one more leaves by the port `failed`. A million groups with
    /// three aggregates take about 100 MiB.
    #[serde(default = "default_max_groups")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    max_groups: usize,
}

fn default_max_groups() -> usize {
    10_000_000
}

/// When rows leave.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Emit {
    /// Once, at the end.
    End,
    /// At barriers, the groups that have changed.
    Update,
    /// At barriers, all groups.
    Complete,
}

impl Kind for AggregateSettings {
    const NAME: &'static str = "aggregate";
    const ALSO_CALLED: &'static [&'static str] = &["group_by", "groupby", "group", "reduce", "count"];
    const EXAMPLE: &'static str = r#"keys = ["country"]
select = { payments = "count(*)", mean = "avg(amount)", refunds = "count(*) FILTER (WHERE amount < 0)" }"#;
    const FREE_SETTINGS: &'static [&'static str] = &["emit", "max_groups"];
}

impl ProcessorSettings for AggregateSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let mut problems = Problems::new();
        let keys = key_columns(&self.keys, &stream.schema, &mut problems);
        let is_taken = |name: &str| self.keys.iter().any(|key| key == name);
        let aggregates = selected(&self.select, is_taken, |name, text| Aggregate::new(name, text, &stream.schema));
        let aggregates = aggregates.map_err(|found| problems.extend(found)).unwrap_or_default();
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = schema(&stream.schema, &keys, &aggregates);
        let mentioned = aggregates.iter().flat_map(|aggregate| aggregate.columns.iter().cloned());
        let uses = vec![Uses::only(mentioned.chain(self.keys.iter().cloned()))];
        let emit = self.emit.unwrap_or(if stream.is_live { Emit::Update } else { Emit::End });
        let port = PortPlan::main(schema.clone()).with_event_time(PortTime::None);
        let own = [("number", DataType::Int64), ("changed", DataType::Boolean)];
        let own = (own.map(|(name, data_type)| Field::new(name, data_type, false)).into(), 1);
        let groups = Groups::new(&stream.schema, keys, aggregates, self.max_groups, own);
        let summed = Summed {
            groups: groups.map_err(|error| Problem::new(error.to_string()))?,
            has_keys: !self.keys.is_empty(),
            table: Table::default(),
            emit,
            changed: Changed::default(),
            leaving: Vec::new().into_iter(),
            piece: FIRST_PIECE,
            schema,
            max_groups: self.max_groups,
            origin: Origin::new(stream.node.as_str(), "", 0, 0),
        };
        Ok(ProcessorPlan {
            ports: vec![port.only_at_the_end(emit == Emit::End)],
            uses,
            fails: true,
            build: Box::new(|| Ok(Box::new(summed))),
        })
    }
}

/// The columns that come out.
fn schema(input: &Schema, keys: &[usize], aggregates: &[Aggregate]) -> SchemaRef {
    let keys = keys.iter().map(|key| input.field(*key).clone());
    let aggregates = aggregates.iter().map(|aggregate| aggregate.field.clone());
    Arc::new(Schema::new(keys.chain(aggregates).collect::<Vec<Field>>()))
}

/// About how many bytes the rows have at most that leave at once.
const PIECE_BYTES: usize = 16 << 20;

/// How many leave first, when it is not known how large they are.
const FIRST_PIECE: usize = 16;

/// All rows so far.
struct Summed {
    groups: Groups,
    has_keys: bool,
    /// No group is ever forgotten, so slots are numbered in the order in which groups came.
    table: Table,
    emit: Emit,
    changed: Changed,
    /// The groups whose rows are still to leave.
    leaving: IntoIter<u32>,
    /// How many of them leave next.
    piece: usize,
    schema: SchemaRef,
    max_groups: usize,
    /// Of the last rows.
    origin: Origin,
}

/// The groups that rows have come for since they were given out last.
#[derive(Default)]
struct Changed {
    is_one: Vec<bool>,
    slots: Vec<u32>,
}

impl Changed {
    #[inline]
    fn note(&mut self, slot: u32) {
        let place = slot as usize;
        if place >= self.is_one.len() {
            self.is_one.resize(place + 1, false);
        }
        if !std::mem::replace(&mut self.is_one[place], true) {
            self.slots.push(slot);
        }
    }

    fn has(&self, slot: u32) -> bool {
        self.is_one.get(slot as usize).is_some_and(|is_one| *is_one)
    }

    /// In the order in which the groups came.
    fn take(&mut self) -> Vec<u32> {
        let mut slots = std::mem::take(&mut self.slots);
        slots.iter().for_each(|slot| self.is_one[*slot as usize] = false);
        slots.sort_unstable();
        slots
    }
}

impl Processor for Summed {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.origin = batch.origin.clone();
        let mut halves = Halves::of(&batch.rows);
        let evaluate = |groups: &Groups, rows: &RecordBatch| Ok((rows.num_rows(), groups.evaluate(rows)?));
        while let Some((start, (count, arguments))) =
            halves.next_good(|rows| evaluate(&self.groups, rows), |row, why| out.fail_row(&batch, row, why))?
        {
            let assignments = self.take(&batch.rows.slice(start, count), &arguments)?;
            for row in (0..count).filter(|row| assignments[*row] == Assignment::Full) {
                let why = format!("there are {} groups already (`max_groups`)", self.max_groups);
                out.fail_row(&batch, start + row, why)?;
            }
        }
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let is_more = !self.leaving.as_slice().is_empty();
        self.advance(out)?;
        Ok(is_more)
    }

    fn barrier(&mut self, _: Epoch, out: &mut Collector) -> Result<()> {
        if self.emit == Emit::End {
            return Ok(());
        }
        self.give_out(out)
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        if !self.has_keys && self.table.slots.is_empty() {
            let none = self.groups.slot(&mut self.table, &[]);
            none.iter().for_each(|slot| self.changed.note(*slot));
        }
        self.give_out(out)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put("origin", &self.origin)?;
        self.groups.save(&mut parts, |_, slots| {
            let numbers = Int64Array::from_iter_values(slots.iter().map(|slot| i64::from(*slot)));
            let changed: BooleanArray = slots.iter().map(|slot| Some(self.changed.has(*slot))).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(changed)];
            move || columns
        })?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.origin = state.get("origin")?;
        let own = self.groups.load(state)?;
        (0..self.groups.loaded()).for_each(|slot| self.groups.enter(&mut self.table, slot));
        let changed: Vec<u32> = if state.has("changed") {
            // In format 3.
            state.get("changed")?
        } else {
            let changed = own.iter().flat_map(|rows| rows.column(1).as_boolean().values());
            (0..).zip(changed).filter_map(|(slot, changed)| changed.then_some(slot)).collect()
        };
        if changed.iter().any(|slot| *slot >= self.groups.loaded()) {
            return Err(Error::new("the state names a group that it does not have"));
        }
        changed.into_iter().for_each(|slot| self.changed.note(slot));
        Ok(())
    }
}

impl Summed {
    /// Takes rows into their groups.
    fn take(&mut self, rows: &RecordBatch, arguments: &[Arguments]) -> Result<Vec<Assignment>> {
        let keys = self.groups.keys(rows)?;
        let count = rows.num_rows();
        let slot = |row| self.groups.slot(&mut self.table, keys.of(row)).map_or(Assignment::Full, Assignment::Slot);
        let assignments: Vec<Assignment> = (0..count).map(slot).collect();
        for assignment in &assignments {
            if let Assignment::Slot(slot) = assignment {
                self.changed.note(*slot);
            }
        }
        // The first and the last row are those that came so, whatever their times.
        self.groups.take(arguments, &vec![0; count], &assignments, 0..count)?;
        Ok(assignments)
    }

    /// Lets the rows leave that are to be seen now.
    fn give_out(&mut self, out: &mut Collector) -> Result<()> {
        let changed = self.changed.take();
        changed.iter().for_each(|slot| self.groups.changed(*slot));
        let is_due = self.emit == Emit::End || !changed.is_empty();
        let slots = match self.emit {
            Emit::Update => changed,
            Emit::End | Emit::Complete if is_due => self.table.slots.clone(),
            Emit::End | Emit::Complete => Vec::new(),
        };
        (self.leaving, self.piece) = (slots.into_iter(), FIRST_PIECE);
        self.advance(out)
    }

    /// Pushes the next piece of what has to leave.
    fn advance(&mut self, out: &mut Collector) -> Result<()> {
        let slots: Vec<u32> = self.leaving.by_ref().take(self.piece).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let rows = RecordBatch::try_new(self.schema.clone(), self.groups.columns(&slots)?)?;
        // As many come next as would have had so many bytes, if they are like these.
        self.piece = (PIECE_BYTES / (batch_bytes(&rows) / slots.len()).max(1)).clamp(1, BATCH_ROWS);
        out.push(0, Batch::new(rows, self.origin.clone()));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
