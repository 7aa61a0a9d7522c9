//! The output `http`: its settings, and what they come to.
//!
//! * `address`: where a row goes.
//! * `requests`: rows as requests, cut the same way whenever they are.
//! * `sender`: sends a request until the receiver has said what becomes of it.
//! * `mark`: how far the output has come, in a file.
//! * `committer`: sends what checkpoints have decided.
//! * `writer`: the output, which spools rows until then.

mod address;
mod committer;
mod mark;
mod requests;
mod sender;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{
    ByteSize, Delivery, KeptNode, Kind, OutputPlan, OutputSettings, PlanContext, Probe, Problem, Problems, Stream,
};
use millstream_formats::{Compression, Format, WriteFiles, WriteMessages};
use millstream_spool::Spooled;
use reqwest::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::HttpConnection;
use address::Addresses;
use requests::{Layout, Written};
use sender::Sender;
use writer::HttpOutput;

/// Sends rows to a service in requests.
///
/// ```toml
/// [connection.billing]
/// type = "http"
/// url = "https://billing.example.com/api/"
/// auth = { type = "bearer", token = "${BILLING_TOKEN}" }
///
/// [output.invoices]
/// type = "http"
/// from = "totals"
/// connection = "billing"
/// path = "invoices"
/// format = "json"
/// request_rows = 100
/// refused = "out/refused"
/// on_error = { dead_letter = "out/unsent" }
/// ```
///
/// With `--state`, rows are kept beside the state until a checkpoint has decided that they count, and are sent then, one request after the other, in
/// their order. How far this has come is noted in a file of the state behind each answer. Each request has a header
/// `Idempotency-Key: INCARNATION/NODE/CHECKPOINT/N`, in which `N` is the number of rows of the checkpoint before it. After a crash,
/// the one request of which it is not known whether it was answered is sent again, with the same key and the same bytes. So **each row is delivered at
/// least once, and exactly once to a receiver that takes what comes again with a known key only once**: as an `http_listen` does. No more
/// can be had over HTTP. With a state in S3 there is no such file, and all requests of a checkpoint that was not wholly sent come again, with
/// the same keys; the same bytes come again if `format`, `message`, `compression`, `request_rows` and `request_bytes` are the same as
/// before the crash.
///
/// Without `--state`, a flow that ends sends its rows at its end; one that does not sends them as they come.
///
/// | answer | what follows |
/// |---|---|
/// | 2xx | the rows are delivered |
/// | none, 408, 425, 429, 5xx | the request is sent again until it is answered, with growing pauses, and not before the time that `Retry-After` says |
/// | 401, 403 | the same: rows wait until the service lets the flow in, and `run` says why |
/// | 409 | it is sent again some times, as a request with its key may just be on its way, and is refused then |
/// | 3xx | the flow stops: redirects are not followed |
/// | other 4xx | the rows of the request are refused |
///
/// While rows wait, so do the rows behind them, and checkpoints once sixteen of them are waiting. What is refused has been
/// decided already, so that no `on_error` can be asked: its rows go to files in the folder `refused`, one for each request, each there once, in the
/// columns of the port `failed`; without that setting, the flow stops and says which row, and the next run sends the request again. `on_error` says what becomes of rows that are known to be
/// undeliverable before: those whose `path` is none, or leads to a service that is not allowed, and those that `message` can't write.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpOutputSettings {
    #[serde(flatten)]
    connection: HttpConnection,
    /// What comes behind the `url` of the connection; or the column that says it for each row: `{ column = "hook" }`. Rows that follow each other
    /// and go to the same address share requests.
    #[serde(default)]
    path: PathSetting,
    /// The method of the requests.
    #[serde(default)]
    method: MethodSetting,
    /// How the rows of a request are written: `"json"` for an array of objects, `"ndjson"`, `"csv"`, `"arrow"`, `"avro"` or
    /// `"parquet"`, or a table with settings of the format. Either this or `message`.
    format: Option<Format<WriteFiles>>,
    /// How a row is written that is a request by itself: `"json"` for an object, `"csv"`, `"avro"`, or `"raw"` for the value of the one
    /// column, or a table with settings of the format. Either this or `format`.
    message: Option<Format<WriteMessages>>,
    /// How bodies are compressed: `"gzip"` or `"zstd"`. Only for texts, and if the receiver knows what to do with that.
    compression: Option<Compression>,
    /// How many rows a request has at most, by default 1000.
    #[serde(default = "request_rows")]
    #[schemars(range(min = 1, max = 8192))]
    request_rows: u64,
    /// How many bytes a request has at most before it is compressed, unless one row has more. By default `"1MiB"`.
    #[serde(default = "request_bytes")]
    request_bytes: ByteSize,
    /// A folder for the rows of requests that the receiver refuses. Without it, such a request stops the flow.
    refused: Option<String>,
    /// How often a row is delivered: `"at_least_once"`; or `"exactly_once"`, by which you say that the receiver takes requests with the same
    /// `Idempotency-Key` once, for as long as the flow may be down. What is sent is the same.
    #[serde(default = "at_least_once")]
    delivery: Delivery,
}

/// Where rows go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathSetting {
    /// To this path.
    Path(String),
    /// To what a column says.
    Column(PathColumn),
}

impl Default for PathSetting {
    fn default() -> Self {
        Self::Path(String::new())
    }
}

