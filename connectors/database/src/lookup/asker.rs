//! Asks for the rows of the keys that are not remembered, and puts columns beside rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use async_trait::async_trait;
use millstream_core::{AsyncProcessor, Batch, Collector, ErrorClass, Result};
use tokio::time::Instant;

use super::cache::{Cache, Found};
use crate::cells::{Cell, RowBuilder};

/// How many keys are asked for at once.
const KEYS: usize = 1000;

/// A table in which rows are looked up.
#[async_trait]
pub trait LookupTable: Send + Sync + 'static {
    /// What it is asked over.
    type Connection: Send;

    /// What the table is called.
    fn name(&self) -> &str;

    /// Connects, and makes sure that the columns of the key and those that are added are there.
    async fn connect(&self, added: &SchemaRef) -> Result<Self::Connection>;

    /// Asks for the rows of keys, at most a thousand. The answer takes each with the values of its key first and those that are added behind.
    async fn ask(&self, over: &mut Self::Connection, keys: &RecordBatch, answer: &mut Answer<'_>) -> Result<()>;
}

/// What is looked for.
pub struct LookupJob {
    /// The columns of the rows that the table's key is compared with.
    pub key: SchemaRef,
    /// The columns that are added.
    pub added: SchemaRef,
    /// All columns that leave.
    pub schema: SchemaRef,
    /// Whether a row for which the table has none fails.
    pub fails: bool,
    /// For how long what was found is remembered.
    pub cache_time: Duration,
    /// How many rows are remembered at most.
    pub cache_rows: usize,
}

/// Looks rows up.
pub struct Lookup<T: LookupTable> {
    job: LookupJob,
    table: T,
    converter: RowConverter,
    cache: Mutex<Cache>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<T::Connection>>,
    /// A row of nulls.
    nothing: RecordBatch,
}

impl<T: LookupTable> Lookup<T> {
    /// Looks up what is wanted of a table.
    pub fn new(job: LookupJob, table: T) -> Result<Self> {
        let fields = job.key.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let nullable = job.added.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        Ok(Self {
            converter: RowConverter::new(fields)?,
            cache: Mutex::new(Cache::new(job.cache_time, job.cache_rows)),
            idle: Mutex::default(),
            nothing: RecordBatch::try_new(schema, nulls)?,
            job,
            table,
        })
    }

    fn keys(&self, batch: &RecordBatch) -> Result<(RecordBatch, Rows)> {
        let index = |name: &str| batch.schema().index_of(name);
        let places = self.job.key.fields().iter().map(|field| index(field.name())).collect::<Result<Vec<_>, _>>()?;
        let keys = batch.project(&places)?;
        let rows = self.converter.convert_columns(keys.columns())?;
        Ok((keys, rows))
    }

    /// What is known of each row, and the rows whose keys are to be asked for: the first of each key.
    fn known(&self, keys: &RecordBatch, rows: &Rows) -> (Vec<Option<Found>>, Vec<usize>) {
        let now = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown: HashMap<&[u8], (), foldhash::fast::FixedState> = HashMap::default();
        let (mut known, mut asked) = (Vec::with_capacity(rows.num_rows()), Vec::new());
        let has_null = |row: usize| keys.columns().iter().any(|column| column.is_null(row));
        let can_be_null = keys.columns().iter().any(|column| column.null_count() > 0);
        for (index, key) in rows.iter().enumerate() {
            if can_be_null && has_null(index) {
                known.push(Some(Found::None));
                continue;
            }
            let key: &[u8] = key.data();
            let found = cache.get(key, now);
            if found.is_none() && unknown.insert(key, ()).is_none() {
                asked.push(index);
            }
            known.push(found);
        }
        (known, asked)
    }

    /// Asks for the rows of keys. Each that was asked for is in what is returned.
    async fn ask_for(&self, keys: &RecordBatch) -> Result<HashMap<Box<[u8]>, Found>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            match self.ask_over(connection, keys).await {
                // Servers close connections that nobody has used for long, and all that there are when they end.
                Err(error) if error.class() == ErrorClass::Transient => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                answer => return answer?.finish(&self.converter, keys),
            }
        }
        let connection = self.table.connect(&self.job.added).await?;
        self.ask_over(connection, keys).await?.finish(&self.converter, keys)
    }

    async fn ask_over(&self, mut connection: T::Connection, keys: &RecordBatch) -> Result<Answer<'_>> {
        let mut answer = Answer::new(&self.job, self.nothing.schema());
        self.table.ask(&mut connection, keys, &mut answer).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(answer)
    }

    /// The columns that are added to rows, row by row.
    fn added(&self, found: &[Found]) -> Result<RecordBatch> {
        let mut batches: Vec<&RecordBatch> = vec![&self.nothing];
        let mut places: HashMap<*const RecordBatch, usize> = HashMap::new();
        let mut indices = Vec::with_capacity(found.len());
        let (mut last, mut last_place): (*const RecordBatch, usize) = (std::ptr::null(), 0);
        for found in found {
            let Found::Row(batch, row) = found else {
                indices.push((0, 0));
                continue;
            };
            let pointer = Arc::as_ptr(batch);
            if pointer != last {
                last_place = *places.entry(pointer).or_insert_with(|| {
                    batches.push(batch);
                    batches.len() - 1
                });
                last = pointer;
            }
            indices.push((last_place, *row));
        }
        Ok(interleave_record_batch(&batches, &indices)?)
    }
}

