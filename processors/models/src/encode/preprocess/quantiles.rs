//! Quantiles of all numbers so far, in bounded memory.
//!
//! The P² histogram: R. Jain and I. Chlamtac, "The P² algorithm for dynamic calculation of quantiles and histograms without storing observations" (1985).
//! Markers stand at equal shares of the numbers; each is moved, along a parabola through its neighbours, when it has fallen behind by one. It has no
//! randomness: the same numbers in the same order give the same markers.

use millstream_core::{Error, Result};

use crate::tensors::Tensors;

/// How many markers there are: the smallest number, the largest, and 31 between them. Up to so many numbers, all are known.
pub(super) const MARKERS: usize = 33;

/// What is known of the quantiles of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Quantiles {
    count: u64,
    /// The numbers at the markers, in their order.
    heights: Vec<f64>,
    /// How many numbers are at most as large, by marker.
    positions: Vec<f64>,
}

impl Quantiles {
    /// Takes one more number in.
    pub fn add(&mut self, number: f64) {
        self.count += 1;
        if self.heights.len() < MARKERS {
            let place = self.heights.partition_point(|height| *height <= number);
            self.heights.insert(place, number);
            self.positions.push(self.count as f64);
            return;
        }
        let last = MARKERS - 1;
        self.heights[0] = self.heights[0].min(number);
        self.heights[last] = self.heights[last].max(number);
        let below = self.heights[1..last].partition_point(|height| *height <= number);
        self.positions[below + 1..].iter_mut().for_each(|position| *position += 1.0);
        let step = (self.count - 1) as f64 / last as f64;
        (1..last).for_each(|marker| self.move_to(marker, 1.0 + step * marker as f64));
    }

    /// Moves a marker by one towards where it should be, if it has fallen behind.
    fn move_to(&mut self, marker: usize, wanted: f64) {
        let [before, at, behind] = [marker - 1, marker, marker + 1].map(|marker| self.positions[marker]);
        let off = wanted - at;
        let by = if off >= 1.0 && behind - at > 1.0 {
            1.0
        } else if off <= -1.0 && before - at < -1.0 {
            -1.0
        } else {
            return;
        };
        let [low, height, high] = [marker - 1, marker, marker + 1].map(|marker| self.heights[marker]);
        let (up, down) = ((high - height) / (behind - at), (height - low) / (at - before));
        let moved = height + by / (behind - before) * ((at - before + by) * up + (behind - at - by) * down);
        let slope = if by > 0.0 { up } else { down };
        self.heights[marker] = if low < moved && moved < high { moved } else { height + by * slope };
        self.positions[marker] += by;
    }

    /// The number below which that share of all lies; 0 if there is none.
    pub fn at(&self, share: f64) -> f64 {
        let position = 1.0 + share * self.count.saturating_sub(1) as f64;
        let above = self.positions.partition_point(|known| *known <= position);
        match (above.checked_sub(1).and_then(|below| self.marker(below)), self.marker(above)) {
            (Some((from, low)), Some((to, high))) => low + (high - low) * ((position - from) / (to - from)),
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0.0,
        }
    }

    /// Where a number stands among those so far, from 0 to 1: in the middle of those that are equal. 0.5 before there are two.
    pub fn share_below(&self, number: f64) -> f64 {
        if self.count < 2 {
            return 0.5;
        }
        let first = self.heights.partition_point(|height| *height < number);
        let behind = self.heights.partition_point(|height| *height <= number);
        let position = match (first.checked_sub(1).and_then(|below| self.marker(below)), self.marker(behind)) {
            _ if behind > first => (self.positions[first] + self.positions[behind - 1]) / 2.0,
            (Some((from, low)), Some((to, high))) => from + (to - from) * ((number - low) / (high - low)),
            (None, _) => 1.0,
            (_, None) => self.count as f64,
        };
        (position - 1.0) / (self.count - 1) as f64
    }

    fn marker(&self, marker: usize) -> Option<(f64, f64)> {
        Some((*self.positions.get(marker)?, self.heights[marker]))
    }

    pub fn save(&self, name: &str, tensors: &mut Tensors) {
        tensors.put_u64(&format!("{name}.count"), &[self.count]);
        let markers = [&self.positions[..], &self.heights].concat();
        tensors.put_f64(&format!("{name}.markers"), &[2, self.heights.len()], &markers);
    }

