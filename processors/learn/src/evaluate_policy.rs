//! The node `evaluate_policy`: what a policy would have been worth, by what another one has chosen.

use std::collections::HashMap;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, Float64Type, Schema};
use millstream_core::{
    Batch, Collector, Error, Figures, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Report, Result, Snapshot, State, Stream, Uses, require_column, type_name,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::decide::{actions_of, numbers_of};

/// Estimates what a policy would have been worth, from rows for which another one has chosen by chance, and passes the rows on as they are.
///
/// A row has what was chosen for it, how probable that was, what it was worth, and how probable each action is by the policy that is judged, such as
/// the columns of a node `decide`, `as = "new_"`. Rows without a reward are passed on and not counted; those whose propensity is none, or whose
/// action the policy does not know, leave by the port `failed`. The figures are the mean reward as it was (`logged`), and the estimates of that
/// of the policy, each with its standard error:
///
/// `ips` weighs rewards by how many times as probable the choice is by the policy (inverse propensity scores): right in the mean, and unsteady where
/// weights are large. `snips` divides by the sum of the weights instead of the number of rows: steadier, and hardly wrong. `dr` (doubly robust: Dudík,
/// Langford & Li, 2011), where `worth` names expectations, corrects these by what they were wrong about: it is right if they are, or if the propensities
/// are. `effective_rows` says to how many rows of equal weight this amounts; where they are few, the policies are too different to say anything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluatePolicySettings {
    /// The column with what the row was worth: a number.
    reward: String,
    /// The column with the action that was chosen.
    #[serde(default = "chosen")]
    action: String,
    /// The column with how probable that choice was.
    #[serde(default = "propensity")]
    propensity: String,
    /// The column with how probable each action is by the policy that is judged: a struct with a number for each.
    policy: String,
    /// The column with what each action is expected to be worth, for `dr`: a struct with a number for each.
    worth: Option<String>,
}

fn chosen() -> String {
    "chosen".to_owned()
}

fn propensity() -> String {
    "propensity".to_owned()
}

impl Kind for EvaluatePolicySettings {
    const NAME: &'static str = "evaluate_policy";
    const ALSO_CALLED: &'static [&'static str] = &["off_policy", "ips"];
    const EXAMPLE: &'static str = r#"reward = "clicked"
policy = "new_propensities"
worth = "scores""#;
}

impl ProcessorSettings for EvaluatePolicySettings {
    fn plan(&self, _context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let mut problems = Problems::new();
        for (key, column) in [("reward", &self.reward), ("propensity", &self.propensity)] {
            problems.extend(check_number(column, schema).err().map(|problem| problem.under(key)));
        }
        problems.extend(self.check_action(schema).err().map(|problem| problem.under("action")));
        let actions = actions_of(&self.policy, schema).map_err(|problem| problems.push(problem.under("policy"))).ok();
        if let Some(worth) = &self.worth {
            problems.extend(actions_of(worth, schema).err().map(|problem| problem.under("worth")));
        }
        let (Some(actions), []) = (actions, &problems[..]) else { return Err(problems) };
        let columns = [&self.reward, &self.action, &self.propensity, &self.policy].into_iter().chain(&self.worth);
        let uses = Uses::passing_on(columns.cloned().collect::<Vec<_>>());
        let ports = vec![PortPlan::main(schema.clone())];
        let judge = Judge {
            reward: self.reward.clone(),
            action: self.action.clone(),
            propensity: self.propensity.clone(),
            policy: self.policy.clone(),
            worth: self.worth.clone(),
            actions,
            sums: Sums::default(),
        };
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: true, build: Box::new(|| Ok(Box::new(judge))) })
    }
}

impl EvaluatePolicySettings {
    fn check_action(&self, schema: &Schema) -> Result<(), Problem> {
        let field = require_column(&self.action, schema)?;
        let is_class =
            matches!(field.data_type(), DataType::Utf8 | DataType::Boolean) || field.data_type().is_integer();
        let problem = || format!("action `{}` is {}, and no class", self.action, type_name(field.data_type()));
        if is_class { Ok(()) } else { Err(Problem::new(problem())) }
    }
}

fn check_number(column: &str, schema: &Schema) -> Result<(), Problem> {
    let data_type = require_column(column, schema)?.data_type();
    if data_type.is_numeric() || *data_type == DataType::Boolean {
        return Ok(());
    }
    Err(Problem::new(format!("column `{column}` is {}, and should be a number", type_name(data_type))))
}

