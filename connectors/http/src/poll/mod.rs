//! The input `http_poll`: its settings, and what they come to.
//!
//! * `since`: how far a service has been read by the times of its records.
//! * `pages`: which page comes next.
//! * `poller`: asks, and writes each page with what comes behind it into a log, as one record.
//! * `asking`: what inputs have in common that ask for pages.
//! * `input`: reads the log.

pub mod asking;
pub mod input;
mod pages;
mod poller;
mod records;
mod since;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration as Span;

use millstream_core::{
    ByteSize, Columns, Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems,
};
use millstream_formats::{Format, ReadMessages};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::HttpConnection;
use input::Polling;
use pages::Pages;
use poller::Source;
use records::Pointer;
use since::Since;

/// Asks a service for records again and again: page by page, and only for what is new where the service can say that.
///
/// ```toml
/// [connection.shop]
/// type = "http"
/// url = "https://shop.example.com/api/"
/// auth = { type = "oauth2", token_url = "https://login.example.com/token", client_id = "flows", client_secret = { file = "/run/secrets/shop" } }
///
/// [input.orders]
/// type = "http_poll"
/// connection = "shop"
/// path = "orders"
/// records = "$.data"
/// schema = { id = "int64", amount = "float64?", updated_at = "timestamp" }
/// pages = { type = "cursor", parameter = "after", next = "$.next" }
/// since = { field = "$.updated_at", parameter = "updated_since", start = "2026-01-01T00:00:00Z", lookback = "5m" }
/// every = "1m"
/// ```
///
/// Answers are JSON, and each record is a row. A record that can't be read leaves by the port `failed`.
///
/// Each page is written to a log in the state of the flow before its rows go on, together with the place of the next one: as one record of the
/// log, so that rows and place can't part. With `--state`, rows count exactly once through any crash, as long as the service gives the
/// same pages. What a service has changed between two pages is as its paging has it; `since` with `lookback` reads it again.
///
/// With `bounded = true` a run asks once, for all pages, and ends; with `--state` the next run goes on from there. Otherwise the input is live:
/// it waits as long as it takes for a service that is away, busy or fails. One that refuses (400, 401, 404, …) fails the flow.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpPollInput {
    #[serde(flatten)]
    connection: HttpConnection,
    /// What comes behind the `url` of the connection.
    #[serde(default)]
    path: String,
    /// What is asked for: `{ status = "open" }`.
    #[serde(default)]
    query: BTreeMap<String, String>,
    /// Where the records are in an answer: `"$"` if it is a list of them, which is the default, or `"$.data.items"`. What is no list is one
    /// record, and null is none.
    #[serde(default)]
    records: Pointer,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. A value that is missing, null or of another type fails its
    /// row; with a `?` behind its type it may be missing or null.
    schema: Columns,
    /// How the service parts what it has into pages. Without it, one answer has all.
    pages: Option<Pages>,
    /// How the service is asked for what is new. Without it, every poll reads all that there is.
    since: Option<Since>,
    /// How long after one poll the next one begins, by default `"1m"`.
    #[serde(default = "every")]
    every: Duration,
    /// Whether a run polls once, and ends.
    #[serde(default)]
    bounded: bool,
    /// How many bytes of pages may wait until a checkpoint covers them, by default `"1GiB"`. No more pages are asked for meanwhile.
    #[serde(default = "max_log")]
    max_log: ByteSize,
}

fn every() -> Duration {
    Duration(Span::from_secs(60))
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

impl Kind for HttpPollInput {
    const NAME: &'static str = "http_poll";
    const ALSO_CALLED: &'static [&'static str] = &["http", "rest", "api", "http_client", "invoke_http"];
    const CONNECTION: Option<&'static str> = Some(HttpConnection::NAME);
    const EXAMPLE: &'static str = r#"
url = "https://shop.example.com/api/"
path = "orders"
records = "$.data"
schema = { id = "int64", amount = "float64?" }
pages = { type = "page", parameter = "page", size_parameter = "per_page", size = 100 }
every = "5m"
"#;
    const KEEPS_LOG: bool = true;
}

impl HttpPollInput {
    fn source(&self, context: &PlanContext) -> Result<Source, Problem> {
        let mut address = self.connection.address(&self.path)?;
        if !self.query.is_empty() {
            address.query_pairs_mut().extend_pairs(&self.query);
        }
        if self.every.0.is_zero() && !self.bounded {
            let problem = Problem::new("no service likes to be asked without a pause").at(["every"]);
            return Err(problem.help("say how long to wait, such as `\"1m\"`"));
        }
        if let Some(since) = &self.since {
            since.check().map_err(|problem| problem.under("since"))?;
        }
        if let Some(pages) = &self.pages {
            pages.check().map_err(|problem| problem.under("pages"))?;
        }
        Ok(Source {
            client: self.connection.client(context)?,
            address,
            records: self.records.clone(),
            pages: self.pages.clone(),
            since: self.since.clone(),
            every: self.every.0,
            is_bounded: self.bounded,
            max_log: self.max_log.0 as u64,
        })
    }
}

impl InputSettings for HttpPollInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let format = Format::<ReadMessages>::named("json").ok_or_else(|| Problem::new("this build reads no JSON"))?;
        let reader = format.reader(&self.schema, context)?;
        let least = 4 * self.connection.largest();
        if self.max_log.0 < least {
            let problem =
                Problem::new(format!("the log must have room for four answers at least: {}", ByteSize(least)));
            return Err(problem.help("raise `max_log`, or lower `max_response`").at(["max_log"]).into());
        }
        let source = self.source(context)?;
        let schema = reader.schema().clone();
        let (node, batch_rows) = (context.node.as_str().into(), context.batch_rows);
        let plan = InputPlan::new(schema, move || Ok(Polling::new(node, Arc::new(source), reader, batch_rows)));
        Ok(InputPlan { finite: false, ..plan })
    }

    fn pauses(&self) -> bool {
        self.bounded
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let source = self.source(context).ok()?;
        Some(Box::pin(async move { source.look().await }))
    }
}
