//! The node `train`: a model that learns from the rows that pass.

mod staged;

pub use staged::versions as staged_versions;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Collector, Committer, Epoch, Error, Kind, ModelReport, Origin, PlanContext, PortPlan, Probe, Problem,
    Problems, Processor, ProcessorPlan, ProcessorSettings, Report, Result, ResultExt, Snapshot, State, Stream, Uses,
    blocking_probe,
};
use millstream_models::device::{self, DeviceSettings, OpenDevice};
use millstream_models::drift::DetectorSettings;
use millstream_models::registry::{ModelCard, ModelRegistry, check_model_name};
use millstream_models::{
    CalibrationSettings, Class, EstimatorSettings, Features, IntervalSettings, LabelColumns, Missing, ScoredModel,
    Signature, sha256,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{append, with_predictions};
use crate::condition::Condition;
use crate::pieces::Pieces;
use crate::version;
use staged::{AT_THE_END, Publisher, Staged};

/// Trains a model on the rows that pass, one row at a time, and publishes versions of it.
///
/// Every row leaves with what the model predicted for it *before* it learned it: the columns `prediction` and, for
/// classes, `probability` (of the positive one of two classes, else of the predicted one) and, for more than two,
/// `probabilities`; or `score` and `scores` where the estimator has no probabilities; or, behind a number, its `quantiles` where the
/// estimator predicts some; or, where it learns without a label, the
/// columns that its entry names, such as `cluster` and `distance`; or `action`, `score` and `scores` where it learns which action
/// is worth most. So the metrics are honest (*prequential*, or test-then-train): no row is scored by a model that has seen its
/// label. They are of all rows, and of the last 1000 (`recent`), and stand beside two baselines on the same rows: the label before
/// (`persistence`), and the most frequent label or the mean so far (`majority`, in the table `most frequent so far` or `mean so far`).
///
/// A row without a label, or without a reward where the label is an action, is predicted and not learned; where no label is
/// needed, every row is learned, and there are no baselines. A row that lacks a feature, or whose label is none, leaves by the
/// port `failed`.
///
/// Versions go to the flow's registry when the flow commits; the first one becomes `champion`. If the newest that are there
/// are these already, since the flow ran before, nothing is published. A `predict` node of the same flow that names the
/// model gets them at the next barrier.
///
/// A model that has diverged is not published, but ends the flow with an error. Of numbers it has if over the newer half of
/// the last 1000 rows its error (`rmse`) is more than 1000 times the size of the labels and the error of the mean so far, or
/// more than 10 times and growing by as much from the older half to the newer one; of classes if a weight exceeds 1e12
/// while fewer rows are predicted rightly than by one class alone; and always if a number in it is infinite or none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The model's name in the registry.
    model: String,
    /// What learns.
    estimator: EstimatorSettings,
    /// The columns to learn from. A list standardises numbers and one-hot encodes texts and booleans (1024 slots); a
    /// table says it column by column: `{ amount = "standardise", age = "raw", country = { one_hot = 300 }, card = { hash
    /// = 4096 } }`. Numbers are taken as they are by `k_means`. Numbers that are far from even are better `"robust"`, `"min_max"` or `"quantile"`;
    /// categories may be numbers, too: `{ frequency = 1024 }`, or `{ target = { smoothing = 10 } }`, the mean of the label for each; timestamps are encoded by `"time"`, and what people write
    /// by `{ text = { numbers = 256 } }`. A table in
    /// place of an encoder also says what stands for missing values: `{ age = { encode = "robust", missing = "median", indicator = true } }`, where
    /// `indicator` adds a number that is 1 where the value is missing. All of it is part of the model, is learned row by row, and holds in `predict` and served models as
    /// it is then. A row is never encoded by what only it or later rows say.
    #[serde(default)]
    features: Features,
    /// The column to predict: boolean, integers, texts or, for regression, numbers. None where the estimator learns without
    /// a label.
    label: Option<String>,
    /// The column with what each row was worth, where `label` is an action that was chosen: a number.
    reward: Option<String>,
    /// The column that says how much each row counts for what is learned: a number from 0 up, 1 for a row that counts as it would without. A
    /// row that counts 2 is learned about as if it had come twice, and one that counts 0 only predicted. Metrics count all rows the same.
    weight: Option<String>,
    /// The values that the label can have, where its type doesn't say. Of two the second is the positive one.
    classes: Option<Vec<Class>>,
    /// Above which probability (or score) the positive of two classes is predicted: 0.5 (or 0) by default. A lower
    /// one finds more of the positive rows, and takes more of the others for them (`recall` and `precision`). Another one in a flow that is resumed counts for
    /// predictions and metrics from then on.
    threshold: Option<f64>,
    /// Makes probabilities as frequent as they say, and of scores probabilities, whatever the estimator: `"platt"`, `"isotonic"`, or a table such as `{ type =
    /// "isotonic", window = 5000 }`. That is learned from the last rows, each as it was predicted before it was learned. Of more than two classes each is
    /// calibrated against the others, and they are brought to a sum of 1. Until there is a row of each kind, nothing is changed but that scores go through a sigmoid. The metric
    /// `ece`, the expected calibration error, says how far probabilities are from what comes true.
    calibration: Option<CalibrationSettings>,
    /// Adds the columns `prediction_low` and `prediction_high`, between which the true number lies as often as is said: `0.9`, or a table such as `{ coverage = 0.9, window = 500, rate = 0.01
    /// }`. The interval is as wide as the errors of the last rows were, each predicted before it was learned (conformal prediction, over a `window`), whatever the estimator; with a
    /// `rate` the share that is aimed at moves with what comes true, so that it holds where the world changes (Gibbs & Candès 2021). Both are null before an error is known. The metrics say how
    /// often the truth lay inside (`coverage`) and how wide the intervals were on average (`interval_width`).
    interval: Option<IntervalSettings>,
    /// Learns only from rows for which this holds: `column`, `NOT column`, `column = 'text'` or `column = 1`. The
    /// others are predicted, and their metrics are reported apart, under `held_out`.
    learn_when: Option<String>,
    /// Watches the errors for drift, as the node `drift` does: of classes, whether one is wrong; of numbers, by how much. The metrics then say how many
    /// `drifts` there were, and of the last one the mean errors on both sides (`error_before_drift`, `error_after_drift`) and the `rows_since_drift`.
    drift: Option<DetectorSettings>,
    /// A prefix of the names of the new columns.
    #[serde(default, rename = "as")]
    prefix: String,
    /// What to do with rows that lack a feature, where the feature says nothing of its own.
    #[serde(default)]
    missing: Missing,
    /// When a version is published.
    #[serde(default)]
    publish: Publish,
    /// Where a network is computed: `cpu`, `cuda:0`, or `auto`, which is the first CUDA device that works, else the CPU.
    /// Cards compute the same up to rounding, so that their models are not the same bits as those of a CPU.
    #[serde(default)]
    device: DeviceSettings,
}

