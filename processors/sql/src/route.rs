//! The processor `route`: each row leaves by the port of the first condition that it meets.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Kind, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan, ProcessorSettings,
    Result, Step, Stream, Uses, port_name_problem,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::condition::Condition;
use crate::halve::halve;

/// The port of rows that meet no condition.
const UNMATCHED: &str = "unmatched";

/// Sends each row out by the port of the first condition that it meets, in the order of the file; rows that meet none leave
/// by `unmatched`. A condition that is null is not met. `NAME.PORT` in the `from` of another node picks a port; there is no
/// main one.
///
/// Conditions are SQL, as behind `WHERE` in an `sql` node, and are computed only for the rows that met none before. A row
/// for which a condition fails leaves by `failed`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// The ports and their conditions: `{ learn = "fraud IS NOT NULL" }`.
    when: IndexMap<String, String>,
}

impl Kind for RouteSettings {
    const NAME: &'static str = "route";
    const ALSO_CALLED: &'static [&'static str] = &["filter", "branch", "switch", "case"];
    const EXAMPLE: &'static str = r#"when = { learn = "fraud IS NOT NULL", large = "amount >= 1000" }"#;
}

impl ProcessorSettings for RouteSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = inputs.first().map_or_else(|| SchemaRef::new(Schema::empty()), |stream| stream.schema.clone());
        let mut problems = Problems::new();
        let mut conditions = Vec::new();
        for (port, text) in &self.when {
            problems.extend(port_problem(port));
            match Condition::new(text, &schema) {
                Ok(condition) => conditions.push((port.as_str(), condition)),
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.under(port.as_str()).under("when")))
                }
            }
        }
        if self.when.is_empty() {
            problems.push(
                Problem::new("there is no condition").help("write `when = { port = \"condition\" }`").under("when"),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(plan(conditions, &schema))
    }
}

fn port_problem(port: &str) -> Option<Problem> {
    let problem = match port {
        UNMATCHED => Some(Problem::new("`unmatched` is the port of the other rows").help("choose another name")),
        _ => port_name_problem(port),
    };
    problem.map(|problem| problem.under(Step::Name(port.to_owned())).under("when"))
}

fn plan(conditions: Vec<(&str, Condition)>, schema: &SchemaRef) -> ProcessorPlan {
    let mentioned = conditions.iter().flat_map(|(_, condition)| condition.columns().iter().cloned());
    let uses = vec![Uses::passing_on(mentioned)];
    let names = conditions.iter().map(|(port, _)| *port).chain([UNMATCHED]);
    let ports = names.map(|name| PortPlan::new(name, schema.clone())).collect();
    let conditions: Arc<[_]> = conditions.into_iter().map(|(_, condition)| condition).collect();
    ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(Route { conditions }))) }
}

struct Route {
    conditions: Arc<[Condition]>,
}

impl Processor for Route {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let mut sorting = Sorting::new(&batch.rows, self.conditions.len());
        for (port, condition) in self.conditions.iter().enumerate() {
            sorting.sort(port, condition)?;
        }
        sorting.failed.sort_by_key(|(row, _)| *row);
        for (row, why) in sorting.failed {
            out.fail_row(&batch, row, why)?;
        }
        for port in 0..=self.conditions.len() {
            let leaves = BooleanArray::from_iter(sorting.ports.iter().map(|&of_row| Some(of_row == Some(port))));
            match leaves.true_count() {
                0 => {}
                all if all == batch.len() => out.push(port, batch.clone()),
                _ => out.push(port, batch.with_rows(filter_record_batch(&batch.rows, &leaves)?)),
            }
        }
        Ok(())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        Some(Box::new(Self { conditions: self.conditions.clone() }))
    }
}

/// The rows of a batch on their way to the ports.
struct Sorting {
    /// The port of each row; none for a row that failed.
    ports: Vec<Option<usize>>,
    failed: Vec<(usize, String)>,
    /// The rows that have met no condition yet, and their numbers in the batch.
    open: RecordBatch,
    numbers: Vec<usize>,
}

impl Sorting {
    /// All rows are on their way to port `last`, unless they meet a condition.
    fn new(rows: &RecordBatch, last: usize) -> Self {
        let count = rows.num_rows();
        Self { ports: vec![Some(last); count], failed: Vec::new(), open: rows.clone(), numbers: (0..count).collect() }
    }

