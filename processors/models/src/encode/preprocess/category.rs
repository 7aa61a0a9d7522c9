//! Categories as numbers: how frequent each is, or what the target was for it.

use millstream_core::{Error, Result};

use super::column::{Cell, Prepare};
use crate::encode::dictionary::Dictionary;
use crate::encode::{Feature, TargetEncoding, element_type};
use crate::onnx::{Graph, Value};
use crate::tensors::Tensors;

/// What is known of the values of a column: numbers for each of the first, and the same for all others together.
#[derive(Clone, Debug)]
struct Known {
    dictionary: Dictionary,
    /// How many rows of each there were; the last one is of all others.
    counts: Vec<u64>,
    /// How many sums there are of each value.
    width: usize,
    /// Those of each, and of all others.
    sums: Vec<f64>,
    /// How many rows there were.
    rows: u64,
    /// The sums of all.
    totals: Vec<f64>,
}

impl Known {
    fn new(most: u32, width: usize) -> Self {
        let (counts, sums, totals) = (vec![0], vec![0.0; width], vec![0.0; width]);
        Self { dictionary: Dictionary::new(most), counts, width, sums, rows: 0, totals }
    }

    /// The place of a value; none if nothing is known of it.
    #[inline]
    fn place(&self, text: &str) -> Option<usize> {
        let known = self.dictionary.get(text).map(|number| number as usize);
        known.or_else(|| self.dictionary.is_full().then(|| self.others()))
    }

    /// Where the others are.
    fn others(&self) -> usize {
        self.counts.len() - 1
    }

    fn sums(&self, place: usize) -> &[f64] {
        &self.sums[place * self.width..(place + 1) * self.width]
    }

    /// The place of a value that is learned.
    fn learn(&mut self, text: &str) -> usize {
        let place = self.dictionary.add(text).map_or(self.others(), |number| number as usize);
        if self.counts.len() == self.dictionary.len() {
            // A new one, in front of the others.
            self.counts.insert(place, 0);
            let at = place * self.width;
            self.sums.splice(at..at, std::iter::repeat_n(0.0, self.width));
        }
        self.counts[place] += 1;
        self.rows += 1;
        place
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        let [values, ends, counts, sums, totals] = names(feature);
        self.dictionary.save(&values, &ends, tensors);
        tensors.put_u64(&counts, &self.counts);
        tensors.put_f64(&sums, &[self.counts.len(), self.width], &self.sums);
        tensors.put_f64(&totals, &[self.width], &self.totals);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        let [values, ends, counts, sums, totals] = names(feature);
        self.dictionary.load(feature, &values, &ends, tensors)?;
        self.counts = tensors.u64s(&counts)?;
        let damaged = || Error::new(format!("what is known of the categories of `{feature}` is damaged"));
        if self.counts.len() != self.dictionary.len() + 1 {
            return Err(damaged());
        }
        self.sums = tensors.f64s(&sums, &[self.counts.len(), self.width])?;
        self.totals = tensors.f64s(&totals, &[self.width])?;
        let rows = self.counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        self.rows = rows.filter(|rows| *rows < 1 << 53).ok_or_else(damaged)?;
        Ok(())
    }

    /// Adds to a graph columns of numbers of each value: `table` has a row for each place, and one for what nothing is known of.
    fn to_onnx(
        &self,
        feature: &Feature,
        input: &Value,
        table: &[f64],
        width: usize,
        graph: &mut Graph,
    ) -> Result<Vec<Value>> {
        let (others, unknown) = (self.others(), self.counts.len());
        let others = if self.dictionary.is_full() { others } else { unknown };
        let place = if self.dictionary.len() == 0 {
            // Nothing but what is unknown.
            let zero = self.dictionary.to_onnx(&feature.name, input, element_type(feature), 0, graph)?;
            let unknown = graph.ints(&[unknown as i64]);
            graph.add("Add", &[&zero, &unknown])
        } else {
            self.dictionary.to_onnx(&feature.name, input, element_type(feature), others as i64, graph)?
        };
        let table = graph.doubles(&[unknown + 1, width], table);
        let found = graph.add("Gather", &[&table, &place]);
        let found = graph.squeeze(&found, 1);
        Ok((0..width).map(|at| graph.column(&found, at)).collect())
    }
}

