//! Compares the detectors with River's, on the streams of `tests/data/make_drift_fixtures.py`.

use super::*;

const ROWS: u64 = 200_000;

/// SplitMix64 of the row and the salt, from 0 to 1.
fn uniform(row: u64, salt: u64) -> f64 {
    let mixed = (row * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

fn below(row: u64, salt: u64, share: f64) -> f64 {
    f64::from(u8::from(uniform(row, salt) < share))
}

fn value(stream: &str, row: u64) -> f64 {
    match stream {
        "slow" => below(row, 1, if row < ROWS / 2 { 0.1 } else { 0.2 }),
        "steps" => below(row, 5, [0.1, 0.4, 0.2][(row / 2000 % 3) as usize]),
        "numbers" => (2..5).map(|salt| uniform(row, salt)).sum::<f64>() + (row / 5000 % 3) as f64 * 0.25,
        other => panic!("there is no stream {other}"),
    }
}

fn settings(text: &str) -> DetectorSettings {
    let settings: DetectorSettings = serde_json::from_str(text).unwrap();
    settings.check().unwrap();
    settings
}

fn of_river(name: &str) -> DetectorSettings {
    settings(match name {
        "adwin" => r#"{ "type": "adwin" }"#,
        "adwin_often" => r#"{ "type": "adwin", "delta": 0.01, "clock": 1 }"#,
        "page_hinkley" => r#"{ "type": "page_hinkley" }"#,
        "page_hinkley_down" => r#"{ "type": "page_hinkley", "direction": "down", "threshold": 20, "delta": 0.01 }"#,
        "ddm" => r#"{ "type": "ddm" }"#,
        "eddm" => r#"{ "type": "eddm" }"#,
        "fhddm" => r#"{ "type": "fhddm" }"#,
        "hddm_a" => r#"{ "type": "hddm_a" }"#,
        "hddm_a_both" => r#"{ "type": "hddm_a", "two_sided": true }"#,
        "hddm_w" => r#"{ "type": "hddm_w" }"#,
        "hddm_w_both" => r#"{ "type": "hddm_w", "two_sided": true }"#,
        other => panic!("there is no detector {other}"),
    })
}

/// The rows at which a detector alarms, and how often it warns.
fn alarms(settings: DetectorSettings, stream: &str) -> (Vec<u64>, u64) {
    let mut detector = Detector::new(settings);
    let (mut drifts, mut warnings) = (Vec::new(), 0);
    for row in 0..ROWS {
        match detector.update(value(stream, row)) {
            Signal::Stable => {}
            Signal::Warning(_) => warnings += 1,
            Signal::Drift(_) => drifts.push(row),
        }
    }
    (drifts, warnings)
}

#[test]
fn alarms_come_at_the_rows_of_river() {
    for line in include_str!("../../tests/data/drift.csv").lines().skip(1) {
        let [name, stream, drifts, warnings, rows] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (found, warned) = alarms(of_river(name), stream);
        let rows: Vec<u64> = rows.split_whitespace().map(|row| row.parse().unwrap()).collect();
        assert_eq!(found[..rows.len().min(found.len())], rows, "{name} on {stream}");
        assert_eq!((found.len(), warned), (drifts.parse().unwrap(), warnings.parse().unwrap()), "{name} on {stream}");
    }
}

const ALL: [&str; 8] = [
    r#"{ "type": "adwin" }"#,
    r#"{ "type": "page_hinkley" }"#,
    r#"{ "type": "ddm" }"#,
    r#"{ "type": "eddm" }"#,
    r#"{ "type": "fhddm" }"#,
    r#"{ "type": "hddm_a" }"#,
    r#"{ "type": "hddm_w" }"#,
    r#"{ "type": "kswin" }"#,
];

#[test]
fn a_change_is_told_with_the_means_on_both_sides() {
    for text in ALL {
        let mut detector = Detector::new(settings(text));
        let change =
            (0..20_000).find_map(|row| match detector.update(below(row, 7, if row < 10_000 { 0.1 } else { 0.6 })) {
                Signal::Drift(change) if row >= 10_000 => Some((row, change)),
                _ => None,
            });
        let (row, Change { before, after }) = change.unwrap_or_else(|| panic!("{text} says nothing"));
        assert!(row < 10_300, "{text}: {row}");
        // They tell as much of the change as they know of it: some cut late, and some forget.
        assert!(before < 0.35 && after > before, "{text}: {before} to {after}");
    }
}

#[test]
fn detectors_go_on_behind_a_checkpoint_and_pass_over_what_is_no_number() {
    for text in ALL {
        let (mut straight, mut resumed) = (Detector::new(settings(text)), Detector::new(settings(text)));
        for row in 0..6000 {
            let value = value("steps", row);
            let signal = straight.update(value);
            assert_eq!(resumed.update(value), signal, "{text}: row {row}");
            if row % 611 == 5 {
                let saved = serde_json::to_string(&resumed.state()).unwrap();
                resumed = Detector::new(settings(text));
                resumed.restore(serde_json::from_str(&saved).unwrap()).unwrap();
                assert_eq!(resumed.update(f64::NAN), Signal::Stable);
                assert_eq!(resumed.update(f64::INFINITY), Signal::Stable);
            }
        }
    }
    let mut other = Detector::new(settings(ALL[0]));
    let saved = Detector::new(settings(ALL[1])).state();
    assert!(other.restore(saved).unwrap_err().to_string().contains("another type"));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (text, key) in [
        (r#"{ "type": "adwin", "delta": 0 }"#, "delta"),
        (r#"{ "type": "adwin", "clock": 0 }"#, "clock"),
        (r#"{ "type": "page_hinkley", "threshold": -1 }"#, "threshold"),
        (r#"{ "type": "page_hinkley", "alpha": 1.5 }"#, "alpha"),
        (r#"{ "type": "ddm", "drift": 0 }"#, "drift"),
        (r#"{ "type": "eddm", "warning": 0.5, "drift": 0.9 }"#, "drift"),
        (r#"{ "type": "fhddm", "window": 0 }"#, "window"),
        (r#"{ "type": "hddm_a", "warning": 1 }"#, "warning"),
        (r#"{ "type": "hddm_w", "lambda": 0 }"#, "lambda"),
        (r#"{ "type": "kswin", "sample": 60 }"#, "sample"),
    ] {
        let settings: DetectorSettings = serde_json::from_str(text).unwrap();
        let problem = settings.check().unwrap_err();
        assert!(problem.to_string().contains(&format!("`{key}`")), "{text}: {problem}");
    }
}
