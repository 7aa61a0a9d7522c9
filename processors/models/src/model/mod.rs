//! A model: encoders and an estimator, which read record batches and learn row by row.

mod copies;
mod divergence;
mod features;
mod import;
mod predictions;
mod scored;
mod signature;
mod watched;
mod weight;

use arrow::array::{BooleanArray, RecordBatch};
use millstream_core::{Error, Result};
use sha2::{Digest, Sha256};

use copies::Copies;
pub use features::Features;
pub use import::Import;
pub use predictions::{Predictions, prediction_fields};
pub use scored::ScoredModel;
pub use signature::Signature;

use crate::calibration::Calibrated;
use crate::device::OpenDevice;
use crate::encode::{self, Category, Encoders, Preprocessing, Rows};
use crate::estimator::{Estimator, Predict, Step};
use crate::interval::WithInterval;
use crate::layers::{self, Layer, Layout};
use crate::onnx;
use crate::refused::Refused;
use crate::tensors::Tensors;

/// A model that learns online.
///
/// Everything in it is determined by its signature and by the rows that it learned, in their order: not by how they
/// were cut into batches, nor by the machine.
#[derive(Clone, Debug)]
pub struct Model {
    signature: Signature,
    preprocessing: Preprocessing,
    encoders: Encoders,
    estimator: Box<dyn Estimator>,
    rows: u64,
}

/// The target of rows from which a model learns without a label.
const UNLABELLED: f64 = 0.0;

/// The rows of a batch, as a model reads them.
#[derive(Clone, Debug)]
pub struct Input {
    rows: Rows,
    /// Numbers, or the indexes of classes; NaN for rows without a label. All the same where none is needed.
    targets: Vec<f64>,
    /// What each row was worth; empty where the targets are no actions.
    rewards: Vec<f64>,
    /// How much each row counts; empty where all count the same.
    weights: Vec<f64>,
    refused: Option<BooleanArray>,
}

impl Input {
    /// Its features.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The rows that the model can't use, if there are any. Nothing must be learned from a batch that has some.
    pub fn refused(&self) -> Option<&BooleanArray> {
        self.refused.as_ref()
    }
}

impl Model {
    /// A model that has learned nothing.
    pub fn new(signature: Signature) -> Self {
        let preprocessing = signature.preprocessing();
        let encoders = Encoders::new(preprocessing.features(), signature.missing);
        let classes = signature.classes();
        let estimator = signature.estimator.settings().build(preprocessing.features(), classes);
        let certainty = signature.estimator.gives(classes).certainty();
        let estimator = match signature.calibration {
            Some(calibration) => Box::new(Calibrated::new(estimator, calibration, certainty, classes.len())),
            None => estimator,
        };
        let estimator = match signature.interval {
            Some(interval) => Box::new(WithInterval::new(estimator, interval)),
            None => estimator,
        };
        Self { signature, preprocessing, encoders, estimator, rows: 0 }
    }

    /// What it learns from, what it predicts, and how.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// How many rows it has learned.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Goes on computing on a device, if it is a network. Others are always computed on the CPU.
    pub fn compute_on(&mut self, device: &OpenDevice) -> Result<()> {
        self.estimator.compute_on(device)
    }

    /// Loads what predicting needs beside the model: of a model of others onnxruntime.
    ///
    /// # Errors
    /// If that is not there.
    pub fn prepare(&self) -> Result<()> {
        self.estimator.prepare()
    }

    /// The encoders of its categories, in the order of the features.
    pub(crate) fn categories(&self) -> &[Category] {
        self.encoders.categories()
    }

    /// Reads features and labels.
    pub fn read(&self, rows: &RecordBatch) -> Result<Input> {
        let mut refused = Refused::default();
        let largest = self.signature.largest();
        let (targets, rewards) = match &self.signature.label {
            Some(label) => {
                let mut targets = label.read(encode::column(rows, &label.column)?, largest, &mut refused)?;
                let rewards = label.read_rewards(rows, &mut targets, largest, &mut refused)?;
                (targets, rewards)
            }
            None => (vec![UNLABELLED; rows.num_rows()], Vec::new()),
        };
        let weight = self.signature.weight.as_deref();
        let weights = weight.map(|weight| weight::read(weight, rows, &mut refused)).transpose()?.unwrap_or_default();
        Ok(Input { targets, rewards, weights, ..self.read_features(rows, refused)? })
    }