    /// Sends the open rows that meet a condition to its port.
    fn sort(&mut self, port: usize, condition: &Condition) -> Result<()> {
        let halved = halve(&self.open, |rows| condition.matches(rows));
        let mut still_open = vec![true; self.numbers.len()];
        for (start, matches) in halved.good {
            for row in matches.values().set_indices() {
                still_open[start + row] = false;
                self.ports[self.numbers[start + row]] = Some(port);
            }
        }
        for (row, why) in halved.bad {
            still_open[row] = false;
            self.ports[self.numbers[row]] = None;
            self.failed.push((self.numbers[row], why));
        }
        if still_open.contains(&false) {
            let mut open = still_open.iter();
            self.numbers.retain(|_| open.next() == Some(&true));
            self.open = filter_record_batch(&self.open, &BooleanArray::from(still_open))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::TextPlace;
    use millstream_testkit::{Driven, context, drive, parse, stream, table};

    use super::*;

    fn run(settings: &str, rows: &RecordBatch) -> Driven {
        let settings: RouteSettings = parse(settings);
        let driven = drive(&settings, &[("from", rows.clone())], 8192);
        for batch_rows in [1, 3] {
            let other = drive(&settings, &[("from", rows.clone())], batch_rows);
            for port in driven.ports.keys().chain(other.ports.keys()) {
                assert_eq!(other.text(port), driven.text(port), "{port} in batches of {batch_rows}");
            }
            let errors = |driven: &Driven| driven.failed.iter().map(|row| row.row.clone()).collect::<Vec<_>>();
            assert_eq!(errors(&other), errors(&driven));
        }
        driven
    }

    fn ports(settings: &str) -> Result<Vec<String>, Problems> {
        let settings: RouteSettings = parse(settings);
        let plan = settings.plan(&context(), &[stream("from", table("a:int64? b:utf8?\n").schema())])?;
        Ok(plan.ports.into_iter().map(|port| port.name).collect())
    }

    #[test]
    fn the_first_condition_in_the_file_wins() {
        let rows = table("a:int64?\n 1\n 5\n null\n 20\n -1");
        let driven = run("[when]\nzebra = 'a > 10'\nlarge = 'a > 3'\nany = 'a > 0'", &rows);
        assert_eq!(driven.text("zebra"), "a:int64?\n20\n");
        assert_eq!(driven.text("large"), "a:int64?\n5\n");
        assert_eq!(driven.text("any"), "a:int64?\n1\n");
        assert_eq!(driven.text("unmatched"), "a:int64?\nnull\n-1\n");
    }

    #[test]
    fn ports_stand_in_the_order_of_the_file() {
        assert_eq!(ports("[when]\nz = 'a = 1'\nb = \"b = 'x'\"").unwrap(), ["z", "b", "unmatched"]);
    }

    #[test]
    fn a_condition_is_not_computed_for_rows_that_met_one_before() {
        let rows = table("a:int64? b:int64?\n 6 0\n 6 2\n 7 null\n 0 3");
        let driven = run("[when]\nzero = 'b = 0'\nlarge = 'a / b > 1'", &rows);
        assert!(driven.failed.is_empty());
        assert_eq!(driven.text("zero"), "a:int64? b:int64?\n6 0\n");
        assert_eq!(driven.text("large"), "a:int64? b:int64?\n6 2\n");
        assert_eq!(driven.text("unmatched"), "a:int64? b:int64?\n7 null\n0 3\n");
    }

    #[test]
    fn bad_rows_fail_in_their_order() {
        let rows = table("a:int64? b:int64?\n 1 2\n 6 0\n 0 1\n 4 2");
        let driven = run("[when]\nfirst = '4 / b > 100'\nsecond = '8 / a > 4'", &rows);
        let errors: Vec<_> = driven.failed.iter().map(|row| (row.row.as_str(), row.error.as_str())).collect();
        let division = "division by zero";
        assert_eq!(errors, [(r#"{"a":6,"b":0}"#, division), (r#"{"a":0,"b":1}"#, division)]);
        assert_eq!(driven.text("second"), "a:int64? b:int64?\n1 2\n");
        assert_eq!(driven.text("unmatched"), "a:int64? b:int64?\n4 2\n");
    }

    #[test]
    fn a_column_or_constant_is_a_condition() {
        let rows = table("condition:boolean?\n true\n null\n false");
        let driven = run("[when]\nyes = 'condition'\nrest = 'true'", &rows);
        assert_eq!(driven.text("yes"), "condition:boolean?\ntrue\n");
        assert_eq!(driven.text("rest"), "condition:boolean?\nnull\nfalse\n");
    }

    #[test]
    fn problems_have_their_places() {
        let problems = ports(
            "[when]\nmain = 'a > 1'\n'Big Port' = 'a > 1'\nx = 'c > 1'\ny = 'a + 1'\nz = 'count(a) > 1'\nw = 'a > 1 b'",
        )
        .unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        let expected = [
            "no port can be called `main` here",
            "`Big Port` is not a name for a port",
            "there is no column `c`",
            "a condition must be boolean, and this is int64",
            "count(…) does not work row by row",
            "`b` can't follow a condition",
        ];
        assert_eq!(told, expected);
        assert_eq!(problems[0].at, ["when".into(), Step::Name("main".into())]);
        assert_eq!(problems[2].at, ["when".into(), Step::from("x")]);
        assert_eq!(problems[5].within, Some(TextPlace { line: 1, column: 7, length: 1 }));
        assert_eq!(ports("when = {}").unwrap_err()[0].message, "there is no condition");
    }

    #[test]
    fn it_looks_at_the_columns_of_its_conditions_and_passes_all_on() {
        let settings: RouteSettings = parse("when = { x = 'a IS NULL' }");
        let plan = settings.plan(&context(), &[stream("from", table("a:int64? b:utf8?\n").schema())]).unwrap();
        assert_eq!(plan.uses, [Uses::passing_on(["a"])]);
    }

    #[test]
    fn the_example_is_settings() {
        let _: RouteSettings = parse(RouteSettings::EXAMPLE);
    }
}
