//! How a leaf of classes is split: which tests there are, and which of them parts the classes best.

use super::normals::Normal;
use super::{ClassRules, Classes, CountedClasses, Known, Layout, Plan, Split};
use crate::estimator::tree::test::{Test, best};
use crate::vector::ln;

/// At least two children have more of the rows than this share.
const LEAST_SHARE: f64 = 0.01;

/// A test, and by child how much the rows of each class count.
type Way = (Test, Vec<Vec<f64>>);

/// The split that a leaf is to be split by, if one is so much better than the others that it is not chance.
pub(super) fn find(leaf: &Classes, counted: &CountedClasses, plan: &Plan<Classes>) -> Option<Split<Classes>> {
    let weight = leaf.weight();
    if leaf.largest() > plan.rules.most_share * weight {
        return None;
    }
    let before = entropy(&leaf.masses);
    let numbers = 0..counted.view.count_of_numbers(&plan.layout);
    let numbers = numbers.filter_map(|number| of_number(number, counted, &plan.rules, before));
    let categories = 0..counted.categories.len();
    let categories = categories.filter_map(|category| of_category(category, counted, &plan.layout, before));
    let (merit, second, (test, masses)) = best(numbers.chain(categories))?;
    let classes = leaf.masses.iter().filter(|mass| **mass > 0.0).count().max(2);
    let bound = plan.growth.bound(libm::log2(classes as f64), weight);
    let is_better = merit - second > bound || bound < plan.growth.tie;
    is_better.then(|| Split { test, children: masses.into_iter().map(Classes::new).collect() })
}

/// The best split by one of the numbers that are counted, if there is any.
fn of_number(index: usize, counted: &CountedClasses, rules: &ClassRules, before: f64) -> Option<(f64, Way)> {
    let counts = &counted.counts;
    let normal = |class: usize| counted.numbers.normal(class, index, counts[class]);
    let normals: Vec<_> = (0..counts.len()).map(|class| (counts[class] > 0.0).then(|| normal(class))).collect();
    let seen = normals.iter().flatten();
    let least = seen.clone().map(|normal| normal.least).fold(f64::MAX, f64::min);
    let largest = seen.map(|normal| normal.largest).fold(f64::MIN, f64::max);
    let mut best: Option<(f64, f64)> = None;
    let mut masses = [vec![0.0; counts.len()], vec![0.0; counts.len()]];
    for point in 1..=rules.points {
        let at = (largest - least) / (f64::from(rules.points) + 1.0) * f64::from(point) + least;
        if !(at > least && at < largest) {
            continue;
        }
        part(&normals, counts, at, &mut masses);
        let Some(merit) = merit(before, masses.iter().map(Vec::as_slice)) else { continue };
        if best.is_none_or(|(most, _)| merit > most) {
            best = Some((merit, at));
        }
    }
    let (merit, at) = best?;
    part(&normals, counts, at, &mut masses);
    Some((merit, (Test::Number { feature: counted.view.number(index) as u32, at }, masses.into())))
}

/// How much the rows of each class count on both sides of a point, if they are distributed as they seem to be.
fn part(normals: &[Option<Normal>], counts: &[f64], at: f64, [below, above]: &mut [Vec<f64>; 2]) {
    for (class, normal) in normals.iter().enumerate() {
        let count = counts[class];
        below[class] = match normal {
            Some(normal) if at >= normal.largest => count,
            Some(normal) if at >= normal.least && normal.deviation > 0.0 => {
                count * 0.5 * libm::erfc((normal.mean - at) / (normal.deviation * std::f64::consts::SQRT_2))
            }
            Some(_) | None => 0.0,
        };
        above[class] = count - below[class];
    }
}

/// The split by the values of one of the categories that are counted, if it has several.
fn of_category(index: usize, counted: &CountedClasses, layout: &Layout, before: f64) -> Option<(f64, Way)> {
    let values = &counted.categories[index];
    let merit = merit(before, values.by_value(layout.shape.classes))?;
    let (first, end) = layout.categories[counted.view.category(index)];
    let masses = values.by_value(layout.shape.classes).map(<[f64]>::to_vec).collect();
    Some((merit, (Test::Category { first, end, slots: values.slots.clone() }, masses)))
}

/// By how many bits less is unknown of the class behind a split. None if it parts next to nothing.
fn merit<'a>(before: f64, children: impl Iterator<Item = &'a [f64]> + Clone) -> Option<f64> {
    let weight = |masses: &[f64]| masses.iter().sum::<f64>();
    let total: f64 = children.clone().map(weight).sum();
    let large = children.clone().filter(|masses| weight(masses) > LEAST_SHARE * total).count();
    if large < 2 {
        return None;
    }
    let after: f64 = children.map(|masses| weight(masses) / total * entropy(masses)).sum();
    Some(before - after)
}

/// How many bits are unknown of the class.
fn entropy(masses: &[f64]) -> f64 {
    let total: f64 = masses.iter().sum();
    let bits = |mass: &f64| {
        let share = mass / total;
        if share > f64::MIN_POSITIVE { -share * ln(share) * std::f64::consts::LOG2_E } else { 0.0 }
    };
    masses.iter().map(bits).sum()
}