/// Sums over the rows that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    rows: u64,
    rewards: f64,
    /// Of the weights, and of their squares.
    weights: f64,
    squares: f64,
    /// Of the rewards times weights, of the squares of that, and of the rewards times the squares of the weights.
    ips: f64,
    ips_squares: f64,
    rewards_by_squares: f64,
    /// Of the doubly robust estimates, and of their squares.
    dr: f64,
    dr_squares: f64,
}

impl Sums {
    fn add(&mut self, reward: f64, weight: f64, expected: f64, of_policy: f64) {
        self.rows += 1;
        self.rewards += reward;
        self.weights += weight;
        self.squares += weight * weight;
        self.ips += weight * reward;
        self.ips_squares += (weight * reward) * (weight * reward);
        self.rewards_by_squares += weight * weight * reward;
        let dr = of_policy + weight * (reward - expected);
        self.dr += dr;
        self.dr_squares += dr * dr;
    }

    /// The figures; none without rows.
    fn figures(&self, has_dr: bool) -> Vec<(&'static str, f64)> {
        let rows = self.rows as f64;
        let mean_and_error = |sum: f64, squares: f64| {
            let mean = sum / rows;
            (mean, ((squares / rows - mean * mean).max(0.0) / rows).sqrt())
        };
        let (ips, ips_error) = mean_and_error(self.ips, self.ips_squares);
        let snips = self.ips / self.weights;
        let spread = self.ips_squares - 2.0 * snips * self.rewards_by_squares + snips * snips * self.squares;
        let snips_error = spread.max(0.0).sqrt() / self.weights;
        let (dr, dr_error) = mean_and_error(self.dr, self.dr_squares);
        let all = [
            ("logged", self.rewards / rows),
            ("ips", ips),
            ("ips_error", ips_error),
            ("snips", snips),
            ("snips_error", snips_error),
            ("dr", dr),
            ("dr_error", dr_error),
            ("effective_rows", self.weights * self.weights / self.squares),
        ];
        let is_said = |(name, value): &(&str, f64)| value.is_finite() && (has_dr || !name.starts_with("dr"));
        all.into_iter().filter(is_said).collect()
    }
}

struct Judge {
    reward: String,
    action: String,
    propensity: String,
    policy: String,
    worth: Option<String>,
    actions: Fields,
    sums: Sums,
}

/// What the rows of a batch say.
struct Said {
    /// The indexes of actions; none where the policy does not know it.
    actions: Vec<Option<usize>>,
    propensities: Vec<f64>,
    rewards: Vec<f64>,
    /// By action, how probable the policy finds it.
    policy: Vec<Vec<f64>>,
}

/// Rewards are at most so large, and so is what is expected.
const LARGEST: f64 = 1e100;

/// What was less probable says next to nothing, with a weight beside which no other counts.
const LEAST_PROPENSITY: f64 = 1e-9;

impl Judge {
    fn read(&self, rows: &RecordBatch) -> Result<Said> {
        let texts = cast(column(rows, &self.action)?, &DataType::Utf8)?;
        let indexes = self.actions.iter().enumerate().map(|(index, action)| (action.name().as_str(), index));
        let indexes: HashMap<_, _> = indexes.collect();
        let actions = texts.as_string::<i32>().iter().map(|text| indexes.get(text?).copied()).collect();
        let (propensities, rewards) = (numbers(rows, &self.propensity)?, numbers(rows, &self.reward)?);
        Ok(Said { actions, propensities, rewards, policy: numbers_of(&self.policy, &self.actions, rows)? })
    }

    /// Why a row can't be counted, if that is so. A row without a reward is not to be counted.
    fn why_refused(&self, said: &Said, row: usize) -> Option<String> {
        let (propensity, reward) = (said.propensities[row], said.rewards[row]);
        if reward.is_nan() {
            return None;
        }
        if said.actions[row].is_none() {
            return Some(format!("action `{}` is none that the policy knows", self.action));
        }
        if !(LEAST_PROPENSITY..=1.0).contains(&propensity) {
            let problem = "and should be a probability, 1e-9 at least";
            return Some(format!("propensity `{}` is {propensity}, {problem}", self.propensity));
        }
        let of_row = said.policy.iter().map(|action| action[row]);
        let sum: f64 = of_row.clone().sum();
        if !of_row.clone().all(|share| (0.0..=1.0).contains(&share)) || (sum - 1.0).abs() > 1e-6 {
            return Some(format!("column `{}` has no probabilities that add up to 1", self.policy));
        }
        let problem = || format!("reward `{}` is {reward}; rewards are numbers up to {LARGEST:e}", self.reward);
        (reward.abs() > LARGEST).then(problem)
    }

