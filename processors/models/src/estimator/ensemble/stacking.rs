//! Estimators whose predictions another one learns from.

use std::iter::once;

use arrow::array::Float64Array;

use super::*;
use crate::encode::{Encoder, Encoders, Missing, Rows};

/// Numbers, or two or more classes: several estimators of any types learn every row, and another one learns from what they predicted for it
/// before (scikit-learn's `StackingClassifier` and `StackingRegressor`, whose predictions of rows that were not learned take cross-validation). So it
/// finds out whom to trust, and when all of them say too little or too much.
///
/// Take it where `voting` is not enough, and where rows are many: the last estimator has to learn as well. Features are encoded alike for all:
/// numbers are standardised if one of them needs that; what they predict is standardised for the last one, if that takes numbers of about one size.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct Stacking {
    /// The estimators, as `estimator` has them: `[{ type = "hoeffding_tree" }, { type = "logistic_regression" }]`.
    #[schemars(schema_with = "list_of_estimators")]
    estimators: Vec<EstimatorSettings>,
    /// The one that learns from what they predict.
    #[schemars(schema_with = "an_estimator")]
    final_estimator: EstimatorSettings,
}

impl Kind for Stacking {
    const NAME: &'static str = "stacking";
    const EXAMPLE: &'static str = "estimators = [{ type = \"k_neighbors_classifier\" }, { type = \"hoeffding_tree\" }]\n\
                                   final_estimator = { type = \"softmax_regression\", learning_rate = 0.05 }";
}

impl Stacking {
    fn all(&self) -> impl Iterator<Item = &EstimatorSettings> {
        self.estimators.iter().chain(once(&self.final_estimator))
    }

    /// What the last estimator learns from: each number that the others predict.
    fn predicted(&self, features: &[Feature], classes: &[Class]) -> Vec<Feature> {
        let encoder = if self.final_estimator.takes() == Takes::Raw { Encoder::Raw } else { Encoder::Standardise };
        let count = Members::new(&self.estimators, features, classes).outputs();
        let feature = |number| Feature::new(format!("{number}"), "float64", encoder);
        (0..count).map(feature).collect()
    }
}

impl Settings for Stacking {
    fn takes(&self) -> Takes {
        takes(&self.estimators)
    }

    fn labels(&self) -> Labels {
        labels(&self.estimators)
    }

    fn takes_weights(&self) -> bool {
        self.all().all(EstimatorSettings::takes_weights)
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        self.final_estimator.gives(classes)
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_members(&self.estimators, classes)?;
        check_member(&self.final_estimator, classes).map_err(|problem| problem.under("final_estimator"))
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        check_features(&self.estimators, features)
    }

    fn largest(&self) -> f64 {
        self.all().map(|member| member.settings().largest()).fold(f64::MAX, f64::min)
    }

    fn can_diverge(&self) -> bool {
        can_diverge(self.all())
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        // Members predict one number for each class at most, or one for each quantile and one besides.
        let predicted = |member: &EstimatorSettings| match member.gives(classes) {
            Gives::Quantiles(quantiles) => 1 + quantiles.shares().len(),
            _ => classes.len().max(1),
        };
        let predicted = self.estimators.iter().map(predicted).sum::<usize>() as u64;
        let of_last = self.final_estimator.settings().most_numbers(&[], classes);
        let of_members = most_numbers(&self.estimators, features, classes);
        of_members.max(of_last.saturating_add(predicted.saturating_mul(classes.len().max(1) as u64 + 1)))
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let predicted = self.predicted(features, classes);
        Box::new(Stack {
            members: Members::new(&self.estimators, features, classes),
            encoders: Encoders::new(&predicted, Missing::Fail),
            last: self.final_estimator.settings().build(&predicted, classes),
        })
    }
}

/// Members, and what learns from what they predict.
#[derive(Clone, Debug)]
struct Stack {
    members: Members,
    encoders: Encoders,
    last: Box<dyn Estimator>,
}

impl Stack {
    /// What members predicted, as rows.
    fn rows(&self, votes: &members::Votes, rows: usize) -> Rows {
        let mut columns = vec![Vec::with_capacity(rows); self.members.outputs()];
        for row in 0..rows {
            let numbers = votes.of_row(row).flat_map(|(prediction, _)| prediction);
            columns.iter_mut().zip(numbers).for_each(|(column, number)| column.push(*number));
        }
        Rows::of_numbers(rows, columns.into_iter().map(Float64Array::from).collect())
    }
}

impl Estimator for Stack {
    fn outputs(&self) -> usize {
        self.last.outputs()
    }

    fn step(&mut self, mut step: Step<'_>) -> Result<u64> {
        let (votes, learned) = self.members.step(&mut step)?;
        let rows = self.rows(&votes, step.rows.count());
        let Step { targets, rewards, weights, learn, predictions, .. } = step;
        let encoders = &mut self.encoders;
        self.last.step(Step { encoders, rows: &rows, targets, rewards, weights, learn, predictions })?;
        Ok(learned)
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        let votes = self.members.predict(&predict)?;
        let rows = self.rows(&votes, predict.rows.count());
        self.last.predict(Predict { encoders: &self.encoders, rows: &rows, predictions: predict.predictions })
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.members.save(tensors)?;
        let mut own = Tensors::default();
        self.encoders.save(&mut own);
        self.last.save(&mut own)?;
        tensors.put_under(LAST, own);
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.members.load(tensors)?;
        let own = tensors.under(LAST);
        self.encoders.load(&own)?;
        self.last.load(&own)
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}

/// What the names of the tensors of the last estimator begin with.
const LAST: &str = "estimator.last.";
