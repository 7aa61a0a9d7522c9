//! What trees of a forest vote for, and how their votes are counted.

use crate::estimator::tree::{Amounts, Classes, Known};
use crate::onnx::{Graph, Value};
use crate::vector::largest;

/// What trees of a forest vote for.
pub(in crate::estimator) trait Votes: Known {
    /// How wrong a vote was.
    fn error(votes: &[f64], target: Self::Target) -> f64;

    /// The same from 0 to 1, as it is watched, of a tree that is so wrong on average.
    fn watched(error: f64, mean: f64) -> f64;

    /// How much the vote of a tree counts that was so wrong over so many rows.
    fn say(rows: u64, errors: f64) -> f64;

    /// How many numbers a prediction of the forest has.
    fn predicted(outputs: usize) -> usize;

    /// The prediction by the sums of the votes of so many trees.
    fn count(sums: &[f64], trees: usize, into: &mut [f64]);

    /// Adds the same to a graph.
    fn count_in_onnx(sums: &Value, trees: usize, outputs: usize, graph: &mut Graph) -> Value;
}

/// For each class, as much as its tree was right.
impl Votes for Classes {
    #[inline(always)]
    fn error(votes: &[f64], class: usize) -> f64 {
        f64::from(u8::from(largest(votes) != class))
    }

    #[inline(always)]
    fn watched(error: f64, _: f64) -> f64 {
        error
    }

    #[inline(always)]
    fn say(rows: u64, errors: f64) -> f64 {
        let right = rows as f64 - errors;
        if right == 0.0 { 1.0 } else { right / rows as f64 }
    }

    /// Of two classes, only the second.
    fn predicted(classes: usize) -> usize {
        if classes == 2 { 1 } else { classes }
    }

    #[inline(always)]
    fn count(sums: &[f64], _: usize, into: &mut [f64]) {
        let (total, skipped): (f64, _) = (sums.iter().sum(), sums.len() - into.len());
        into.iter_mut().zip(&sums[skipped..]).for_each(|(into, sum)| *into = sum / total);
    }

    fn count_in_onnx(sums: &Value, _: usize, outputs: usize, graph: &mut Graph) -> Value {
        let total = graph.sum(sums, 1, true);
        let shares = graph.add("Div", &[sums, &total]);
        if outputs == 2 { graph.column(&shares, 1) } else { shares }
    }
}

/// For a number: the mean is predicted.
impl Votes for Amounts {
    #[inline(always)]
    fn error(votes: &[f64], target: f64) -> f64 {
        (votes[0] - target).abs()
    }

    /// One as large as usual is a half, whatever the size of the numbers.
    #[inline(always)]
    fn watched(error: f64, mean: f64) -> f64 {
        if mean > 0.0 { error / (error + mean) } else { 0.0 }
    }

    #[inline(always)]
    fn say(_: u64, _: f64) -> f64 {
        1.0
    }

    fn predicted(numbers: usize) -> usize {
        numbers
    }

    #[inline(always)]
    fn count(sums: &[f64], trees: usize, into: &mut [f64]) {
        into[0] = sums[0] / trees as f64;
    }

    fn count_in_onnx(sums: &Value, trees: usize, _: usize, graph: &mut Graph) -> Value {
        let trees = graph.doubles(&[], &[trees as f64]);
        graph.add("Div", &[sums, &trees])
    }
}
