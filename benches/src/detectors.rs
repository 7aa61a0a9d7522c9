//! How soon each detector notices a change, how often it cries wolf before, and how many numbers it takes in a second.

use std::time::{Duration, Instant};

use millstream_core::{Result, ResultExt};
use millstream_models::drift::{Detector, DetectorSettings, Signal};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median, rate};

const DETECTORS: [&str; 8] = ["adwin", "page_hinkley", "ddm", "eddm", "fhddm", "hddm_a", "hddm_w", "kswin"];

/// Streams differ by their seed.
const STREAMS: u64 = 20;

/// A stream has so many numbers, and changes in its middle.
const NUMBERS: usize = 200_000;

/// KSWIN sorts a window for each number.
const NUMBERS_OF_KSWIN: usize = 20_000;

/// A rate of errors that goes from .10 to .20, and a measurement whose mean rises by half its deviation: the medians of twenty streams, and the
/// false alarms of all of them together. Detectors of rates have no measurements.
pub fn run() -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for name in DETECTORS {
        let settings: DetectorSettings =
            serde_json::from_value(json!({ "type": name })).doing(|| "reading settings")?;
        let numbers = if name == "kswin" { NUMBERS_OF_KSWIN } else { NUMBERS };
        measurements.extend(on("errors .10 → .20", name, &settings, numbers, error));
        if !settings.is_for_rates() {
            measurements.extend(on("mean 0 → .5", name, &settings, numbers, measured));
        }
    }
    Ok(measurements)
}

/// The figures of a detector on streams of one kind: `number` makes one of a random one, before the change or behind it.
fn on(
    kind: &str,
    name: &str,
    settings: &DetectorSettings,
    numbers: usize,
    number: fn(f64, f64, bool) -> f64,
) -> Vec<Measurement> {
    let (mut early, mut delays, mut time) = (0, Vec::new(), Duration::ZERO);
    for seed in 0..STREAMS {
        let at = |index: usize| number(noise(seed, 2 * index), noise(seed, 2 * index + 1), index >= numbers / 2);
        let stream: Vec<_> = (0..numbers).map(at).collect();
        let (mut detector, start) = (Detector::new(settings.clone()), Instant::now());
        let mut is_alarm = |index: &usize| matches!(detector.update(stream[*index]), Signal::Drift(_));
        let alarms: Vec<_> = (0..numbers).filter(&mut is_alarm).collect();
        time += start.elapsed();
        early += alarms.iter().filter(|alarm| **alarm < numbers / 2).count();
        // One that notices nothing takes as long as the stream.
        let noticed = alarms.into_iter().find(|alarm| *alarm >= numbers / 2).unwrap_or(numbers);
        delays.push((noticed - numbers / 2) as f64);
    }
    let line = |unit, value, goal| Measurement::new(format!("detectors: `{name}`, {kind}"), unit, value, goal);
    let is_quick = if name == "adwin" { Goal::AtLeast(5e6) } else { Goal::Shown };
    vec![
        line("rows late", median(delays), Goal::Shown),
        line("false alarms", early as f64, Goal::Shown),
        line("updates/s", rate(STREAMS * numbers as u64, time), is_quick),
    ]
}

/// Whether a prediction is wrong.
fn error(random: f64, _: f64, is_changed: bool) -> f64 {
    f64::from(u8::from(random < if is_changed { 0.2 } else { 0.1 }))
}

/// A number of a normal distribution (Box & Muller).
fn measured(random: f64, angle: f64, is_changed: bool) -> f64 {
    let normal = (-2.0 * (1.0 - random).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
    normal + if is_changed { 0.5 } else { 0.0 }
}

/// A number from 0 to 1, by its place.
fn noise(seed: u64, index: usize) -> f64 {
    let mut mixed = (seed << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ mixed >> 30).wrapping_mul(factor);
    }
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}
