//! Forecasts of series by exponential smoothing: a level, a trend and a season for each.
//!
//! Holt (1957) and Winters (1960), with the damped trend of Gardner and McKenzie (1985), in the notation of Hyndman and Athanasopoulos, *Forecasting: Principles and
//! Practice* (3rd ed., 8.3): with the error correction in its textbook form, as in River's `HoltWinters`.

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::check_from_to;
use super::{ByRow, Estimator, Gives, Kind, Labels, Row, Settings, Shape, Takes};
use crate::encode::{Encoder, Feature};
use crate::label::Class;
use crate::tensors::Tensors;

/// The next number of a series, by exponential smoothing: its level, its trend, and how a season departs from them (Holt 1957 and Winters 1960, with the damped trend of Gardner &
/// McKenzie 1985; River's `HoltWinters`). Every row moves each of them a little, so that it follows a series which changes. The first season is only looked at: until it is over,
/// the number before is predicted.
///
/// It needs no features: each row is the next of one series. A text, or what else is a category, says which series a row belongs to, of which as many are followed as the feature has slots:
/// `features = { station = { one_hot = 200 } }`. A number says when a row is, counted in steps: the hour since some hour, the number of a day. Then rows may be lacking, the row
/// after a gap is as many steps ahead, and rows to predict may lie as far in the future as is asked, such as the next 24 hours in `predict`. A row that is not later than the last of its series is
/// predicted as the next one, and not learned.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HoltWinters {
    /// How many steps a season has, such as 24 for hours of a day. None where there are no seasons.
    #[schemars(range(min = 2, max = 100_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    season: Option<u32>,
    /// Whether a season multiplies the level, and is not added to it: where it swings the more the higher that is. For numbers above 0.
    #[serde(default)]
    multiplicative: bool,
    /// How far a row moves the level, from 0 to 1.
    #[serde(default = "alpha")]
    #[schemars(range(min = 0, max = 1))]
    alpha: f64,
    /// How far a row moves the trend, from 0 to 1. With 0 there is no trend.
    #[serde(default = "beta")]
    #[schemars(range(min = 0, max = 1))]
    beta: f64,
    /// How far a row moves the season, from 0 to 1.
    #[serde(default = "gamma")]
    #[schemars(range(min = 0, max = 1))]
    gamma: f64,
    /// What is left of the trend with each step: 1 for a line that never ends, less where it levels off.
    #[serde(default = "damping")]
    #[schemars(range(min = 0, max = 1))]
    damping: f64,
}

fn alpha() -> f64 {
    0.3
}

fn beta() -> f64 {
    0.05
}

fn gamma() -> f64 {
    0.1
}

fn damping() -> f64 {
    1.0
}

const LONGEST_SEASON: u32 = 100_000;

impl Kind for HoltWinters {
    const NAME: &'static str = "holt_winters";
    const EXAMPLE: &'static str = "season = 24\nalpha = 0.2\ndamping = 0.98";
}

impl Settings for HoltWinters {
    fn takes(&self) -> Takes {
        Takes::Series
    }

    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        if let Some(season) = self.season {
            check_from_to(&[("season", season.into(), 2.0, LONGEST_SEASON.into())])?;
        }
        let Self { alpha, beta, gamma, damping, .. } = *self;
        let shares = [("alpha", alpha), ("beta", beta), ("gamma", gamma), ("damping", damping)];
        shares.iter().try_for_each(|(name, share)| check_from_to(&[(name, *share, 0.0, 1.0)]))
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        let (times, series): (Vec<_>, Vec<_>) = features.iter().partition(|feature| feature.encoder.is_number());
        let help = "one number may be its time, in steps, and one category the series";
        if let [_, other, ..] = &times[..] {
            let problem = format!("`{}` is a second number, and a row has one time", other.name);
            return Err(Problem::new(problem).help(help));
        }
        if let Some(time) = times.iter().find(|time| time.encoder != Encoder::Raw) {
            return Err(Problem::new(format!("the time `{}` has to be encoded by `raw`", time.name)).help(help));
        }
        if let [_, other, ..] = &series[..] {
            let problem = format!("`{}` is a second category, and a row belongs to one series", other.name);
            return Err(Problem::new(problem).help(help));
        }
        Ok(())
    }

    fn most_numbers(&self, features: &[Feature], _classes: &[Class]) -> u64 {
        let shape = Shape::new(features, &[]);
        (shape.slots as u64 + 1).saturating_mul(u64::from(self.season.unwrap_or(0)).max(FIGURES as u64))
    }

    fn build(&self, features: &[Feature], _classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(self.forecaster(features))
    }
}

