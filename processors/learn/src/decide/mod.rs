//! The node `decide`: chooses an action by what each is expected to be worth.

mod policy;

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Schema, SchemaRef};
use millstream_core::{
    Batch, Collector, Error, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Snapshot, State, Stream, Uses, require_column, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{append, with_columns};
use policy::{Policy, draw};

/// Chooses an action for every row, by what each is expected to be worth, and says how probable that choice was.
///
/// Put it behind a node that adds the column `scores`, such as `predict` of a `lin_ucb`; any column of that kind will do: a struct with a number for
/// each action. The new columns are `decision` (the number of the row, from 1), `chosen` (the action), `propensity` (how
/// probable it was), and `propensities` (how probable each action was). Keep them, until the reward is there: `join` with `within` puts rewards that come
/// later to their decisions, once each with `matches = "first"`, at once or at their expiry by `leave`, and says by `otherwise` what there is without one; and what was chosen by chance with a known probability says what other policies would have been worth
/// (the node `evaluate_policy`).
///
/// A policy that always chooses the best action never finds out that another one has become better: explore as much as that may cost. An action
/// whose score is null, or no finite number, is not chosen; if that is so of all of them, as there is no model yet, each has the same probability. What is drawn follows from `seed` and the number of the row:
/// it is the same again after a restart, whatever the batches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideSettings {
    /// The column with what each action is expected to be worth.
    #[serde(default = "scores")]
    scores: String,
    /// How an action is chosen.
    #[serde(default)]
    policy: Policy,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
    /// A prefix of the names of the new columns.
    #[serde(default, rename = "as")]
    prefix: String,
}

fn scores() -> String {
    "scores".to_owned()
}

impl Kind for DecideSettings {
    const NAME: &'static str = "decide";
    const ALSO_CALLED: &'static [&'static str] = &["bandit", "choose", "explore"];
    const EXAMPLE: &'static str = r#"policy = { type = "epsilon_greedy", epsilon = 0.1 }"#;
}

impl ProcessorSettings for DecideSettings {
    fn plan(&self, _context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let mut problems = Problems::new();
        let actions = actions_of(&self.scores, schema).map_err(|problem| problems.push(problem.under("scores"))).ok();
        problems.extend(self.policy.check().err().map(|problem| problem.under("policy")));
        let (Some(actions), []) = (actions, &problems[..]) else { return Err(problems) };
        let schema = with_columns(schema, self.fields(&actions))?;
        let uses = Uses::passing_on([self.scores.clone()]);
        let ports = vec![PortPlan::main(schema.clone())];
        let decider =
            Decider { scores: self.scores.clone(), policy: self.policy, seed: self.seed, actions, schema, rows: 0 };
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: false, build: Box::new(|| Ok(Box::new(decider))) })
    }
}

impl DecideSettings {
    fn fields(&self, actions: &Fields) -> Vec<Field> {
        let field = |name, data_type| Field::new(format!("{}{name}", self.prefix), data_type, false);
        vec![
            field("decision", DataType::Int64),
            field("chosen", DataType::Utf8),
            field("propensity", DataType::Float64),
            field("propensities", DataType::Struct(actions.clone())),
        ]
    }
}

/// The actions of a column of scores, each as a number that is there.
pub(crate) fn actions_of(scores: &str, schema: &Schema) -> Result<Fields, Problem> {
    let field = require_column(scores, schema)?;
    let DataType::Struct(actions) = field.data_type() else {
        let problem =
            format!("column `{scores}` is {}, and should have a number for each action", type_name(field.data_type()));
        return Err(Problem::new(problem).help("`predict` of a `lin_ucb` adds such a column, `scores`"));
    };
    if let Some(odd) = actions.iter().find(|action| *action.data_type() != DataType::Float64) {
        let problem =
            format!("`{}` of column `{scores}` is {}, and should be float64", odd.name(), type_name(odd.data_type()));
        return Err(Problem::new(problem));
    }
    if actions.len() < 2 {
        return Err(Problem::new(format!(
            "column `{scores}` has {} actions, and should have two or more",
            actions.len()
        )));
    }
    Ok(actions.iter().map(|action| Field::new(action.name(), DataType::Float64, false)).collect())
}

/// The numbers of a column with one for each action, action by action. Null is NaN.
pub(crate) fn numbers_of(column: &str, actions: &Fields, rows: &RecordBatch) -> Result<Vec<Vec<f64>>> {
    let missing = || Error::new(format!("the rows have no column `{column}` with a number for each action"));
    let by_action = rows.column_by_name(column).and_then(|column| column.as_struct_opt()).ok_or_else(missing)?;
    let of_action = |action: &Arc<Field>| {
        let numbers =
            by_action.column_by_name(action.name()).and_then(|numbers| numbers.as_primitive_opt::<Float64Type>());
        let numbers = numbers.ok_or_else(missing)?;
        let number =
            |row: usize| if by_action.is_null(row) || numbers.is_null(row) { f64::NAN } else { numbers.value(row) };
        Ok((0..rows.num_rows()).map(number).collect())
    };
    actions.iter().map(of_action).collect()
}

struct Decider {
    scores: String,
    policy: Policy,
    seed: u64,
    actions: Fields,
    schema: SchemaRef,
    /// How many rows it has decided.
    rows: u64,
}

/// The part of the state with that number.
const ROWS: &str = "rows";

impl Decider {
    /// By row the action that is chosen, and by action how probable each is.
    fn decide(&mut self, rows: &RecordBatch) -> Result<(Vec<usize>, Vec<Vec<f64>>)> {
        let scores = numbers_of(&self.scores, &self.actions, rows)?;
        let mut propensities = vec![Vec::with_capacity(rows.num_rows()); self.actions.len()];
        let mut chosen = Vec::with_capacity(rows.num_rows());
        let (mut of_row, mut shares) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            self.rows += 1;
            of_row.clear();
            of_row.extend(scores.iter().map(|action| action[row]));
            self.policy.propensities(&of_row, self.rows, &mut shares);
            chosen.push(draw(&shares, self.seed, self.rows));
            propensities.iter_mut().zip(&shares).for_each(|(action, share)| action.push(*share));
        }
        Ok((chosen, propensities))
    }
}

impl Processor for Decider {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let first = self.rows as i64 + 1;
        let (chosen, propensities) = self.decide(&batch.rows)?;
        let of_chosen = chosen.iter().enumerate().map(|(row, action)| propensities[*action][row]);
        let of_chosen: ArrayRef = Arc::new(Float64Array::from_iter_values(of_chosen));
        let names = chosen.iter().map(|action| self.actions[*action].name());
        let by_action = propensities.into_iter().map(|action| Arc::new(Float64Array::from(action)) as ArrayRef);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(first..first + chosen.len() as i64)),
            Arc::new(StringArray::from_iter_values(names)),
            of_chosen,
            Arc::new(StructArray::try_new(self.actions.clone(), by_action.collect(), None)?),
        ];
        let rows = append(&batch.rows, columns, &self.schema)?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put(ROWS, &self.rows)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.rows = state.get(ROWS)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