    /// Reads features only.
    pub fn read_unlabelled(&self, rows: &RecordBatch) -> Result<Input> {
        let targets = vec![f64::NAN; rows.num_rows()];
        Ok(Input { targets, ..self.read_features(rows, Refused::default())? })
    }

    fn read_features(&self, rows: &RecordBatch, mut refused: Refused) -> Result<Input> {
        let signature = &self.signature;
        let rows = encode::read(&signature.features, signature.largest(), signature.missing, rows, &mut refused)?;
        let (targets, rewards, weights) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Input { rows, targets, rewards, weights, refused: refused.mask() })
    }

    /// Why row `row` of the batch that was read is among the refused.
    pub fn why_refused(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        let Signature { features, label, weight, missing, .. } = &self.signature;
        let largest = self.signature.largest();
        if let Some(why) = encode::why_refused(features, largest, *missing, rows, row)? {
            return Ok(why);
        }
        if let Some(weight) = weight
            && let Some(why) = weight::why_refused(weight, rows, row)?
        {
            return Ok(why);
        }
        let label = label.as_ref().ok_or_else(|| Error::new(format!("nothing is wrong with row {row}")))?;
        match label.why_reward_refused(rows, largest, row)? {
            Some(why) => Ok(why),
            None => label.why_refused(encode::column(rows, &label.column)?, largest, row),
        }
    }

    /// Predicts every row, each before it is learned; learns those that have a label, if the model needs one, that count
    /// more than 0, and that `learn` marks if it is given.
    pub fn step(&mut self, input: &Input, learn: Option<&BooleanArray>) -> Result<Predictions> {
        refuse_nothing(input)?;
        let mut predictions = self.signature.predictions(input.rows.count(), self.estimator.outputs());
        let mut step = Step {
            encoders: &mut self.encoders,
            rows: &input.rows,
            targets: &input.targets,
            rewards: &input.rewards,
            weights: &input.weights,
            learn,
            predictions: predictions.values_mut(),
        };
        let prepared = self.preprocessing.step(&input.rows, |row| step.target(row));
        step.rows = prepared.as_ref().unwrap_or(&input.rows);
        self.rows += self.estimator.step(step)?;
        Ok(predictions)
    }

    /// Predicts every row and learns nothing.
    pub fn predict(&self, input: &Input) -> Result<Predictions> {
        refuse_nothing(input)?;
        let mut predictions = self.signature.predictions(input.rows.count(), self.estimator.outputs());
        let prepared = self.preprocessing.apply(&input.rows);
        let (encoders, rows) = (&self.encoders, prepared.as_ref().unwrap_or(&input.rows));
        self.estimator.predict(Predict { encoders, rows, predictions: predictions.values_mut() })?;
        Ok(predictions)
    }

    /// Reads a batch, then predicts and learns every row of it that has a label.
    pub fn step_batch(&mut self, rows: &RecordBatch) -> Result<Predictions> {
        let input = self.read(rows)?;
        self.step(&input, None)
    }

    /// Reads a batch, and predicts every row of it.
    pub fn predict_batch(&self, rows: &RecordBatch) -> Result<Predictions> {
        self.predict(&self.read_unlabelled(rows)?)
    }

    /// The model as a safetensors file. Models that are equal are the same bytes.
    pub fn save(&self) -> Result<Vec<u8>> {
        self.tensors()?.write(&self.signature.to_json())
    }

    /// The same, unless the model has diverged, so that it predicts nothing of use.
    pub fn save_finite(&self) -> Result<Vec<u8>> {
        let tensors = self.tensors()?;
        match tensors.not_finite() {
            None => tensors.write(&self.signature.to_json()),
            Some(tensor) => Err(diverged(self.rows, &format!("`{tensor}` has numbers that are not finite"))),
        }
    }

    /// The model as an ONNX file that predicts as the model does now. `properties` are written into it: what is known about the model.
    ///
    /// # Errors
    /// If it has learned nothing, or ONNX has no operators for its estimator or one of its encoders.
    pub fn to_onnx(&self, properties: Vec<(String, String)>) -> Result<Vec<u8>> {
        if self.rows == 0 {
            return Err(Error::new("the model has learned nothing yet"));
        }
        onnx::export(&self.signature, &self.preprocessing, &self.encoders, &*self.estimator, properties)
    }

    /// The weights of the model as an HDF5 file, which Keras reads into a model of the same layers. `properties` are written into it: what is
    /// known about the model.
    ///
    /// # Errors
    /// If it is neither a network nor linear, or is calibrated.
    pub fn to_hdf5(&self, layout: Layout, properties: &[(String, String)]) -> Result<Vec<u8>> {
        layers::write(&self.layers()?, layout, properties)
    }

    /// All layers that its numbers go through.
    fn layers(&self) -> Result<Vec<Layer>> {
        if !self.preprocessing.is_nothing() {
            return Err(Error::new("its features are preprocessed, and no layer does that"));
        }
        let own = self.estimator.layers(&self.signature.features)?;
        Ok(self.encoders.layer().into_iter().chain(own).collect())
    }

    /// Takes the weights of its layers over.
    fn take_layers(&mut self, layers: &[Layer]) -> Result<()> {
        let own = match self.encoders.layer() {
            Some(_) => {
                self.encoders.take_layer(&layers[0])?;
                &layers[1..]
            }
            None => layers,
        };
        self.estimator.take_layers(own)
    }

    fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        self.put_into(&mut tensors)?;
        Ok(tensors)
    }

    /// The largest of what the estimator has learned, by its absolute value.
    fn largest_weight(&self) -> Result<f64> {
        Ok(self.tensors()?.largest("estimator."))
    }

    /// Overwrites tensors of the same model.
    fn put_into(&self, tensors: &mut Tensors) -> Result<()> {
        tensors.put_u64("rows", &[self.rows]);
        self.preprocessing.save(tensors);
        self.encoders.save(tensors);
        self.estimator.save(tensors)
    }

    /// Whether a clone costs next to nothing.
    fn is_shared(&self) -> bool {
        self.estimator.is_shared()
    }

    /// The model of a file. It goes on learning as if it had never been written.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let (tensors, about) = Tensors::read(bytes)?;
        Self::of(Signature::from_json(&about)?, &tensors)
    }

    /// The model of a file that must have this signature, but for the threshold, which is the one that is given here.
    pub fn load_like(signature: &Signature, bytes: &[u8]) -> Result<Self> {
        let (tensors, about) = Tensors::read(bytes)?;
        // Compared before anything is built of it, since a damaged one might ask for any amount of memory.
        if (Signature { threshold: signature.threshold, ..Signature::from_json(&about)? }) == *signature {
            Self::of(signature.clone(), &tensors)
        } else {
            Err(Error::new("the model has other features, another label or another estimator than this node's"))
        }
    }

    fn of(signature: Signature, tensors: &Tensors) -> Result<Self> {
        let mut model = Self::new(signature);
        model.preprocessing.load(tensors)?;
        model.encoders.load(tensors)?;
        model.estimator.load(tensors)?;
        let rows = tensors.u64s("rows")?;
        let rows = rows.first().filter(|rows| **rows < 1 << 53);
        model.rows = *rows.ok_or_else(|| Error::new("the tensor `rows` of the model is damaged"))?;
        Ok(model)
    }
}

/// The SHA-256 of a model file, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn diverged(rows: u64, how: &str) -> Error {
    Error::new(format!(
        "it has diverged: after {rows} rows, {how}; lower the learning rate, or bring features and label to a smaller size"
    ))
}

fn refuse_nothing(input: &Input) -> Result<()> {
    match &input.refused {
        None => Ok(()),
        Some(refused) => Err(Error::new(format!(
            "{} of {} rows lack a feature or have a label that is none",
            refused.true_count(),
            refused.len()
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod suite;
