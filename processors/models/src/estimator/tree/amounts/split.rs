//! How a leaf of numbers is split: by the test that takes most of the variance away.

use super::moments::{Moments, squares};
use super::{Amounts, CountedAmounts, Plan, SUMS, Split, Sums};
use crate::estimator::tree::test::{Test, best};

/// At least two children have more of the rows than this share, and count as much as so many rows.
const LEAST_SHARE: f64 = 0.01;
const LEAST_WEIGHT: f64 = 5.0;

/// The split that a leaf is to be split by, if one is so much better than the others that it is not chance.
pub(super) fn find(leaf: &Amounts, counted: &CountedAmounts, plan: &Plan<Amounts>) -> Option<Split<Amounts>> {
    let origin = counted.origin?;
    let numbers = (0..counted.numbers.len()).filter_map(|number| of_number(number, counted));
    let categories = (0..counted.categories.len()).filter_map(|category| of_category(category, counted, plan));
    let (merit, second, (test, sums)) = best(numbers.chain(categories))?;
    // How many times as good the best is, which does not depend on the size of the numbers.
    let bound = plan.growth.bound(1.0, leaf.moments.weight);
    let is_better = second < merit * (1.0 - bound) || bound < plan.growth.tie;
    let (line, errors) = (leaf.line.of_part(), leaf.errors);
    let child = |sums: &Sums| Amounts { moments: Moments::of(*sums, origin), errors, line: line.clone() };
    is_better.then(|| Split { test, children: sums.iter().map(child).collect() })
}

/// The best split by one of the numbers that are counted, if there is any.
fn of_number(index: usize, counted: &CountedAmounts) -> Option<(f64, (Test, Vec<Sums>))> {
    let bins = &counted.numbers[index];
    let all = total(bins.sums.iter());
    let (mut below, mut best) = ([0.0; SUMS], None::<(f64, f64, [Sums; 2])>);
    for (bin, sums) in bins.sums.iter().enumerate().take(bins.sums.len().saturating_sub(1)) {
        (0..SUMS).for_each(|sum| below[sum] += sums[sum]);
        let parts = [below, std::array::from_fn(|sum| all[sum] - below[sum])];
        let Some(merit) = merit(all, parts.iter()) else { continue };
        if best.is_none_or(|(most, ..)| merit > most) {
            let (place, next) = (bins.places[bin], bins.places[bin + 1]);
            best = Some((merit, place + (next - place) / 2.0, parts));
        }
    }
    let (merit, at, parts) = best?;
    Some((merit, (Test::Number { feature: counted.view.number(index) as u32, at }, parts.into())))
}

/// The split by the values of one of the categories that are counted, if it has several.
fn of_category(index: usize, counted: &CountedAmounts, plan: &Plan<Amounts>) -> Option<(f64, (Test, Vec<Sums>))> {
    let values = &counted.categories[index];
    let (parts, _) = values.counts.as_chunks::<SUMS>();
    let merit = merit(total(parts.iter()), parts.iter())?;
    let (first, end) = plan.layout.categories[counted.view.category(index)];
    Some((merit, (Test::Category { first, end, slots: values.slots.clone() }, parts.to_vec())))
}

fn total<'a>(parts: impl Iterator<Item = &'a Sums>) -> Sums {
    parts.fold([0.0; SUMS], |all, part| std::array::from_fn(|sum| all[sum] + part[sum]))
}

/// Which part of the squares of the distances from the mean is taken away by a split. None if it parts next to nothing.
fn merit<'a>(all: Sums, parts: impl Iterator<Item = &'a Sums> + Clone) -> Option<f64> {
    let least = LEAST_WEIGHT.max(LEAST_SHARE * all[0]);
    let before = squares(all);
    if before <= 0.0 || parts.clone().filter(|part| part[0] >= least).count() < 2 {
        return None;
    }
    Some(1.0 - parts.map(|part| squares(*part)).sum::<f64>() / before)
}
