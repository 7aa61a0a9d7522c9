//! Estimators that predict and learn one row at a time.

use std::fmt::Debug;

use millstream_core::{Error, Result};

use super::{Estimator, NO_LAYERS, Predict, Row, Step};
use crate::encode::{Feature, TILE_ROWS, Tile};
use crate::layers::Layer;
use crate::onnx::{Encoded, Graph, Value, WeightedSums};
use crate::simd::{self, Work};
use crate::tensors::Tensors;

/// What an estimator does that goes row by row. The loop over the rows is compiled for each of them, with wide vectors: what
/// is called in it should be `#[inline(always)]`, as [`Work`] says.
pub(crate) trait ByRow: Clone + Debug + Send + Sync + 'static {
    /// How many numbers a prediction has.
    fn outputs(&self) -> usize;

    /// Predicts one row.
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]);

    /// Learns one row. `target` is the number, or the index of the class.
    fn learn_one(&mut self, row: Row<'_>, target: f64);

    /// The same with all that is known of the row, for those that learn from more than its target.
    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_one(row, lesson.target);
    }

    /// Writes what was learned.
    fn save(&self, tensors: &mut Tensors);

    /// Reads what was learned into a new estimator.
    fn load(&mut self, tensors: &Tensors) -> Result<()>;

    /// Adds to a graph what predicts encoded rows as it does.
    fn to_onnx(&self, _graph: &mut Graph, _row: &Encoded) -> Result<Value> {
        Err(Error::new("ONNX has no operators for it"))
    }

    /// The sums that its predictions follow from, if it is linear.
    fn weighted_sums(&self) -> Option<WeightedSums> {
        None
    }

    /// Takes sums over that others have learned, of which there are as many.
    ///
    /// # Errors
    /// If it takes none.
    fn take_sums(&mut self, _sums: WeightedSums) -> Result<()> {
        Err(Error::new("it takes no weights of others"))
    }
}

impl<E: ByRow> Estimator for E {
    fn outputs(&self) -> usize {
        ByRow::outputs(self)
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        Ok(simd::run(RowByRow { work: step, estimator: self }))
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        simd::run(RowByRow { work: predict, estimator: self });
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        ByRow::save(self, tensors);
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        ByRow::load(self, tensors)
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        ByRow::to_onnx(self, graph, row)
    }

    fn layers(&self, _features: &[Feature]) -> Result<Vec<Layer>> {
        let sums = self.weighted_sums().ok_or_else(|| Error::new(NO_LAYERS))?;
        Ok(vec![sums.layer()])
    }

    fn take_layers(&mut self, layers: &[Layer]) -> Result<()> {
        let sums = self.weighted_sums().ok_or_else(|| Error::new(NO_LAYERS))?;
        layers.iter().try_for_each(|layer| self.take_sums(sums.like(layer)))
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}

/// What is known of a row that is learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lesson<'a> {
    /// The number, or the index of the class or action.
    pub target: f64,
    /// What the action was worth, if it is one.
    pub reward: f64,
    /// How much the row counts, more than 0: 1 if nothing is said.
    pub weight: f64,
    /// What was just predicted for it, which some need not compute again.
    pub prediction: &'a [f64],
}

/// Some work, and who does it.
struct RowByRow<W, E> {
    work: W,
    estimator: E,
}

impl<E: ByRow> Work for RowByRow<Step<'_>, &mut E> {
    /// How many rows were learned.
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let Self { work, estimator } = self;
        let (rows, outputs) = (work.rows, ByRow::outputs(estimator));
        let mut tile = Tile::new(rows.count(), work.encoders.width());
        let mut scratch = work.encoders.scratch();
        let mut learned = 0;
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                let (row, numbers) = (start + offset, tile.row(offset));
                work.encoders.encode(rows, row, numbers, &mut scratch);
                let prediction = row * outputs..(row + 1) * outputs;
                estimator.predict_one(scratch.row(), &mut work.predictions[prediction.clone()]);
                let Some(target) = work.target(row) else { continue };
                work.encoders.learn(rows, row, numbers, &mut scratch);
                let (reward, weight) = (work.reward(row), work.weight(row));
                let prediction = &work.predictions[prediction];
                estimator.learn(scratch.row(), &Lesson { target, reward, weight, prediction });
                learned += 1;
            }
            start += TILE_ROWS;
        }
        learned
    }
}

impl<E: ByRow> Work for RowByRow<Predict<'_>, &E> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { work: Predict { encoders, rows, predictions }, estimator } = self;
        let outputs = ByRow::outputs(estimator);
        let mut tile = Tile::new(rows.count(), encoders.width());
        let mut scratch = encoders.scratch();
        let mut start = 0;
        while start < rows.count() {
            let count = tile.fill(rows.numbers(), start, rows.count());
            for offset in 0..count {
                let row = start + offset;
                encoders.encode(rows, row, tile.row(offset), &mut scratch);
                estimator.predict_one(scratch.row(), &mut predictions[row * outputs..(row + 1) * outputs]);
            }
            start += TILE_ROWS;
        }
    }
}