fn names(feature: &str) -> [String; 5] {
    ["values", "ends", "counts", "sums", "totals"].map(|what| format!("preprocess.{what}.{feature}"))
}

/// The share of the rows so far that had the value; 0 for a new one.
#[derive(Clone, Debug)]
pub(super) struct Frequency(Known);

impl Frequency {
    pub fn new(most: u32) -> Self {
        Self(Known::new(most, 0))
    }

    fn share(&self, place: usize) -> f64 {
        self.0.counts[place] as f64 / self.0.rows.max(1) as f64
    }
}

impl Prepare for Frequency {
    fn width(&self) -> usize {
        1
    }

    #[inline(always)]
    fn apply(&self, cell: Cell<'_>, into: &mut [f64]) {
        let place = if let Cell::Text(Some(text)) = cell { self.0.place(text) } else { None };
        into[0] = place.map_or(0.0, |place| self.share(place));
    }

    #[inline(always)]
    fn learn(&mut self, cell: Cell<'_>, _target: f64) {
        if let Cell::Text(Some(text)) = cell {
            self.0.learn(text);
        }
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        self.0.save(feature, tensors);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        self.0.load(feature, tensors)
    }

    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>> {
        let table: Vec<_> = (0..self.0.counts.len()).map(|place| self.share(place)).chain([0.0]).collect();
        self.0.to_onnx(feature, input, &table, 1, graph)
    }
}

/// The mean of the target of rows with the value, drawn to the mean of all: `(sum + smoothing * mean) / (count + smoothing)`, as scikit-learn's `TargetEncoder`
/// with a `smooth` of this number. Of classes the target is 1 or 0 for each.
#[derive(Clone, Debug)]
pub(super) struct Target {
    known: Known,
    smoothing: f64,
    /// How many classes there are; 0 for numbers.
    classes: usize,
    /// Whether it is told how far a mean lies from that of all, in standard deviations: numbers of one size, whatever the target's is.
    is_scaled: bool,
    /// Of the targets, their mean and the squared distances from it, by Welford's method.
    spread: [f64; 2],
}

impl Target {
    pub fn new(settings: TargetEncoding, classes: usize, is_scaled: bool) -> Self {
        let width = if classes > 2 { classes } else { 1 };
        let (known, smoothing) = (Known::new(settings.categories, width), settings.smoothing);
        Self { known, smoothing, classes, is_scaled: is_scaled && classes == 0, spread: [0.0; 2] }
    }

    /// One of the numbers of a value, or of what nothing is known of.
    #[inline(always)]
    fn number(&self, place: Option<usize>, at: usize) -> f64 {
        let rows = self.known.rows.max(1) as f64;
        let of_all = self.known.totals[at] / rows;
        let mean = place.map_or(of_all, |place| self.mean(place, at, of_all));
        if !self.is_scaled {
            return mean;
        }
        let deviation = (self.spread[1] / rows).sqrt();
        if deviation > 0.0 { (mean - of_all) / deviation } else { 0.0 }
    }

    fn mean(&self, place: usize, at: usize, of_all: f64) -> f64 {
        let (count, sum) = (self.known.counts[place] as f64, self.known.sums(place)[at]);
        // The others together may be none yet, and there may be no smoothing.
        if count == 0.0 { of_all } else { (sum + self.smoothing * of_all) / (count + self.smoothing) }
    }
}

impl Prepare for Target {
    fn width(&self) -> usize {
        self.known.width
    }

    #[inline(always)]
    fn apply(&self, cell: Cell<'_>, into: &mut [f64]) {
        let place = if let Cell::Text(Some(text)) = cell { self.known.place(text) } else { None };
        into.iter_mut().enumerate().for_each(|(at, number)| *number = self.number(place, at));
    }

