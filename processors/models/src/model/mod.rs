//! A model: encoders and an estimator, which read record batches and learn row by row.

mod by_row;
mod copies;
mod divergence;
mod features;
mod in_batches;
mod predictions;
mod scored;
mod signature;

use arrow::array::{Array, BooleanArray, RecordBatch};
use millstream_core::{Error, Result};
use sha2::{Digest, Sha256};

use by_row::ByRow;
use copies::Copies;
pub use features::Features;
use in_batches::InBatches;
pub use predictions::{Decision, Predictions, prediction_fields};
pub(crate) use predictions::{likeliest, positive};
pub use scored::ScoredModel;
pub use signature::Signature;

use crate::device::OpenDevice;
use crate::encode::{self, Encoders, Rows};
use crate::estimator::{Estimator, Shape};
use crate::refused::Refused;
use crate::simd;
use crate::tensors::Tensors;

/// A model that learns online.
///
/// Everything in it is determined by its signature and by the rows that it learned, in their order: not by how they
/// were cut into batches, nor by the machine.
#[derive(Clone, Debug)]
pub struct Model {
    signature: Signature,
    encoders: Encoders,
    estimator: Estimator,
    rows: u64,
}

/// The rows of a batch, as a model reads them.
#[derive(Clone, Debug)]
pub struct Input {
    rows: Rows,
    /// Numbers, or the indexes of classes. NaN where there is no label.
    targets: Vec<f64>,
    refused: Option<BooleanArray>,
}

impl Input {
    /// The rows that the model can't use, if there are any. Nothing must be learned from a batch that has some.
    pub fn refused(&self) -> Option<&BooleanArray> {
        self.refused.as_ref()
    }
}

impl Model {
    /// A model that has learned nothing.
    pub fn new(signature: Signature) -> Self {
        let encoders = Encoders::new(&signature.features, signature.missing);
        let shape = Shape {
            numbers: encoders.numbers(),
            width: encoders.width(),
            slots: encoders.slots(),
            classes: signature.label.classes.len(),
        };
        let estimator = Estimator::new(&signature.estimator, &signature.features, &signature.label.classes, shape);
        Self { signature, encoders, estimator, rows: 0 }
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
        match &mut self.estimator {
            Estimator::ByRow(_) => Ok(()),
            Estimator::InBatches(network) => network.compute_on(device),
        }
    }

    /// Reads features and labels.
    pub fn read(&self, rows: &RecordBatch) -> Result<Input> {
        let label = &self.signature.label;
        let mut refused = Refused::default();
        let targets = label.read(encode::column(rows, &label.column)?, self.signature.largest(), &mut refused)?;
        self.read_features(rows, targets, refused)
    }

    /// Reads features only.
    pub fn read_unlabelled(&self, rows: &RecordBatch) -> Result<Input> {
        self.read_features(rows, vec![f64::NAN; rows.num_rows()], Refused::default())
    }

    fn read_features(&self, rows: &RecordBatch, targets: Vec<f64>, mut refused: Refused) -> Result<Input> {
        let signature = &self.signature;
        let rows = encode::read(&signature.features, signature.largest(), signature.missing, rows, &mut refused)?;
        Ok(Input { rows, targets, refused: refused.mask() })
    }

    /// Why row `row` of the batch that was read is among the refused.
    pub fn why_refused(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        let Signature { features, label, missing, .. } = &self.signature;
        let largest = self.signature.largest();
        if *missing == encode::Missing::Fail
            && let Some(why) = encode::why_refused(features, largest, rows, row)?
        {
            return Ok(why);
        }
        label.why_refused(encode::column(rows, &label.column)?, largest, row)
    }

    /// Predicts every row, each before it is learned; learns those that have a label, and that `learn` marks if it is
    /// given.
    pub fn step(&mut self, input: &Input, learn: Option<&BooleanArray>) -> Result<Predictions> {
        refuse_nothing(input)?;
        let mut predictions = self.signature.predictions(input.rows.count(), self.estimator.outputs());
        let work = Step { encoders: &mut self.encoders, input, learn, predictions: &mut predictions };
        self.rows += match &mut self.estimator {
            Estimator::ByRow(estimator) => simd::run(ByRow { work, estimator }),
            Estimator::InBatches(network) => simd::run(InBatches { work, network })?,
        };
        Ok(predictions)
    }