/// When a version is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Publish {
    /// At the end of the flow.
    #[default]
    End,
    /// At the first barrier of an epoch after so many more learned rows, and at the end. `[flow] epoch` says how many rows an epoch
    /// has. Every version is a folder in the registry, and stays there, so tens of thousands are a good number.
    Rows(#[schemars(range(min = 1))] u64),
}

impl Kind for TrainSettings {
    const NAME: &'static str = "train";
    const ALSO_CALLED: &'static [&'static str] = &["learn", "fit"];
    const EXAMPLE: &'static str = r#"model = "fraud"
estimator = { type = "logistic_regression", learning_rate = 0.01 }
features = ["amount", "country"]
label = "fraud"
publish = { rows = 100000 }"#;
    const FREE_SETTINGS: &'static [&'static str] = &["publish", "device", "threshold"];
}

const MAIN_PORT: usize = 0;
const MODEL_PORT: usize = 1;

impl ProcessorSettings for TrainSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let input = &inputs[0].schema;
        let mut problems = Problems::new();
        let signature = self.signature(input).map_err(|found| problems.extend(found)).ok();
        let condition = self.condition(input).map_err(|found| problems.push(found)).ok();
        let registry = self.registry(context).map_err(|found| problems.push(found)).ok();
        if self.publish == Publish::Rows(0) {
            problems.push(Problem::new("a version can't be published every 0 rows").at(["publish", "rows"]));
        }
        if let Some(problem) = signature.as_ref().and_then(|signature| signature.check_device(self.device).err()) {
            problems.push(problem);
        }
        if let (Some(signature), Some(detector)) = (&signature, &self.drift)
            && let Err(problem) = signature.check_drift(detector)
        {
            problems.push(problem.under("drift"));
        }
        let (Some(signature), Some(condition), Some(registry), []) = (signature, condition, registry, &problems[..])
        else {
            return Err(problems);
        };
        let schema = with_predictions(input, &signature, &self.prefix, false)?;
        let only_at_the_end = self.publish == Publish::End;
        let versions = version::schema(&signature, only_at_the_end);
        let port = PortPlan::versions(versions.clone()).only_at_the_end(only_at_the_end);
        let ports = vec![PortPlan::main(schema.clone()), port];
        let features = signature.features.iter().map(|feature| feature.name.clone());
        let condition_column = condition.iter().map(|condition| condition.column().to_owned());
        let told = [&self.label, &self.reward, &self.weight].into_iter().flatten().cloned();
        let uses = Uses::passing_on(features.chain(told).chain(condition_column));
        let version = Arc::new(AtomicU64::new(0));
        let mut trainer = Trainer {
            flow: context.flow.clone(),
            node: context.node.clone(),
            run: new_run(),
            name: self.model.clone(),
            model: ScoredModel::new(signature).watching(self.drift.clone()),
            condition,
            publish: self.publish,
            schema,
            versions,
            published_rows: 0,
            sha256: None,
            staged: Vec::new(),
            version: version.clone(),
            pieces: Pieces::default(),
            publisher: Some(Publisher { name: self.model.clone(), registry, last: version }),
            device: OpenDevice::Cpu,
        };
        let device = self.device;
        let build = Box::new(move || {
            trainer.device = device::open(device)?;
            trainer.model.compute_on(&trainer.device)?;
            trainer.model.prepare()?;
            Ok(Box::new(trainer) as Box<dyn Processor>)
        });
        Ok(ProcessorPlan { ports, uses: vec![uses], fails: true, build })
    }

    fn trains(&self) -> Option<&str> {
        Some(&self.model)
    }

    fn barrier_rows(&self) -> Option<u64> {
        match self.publish {
            Publish::Rows(rows) => Some(rows),
            Publish::End => None,
        }
    }

    fn probe(&self, context: &PlanContext) -> Option<Probe> {
        if millstream_store::local_folder(&context.registry).is_some() {
            return None;
        }
        let (registry, model, location) = (self.registry(context).ok()?, self.model.clone(), context.registry.clone());
        Some(blocking_probe(move || {
            let versions = registry.versions(&model)?.len();
            Ok(format!("{versions} versions of `{model}` at `{location}`"))
        }))
    }
}

