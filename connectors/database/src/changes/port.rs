//! Changes of one table become rows of its port.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, NullBufferBuilder, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::{Encoding, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cells::{Cell, RowBuilder, key_of};
use crate::journal::{PortRows, Refused};

/// Something of a change that is not in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// What was done to the row, a `utf8`: `c` created, `u` updated, `d` deleted, `r` read from the table.
    Op,
    /// When that was, or when the row was read: a `timestamp`.
    Ts,
    /// The row before the change, a struct of the declared columns, each of which may be null; null for rows that are created or read.
    Before,
    /// Where in the log of the server, a `utf8`: `"binlog.000003:1234"`, or `"0/16B3748"`.
    Position,
}

impl Metadata {
    fn field(self, name: &str, row: &Schema) -> Field {
        match self {
            Self::Op | Self::Position => Field::new(name, DataType::Utf8, false),
            Self::Ts => Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Self::Before => Field::new(name, DataType::Struct(nullable(row).fields().clone()), true),
        }
    }
}

/// The same columns, each of which may be null.
fn nullable(row: &Schema) -> Schema {
    Schema::new(row.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is new.
    Create,
    /// It is another now.
    Update,
    /// It is gone.
    Delete,
    /// It was there when the table was read.
    Read,
}

impl Op {
    fn text(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Read => "r",
        }
    }
}

/// A row as a server has sent it: the values of the declared columns.
pub trait ChangedRow {
    /// The values in columns of the flow, or why one does not fit.
    fn cells(&self, schema: &SchemaRef) -> Result<Vec<Cell<'_>>, String>;

    /// The row for people.
    fn as_json(&self, schema: &Schema) -> (String, Encoding);

    /// Whether a value is the same as that of another row.
    fn has_same(&self, other: &Self, place: usize) -> bool;
}

/// When and where a change was.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Microseconds since 1970.
    pub micros: i64,
    /// The place in the log.
    pub position: &'a str,
}

/// What a port's rows look like.
#[derive(Clone, Debug)]
pub struct PortColumns {
    /// The columns of the table.
    pub row: SchemaRef,
    metadata: Vec<(String, Metadata)>,
    /// All columns.
    pub schema: SchemaRef,
}

impl PortColumns {
    /// The columns of a table, and behind them what else is wanted of its changes.
    pub fn new(row: SchemaRef, metadata: Vec<(String, Metadata)>) -> Self {
        let own = metadata.iter().map(|(name, metadata)| metadata.field(name, &row).into());
        let fields: Vec<_> = row.fields().iter().cloned().chain(own).collect();
        Self { row, metadata, schema: Schema::new(fields).into() }
    }

    /// Which of the table's columns these are.
    pub fn places(&self, names: &[String]) -> Vec<usize> {
        let fields = self.row.fields();
        names.iter().filter_map(|name| fields.iter().position(|field| field.name() == name)).collect()
    }
}

/// Puts the rows of a port together.
pub struct PortBuilder {
    port: usize,
    columns: PortColumns,
    rows: RowBuilder,
    before: Option<(RowBuilder, NullBufferBuilder)>,
    /// Of what is not in the row, but for the row before.
    others: RowBuilder,
    places: Vec<u32>,
    /// For each column of the key, which one it is; and the rows of each key.
    key: Vec<usize>,
    keys: HashMap<Vec<u8>, Vec<usize>>,
    removed: BTreeSet<usize>,
}

impl PortBuilder {
    /// For rows that may be told apart by the columns of a key, if that is wanted.
    pub fn new(port: usize, columns: &PortColumns, key: Vec<usize>) -> Self {
        let has_before = columns.metadata.iter().any(|(_, metadata)| *metadata == Metadata::Before);
        let before = has_before.then(|| (RowBuilder::new(nullable(&columns.row).into()), NullBufferBuilder::new(0)));
        let others = columns.metadata.iter().filter(|(_, metadata)| *metadata != Metadata::Before);
        let others = others.map(|(name, metadata)| metadata.field(name, &columns.row)).collect::<Vec<_>>();
        Self {
            port,
            columns: columns.clone(),
            rows: RowBuilder::new(columns.row.clone()),
            before,
            others: RowBuilder::new(Schema::new(others).into()),
            places: Vec::new(),
            key,
            keys: HashMap::new(),
            removed: BTreeSet::new(),
        }
    }

