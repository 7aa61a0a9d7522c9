//! How a leaf is split: which tests there are, and which of them parts the classes best.

use super::leaf::{Leaf, Statistics};
use super::numbers::Normal;
use super::{Growth, Layout};
use crate::encode::Row;
use crate::vector::ln;

/// At least two children have more of the rows than this share.
const LEAST_SHARE: f64 = 0.01;

/// What a branch asks of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// Whether a number is at most so large: its first child.
    Number { feature: u32, at: f64 },
    /// Which of these values a category has; those slots lie between two others.
    Category { first: u32, end: u32, slots: Vec<u32> },
}

impl Test {
    /// The child that a row goes to, if the test knows it.
    #[inline(always)]
    pub fn child(&self, row: Row<'_>) -> Option<u32> {
        match self {
            Self::Number { feature, at } => Some(u32::from(row.numbers[*feature as usize] > *at)),
            Self::Category { first, end, slots } => {
                let slot = row.slots.iter().find(|slot| (*first..*end).contains(*slot))?;
                slots.binary_search(slot).ok().map(|child| child as u32)
            }
        }
    }

    /// How many bytes it takes beside the node.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Number { .. } => 0,
            Self::Category { slots, .. } => size_of_val(slots.as_slice()),
        }
    }
}

/// A way to split a leaf.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub test: Test,
    /// By child, how much the rows of each class count.
    pub masses: Vec<Vec<f64>>,
    merit: f64,
}

/// The split that a leaf is to be split by, if one is so much better than the others that it is not chance.
pub(super) fn find(leaf: &Leaf, growth: &Growth, layout: &Layout) -> Option<Split> {
    let (statistics, weight) = (leaf.statistics.as_deref()?, leaf.weight());
    let largest = leaf.masses.iter().copied().fold(0.0, f64::max);
    if largest > growth.most_share * weight {
        return None;
    }
    let before = entropy(&leaf.masses);
    let numbers = 0..statistics.count_of_numbers(layout);
    let numbers = numbers.filter_map(|number| of_number(number, statistics, growth, before));
    let categories = 0..statistics.categories.len();
    let categories = categories.filter_map(|category| of_category(category, statistics, layout, before));
    // Not to split at all has a merit of 0.
    let (mut best, mut second): (Option<Split>, f64) = (None, 0.0);
    for split in numbers.chain(categories) {
        let merit = best.as_ref().map_or(0.0, |best| best.merit);
        if split.merit > merit {
            (best, second) = (Some(split), merit);
        } else {
            second = second.max(split.merit);
        }
    }
    let classes = leaf.masses.iter().filter(|mass| **mass > 0.0).count().max(2);
    let range = libm::log2(classes as f64);
    let bound = (range * range * libm::log(1.0 / growth.delta) / (2.0 * weight)).sqrt();
    best.filter(|best| best.merit - second > bound || bound < growth.tie)
}

/// The best split by one of the numbers that are counted, if there is any.
fn of_number(index: usize, statistics: &Statistics, growth: &Growth, before: f64) -> Option<Split> {
    let counts = &statistics.counts;
    let normal = |class: usize| statistics.numbers.normal(class, index, counts[class]);
    let normals: Vec<_> = (0..counts.len()).map(|class| (counts[class] > 0.0).then(|| normal(class))).collect();
    let seen = normals.iter().flatten();
    let least = seen.clone().map(|normal| normal.least).fold(f64::MAX, f64::min);
    let largest = seen.map(|normal| normal.largest).fold(f64::MIN, f64::max);
    let mut best: Option<(f64, f64)> = None;
    let mut masses = [vec![0.0; counts.len()], vec![0.0; counts.len()]];
    for point in 1..=growth.points {
        let at = (largest - least) / (f64::from(growth.points) + 1.0) * f64::from(point) + least;
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
    let feature = statistics.number(index) as u32;
    Some(Split { test: Test::Number { feature, at }, masses: masses.into(), merit })
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
fn of_category(index: usize, statistics: &Statistics, layout: &Layout, before: f64) -> Option<Split> {
    let values = &statistics.categories[index];
    let merit = merit(before, values.by_value(layout.shape.classes))?;
    let (first, end) = layout.categories[statistics.category(index)];
    let masses = values.by_value(layout.shape.classes).map(<[f64]>::to_vec).collect();
    Some(Split { test: Test::Category { first, end, slots: values.slots.clone() }, masses, merit })
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
