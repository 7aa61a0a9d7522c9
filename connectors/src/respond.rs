//! The output `respond`.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use async_trait::async_trait;
use millstream_core::{
    Answers, Batch, Collector, Delivery, Epoch, Exclusive, Kind, Output, OutputPlan, OutputSettings, PlanContext,
    Problem, Problems, Result, ResultExt, Stream, Uses, require_column, type_name, write_json,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::http_listen::request_column;
use crate::push::Desk;

/// Answers those who have sent rows to an input `http_listen` of the flow and wait there: it has `respond`.
///
/// Each row is the answer to the row of the input whose position its column `request` has; that column is not part of the answer, all others are, as an
/// object in JSON, where nulls are left out. So the nodes between may bring rows into another order, drop some, and
/// make several of one, as long as they pass that column on; `answers` of the input says what a request with such rows gets. Rows to which nobody waits for an
/// answer, because the client has gone or the flow goes on behind a crash, are counted and forgotten.
///
/// An answer is given as soon as its row comes, before a checkpoint covers it. A row that a node refuses gets none. Where the sender is to know why, answer by the port `failed` as
/// well, after a node that takes the position out of its column `row`.
///
/// ```toml
/// [input.requests]
/// type = "http_listen"
/// respond = {}
/// format = "json"
/// schema = { amount = "float64" }
///
/// [processor.doubled]
/// type = "sql"
/// from = "requests"
/// query = "SELECT request, amount * 2 AS amount FROM requests"
///
/// [output.answers]
/// type = "respond"
/// from = "doubled"
/// to = "requests"
/// ```
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondOutput {
    /// The input whose senders are answered. Each has one such output.
    to: String,
    /// The column that says which of its rows is answered, by default `"request"`: the one that the input calls so.
    #[serde(default = "request_column")]
    column: String,
}

impl Kind for RespondOutput {
    const NAME: &'static str = "respond";
    const ALSO_CALLED: &'static [&'static str] = &["response", "reply", "http_response", "sync_response"];
    const EXAMPLE: &'static str = r#"
to = "requests"
"#;
}

impl RespondOutput {
    fn check_column(&self, input: &Stream) -> Result<usize, Problem> {
        let field = require_column(&self.column, &input.schema)?;
        if *field.data_type() != DataType::Int64 {
            let message = format!("`{}` is {}, and no position of a row", self.column, type_name(field.data_type()));
            return Err(Problem::new(message).help("pass the column of the input on as it is"));
        }
        Ok(input.schema.index_of(&self.column).unwrap_or_default())
    }
}

impl OutputSettings for RespondOutput {
    fn plan(&self, context: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let column = self.check_column(input).map_err(|problem| problem.at(["column"]))?;
        let name = (context.flow.clone(), self.to.clone());
        let build = Box::new(move || {
            let desk = Desk::of(&name.0, &name.1);
            Ok(Box::new(Responding { desk, column, text: Vec::new() }) as Box<dyn Output>)
        });
        Ok(OutputPlan {
            writes: None,
            uses: Uses::all(),
            delivery: Delivery::AtLeastOnce,
            exclusive: Some(Exclusive { setting: "to", what: self.to.clone() }),
            answers: Some(Answers { setting: "to", input: self.to.clone() }),
            place: None,
            takes_other_columns: true,
            fails: false,
            build,
        })
    }
}

struct Responding {
    desk: Desk,
    /// Which column says whom a row answers.
    column: usize,
    /// Reused from batch to batch.
    text: Vec<u8>,
}

#[async_trait]
impl Output for Responding {
    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        let positions = batch.rows.column(self.column).as_primitive::<Int64Type>();
        let answers = without(&batch.rows, self.column)?;
        self.text.clear();
        write_json(&answers, &mut self.text)?;
        let text = std::str::from_utf8(&self.text).doing(|| "writing answers as JSON")?;
        let answers = positions.iter().zip(text.lines());
        // A row that a node has made of none of the input answers nobody.
        self.desk.give(answers.filter_map(|(position, answer)| Some((position?.try_into().ok()?, answer))));
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch) {
        self.desk.pass(epoch);
    }
}

/// The other columns.
fn without(rows: &RecordBatch, column: usize) -> Result<RecordBatch> {
    let others: Vec<_> = (0..rows.num_columns()).filter(|other| *other != column).collect();
    Ok(rows.project(&others)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use millstream_testkit::{batch, context, parse, stream, table};

    use super::*;
    use crate::push::Replies;

    #[tokio::test]
    async fn answers_find_back_to_their_rows() {
        let rows = table("score:float64? request:int64? why:utf8?\n0.5 1 null\nnan 0 a\n9 null x");
        let settings: RespondOutput = parse("to = 'answered'");
        let context = context();
        let desk = Desk::of(&context.flow, "answered");
        desk.open(Replies::One, 0);
        let plan = settings.plan(&context, &stream("from", rows.schema())).unwrap();
        let mut output = (plan.build)().unwrap();
        let write = async {
            output.write(batch(rows), &mut Collector::new(0)).await.unwrap();
        };
        let (answer, ()) = tokio::join!(desk.answer(0, 2, false, Duration::from_secs(60)), write);
        assert_eq!(&*answer.unwrap(), r#"[{"score":null,"why":"a"},{"score":0.5}]"#);
    }

    #[test]
    fn the_column_has_positions() {
        let settings: RespondOutput = parse("to = 'requests'");
        let problem = |columns: &str| {
            settings.plan(&context(), &stream("from", table(columns).schema())).unwrap_err()[0].to_string()
        };
        assert_eq!(problem("a:int64"), "there is no column `request`; there is only `a`");
        assert!(problem("request:utf8").starts_with("`request` is utf8, and no position of a row"));
    }
}
