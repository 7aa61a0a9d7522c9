//! Sequential minimal optimisation, as libsvm 3.37 does it without shrinking: Fan, Chen and Lin, "Working set selection using second order information
//! for training support vector machines" (2005).
//!
//! What is minimised is `½ αᵀQα + pᵀα` with `yᵀα = 0` and `0 ≤ α ≤ C`, where `Q = y yᵀ K`. Instead of the gradient `G`, `F = -yG` is kept, in which the
//! signs don't show: of two variables that move, the one with the largest `F` is found while `F` is brought up to date.

use super::super::columns::AT_ONCE;
use super::points::Lines;
use crate::simd::Work;

/// The least curvature that a step assumes.
const TAU: f64 = 1e-12;

/// What is to be found. There are as many variables as points, or twice as many.
pub(super) struct Task {
    /// The signs `y`.
    pub signs: Vec<f64>,
    /// The linear term `p`.
    pub linear: Vec<f64>,
    /// The bounds `C`; what has 0 does not move.
    pub bounds: Vec<f64>,
    /// By point, the kernel of it with itself.
    pub own: Vec<f64>,
    /// How far the gradient may be from what it is at the minimum.
    pub tolerance: f64,
    /// The most steps.
    pub most_steps: u64,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Solution {
    /// The variables `α`, each times its sign.
    pub coefficients: Vec<f64>,
    /// What is subtracted from the sum that decides.
    pub rho: f64,
}

/// The variables, and what is known of them.
struct Variables {
    alphas: Vec<f64>,
    /// What was called `F`.
    slopes: Vec<f64>,
    /// 0 for what may still move in the direction of its sign, and minus infinity for others.
    up: Vec<f64>,
    /// 0 for what may still move against its sign, and infinity for others.
    low: Vec<f64>,
    /// Memory for how far each comes together with another.
    gains: Vec<f64>,
}

impl Variables {
    fn new(task: &Task) -> Self {
        let count = task.signs.len();
        let slopes = task.signs.iter().zip(&task.linear).map(|(sign, linear)| -sign * linear).collect();
        let zeros = || vec![0.0; count];
        let mut variables = Self { alphas: zeros(), slopes, up: zeros(), low: zeros(), gains: zeros() };
        (0..count).for_each(|variable| variables.mark(task, variable));
        variables
    }

    /// Notes whether a variable has come to a bound.
    #[inline(always)]
    fn mark(&mut self, task: &Task, variable: usize) {
        let (alpha, bound) = (self.alphas[variable], task.bounds[variable]);
        let (may_rise, may_fall) = (alpha < bound, alpha > 0.0);
        let (up, low) = if task.signs[variable] > 0.0 { (may_rise, may_fall) } else { (may_fall, may_rise) };
        self.up[variable] = if up { 0.0 } else { f64::NEG_INFINITY };
        self.low[variable] = if low { 0.0 } else { f64::INFINITY };
    }

    /// The variable with the largest slope that may move up, the last of equals, and its slope; and the least slope of those that may move
    /// down.
    #[inline(always)]
    fn extremes(&self) -> (usize, f64, f64) {
        let (mut most, mut least) = ([f64::NEG_INFINITY; SIDE_BY_SIDE], [f64::INFINITY; SIDE_BY_SIDE]);
        let parts = parts(&self.slopes).zip(parts(&self.up)).zip(parts(&self.low));
        for ((slopes, up), low) in parts {
            for lane in 0..SIDE_BY_SIDE {
                let (rising, falling) = (slopes[lane] + up[lane], slopes[lane] + low[lane]);
                most[lane] = if rising > most[lane] { rising } else { most[lane] };
                least[lane] = if falling < least[lane] { falling } else { least[lane] };
            }
        }
        let (most, least) =
            (most.into_iter().fold(f64::NEG_INFINITY, f64::max), least.into_iter().fold(f64::INFINITY, f64::min));
        let rising = |start: usize| -> [f64; SIDE_BY_SIDE] {
            let (slopes, up) = (&self.slopes[start..start + SIDE_BY_SIDE], &self.up[start..start + SIDE_BY_SIDE]);
            std::array::from_fn(|lane| slopes[lane] + up[lane])
        };
        (last(self.slopes.len(), most, rising).unwrap_or(0), most, least)
    }

