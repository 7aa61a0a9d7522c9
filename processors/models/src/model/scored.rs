//! Test, then train: a model that is scored on every row before it learns it.

use std::borrow::Cow;

use arrow::array::{Array, BooleanArray, RecordBatch};
use millstream_core::{Baselines, ConfusionMatrix, Error, Metrics, Parts, Result, State};
use serde::{Deserialize, Serialize};

use super::watched::Watched;
use super::{Copies, Input, Model, Predictions, Signature, diverged, divergence};
use crate::device::OpenDevice;
use crate::drift::DetectorSettings;
use crate::label::Class;
use crate::metrics::{BaselineScores, CoverageScores, Recent, Reliability, Scores};
use crate::profile::{FeatureProfile, Sample};

/// A model together with its scores, and those of the baselines on the same rows.
#[derive(Clone, Debug)]
pub struct ScoredModel {
    model: Model,
    scoreboard: Scoreboard,
    covered: Covered,
    /// Its errors, if they are watched.
    watched: Option<Watched>,
    /// What the learned rows look like.
    sample: Sample,
    copies: Copies,
}

/// All scores of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Scoreboard {
    learned: Scores,
    /// Target and prediction.
    recent: Recent<(f64, Box<[f64]>)>,
    held_out: Scores,
    baselines: BaselineScores,
}

/// How often the truth lay in the intervals of the rows that were learned, and of those that were held out.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Covered {
    learned: CoverageScores,
    held_out: CoverageScores,
}

impl Scoreboard {
    /// Of a model that has learned nothing.
    fn new(signature: &Signature) -> Self {
        Self {
            learned: signature.scores(),
            recent: Recent::default(),
            held_out: signature.scores(),
            baselines: signature.baselines(),
        }
    }

    /// Whether these may be the scores of a model like that of `other`, whoever wrote them.
    fn is_like(&self, other: &Self) -> bool {
        self.learned.are_like(&other.learned)
            && self.recent.rows().all(|(target, prediction)| other.learned.takes(*target, prediction))
            && self.held_out.are_like(&other.held_out)
            && self.baselines.are_like(&other.baselines)
    }
}

/// What is kept of a model's scores, and of the rows that it has learned.
#[derive(Serialize, Deserialize)]
struct Kept {
    scoreboard: Scoreboard,
    /// Of the learned rows, of those that were held out, and of the baselines.
    reliability: [Option<Reliability>; 3],
    sample: Sample,
}

/// What a row is scored by.
struct Scored<'a> {
    prediction: &'a [f64],
    /// What it was worth, if its label is an action.
    reward: Option<&'a f64>,
}

impl<'a> Scored<'a> {
    /// The reward stands behind the prediction.
    fn to_slice(&self) -> Cow<'a, [f64]> {
        match self.reward {
            None => Cow::Borrowed(self.prediction),
            Some(reward) => self.prediction.iter().copied().chain([*reward]).collect(),
        }
    }
}

/// The parts of the state.
const MODEL: &str = "model";
const SCORED: &str = "scored";
const DRIFT: &str = "drift";
const COVERED: &str = "covered";

/// The part of format 4 in place of `scored`: a scoreboard, and nothing beside it.
const SCORES_OF_FORMAT_4: &str = "scores";

impl ScoredModel {
    /// A model that has learned nothing.
    pub fn new(signature: Signature) -> Self {
        let scoreboard = Scoreboard::new(&signature);
        let (model, sample) = (Model::new(signature), Sample::new());
        Self { scoreboard, covered: Covered::default(), model, watched: None, sample, copies: Copies::default() }
    }

    /// The same, but that its errors are watched for drift: of classes, whether one is wrong; of numbers, by how much. What is seen is among
    /// the metrics.
    pub fn watching(self, detector: Option<DetectorSettings>) -> Self {
        Self { watched: detector.map(Watched::new), ..self }
    }

    /// Makes [`ScoredModel::keep`] quick from the first time on.
    pub fn prepare(&self) -> Result<()> {
        self.copies.prepare(&self.model)
    }

