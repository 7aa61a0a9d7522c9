//! Curves from what an estimator predicts to probabilities, fitted to rows of which it is known whether they are of a class.

use super::CalibrationMethod;
use crate::vector::{exp, ln};

/// A curve from numbers to probabilities.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Curve {
    Sigmoid {
        slope: f64,
        intercept: f64,
    },
    /// The corners of a line that never falls: beyond the first and the last it is level.
    Line(Vec<[f64; 2]>),
}

/// How probable something is of which this is the logarithm of the odds.
pub(super) fn sigmoid(score: f64) -> f64 {
    // Beyond that nothing changes but that numbers are no longer finite.
    1.0 / (1.0 + exp(-score.clamp(-700.0, 700.0)))
}

/// The logarithm of the odds; of what is certain, as much as of one in a million of billions.
pub(super) fn logit(probability: f64) -> f64 {
    const NEXT_TO_NOTHING: f64 = 1e-15;
    let probability = probability.clamp(NEXT_TO_NOTHING, 1.0 - NEXT_TO_NOTHING);
    ln(probability / (1.0 - probability))
}

impl Curve {
    /// The curve that fits best to rows, each a number and whether it is of the class. None if all are, or none is.
    pub fn fit(method: CalibrationMethod, rows: &[(f64, bool)]) -> Option<Self> {
        let own = rows.iter().filter(|(_, is_own)| *is_own).count();
        if own == 0 || own == rows.len() {
            return None;
        }
        Some(match method {
            CalibrationMethod::Platt => fit_sigmoid(rows, own as f64),
            CalibrationMethod::Isotonic => Self::Line(fit_line(rows)),
        })
    }

    /// The probability for a number.
    pub fn at(&self, number: f64) -> f64 {
        match self {
            Self::Sigmoid { slope, intercept } => sigmoid(slope * number + intercept),
            Self::Line(corners) => {
                let behind = corners.partition_point(|[at, _]| *at < number);
                match (corners.get(behind.wrapping_sub(1)), corners.get(behind)) {
                    (Some([from, low]), Some([to, high])) => low + (high - low) * ((number - from) / (to - from)),
                    (None, Some([_, end])) | (Some([_, end]), None) => *end,
                    (None, None) => f64::NAN,
                }
            }
        }
    }

    /// What it is saved as.
    pub fn pairs(&self) -> Vec<[f64; 2]> {
        match self {
            Self::Sigmoid { slope, intercept } => vec![[*slope, *intercept]],
            Self::Line(corners) => corners.clone(),
        }
    }

    /// What was saved, unless that was none.
    pub fn of(method: CalibrationMethod, pairs: &[[f64; 2]]) -> Option<Self> {
        let rises = pairs.is_sorted_by(|a, b| a[0] < b[0] && a[1] <= b[1]);
        let probable = pairs.iter().all(|[at, probability]| at.is_finite() && (0.0..=1.0).contains(probability));
        match (method, pairs) {
            (CalibrationMethod::Platt, [[slope, intercept]]) if slope.is_finite() && intercept.is_finite() => {
                Some(Self::Sigmoid { slope: *slope, intercept: *intercept })
            }
            (CalibrationMethod::Isotonic, _) if rises && probable => Some(Self::Line(pairs.to_vec())),
            _ => None,
        }
    }
}

/// The most steps; ten are usual.
const STEPS: usize = 100;

/// The sigmoid of the least log loss, by Newton's method, as Lin, Lin & Weng ("A note on Platt's probabilistic outputs for support vector machines",
/// 2007) say. Platt's targets are not quite 0 and 1, as if there had been one more row of each kind.
fn fit_sigmoid(rows: &[(f64, bool)], own: f64) -> Curve {
    let count = rows.len() as f64;
    let others = count - own;
    let targets = [1.0 / (others + 2.0), (own + 1.0) / (own + 2.0)];
    // Numbers of about one size, of which no square is too large.
    let size = rows.iter().fold(0.0_f64, |most, (number, _)| most.max(number.abs())).max(f64::MIN_POSITIVE);
    let rows: Vec<_> = rows.iter().map(|(number, is_own)| (number / size, targets[usize::from(*is_own)])).collect();
    let loss = |[slope, intercept]: [f64; 2]| {
        let of_row = |(number, target): &(f64, f64)| {
            let score = slope * number + intercept;
            ln(1.0 + exp(-score.abs())) + score.max(0.0) - target * score
        };
        rows.iter().map(of_row).sum::<f64>()
    };
    let mut at = [0.0, ln((own + 1.0) / (others + 1.0))];
    let mut least = loss(at);
    for _ in 0..STEPS {
        let [by_slope, by_intercept] = newton_step(&rows, at);
        let tried = |share: f64| [at[0] - share * by_slope, at[1] - share * by_intercept];
        let shares = (0..20).map(|halvings| f64::from(1 << halvings).recip());
        let better = shares.map(tried).map(|tried| (loss(tried), tried)).find(|(loss, _)| *loss < least);
        let Some((loss, better)) = better else { break };
        (least, at) = (loss, better);
    }
    Curve::Sigmoid { slope: (at[0] / size).clamp(f64::MIN, f64::MAX), intercept: at[1] }
}

/// The gradient divided by the second derivatives.
fn newton_step(rows: &[(f64, f64)], [slope, intercept]: [f64; 2]) -> [f64; 2] {
    /// Keeps the second derivatives away from 0, where all numbers are the same.
    const LEAST: f64 = 1e-12;
    let (mut first, mut second) = ([0.0; 2], [LEAST, 0.0, LEAST]);
    for (number, target) in rows {
        let probability = sigmoid(slope * number + intercept);
        let (off, spread) = (probability - target, probability * (1.0 - probability));
        first[0] += off * number;
        first[1] += off;
        second[0] += spread * number * number;
        second[1] += spread * number;
        second[2] += spread;
    }
    let determinant = second[0] * second[2] - second[1] * second[1];
    [
        (second[2] * first[0] - second[1] * first[1]) / determinant,
        (second[0] * first[1] - second[1] * first[0]) / determinant,
    ]
}

/// The corners of the line of the least squares that never falls: neighbours that fall are put together, with their mean (Barlow et al., 1972).
fn fit_line(rows: &[(f64, bool)]) -> Vec<[f64; 2]> {
    let mut rows = rows.to_vec();
    rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut blocks: Vec<Block> = Vec::new();
    for same in rows.chunk_by(|(a, _), (b, _)| a == b) {
        let own = same.iter().filter(|(_, is_own)| *is_own).count() as f64;
        let mut block = Block { first: same[0].0, last: same[0].0, count: same.len() as f64, own };
        while let Some(before) = blocks.pop_if(|before| before.mean() >= block.mean()) {
            block.first = before.first;
            (block.count, block.own) = (block.count + before.count, block.own + before.own);
        }
        blocks.push(block);
    }
    let mut corners: Vec<_> =
        blocks.iter().flat_map(|block| [block.first, block.last].map(|at| [at, block.mean()])).collect();
    corners.dedup_by(|a, b| a[0] == b[0]);
    corners
}

/// Rows whose numbers follow each other.
struct Block {
    first: f64,
    last: f64,
    count: f64,
    /// How many are of the class.
    own: f64,
}

impl Block {
    fn mean(&self) -> f64 {
        self.own / self.count
    }
}
