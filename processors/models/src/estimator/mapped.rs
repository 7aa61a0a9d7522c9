//! Another estimator over numbers that rows are mapped to, such as random features of a kernel.

use std::fmt::Debug;
use std::ops::Deref;

use arrow::array::Float64Array;
use millstream_core::Result;

use super::{Estimator, EstimatorSettings, Predict, Step};
use crate::device::OpenDevice;
use crate::encode::{Encoder, Encoders, Feature, Missing, Rows, Scratch, TILE_ROWS, Tile};
use crate::label::Class;
use crate::simd::{self, Work};
use crate::tensors::Tensors;

/// So many components are computed at once.
pub(super) const AT_ONCE: usize = 32;

/// From encoded rows to other numbers, their components.
pub(super) trait Map: Clone + Debug + Send + Sync + 'static {
    /// How many components there are.
    fn count(&self) -> usize;

    /// How many there are with padding: a multiple of [`AT_ONCE`].
    fn stride(&self) -> usize;

    /// The components of a row, with padding.
    fn components(&self, row: &Scratch, into: &mut [f64]);

    /// Learns a row, whose components were asked for before.
    fn learn(&mut self, _row: &Scratch) {}

    /// Writes what was learned.
    fn save(&self, _tensors: &mut Tensors) {}

    /// Reads what was learned.
    fn load(&mut self, _tensors: &Tensors) -> Result<()> {
        Ok(())
    }
}

/// So many components as features, which are passed on as they are.
pub(super) fn components(count: u32) -> Vec<Feature> {
    (0..count).map(|number| Feature::new(format!("{number}"), "float64", Encoder::Raw)).collect()
}

/// Turns rows into their components. `encode` encodes one row, may then learn from it, and says whether it is learned; `learn` has the map learn it.
struct Mapping<'a, P, E, L> {
    map: P,
    rows: &'a Rows,
    width: usize,
    scratch: Scratch,
    encode: E,
    learn: L,
}

impl<M, P, E, L> Work for Mapping<'_, P, E, L>
where
    M: Map,
    P: Deref<Target = M>,
    E: FnMut(usize, &[f64], &mut Scratch) -> bool,
    L: FnMut(&mut P, &Scratch),
{
    type Output = Rows;

    #[inline(always)]
    fn run(self) -> Rows {
        let Self { mut map, rows, width, mut scratch, mut encode, mut learn } = self;
        let (count, stride) = (rows.count(), map.stride());
        let mut tile = Tile::new(count, width);
        let mut components = vec![0.0; stride * count.min(TILE_ROWS)];
        let mut columns = vec![Vec::<f64>::with_capacity(count); map.count()];
        for start in (0..count).step_by(TILE_ROWS) {
            let filled = tile.fill(rows.numbers(), start, count);
            for (offset, components) in components.chunks_exact_mut(stride).take(filled).enumerate() {
                let is_learned = encode(start + offset, tile.row(offset), &mut scratch);
                map.components(&scratch, components);
                if is_learned {
                    learn(&mut map, &scratch);
                }
            }
            for (component, column) in columns.iter_mut().enumerate() {
                column.extend(components.iter().skip(component).step_by(stride).take(filled));
            }
        }
        Rows::of_numbers(count, columns.into_iter().map(Float64Array::from).collect())
    }
}

/// An estimator, and what its rows are made by.
#[derive(Clone, Debug)]
pub(super) struct Mapped<M> {
    map: M,
    /// Of the components, which are passed on as they are.
    encoders: Encoders,
    estimator: Box<dyn Estimator>,
}

impl<M: Map> Mapped<M> {
    /// One that has learned nothing, over these components.
    pub fn new(map: M, components: &[Feature], estimator: &EstimatorSettings, classes: &[Class]) -> Self {
        let encoders = Encoders::new(components, Missing::Fail);
        Self { map, encoders, estimator: estimator.settings().build(components, classes) }
    }
}

impl<M: Map> Estimator for Mapped<M> {
    fn outputs(&self) -> usize {
        self.estimator.outputs()
    }

    fn step(&mut self, step: Step<'_>) -> Result<u64> {
        let Step { rows, targets, rewards, weights, learn, .. } = step;
        let is_learned: Vec<_> = (0..rows.count()).map(|row| step.target(row).is_some()).collect();
        let (width, scratch, mut left) = (step.encoders.width(), step.encoders.scratch(), step.encoders.scratch());
        // A row is learned by the components by which it was predicted: what it says of means comes behind.
        let encode = |row: usize, numbers: &[f64], scratch: &mut Scratch| {
            step.encoders.encode(rows, row, numbers, scratch);
            if is_learned[row] {
                step.encoders.learn(rows, row, numbers, &mut left);
            }
            is_learned[row]
        };
        let of_map = |map: &mut &mut M, row: &Scratch| map.learn(row);
        let rows = &simd::run(Mapping { map: &mut self.map, rows, width, scratch, encode, learn: of_map });
        let (encoders, predictions) = (&mut self.encoders, step.predictions);
        self.estimator.step(Step { encoders, rows, targets, rewards, weights, learn, predictions })
    }

    fn predict(&self, predict: Predict<'_>) -> Result<()> {
        let Predict { encoders, rows, predictions } = predict;
        let (width, scratch) = (encoders.width(), encoders.scratch());
        let encode = |row: usize, numbers: &[f64], scratch: &mut Scratch| {
            encoders.encode(rows, row, numbers, scratch);
            false
        };
        let rows =
            &simd::run(Mapping { map: &self.map, rows, width, scratch, encode, learn: |_: &mut &M, _: &Scratch| {} });
        self.estimator.predict(Predict { encoders: &self.encoders, rows, predictions })
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        self.map.save(tensors);
        let mut own = Tensors::default();
        self.encoders.save(&mut own);
        self.estimator.save(&mut own)?;
        tensors.put_under(OF_ESTIMATOR, own);
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.map.load(tensors)?;
        let own = tensors.under(OF_ESTIMATOR);
        self.encoders.load(&own)?;
        self.estimator.load(&own)
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }

    fn is_shared(&self) -> bool {
        self.estimator.is_shared()
    }

    fn compute_on(&mut self, device: &OpenDevice) -> Result<()> {
        self.estimator.compute_on(device)
    }
}

/// What the names of the tensors of the estimator begin with.
const OF_ESTIMATOR: &str = "estimator.of_components.";