    /// About how many bytes there are.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.before.as_ref().map_or(0, |(before, _)| before.bytes())
    }

    /// Appends a change, at a place of a page; or says why it can't.
    pub fn push<R: ChangedRow>(
        &mut self,
        op: Op,
        row: &R,
        before: Option<&R>,
        at: At<'_>,
        place: u32,
    ) -> Option<Refused> {
        let error = self.try_push(op, row, before, at, place).err()?;
        let (row, encoding) = row.as_json(&self.columns.row);
        Some(Refused { place, error, row, encoding })
    }

    fn try_push<R: ChangedRow>(
        &mut self,
        op: Op,
        row: &R,
        before: Option<&R>,
        at: At<'_>,
        place: u32,
    ) -> Result<(), String> {
        let cells = row.cells(&self.columns.row)?;
        let former = match (&self.before, before) {
            (Some((builder, _)), Some(before)) => Some(before.cells(builder.schema())?),
            _ => None,
        };
        let others = self.columns.metadata.iter().filter_map(|(_, metadata)| match metadata {
            Metadata::Op => Some(Cell::Bytes(op.text().as_bytes())),
            Metadata::Ts => Some(Cell::Whole(at.micros.into())),
            Metadata::Position => Some(Cell::Bytes(at.position.as_bytes())),
            Metadata::Before => None,
        });
        if !self.key.is_empty() {
            self.keys.entry(self.key_of(&cells)).or_default().push(self.places.len());
        }
        self.others.append(&others.collect::<Vec<_>>());
        self.rows.append(&cells);
        if let Some((builder, is_there)) = &mut self.before {
            is_there.append(former.is_some());
            let nulls = || vec![Cell::Null; self.columns.row.fields().len()];
            builder.append(&former.unwrap_or_else(nulls));
        }
        self.places.push(place);
        Ok(())
    }

    fn key_of(&self, cells: &[Cell<'_>]) -> Vec<u8> {
        key_of(self.key.iter().filter_map(|place| cells.get(*place)))
    }

    /// Takes out the rows that have the same key as one that has changed.
    pub fn remove(&mut self, row: &impl ChangedRow) {
        let Ok(cells) = row.cells(&nullable(&self.columns.row).into()) else { return };
        if let Some(rows) = self.keys.get(&self.key_of(&cells)) {
            self.removed.extend(rows);
        }
    }

    /// The rows, which are taken out. None if there are none.
    pub fn finish(&mut self) -> Result<Option<PortRows>> {
        let mut places = std::mem::take(&mut self.places);
        if places.is_empty() {
            return Ok(None);
        }
        let (rows, others) = (self.rows.finish()?, self.others.finish()?);
        let mut before = match &mut self.before {
            Some((builder, is_there)) => {
                let values = builder.finish()?;
                let nulls: Option<NullBuffer> = is_there.finish();
                let fields = values.schema().fields().clone();
                Some(Arc::new(StructArray::try_new(fields, values.columns().to_vec(), nulls)?) as ArrayRef)
            }
            None => None,
        };
        let mut others = others.columns().iter().cloned();
        let own = self.columns.metadata.iter().filter_map(|(_, metadata)| match metadata {
            Metadata::Before => before.take(),
            _ => others.next(),
        });
        let columns = rows.columns().iter().cloned().chain(own).collect();
        let mut rows = RecordBatch::try_new(self.columns.schema.clone(), columns)?;
        self.keys.clear();
        let removed = std::mem::take(&mut self.removed);
        if !removed.is_empty() {
            let stays: BooleanArray = (0..places.len()).map(|row| Some(!removed.contains(&row))).collect();
            rows = filter_record_batch(&rows, &stays)?;
            places =
                places.iter().enumerate().filter(|(row, _)| !removed.contains(row)).map(|(_, place)| *place).collect();
        }
        let port = self.port;
        Ok((!places.is_empty()).then_some(PortRows { port, places, rows }))
    }
}