/// What a server has answered.
pub struct Answer<'a> {
    job: &'a LookupJob,
    keys: RowBuilder,
    rows: RowBuilder,
    /// For each row whose key can be compared: its place in `rows`, or why it can't be used.
    found: Vec<Result<usize, String>>,
    /// The places of keys that can't be asked for, each with the reason.
    refused: Vec<(usize, String)>,
}

impl<'a> Answer<'a> {
    fn new(job: &'a LookupJob, added: SchemaRef) -> Self {
        let (keys, rows) = (RowBuilder::new(job.key.clone()), RowBuilder::new(added));
        Self { job, keys, rows, found: Vec::new(), refused: Vec::new() }
    }

    /// The columns of the key, as they are in rows.
    pub fn key(&self) -> &'a SchemaRef {
        &self.job.key
    }

    /// The columns that are added.
    pub fn added(&self) -> &'a SchemaRef {
        &self.job.added
    }

    /// Takes a row: its key, and what is added, or why that can't be used. A key that does not fit, such as a text in other letters than those that were
    /// asked for, is nobody's.
    pub fn take(&mut self, key: Result<Vec<Cell<'_>>, String>, added: Result<Vec<Cell<'_>>, String>) {
        let Ok(key) = key else { return };
        self.keys.append(&key);
        self.found.push(added.map(|cells| {
            self.rows.append(&cells);
            self.rows.len() - 1
        }));
    }

    /// The table can't be asked for the key that has this place.
    pub fn refuse(&mut self, place: usize, why: String) {
        self.refused.push((place, why));
    }

    fn finish(mut self, converter: &RowConverter, asked: &RecordBatch) -> Result<HashMap<Box<[u8]>, Found>> {
        let rows = Arc::new(self.rows.finish()?);
        let mut answers: HashMap<Box<[u8]>, Found> = HashMap::new();
        let of_asked = converter.convert_columns(asked.columns())?;
        answers.extend(of_asked.iter().map(|key| (key.data().into(), Found::None)));
        for (place, why) in self.refused {
            answers.insert(of_asked.row(place).data().into(), Found::Bad(why.into()));
        }
        let keys = self.keys.finish()?;
        let keys = converter.convert_columns(keys.columns())?;
        for (key, found) in keys.iter().zip(self.found) {
            let Some(answer) = answers.get_mut(key.data()) else { continue };
            *answer = match (&answer, found) {
                (Found::None, Ok(row)) => Found::Row(rows.clone(), row),
                (Found::None, Err(why)) => Found::Bad(why.into()),
                _ => Found::Bad("the table has several rows for it".into()),
            };
        }
        Ok(answers)
    }
}

#[async_trait]
impl<T: LookupTable> AsyncProcessor for Lookup<T> {
    async fn ask(&self, _: usize, batch: &Batch, out: &mut Collector) -> Result<()> {
        let (keys, rows) = self.keys(&batch.rows)?;
        let (known, asked) = self.known(&keys, &rows);
        let fetched = self.fetch(&keys, asked).await?;
        let found: Vec<Found> = known
            .into_iter()
            .zip(rows.iter())
            .map(|(known, key)| known.or_else(|| fetched.get(key.data()).cloned()).unwrap_or(Found::None))
            .collect();
        let is_bad = |found: &Found| match found {
            Found::Row(..) => false,
            Found::None => self.job.fails,
            Found::Bad(_) => true,
        };
        let refused: BooleanArray = found.iter().map(|found| Some(is_bad(found))).collect();
        let why = |row: usize| match &found[row] {
            Found::Bad(why) => why.to_string(),
            _ => format!("the table `{}` has no row for it", self.table.name()),
        };
        let added = self.added(&found)?;
        let (rows, added) = if refused.true_count() == 0 {
            (batch.rows.clone(), added)
        } else {
            let stays = arrow::compute::not(&refused)?;
            (out.fail_rows(batch, &refused, why)?, filter_record_batch(&added, &stays)?)
        };
        let columns: Vec<ArrayRef> = rows.columns().iter().chain(added.columns()).cloned().collect();
        out.push(0, batch.with_rows(RecordBatch::try_new(self.schema(&rows)?, columns)?));
        Ok(())
    }
}

impl<T: LookupTable> Lookup<T> {
    /// Asks for the keys of these rows, and remembers what comes.
    async fn fetch(&self, keys: &RecordBatch, asked: Vec<usize>) -> Result<HashMap<Box<[u8]>, Found>> {
        let mut fetched = HashMap::new();
        for rows in asked.chunks(KEYS) {
            let rows = UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32));
            let at = Instant::now();
            let answers = self.ask_for(&take_record_batch(keys, &rows)?).await?;
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            answers.iter().for_each(|(key, found)| cache.put(key.clone(), found.clone(), at));
            cache.tidy()?;
            drop(cache);
            fetched.extend(answers);
        }
        Ok(fetched)
    }

    /// The columns that leave, as they are if some of those that arrive are not used by anybody.
    fn schema(&self, rows: &RecordBatch) -> Result<SchemaRef> {
        let arrived = rows.schema();
        if arrived.fields().len() + self.job.added.fields().len() == self.job.schema.fields().len() {
            return Ok(self.job.schema.clone());
        }
        let fields: Vec<_> = arrived.fields().iter().chain(self.job.added.fields()).cloned().collect();
        Ok(Arc::new(arrow::datatypes::Schema::new(fields)))
    }
}