    /// Brings all slopes up to date after the variables with these lines have moved.
    #[inline(always)]
    fn follow(&mut self, [first, second]: [&[f32]; 2], [by_first, by_second]: [f64; 2]) {
        for slopes in self.slopes.chunks_exact_mut(first.len()) {
            for (slope, (first, second)) in slopes.iter_mut().zip(first.iter().zip(second)) {
                *slope -= f64::from(*first) * by_first + f64::from(*second) * by_second;
            }
        }
    }

    /// The variable with which the one of the largest slope comes farthest, by a square approximation: the last of equals.
    #[inline(always)]
    fn partner(&mut self, task: &Task, variable: usize, line: &[f32]) -> Option<usize> {
        let (most, points) = (self.slopes[variable], line.len());
        let own = task.own[variable % points];
        let mut best = [f64::NEG_INFINITY; SIDE_BY_SIDE];
        let halves = self
            .gains
            .chunks_exact_mut(points)
            .zip(self.slopes.chunks_exact(points))
            .zip(self.low.chunks_exact(points));
        for ((gains, slopes), low) in halves {
            let line = line.as_chunks::<SIDE_BY_SIDE>().0.iter().zip(parts(&task.own));
            let parts = gains.as_chunks_mut::<SIDE_BY_SIDE>().0.iter_mut().zip(parts(slopes)).zip(parts(low)).zip(line);
            for (((gains, slopes), low), (line, others)) in parts {
                for lane in 0..SIDE_BY_SIDE {
                    let difference = most - slopes[lane];
                    let curvature = (own + others[lane]) - 2.0 * f64::from(line[lane]);
                    let curvature = if curvature > 0.0 { curvature } else { TAU };
                    let gain = difference * difference / curvature - low[lane];
                    gains[lane] = if difference > 0.0 { gain } else { f64::NEG_INFINITY };
                    best[lane] = if gains[lane] > best[lane] { gains[lane] } else { best[lane] };
                }
            }
        }
        let best = best.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let gains = |start: usize| -> [f64; SIDE_BY_SIDE] {
            std::array::from_fn(|lane| self.gains[start..start + SIDE_BY_SIDE][lane])
        };
        last(self.gains.len(), best, gains).filter(|_| best > f64::NEG_INFINITY)
    }

