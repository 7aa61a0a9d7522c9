//! Estimators that vote.

use super::*;

/// Numbers, or two or more classes: several estimators of any types learn every row, and what they predict is put together (scikit-learn's
/// `VotingClassifier` and `VotingRegressor`). Of numbers it is the mean; of classes the mean of their probabilities (`soft`), or what most
/// are for (`hard`). Each vote counts as its estimator was right lately, unless something else is said.
///
/// Take it where estimators of several types do about equally well, or where each does best at times: what is wrong with one is often right with
/// another. Whether flights from New York are late, a line says with an AUC of 0.777, a tree with 0.666, and both with neighbours with 0.779; `stacking`
/// of the same with 0.781 (`flows/together.toml`). It takes as long as all of them together, on several threads if there are any. Features are encoded alike for all:
/// numbers are standardised if one of them needs that.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct Voting {
    /// The estimators, as `estimator` has them: `[{ type = "hoeffding_tree" }, { type = "logistic_regression" }]`.
    #[schemars(schema_with = "list_of_estimators")]
    estimators: Vec<EstimatorSettings>,
    /// What votes for classes are.
    #[serde(default)]
    voting: Votes,
    /// How much each estimator's vote counts.
    #[serde(default)]
    weights: Weights,
    /// How much the errors before count less with every further one, where votes count by `score`: with 0.99 about the last hundred count.
    #[serde(default = "score_decay")]
    #[schemars(range(min = 0, max = 1))]
    score_decay: f64,
}

/// What votes for classes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Votes {
    /// How probable each class is.
    #[default]
    Soft,
    /// The likeliest class.
    Hard,
}

/// How much votes count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Weights {
    /// By what is known of the estimators, or not.
    By(By),
    /// One for each estimator.
    Listed(Vec<f64>),
}

/// By what votes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// One by the mean of the squares of the last errors.
    Score,
    /// All the same.
    Uniform,
}

impl Default for Weights {
    fn default() -> Self {
        Self::By(By::Score)
    }
}

fn score_decay() -> f64 {
    0.99
}

impl Kind for Voting {
    const NAME: &'static str = "voting";
    const EXAMPLE: &'static str = "estimators = [{ type = \"k_neighbors_classifier\" }, { type = \"hoeffding_tree\" }]";
}

impl Settings for Voting {
    fn takes(&self) -> Takes {
        takes(&self.estimators)
    }

    fn labels(&self) -> Labels {
        labels(&self.estimators)
    }

    fn takes_weights(&self) -> bool {
        self.estimators.iter().all(EstimatorSettings::takes_weights)
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        if classes.is_empty() { Gives::Number } else { Gives::Probabilities }
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_members(&self.estimators, classes)?;
        check_from_to(&[("score_decay", self.score_decay, 0.0, 1.0)])?;
        let scores = |member: &EstimatorSettings| member.gives(classes) == Gives::Scores;
        if let Some(index) = self.estimators.iter().position(scores).filter(|_| self.voting == Votes::Soft) {
            let problem = format!("`{}` predicts scores, which are no probabilities", self.estimators[index].name());
            let problem = Problem::new(problem).help("say `voting = \"hard\"`, or take a loss with probabilities");
            return Err(problem.under(index).under("estimators"));
        }
        match &self.weights {
            Weights::Listed(weights) if weights.len() != self.estimators.len() => {
                let (weights, estimators) = (weights.len(), self.estimators.len());
                Err(Problem::new(format!("there are {weights} weights for {estimators} estimators")).under("weights"))
            }
            Weights::Listed(weights) if weights.iter().any(|weight| !(0.0..=1e6).contains(weight)) => {
                Err(Problem::new("weights should be numbers from 0 to 1000000").under("weights"))
            }
            Weights::Listed(weights) if weights.iter().sum::<f64>() <= 0.0 => {
                Err(Problem::new("one of the weights at least should be more than 0").under("weights"))
            }
            _ => Ok(()),
        }
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        check_features(&self.estimators, features)
    }

    fn largest(&self) -> f64 {
        self.estimators.iter().map(|member| member.settings().largest()).fold(f64::MAX, f64::min)
    }