    /// Reads what was saved under that name.
    ///
    /// # Errors
    /// If those are no markers.
    pub fn load(name: &str, tensors: &Tensors) -> Result<Self> {
        let count = tensors.u64s(&format!("{name}.count"))?.first().copied().unwrap_or(0);
        let markers = count.min(MARKERS as u64) as usize;
        let mut positions = tensors.f64s(&format!("{name}.markers"), &[2, markers])?;
        let heights = positions.split_off(markers);
        let rises = positions.windows(2).all(|pair| pair[0] < pair[1]);
        let is_sorted = heights.windows(2).all(|pair| pair[0] <= pair[1]);
        let is_whole = positions.first().is_none_or(|first| *first == 1.0) && count < 1 << 53;
        if !rises || !is_sorted || !is_whole || heights.iter().any(|height| !height.is_finite()) {
            return Err(Error::new(format!("`{name}` of the model is damaged")));
        }
        Ok(Self { count, heights, positions })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fixtures::data;

    fn of(numbers: impl IntoIterator<Item = f64>) -> Quantiles {
        let mut quantiles = Quantiles::default();
        numbers.into_iter().for_each(|number| quantiles.add(number));
        quantiles
    }

    /// NumPy's `quantile` with its usual interpolation.
    fn exact(sorted: &[f64], share: f64) -> f64 {
        let place = share * (sorted.len() - 1) as f64;
        let below = place as usize;
        let above = (below + 1).min(sorted.len() - 1);
        sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
    }

    #[test]
    fn of_few_numbers_they_are_those_of_numpy() {
        let numbers = [3.0, -1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        let mut sorted = numbers;
        sorted.sort_unstable_by(f64::total_cmp);
        let quantiles = of(numbers);
        for share in [0.0, 0.1, 0.25, 0.5, 0.9, 1.0] {
            assert!((quantiles.at(share) - exact(&sorted, share)).abs() < 1e-12);
        }
        assert_eq!(
            [-2.0, -1.0, 4.5, 9.0, 10.0].map(|number| quantiles.share_below(number)),
            [0.0, 0.0, 4.5 / 7.0, 1.0, 1.0]
        );
        assert_eq!((of([]).at(0.5), of([]).share_below(3.0), of([7.0]).at(0.3)), (0.0, 0.5, 7.0));
    }

    #[test]
    fn of_real_numbers_they_are_near_the_exact_ones() {
        for (name, column) in [("phishing", 0), ("approval", 0), ("segments", 1), ("chicks", 0)] {
            let numbers: Vec<f64> = data(name).rows.iter().map(|row| row.0[column]).collect();
            let quantiles = of(numbers.iter().copied());
            let mut sorted = numbers;
            sorted.sort_unstable_by(f64::total_cmp);
            let range = sorted[sorted.len() - 1] - sorted[0];
            for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
                let (found, wanted) = (quantiles.at(share), exact(&sorted, share));
                // Where numbers are few and far between, what counts is that about the share of them is smaller.
                let below = sorted.partition_point(|number| *number < found) as f64 / sorted.len() as f64;
                let up_to = sorted.partition_point(|number| *number <= found) as f64 / sorted.len() as f64;
                let is_near = (found - wanted).abs() < 0.02 * range || below - 0.05 < share && share < up_to + 0.05;
                assert!(is_near, "{name} {share}: {found}, not {wanted}");
            }
            assert_eq!((quantiles.at(0.0), quantiles.at(1.0)), (sorted[0], sorted[sorted.len() - 1]), "{name}");
        }
    }

    #[test]
    fn equal_and_odd_numbers_do_no_harm() {
        let equal = of([2.0; 1000]);
        assert_eq!(
            (equal.at(0.25), equal.at(0.75), equal.share_below(2.0), equal.share_below(3.0)),
            (2.0, 2.0, 0.5, 1.0)
        );
        let odd = of((0..5000).map(|row| if row % 7 == 0 { 1e150 } else { -1e150 + f64::from(row) }));
        assert!(odd.heights.is_sorted() && odd.heights.iter().all(|height| height.is_finite()));
        assert_eq!((odd.heights.len(), odd.positions.len()), (MARKERS, MARKERS));
    }

    #[test]
    fn they_are_saved_bit_by_bit() {
        for count in [0, 1, 20, 33, 34, 500] {
            let quantiles = of((0..count).map(|row| f64::from(row * 7919 % 503)));
            let mut tensors = Tensors::default();
            quantiles.save("q", &mut tensors);
            assert_eq!(Quantiles::load("q", &tensors).unwrap(), quantiles);
        }
        let mut tensors = Tensors::default();
        of([1.0, 2.0]).save("q", &mut tensors);
        tensors.put_f64("q.markers", &[2, 2], &[1.0, 1.0, 1.0, 2.0]);
        assert!(Quantiles::load("q", &tensors).unwrap_err().to_string().contains("`q` of the model is damaged"));
    }
}
