//! What has come of tables and of a log since the last page.

use millstream_core::Result;

use super::port::{At, ChangedRow, Op, PortBuilder, PortColumns};
use crate::journal::{Page, Refused};

/// A page is handed on when it has so many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// Changes that are handed on together.
pub struct Gathered {
    ports: Vec<PortBuilder>,
    /// For each table, which of its columns are the key.
    keys: Vec<Vec<usize>>,
    refused: Vec<Refused>,
    count: u32,
    most: usize,
}

impl Gathered {
    /// For the changes of tables, each with its key. At most so many rows, and one more, are gathered.
    pub fn new<'a>(tables: impl IntoIterator<Item = (&'a PortColumns, &'a [String])>, most: usize) -> Self {
        let (mut ports, mut keys) = (Vec::new(), Vec::new());
        for (port, (columns, key)) in tables.into_iter().enumerate() {
            ports.push(PortBuilder::new(port, columns, Vec::new()));
            keys.push(columns.places(key));
        }
        Self { ports, keys, refused: Vec::new(), count: 0, most }
    }

    /// Takes a change of a table. A row whose key is changed is deleted, and created with the new one: who keeps the last row of each key would keep
    /// the one with the former key otherwise.
    pub fn take<R: ChangedRow>(&mut self, table: usize, op: Op, row: &R, before: Option<&R>, at: At<'_>) {
        let (Some(port), Some(key)) = (self.ports.get_mut(table), self.keys.get(table)) else { return };
        let has_other_key = |before: &&R| op == Op::Update && key.iter().any(|place| !row.has_same(before, *place));
        match before.filter(has_other_key) {
            Some(before) => {
                self.refused.extend(port.push(Op::Delete, before, Some(before), at, self.count));
                self.refused.extend(port.push(Op::Create, row, None, at, self.count + 1));
                self.count += 2;
            }
            None => {
                self.refused.extend(port.push(op, row, before, at, self.count));
                self.count += 1;
            }
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether they are to be handed on.
    pub fn is_full(&self) -> bool {
        self.count as usize >= self.most || self.ports.iter().map(PortBuilder::bytes).sum::<usize>() > PAGE_BYTES
    }

    /// The page, whose rows are taken out. Behind them the source goes on at this place.
    pub fn page(&mut self, after: Vec<u8>) -> Result<Page> {
        let mut rows = Vec::new();
        for port in &mut self.ports {
            rows.extend(port.finish()?);
        }
        Ok(Page { count: std::mem::take(&mut self.count), rows, refused: std::mem::take(&mut self.refused), after })
    }
}

/// Rows that were read of a table while it changes.
pub struct ChunkRows {
    rows: PortBuilder,
    refused: Vec<Refused>,
    count: u32,
}

impl ChunkRows {
    /// Of a table, whose rows are told apart by a key.
    pub fn new(table: usize, columns: &PortColumns, key: &[String]) -> Self {
        Self { rows: PortBuilder::new(table, columns, columns.places(key)), refused: Vec::new(), count: 0 }
    }

    /// Takes a row.
    pub fn push(&mut self, row: &impl ChangedRow, at: At<'_>) {
        self.refused.extend(self.rows.push(Op::Read, row, None, at, self.count));
        self.count += 1;
    }

    /// Takes out a row that has changed.
    pub fn remove(&mut self, row: &impl ChangedRow) {
        self.rows.remove(row);
    }

    /// How many rows were read.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether none was read.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The page of those that are left. Behind them the source goes on at this place.
    pub fn page(mut self, after: Vec<u8>) -> Result<Page> {
        let rows: Vec<_> = self.rows.finish()?.into_iter().collect();
        // Places of rows that were taken out are left out.
        let mut places: Vec<u32> = rows.iter().flat_map(|of| of.places.iter().copied()).collect();
        places.extend(self.refused.iter().map(|row| row.place));
        places.sort_unstable();
        let moved = |place: &mut u32| *place = places.partition_point(|other| other < place) as u32;
        let mut page = Page { count: places.len() as u32, rows, refused: self.refused, after };
        page.rows.iter_mut().for_each(|of| of.places.iter_mut().for_each(moved));
        page.refused.iter_mut().for_each(|row| moved(&mut row.place));
        Ok(page)
    }
}
