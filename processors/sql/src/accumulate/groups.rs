//! Groups of rows: the values of their keys, and the slots in which aggregates keep theirs.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, LargeBinaryArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use millstream_core::{Chunks, Parts, Result, State, canonical_floats};

use super::accumulator::{Rows, Saved};
use super::aggregate::{self, Aggregate, Arguments};

/// All groups that there are.
pub struct Groups {
    /// Of the key columns; none if there are no keys.
    converter: Option<Arc<RowConverter>>,
    columns: Vec<usize>,
    fields: Vec<Field>,
    aggregates: Vec<Aggregate>,
    /// The keys of each slot in Arrow's row format; empty where the slot is free.
    keys: Vec<Box<[u8]>>,
    free: Vec<u32>,
    most: usize,
    /// Seeded at random, so that nobody can choose keys that collide; no result depends on hashes.
    hasher: RandomState,
    /// Where groups lie in the state.
    chunks: Chunks,
    /// The columns there that say which groups these are, besides their keys. So many of them, which are integers, are the order of
    /// the groups.
    own: Vec<Field>,
    order: usize,
}

/// What the state calls the groups.
const GROUPS: &str = "groups";

/// Groups that belong together, such as those of one window, by their keys.
#[derive(Default)]
pub struct Table {
    by_key: HashTable<u32>,
    /// In the order in which they came.
    pub slots: Vec<u32>,
}

/// The keys of some rows.
pub struct Keys(Option<arrow::row::Rows>);

impl Keys {
    /// Those of one row.
    #[inline]
    pub fn of(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

/// There are as many groups as there may be.
#[derive(Debug)]
pub struct Full;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// It belongs to the group that has this slot.
    Slot(u32),
    /// Its windows are closed.
    Late,
    /// It would need one group too many.
    Full,
}

impl Groups {
    /// Groups by the values of `columns` of rows, at most `most` at a time. In the state they have the columns `own` besides, and
    /// the order of the first `order` of these, which are integers.
    pub fn new(
        schema: &Schema,
        columns: Vec<usize>,
        aggregates: Vec<Aggregate>,
        most: usize,
        (own, order): (Vec<Field>, usize),
    ) -> Result<Self> {
        let fields = columns.iter().map(|column| SortField::new(schema.field(*column).data_type().clone()));
        let fields: Vec<SortField> = fields.collect();
        let converter = if fields.is_empty() { None } else { Some(Arc::new(RowConverter::new(fields)?)) };
        Ok(Self {
            converter,
            fields: columns.iter().map(|column| schema.field(*column).clone().with_nullable(true)).collect(),
            columns,
            aggregates,
            keys: Vec::new(),
            free: Vec::new(),
            most,
            hasher: RandomState::default(),
            chunks: Chunks::new(GROUPS),
            own,
            order,
        })
    }

    /// Computes what the rows feed the aggregates with. The error is why at least one row failed.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Vec<Arguments>, String> {
        self.aggregates.iter().map(|aggregate| aggregate.evaluate(rows)).collect()
    }

