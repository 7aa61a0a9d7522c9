//! Times: where in the day, the week and the year they lie.

use std::f64::consts::TAU;

use millstream_core::{Error, Result};

use super::column::{Cell, Prepare};
use crate::encode::Feature;
use crate::onnx::{Graph, Value};
use crate::tensors::Tensors;
use crate::vector::{cos, sin};

const DAY: f64 = 86_400.0;

/// How long each cycle is, and how long before the year 1970 one of it began: at midnight, on a Monday, on the first of January.
const CYCLES: [(f64, f64); 3] = [(DAY, 0.0), (7.0 * DAY, 3.0 * DAY), (365.2425 * DAY, 0.0)];

/// The sine and the cosine of how far each cycle has gone: all 0 where the time is missing.
#[derive(Clone, Debug)]
pub(super) struct Time;

impl Prepare for Time {
    fn width(&self) -> usize {
        2 * CYCLES.len()
    }

    #[inline(always)]
    fn apply(&self, cell: Cell<'_>, into: &mut [f64]) {
        let Cell::Number(seconds) = cell else { return };
        for ((length, before), into) in CYCLES.into_iter().zip(into.as_chunks_mut().0) {
            let gone = TAU * ((seconds + before).rem_euclid(length) / length);
            *into = if gone.is_nan() { [0.0, 0.0] } else { [sin(gone), cos(gone)] };
        }
    }

    fn learn(&mut self, _cell: Cell<'_>, _target: f64) {}

    fn save(&self, _feature: &str, _tensors: &mut Tensors) {}

    fn load(&mut self, _feature: &str, _tensors: &Tensors) -> Result<()> {
        Ok(())
    }

    fn to_onnx(&self, feature: &Feature, _input: &Value, _graph: &mut Graph) -> Result<Vec<Value>> {
        let problem = format!("feature `{}` is encoded by `time`, which is not written as ONNX", feature.name);
        Err(Error::new(format!("{problem}; numbers that an `sql` node computes from the time can be")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a time, in seconds since 1970.
    fn of(seconds: f64) -> [f64; 6] {
        let mut into = [1.0; 6];
        Time.apply(Cell::Number(seconds), &mut into);
        into
    }

    #[test]
    fn a_time_lies_on_three_circles() {
        let near = |found: [f64; 6], wanted: [f64; 6]| {
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, not {wanted:?}");
        };
        // Thursday, 1 January 1970 at midnight, and Monday, 5 January at 6 and at 18 o'clock.
        let thursday = TAU * 3.0 / 7.0;
        near(of(0.0), [0.0, 1.0, sin(thursday), cos(thursday), 0.0, 1.0]);
        for (days, [day_sine, day_cosine]) in [(4.25, [1.0, 0.0]), (4.75, [-1.0, 0.0])] {
            let (week, year) = (TAU * (days - 4.0) / 7.0, TAU * days / 365.2425);
            near(of(days * DAY), [day_sine, day_cosine, sin(week), cos(week), sin(year), cos(year)]);
        }
        // A second before, all cycles but the week's are nearly over.
        near(
            of(-1.0).map(|number| (number * 1e3).round() / 1e3),
            [-0.0, 1.0, (sin(thursday) * 1e3).round() / 1e3, (cos(thursday) * 1e3).round() / 1e3, -0.0, 1.0],
        );
        assert_eq!(of(f64::NAN), [0.0; 6]);
    }
}
