//! The output `delta`: its settings, and what they come to.

use std::sync::Arc;
use std::time::Duration as Span;

use millstream_connectors::{Limits, Partitioning};
use millstream_core::{
    ByteSize, Delivery, Duration, KeptNode, Kind, Output, OutputPlan, OutputSettings, PlanContext, Probe, Problem,
    Problems, Result, Stream, Uses, require_column,
};
use millstream_formats::{Format, WriteFiles, WriteOptions};
use millstream_objects::{CONNECTION, Job, OPEN_PARTITIONS, ObjectsConnection, ObjectsWriter, verify};
use millstream_store::Scheme;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::of_table;
use crate::place::Place;
use crate::table::Table;
use crate::writer::DeltaWriter;

/// Adds rows to a table of Delta Lake, in a folder, S3, Google Cloud Storage or Azure Blob Storage.
///
/// ```toml
/// [output.orders]
/// type = "delta"
/// from = "clean"
/// url = "s3://lake"
/// region = "eu-central-1"
/// path = "orders"
/// partition = ["country"]
/// create_table = true
/// ```
///
/// With `--state`, each row is in the table exactly once through any crash of the flow or the store: rows become data files, which are uploaded while the
/// flow goes on, and when a checkpoint has decided that they count, one commit of the table's log adds them all, with a mark by which
/// the flow knows later that it was done (a transaction of the application `FLOW.OUTPUT.STATE`, whose version is that of the checkpoint). Others may write to the table at the
/// same time: of two commits one comes first, and the other one is made anew behind it. A store has to refuse to write what is there
/// already, as S3, Google's, Azure's and folders do. Without `--state`, the rows of a flow are added when it has ended well.
///
/// The table has to have the columns of the flow, each of its type, in any order, and no others; otherwise the flow does not start. Nothing is removed or
/// replaced. Files that no reader needs any more (`VACUUM`), and old entries of the log, are for whoever keeps the table; a file
/// that is gone before the log names it is uploaded again. What the log says is summed up every 10 commits, or as `delta.checkpointInterval` says.
/// Tables that ask for column mapping, for columns that are computed, or for constraints can't be written.
///
/// A data file is whole when it has so many `bytes` or `rows`, or is so old as `every` says, or when the flow stops; so it may be
/// minutes until a row is seen. Many small files make a table slow.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DeltaOutput {
    #[serde(flatten)]
    connection: ObjectsConnection,
    /// Where the table is, behind the address of `url`: `"sales/orders"`.
    #[serde(default)]
    path: String,
    /// The columns by whose values data files are divided: `["country", "day"]`. They have to be those of the table.
    #[schemars(length(min = 1))]
    partition: Option<Vec<String>>,
    /// With `partition`: how many files are in the making at once, by default 100. Where a row needs one more, the one is ended that has
    /// been without rows for longest.
    #[schemars(range(min = 1))]
    open_partitions: Option<usize>,
    /// A file has at most so many rows.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    /// A file is ended when it has so many bytes, by default `"128MiB"`. This is looked at every 8192 rows.
    #[serde(default = "bytes")]
    bytes: ByteSize,
    /// A file is ended at the first checkpoint after this time, by default `"5m"`.
    #[serde(default = "every")]
    every: Duration,
    /// Whether the table is made when the flow begins, if it is not there, with the columns of the flow and divided by `partition`. A column
    /// that may not be null in the flow may not in the table.
    #[serde(default)]
    create_table: bool,
}

fn bytes() -> ByteSize {
    ByteSize(128 << 20)
}

fn every() -> Duration {
    Duration(Span::from_secs(300))
}

impl Kind for DeltaOutput {
    const NAME: &'static str = "delta";
    const ALSO_CALLED: &'static [&'static str] =
        &["delta_lake", "deltalake", "put_delta_lake", "deltalake_sink", "databricks"];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
url = "s3://lake"
region = "eu-central-1"
path = "orders"
create_table = true
"#;
    const FREE_SETTINGS: &'static [&'static str] = &[
        "region",
        "key_id",
        "key",
        "token",
        "ca",
        "timeouts",
        "retry",
        "open_partitions",
        "rows",
        "bytes",
        "every",
        "create_table",
    ];

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        verify(kept).map(|()| None)
    }
}

impl DeltaOutput {
    fn job(&self, context: &PlanContext) -> Result<Job, Problem> {
        if self.connection.address()?.scheme == Scheme::Web {
            let problem = Problem::new("a web server can be read from, and not written to").at(["url"]);
            return Err(problem.help("write to `s3://BUCKET`, `gs://BUCKET`, `az://CONTAINER` or `file:///FOLDER`"));
        }
        let objects = self.connection.open(context)?;
        objects.path(&self.path).map_err(|error| Problem::new(error.to_string()).at(["path"]))?;
        if let (None, Some(_)) = (&self.partition, self.open_partitions) {
            let problem = Problem::new("`open_partitions` needs `partition`").at(["open_partitions"]);
            return Err(problem.help("say by which columns rows are divided, or leave it out"));
        }
        let parquet = Format::<WriteFiles>::named("parquet").ok_or_else(|| Problem::new("there is no Parquet"))?;
        let options = WriteOptions { format: parquet.write("parquet")?, compression: None, begins: true };
        let path = self.path.trim_matches('/').to_owned();
        Ok(Job { objects, path, names: [context.flow.clone(), context.node.clone()], options })
    }

    /// How rows are divided, if they are. A table has no columns but its own for that.
    fn partitioning(&self, input: &Stream) -> Result<Option<Partitioning>, Problem> {
        for (index, name) in self.partition.iter().flatten().enumerate() {
            require_column(name, &input.schema).map_err(|problem| problem.under(index).under("partition"))?;
        }
        self.partition.as_ref().map(|names| Partitioning::plan(names, input)).transpose()
    }

    fn table(&self, place: Place, input: &Stream) -> Result<Table, Problem> {
        let partition = self.partition.clone().unwrap_or_default();
        let columns = of_table(&input.schema, &partition)?;
        Ok(Table::new(place, columns, partition, self.create_table))
    }
}

impl OutputSettings for DeltaOutput {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        Ok(self.job(context).map(|_| ())?)
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = self.job(context)?;
        let partitioning = self.partitioning(input)?;
        let place = Place::new(job.objects.clone(), job.path.clone());
        let table = self.table(place.clone(), input)?;
        let schema = partitioning.as_ref().map_or_else(|| input.schema.clone(), |rows| rows.schema(&input.schema));
        let limits = Limits {
            rows: self.rows.unwrap_or(usize::MAX),
            bytes: self.bytes.0 as u64,
            time: Some(self.every.0),
            open: self.open_partitions.unwrap_or(OPEN_PARTITIONS),
        };
        let files = ObjectsWriter::new(Arc::new(job), schema, limits, partitioning);
        let writer = DeltaWriter::new(files, table);
        Ok(OutputPlan {
            uses: Uses::all(),
            delivery: Delivery::ExactlyOnce,
            exclusive: None,
            answers: None,
            writes: None,
            place: Some(place.to_string()),
            takes_other_columns: true,
            fails: false,
            build: Box::new(move || Ok(Box::new(writer) as Box<dyn Output>)),
        })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(Place::new(job.objects, job.path).look(self.create_table)))
    }
}
