//! Forecasts of real series, with intervals.

use serde_json::Value;

use crate::millstream::{Workshop, project};

#[test]
fn departures_are_forecast_with_intervals_that_hold() {
    let workshop = Workshop::new();
    let flow = project().join("flows/forecast.toml");
    let ran = workshop.run_json(&[flow.to_str().unwrap()]);
    assert_eq!(ran["status"], "done");
    for model in ["departures_by_week", "departures_by_a_line"] {
        let model = &ran["models"][model];
        let metric = |of: &str, name: &str| model[of][name].as_f64().unwrap();
        for of in ["metrics", "recent"] {
            let coverage = metric(of, "coverage");
            assert!((coverage - 0.9).abs() < 0.015, "{of} {coverage}: {model}");
        }
        let persistence = model["baselines"]["persistence"]["mae"].as_f64().unwrap();
        assert!(metric("metrics", "mae") < 0.8 * persistence, "{model}");
        assert!(metric("metrics", "interval_width") < 4.0 * metric("metrics", "mae") + 4.0, "{model}");
    }
    let forecast = workshop.read("out/forecast.ndjson");
    let rows: Vec<Value> = forecast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 40, "{} hours", rows.len());
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    let inside = |row: &&Value| {
        let flights = number(row, "flights");
        number(row, "prediction_low") <= flights && flights <= number(row, "prediction_high")
    };
    let inside = rows.iter().filter(inside).count();
    assert!(inside * 10 >= rows.len() * 7, "{inside} of {} hours of the last day", rows.len());
}
