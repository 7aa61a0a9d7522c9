//! Nodes that only benchmarks need: an input that costs nothing, and an output that takes its time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Delivery, Input, InputPlan, InputSettings, Kind, Origin, Output, OutputPlan, OutputSettings,
    PlanContext, Problem, Problems, Progress, Result, ResultExt, Stream, Uses,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemars::JsonSchema;
use serde::Deserialize;

/// How many batches of the file are kept in memory.
const BATCHES: usize = 64;

/// Hands out the first rows of a Parquet file again and again, from memory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    /// The file.
    path: PathBuf,
    /// How many rows in all, to the next full batch.
    rows: u64,
}

impl Kind for MemorySettings {
    const NAME: &'static str = "memory";
    const EXAMPLE: &'static str = "path = \"payments.parquet\"\nrows = 1000000";
}

impl InputSettings for MemorySettings {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let batches = read_batches(&context.input_path(&self.path), context.batch_rows, BATCHES);
        let batches = batches.map_err(|error| Problem::new(error.to_string()).under("path"))?;
        let schema = match batches.first() {
            Some(first) => first.schema(),
            None => return Err(Problem::new("the file has no rows").under("path").into()),
        };
        let memory = Memory { batches, turn: 0, position: 0, rows: self.rows };
        Ok(InputPlan { rows: Some(self.rows), ..InputPlan::new(schema, || Ok(memory)) })
    }
}

/// The first batches of a Parquet file.
pub fn read_batches(path: &Path, batch_rows: usize, count: usize) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).doing(|| "opening the file")?;
    let reader = reader.with_batch_size(batch_rows).build().doing(|| "opening the file")?;
    Ok(reader.take(count).collect::<Result<_, _>>()?)
}

struct Memory {
    batches: Vec<RecordBatch>,
    turn: usize,
    position: u64,
    rows: u64,
}

#[async_trait]
impl Input for Memory {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if self.position >= self.rows {
            return Ok(Progress::End);
        }
        let rows = self.batches[self.turn].clone();
        self.turn = (self.turn + 1) % self.batches.len();
        let start = self.position;
        self.position += rows.num_rows() as u64;
        out.push(0, Batch::new(rows, Origin::new("memory", "", start, self.position)));
        Ok(Progress::More)
    }
}

/// Takes so many rows a second, and forgets them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowSettings {
    /// How many rows a second.
    rows_per_second: f64,
}

impl Kind for SlowSettings {
    const NAME: &'static str = "slow";
    const EXAMPLE: &'static str = "rows_per_second = 1000.0";
}

impl OutputSettings for SlowSettings {
    fn plan(&self, _: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        let slow = Slow { rows_per_second: self.rows_per_second };
        Ok(OutputPlan {
            writes: None,
            uses: Uses::all(),
            delivery: Delivery::AtLeastOnce,
            exclusive: None,
            answers: None,
            place: None,
            takes_other_columns: false,
            fails: false,
            build: Box::new(move || Ok(Box::new(slow))),
        })
    }
}

struct Slow {
    rows_per_second: f64,
}

#[async_trait]
impl Output for Slow {
    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        tokio::time::sleep(Duration::from_secs_f64(batch.len() as f64 / self.rows_per_second)).await;
        Ok(())
    }
}