    fn can_diverge(&self) -> bool {
        can_diverge(&self.estimators)
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        most_numbers(&self.estimators, features, classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let members = Members::new(&self.estimators, features, classes);
        let count = self.estimators.len();
        let (listed, by_score) = match &self.weights {
            Weights::Listed(weights) => (weights.clone(), None),
            Weights::By(By::Uniform) => (vec![1.0; count], None),
            Weights::By(By::Score) => (vec![1.0; count], Some(self.score_decay)),
        };
        let (classes, voting) = (Shape::new(features, classes).classes, self.voting);
        Box::new(Assembly { members, classes, voting, listed, by_score, errors: vec![0.0; count], counted: 0.0 })
    }
}

/// Members, and how much their votes count.
#[derive(Clone, Debug)]
struct Assembly {
    members: Members,
    classes: usize,
    voting: Votes,
    listed: Vec<f64>,
    /// How much older errors count less, if votes count by them.
    by_score: Option<f64>,
    /// By member, the squares of its errors, of which older ones count less, and how much all count together.
    errors: Vec<f64>,
    counted: f64,
}

impl Assembly {
    /// How much each vote counts.
    fn weights(&self, into: &mut Vec<f64>) {
        into.clone_from(&self.listed);
        if self.by_score.is_none() || self.counted == 0.0 {
            return;
        }
        // One that is hardly ever wrong is not all that counts.
        let most = self.errors.iter().copied().fold(0.0, f64::max);
        let least = most * 1e-3;
        if most > 0.0 {
            into.iter_mut().zip(&self.errors).for_each(|(weight, error)| *weight = most / error.max(least));
        }
    }

    /// How much a vote is for a class, or the number that it is for.
    fn vote(&self, (prediction, gives): (&[f64], Gives), class: usize) -> f64 {
        if self.classes == 0 {
            return prediction[0];
        }
        if self.voting == Votes::Hard {
            return f64::from(u8::from(likeliest(prediction, gives.certainty()) == class));
        }
        match (self.classes, class) {
            (2, 0) => 1.0 - positive(prediction),
            (2, _) => positive(prediction),
            _ => prediction[class],
        }
    }

    fn put_together(&self, votes: &members::Votes, row: usize, weights: &[f64], into: &mut [f64]) {
        let total: f64 = weights.iter().sum();
        let first = self.classes.saturating_sub(into.len());
        for (index, into) in into.iter_mut().enumerate() {
            let weighted = votes.of_row(row).zip(weights).map(|(vote, weight)| self.vote(vote, first + index) * weight);
            *into = weighted.sum::<f64>() / total;
        }
    }

    /// Counts the errors of votes on a row.
    fn score(&mut self, votes: &members::Votes, row: usize, target: f64, decay: f64) {
        for member in 0..self.errors.len() {
            let Some(vote) = votes.of_row(row).nth(member) else { continue };
            let off = if self.classes == 0 { target - vote.0[0] } else { 1.0 - self.vote(vote, target as usize) };
            self.errors[member] = decay * self.errors[member] + off * off;
        }
        self.counted = decay * self.counted + 1.0;
    }
}

impl Estimator for Assembly {
    fn outputs(&self) -> usize {
        outputs(self.classes)
    }

    fn step(&mut self, mut step: Step<'_>) -> Result<u64> {
        let (votes, learned) = self.members.step(&mut step)?;
        let (outputs, mut weights) = (self.outputs(), Vec::new());
        self.weights(&mut weights);
        for row in 0..step.rows.count() {
            self.put_together(&votes, row, &weights, &mut step.predictions[row * outputs..(row + 1) * outputs]);
            if let (Some(target), Some(decay)) = (step.target(row), self.by_score) {
                self.score(&votes, row, target, decay);
                self.weights(&mut weights);
            }
        }
        Ok(learned)
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        let votes = self.members.predict(&predict)?;
        let (outputs, mut weights) = (self.outputs(), Vec::new());
        self.weights(&mut weights);
        let predictions = predict.predictions.chunks_exact_mut(outputs).enumerate();
        predictions.for_each(|(row, into)| self.put_together(&votes, row, &weights, into));
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.members.save(tensors)?;
        tensors.put_f64("estimator.errors", &[self.errors.len()], &self.errors);
        tensors.put_f64("estimator.counted", &[1], &[self.counted]);
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.members.load(tensors)?;
        self.errors = tensors.f64s("estimator.errors", &[self.errors.len()])?;
        self.counted = tensors.f64s("estimator.counted", &[1])?[0];
        Ok(())
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}
