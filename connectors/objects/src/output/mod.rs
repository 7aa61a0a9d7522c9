//! The output `objects`: its settings, and what they come to.
//!
//! * `writer`: rows become files beside the state, which are objects in the making.
//! * `uploads`: files are sent in parts, which nobody sees until somebody says that they are an object.
//! * `committer`: when a checkpoint has decided, that is said.

mod committer;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod uploads;
mod writer;

use std::sync::Arc;
use std::time::Duration as Span;

use millstream_connectors::{Limits, Partitioning};
use millstream_core::{
    ByteSize, Delivery, Duration, KeptNode, Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems,
    Result, Stream,
};
use millstream_formats::{Compression, Format, WriteFiles, WriteFormat, WriteOptions};
use millstream_store::{Objects, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{CONNECTION, ObjectsConnection, look};

pub use committer::{ObjectsCommitter, StagedObject};
pub use uploads::Bytes;
pub use writer::{ObjectsWriter, verify};

/// Writes objects to S3, Google Cloud Storage or Azure Blob Storage: Parquet, NDJSON, CSV, Arrow IPC and others.
///
/// ```toml
/// [output.lake]
/// type = "objects"
/// from = "events"
/// url = "s3://lake"
/// region = "eu-central-1"
/// path = "events"
/// format = "parquet"
/// partition = ["country", "day"]
/// ```
///
/// Objects are called `PATH/FLOW-OUTPUT-STATE-EPOCH-RUN-NUMBER.FORMAT`, so that no two are called the same, and they sort as they were written. Nothing
/// is ever replaced: a second run of a flow adds its own.
///
/// With `--state`, each row is in exactly one object through any crash: rows are written to files beside the state, which are uploaded in parts
/// while the flow goes on. An object begins to be there, as a whole, when a checkpoint has decided that its rows count. Where the parts are gone by
/// then, since they have been removed for being old, the file is uploaded once more. A process that was thought dead and goes on makes the same object once
/// more, if any. An object that a reader takes away before the flow has noted that it is there comes again, which takes a crash in that
/// moment: readers should leave objects alone that are younger than a minute.
///
/// An object is whole when it has so many `bytes` or `rows`, or is so old as `every` says, or when the flow stops; so it may be
/// minutes until a row is seen. Where the state is in an object store itself, there is no place beside it: each checkpoint ends all objects,
/// and they are part of it until they are there, so that it should not be taken every second.
/// Without `--state`, objects begin to be there when the flow has ended well.
///
/// What a run that was killed has uploaded in vain stays with the service, unseen, until the next run of the flow removes it, or if there is none, the
/// service: a rule for uploads that were not completed (`AbortIncompleteMultipartUpload` of S3) is of use for any bucket.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ObjectsOutput {
    #[serde(flatten)]
    connection: ObjectsConnection,
    /// What the names of objects begin with, behind that of `url`: `"events"`.
    #[serde(default)]
    path: String,
    /// The format: `"parquet"`, or `{ type = "csv", delimiter = ";" }` with settings of it.
    format: Format<WriteFiles>,
    /// How CSV, NDJSON and JSON are compressed; without it they are not.
    compression: Option<Compression>,
    /// Rows go to objects whose names tell something of them, as Hive, DuckDB and Spark read it: with `["country", "hour"]` to
    /// `country=DE/hour=2026-01-31T13/`. Each is a column, which the objects then don't have; or, if no column is called so, `year`,
    /// `month`, `day` or `hour` of the event time in UTC. A missing value, or an empty text, is `__HIVE_DEFAULT_PARTITION__`.
    #[schemars(length(min = 1))]
    partition: Option<Vec<String>>,
    /// With `partition`: how many objects are in the making at once, by default 100. Where a row needs one more, the one is ended that has
    /// been without rows for longest.
    #[schemars(range(min = 1))]
    open_partitions: Option<usize>,
    /// An object has at most so many rows.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
    /// An object is ended when it has so many bytes, by default `"128MiB"`. This is looked at every 8192 rows.
    #[serde(default = "bytes")]
    bytes: ByteSize,
    /// An object is ended at the first checkpoint after this time, by default `"5m"`.
    #[serde(default = "every")]
    every: Duration,
}

