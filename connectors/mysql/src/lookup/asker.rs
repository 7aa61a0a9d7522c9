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
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, Value};
use tokio::time::Instant;

use super::cache::{Cache, Found};
use crate::client::{Server, failed};
use crate::names::{Table, quoted, require_columns};
use crate::output::RowWriter;
use crate::value::{Cell, RowBuilder, cell};

/// How many keys are asked for at once.
const KEYS: usize = 1000;

/// What is looked for.
pub struct Job {
    pub server: Server,
    pub table: Table,
    /// The columns of the table that make the key.
    pub columns: Vec<String>,
    /// Those of the rows that it is compared with.
    pub key: SchemaRef,
    /// The columns that are added.
    pub added: SchemaRef,
    /// All columns that leave.
    pub schema: SchemaRef,
    pub fails: bool,
    pub cache_time: Duration,
    pub cache_rows: usize,
}

/// Looks rows up.
pub struct Lookup {
    job: Job,
    converter: RowConverter,
    cache: Mutex<Cache>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Conn>>,
    /// A row of nulls.
    nothing: RecordBatch,
}

impl Lookup {
    pub fn new(job: Job) -> Result<Self> {
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
        let sql = self.sql(keys)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            match self.ask_over(connection, &sql).await {
                // Servers close connections that nobody has used for long, and all that there are when they end.
                Err(error) if error.class() == ErrorClass::Transient => {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                answer => return answer?.finish(&self.converter, keys),
            }
        }
        let connection = self.connect().await?;
        self.ask_over(connection, &sql).await?.finish(&self.converter, keys)
    }

    async fn ask_over(&self, mut connection: Conn, sql: &str) -> Result<Answer<'_>> {
        let doing = |error| failed(format!("looking up rows of {}", self.job.table.quoted()), error);
        let mut answer = Answer::new(self);
        let mut result = connection.exec_iter(sql, ()).await.map_err(doing)?;
        while let Some(row) = result.next().await.map_err(doing)? {
            answer.take(row);
        }
        result.drop_result().await.map_err(doing)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(answer)
    }

    fn sql(&self, keys: &RecordBatch) -> Result<String> {
        let list = |names: &mut dyn Iterator<Item = &str>| names.map(quoted).collect::<Vec<_>>().join(", ");
        let key = list(&mut self.job.columns.iter().map(String::as_str));
        let added = list(&mut self.job.added.fields().iter().map(|field| field.name().as_str()));
        let mut sql = format!("SELECT {key}, {added} FROM {} WHERE ({key}) IN (", self.job.table.quoted());
        let all: Vec<usize> = (0..keys.num_columns()).collect();
        let writer = RowWriter::new(keys, &all)?;
        for row in 0..keys.num_rows() {
            if row > 0 {
                sql.push(',');
            }
            writer.write(row, &mut sql);
        }
        sql.push(')');
        Ok(sql)
    }

    async fn connect(&self) -> Result<Conn> {
        let mut connection = self.job.server.connect().await?;
        let there = self.job.table.columns(&mut connection).await?;
        let of = format!("the table `{}`", self.job.table.name);
        require_columns(&self.job.added, &there, &of)?;
        let key = self
            .job
            .columns
            .iter()
            .map(|name| arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Null, true));
        require_columns(&arrow::datatypes::Schema::new(key.collect::<Vec<_>>()), &there, &of)?;
        Ok(connection)
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
struct Answer<'a> {
    job: &'a Job,
    keys: RowBuilder,
    rows: RowBuilder,
    /// For each row whose key can be compared: its place in `rows`, or why it can't be used.
    found: Vec<Result<usize, String>>,
}

impl<'a> Answer<'a> {
    fn new(lookup: &'a Lookup) -> Self {
        let (keys, rows) = (RowBuilder::new(lookup.job.key.clone()), RowBuilder::new(lookup.nothing.schema()));
        Self { job: &lookup.job, keys, rows, found: Vec::new() }
    }

    fn take(&mut self, row: Row) {
        let columns = row.columns();
        let kinds: Vec<ColumnType> = columns.iter().map(mysql_async::Column::column_type).collect();
        let values = row.unwrap();
        let (key, added) = values.split_at(self.job.columns.len().min(values.len()));
        let (key_kinds, added_kinds) = kinds.split_at(key.len());
        // A key that is none of those that were asked for, such as a text in other letters, is nobody's.
        let Ok(key) = cells(key, key_kinds, &self.job.key) else { return };
        self.keys.append(&key);
        self.found.push(match cells(added, added_kinds, &self.job.added) {
            Ok(cells) => {
                self.rows.append(&cells);
                Ok(self.rows.len() - 1)
            }
            Err(why) => Err(why),
        });
    }

    fn finish(mut self, converter: &RowConverter, asked: &RecordBatch) -> Result<HashMap<Box<[u8]>, Found>> {
        let rows = Arc::new(self.rows.finish()?);
        let mut answers: HashMap<Box<[u8]>, Found> = HashMap::new();
        let of_asked = converter.convert_columns(asked.columns())?;
        answers.extend(of_asked.iter().map(|key| (key.data().into(), Found::None)));
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

fn cells<'a>(values: &'a [Value], kinds: &[ColumnType], schema: &SchemaRef) -> Result<Vec<Cell<'a>>, String> {
    values.iter().zip(kinds).zip(schema.fields()).map(|((value, kind), field)| cell(value, *kind, field)).collect()
}

#[async_trait]
impl AsyncProcessor for Lookup {
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
            _ => format!("the table `{}` has no row for it", self.job.table.name),
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

impl Lookup {
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