impl TrainSettings {
    fn signature(&self, schema: &SchemaRef) -> Result<Signature, Problems> {
        let classes = self.classes.as_deref();
        let label = LabelColumns {
            label: self.label.as_deref(),
            reward: self.reward.as_deref(),
            weight: self.weight.as_deref(),
        };
        let signature = Signature::plan(schema, &self.estimator, &self.features, label, classes, self.missing)?;
        let signature = signature.with_calibration(self.calibration)?.with_interval(self.interval)?;
        Ok(signature.with_threshold(self.threshold)?)
    }

    fn condition(&self, schema: &SchemaRef) -> Result<Option<Condition>, Problem> {
        let condition = self.learn_when.as_ref().map(|text| Condition::plan(text, schema));
        condition.transpose().map_err(|problem| problem.under("learn_when"))
    }

    fn registry(&self, context: &PlanContext) -> Result<ModelRegistry, Problem> {
        check_model_name(&self.model).map_err(|error| Problem::new(error.to_string()).under("model"))?;
        let store = millstream_store::open(&context.registry, &context.work_folder);
        Ok(ModelRegistry::open(store.map_err(|error| Problem::new(error.to_string()))?, &context.registry))
    }
}

struct Trainer {
    flow: String,
    node: String,
    /// What no other run of this or another flow is called.
    run: String,
    /// The model's name.
    name: String,
    model: ScoredModel,
    condition: Option<Condition>,
    publish: Publish,
    schema: SchemaRef,
    versions: SchemaRef,
    /// How many rows the last version has learned.
    published_rows: u64,
    /// The checksum of that version.
    sha256: Option<String>,
    /// Versions since the last checkpoint.
    staged: Vec<Staged>,
    /// The number that was published last; 0 if there is none. The publisher counts on while this node goes on.
    version: Arc<AtomicU64>,
    /// Rows that are predicted and learned, piece by piece.
    pieces: Pieces,
    /// Until the engine asks for it.
    publisher: Option<Publisher>,
    /// Where networks are computed.
    device: OpenDevice,
}

/// The part of the state that isn't the model's: `published_rows` and `version`.
const PUBLISHED: &str = "published";

impl Processor for Trainer {
    fn process(&mut self, _port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        self.pieces.add([batch]);
        self.more(out).map(|_| ())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        let Some(batch) = self.pieces.next(self.model.model().signature()) else { return Ok(false) };
        self.learn(&batch, out).map(|()| true)
    }

    fn barrier(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        match self.publish {
            Publish::Rows(rows) if self.unpublished_rows() >= rows => self.stage(epoch, out),
            Publish::Rows(_) | Publish::End => Ok(()),
        }
    }