/// The column that says where each row goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathColumn {
    /// The column, a `utf8`: a path behind the `url` of the connection, or an address at one of `hosts`. It is not sent itself.
    column: String,
    /// Other services that rows may go to: `["https://hooks.example.com"]`. The `headers` and the `auth` of the connection are not sent to
    /// these.
    #[serde(default)]
    hosts: Vec<String>,
}

/// The method of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodSetting {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

/// Receivers that take a key once are not the rule.
fn at_least_once() -> Delivery {
    Delivery::AtLeastOnce
}

fn request_rows() -> u64 {
    1000
}

fn request_bytes() -> ByteSize {
    ByteSize(1 << 20)
}

impl Kind for HttpOutputSettings {
    const NAME: &'static str = "http";
    const ALSO_CALLED: &'static [&'static str] =
        &["webhook", "rest", "post", "http_sink", "invoke_http", "http_client"];
    const CONNECTION: Option<&'static str> = Some(HttpConnection::NAME);
    const EXAMPLE: &'static str = r#"
url = "https://billing.example.com/api/"
path = "invoices"
format = "json"
request_rows = 100
"#;
    const FREE_SETTINGS: &'static [&'static str] = &[
        "url",
        "headers",
        "auth",
        "tls",
        "timeouts",
        "retry",
        "rate",
        "max_response",
        "compression",
        "request_rows",
        "request_bytes",
        "refused",
    ];

    fn verify(kept: &KeptNode<'_>) -> millstream_core::Result<Option<String>> {
        kept.pending.iter().try_for_each(|staged| Spooled::verify(staged, kept.home))?;
        Ok(None)
    }
}

/// What an output does, as its settings say.
struct Job {
    node: String,
    schema: SchemaRef,
    addresses: Addresses,
    layout: Layout,
    sender: Sender,
    /// The folder for rows that the receiver refuses.
    refused: Option<PathBuf>,
    /// Whether the flow does not end by itself.
    is_live: bool,
}

impl HttpOutputSettings {
    fn job(&self, context: &PlanContext, input: &Stream) -> Result<Job, Problem> {
        let sender = self.sender(context)?;
        let addresses = Addresses::new(&self.connection, &self.path)?;
        addresses.check_column(&input.schema)?;
        let layout = self.layout(&addresses, &input.schema, context)?;
        Ok(Job {
            node: context.node.clone(),
            schema: input.schema.clone(),
            addresses,
            layout,
            sender,
            refused: self.refused.as_ref().map(|folder| context.output_path(folder)),
            is_live: input.is_live,
        })
    }

    /// How requests are written.
    fn written(&self) -> Result<Written<'_>, Problem> {
        let written = match (&self.format, &self.message) {
            (Some(format), None) => Written::Batch(format.write("")?, self.compression),
            (None, Some(message)) => Written::Message(message),
            (None, None) => {
                let problem = Problem::new("it is not said how requests are written");
                let help = "`format = \"json\"` for many rows in a request, or `message = \"json\"` for one";
                return Err(problem.help(help).at(["format"]));
            }
            (Some(_), Some(_)) => {
                let problem = Problem::new("requests have many rows, by `format`, and one, by `message`");
                return Err(problem.help("leave one of them out").at(["message"]));
            }
        };
        let is_text = self.format.as_ref().is_some_and(|format| format.kind().is_text);
        match self.compression {
            Some(Compression::Bzip2) => {
                return Err(Problem::new("no receiver reads bzip2")
                    .help("`\"gzip\"` or `\"zstd\"`")
                    .at(["compression"]));
            }
            Some(_) if !is_text => {
                let problem = Problem::new("only requests with many rows of text are compressed");
                return Err(problem.help("leave it out, or take `format = \"ndjson\"`").at(["compression"]));
            }
            _ => {}
        }
        Ok(written)
    }

    fn layout(&self, addresses: &Addresses, schema: &Schema, context: &PlanContext) -> Result<Layout, Problem> {
        let left_out = addresses.column().map(str::to_owned);
        let body = self.written()?.body(schema, left_out.as_deref(), context)?;
        let rows = if self.message.is_some() { 1 } else { self.request_rows as usize };
        Ok(Layout { body, left_out, rows, bytes: self.request_bytes.0 })
    }

    fn sender(&self, context: &PlanContext) -> Result<Sender, Problem> {
        let method = match self.method {
            MethodSetting::Post => Method::POST,
            MethodSetting::Put => Method::PUT,
            MethodSetting::Patch => Method::PATCH,
        };
        let name = self.format.as_ref().map(|format| format.kind().name);
        let name = name.or(self.message.as_ref().map(|message| message.kind().name));
        Ok(Sender::new(self.connection.client(context)?, method, name.unwrap_or_default(), self.compression))
    }
}

impl OutputSettings for HttpOutputSettings {
    fn check(&self, context: &PlanContext) -> Result<(), Problems> {
        self.sender(context)?;
        Addresses::new(&self.connection, &self.path)?;
        self.written()?;
        Ok(())
    }

    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let job = Arc::new(self.job(context, input)?);
        Ok(OutputPlan::to_place(job.addresses.shown(), self.delivery, HttpOutput::new(job)))
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let sender = self.sender(context).ok()?;
        let address = Addresses::new(&self.connection, &self.path).ok()?.base().clone();
        Some(Box::pin(async move { sender.look(&address).await }))
    }
}
