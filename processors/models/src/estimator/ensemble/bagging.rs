//! One estimator several times, on rows and columns that are drawn.

use super::super::random::{Poisson, Random};
use super::*;
use crate::encode::{Encoders, Missing, Rows};
use crate::threads;

/// Numbers, or two or more classes: the same estimator several times, each of which learns every row as often as a Poisson distribution says (Oza &
/// Russell, "Online bagging and boosting", 2001), and by features of its own, which are drawn; the mean of what they predict is predicted.
///
/// Take it where an estimator is quick to follow and unsteady, as trees and large learning rates are; the mean of several is steadier. (Forests
/// are `adaptive_random_forest` and `leveraging_bagging`, which also replace trees that get worse.) It takes as long as all of them together, on
/// several threads if there are any. An estimator that can't have rows count more than once learns those that are drawn, once.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct Bagging {
    /// The estimator, as `estimator` has it: `{ type = "hoeffding_tree" }`.
    #[schemars(schema_with = "an_estimator")]
    estimator: EstimatorSettings,
    /// How many there are.
    #[serde(default = "n_models")]
    #[schemars(range(min = 1, max = 100))]
    n_models: u32,
    /// How often a row counts on average.
    #[serde(default = "lambda")]
    lambda: f64,
    /// The share of the features that each of them has: at least one.
    #[serde(default = "max_features")]
    max_features: f64,
    /// What is drawn by chance follows from this.
    #[serde(default)]
    seed: u64,
}

fn n_models() -> u32 {
    10
}

fn lambda() -> f64 {
    1.0
}

fn max_features() -> f64 {
    1.0
}

impl Kind for Bagging {
    const NAME: &'static str = "bagging";
    const EXAMPLE: &'static str =
        "estimator = { type = \"hoeffding_tree\", grace_period = 50 }\nn_models = 3\nmax_features = 0.7";
}

impl Bagging {
    /// The features of a member, by their index: each set of them is as probable as any other.
    pub(super) fn features_of(&self, member: u32, count: usize) -> Vec<usize> {
        // Less than the next whole number by what a float may be off.
        let drawn = (self.max_features * count as f64 - 1e-9).ceil().max(1.0) as usize;
        let mut indexes: Vec<usize> = (0..count).collect();
        let mut random = Random::new(self.seed, u64::from(member) << 1, 0);
        for index in 0..drawn.min(count) {
            let other = index + random.below(count - index);
            indexes.swap(index, other);
        }
        indexes.truncate(drawn);
        indexes.sort_unstable();
        indexes
    }
}

impl Settings for Bagging {
    fn takes(&self) -> Takes {
        self.estimator.takes()
    }

    fn labels(&self) -> Labels {
        self.estimator.labels()
    }

    fn takes_weights(&self) -> bool {
        self.estimator.takes_weights()
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        self.estimator.gives(classes)
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[
            ("n_models", self.n_models.into(), 1.0, MOST_MEMBERS as f64),
            ("lambda", self.lambda, 0.01, 100.0),
            ("max_features", self.max_features, 0.0, 1.0),
        ])?;
        check_member(&self.estimator, classes).map_err(|problem| problem.under("estimator"))
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        let fits = |member: u32| {
            let own: Vec<_> =
                self.features_of(member, features.len()).into_iter().map(|index| features[index].clone()).collect();
            self.estimator.settings().check_features(&own).map_err(|problem| problem.under("estimator"))
        };
        (0..self.n_models.min(MOST_MEMBERS as u32)).try_for_each(fits)
    }

    fn largest(&self) -> f64 {
        self.estimator.settings().largest()
    }

    fn can_diverge(&self) -> bool {
        self.estimator.settings().can_diverge()
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        self.estimator.settings().most_numbers(features, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let member = |number| {
            let indexes = self.features_of(number, features.len());
            let own: Vec<_> = indexes.iter().map(|index| features[*index].clone()).collect();
            let settings = self.estimator.settings();
            // Rows that lack a feature have been refused before, if they are to be.
            let encoders = Encoders::new(&own, Missing::Mean);
            Member {
                number,
                encoders,
                columns: Columns::of(features, &indexes),
                estimator: settings.build(&own, classes),
            }
        };
        Box::new(Bag {
            members: (0..self.n_models).map(member).collect(),
            seed: self.seed,
            poisson: Poisson::new(self.lambda),
            rows: 0,
        })
    }
}

