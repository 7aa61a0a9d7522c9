//! Whether a model has diverged although all its numbers are finite, since gradients are clipped.
//!
//! It is judged by the newer half of the last rows, each predicted before it was learned, so that what a model went through
//! when it had just begun does not count. The bounds are far from what a model that is merely bad comes to.

use millstream_core::Result;

use crate::decision::Decision;

/// By how much the error of a model must exceed labels and baseline.
const MUCH_WORSE: f64 = 1e3;

/// By how much it must exceed them where it also grows by as much from the older half of the rows to the newer one.
const WORSE_AND_GROWING: f64 = 10.0;

/// Larger weights than this mean something only if they predict something.
const HUGE_WEIGHT: f64 = 1e12;

/// Of fewer rows nothing is said.
const FEWEST_ROWS: usize = 10;

/// Says how a model of numbers has diverged. `rows` are labels and predictions, and `baseline` is the root of the mean squared
/// error of the mean so far, over all rows.
pub(super) fn of_numbers(rows: &[(f64, f64)], baseline: f64) -> Option<String> {
    let (older, newer) = rows.split_at(rows.len() / 2);
    if newer.len() < FEWEST_ROWS {
        return None;
    }
    let error = |rows: &[(f64, f64)]| root_mean_square(rows.iter().map(|(label, prediction)| prediction - label));
    let (before, now) = (error(older), error(newer));
    let size = root_mean_square(newer.iter().map(|(label, _)| *label)).max(baseline);
    let grows = now > before * WORSE_AND_GROWING && now > size * WORSE_AND_GROWING;
    let diverged = size > 0.0 && (grows || now > size * MUCH_WORSE);
    let rows = newer.len();
    diverged
        .then(|| format!("over the last {rows} rows its error is {now:.3e}, where the mean so far has {baseline:.3e}"))
}

/// Says how a model of classes has diverged. `rows` are classes and predictions.
pub(super) fn of_classes(
    rows: &[(usize, &[f64])],
    decision: Decision,
    largest_weight: impl FnOnce() -> Result<f64>,
) -> Result<Option<String>> {
    let newer = &rows[rows.len() / 2..];
    let right = newer.iter().filter(|(class, prediction)| decision.class(prediction) == *class).count();
    let of_class = |wanted: usize| newer.iter().filter(|(class, _)| *class == wanted).count();
    let most_frequent = newer.iter().map(|(class, _)| of_class(*class)).max().unwrap_or(0);
    if right >= most_frequent || newer.len() < FEWEST_ROWS {
        return Ok(None);
    }
    let weight = largest_weight()?;
    let rows = newer.len();
    let why = || {
        format!(
            "a weight is {weight:.3e}, and of the last {rows} rows {right} were predicted rightly, where one class alone has \
             {most_frequent}"
        )
    };
    Ok((weight > HUGE_WEIGHT).then(why))
}

fn root_mean_square(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    (values.map(|value| value * value / count).sum::<f64>()).sqrt()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::estimator::Certainty;

    fn numbers(rows: usize, prediction: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        (0..rows).map(|row| (5.0 + (row % 3) as f64, prediction(row))).collect()
    }

    #[test]
    fn errors_that_are_huge_or_grow_are_no_model() {
        let diverged = |prediction: fn(usize) -> f64| of_numbers(&numbers(1000, prediction), 1.0).is_some();
        assert!(diverged(|_| 1e30) && diverged(|row| 1.02_f64.powi(row as i32)) && diverged(|_| f64::MAX / 2.0));
        // Bad from the start, or only at the start.
        assert!(!diverged(|_| -500.0) && !diverged(|row| if row < 400 { 1e30 } else { 5.5 }));
    }

    #[test]
    fn outliers_and_constant_labels_are_no_divergence() {
        let outlier: Vec<_> = (0..1000).map(|row| (if row == 900 { 1e9 } else { 1.0 }, 1.0)).collect();
        assert_eq!(of_numbers(&outlier, 1e3), None);
        assert_eq!(of_numbers(&[(0.0, 1e9); 1000], 0.0), None, "there is nothing to compare with");
        assert_eq!(of_numbers(&[(5.0, 5.1); 1000], 1e-9), None);
        assert_eq!(of_numbers(&numbers(10, |_| 1e30), 1.0), None, "too few rows");
    }

    #[test]
    fn huge_weights_are_no_model_unless_they_predict_something() {
        let rows: Vec<(usize, &[f64])> = (0..100).map(|row| (row % 2, &[1e15][..])).collect();
        let worse: Vec<(usize, &[f64])> = (0..100).map(|row| (usize::from(row % 5 == 0), &[1e15][..])).collect();
        let diverged = |rows, weight| of_classes(rows, Certainty::Score.into(), || Ok(weight)).unwrap().is_some();
        assert!(diverged(&worse, 1e15));
        assert!(!diverged(&worse, 1e6) && !diverged(&rows, 1e15));
    }
}