    /// The keys of rows. There is one zero and one NaN.
    pub fn keys(&self, rows: &RecordBatch) -> Result<Keys> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| canonical_floats(rows.column(*column))).collect();
        Ok(Keys(self.converter.as_ref().map(|converter| converter.convert_columns(&columns)).transpose()?))
    }

    /// The slot of a group, which is made if there is none.
    #[inline]
    pub fn slot(&mut self, table: &mut Table, key: &[u8]) -> Result<u32, Full> {
        match self.find(table, key) {
            Some(slot) => Ok(slot),
            None => self.add(table, key),
        }
    }

    /// The slot of a group, if there is one.
    #[inline]
    pub fn find(&self, table: &Table, key: &[u8]) -> Option<u32> {
        table.by_key.find(self.hash(key), |slot| *self.keys[*slot as usize] == *key).copied()
    }

    /// The slot of a group that there was not so far.
    pub fn add(&mut self, table: &mut Table, key: &[u8]) -> Result<u32, Full> {
        let slot = self.open(key)?;
        self.enter(table, slot);
        Ok(slot)
    }

    /// A new group.
    pub fn open(&mut self, key: &[u8]) -> Result<u32, Full> {
        if self.keys.len() - self.free.len() >= self.most { Err(Full) } else { Ok(self.open_beyond(key)) }
    }

    /// A new group for a moment, however many there are.
    pub fn open_beyond(&mut self, key: &[u8]) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.keys[slot as usize] = key.into();
            return slot;
        }
        self.keys.push(key.into());
        self.aggregates.iter_mut().for_each(|aggregate| aggregate.accumulator.grow(self.keys.len()));
        self.keys.len() as u32 - 1
    }

    /// The hash of a key, for tables of groups.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The keys of a group.
    pub fn key(&self, slot: u32) -> &[u8] {
        &self.keys[slot as usize]
    }

    /// Takes those of the rows `range` that have a slot into it.
    pub fn take(
        &mut self,
        arguments: &[Arguments],
        times: &[i64],
        assignments: &[Assignment],
        range: Range<usize>,
    ) -> Result<()> {
        let slot = |row: usize| match assignments[row] {
            Assignment::Slot(slot) => Some(slot),
            Assignment::Late | Assignment::Full => None,
        };
        let slots: Vec<u32> = range.clone().filter_map(slot).collect();
        self.chunks.all_changed(&slots);
        let times = &times[range.clone()];
        let (start, length) = (range.start, range.len());
        if slots.len() == length {
            let rows = Rows { slots: &slots, times };
            let mut arguments = self.aggregates.iter_mut().zip(arguments);
            return arguments
                .try_for_each(|(aggregate, arguments)| aggregate.update(&arguments.slice(start, length), rows));
        }
        let has_slot: BooleanArray = range.map(|row| Some(slot(row).is_some())).collect();
        let times: Vec<i64> =
            times.iter().zip(has_slot.values()).filter_map(|(time, has)| has.then_some(*time)).collect();
        let rows = Rows { slots: &slots, times: &times };
        let mut arguments = self.aggregates.iter_mut().zip(arguments);
        arguments.try_for_each(|(aggregate, arguments)| {
            aggregate.update(&arguments.slice(start, length).filter(&has_slot)?, rows)
        })
    }

    /// What is kept of a group besides its keys and aggregates is another than it was.
    pub fn changed(&mut self, slot: u32) {
        self.chunks.changed(slot);
    }

    /// Adds what one group holds to another.
    pub fn merge(&mut self, from: u32, into: u32) {
        self.chunks.changed(into);
        self.aggregates.iter_mut().for_each(|aggregate| aggregate.accumulator.merge(from, into));
    }

    /// Forgets groups.
    pub fn release(&mut self, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            self.aggregates.iter_mut().for_each(|aggregate| aggregate.accumulator.clear(slot));
            self.keys[slot as usize] = Box::default();
            self.chunks.gone(slot);
            self.free.push(slot);
        }
    }

    /// The columns of some groups: keys, aggregates.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        if let Some(converter) = &self.converter {
            let parser = converter.parser();
            columns = converter.convert_rows(slots.iter().map(|slot| parser.parse(self.key(*slot))))?;
        }
        columns.extend(aggregate::finish(&self.aggregates, slots)?);
        debug_assert!(columns.iter().all(|column| column.len() == slots.len()));
        Ok(columns)
    }

    /// Keeps the groups that have changed. `own` copies what makes their own columns, later.
    pub fn save<Own>(&mut self, parts: &mut Parts, own: impl Fn(&Self, &[u32]) -> Own) -> Result<()>
    where
        Own: FnOnce() -> Vec<ArrayRef> + Send + 'static,
    {
        let schema = self.kept_schema(&self.own)?;
        let mut chunks = std::mem::replace(&mut self.chunks, Chunks::new(GROUPS));
        // Most aggregates need not be asked about every group.
        let accumulators = || self.aggregates.iter().map(|aggregate| &aggregate.accumulator);
        let fixed = size_of::<i64>() * self.own.len() + accumulators().filter_map(|of| of.fixed_bytes()).sum::<usize>();
        let varying: Vec<_> = accumulators().filter(|of| of.fixed_bytes().is_none()).collect();
        let put = chunks.put(
            parts,
            &schema,
            |slot| self.key(slot).len() + fixed + varying.iter().map(|of| of.bytes(slot)).sum::<usize>(),
            |slots| {
                let (copied, own, schema) = (self.copy(slots), own(self, slots), schema.clone());
                move || Ok(RecordBatch::try_new(schema, copied.columns()?.into_iter().chain(own()).collect())?)
            },
        );
        self.chunks = chunks;
        put
    }

    /// Takes in the groups that were kept, whose slots are numbered in their order: their own columns. There are no groups yet.
    pub fn load(&mut self, state: &State) -> Result<Vec<RecordBatch>> {
        let schema = self.kept_schema(&self.own)?;
        let first = schema.fields().len() - self.own.len();
        // In format 3 they were in one piece, in their order, without columns of their own.
        if state.has(GROUPS) {
            let rows = state.rows(GROUPS, &self.kept_schema(&[])?)?;
            rows.iter().try_for_each(|rows| self.take_in(rows))?;
            (0..self.loaded()).for_each(|slot| self.chunks.changed(slot));
            return Ok(Vec::new());
        }
        let order: Vec<usize> = (first..first + self.order).collect();
        let own: Vec<usize> = (first..schema.fields().len()).collect();
        let (mut chunks, mut owns) = (Chunks::new(GROUPS), Vec::new());
        chunks.load(state, &schema, None, &order, |rows| {
            self.take_in(&rows)?;
            owns.push(rows.project(&own)?);
            Ok(())
        })?;
        self.chunks = chunks;
        Ok(owns)
    }

    fn take_in(&mut self, rows: &RecordBatch) -> Result<()> {
        let (keys, columns) = rows.columns().split_at(self.columns.len());
        let keys = Keys(self.converter.as_ref().map(|converter| converter.convert_columns(keys)).transpose()?);
        self.keys.extend((0..rows.num_rows()).map(|row| Box::from(keys.of(row))));
        let mut loads = self.aggregates.iter_mut().zip(columns);
        loads.try_for_each(|(aggregate, column)| aggregate.accumulator.load(column))
    }

    /// How many groups were taken in.
    pub fn loaded(&self) -> u32 {
        self.keys.len() as u32
    }

    /// Adds a group to a table.
    pub fn enter(&self, table: &mut Table, slot: u32) {
        table.by_key.insert_unique(self.hash(self.key(slot)), slot, |slot| self.hash(self.key(*slot)));
        table.slots.push(slot);
    }

    fn copy(&self, slots: &[u32]) -> Copied {
        let keys = self.converter.as_ref().map(|converter| {
            (converter.clone(), LargeBinaryArray::from_iter_values(slots.iter().map(|slot| self.key(*slot))))
        });
        Copied { keys, aggregates: self.aggregates.iter().map(|aggregate| aggregate.accumulator.save(slots)).collect() }
    }

    /// The columns of the keys, one for each aggregate, and others.
    fn kept_schema(&self, own: &[Field]) -> Result<SchemaRef> {
        let mut fields = self.fields.clone();
        for Aggregate { field, accumulator, .. } in &self.aggregates {
            fields.push(Field::new(field.name(), accumulator.save(&[])()?.data_type().clone(), true));
        }
        fields.extend_from_slice(own);
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// Some groups on their way into a state.
struct Copied {
    keys: Option<(Arc<RowConverter>, LargeBinaryArray)>,
    aggregates: Vec<Saved>,
}

impl Copied {
    fn columns(self) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        if let Some((converter, keys)) = self.keys {
            let parser = converter.parser();
            columns = converter.convert_rows(keys.iter().flatten().map(|key| parser.parse(key)))?;
        }
        for saved in self.aggregates {
            columns.push(saved()?);
        }
        Ok(columns)
    }
}