impl HoltWinters {
    /// One that has learned nothing.
    fn forecaster(&self, features: &[Feature]) -> Forecaster {
        let shape = Shape::new(features, &[]);
        let season = self.season.unwrap_or(0) as usize;
        // The last series is of rows that belong to none.
        let series = vec![Series::default(); shape.slots + 1];
        let seasons = vec![0.0; season * series.len()];
        let smoothing = Smoothing {
            alpha: self.alpha,
            beta: self.beta,
            gamma: self.gamma,
            damping: self.damping,
            multiplicative: self.multiplicative,
        };
        Forecaster { smoothing, has_time: shape.numbers > 0, season, series, seasons }
    }
}

/// How far each part moves.
#[derive(Clone, Copy, Debug)]
struct Smoothing {
    alpha: f64,
    beta: f64,
    gamma: f64,
    damping: f64,
    multiplicative: bool,
}

/// What is known of a series besides its season.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Series {
    /// How many steps there were since the first row, with it; 0 before it.
    age: f64,
    /// The time of the last row.
    time: f64,
    level: f64,
    trend: f64,
    /// The first number.
    first: f64,
}

/// How many numbers that is.
const FIGURES: usize = 5;

/// Series that are smoothed.
#[derive(Clone, Debug)]
struct Forecaster {
    smoothing: Smoothing,
    has_time: bool,
    /// How many steps a season has, 0 without seasons.
    season: usize,
    series: Vec<Series>,
    /// The seasons of all series, one behind the other. While the first is looked at: how far each number is from the first one.
    seasons: Vec<f64>,
}

impl Smoothing {
    /// How often a trend of one counts in so many steps.
    fn damped(&self, steps: f64) -> f64 {
        let phi = self.damping;
        if phi == 1.0 { steps } else { phi * (1.0 - libm::pow(phi, steps)) / (1.0 - phi) }
    }

    /// A level with what the season does to it.
    fn with(&self, level: f64, season: f64) -> f64 {
        if self.multiplicative { level * season } else { level + season }
    }

    /// What with that part becomes that number; the part itself where nothing does.
    fn without(&self, number: f64, part: f64, otherwise: f64) -> f64 {
        match self.multiplicative {
            false => number - part,
            true if part.abs() < f64::EPSILON => otherwise,
            true => number / part,
        }
    }
}

impl Forecaster {
    fn place(&self, row: Row<'_>) -> usize {
        row.slots.first().map_or(self.series.len() - 1, |slot| *slot as usize)
    }

    /// How many steps behind the last row of its series a row lies; at least one.
    fn steps(&self, series: &Series, row: Row<'_>) -> f64 {
        let since = if self.has_time { (row.numbers[0] - series.time).round() } else { 1.0 };
        since.max(1.0)
    }

    /// The season of a series, and whether it is known.
    fn phase(&self, place: usize, age: f64) -> usize {
        place * self.season + ((age - 1.0) % self.season as f64) as usize
    }

    fn forecast(&self, place: usize, row: Row<'_>) -> f64 {
        let series = &self.series[place];
        if series.age < self.season as f64 || series.age == 0.0 {
            return series.level;
        }
        let steps = self.steps(series, row);
        let level = series.level + self.smoothing.damped(steps) * series.trend;
        if self.season == 0 {
            return level;
        }
        self.smoothing.with(level, self.seasons[self.phase(place, series.age + steps)])
    }

    /// Takes in one of the first season. With the last of it, level and season are what they were on average.
    fn look_at(&mut self, place: usize, age: f64, number: f64) {
        let phase = self.phase(place, age);
        let series = &mut self.series[place];
        (series.age, series.level) = (age, number);
        self.seasons[phase] = number - series.first;
        if age < self.season as f64 {
            return;
        }
        let season = &mut self.seasons[place * self.season..(place + 1) * self.season];
        let mean = season.iter().sum::<f64>() / season.len() as f64;
        series.level = series.first + mean;
        for part in season {
            *part = self.smoothing.without(series.first + *part, series.level, 1.0);
        }
    }

