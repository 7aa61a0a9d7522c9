//! The input `web_page`: its settings, and what they come to.
//!
//! * `robots`: what a site lets programs read.
//! * `document`: a page as a tree.
//! * `extract`: rows and links of a page.
//! * `crawler`: reads one page after the other, and writes the rows of each into a log with the links that are followed, as one record.

mod crawler;
mod document;
mod extract;
mod robots;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration as Span;

use millstream_core::{
    ByteSize, Columns, Duration, InputPlan, InputSettings, Kind, PlanContext, Probe, Problem, Problems, known_names,
};
use millstream_formats::{Format, ReadMessages};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::Turns;
use crate::connection::HttpConnection;
use crate::poll::input::Polling;
use crawler::{Counts, Site};
use extract::{Extract, Place};

/// Reads pages of a web site, and makes rows of their elements.
///
/// ```toml
/// [input.offers]
/// type = "web_page"
/// url = "https://shop.example.com/"
/// path = "offers"
/// rows = "div.offer"
/// columns = { name = "h2", price = ".price", link = { select = "a", attribute = "href" }, page = { page = "url" } }
/// schema = { name = "utf8", price = "decimal(10,2)?", link = "utf8?", page = "utf8" }
/// follow = { links = "a.next", depth = 20 }
/// every = "1h"
/// on_error = { dead_letter = "out/unread" }
/// ```
///
/// A round reads the pages of `path`, and those that they link to if `follow` says so: each once, one after the other, at most one a second unless
/// `rate` says otherwise, and only those that the `robots.txt` of the site lets `agent` read, which is read before each round. A site
/// that does not say is not read. Links to other sites are not followed. A redirect is followed as a link, within the site.
///
/// The text of an element has one space wherever there is white space. It becomes the type of its column as a text in JSON does:
/// `"7.50"` is a `float64`, and `"7.50 €"` is none, which fails its row. Pages are HTML as it is sent: no scripts are run. A page whose elements
/// lie more than 512 deep within each other is not read, and stops the flow.
///
/// Each page is written to a log in the state of the flow before its rows go on, together with the links that are followed behind it. With
/// `--state`, rows count exactly once through any crash: a run that goes on does so in the midst of the round. Rows come again with each round;
/// a `dedup` node leaves out what is known.
///
/// A first page that is not there fails the flow. Pages behind links that are not there, or are no HTML, are left out, and counted in what `run` reports. A
/// live input waits as long as it takes for a site that is away, busy or fails. With `bounded = true` a run reads one round, and ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WebPageInput {
    #[serde(flatten)]
    connection: HttpConnection,
    /// The page to begin with, as a path behind the `url` of the connection; or several: `["offers", "news"]`.
    #[serde(default)]
    path: Paths,
    /// The elements that are rows, by a CSS selector. Without it, each page is one row.
    rows: Option<String>,
    /// Where the text of each column is: a CSS selector of an element within the row's, of which the first one counts; or a table such as
    /// `{ select = "a", attribute = "href" }` or `{ page = "url" }`. What is not there is missing.
    columns: BTreeMap<String, Place>,
    /// The columns and their types: `{ name = "utf8", price = "float64?" }`. A text that is missing or of another type fails its row; with a
    /// `?` behind its type it may be missing.
    schema: Columns,
    /// Which links are followed. Without it, none are.
    follow: Option<Follow>,
    /// By what name the `robots.txt` of the site knows the program: letters, `-` and `_`. It is also what the site is told (`User-Agent`), unless the
    /// connection has a header for that.
    #[serde(default = "agent")]
    agent: String,
    /// How long after one round the next one begins, by default `"1h"`.
    #[serde(default = "every")]
    every: Duration,
    /// Whether a run reads one round, and ends.
    #[serde(default)]
    bounded: bool,
    /// How many bytes of rows may wait until a checkpoint covers them, by default `"1GiB"`. No more pages are read meanwhile.
    #[serde(default = "max_log")]
    max_log: ByteSize,
}

/// Pages of a site.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::One(String::new())
    }
}

/// Which links are followed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// The elements with the links, by a CSS selector. Their attribute `href` counts.
    #[serde(default = "links")]
    links: String,
    /// How many links may lie between a first page and a page that is read.
    #[serde(default = "depth")]
    #[schemars(range(min = 1, max = 100))]
    depth: u32,
    /// What the paths of pages begin with that are followed: `"/offers/"`.
    #[serde(default)]
    within: String,
    /// How many pages a round has at most.
    #[serde(default = "max_pages")]
    #[schemars(range(min = 1, max = 100_000))]
    max_pages: usize,
}