    fn finish(&mut self, out: &mut Collector) -> Result<()> {
        match self.unpublished_rows() {
            0 => Ok(()),
            _ => self.stage(AT_THE_END, out),
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.model.keep(&mut snapshot.state)?;
        snapshot.state.put(PUBLISHED, &(self.published_rows, self.version.load(Ordering::Relaxed), &self.sha256))?;
        staged::keep(std::mem::take(&mut self.staged), &mut snapshot)?;
        Ok(snapshot)
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.model.restore(state)?;
        self.model.compute_on(&self.device)?;
        let (rows, version, sha256) = state.get(PUBLISHED)?;
        if rows > self.model.model().rows() {
            return Err(Error::new(format!("`{PUBLISHED}` of the state is damaged: the model has learned fewer rows")));
        }
        (self.published_rows, self.sha256) = (rows, sha256);
        // Unless what is staged in the checkpoint has been published already.
        let _ = self.version.compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    fn committer(&mut self) -> Option<Box<dyn Committer>> {
        self.publisher.take().map(|publisher| Box::new(publisher) as Box<dyn Committer>)
    }

    fn report(&self) -> Option<Report> {
        Some(Report::Model(ModelReport {
            model: self.name.clone(),
            version: Some(self.version.load(Ordering::Relaxed)).filter(|version| *version > 0),
            rows: self.model.model().rows(),
            // That of the last version: to make a file of a large model takes longer than a look at it should.
            sha256: self.sha256.clone().filter(|_| self.unpublished_rows() == 0),
            metrics: self.model.metrics(),
            recent: self.model.recent(),
            held_out: self.condition.as_ref().map(|_| self.model.held_out()),
            baselines: self.model.baselines(),
            confusion: self.model.confusion(),
        }))
    }
}

impl Trainer {
    /// Predicts rows, each before it is learned, and hands them on.
    fn learn(&mut self, batch: &Batch, out: &mut Collector) -> Result<()> {
        let model = self.model.model();
        let mut input = model.read(&batch.rows)?;
        let mut rows = batch.rows.clone();
        if let Some(refused) = input.refused() {
            let why = |row| model.why_refused(&batch.rows, row).unwrap_or_else(|error| error.to_string());
            rows = out.fail_rows(batch, refused, why)?;
            input = model.read(&rows)?;
        }
        let learn = self.condition.as_ref().map(|condition| condition.evaluate(&rows)).transpose()?;
        let predictions = self.model.step(&input, learn.as_ref())?;
        let columns = predictions.columns(self.model.model().signature())?;
        out.push(MAIN_PORT, batch.with_rows(append(&rows, columns, &self.schema)?));
        Ok(())
    }

    fn unpublished_rows(&self) -> u64 {
        self.model.model().rows() - self.published_rows
    }

    /// Makes a version of the model as it is, sends it to the flow's `predict` nodes, and keeps it until the checkpoint.
    fn stage(&mut self, epoch: Epoch, out: &mut Collector) -> Result<()> {
        let rows = self.model.model().rows();
        let bytes = self.model.save_converged().doing(|| format!("publishing model `{}`", self.name))?;
        let sha256 = sha256(&bytes);
        let version: RecordBatch = version::batch(&self.versions, &self.name, rows, &sha256, &bytes)?;
        let origin = Origin::new(self.node.as_str(), "", self.published_rows, rows);
        out.push(MODEL_PORT, Batch::new(version, origin));
        // With its checksum in it, since the same flow may train another model from as many rows.
        let publish_id = format!("{}/{}/{rows}/{}", self.flow, self.node, &sha256[..16]);
        let card = ModelCard { publish_id, run: self.run.clone(), ..self.card(rows) };
        self.staged.push(Staged { epoch, bytes, card });
        (self.published_rows, self.sha256) = (rows, Some(sha256));
        Ok(())
    }

    fn card(&self, rows: u64) -> ModelCard {
        let held_out = self.condition.as_ref().map(|_| self.model.held_out());
        ModelCard::new(&self.name, self.model.model().signature(), rows)
            .trained_by(&self.flow, &self.node)
            .profiled(self.model.profile())
            .scored(&self.model.metrics(), held_out.as_ref(), &self.model.baselines())
    }
}

/// A name that no other run has, drawn from what the system gives hash maps against collisions.
#[expect(clippy::disallowed_methods, reason = "it is to differ from run to run")]
fn new_run() -> String {
    format!("{:016x}", RandomState::new().hash_one(SystemTime::now()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
