//! Clusters: k-means that goes on with every row.
//!
//! It is the mini-batch k-means of Sculley, "Web-scale k-means clustering" (2010), which with batches of one row is the online
//! k-means of MacQueen (1967): the nearest centre moves towards the row by one by how many rows it has had. The first centres
//! are the first rows that differ, so that nothing is drawn by chance.

mod batch;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, PredictedColumn, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::onnx::{Attribute, ElementType, Encoded, Graph, Value};
use crate::tensors::Tensors;
use crate::vector::squared_distance;
use batch::Batch;

/// Clusters, without a label: every row belongs to the nearest of `clusters` centres, which then moves towards it, less and
/// less with every row that it has had (Sculley, "Web-scale k-means clustering", 2010). The first rows that differ are the first centres. Adds the columns
/// `cluster` (counted from 0) and `distance` from its centre, both null before the first row. Numbers are taken as they are (`raw`):
/// bring those of different sizes to about one size in an `sql` node. (`standardise` means something else with every row, most of all
/// with the first ones, which are the first centres.) The metric is `mean_distance`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KMeans {
    /// How many clusters there are.
    #[schemars(range(min = 1, max = 10000))]
    clusters: u32,
    /// By how much the rows of a cluster count less with every further one: with 1 a centre is the mean of all its rows; with
    /// 0.99 about the last hundred count, so that centres follow what changes.
    #[serde(default = "default_decay")]
    #[schemars(range(min = 0, max = 1))]
    decay: f64,
    /// The centres are moved after so many rows, by all of them, as `partial_fit` of scikit-learn's `MiniBatchKMeans` does; those in between are compared
    /// with the centres as they were. With 1 each row moves its own at once.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    batch_rows: u32,
}

fn default_batch_rows() -> u32 {
    1
}

const MOST_BATCH_ROWS: u32 = 1_000_000;

fn default_decay() -> f64 {
    1.0
}

/// Every row is compared with all of them.
const MOST_CLUSTERS: u32 = 10_000;

const COLUMNS: &[PredictedColumn] = &[
    PredictedColumn { name: "cluster", whole: true, mean: None },
    PredictedColumn { name: "distance", whole: false, mean: Some("mean_distance") },
];

impl Kind for KMeans {
    const NAME: &'static str = "k_means";
    const EXAMPLE: &'static str = "clusters = 3";
    const EXPORTS: bool = true;
}

impl Settings for KMeans {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        if !(1..=MOST_CLUSTERS).contains(&self.clusters) {
            let problem = format!("`clusters` is {}, and should be from 1 to {MOST_CLUSTERS}", self.clusters);
            return Err(Problem::new(problem).under("clusters"));
        }
        if !(0.0..=1.0).contains(&self.decay) {
            let problem = format!("`decay` is {}, and should be from 0 to 1, such as 0.999", self.decay);
            return Err(Problem::new(problem).under("decay"));
        }
        if !(1..=MOST_BATCH_ROWS).contains(&self.batch_rows) {
            let problem = format!("`batch_rows` is {}, and should be from 1 to {MOST_BATCH_ROWS}", self.batch_rows);
            return Err(Problem::new(problem).under("batch_rows"));
        }
        Ok(())
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        (numbers as u64 + slots as u64).saturating_mul(self.clusters.into())
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Clusters::new(self, Shape::new(features, classes)))
    }
}

/// The centres. Those that no row has made yet have no weight, and stand behind the others.
#[derive(Clone, Debug)]
struct Clusters {
    decay: f64,
    shape: Shape,
    /// How many centres rows have made.
    made: usize,
    /// By centre, how much its rows count.
    weights: Vec<f64>,
    /// The numbers of the centres, one centre behind the other, with padding.
    numbers: Vec<f64>,
    /// The shares of its rows that have a one in each slot, one centre behind the other.
    slots: Vec<f64>,
    /// By centre, the sum of the squares of its slots.
    squares: Vec<f64>,
    batch: Batch,
}

