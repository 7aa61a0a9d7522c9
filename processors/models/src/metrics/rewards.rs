//! Metrics of actions: what those that were chosen were worth, and what those that the model would have chosen.

use millstream_core::Metrics;
use serde::{Deserialize, Serialize};

use super::is_plausible;
use crate::estimator::{Certainty, likeliest};

/// Rewards of the actions that were chosen, and apart from them of those rows for which the model would have chosen the same. If
/// actions were drawn at random, each as often as the others, the mean of the latter is what the model's own choice would be worth
/// (Li et al., "Unbiased offline evaluation of contextual-bandit-based news article recommendation algorithms", 2011).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RewardScores {
    actions: usize,
    rows: u64,
    reward: f64,
    agreed: u64,
    agreed_reward: f64,
}

impl RewardScores {
    /// Of nothing yet, with so many actions.
    pub fn of(actions: usize) -> Self {
        Self { actions, rows: 0, reward: 0.0, agreed: 0, agreed_reward: 0.0 }
    }

    /// Counts one row: the index of its action, the score of each, and behind them its reward.
    #[inline]
    pub fn add(&mut self, action: usize, prediction: &[f64]) {
        let Some((reward, scores)) = prediction.split_last() else { return };
        self.rows += 1;
        self.reward += reward;
        if likeliest(scores, Certainty::Score) == action {
            self.agreed += 1;
            self.agreed_reward += reward;
        }
    }

    /// Whether a row like this could be counted.
    pub(crate) fn takes(&self, action: usize, prediction: &[f64]) -> bool {
        action < self.actions && prediction.len() == self.actions + 1
    }

    /// Whether these may be scores of as many actions as `other`, whoever wrote them.
    pub(crate) fn are_like(&self, other: &Self) -> bool {
        self.actions == other.actions && is_plausible([self.rows]) && self.agreed <= self.rows
    }

    /// How many rows were counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The figures. Those of nothing are NaN.
    pub fn metrics(&self) -> Metrics {
        let (rows, agreed) = (self.rows as f64, self.agreed as f64);
        let figures = [
            ("mean_reward", self.reward / rows),
            ("agreement", agreed / rows),
            ("own_reward", self.agreed_reward / agreed),
        ];
        Metrics(figures.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_count_for_the_model_where_it_would_have_chosen_the_same() {
        let mut scores = RewardScores::of(3);
        let rows: [(usize, [f64; 4]); 4] = [
            (0, [0.5, 0.1, 0.2, 1.0]),
            (1, [0.5, 0.1, 0.2, 0.0]),
            (2, [0.1, 0.2, 0.9, 3.0]),
            (2, [0.9, 0.2, 0.1, 4.0]),
        ];
        rows.iter().for_each(|(action, row)| scores.add(*action, row));
        assert_eq!(scores.metrics().0, [("mean_reward", 2.0), ("agreement", 0.5), ("own_reward", 2.0)]);
        assert!(scores.takes(2, &[0.0; 4]) && !scores.takes(3, &[0.0; 4]) && !scores.takes(0, &[0.0; 3]));
    }
}