    fn count(&mut self, rows: &RecordBatch, said: &Said, refused: &BooleanArray) -> Result<()> {
        let policy = &said.policy;
        let worth = self.worth.as_ref().map(|worth| numbers_of(worth, &self.actions, rows)).transpose()?;
        for row in (0..rows.num_rows()).filter(|row| !refused.value(*row)) {
            let (Some(action), reward) = (said.actions[row], said.rewards[row]) else { continue };
            let weight = policy[action][row] / said.propensities[row];
            if reward.is_nan() {
                continue;
            }
            let known = worth.as_ref().filter(|worth| worth.iter().all(|action| action[row].abs() <= LARGEST));
            let expected = known.map_or(0.0, |worth| worth[action][row]);
            let of_policy = known.map_or(0.0, |worth| {
                policy.iter().zip(worth).fold(0.0, |sum, (policy, worth)| sum + policy[row] * worth[row])
            });
            self.sums.add(reward, weight, expected, of_policy);
        }
        Ok(())
    }
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::new(format!("the rows have no column `{name}`")))
}

/// A column as numbers. Null is NaN.
fn numbers(rows: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let numbers = cast(column(rows, name)?, &DataType::Float64)?;
    Ok(numbers.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

impl Processor for Judge {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let said = self.read(&batch.rows)?;
        let refused: BooleanArray = (0..batch.len()).map(|row| Some(self.why_refused(&said, row).is_some())).collect();
        self.count(&batch.rows, &said, &refused)?;
        if refused.true_count() == 0 {
            out.push(0, batch);
            return Ok(());
        }
        let rows = out.fail_rows(&batch, &refused, |row| self.why_refused(&said, row).unwrap_or_default())?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut parts = Parts::default();
        parts.put(SUMS, &self.sums)?;
        Ok(Snapshot::of(parts))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.sums = state.get(SUMS)?;
        Ok(())
    }

    fn report(&self) -> Option<Report> {
        // More digits than their errors have would say nothing.
        let rounded = |value: f64| format!("{value:.5e}").parse().unwrap_or(value);
        let figures = self.sums.figures(self.worth.is_some()).into_iter();
        let figures = figures.map(|(name, value)| (name, json!(rounded(value))));
        let values = [("rows", json!(self.sums.rows))].into_iter().chain(figures).collect();
        Some(Report::Figures(Figures { title: "policy".to_owned(), values }))
    }
}

/// The part of the state with the sums.
const SUMS: &str = "sums";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray, StructArray};
    use arrow::datatypes::Field;
    use millstream_testkit::{context, drive, parse, stream};

    use super::*;

    const SETTINGS: &str = "reward = 'reward'\npolicy = 'new'\nworth = 'worth'";

    fn by_action(a: &[f64], b: &[f64]) -> ArrayRef {
        let fields: Fields = ["a", "b"].map(|name| Field::new(name, DataType::Float64, false)).to_vec().into();
        let column = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        Arc::new(StructArray::try_new(fields, vec![column(a), column(b)], None).unwrap())
    }

    /// What a policy chose that takes `a` for two rows of ten; `a` is worth 1 for even rows, and `b` a half for all.
    fn log(rows: usize) -> RecordBatch {
        let is_a = |row: usize| row * 7 % 10 < 2;
        let reward = |row: usize| if is_a(row) { f64::from(row.is_multiple_of(2)) } else { 0.5 };
        let all = |of: &dyn Fn(usize) -> f64| (0..rows).map(of).collect::<Vec<_>>();
        let chosen = (0..rows).map(|row| Some(if is_a(row) { "a" } else { "b" }));
        let even = |row: usize| f64::from(row.is_multiple_of(2));
        RecordBatch::try_from_iter([
            ("chosen", Arc::new(chosen.collect::<StringArray>()) as ArrayRef),
            ("propensity", Arc::new(Float64Array::from(all(&|row| if is_a(row) { 0.2 } else { 0.8 })))),
            ("reward", Arc::new(Float64Array::from(all(&reward)))),
            // It takes `a` for even rows, and `b` for others.
            ("new", by_action(&all(&even), &all(&|row| 1.0 - even(row)))),
            ("worth", by_action(&all(&|_| 0.5), &all(&|_| 0.5))),
        ])
        .unwrap()
    }

    fn figures(settings: &str, rows: RecordBatch, batch_rows: usize) -> HashMap<&'static str, f64> {
        let settings: EvaluatePolicySettings = parse(settings);
        let Some(Report::Figures(figures)) = drive(&settings, &[("from", rows)], batch_rows).report else { panic!() };
        figures.values.into_iter().map(|(name, value)| (name, value.as_f64().unwrap())).collect()
    }

    #[test]
    fn a_policy_is_worth_what_it_would_have_been() {
        let found = figures(SETTINGS, log(5000), 100);
        // Even rows would be worth 1, and others a half.
        for estimate in ["ips", "snips", "dr"] {
            let error = found[&*format!("{estimate}_error")];
            assert!((found[estimate] - 0.75).abs() < 0.01 && error < 0.05, "{found:?}");
        }
        assert!((found["logged"] - 0.5).abs() < 1e-9 && found["rows"] == 5000.0, "{found:?}");
        assert!(found["dr_error"] < found["ips_error"] && found["effective_rows"] < 2500.0, "{found:?}");
        assert_eq!(figures(SETTINGS, log(5000), 7), found);
        assert!(!figures("reward = 'reward'\npolicy = 'new'", log(50), 7).contains_key("dr"));
    }

    #[test]
    fn estimates_are_those_of_the_formulas() {
        let mut sums = Sums::default();
        for (reward, weight, expected, of_policy) in [(1.0, 2.0, 0.5, 0.7), (0.0, 0.5, 0.25, 0.1), (3.0, 0.0, 1.0, 2.0)]
        {
            sums.add(reward, weight, expected, of_policy);
        }
        let found: HashMap<_, _> = sums.figures(true).into_iter().collect();
        let near = |name: &str, wanted: f64| assert!((found[name] - wanted).abs() < 1e-12, "{name}: {found:?}");
        near("ips", 2.0 / 3.0);
        near("snips", 0.8);
        near("snips_error", (4.0_f64 * 0.04 + 0.25 * 0.64).sqrt() / 2.5);
        near("dr", (1.7 + (0.1 - 0.125) + 2.0) / 3.0);
        near("effective_rows", 6.25 / 4.25);
        assert!(Sums::default().figures(true).is_empty());
    }

    #[test]
    fn rows_that_say_nothing_true_are_refused() {
        let rows = log(4);
        let columns = [("chosen", Arc::new(StringArray::from(vec!["a", "c", "b", "b"])) as ArrayRef)]
            .into_iter()
            .chain([("propensity", Arc::new(Float64Array::from(vec![0.5, 0.5, 0.0, 0.5])) as ArrayRef)])
            .chain([("reward", Arc::new(Float64Array::from(vec![Some(1.0), Some(1.0), Some(1.0), None])) as ArrayRef)]);
        let others = ["new", "worth"].map(|name| (name, rows.column_by_name(name).unwrap().clone()));
        let rows = RecordBatch::try_from_iter(columns.chain(others)).unwrap();
        let settings: EvaluatePolicySettings = parse(SETTINGS);
        let driven = drive(&settings, &[("from", rows.clone())], 100);
        let failed: Vec<_> = driven.failed.iter().map(|row| row.error.as_str()).collect();
        assert!(
            failed[0].contains("none that the policy knows") && failed[1].contains("propensity` is 0"),
            "{failed:?}"
        );
        assert_eq!((failed.len(), driven.text("main").lines().count()), (2, 3));
        assert_eq!(figures(SETTINGS, rows.clone(), 100)["rows"], 1.0);
        let refused = |settings: &str| {
            let settings: EvaluatePolicySettings = parse(settings);
            settings.plan(&context(), &[stream("from", rows.schema())]).unwrap_err().remove(0).to_string()
        };
        assert!(refused("reward = 'chosen'\npolicy = 'new'").contains("should be a number"));
        assert!(refused("reward = 'reward'\npolicy = 'reward'").contains("for each action"));
    }
}
