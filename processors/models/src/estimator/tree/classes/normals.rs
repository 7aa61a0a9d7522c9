//! How the numbers of a leaf of classes are distributed: for each class and feature, as a normal distribution between two bounds.

use crate::vector::{LANES, ln};

/// By class, one behind the other: means, sums of squares, least and largest numbers, and scales, each padded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Normals {
    width: usize,
    values: Vec<f64>,
    /// By class, the sum over the features of half the logarithm of 2 pi times the variance.
    norms: Vec<f64>,
}

/// How many lists of numbers a class has.
const LISTS: usize = 5;

/// How many of them are saved; the last follows from the others.
pub(super) const SAVED_LISTS: usize = 4;

/// A scale that lets nothing pass but the mean itself: where all numbers of a class are the same, there is no other.
const RIGID: f64 = f64::MAX;

/// What is known of a number of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normal {
    pub mean: f64,
    pub deviation: f64,
    pub least: f64,
    pub largest: f64,
}

impl Normals {
    pub fn new(classes: usize, width: usize) -> Self {
        let mut values = vec![0.0; classes * LISTS * width];
        for class in values.chunks_exact_mut(LISTS * width) {
            class[2 * width..3 * width].fill(f64::MAX);
            class[3 * width..4 * width].fill(f64::MIN);
            class[4 * width..].fill(RIGID);
        }
        Self { width, values, norms: vec![0.0; classes] }
    }

    /// How many bytes they take.
    pub fn bytes_of(classes: usize, width: usize) -> usize {
        size_of::<f64>() * classes * (LISTS * width + 1)
    }

    fn class(&self, class: usize) -> &[f64] {
        &self.values[class * LISTS * self.width..(class + 1) * LISTS * self.width]
    }

    /// Takes in a row of a class that counts so much, and with which the rows of the class count `count`.
    #[inline(always)]
    pub fn update(&mut self, class: usize, numbers: &[f64], weight: f64, count: f64) {
        let width = self.width;
        let values = &mut self.values[class * LISTS * width..(class + 1) * LISTS * width];
        let (means, rest) = values.split_at_mut(width);
        let (squares, rest) = rest.split_at_mut(width);
        let (least, rest) = rest.split_at_mut(width);
        let (largest, scales) = rest.split_at_mut(width);
        let (share, freedom) = (weight / count, count - 1.0);
        let mut norms = [0.0; LANES];
        let numbers = numbers.as_chunks::<LANES>().0.iter();
        let means = means.as_chunks_mut::<LANES>().0.iter_mut();
        let squares = squares.as_chunks_mut::<LANES>().0.iter_mut();
        let least = least.as_chunks_mut::<LANES>().0.iter_mut();
        let largest = largest.as_chunks_mut::<LANES>().0.iter_mut();
        let scales = scales.as_chunks_mut::<LANES>().0.iter_mut();
        let lists = numbers.zip(means).zip(squares).zip(least).zip(largest).zip(scales);
        for (((((numbers, means), squares), least), largest), scales) in lists {
            for lane in 0..LANES {
                let off = numbers[lane] - means[lane];
                means[lane] += off * share;
                squares[lane] += weight * off * (numbers[lane] - means[lane]);
                least[lane] = if numbers[lane] < least[lane] { numbers[lane] } else { least[lane] };
                largest[lane] = if numbers[lane] > largest[lane] { numbers[lane] } else { largest[lane] };
                let (scale, norm) = scale_and_norm(squares[lane], freedom);
                scales[lane] = scale;
                norms[lane] += norm;
            }
        }
        self.norms[class] = sum(norms);
    }

    /// The logarithm of how dense the rows of a class are here.
    #[inline(always)]
    pub fn log_density(&self, class: usize, numbers: &[f64]) -> f64 {
        let (values, width) = (self.class(class), self.width);
        let (means, scales) = (&values[..width], &values[4 * width..]);
        let mut sums = [0.0; LANES];
        let lists = numbers.as_chunks::<LANES>().0.iter().zip(means.as_chunks::<LANES>().0);
        for ((numbers, means), scales) in lists.zip(scales.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                let off = numbers[lane] - means[lane];
                sums[lane] += off * off * scales[lane];
            }
        }
        -self.norms[class] - sum(sums)
    }

    /// The means of the numbers of a class and by what the squares of the distances from them are multiplied, each padded; and what is
    /// subtracted from the logarithm of the density besides.
    pub fn means_scales_and_norm(&self, class: usize) -> (&[f64], &[f64], f64) {
        let (values, width) = (self.class(class), self.width);
        (&values[..width], &values[4 * width..], self.norms[class])
    }

    /// What is known of a number of a class whose rows count so much.
    pub fn normal(&self, class: usize, feature: usize, count: f64) -> Normal {
        let (values, width) = (self.class(class), self.width);
        let variance = variance(values[width + feature], count - 1.0);
        let [mean, least, largest] = [0, 2, 3].map(|list| values[list * width + feature]);
        Normal { mean, deviation: variance.sqrt(), least, largest }
    }

    /// The lists of all classes that don't follow from others, without padding.
    pub fn saved(&self, features: usize) -> impl Iterator<Item = f64> {
        let width = self.width;
        self.values.chunks_exact(LISTS * width).flat_map(move |class| {
            (0..SAVED_LISTS).flat_map(move |list| class[list * width..list * width + features].iter().copied())
        })
    }

    /// Reads the lists of all classes. `counts` is what their rows count.
    pub fn load(&mut self, features: usize, saved: &[f64], counts: &[f64]) {
        let width = self.width;
        let classes = self.values.chunks_exact_mut(LISTS * width).zip(saved.chunks_exact(SAVED_LISTS * features));
        for (class, (values, saved)) in classes.enumerate() {
            let mut norms = [0.0; LANES];
            for feature in 0..width {
                let saved = |list: usize| if feature < features { saved[list * features + feature] } else { 0.0 };
                (0..SAVED_LISTS).for_each(|list| values[list * width + feature] = saved(list));
                let (scale, norm) = scale_and_norm(saved(1), counts[class] - 1.0);
                values[4 * width + feature] = scale;
                norms[feature % LANES] += norm;
            }
            self.norms[class] = sum(norms);
        }
    }
}

#[inline(always)]
fn variance(squares: f64, freedom: f64) -> f64 {
    if freedom > 0.0 { squares / freedom } else { 0.0 }
}

/// By what the square of a distance from the mean is multiplied, and half the logarithm of 2 pi times the variance.
#[inline(always)]
fn scale_and_norm(squares: f64, freedom: f64) -> (f64, f64) {
    let variance = variance(squares, freedom);
    let has_width = variance > f64::MIN_POSITIVE;
    // Something that has a logarithm, where there is no width.
    let width = if has_width { variance } else { 1.0 };
    let (scale, norm) = (0.5 / width, 0.5 * ln(std::f64::consts::TAU * width));
    if has_width { (scale, norm) } else { (RIGID, 0.0) }
}

#[inline(always)]
fn sum(sums: [f64; LANES]) -> f64 {
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}