fn bytes() -> ByteSize {
    ByteSize(128 << 20)
}

fn every() -> Duration {
    Duration(Span::from_secs(300))
}

/// How many objects are in the making at once, if nothing else is said.
pub const OPEN_PARTITIONS: usize = 100;

impl Kind for ObjectsOutput {
    const NAME: &'static str = "objects";
    const ALSO_CALLED: &'static [&'static str] = &[
        "s3",
        "gcs",
        "gs",
        "azure_blob",
        "minio",
        "object_store",
        "lake",
        "put_s3_object",
        "put_gcs_object",
        "put_azure_blob_storage",
        "s3_sink",
    ];
    const CONNECTION: Option<&'static str> = CONNECTION;
    const EXAMPLE: &'static str = r#"
url = "s3://lake"
region = "eu-central-1"
path = "events"
format = "parquet"
partition = ["country"]
"#;
    const FREE_SETTINGS: &'static [&'static str] =
        &["region", "key_id", "key", "token", "ca", "timeouts", "retry", "open_partitions", "rows", "bytes", "every"];

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        verify(kept).map(|()| None)
    }
}

/// What an output does, as its settings say.
pub struct Job {
    /// Where objects are.
    pub objects: Objects,
    /// What the names of its objects begin with, before that of the folder.
    pub path: String,
    /// The flow and the node.
    pub names: [String; 2],
    /// How they are written.
    pub options: WriteOptions,
}

impl ObjectsOutput {
    fn objects(&self, context: &PlanContext) -> Result<Objects, Problem> {
        if self.connection.address()?.scheme == Scheme::Web {
            let problem = Problem::new("a web server can be read from, and not written to").at(["url"]);
            return Err(problem.help("write to `s3://BUCKET`, `gs://BUCKET` or `az://CONTAINER`"));
        }
        self.connection.open(context)
    }

    fn write_format(&self) -> Result<WriteFormat, Problem> {
        let format = self.format.write(self.format.kind().name)?;
        if self.compression.is_some() && !format.kind().is_text {
            let problem = Problem::new(format!("{} files are compressed inside", format.kind().name));
            return Err(problem.at(["compression"]));
        }
        Ok(format)
    }

    fn job(&self, context: &PlanContext) -> Result<Job, Problem> {
        let objects = self.objects(context)?;
        objects.path(&self.path).map_err(|error| Problem::new(error.to_string()).at(["path"]))?;
        if let (None, Some(_)) = (&self.partition, self.open_partitions) {
            let problem = Problem::new("`open_partitions` needs `partition`").at(["open_partitions"]);
            return Err(problem.help("say by which columns rows are divided, or leave it out"));
        }
        let options = WriteOptions { format: self.write_format()?, compression: self.compression, begins: true };
        let path = self.path.trim_matches('/').to_owned();
        Ok(Job { objects, path, names: [context.flow.clone(), context.node.clone()], options })
    }
}

impl OutputSettings for ObjectsOutput {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        Ok(self.job(context).map(|_| ())?)
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = self.job(context)?;
        let partitioning = self.partition.as_ref().map(|names| Partitioning::plan(names, input)).transpose()?;
        let schema = partitioning.as_ref().map_or_else(|| input.schema.clone(), |rows| rows.schema(&input.schema));
        job.options
            .format
            .check_columns(&schema)
            .map_err(|problem| problem.at(["format"]).help("use another format, or take the column apart before"))?;
        let limits = Limits {
            rows: self.rows.unwrap_or(usize::MAX),
            bytes: self.bytes.0 as u64,
            time: Some(self.every.0),
            open: self.open_partitions.unwrap_or(OPEN_PARTITIONS),
        };
        let place = format!("{}/{}", job.objects.location, job.path).trim_end_matches('/').to_owned();
        let writer = ObjectsWriter::new(Arc::new(job), schema, limits, partitioning);
        Ok(OutputPlan { fails: false, ..OutputPlan::to_place(place, Delivery::ExactlyOnce, writer) })
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let job = self.job(context).ok()?;
        Some(Box::pin(look(job.objects, vec![job.path], |_| true)))
    }
}
