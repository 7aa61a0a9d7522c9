//! An input that counts.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{numbers, opened};

/// Counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The first number.
    #[serde(default)]
    start: i64,
    /// How many.
    rows: i64,
    /// Refuses every number that this divides.
    refuse: Option<i64>,
    /// Gives an unused column, too.
    #[serde(default)]
    wide: bool,
    /// Never ends.
    #[serde(default)]
    endless: bool,
    /// Never ends, and has nothing more behind its rows.
    #[serde(default)]
    waits: bool,
    /// Tells somebody that the rows are taken.
    #[serde(default)]
    acknowledges: bool,
    /// A file that it is said to read.
    reads: Option<std::path::PathBuf>,
}

impl Kind for Count {
    const NAME: &'static str = "count";
    const EXAMPLE: &'static str = "rows = 3";
}

impl InputSettings for Count {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let columns: &[&str] = if self.wide { &["n", "m"] } else { &["n"] };
        let is_wanted = |name: &&str| context.columns.as_ref().is_none_or(|wanted| wanted.contains(*name));
        let schema = numbers(&columns.iter().copied().filter(is_wanted).collect::<Vec<_>>());
        let counting = Counting {
            next: self.start,
            end: if self.endless { i64::MAX } else { self.start + self.rows },
            start: self.start,
            waits: self.waits,
            refuse: self.refuse,
            batch_rows: context.batch_rows as i64,
            flow: context.flow.clone(),
            source: context.node.as_str().into(),
            schema: schema.clone(),
        };
        Ok(InputPlan {
            reads: self.reads.clone().map(|own| Box::new(move |path: &std::path::Path| path == own) as Reads),
            finite: !self.endless && !self.waits,
            acknowledges: self.acknowledges,
            rows: Some(self.rows as u64),
            ..InputPlan::new(schema, move || Ok(counting))
        })
    }
}

struct Counting {
    next: i64,
    start: i64,
    end: i64,
    waits: bool,
    refuse: Option<i64>,
    batch_rows: i64,
    flow: String,
    source: Arc<str>,
    schema: SchemaRef,
}

#[async_trait]
impl Input for Counting {
    async fn open(&mut self, _: &Home) -> Result<()> {
        opened::note(&self.flow, &self.source);
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        if self.waits && self.next == self.end {
            std::future::pending::<()>().await;
        }
        let end = self.end.min(self.next.saturating_add(self.batch_rows));
        let is_refused = |n: &i64| self.refuse.is_some_and(|by| n % by == 0);
        let kept: ArrayRef = Arc::new(Int64Array::from_iter_values((self.next..end).filter(|n| !is_refused(n))));
        let columns = self.schema.fields().iter().map(|_| kept.clone()).collect();
        let positions = ((self.next - self.start) as u64, (end - self.start) as u64);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        out.push(0, Batch::new(rows, Origin::new(self.source.clone(), "", positions.0, positions.1)));
        for n in (self.next..end).filter(is_refused) {
            out.fail(FailedRow {
                error: "refused".into(),
                source: self.source.clone(),
                partition: "".into(),
                position: Some((n - self.start) as u64),
                line: None,
                row: n.to_string(),
                encoding: Encoding::Text,
            });
        }
        self.next = end;
        tokio::task::yield_now().await;
        Ok(if self.next == self.end && !self.waits { Progress::End } else { Progress::More })
    }

    fn restore(&mut self, positions: &Positions, _: &State) -> Result<()> {
        self.next = self.start + positions.get("").copied().unwrap_or_default() as i64;
        Ok(())
    }
}