/// Which columns of all rows there are, among numbers and among categories.
#[derive(Clone, Debug)]
struct Columns {
    numbers: Vec<usize>,
    texts: Vec<usize>,
}

impl Columns {
    fn of(features: &[Feature], indexes: &[usize]) -> Self {
        let kind = |is_number: bool| {
            let of_kind = (0..features.len()).filter(|index| features[*index].encoder.is_number() == is_number);
            of_kind.enumerate().filter(|(_, index)| indexes.contains(index)).map(|(place, _)| place).collect()
        };
        Self { numbers: kind(true), texts: kind(false) }
    }
}

#[derive(Clone, Debug)]
struct Member {
    number: u32,
    columns: Columns,
    encoders: Encoders,
    estimator: Box<dyn Estimator>,
}

/// Estimators, each with rows and columns of its own.
#[derive(Clone, Debug)]
struct Bag {
    members: Vec<Member>,
    seed: u64,
    poisson: Poisson,
    /// How many rows it has learned.
    rows: u64,
}

impl Bag {
    /// How much each row counts for a member.
    fn weights(&self, member: u32, step: &Step<'_>) -> Vec<f64> {
        let mut random = Random::new(self.seed, u64::from(member) << 1 | 1, self.rows);
        let weight = |row: usize| match step.target(row) {
            Some(_) => step.weight(row) * f64::from(self.poisson.draw(&mut random)),
            None => 0.0,
        };
        (0..step.rows.count()).map(weight).collect()
    }
}

/// The means of what members predicted.
fn put_together(of_members: &[Vec<f64>], into: &mut [f64]) {
    for (index, into) in into.iter_mut().enumerate() {
        *into = of_members.iter().map(|of| of[index]).sum::<f64>() / of_members.len() as f64;
    }
}

impl Estimator for Bag {
    fn outputs(&self) -> usize {
        self.members[0].estimator.outputs()
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        let count = step.rows.count();
        let weights: Vec<_> = self.members.iter().map(|member| self.weights(member.number, &step)).collect();
        let mut of_members = vec![vec![0.0; count * self.outputs()]; self.members.len()];
        let mut results: Vec<_> = self.members.iter().map(|_| Ok(0)).collect();
        let work = self.members.iter_mut().zip(&weights).zip(&mut of_members).zip(&mut results).collect();
        let (all, targets) = (step.rows, step.targets);
        threads::share(work, count >= members::LEAST_WORK, |(((member, weights), predictions), result)| {
            let (rows, encoders) =
                (&all.of_columns(&member.columns.numbers, &member.columns.texts), &mut member.encoders);
            let step = Step { encoders, rows, targets, rewards: &[], weights, learn: None, predictions };
            *result = member.estimator.step(step);
        });
        results.into_iter().collect::<Result<Vec<_>>>()?;
        put_together(&of_members, step.predictions);
        let learned = (0..count).filter(|row| step.target(*row).is_some()).count() as u64;
        self.rows += learned;
        Ok(learned)
    }

    fn predict(&self, Predict { rows: all, predictions, .. }: Predict<'_>) -> Result<()> {
        let count = all.count();
        let mut of_members = vec![vec![0.0; count * self.outputs()]; self.members.len()];
        let mut results: Vec<_> = self.members.iter().map(|_| Ok(())).collect();
        let work = self.members.iter().zip(&mut of_members).zip(&mut results).collect();
        threads::share(work, count >= members::LEAST_WORK, |((member, predictions), result)| {
            let rows: &Rows = &all.of_columns(&member.columns.numbers, &member.columns.texts);
            *result = member.estimator.predict(Predict { encoders: &member.encoders, rows, predictions });
        });
        results.into_iter().collect::<Result<()>>()?;
        put_together(&of_members, predictions);
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        tensors.put_u64("estimator.rows", &[self.rows]);
        for member in &self.members {
            let mut own = Tensors::default();
            member.encoders.save(&mut own);
            member.estimator.save(&mut own)?;
            tensors.put_under(&members::name(member.number as usize), own);
        }
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s("estimator.rows")?;
        let rows = rows.first().filter(|rows| **rows < 1 << 53);
        self.rows = *rows.ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        for member in &mut self.members {
            let own = tensors.under(&members::name(member.number as usize));
            member.encoders.load(&own)?;
            member.estimator.load(&own)?;
        }
        Ok(())
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}