    /// Adds what it takes to go on from here. It is turned into bytes later, so that nobody waits for it.
    pub fn keep(&self, parts: &mut Parts) -> Result<()> {
        self.copies.keep(MODEL, &self.model, parts)?;
        let (scoreboard, sample) = (self.scoreboard.clone(), self.sample.clone());
        let Scoreboard { learned, held_out, baselines, .. } = &self.scoreboard;
        let reliability = [learned.reliability(), held_out.reliability(), baselines.reliability()]
            .map(Option::<&Reliability>::cloned);
        parts.put_later(SCORED, Kept { scoreboard, reliability, sample });
        if let Some(watched) = &self.watched {
            parts.put_later(DRIFT, watched.state());
        }
        if self.has_intervals() {
            parts.put_later(COVERED, self.covered);
        }
        Ok(())
    }

    /// Goes on from what a model of the same signature, but for its threshold, has kept; on the CPU, until something else is said.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let model = Model::load_like(self.model.signature(), state.bytes(MODEL)?)?;
        let kept = if state.has(SCORES_OF_FORMAT_4) {
            Kept { scoreboard: state.get(SCORES_OF_FORMAT_4)?, reliability: [None, None, None], sample: Sample::new() }
        } else {
            state.get(SCORED)?
        };
        let Kept { mut scoreboard, reliability: [learned, held_out, baselines], sample } = kept;
        scoreboard.learned = scoreboard.learned.with_reliability(learned);
        scoreboard.held_out = scoreboard.held_out.with_reliability(held_out);
        scoreboard.baselines = scoreboard.baselines.with_reliability(baselines);
        if !scoreboard.is_like(&self.scoreboard) {
            return Err(Error::new("the scores in the state are damaged, or not those of this model"));
        }
        scoreboard.learned.go_on_like(&self.scoreboard.learned);
        scoreboard.held_out.go_on_like(&self.scoreboard.held_out);
        if let Some(watched) = &mut self.watched {
            watched.restore(state.get(DRIFT)?)?;
        }
        if self.has_intervals() {
            self.covered = state.get(COVERED)?;
            if !self.covered.learned.is_sound() || !self.covered.held_out.is_sound() {
                return Err(Error::new("the coverage in the state is damaged"));
            }
        }
        sample.check(&model.signature().features)?;
        (self.model, self.scoreboard, self.sample) = (model, scoreboard, sample);
        Ok(())
    }

    /// The model's file, unless the model has diverged, so that it predicts nothing of use: one of its numbers is not finite,
    /// or its predictions of the last rows are far worse than none.
    pub fn save_converged(&self) -> Result<Vec<u8>> {
        match self.divergence()? {
            Some(why) => Err(diverged(self.model.rows(), &why)),
            None => self.model.save_finite(),
        }
    }

    fn divergence(&self) -> Result<Option<String>> {
        if !self.model.signature().estimator.settings().can_diverge() {
            return Ok(None);
        }
        let recent = self.scoreboard.recent.rows();
        match &self.scoreboard.baselines {
            BaselineScores::Numbers(baselines) => {
                let rows: Vec<_> = recent.map(|(target, prediction)| (*target, prediction[0])).collect();
                Ok(divergence::of_numbers(&rows, baselines.error_of_mean()))
            }
            BaselineScores::Classes(_) => {
                let rows: Vec<_> = recent.map(|(target, prediction)| (*target as usize, &prediction[..])).collect();
                let decision = self.model.signature().decision();
                divergence::of_classes(&rows, decision, || self.model.largest_weight())
            }
            BaselineScores::Nothing => Ok(None),
        }
    }

    /// Goes on computing on a device, see [`Model::compute_on`].
    pub fn compute_on(&mut self, device: &OpenDevice) -> Result<()> {
        self.model.compute_on(device)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Predicts every row, each before it is learned; learns those that have a label, that count more than 0, and that `learn`
    /// marks if it is given. Scores the rows that it learned, and apart from them those that it was told not to learn.
    pub fn step(&mut self, input: &Input, learn: Option<&BooleanArray>) -> Result<Predictions> {
        let predictions = self.model.step(input, learn)?;
        let counts = |row: usize| input.weights.get(row).is_none_or(|weight| *weight > 0.0);
        let is_learned = |row: usize| counts(row) && learn.is_none_or(|learn| learn.is_valid(row) && learn.value(row));
        let labelled = input.targets.iter().enumerate().filter(|(_, target)| !target.is_nan());
        let learned = labelled.rev().filter(|(row, _)| is_learned(*row));
        let scored = |row: usize| Scored { prediction: predictions.row(row), reward: input.rewards.get(row) };
        self.scoreboard.recent.add_backwards(learned.map(|(row, target)| (*target, scored(row).to_slice().into())));
        for (row, target) in input.targets.iter().enumerate() {
            if target.is_nan() {
                continue;
            }
            if !is_learned(row) {
                self.scoreboard.held_out.add(*target, &scored(row).to_slice());
                self.covered.held_out.add(*target, predictions.row(row));
                continue;
            }
            self.scoreboard.learned.add(*target, &scored(row).to_slice());
            self.covered.learned.add(*target, predictions.row(row));
            self.scoreboard.baselines.add(*target);
            self.sample.add(&input.rows, row);
            if let Some(watched) = &mut self.watched {
                watched.add(self.model.signature().error(*target, predictions.row(row)));
            }
        }
        Ok(predictions)
    }

    /// Reads a batch; predicts, scores and learns every row of it that has a label.
    pub fn step_batch(&mut self, rows: &RecordBatch) -> Result<Predictions> {
        let input = self.model.read(rows)?;
        self.step(&input, None)
    }

    /// The figures of the rows that were learned, each predicted before.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = self.with_coverage(self.scoreboard.learned.metrics(), &self.covered.learned);
        metrics.0.extend(self.watched.iter().flat_map(Watched::metrics));
        metrics
    }

    /// The figures of the last 1000 of them.
    pub fn recent(&self) -> Metrics {
        let (mut scores, mut covered) = (self.model.signature().scores(), CoverageScores::default());
        for (target, prediction) in self.scoreboard.recent.rows() {
            scores.add(*target, prediction);
            covered.add(*target, prediction);
        }
        self.with_coverage(scores.metrics(), &covered)
    }

    /// Whether its predictions have intervals.
    fn has_intervals(&self) -> bool {
        self.model.signature().interval.is_some()
    }

    /// Figures, with those of the intervals if there are any.
    fn with_coverage(&self, mut metrics: Metrics, covered: &CoverageScores) -> Metrics {
        if self.has_intervals() {
            metrics.0.extend(covered.metrics().0);
        }
        metrics
    }

    /// What the values of each feature were, in a sample of the rows that were learned.
    pub fn profile(&self) -> Vec<FeatureProfile> {
        self.sample.profile(&self.model.signature().features)
    }

    /// The figures of the rows that were not to be learned.
    pub fn held_out(&self) -> Metrics {
        self.with_coverage(self.scoreboard.held_out.metrics(), &self.covered.held_out)
    }

    /// How often each class was predicted for the rows of each, of those that were learned.
    pub fn confusion(&self) -> Option<ConfusionMatrix> {
        let Scores::Classes(scores) = &self.scoreboard.learned else { return None };
        scores.confusion(self.model.signature().classes().iter().map(Class::to_string))
    }

    /// What predictions without a model reach on the rows that were learned.
    pub fn baselines(&self) -> Baselines {
        self.scoreboard.baselines.metrics()
    }
}

