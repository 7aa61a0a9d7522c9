//! Policies: how probable each action is, by what it is expected to be worth.

use libm::{exp, pow};
use millstream_core::Problem;
use schemars::JsonSchema;
use serde::Deserialize;

/// How an action is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// The best one, and the first of equals: enough where scores have the uncertainty in them, as those of `lin_ucb` have.
    Greedy {},
    /// The best one, but so often any of them.
    EpsilonGreedy {
        /// The share of rows for which any action is chosen, the best one as well.
        #[serde(default = "epsilon")]
        #[schemars(range(min = 0, max = 1))]
        epsilon: f64,
    },
    /// The less often, the worse an action is, and ever less with more rows (Foster & Rakhlin, "Beyond UCB", 2020): one by how many actions there are, and
    /// `gamma_scale` times the number of the row to the power of `gamma_exponent` times how much it is worse; the best one otherwise.
    #[serde(rename = "squarecb")]
    SquareCb {
        /// How strongly worse actions are avoided, where rewards differ by about one.
        #[serde(default = "gamma_scale")]
        gamma_scale: f64,
        /// How fast that grows with the rows.
        #[serde(default = "gamma_exponent")]
        #[schemars(range(min = 0, max = 1))]
        gamma_exponent: f64,
    },
    /// Each as often as the exponential of its score says.
    Softmax {
        /// By how much scores differ of which one is about three times as probable as the other.
        #[serde(default = "temperature")]
        temperature: f64,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self::EpsilonGreedy { epsilon: epsilon() }
    }
}

fn epsilon() -> f64 {
    0.05
}

fn gamma_scale() -> f64 {
    10.0
}

fn gamma_exponent() -> f64 {
    0.5
}

fn temperature() -> f64 {
    0.1
}

impl Policy {
    pub(super) fn check(self) -> Result<(), Problem> {
        let from_to = |name: &'static str, value: f64, least: f64, most: f64| {
            let problem = || format!("`{name}` is {value}, and should be from {least} to {most}");
            if (least..=most).contains(&value) { Ok(()) } else { Err(Problem::new(problem()).under(name)) }
        };
        match self {
            Self::Greedy {} => Ok(()),
            Self::EpsilonGreedy { epsilon } => from_to("epsilon", epsilon, 0.0, 1.0),
            Self::SquareCb { gamma_scale, gamma_exponent } => from_to("gamma_scale", gamma_scale, 1e-9, 1e9)
                .and_then(|()| from_to("gamma_exponent", gamma_exponent, 0.0, 1.0)),
            Self::Softmax { temperature } => from_to("temperature", temperature, 1e-9, 1e9),
        }
    }

    /// How probable each action is for the row of that number, from 1.
    pub(super) fn propensities(self, scores: &[f64], row: u64, into: &mut Vec<f64>) {
        into.clear();
        let is_better = |best: Option<usize>, score: f64| best.is_none_or(|best| score > scores[best]);
        let better = |best, (action, score): (usize, &f64)| {
            if score.is_finite() && is_better(best, *score) { Some(action) } else { best }
        };
        let Some(best) = scores.iter().enumerate().fold(None, better) else {
            into.resize(scores.len(), 1.0 / scores.len() as f64);
            return;
        };
        let count = scores.iter().filter(|score| score.is_finite()).count() as f64;
        let mut share = |of: &dyn Fn(f64) -> f64| {
            into.extend(scores.iter().map(|score| if score.is_finite() { of(*score) } else { 0.0 }));
        };
        match self {
            Self::Greedy {} => share(&|_| 0.0),
            Self::EpsilonGreedy { epsilon } => share(&|_| epsilon / count),
            Self::SquareCb { gamma_scale, gamma_exponent } => {
                let gamma = gamma_scale * pow(row as f64, gamma_exponent);
                share(&|score| 1.0 / (count + gamma * (scores[best] - score)));
            }
            Self::Softmax { temperature } => {
                share(&|score| exp((score - scores[best]) / temperature));
                let sum: f64 = into.iter().sum();
                into.iter_mut().for_each(|share| *share /= sum);
                return;
            }
        }
        into[best] = 0.0;
        into[best] = 1.0 - into.iter().sum::<f64>();
    }
}

/// The action that is drawn for the row of that number.
pub(super) fn draw(propensities: &[f64], seed: u64, row: u64) -> usize {
    let uniform = (mixed(mixed(seed) ^ row) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64);
    let mut sum = 0.0;
    let within = |(_, share): &(usize, &f64)| {
        sum += **share;
        uniform < sum
    };
    let last = || propensities.iter().rposition(|share| *share > 0.0).unwrap_or(0);
    propensities.iter().enumerate().find(within).map_or_else(last, |(action, _)| action)
}

/// Bits that all depend on all of these (Steele, Lea & Flood's SplitMix64).
fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}
