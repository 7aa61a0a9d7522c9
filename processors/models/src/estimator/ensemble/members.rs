//! Estimators that learn the same rows side by side.

use millstream_core::Result;

use super::{Class, Estimator, EstimatorSettings, Feature, Gives, Predict, Step, Tensors};
use crate::encode::Encoders;
use crate::threads;

/// Fewer rows are no work for a second thread.
pub(super) const LEAST_WORK: usize = 64;

/// An estimator, and what encodes its rows while it learns. All learn the same rows, so that these are those of the model after every batch.
#[derive(Clone, Debug)]
struct Member {
    gives: Gives,
    estimator: Box<dyn Estimator>,
    /// None of the first, which has those of the model, and none of the others before they learn: they begin with those.
    encoders: Option<Encoders>,
}

#[derive(Clone, Debug)]
pub(super) struct Members(Vec<Member>);

/// What members predicted for some rows.
pub(super) struct Votes {
    /// By member, how many numbers a prediction has, what they are, and all of them.
    of_members: Vec<(usize, Gives, Vec<f64>)>,
}

impl Votes {
    /// What the members predicted for a row, in their order, and what it is.
    pub fn of_row(&self, row: usize) -> impl Iterator<Item = (&[f64], Gives)> + Clone {
        self.of_members.iter().map(move |(outputs, gives, all)| (&all[row * outputs..(row + 1) * outputs], *gives))
    }
}

impl Members {
    pub fn new(settings: &[EstimatorSettings], features: &[Feature], classes: &[Class]) -> Self {
        let member = |settings: &EstimatorSettings| Member {
            gives: settings.gives(classes),
            estimator: settings.settings().build(features, classes),
            encoders: None,
        };
        Self(settings.iter().map(member).collect())
    }

    /// How many numbers the predictions of all have together.
    pub fn outputs(&self) -> usize {
        self.0.iter().map(|member| member.estimator.outputs()).sum()
    }

    fn votes(&self, rows: usize) -> Votes {
        let room = |member: &Member| {
            let outputs = member.estimator.outputs();
            (outputs, member.gives, vec![0.0; rows * outputs])
        };
        Votes { of_members: self.0.iter().map(room).collect() }
    }

    /// Has all predict and learn the rows. The encoders of the step learn them, too. Returns what they predicted, and how many rows were learned.
    pub fn step(&mut self, step: &mut Step<'_>) -> Result<(Votes, u64)> {
        let (rows, targets, rewards) = (step.rows, step.targets, step.rewards);
        let (weights, learn) = (step.weights, step.learn);
        for member in self.0.iter_mut().skip(1) {
            member.encoders.get_or_insert_with(|| step.encoders.clone());
        }
        let mut votes = self.votes(rows.count());
        let mut results: Vec<_> = self.0.iter().map(|_| Ok(0)).collect();
        let mut of_model = Some(&mut *step.encoders);
        let work = self.0.iter_mut().zip(&mut votes.of_members).zip(&mut results);
        let work = work.filter_map(|((member, (.., predictions)), result)| {
            let encoders = member.encoders.as_mut().or_else(|| of_model.take())?;
            Some((&mut member.estimator, encoders, predictions, result))
        });
        let work = work.collect();
        threads::share(work, rows.count() >= LEAST_WORK, |(estimator, encoders, predictions, result)| {
            *result = estimator.step(Step { encoders, rows, targets, rewards, weights, learn, predictions });
        });
        let mut learned = 0;
        for result in results {
            learned = result?;
        }
        Ok((votes, learned))
    }

    /// Has all predict rows.
    pub fn predict(&self, predict: &Predict<'_>) -> Result<Votes> {
        let (encoders, rows) = (predict.encoders, predict.rows);
        let mut votes = self.votes(rows.count());
        let mut results: Vec<_> = self.0.iter().map(|_| Ok(())).collect();
        let work = self.0.iter().zip(&mut votes.of_members).zip(&mut results).collect();
        threads::share(work, rows.count() >= LEAST_WORK, |((member, (.., predictions)), result)| {
            *result = member.estimator.predict(Predict { encoders, rows, predictions });
        });
        results.into_iter().collect::<Result<()>>().map(|()| votes)
    }

    pub fn save(&self, tensors: &mut Tensors) -> Result<()> {
        for (index, member) in self.0.iter().enumerate() {
            let mut own = Tensors::default();
            member.estimator.save(&mut own)?;
            tensors.put_under(&name(index), own);
        }
        Ok(())
    }

    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        for (index, member) in self.0.iter_mut().enumerate() {
            member.estimator.load(&tensors.under(&name(index)))?;
            member.encoders = None;
        }
        Ok(())
    }
}

/// What the names of a member's tensors begin with.
pub(super) fn name(index: usize) -> String {
    format!("estimator.{index}.")
}
