use super::*;
use crate::layers::Layout;
use crate::{Missing, Model, Signature};

fn noise(row: usize, salt: u64) -> f64 {
    let mixed = (row as u64 * 16 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27) as f64 / u64::MAX as f64
}

/// Scores in steps of a quarter, and whether a row is of the class, which is more probable with a higher score.
fn rows() -> Vec<(f64, bool)> {
    let row = |row: usize| {
        let score = (noise(row, 1) * 40.0).round() / 4.0 - 5.0;
        (score, noise(row, 2) < 1.0 / (1.0 + libm::exp(-(0.7 * score - 0.4))))
    };
    (0..300).map(row).collect()
}

const SCORES: [f64; 8] = [-9.0, -4.9, -2.1, 0.0, 0.3, 1.6, 3.9, 9.0];

/// What scikit-learn 1.9's `_SigmoidCalibration` and `IsotonicRegression` say of these scores, fitted to the same rows.
#[test]
fn curves_are_those_of_scikit_learn() {
    let rows = rows();
    assert_eq!(rows.iter().filter(|(_, is_own)| *is_own).count(), 127);
    let sigmoid = [
        0.003_702_349_356_901_321,
        0.036_814_780_524_256_3,
        0.158_074_272_848_294_78,
        0.382_526_752_010_160_1,
        0.423_530_774_971_223_05,
        0.606_044_834_913_331_3,
        0.850_458_383_571_673_8,
        0.990_410_057_577_586,
    ];
    let line = [
        0.0,
        0.013_333_333_333_333_286,
        0.111_111_111_111_111_1,
        0.316_666_666_666_666_65,
        0.434_782_608_695_652_16,
        0.702_127_659_574_468_1,
        0.890_416_666_666_666_6,
        1.0,
    ];
    // Their minimiser stops a little earlier than Newton's method.
    for (method, wanted, near) in
        [(CalibrationMethod::Platt, sigmoid, 1e-4), (CalibrationMethod::Isotonic, line, 1e-12)]
    {
        let curve = Curve::fit(method, &rows).unwrap();
        for (score, wanted) in SCORES.into_iter().zip(wanted) {
            let found = curve.at(score);
            assert!((found - wanted).abs() < near, "{method:?} of {score}: {found}, not {wanted}");
        }
        assert_eq!(Curve::of(method, &curve.pairs()), Some(curve));
    }
}

#[test]
fn a_sigmoid_is_where_its_loss_is_least() {
    let rows: Vec<_> = rows().into_iter().map(|(score, is_own)| (score * 1e9 + 3e8, is_own)).collect();
    let Some(Curve::Sigmoid { slope, intercept }) = Curve::fit(CalibrationMethod::Platt, &rows) else { panic!() };
    let targets = [1.0 / 175.0, 128.0 / 129.0];
    let off = |(score, is_own): &(f64, bool)| sigmoid_of(slope * score + intercept) - targets[usize::from(*is_own)];
    assert!(rows.iter().map(off).sum::<f64>().abs() < 1e-6);
    assert!(rows.iter().map(|row| off(row) * row.0 / 1e9).sum::<f64>().abs() < 1e-6);
}

fn sigmoid_of(score: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-score))
}

#[test]
fn what_is_all_of_one_kind_has_no_curve_and_odd_scores_do_no_harm() {
    for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
        assert_eq!(Curve::fit(method, &[]), None);
        assert_eq!(Curve::fit(method, &[(1.0, true), (2.0, true)]), None);
        for scores in [[0.0, 0.0, 0.0], [1e308, -1e308, 0.0], [1e-320, 0.0, 1e-320]] {
            let rows: Vec<_> = scores.into_iter().zip([true, false, true]).collect();
            let curve = Curve::fit(method, &rows).unwrap();
            assert!(scores.iter().all(|score| (0.0..=1.0).contains(&curve.at(*score))), "{curve:?}");
        }
        assert_eq!(Curve::of(method, &[[f64::NAN, 0.5]]), None);
    }
    assert_eq!(Curve::of(CalibrationMethod::Isotonic, &[[0.0, 0.5], [1.0, 0.4]]), None);
    assert_eq!(Curve::of(CalibrationMethod::Platt, &[[0.0, 0.5], [1.0, 0.6]]), None);
}

#[test]
fn what_is_calibrated_is_not_written_as_layers() {
    let rows = millstream_testkit::table("a:float64 y:boolean\n1 true\n2 false");
    let estimator = serde_json::from_str(r#"{ "type": "logistic_regression" }"#).unwrap();
    let features = crate::Features::Listed(vec!["a".into()]);
    let signature = Signature::plan(&rows.schema(), &estimator, &features, "y", None, Missing::Fail).unwrap();
    let written = |signature: Signature| {
        let mut model = Model::new(signature);
        model.step_batch(&rows).unwrap();
        model.to_hdf5(Layout::Named, &[]).map_err(|error| error.to_string())
    };
    assert!(written(signature.clone()).is_ok());
    let calibrated = signature.with_calibration(Some(serde_json::from_str(r#""platt""#).unwrap())).unwrap();
    assert_eq!(written(calibrated).unwrap_err(), "its predictions are calibrated, and no layer does that");
}
