//! KSWIN (Raab et al., "Reactive soft prototype computing for concept drift streams", Neurocomputing 2020): how the last numbers of a window are
//! distributed, compared with a sample of those before them.

use std::collections::VecDeque;

use millstream_core::Problem;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Check, Detect, Signal, check_between_0_and_1};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How probable it is that it cries wolf, at each number.
    #[serde(default = "alpha")]
    alpha: f64,
    /// How many numbers the window has.
    #[serde(default = "window")]
    #[schemars(range(min = 2, max = 100_000))]
    window: u32,
    /// How many of them, the last ones, are compared with as many of the others.
    #[serde(default = "sample")]
    #[schemars(range(min = 1))]
    sample: u32,
    /// By what the others are drawn.
    #[serde(default)]
    seed: u64,
}

/// A window is kept whole.
const LONGEST: u32 = 100_000;

/// Samples whose distributions are nearer than this are never said to differ.
const LEAST_DISTANCE: f64 = 0.1;

fn alpha() -> f64 {
    0.005
}

fn window() -> u32 {
    100
}

fn sample() -> u32 {
    30
}

impl Check for Settings {
    fn check(&self) -> Result<(), Problem> {
        check_between_0_and_1(&[("alpha", self.alpha)])?;
        if !(2..=LONGEST).contains(&self.window) {
            let problem = format!("`window` is {}, and should be from 2 to {LONGEST}", self.window);
            return Err(Problem::new(problem).under("window"));
        }
        if self.sample == 0 || self.sample > self.window / 2 {
            let problem = format!("`sample` is {}, and should be from 1 to half of `window`", self.sample);
            return Err(Problem::new(problem).under("sample"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    window: VecDeque<f64>,
    /// How many numbers have come.
    seen: u64,
    /// How far the distributions of two samples have to be apart, in numbers of a sample. None if they can't be that far.
    critical: Option<u32>,
}

impl Detector {
    /// Draws as many of the numbers before the last ones, each at most once.
    fn draw(&self, settings: &Settings) -> Vec<f64> {
        let others = settings.window - settings.sample;
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(self.seen);
        let mut indices: Vec<u32> = (0..others).collect();
        let drawn = (0..settings.sample).map(|place| {
            let left = u64::from(others - place);
            // A 32nd of 2^32 numbers would be favoured by less than one in a million.
            let chosen = place + ((u64::from(random.next_u32()) * left) >> 32) as u32;
            indices.swap(place as usize, chosen as usize);
            self.window[indices[place as usize] as usize]
        });
        drawn.collect()
    }
}

/// How far the distributions of two samples of one size are apart at most, in numbers of a sample.
fn distance(mut first: Vec<f64>, mut second: Vec<f64>) -> u32 {
    first.sort_unstable_by(f64::total_cmp);
    second.sort_unstable_by(f64::total_cmp);
    let (mut of_first, mut of_second, mut furthest) = (0, 0, 0);
    while of_first < first.len() && of_second < second.len() {
        let value = first[of_first].min(second[of_second]);
        of_first += first[of_first..].iter().take_while(|number| **number <= value).count();
        of_second += second[of_second..].iter().take_while(|number| **number <= value).count();
        furthest = furthest.max(of_first.abs_diff(of_second));
    }
    furthest as u32
}

/// How probable it is that two samples of so many numbers from one distribution are so far apart, or farther: by counting the paths that leave
/// a strip (Hodges, "The significance probability of the Smirnov two-sample test", 1958).
fn probability(size: u32, distance: u32) -> f64 {
    if distance == 0 {
        return 1.0;
    }
    let paths = |steps: u32| {
        let share = |step: u32| f64::from(size - steps + step) / f64::from(size + step);
        (1..=steps).map(share).product::<f64>()
    };
    let term = |times: u32| if times % 2 == 1 { paths(times * distance) } else { -paths(times * distance) };
    (2.0 * (1..=size / distance).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

impl Detect for Detector {
    type Settings = Settings;

    fn new(settings: &Settings) -> Self {
        let size = settings.sample;
        let differs = |distance: &u32| {
            f64::from(*distance) > LEAST_DISTANCE * f64::from(size) && probability(size, *distance) <= settings.alpha
        };
        Self { window: VecDeque::new(), seen: 0, critical: (1..=size).find(differs) }
    }

    fn update(&mut self, settings: &Settings, value: f64) -> Signal {
        self.seen += 1;
        self.window.push_back(value);
        if self.window.len() > settings.window as usize {
            self.window.pop_front();
        }
        let Some(critical) = self.critical.filter(|_| self.window.len() == settings.window as usize) else {
            return Signal::Stable;
        };
        let drawn = self.draw(settings);
        let last: Vec<_> = self.window.range((settings.window - settings.sample) as usize..).copied().collect();
        let change = Change { before: mean(&drawn), after: mean(&last) };
        if distance(drawn, last) >= critical { Signal::Drift(change) } else { Signal::Stable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_as_probable_as_scipy_says() {
        // scipy.stats.ks_2samp(range(30), [x + d for x in range(30)]).pvalue, and with 5 numbers.
        for (size, distance, expected) in
            [(30, 5, 0.807_963_154_1), (30, 10, 0.070_887_987_9), (30, 15, 0.000_899_577_7), (5, 5, 0.007_936_507_9)]
        {
            let found = probability(size, distance);
            assert!((found - expected).abs() < 1e-6, "{size}, {distance}: {found}, and not {expected}");
        }
    }

    #[test]
    fn the_largest_distance_counts() {
        assert_eq!(distance(vec![3.0, 1.0, 2.0], vec![1.0, 2.0, 3.0]), 0);
        assert_eq!(distance(vec![1.0, 1.0, 4.0], vec![2.0, 3.0, 4.0]), 2);
        assert_eq!(distance(vec![5.0, 6.0, 7.0], vec![1.0, 2.0, 3.0]), 3);
    }
}