impl Clusters {
    fn new(settings: &KMeans, shape: Shape) -> Self {
        let count = settings.clusters as usize;
        Self {
            decay: settings.decay,
            shape,
            made: 0,
            weights: vec![0.0; count],
            numbers: vec![0.0; count * shape.width],
            slots: vec![0.0; count * shape.slots],
            squares: vec![0.0; count],
            batch: Batch::new(settings.batch_rows, count, shape),
        }
    }

    #[inline(always)]
    fn numbers_of(&self, centre: usize) -> &[f64] {
        &self.numbers[centre * self.shape.width..(centre + 1) * self.shape.width]
    }

    #[inline(always)]
    fn slots_of(&self, centre: usize) -> &[f64] {
        &self.slots[centre * self.shape.slots..(centre + 1) * self.shape.slots]
    }

    /// The nearest centre, the first of equals, and the square of the distance from it.
    #[inline(always)]
    fn nearest(&self, row: Row<'_>) -> Option<(usize, f64)> {
        let mut nearest = None;
        for centre in 0..self.made {
            let slots = self.slots_of(centre);
            // A one in a slot lies `1 - share` from the centre, and its square is counted in `squares` as that of 0.
            let ones = row.slots.iter().fold(0.0, |sum, slot| sum + (1.0 - 2.0 * slots[*slot as usize]));
            let of_slots = (self.squares[centre] + ones).max(0.0);
            let square = squared_distance(self.numbers_of(centre), row.numbers) + of_slots;
            if nearest.is_none_or(|(_, least)| square < least) {
                nearest = Some((centre, square));
            }
        }
        nearest
    }

    /// Moves a centre towards a row that counts so much.
    #[inline(always)]
    fn pull(&mut self, centre: usize, row: Row<'_>, weight: f64) {
        self.weights[centre] = self.weights[centre] * self.decay + weight;
        let rate = weight / self.weights[centre];
        let Shape { width, slots, .. } = self.shape;
        let numbers = &mut self.numbers[centre * width..(centre + 1) * width];
        numbers.iter_mut().zip(row.numbers).for_each(|(own, number)| *own += rate * (number - *own));
        let own = &mut self.slots[centre * slots..(centre + 1) * slots];
        let mut others = 0;
        // Slots of a row ascend, since each feature has slots of its own.
        for slot in row.slots.iter().map(|slot| *slot as usize) {
            fade(&mut own[others..slot], rate);
            own[slot] += rate * (1.0 - own[slot]);
            others = slot + 1;
        }
        fade(&mut own[others..], rate);
        self.squares[centre] = sum_of_squares(own);
    }

    /// Learns a row that counts so much.
    #[inline(always)]
    fn learn_weighted(&mut self, row: Row<'_>, weight: f64) {
        let (centre, is_new) = match self.nearest(row) {
            Some((centre, square)) if square == 0.0 || self.made == self.weights.len() => (centre, false),
            _ => {
                self.made += 1;
                (self.made - 1, true)
            }
        };
        if is_new || self.batch.size == 1 {
            self.pull(centre, row, weight);
        } else if self.batch.add(centre, self.shape, row, weight, self.decay) {
            self.apply_batch();
        }
    }

    /// Moves each centre to the mean of its rows before and those of the batch.
    #[inline(never)]
    fn apply_batch(&mut self) {
        let Shape { width, slots, .. } = self.shape;
        for centre in (0..self.made).filter(|centre| self.batch.weights[*centre] > 0.0) {
            let before = self.weights[centre] * self.batch.left[centre];
            let weight = before + self.batch.weights[centre];
            let mean = |(own, sum): (&mut f64, &f64)| *own = (*own * before + sum) / weight;
            let of_numbers = centre * width..(centre + 1) * width;
            self.numbers[of_numbers.clone()].iter_mut().zip(&self.batch.numbers[of_numbers]).for_each(mean);
            let of_slots = centre * slots..(centre + 1) * slots;
            self.slots[of_slots.clone()].iter_mut().zip(&self.batch.slots[of_slots]).for_each(mean);
            self.weights[centre] = weight;
            self.squares[centre] = sum_of_squares(self.slots_of(centre));
        }
        self.batch.clear();
    }
}