    /// Predicts every row and learns nothing.
    pub fn predict(&self, input: &Input) -> Result<Predictions> {
        refuse_nothing(input)?;
        let mut predictions = self.signature.predictions(input.rows.count(), self.estimator.outputs());
        let work = Predict { encoders: &self.encoders, rows: &input.rows, predictions: &mut predictions };
        match &self.estimator {
            Estimator::ByRow(estimator) => simd::run(ByRow { work, estimator }),
            Estimator::InBatches(network) => simd::run(InBatches { work, network })?,
        }
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
        self.encoders.save(tensors);
        self.estimator.save(tensors)
    }

    /// Whether a clone costs next to nothing.
    fn is_shared(&self) -> bool {
        matches!(&self.estimator, Estimator::InBatches(network) if network.is_shared())
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
        match (Signature { threshold: signature.threshold, ..Signature::from_json(&about)? }) == *signature {
            true => Self::of(signature.clone(), &tensors),
            false => {
                Err(Error::new("the model has other features, another label or another estimator than this node's"))
            }
        }
    }

    fn of(signature: Signature, tensors: &Tensors) -> Result<Self> {
        let mut model = Self::new(signature);
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

/// What it takes to predict and learn a batch.
struct Step<'a> {
    encoders: &'a mut Encoders,
    input: &'a Input,
    learn: Option<&'a BooleanArray>,
    predictions: &'a mut Predictions,
}

impl Step<'_> {
    /// The target of a row that is to be learned.
    #[inline(always)]
    fn target(&self, row: usize) -> Option<f64> {
        let wanted = self.learn.is_none_or(|learn| learn.is_valid(row) && learn.value(row));
        Some(self.input.targets[row]).filter(|target| wanted && !target.is_nan())
    }
}

/// What it takes to predict a batch.
struct Predict<'a> {
    encoders: &'a Encoders,
    rows: &'a Rows,
    predictions: &'a mut Predictions,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array};

    use super::*;
    use crate::{EstimatorSettings, Features, Missing};

    fn rows() -> RecordBatch {
        let column = |salt: f64| -> ArrayRef {
            let value = |row: u32| (f64::from(row) * salt).sin() * 10.0 + salt;
            Arc::new(Float64Array::from_iter_values((0..1000).map(value)))
        };
        let label: ArrayRef = Arc::new(BooleanArray::from_iter((0..1000).map(|row| Some(row % 7 < 3))));
        let columns = [("a", column(0.7)), ("b", column(1.3)), ("c", column(99.0)), ("y", label)];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// Every bit of the predictions, and the file of the model, after learning with wide vectors or without.
    fn bits(wide: bool, estimator: EstimatorSettings) -> (Vec<u64>, Vec<u8>) {
        let features = Features::Listed(["a", "b", "c"].map(str::to_owned).into());
        let signature = Signature::plan(&rows().schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
        let mut model = Model::new(signature);
        let input = model.read(&rows()).unwrap();
        let mut predictions = model.signature.predictions(1000, model.estimator.outputs());
        let work = Step { encoders: &mut model.encoders, input: &input, learn: None, predictions: &mut predictions };
        let Estimator::ByRow(estimator) = &mut model.estimator else { panic!("not by row") };
        let work = ByRow { work, estimator };
        let learned = if wide { simd::run(work) } else { simd::run_anywhere(work) };
        assert_eq!(learned, 1000);
        let bits = (0..1000).flat_map(|row| predictions.row(row)).map(|value| value.to_bits()).collect();
        (bits, model.save().unwrap())
    }

    #[test]
    fn wide_vectors_give_the_same_bits() {
        for estimator in [
            EstimatorSettings::LogisticRegression { learning_rate: 0.1, l2: 0.01, class_weight: Default::default() },
            EstimatorSettings::SoftmaxRegression { learning_rate: 0.1, l2: 0.01, class_weight: Default::default() },
        ] {
            assert!(bits(true, estimator.clone()) == bits(false, estimator));
        }
    }
}