    #[inline(always)]
    fn learn(&mut self, cell: Cell<'_>, target: f64) {
        let Cell::Text(Some(text)) = cell else { return };
        let place = self.known.learn(text);
        // The sum of a class goes on by one for a row of it; that of a number, or of the second of two classes, by the target itself.
        let (at, by) = if self.classes > 2 { (target as usize, 1.0) } else { (0, target) };
        self.known.sums[place * self.known.width + at] += by;
        self.known.totals[at] += by;
        let [mean, squares] = &mut self.spread;
        let before = target - *mean;
        *mean += before / self.known.rows as f64;
        *squares += before * (target - *mean);
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        self.known.save(feature, tensors);
        tensors.put_f64(&format!("preprocess.spread.{feature}"), &[2], &self.spread);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        self.spread.copy_from_slice(&tensors.f64s(&format!("preprocess.spread.{feature}"), &[2])?);
        self.known.load(feature, tensors)
    }

    fn to_onnx(&self, feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Vec<Value>> {
        let places = (0..self.known.counts.len()).map(Some).chain([None]);
        let width = self.known.width;
        let table: Vec<_> = places.flat_map(|place| (0..width).map(move |at| self.number(place, at))).collect();
        self.known.to_onnx(feature, input, &table, width, graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What texts become, each by those before it.
    fn become_of(column: &mut impl Prepare, rows: &[(Option<&str>, f64)]) -> Vec<Vec<f64>> {
        let mut each = |(text, target): &(Option<&str>, f64)| {
            let mut into = vec![0.0; column.width()];
            column.apply(Cell::Text(*text), &mut into);
            column.learn(Cell::Text(*text), *target);
            into
        };
        rows.iter().map(&mut each).collect()
    }

    #[test]
    fn frequencies_are_those_of_the_rows_before() {
        let rows = ["a", "b", "a", "a", "c", "d", "c", "a"].map(|text| (Some(text), 0.0));
        let found = become_of(&mut Frequency::new(2), &rows).concat();
        // `c` and `d` share the place of the others.
        assert_eq!(found, [0.0, 0.0, 0.5, 2.0 / 3.0, 0.0, 0.2, 2.0 / 6.0, 3.0 / 7.0]);
        assert_eq!(become_of(&mut Frequency::new(2), &[(None, 0.0), (Some("a"), 0.0), (None, 0.0)]).concat(), [0.0; 3]);
    }

    #[test]
    fn the_target_of_a_row_is_not_in_its_own_number() {
        let rows = [("a", 4.0), ("b", 2.0), ("a", 6.0), ("a", 0.0), ("c", 9.0), ("d", 1.0)];
        let rows = rows.map(|(text, target)| (Some(text), target));
        let settings = TargetEncoding { categories: 3, smoothing: 2.0 };
        let found = become_of(&mut Target::new(settings, 0, false), &rows).concat();
        let smoothed = |sum: f64, count: f64, mean: f64| (sum + 2.0 * mean) / (count + 2.0);
        assert_eq!(found, [0.0, 4.0, smoothed(4.0, 1.0, 3.0), smoothed(10.0, 2.0, 4.0), 3.0, 21.0 / 5.0]);
        let mut other = rows;
        other[3].1 = 1e6;
        assert_eq!(become_of(&mut Target::new(settings, 0, false), &other).concat()[..4], found[..4]);
        // In standard deviations from the mean of all: of 4, 2 and 6, and then of 0 as well.
        let scaled = become_of(&mut Target::new(settings, 0, true), &rows).concat();
        assert_eq!(scaled[..3], [0.0, 0.0, (smoothed(4.0, 1.0, 3.0) - 3.0) / 1.0]);
        assert!(
            (scaled[3] - (smoothed(10.0, 2.0, 4.0) - 4.0) / (8.0_f64 / 3.0).sqrt()).abs() < 1e-12 && scaled[4] == 0.0
        );
    }

    #[test]
    fn of_several_classes_each_has_its_rate() {
        let rows = [("a", 0.0), ("a", 2.0), ("b", 1.0), ("a", 2.0)].map(|(text, class)| (Some(text), class));
        let settings = TargetEncoding { categories: 1, smoothing: 0.0 };
        let found = become_of(&mut Target::new(settings, 3, true), &rows);
        assert_eq!(found, [[0.0; 3], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]);
        let of_two =
            become_of(&mut Target::new(settings, 2, true), &[(Some("a"), 1.0), (Some("a"), 0.0), (Some("a"), 0.0)]);
        assert_eq!(of_two.concat(), [0.0, 1.0, 0.5]);
    }
}