/// Moves shares towards 0.
#[inline(always)]
fn fade(shares: &mut [f64], rate: f64) {
    shares.iter_mut().for_each(|share| *share -= rate * *share);
}

#[inline(always)]
fn sum_of_squares(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |sum, number| sum + number * number)
}

impl ByRow for Clusters {
    #[inline(always)]
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let (cluster, square) =
            self.nearest(row).map_or((f64::NAN, f64::NAN), |(centre, square)| (centre as f64, square));
        (into[0], into[1]) = (cluster, square.sqrt());
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        self.learn_weighted(row, 1.0);
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_weighted(row, lesson.weight);
    }

    fn save(&self, tensors: &mut Tensors) {
        let Shape { numbers, width, slots, .. } = self.shape;
        let count = self.weights.len();
        let unpadded = |centre: usize| self.numbers[centre * width..centre * width + numbers].iter().copied();
        let centres: Vec<_> = (0..count).flat_map(unpadded).collect();
        tensors.put_f64("estimator.weights", &[count], &self.weights);
        tensors.put_f64("estimator.numbers", &[count, numbers], &centres);
        tensors.put_f64("estimator.slots", &[count, slots], &self.slots);
        self.batch.save(self.shape, tensors);
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let (made, Shape { numbers: count, slots, .. }) = (self.made, self.shape);
        if made == 0 {
            return Err(Error::new("it has no clusters yet"));
        }
        // As in `nearest`: a one in a slot lies `1 - share` from the centre, and its square is counted in `squares` as that of 0.
        let ones = |slot: usize| (0..made).map(move |centre| 1.0 - 2.0 * self.slots_of(centre)[slot]);
        let table: Vec<f64> = (0..slots).flat_map(ones).collect();
        let mut squares = graph.doubles(&[1, made], &self.squares[..made]);
        for category in &row.categories {
            let found = category.look_up(graph, &table, made);
            squares = graph.add("Add", &[&found, &squares]);
        }
        let none = graph.doubles(&[], &[0.0]);
        squares = graph.add("Max", &[&squares, &none]);
        if let Some(numbers) = &row.numbers {
            let centres: Vec<f64> =
                (0..made).flat_map(|centre| self.numbers_of(centre)[..count].iter().copied()).collect();
            let centres = graph.doubles(&[1, made, count], &centres);
            let numbers = graph.unsqueeze(numbers, 1);
            let off = graph.add("Sub", &[&numbers, &centres]);
            let off = graph.add("Mul", &[&off, &off]);
            let off = graph.sum(&off, 2, false);
            squares = graph.add("Add", &[&off, &squares]);
        }
        let nearest = graph.add_with("ArgMin", &[&squares], [("axis", Attribute::Int(1))]);
        let nearest = graph.cast(&nearest, ElementType::Double);
        let least = graph.add_with("ReduceMin", &[&squares], [("axes", Attribute::Ints(vec![1]))]);
        let distance = graph.add("Sqrt", &[&least]);
        Ok(graph.side_by_side(&[&nearest, &distance]))
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let Shape { numbers, width, slots, .. } = self.shape;
        let count = self.weights.len();
        self.weights = tensors.f64s("estimator.weights", &[count])?;
        self.made = self.weights.iter().take_while(|weight| **weight > 0.0).count();
        let centres = tensors.f64s("estimator.numbers", &[count, numbers])?;
        for centre in 0..count {
            self.numbers[centre * width..centre * width + numbers]
                .copy_from_slice(&centres[centre * numbers..(centre + 1) * numbers]);
        }
        self.slots = tensors.f64s("estimator.slots", &[count, slots])?;
        self.squares = (0..count).map(|centre| sum_of_squares(self.slots_of(centre))).collect();
        self.batch.load(self.shape, tensors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