    /// Moves two variables to where they are best, within their bounds. Returns by how much, each times its sign.
    #[inline(always)]
    fn step(&mut self, task: &Task, [i, j]: [usize; 2], kernel: f64, points: usize) -> [f64; 2] {
        let (of_i, of_j) = (task.signs[i], task.signs[j]);
        let (bound_i, bound_j) = (task.bounds[i], task.bounds[j]);
        let before = [self.alphas[i], self.alphas[j]];
        let curvature = task.own[i % points] + task.own[j % points] - 2.0 * kernel;
        let curvature = if curvature > 0.0 { curvature } else { TAU };
        let (gradient_i, gradient_j) = (-of_i * self.slopes[i], -of_j * self.slopes[j]);
        let [mut alpha_i, mut alpha_j] = before;
        if of_i != of_j {
            let delta = (-gradient_i - gradient_j) / curvature;
            let difference = alpha_i - alpha_j;
            (alpha_i, alpha_j) = (alpha_i + delta, alpha_j + delta);
            if difference > 0.0 && alpha_j < 0.0 {
                (alpha_i, alpha_j) = (difference, 0.0);
            } else if difference <= 0.0 && alpha_i < 0.0 {
                (alpha_i, alpha_j) = (0.0, -difference);
            }
            if difference > bound_i - bound_j && alpha_i > bound_i {
                (alpha_i, alpha_j) = (bound_i, bound_i - difference);
            } else if difference <= bound_i - bound_j && alpha_j > bound_j {
                (alpha_i, alpha_j) = (bound_j + difference, bound_j);
            }
        } else {
            let delta = (gradient_i - gradient_j) / curvature;
            let sum = alpha_i + alpha_j;
            (alpha_i, alpha_j) = (alpha_i - delta, alpha_j + delta);
            if sum > bound_i && alpha_i > bound_i {
                (alpha_i, alpha_j) = (bound_i, sum - bound_i);
            } else if sum <= bound_i && alpha_j < 0.0 {
                (alpha_i, alpha_j) = (sum, 0.0);
            }
            if sum > bound_j && alpha_j > bound_j {
                (alpha_i, alpha_j) = (sum - bound_j, bound_j);
            } else if sum <= bound_j && alpha_i < 0.0 {
                (alpha_i, alpha_j) = (0.0, sum);
            }
        }
        (self.alphas[i], self.alphas[j]) = (alpha_i, alpha_j);
        self.mark(task, i);
        self.mark(task, j);
        [of_i * (alpha_i - before[0]), of_j * (alpha_j - before[1])]
    }

    /// What is subtracted from the sum: the mean of those that are free, or the middle of what the others leave.
    fn rho(&self) -> f64 {
        let (mut free, mut sum, mut upper, mut lower) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        for ((slope, up), low) in self.slopes.iter().zip(&self.up).zip(&self.low) {
            match (*up == 0.0, *low == 0.0) {
                (true, true) => (free, sum) = (free + 1.0, sum - slope),
                (true, false) => upper = f64::min(upper, -slope),
                (false, true) => lower = f64::max(lower, -slope),
                (false, false) => {}
            }
        }
        if free > 0.0 { sum / free } else { 0.5 * (upper + lower) }
    }
}

/// So many values are looked at side by side. Which is the largest does not depend on how many.
const SIDE_BY_SIDE: usize = AT_ONCE / 2;

fn parts(values: &[f64]) -> impl Iterator<Item = &[f64; SIDE_BY_SIDE]> {
    values.as_chunks().0.iter()
}

/// The place of the last of so many values that is this one.
#[inline(always)]
fn last(count: usize, wanted: f64, values: impl Fn(usize) -> [f64; SIDE_BY_SIDE]) -> Option<usize> {
    for start in (0..count).step_by(SIDE_BY_SIDE).rev() {
        let values = values(start);
        if values.iter().fold(false, |any, value| any | (*value == wanted)) {
            return values.iter().rposition(|value| *value == wanted).map(|lane| start + lane);
        }
    }
    None
}

/// Finds the minimum.
pub(super) struct Solve<'a, 'b> {
    pub task: &'a Task,
    pub lines: Lines<'b>,
}

impl Work for Solve<'_, '_> {
    type Output = Solution;

    #[inline(always)]
    fn run(self) -> Solution {
        let Self { task, mut lines } = self;
        let mut variables = Variables::new(task);
        let points = task.own.len();
        for _ in 0..task.most_steps {
            let (i, most, least) = variables.extremes();
            // Nothing may move where one of them is infinite.
            let distance = most - least;
            if distance < task.tolerance || !distance.is_finite() {
                break;
            }
            let first = lines.find(i % points);
            let Some(j) = variables.partner(task, i, lines.line(first)) else { break };
            let second = lines.find(j % points);
            let kernel = f64::from(lines.line(first)[j % points]);
            let moved = variables.step(task, [i, j], kernel, points);
            variables.follow([lines.line(first), lines.line(second)], moved);
        }
        let coefficients = variables.alphas.iter().zip(&task.signs).map(|(alpha, sign)| alpha * sign).collect();
        Solution { coefficients, rho: variables.rho() }
    }
}