    /// Moves level, trend and season.
    fn smooth(&mut self, place: usize, steps: f64, number: f64) {
        let Smoothing { alpha, beta, gamma, damping, .. } = self.smoothing;
        let age = self.series[place].age + steps;
        let phase = (self.season > 0).then(|| self.phase(place, age));
        let neutral = if self.smoothing.multiplicative { 1.0 } else { 0.0 };
        let season = phase.map_or(neutral, |phase| self.seasons[phase]);
        let Series { level, trend, .. } = self.series[place];
        // Where steps were left out, the series went on as was expected.
        let before = level + self.smoothing.damped(steps - 1.0) * trend;
        let expected = level + self.smoothing.damped(steps) * trend;
        let trend = libm::pow(damping, steps) * trend;
        let level = alpha * self.smoothing.without(number, season, expected) + (1.0 - alpha) * expected;
        if let Some(phase) = phase {
            let own = self.smoothing.without(number, expected, season);
            self.seasons[phase] = gamma * own + (1.0 - gamma) * season;
        }
        let series = &mut self.series[place];
        (series.age, series.level) = (age, level);
        series.trend = beta * (level - before) + (1.0 - beta) * trend;
    }
}

impl ByRow for Forecaster {
    fn outputs(&self) -> usize {
        1
    }

    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into[0] = self.forecast(self.place(row), row);
    }

    fn learn_one(&mut self, row: Row<'_>, number: f64) {
        let place = self.place(row);
        let series = self.series[place];
        let time = if self.has_time { row.numbers[0] } else { 0.0 };
        if series.age == 0.0 {
            self.series[place] = Series { age: 1.0, time, level: number, trend: 0.0, first: number };
            return;
        }
        if self.has_time && time.round() <= series.time.round() {
            return;
        }
        let steps = self.steps(&series, row);
        if series.age < self.season as f64 {
            self.look_at(place, series.age + steps, number);
        } else {
            self.smooth(place, steps, number);
        }
        self.series[place].time = time;
    }

    fn save(&self, tensors: &mut Tensors) {
        let figures = |series: &Series| [series.age, series.time, series.level, series.trend, series.first];
        let series: Vec<f64> = self.series.iter().flat_map(figures).collect();
        tensors.put_f64("estimator.series", &[self.series.len(), FIGURES], &series);
        tensors.put_f64("estimator.seasons", &[self.series.len(), self.season], &self.seasons);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let series = tensors.f64s("estimator.series", &[self.series.len(), FIGURES])?;
        self.seasons = tensors.f64s("estimator.seasons", &[self.series.len(), self.season])?;
        for (series, figures) in self.series.iter_mut().zip(series.as_chunks::<FIGURES>().0) {
            let [age, time, level, trend, first] = *figures;
            if !(age >= 0.0 && age.is_finite() && age.fract() == 0.0) {
                return Err(Error::new("the ages of the series in `estimator.series` are damaged"));
            }
            *series = Series { age, time, level, trend, first };
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn forecaster(settings: &str, features: &[Feature]) -> Forecaster {
        let settings: HoltWinters = toml::from_str(settings).unwrap();
        settings.check(&[]).unwrap();
        settings.check_features(features).unwrap();
        settings.forecaster(features)
    }

    /// What is predicted for each row before it is learned: its time, its series, its number.
    fn run(forecaster: &mut Forecaster, rows: &[(f64, &[u32], f64)]) -> Vec<f64> {
        let each = |(time, slots, number): &(f64, &[u32], f64)| {
            let numbers = [*time, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            let (row, mut into) = (Row { numbers: &numbers, slots }, [0.0]);
            forecaster.predict_one(row, &mut into);
            forecaster.learn_one(row, *number);
            into[0]
        };
        rows.iter().map(each).collect()
    }

    fn of_numbers(forecaster: &mut Forecaster, numbers: &[f64]) -> Vec<f64> {
        run(forecaster, &numbers.iter().map(|number| (0.0, &[][..], *number)).collect::<Vec<_>>())
    }

    /// The formulas of the textbook, step by step, from the level, trend and season behind the first season.
    fn textbook(numbers: &[f64], season: usize, by: [f64; 4], multiplicative: bool) -> Vec<f64> {
        let [alpha, beta, gamma, phi] = by;
        let mut level = numbers[..season].iter().sum::<f64>() / season as f64;
        let mut seasons: Vec<f64> =
            numbers[..season].iter().map(|y| if multiplicative { y / level } else { y - level }).collect();
        let (mut trend, mut forecasts) = (0.0, Vec::new());
        for (t, y) in numbers.iter().enumerate().skip(season) {
            let s = seasons[t % season];
            let expected = level + phi * trend;
            forecasts.push(if multiplicative { expected * s } else { expected + s });
            let next = alpha * (if multiplicative { y / s } else { y - s }) + (1.0 - alpha) * expected;
            seasons[t % season] =
                gamma * (if multiplicative { y / expected } else { y - expected }) + (1.0 - gamma) * s;
            trend = beta * (next - level) + (1.0 - beta) * phi * trend;
            level = next;
        }
        forecasts
    }

    fn wave() -> Vec<f64> {
        (0..60)
            .map(|t| 20.0 + 0.3 * f64::from(t) + [3.0, -1.0, -4.0, 2.0][t as usize % 4] + f64::from(t * 7 % 5) * 0.2)
            .collect()
    }

    #[test]
    fn forecasts_are_those_of_the_textbook() {
        for (multiplicative, damping) in [(false, 1.0), (false, 0.9), (true, 1.0), (true, 0.8)] {
            let settings = format!(
                "season = 4\nalpha = 0.4\nbeta = 0.2\ngamma = 0.3\ndamping = {damping:?}\nmultiplicative = {multiplicative}"
            );
            let found = of_numbers(&mut forecaster(&settings, &[]), &wave());
            let wanted = textbook(&wave(), 4, [0.4, 0.2, 0.3, damping], multiplicative);
            assert!(found[4..].iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-10));
            assert_eq!((found[0], &found[1..4]), (0.0, &wave()[..3]), "before there is a season, the number before");
        }
    }

    #[test]
    fn without_a_season_a_line_is_followed() {
        let line: Vec<f64> = (0..300).map(|t| 5.0 + 2.0 * f64::from(t)).collect();
        let found = of_numbers(&mut forecaster("beta = 0.2", &[]), &line);
        assert!((found[299] - line[299]).abs() < 1e-3, "{}", found[299]);
    }

    #[test]
    fn series_do_not_mix_and_times_say_how_far_ahead_a_row_is() {
        let features = [Feature::new("t", "int64", Encoder::Raw), Feature::new("key", "utf8", Encoder::OneHot(2))];
        let settings = "season = 4\ngamma = 0.5\nbeta = 0.1";
        let mut both = forecaster(settings, &features);
        let numbers = wave();
        let slots: [&[u32]; 2] = [&[0], &[1]];
        let rows: Vec<_> = numbers
            .iter()
            .enumerate()
            .flat_map(|(t, y)| [(t as f64, slots[0], *y), (t as f64, slots[1], -y)])
            .collect();
        let found = run(&mut both, &rows);
        let alone = of_numbers(&mut forecaster(settings, &[]), &numbers);
        assert!(
            found.iter().step_by(2).eq(&alone) && found.iter().skip(1).step_by(2).zip(&alone).all(|(a, b)| *a == -b)
        );
        // Far ahead it is the trend, and the season of then; nothing is learned by asking, nor from what is late.
        let before = both.clone();
        let ahead: Vec<_> = (0..9)
            .map(|by| {
                let numbers = [60.0 + f64::from(by), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
                let mut into = [0.0];
                both.predict_one(Row { numbers: &numbers, slots: &[0] }, &mut into);
                into[0]
            })
            .collect();
        let trend = both.series[0].trend;
        assert!((ahead[8] - ahead[0] - 8.0 * trend).abs() < 1e-9 && (ahead[5] - ahead[1] - 4.0 * trend).abs() < 1e-9);
        run(&mut both, &[(59.0, &[0], 1e6), (3.0, &[0], 1e6)]);
        assert_eq!(both.series, before.series);
        // A gap is as many steps as it is long.
        run(&mut both, &[(63.0, &[0], ahead[3])]);
        assert!((both.series[0].level - (before.series[0].level + 4.0 * trend)).abs() < 1e-9);
    }

    #[test]
    fn what_is_wrong_is_said_at_its_place() {
        let settings: HoltWinters = toml::from_str("alpha = 1.5").unwrap();
        assert!(settings.check(&[]).unwrap_err().message.contains("`alpha` is 1.5, and should be from 0 to 1"));
        let settings: HoltWinters = toml::from_str("season = 1").unwrap();
        assert!(settings.check(&[]).unwrap_err().message.contains("`season` is 1"));
        let number = |encoder| Feature::new("n", "float64", encoder);
        let refused = |features: &[Feature]| settings.check_features(features).unwrap_err().message;
        assert!(refused(&[number(Encoder::Standardise)]).contains("has to be encoded by `raw`"));
        assert!(refused(&[number(Encoder::Raw), number(Encoder::Raw)]).contains("is a second number"));
        let key = Feature::new("k", "utf8", Encoder::Hash(4));
        assert!(refused(&[key.clone(), key]).contains("is a second category"));
    }
}
