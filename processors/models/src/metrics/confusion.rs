//! How often each class was predicted for the rows of each, and the figures that are made of that.

use std::borrow::Cow;

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::is_plausible;

/// How often each class was predicted for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Confusion {
    pub classes: usize,
    counts: Counts,
}

/// With so many classes every pair is counted; with more, what takes memory for each class only.
const MOST_IN_PAIRS: usize = 100;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Counts {
    /// Class by class, what was predicted for its rows.
    Pairs(Vec<u64>),
    /// For each class its rows, the rows for which it was predicted, and those of both.
    Margins(Vec<[u64; 3]>),
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        let counts = if classes <= MOST_IN_PAIRS {
            Counts::Pairs(vec![0; classes * classes])
        } else {
            Counts::Margins(vec![[0; 3]; classes])
        };
        Self { classes, counts }
    }

    #[inline]
    pub fn add(&mut self, class: usize, predicted: usize) {
        self.add_many(class, predicted, 1);
    }

    #[inline]
    fn add_many(&mut self, class: usize, predicted: usize, rows: u64) {
        match &mut self.counts {
            Counts::Pairs(counts) => counts[class * self.classes + predicted] += rows,
            Counts::Margins(margins) => {
                margins[class][0] += rows;
                margins[predicted][1] += rows;
                if class == predicted {
                    margins[class][2] += rows;
                }
            }
        }
    }

    /// Makes room for so many classes.
    pub fn grow(&mut self, classes: usize) {
        if classes <= self.classes {
            return;
        }
        let mut grown = Self::new(classes);
        match &self.counts {
            Counts::Pairs(counts) => {
                let pairs =
                    (0..self.classes).flat_map(|class| (0..self.classes).map(move |predicted| (class, predicted)));
                pairs.zip(counts).for_each(|((class, predicted), rows)| grown.add_many(class, predicted, *rows));
            }
            Counts::Margins(margins) => {
                let zeros = vec![[0; 3]; classes - self.classes];
                grown.counts = Counts::Margins(margins.iter().copied().chain(zeros).collect());
            }
        }
        *self = grown;
    }

    pub fn is_like(&self, other: &Self) -> bool {
        let same = self.classes == other.classes;
        match (&self.counts, &other.counts) {
            (Counts::Pairs(counts), Counts::Pairs(other)) => {
                same && counts.len() == other.len() && is_plausible(counts.iter().copied())
            }
            (Counts::Margins(margins), Counts::Margins(other)) => {
                same && margins.len() == other.len() && is_plausible(margins.as_flattened().iter().copied())
            }
            _ => false,
        }
    }

    /// What was predicted for the rows of each class, unless there are too many classes.
    pub fn pairs(&self) -> Option<Vec<Vec<u64>>> {
        let Counts::Pairs(counts) = &self.counts else { return None };
        Some(counts.chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect())
    }

    /// For every class its rows, the rows for which it was predicted, and those of both.
    fn margins(&self) -> Cow<'_, [[u64; 3]]> {
        let counts = match &self.counts {
            Counts::Margins(margins) => return Cow::Borrowed(margins),
            Counts::Pairs(counts) => counts,
        };
        let count = |class: usize, predicted: usize| counts[class * self.classes + predicted];
        let all = 0..self.classes;
        let of = |class| all.clone().map(|predicted| count(class, predicted)).sum();
        let predicted = |class| all.clone().map(|of| count(of, class)).sum();
        all.clone().map(|class| [of(class), predicted(class), count(class, class)]).collect()
    }

    pub fn rows(&self) -> u64 {
        match &self.counts {
            Counts::Pairs(counts) => counts.iter().sum(),
            Counts::Margins(margins) => margins.iter().map(|[of, ..]| of).sum(),
        }
    }

    pub fn right(&self) -> u64 {
        self.margins().iter().map(|[.., right]| right).sum()
    }

    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.rows() as f64
    }

    /// The mean over the classes that occur of the share of their rows that is predicted rightly.
    pub fn balanced_accuracy(&self) -> f64 {
        let margins = self.margins();
        let occurring = margins.iter().filter(|[of, ..]| *of > 0);
        mean(occurring.map(|[of, _, right]| *right as f64 / *of as f64))
    }

    /// The figures of each class.
    pub fn by_class(&self) -> Vec<Metrics> {
        let share = |part: u64, of: u64| part as f64 / of as f64;
        let figures = |[of, predicted, right]: &[u64; 3]| {
            Metrics(vec![
                ("rows", *of as f64),
                ("precision", share(*right, *predicted)),
                ("recall", share(*right, *of)),
                ("f1", share(2 * right, of + predicted)),
            ])
        };
        self.margins().iter().map(figures).collect()
    }

    /// A figure of the positive class, else its mean over the classes that occur or were predicted.
    fn of_class(&self, has_positive: bool, figure: impl Fn([u64; 3]) -> f64) -> f64 {
        let margins = self.margins();
        if has_positive {
            return margins.get(1).map_or(f64::NAN, |margins| figure(*margins));
        }
        let known = margins.iter().filter(|[of, predicted, _]| of + predicted > 0);
        mean(known.map(|margins| figure(*margins)))
    }

    pub fn f1(&self, has_positive: bool) -> f64 {
        self.of_class(has_positive, |[of, predicted, right]| 2.0 * right as f64 / (of + predicted) as f64)
    }

    /// The share of the rows for which a class was predicted that are of it. Of a class that was never predicted it is not
    /// known; in a mean it counts as 0, as in scikit-learn.
    pub fn precision(&self, has_positive: bool) -> f64 {
        let none = if has_positive { f64::NAN } else { 0.0 };
        self.of_class(
            has_positive,
            |[_, predicted, right]| {
                if predicted > 0 { right as f64 / predicted as f64 } else { none }
            },
        )
    }

    /// The share of the rows of a class for which it was predicted. Of a class that never came it is not known; in a mean
    /// it counts as 0, as in scikit-learn.
    pub fn recall(&self, has_positive: bool) -> f64 {
        let none = if has_positive { f64::NAN } else { 0.0 };
        self.of_class(has_positive, |[of, _, right]| if of > 0 { right as f64 / of as f64 } else { none })
    }

    /// Cohen's kappa: by how much the accuracy exceeds that of chance.
    pub fn kappa(&self) -> f64 {
        let rows = self.rows() as f64;
        let share = |count: u64| count as f64 / rows;
        let chance: f64 = self.margins().iter().map(|[of, predicted, _]| share(*of) * share(*predicted)).sum();
        (self.accuracy() - chance) / (1.0 - chance)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With and without all pairs, which take memory by the square of the classes.
    #[test]
    fn figures_of_many_classes_need_no_pairs() {
        let rows = (0..5000_usize).map(|row| (row * 7 % 90, if row % 3 == 0 { row * 13 % 90 } else { row * 7 % 90 }));
        let (mut pairs, mut margins, mut growing) = (Confusion::new(90), Confusion::new(10_000), Confusion::new(0));
        for (class, predicted) in rows {
            pairs.add(class, predicted);
            margins.add(class, predicted);
            growing.grow(class.max(predicted) + 1);
            growing.add(class, predicted);
        }
        growing.grow(500);
        let figures = |confusion: &Confusion| {
            let f1_and_others = [confusion.f1(false), confusion.precision(false), confusion.recall(false)];
            (f1_and_others, confusion.accuracy(), confusion.balanced_accuracy(), confusion.kappa(), confusion.rows())
        };
        assert_eq!(figures(&pairs), figures(&margins));
        assert_eq!(figures(&pairs), figures(&growing));
        assert!(pairs.pairs().is_some() && margins.pairs().is_none() && growing.pairs().is_none());
        assert!(!margins.is_like(&pairs) && margins.is_like(&Confusion::new(10_000)));
    }
}