fn links() -> String {
    "a[href]".to_owned()
}

fn depth() -> u32 {
    1
}

fn max_pages() -> usize {
    1000
}

fn agent() -> String {
    "millstream".to_owned()
}

fn every() -> Duration {
    Duration(Span::from_secs(3600))
}

fn max_log() -> ByteSize {
    ByteSize(1 << 30)
}

impl Kind for WebPageInput {
    const NAME: &'static str = "web_page";
    const ALSO_CALLED: &'static [&'static str] = &["html", "crawler", "scraper", "website", "get_html"];
    const CONNECTION: Option<&'static str> = Some(HttpConnection::NAME);
    const EXAMPLE: &'static str = r#"
url = "https://shop.example.com/"
path = "offers"
rows = "div.offer"
columns = { name = "h2", price = ".price" }
schema = { name = "utf8", price = "float64?" }
follow = { links = "a.next", depth = 20 }
"#;
    const KEEPS_LOG: bool = true;
}

impl WebPageInput {
    fn site(&self, context: &PlanContext) -> Result<Site, Problem> {
        let paths = match &self.path {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths.as_slice(),
        };
        let start = paths.iter().map(|path| self.connection.address(path)).collect::<Result<Vec<_>, _>>()?;
        if start.is_empty() {
            return Err(Problem::new("there is no page to begin with").at(["path"]));
        }
        if self.every.0.is_zero() && !self.bounded {
            let problem = Problem::new("no site likes to be read without a pause").at(["every"]);
            return Err(problem.help("say how long to wait, such as `\"1h\"`"));
        }
        let is_name = |letter: char| letter.is_ascii_alphabetic() || matches!(letter, '-' | '_');
        if self.agent.is_empty() || !self.agent.chars().all(is_name) {
            let problem =
                Problem::new(format!("`{}` is no name of a program in a robots.txt", self.agent)).at(["agent"]);
            return Err(problem.help("it has letters, `-` and `_`"));
        }
        let mut client = self.connection.client(context)?;
        if !self.connection.has_rate() {
            client.turns = Turns::new(Some(1.0));
        }
        client.introduce(&self.agent);
        let follow = self.follow.as_ref();
        Ok(Site {
            client,
            start,
            agent: self.agent.clone(),
            extract: self.extract()?,
            depth: follow.map_or(0, |follow| follow.depth),
            within: follow.map_or_else(String::new, |follow| follow.within.clone()),
            max_pages: follow.map_or(usize::MAX, |follow| follow.max_pages),
            every: self.every.0,
            is_bounded: self.bounded,
            max_log: self.max_log.0 as u64,
            counts: Counts::default(),
        })
    }

    fn extract(&self) -> Result<Extract, Problem> {
        let extract = Extract {
            rows: self.rows.clone(),
            columns: self.columns.clone(),
            links: self.follow.as_ref().map(|follow| follow.links.clone()),
            most: self.connection.largest(),
        };
        extract.check()?;
        for (name, _) in &self.schema.0 {
            if !self.columns.contains_key(name) {
                let problem = Problem::new(format!("it is not said where the text of column `{name}` is"));
                return Err(problem.help("add it to `columns`, with a CSS selector").at(["schema", name.as_str()]));
            }
        }
        let known = |name: &String| self.schema.0.iter().any(|(column, _)| column == name);
        if let Some(name) = self.columns.keys().find(|name| !known(name)) {
            let help = known_names(name, self.schema.0.iter().map(|(name, _)| name.as_str()));
            return Err(Problem::new(format!("there is no column `{name}` in `schema`"))
                .help(help)
                .at(["columns", name.as_str()]));
        }
        Ok(extract)
    }
}

impl InputSettings for WebPageInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let format = Format::<ReadMessages>::named("json").ok_or_else(|| Problem::new("this build reads no JSON"))?;
        let reader = format.reader(&self.schema, context)?;
        let least = 4 * self.connection.largest();
        if self.max_log.0 < least {
            let problem = Problem::new(format!("the log must have room for four pages at least: {}", ByteSize(least)));
            return Err(problem.help("raise `max_log`, or lower `max_response`").at(["max_log"]).into());
        }
        let site = Arc::new(self.site(context)?);
        let schema = reader.schema().clone();
        let (node, batch_rows) = (context.node.as_str().into(), context.batch_rows);
        let plan = InputPlan::new(schema, move || Ok(Polling::new(node, site, reader, batch_rows)));
        Ok(InputPlan { finite: false, ..plan })
    }

    fn pauses(&self) -> bool {
        self.bounded
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        let site = self.site(context).ok()?;
        Some(Box::pin(async move { site.look().await }))
    }
}
