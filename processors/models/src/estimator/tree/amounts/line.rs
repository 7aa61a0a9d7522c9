//! The linear model of a leaf, by normalised least mean squares: a row takes a share of its own error away, whatever the sizes of its numbers are.

use crate::vector::{LANES, dot};

/// A weight for each number, which is multiplied by how far the number is from its mean, and an intercept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// How much its rows count.
    pub weight: f64,
    pub intercept: f64,
    /// Means, the sums of the squares of the distances from them, and weights, each padded.
    lists: Vec<f64>,
    width: usize,
}

/// No prediction is larger: numbers that have hardly any deviation for long, and then a large one, would have no end.
pub(super) const FARTHEST: f64 = 1e101;

/// How many lists there are.
pub(super) const LISTS: usize = 3;

impl Line {
    pub fn new(width: usize) -> Self {
        Self { weight: 0.0, intercept: 0.0, lists: vec![0.0; LISTS * width], width }
    }

    /// How many bytes it takes beside its size.
    pub fn bytes(width: usize) -> usize {
        size_of::<f64>() * LISTS * width
    }

    fn list(&self, list: usize) -> &[f64] {
        &self.lists[list * self.width..(list + 1) * self.width]
    }

    #[inline(always)]
    pub fn at(&self, numbers: &[f64]) -> f64 {
        let (means, weights) = (self.list(0), self.list(2));
        let mut sums = [0.0; LANES];
        let lists = numbers.as_chunks::<LANES>().0.iter().zip(means.as_chunks::<LANES>().0);
        for ((numbers, means), weights) in lists.zip(weights.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                sums[lane] += (numbers[lane] - means[lane]) * weights[lane];
            }
        }
        let sum = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
        (self.intercept + sum).clamp(-FARTHEST, FARTHEST)
    }

    /// Moves towards a row that counts so much. A row that counts more than one over `rate` is met, and not passed.
    #[inline(always)]
    pub fn learn(&mut self, numbers: &[f64], target: f64, weight: f64, rate: f64) {
        if self.weight == 0.0 {
            self.intercept = target;
        }
        self.measure(numbers, weight);
        let (width, total) = (self.width, self.weight);
        let error = target - self.at(numbers);
        // By number, its distance from the mean in deviations, and once more divided by the deviation.
        let (mut scaled, mut steps) = ([0.0; LANES], [0.0; LANES]);
        let mut norm = 1.0;
        for start in (0..width).step_by(LANES) {
            self.scale(numbers, start, total, &mut scaled, &mut steps);
            norm += dot(&scaled, &scaled);
        }
        let step = (rate * weight).min(1.0) * error / norm;
        self.intercept += step;
        for start in (0..width).step_by(LANES) {
            self.scale(numbers, start, total, &mut scaled, &mut steps);
            let weights = &mut self.lists[2 * width + start..2 * width + start + LANES];
            weights.iter_mut().zip(steps).for_each(|(weight, by)| *weight += step * by);
        }
    }

    /// Takes the numbers of a row that counts so much into means and squares. What is predicted stays the same.
    #[inline(always)]
    fn measure(&mut self, numbers: &[f64], weight: f64) {
        self.weight += weight;
        let (width, share) = (self.width, weight / self.weight);
        let (means, rest) = self.lists.split_at_mut(width);
        let (squares, weights) = rest.split_at_mut(width);
        let mut moved = [0.0; LANES];
        let lists = means.iter_mut().zip(squares).zip(weights).zip(numbers).enumerate();
        for (index, (((mean, squares), weight_of_number), number)) in lists {
            let off = number - *mean;
            let by = off * share;
            *mean += by;
            *squares += weight * off * (number - *mean);
            moved[index % LANES] += by * *weight_of_number;
        }
        self.intercept +=
            ((moved[0] + moved[4]) + (moved[2] + moved[6])) + ((moved[1] + moved[5]) + (moved[3] + moved[7]));
    }

    /// The same for rows among which numbers lie elsewhere, and closer to each other: it finds out soon where.
    pub fn of_part(&self) -> Self {
        /// What is known of the numbers of all rows counts as much as so many of the part.
        const MOST: f64 = 20.0;
        let mut line = self.clone();
        if line.weight > MOST {
            let share = MOST / line.weight;
            line.weight = MOST;
            line.lists[self.width..2 * self.width].iter_mut().for_each(|squares| *squares *= share);
        }
        line
    }

    /// A number that has always been the same says nothing.
    #[inline(always)]
    fn scale(&self, numbers: &[f64], start: usize, total: f64, scaled: &mut [f64; LANES], steps: &mut [f64; LANES]) {
        let (means, squares) = (&self.list(0)[start..start + LANES], &self.list(1)[start..start + LANES]);
        for lane in 0..LANES {
            let variance = squares[lane] / total;
            let has_width = variance > f64::MIN_POSITIVE;
            let deviation = if has_width { variance.sqrt() } else { 1.0 };
            let off = if has_width { numbers[start + lane] - means[lane] } else { 0.0 };
            scaled[lane] = off / deviation;
            steps[lane] = scaled[lane] / deviation;
        }
    }

    /// The means of so many numbers, and their weights.
    pub fn means_and_weights(&self, numbers: usize) -> (&[f64], &[f64]) {
        (&self.list(0)[..numbers], &self.list(2)[..numbers])
    }

    /// All there is, without padding.
    pub fn saved(&self, numbers: usize) -> impl Iterator<Item = f64> {
        let lists = (0..LISTS).flat_map(move |list| self.list(list)[..numbers].iter().copied());
        [self.weight, self.intercept].into_iter().chain(lists)
    }

    /// How many numbers that is.
    pub fn saved_count(numbers: usize) -> usize {
        2 + LISTS * numbers
    }

    pub fn load(width: usize, numbers: usize, saved: &[f64]) -> Self {
        let mut line = Self { weight: saved[0], intercept: saved[1], ..Self::new(width) };
        for list in 0..LISTS {
            let own = &saved[2 + list * numbers..2 + (list + 1) * numbers];
            line.lists[list * width..list * width + numbers].copy_from_slice(own);
        }
        line
    }
}