#[cfg(all(test, feature = "candle"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::table;

    use super::*;
    use crate::{Features, Missing};

    #[test]
    fn a_network_on_a_device_is_restored_to_it() {
        let rows = table("a:float64 c y:boolean\n 1 u true\n 2 v false\n 3 w true\n 4 v false\n 5 u true");
        let estimator = r#"{ "type": "network", "layers": [{ "dense": 5 }, { "dropout": 0.5 }], "batch_rows": 2 }"#;
        let estimator = serde_json::from_str(estimator).unwrap();
        let features = Features::Listed(vec!["a".into(), "c".into()]);
        let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
        let device = OpenDevice::Candle(candle_core::Device::Cpu);
        let mut model = ScoredModel::new(signature.clone());
        model.compute_on(&device).unwrap();
        model.step_batch(&rows).unwrap();
        let (mut parts, file) = (Parts::default(), model.model().save().unwrap());
        model.keep(&mut parts).unwrap();
        model.step_batch(&rows).unwrap();
        let state = parts.into_state().unwrap();
        assert!(state.bytes(MODEL).unwrap() == file);
        let mut resumed = ScoredModel::new(signature);
        resumed.restore(&state).unwrap();
        resumed.compute_on(&device).unwrap();
        resumed.step_batch(&rows).unwrap();
        assert!(resumed.model().save().unwrap() == model.model().save().unwrap());
        assert_eq!(format!("{:?}", resumed.metrics()), format!("{:?}", model.metrics()));
    }
}
