use super::*;
use crate::{Missing, ScoredModel, Signature};

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

fn settings(text: &str) -> IntervalSettings {
    serde_json::from_str(text).unwrap()
}

fn errors(text: &str) -> Errors {
    let settings = settings(text);
    Errors { settings, outside: 1.0 - settings.coverage, last: VecDeque::new(), sorted: Vec::new() }
}

/// By row, the half width before its error is learned.
fn half_widths(errors: &mut Errors, of_rows: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let each = |error: f64| {
        let half_width = errors.half_width();
        errors.learn(error, half_width);
        half_width
    };
    of_rows.into_iter().map(each).collect()
}

#[test]
fn without_adaption_it_is_split_conformal_over_the_window() {
    let rows: Vec<f64> = (0..200).map(|row| noise(row, 1)).collect();
    let found = half_widths(&mut errors(r#"{ "coverage": 0.8, "window": 50, "rate": 0 }"#), rows.iter().copied());
    assert!(found[0].is_nan());
    for (row, found) in found.iter().enumerate().skip(1) {
        let mut window = rows[row.saturating_sub(50)..row].to_vec();
        window.sort_unstable_by(f64::total_cmp);
        // The ceil((n + 1) 0.8)-th smallest, or the largest.
        let rank = ((window.len() + 1) as f64 * 0.8).ceil() as usize;
        assert_eq!(*found, window[rank.min(window.len()) - 1], "{row}");
    }
}

#[test]
fn the_share_that_is_aimed_at_moves_as_gibbs_and_candes_say() {
    let mut adaptive = errors(r#"{ "coverage": 0.9, "window": 100, "rate": 0.05 }"#);
    let found = half_widths(&mut adaptive, (0..100).map(|row| noise(row, 2)));
    let mut outside = 0.1_f64;
    for (row, half_width) in found.iter().enumerate().skip(1) {
        let missed = if noise(row, 2) > *half_width { 1.0 } else { 0.0 };
        outside = (outside + 0.05 * (0.1 - missed)).clamp(0.0, 1.0);
    }
    assert!((1.0 - adaptive.settings.coverage - 0.1).abs() < 1e-12 && (adaptive.outside - outside).abs() < 1e-9);
}

#[test]
fn as_many_rows_lie_inside_as_is_said_also_where_errors_grow() {
    for coverage in [0.5, 0.8, 0.95] {
        let mut adaptive = errors(&format!(r#"{{ "coverage": {coverage}, "window": 300, "rate": 0.02 }}"#));
        let error = |row: usize| noise(row, 3) * (1.0 + row as f64 / 500.0);
        let found = half_widths(&mut adaptive, (0..5000).map(error));
        let inside = (1..5000).filter(|row| error(*row) <= found[*row]).count() as f64 / 4999.0;
        assert!((inside - coverage).abs() < 0.01, "{inside}, not {coverage}");
    }
}

fn model(interval: &str) -> Signature {
    let rows = rows(0, 1);
    let estimator = serde_json::from_str(r#"{ "type": "linear_regression", "learning_rate": 0.01 }"#).unwrap();
    let features = crate::Features::Listed(vec!["x".into()]);
    let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
    signature.with_interval(Some(settings(interval))).unwrap()
}

fn rows(from: usize, count: usize) -> arrow::array::RecordBatch {
    let numbers = |of: &dyn Fn(usize) -> f64| -> arrow::array::ArrayRef {
        std::sync::Arc::new((from..from + count).map(|row| Some(of(row))).collect::<arrow::array::Float64Array>())
    };
    let y = |row: usize| 3.0 * noise(row, 4) + noise(row, 5);
    arrow::array::RecordBatch::try_from_iter([("x", numbers(&|row| noise(row, 4))), ("y", numbers(&y))]).unwrap()
}

#[test]
fn a_model_tells_the_ends_and_how_often_the_truth_lay_between_them() {
    let mut model = ScoredModel::new(model("0.8"));
    let first = model.step_batch(&rows(0, 1)).unwrap().columns(model.model().signature()).unwrap();
    assert_eq!([first[0].null_count(), first[1].null_count(), first[2].null_count()], [0, 1, 1]);
    model.step_batch(&rows(1, 1500)).unwrap();
    let names = crate::prediction_fields(model.model().signature(), "new_", false);
    let names: Vec<_> = names.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["new_prediction", "new_prediction_low", "new_prediction_high"]);
    for metrics in [model.metrics(), model.recent()] {
        let [coverage, width] = ["coverage", "interval_width"].map(|name| metrics.get(name).unwrap());
        assert!((coverage - 0.8).abs() < 0.02 && (0.6..1.5).contains(&width), "{coverage} {width}");
    }
    let (mut parts, mut resumed) =
        (millstream_core::Parts::default(), ScoredModel::new(model.model().signature().clone()));
    model.keep(&mut parts).unwrap();
    resumed.restore(&parts.into_state().unwrap()).unwrap();
    for model in [&mut model, &mut resumed] {
        model.step_batch(&rows(1501, 100)).unwrap();
    }
    assert_eq!((resumed.metrics(), resumed.recent()), (model.metrics(), model.recent()));
    assert!(resumed.save_converged().unwrap() == model.save_converged().unwrap());
}

#[test]
fn what_is_wrong_is_said() {
    let check = |text| settings(text).check().map_err(|problem| problem.to_string());
    assert!(check("0.9").is_ok() && check(r#"{ "window": 100 }"#).is_ok());
    assert!(check("1.0").unwrap_err().contains("should lie between 0 and 1"));
    assert!(check(r#"{ "window": 3 }"#).unwrap_err().contains("`window` is 3"));
    assert!(check(r#"{ "rate": 2 }"#).unwrap_err().contains("`rate` is 2"));
    let (mut twenty, mut tensors) = (errors("0.9"), Tensors::default());
    half_widths(&mut twenty, (0..20).map(|row| noise(row, 1)));
    twenty.save(&mut tensors);
    tensors.put_f64("interval.errors", &[20], &[-1.0; 20]);
    assert!(errors("0.9").load(&tensors).unwrap_err().to_string().contains("is damaged"));
}
