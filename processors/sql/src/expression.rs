//! Expressions for the settings of other nodes.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{Canonical, Evaluated, Expression, Problem, Problems, Result};

use crate::halve::{Halved, halve};
use crate::plan::{INPUT, Planner, on_deep_stack};
use crate::program::Program;
use crate::text::{Text, within};
use crate::{diagnose, parse, refuse, words};

/// Plans an expression. See [`millstream_core::PlanExpression`].
pub fn plan(name: &str, text: &str, schema: &SchemaRef) -> Result<Box<dyn Expression>, Problems> {
    let planned = on_deep_stack(|| Computed::plan(name, text, schema));
    let planned = planned.unwrap_or_else(|error| Err(Problem::new(words::why(&error)).into()));
    Ok(Box::new(planned?))
}

/// An expression over one row.
#[derive(Debug)]
struct Computed {
    program: Program,
    canonical: Canonical,
    columns: BTreeSet<String>,
}

impl Computed {
    fn plan(name: &str, text: &str, schema: &SchemaRef) -> Result<Self, Problems> {
        let text = Text::over(text, schema)?;
        let syntax =
            parse::expression(&text, "an expression").map_err(|problem| text.advising_quotes(problem, schema))?;
        let refused = refuse::refusals(&syntax, &text, &[INPUT]);
        if !refused.is_empty() {
            return Err(refused);
        }
        let plan = Planner::new(schema.clone(), INPUT).expression(syntax, name);
        let program = plan.and_then(|plan| Program::new(&plan)).map_err(|error| diagnose::problems(&error, &text))?;
        let canonical = Canonical::new(program.schema())
            .map_err(|why| within(Problem::new(words::sentence(&why)).help("give it another type by CAST"), None))?;
        Ok(Self { program, canonical, columns: text.mentions(schema) })
    }

    fn run(&self, rows: &RecordBatch) -> Result<ArrayRef, String> {
        let computed = self.program.run(rows)?.ok_or_else(|| "it has no value".to_owned())?;
        let values = self.canonical.apply(computed).map_err(|error| error.to_string())?.column(0).clone();
        if values.len() == rows.num_rows() { Ok(values) } else { Err("it has not one value for each row".to_owned()) }
    }
}

impl Expression for Computed {
    fn data_type(&self) -> &DataType {
        self.canonical.schema().field(0).data_type()
    }

    fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<Evaluated> {
        let Halved { mut good, bad } = halve(rows, |rows| self.run(rows));
        if bad.is_empty() && good.len() <= 1 {
            let values = good.pop().map_or_else(|| new_empty_array(self.data_type()), |(_, values)| values);
            return Ok(Evaluated { values, failed: bad });
        }
        good.extend(bad.iter().map(|(row, _)| (*row, new_null_array(self.data_type(), 1))));
        good.sort_by_key(|(start, _)| *start);
        let parts: Vec<&dyn Array> = good.iter().map(|(_, values)| values.as_ref()).collect();
        Ok(Evaluated { values: concat(&parts)?, failed: bad })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{rows_as_text, table};

    use super::*;

    fn rows() -> RecordBatch {
        table("ts:utf8? n:int64\n 2026-01-01T00:00:00Z 1\n never 2\n null 3\n 2026-01-02T00:00:00Z 4\n x 5")
    }

    fn evaluate(text: &str, rows: &RecordBatch) -> (String, Vec<(usize, String)>) {
        let Evaluated { values, failed } = plan("at", text, &rows.schema()).unwrap().evaluate(rows).unwrap();
        let values = RecordBatch::try_from_iter_with_nullable([("at", values, true)]).unwrap();
        (rows_as_text([&values]), failed)
    }

    #[test]
    fn every_row_has_a_value_or_a_reason_whatever_the_batch() {
        let (values, failed) = evaluate("to_timestamp(ts)", &rows());
        assert_eq!(values, "at:timestamp?\n2026-01-01T00:00:00Z\nnull\nnull\n2026-01-02T00:00:00Z\nnull\n");
        assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 4]);
        assert!(failed[0].1.starts_with("computing `at`: "), "{}", failed[0].1);
        let alone = evaluate("to_timestamp(ts)", &rows().slice(1, 1));
        assert_eq!(alone.1, [(0, failed[0].1.clone())]);
        assert_eq!(evaluate("to_timestamp(n)", &rows().slice(0, 0)).0, "at:timestamp?\n");
        assert_eq!(evaluate("to_timestamp(n)", &rows().slice(3, 1)).0, "at:timestamp?\n1970-01-01T00:00:04Z\n");
    }

    #[test]
    fn what_can_not_be_planned_has_its_place() {
        for (text, message, column) in [
            ("to_timestamp(tz)", "there is no column `tz`", 14),
            ("to_timestamp(now())", "now is not replayable: it differs from run to run", 14),
            ("to_timestamp(random())", "random is not replayable: it differs from run to run", 14),
            ("sum(n)", "sum(…) does not work row by row", 1),
            ("to_timestamp(", "", 14),
        ] {
            let problems = plan("at", text, &rows().schema()).unwrap_err();
            assert!(problems[0].message.contains(message), "{text}: {}", problems[0].message);
            assert_eq!(problems[0].within.map(|place| place.column), Some(column), "{text}: {}", problems[0].message);
        }
        assert!(plan("at", "unnest([to_timestamp(n)])", &rows().schema()).is_err());
    }
}
