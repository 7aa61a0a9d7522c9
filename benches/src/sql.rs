//! What the engine costs over DataFusion: the same query over the same file, in CPU time on one thread.

use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use millstream_core::{Error, Result, ResultExt};
use tokio::runtime::Builder;

use crate::measurement::{Goal, Measurement};
use crate::own_process::compare_cpu;
use crate::{flow, place};

/// The CPU seconds of both.
pub fn run() -> Result<Vec<Measurement>> {
    let (_, [ours, alone]) = compare_cpu("sql-millstream", "sql-datafusion")?;
    let goal = Goal::AtMostTimes(1.15);
    let name = "sql: Parquet → sql → drop, 5 M rows; beside DataFusion alone";
    Ok(vec![Measurement::new(name, "CPU s", ours, goal).beside(alone)])
}

/// The flow. Gives the rows that it drops in the end.
pub fn millstream() -> Result<u64> {
    flow::rows_into("payments.toml", &[], 1, "dropped")
}

/// DataFusion alone.
pub fn datafusion() -> Result<u64> {
    Builder::new_current_thread().enable_all().build()?.block_on(query())
}

async fn query() -> Result<u64> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let path = place::data("payments.parquet").display().to_string();
    let registered = context.register_parquet("payments", path, ParquetReadOptions::default()).await;
    registered.doing(|| "opening the file")?;
    let frame = context.sql(&query_of_the_flow()?).await.doing(|| "planning the query")?;
    let mut batches = frame.execute_stream().await.doing(|| "starting the query")?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        rows += batch.doing(|| "running the query")?.num_rows() as u64;
    }
    Ok(rows)
}

/// The query of the flow.
pub fn query_of_the_flow() -> Result<String> {
    let flow: toml::Table =
        std::fs::read_to_string(place::flow("payments.toml"))?.parse().doing(|| "reading the flow")?;
    let query = flow.get("processor").and_then(|nodes| nodes.get("revenue")?.get("query")?.as_str());
    query.map(str::to_owned).ok_or_else(|| Error::new("the flow has no query"))
}
