//! Objects: which column a key is, and what a document has to have.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use millstream_core::ColumnType;

use super::scanner::Scanner;
use super::values::{Values, values_of};
use crate::refusal::{Read, Refusal};
use crate::text::Moments;

/// A column of a batch, a field of a struct, or the items of lists.
pub(crate) struct Column {
    name: String,
    nullable: bool,
    values: Box<dyn Values>,
    rows: usize,
}

impl Column {
    pub(crate) fn new(name: &str, column: &ColumnType, moments: &Moments) -> Self {
        Self { name: name.to_owned(), nullable: column.nullable, values: values_of(column, moments), rows: 0 }
    }

    pub(crate) fn of_field(field: &FieldRef, moments: &Moments) -> Self {
        Self::new(field.name(), &ColumnType::new(field.data_type().clone(), field.is_nullable()), moments)
    }

    /// How many values the column has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Reads the column's next value, which may be null.
    pub(crate) fn read(&mut self, json: &mut Scanner) -> Read<()> {
        if json.peek() == b'n' && json.take("null") {
            return self.miss();
        }
        self.values.read(json)?;
        self.rows += 1;
        Ok(())
    }

    /// Takes note that there is no value.
    fn miss(&mut self) -> Read<()> {
        if !self.nullable {
            return Err(Refusal::value(" is missing or null"));
        }
        self.push_null();
        Ok(())
    }

    fn push_null(&mut self) {
        self.values.push_null();
        self.rows += 1;
    }

    /// Drops all but the first values, and what is left of one that was rejected.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.rows = rows;
    }

    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        self.rows = 0;
        self.values.finish()
    }
}

/// The columns that the fields of objects become.
pub(crate) struct Object {
    columns: Vec<Column>,
    keys: Keys,
    rows: usize,
}

impl Object {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let keys = Keys::new(&columns);
        Self { columns, keys, rows: 0 }
    }

    /// How many objects have been read.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Reads an object, of which the bracket is next.
    pub(crate) fn read(&mut self, json: &mut Scanner) -> Read<()> {
        let (mut place, mut found) = (START, 0);
        let mut has_more = json.open(b'}')?;
        while has_more {
            let column = self.keys.next(&mut place, &self.columns, json)?;
            json.colon()?;
            match column.map(|column| &mut self.columns[column]) {
                None => json.skip()?,
                Some(column) if column.rows > self.rows => {
                    return Err(Refusal::value(" is there twice").within(&column.name));
                }
                Some(column) => {
                    column.read(json).map_err(|refusal| refusal.within(&column.name))?;
                    found += 1;
                }
            }
            has_more = json.another(b'}')?;
        }
        if found < self.columns.len() {
            for column in self.columns.iter_mut().filter(|column| column.rows == self.rows) {
                column.miss().map_err(|refusal| refusal.within(&column.name))?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
    }

    /// Drops all but the first objects, and what is left of one that was rejected.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.rows = rows;
    }

    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows = 0;
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

/// The place before the first key.
const START: usize = 0;

/// How many keys behind the expected one are tried, because those between may be missing.
const TRIED: usize = 4;

/// How many keys are known at most that are no columns, and how long each may be: some documents have data for keys.
const UNKNOWN_KEYS: usize = 1000;
const UNKNOWN_BYTES: usize = 256;

/// The keys that have been seen. Objects mostly have them in the same order, so that one comparison tells which one is next.
struct Keys {
    known: Vec<Key>,
    /// Where in `known` a key is, as it is written.
    places: HashMap<Box<str>, usize>,
}

struct Key {
    /// The key as it is written, with its quotes.
    raw: Box<str>,
    column: Option<usize>,
    /// The key that mostly comes next; `START` if none does.
    next: usize,
}

impl Keys {
    fn new(columns: &[Column]) -> Self {
        let mut keys = Self { known: Vec::new(), places: HashMap::new() };
        keys.add("", None);
        for (index, column) in columns.iter().enumerate() {
            keys.add(&serde_json::Value::from(column.name.as_str()).to_string(), Some(index));
        }
        keys
    }

    fn add(&mut self, raw: &str, column: Option<usize>) -> usize {
        let place = self.known.len();
        self.known.push(Key { raw: raw.into(), column, next: START });
        self.places.insert(raw.into(), place);
        place
    }

    /// Passes over a key behind the one at `place`. Returns which of the columns it is, if it is one.
    #[inline]
    fn next(&mut self, place: &mut usize, columns: &[Column], json: &mut Scanner) -> Read<Option<usize>> {
        json.peek();
        let mut guess = *place;
        for _ in 0..TRIED {
            guess = self.known[guess].next;
            let Key { raw, column, .. } = &self.known[guess];
            if guess == START {
                break;
            }
            if json.take(raw) {
                *place = guess;
                return Ok(*column);
            }
        }
        self.look_up(place, columns, json)
    }

    fn look_up(&mut self, place: &mut usize, columns: &[Column], json: &mut Scanner) -> Read<Option<usize>> {
        let (raw, key) = json.key()?;
        let found = match self.places.get(raw) {
            Some(found) => *found,
            None => {
                // A key without escapes would be known if it were a column.
                let may_be_column = raw.contains('\\');
                let column = columns.iter().position(|column| may_be_column && column.name == key);
                let has_room = raw.len() <= UNKNOWN_BYTES && self.known.len() <= columns.len() + UNKNOWN_KEYS;
                if !has_room {
                    return Ok(column);
                }
                self.add(raw, column)
            }
        };
        self.known[*place].next = found;
        *place = found;
        Ok(self.known[found].column)
    }
}
