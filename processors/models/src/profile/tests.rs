use millstream_testkit::table;

use super::*;
use crate::estimator::mixed;
use crate::{Features, Missing, ScoredModel, Signature};
use arrow::array::RecordBatch;

/// Rows `from` to `to`, whose numbers are even over 0 to 100 and moved by `shift`.
fn rows(from: u64, to: u64, shift: f64, city: impl Fn(u64) -> &'static str) -> RecordBatch {
    let mut text = "amount:float64? city late:boolean\n".to_owned();
    for row in from..to {
        let (amount, late) = ((mixed(row) % 1000) as f64 / 10.0 + shift, row % 3 == 0);
        let amount = if row % 10 == 0 { "null".to_owned() } else { amount.to_string() };
        text += &format!("{amount} {} {late}\n", city(row));
    }
    table(&text)
}

fn model(batch_rows: usize) -> ScoredModel {
    let learned = rows(0, 6000, 0.0, |row| if row % 4 == 0 { "Rome" } else { "Oslo" });
    let estimator = serde_json::from_str(r#"{ "type": "logistic_regression" }"#).unwrap();
    let features = Features::Listed(vec!["amount".into(), "city".into()]);
    let signature = Signature::plan(&learned.schema(), &estimator, &features, "late", None, Missing::Mean).unwrap();
    let mut model = ScoredModel::new(signature);
    for begin in (0..6000).step_by(batch_rows) {
        model.step_batch(&learned.slice(begin, batch_rows.min(6000 - begin))).unwrap();
    }
    model
}

/// The drift of both features after the model was asked about rows, and the shares that are missing and unseen.
fn asked(about: &[RecordBatch]) -> Vec<InputFigures> {
    let model = model(1000);
    let mut observed = Observed::new(model.model(), model.profile()).unwrap();
    about.iter().for_each(|rows| observed.add(model.model(), rows).unwrap());
    observed.figures(model.model())
}

#[test]
fn a_profile_is_that_of_the_rows_and_no_matter_of_batches() {
    let profile = model(1000).profile();
    assert_eq!(profile, model(7).profile());
    let [amount, city] = &profile[..] else { panic!("{profile:?}") };
    assert_eq!((amount.rows, &*amount.feature, &*city.feature), (500, "amount", "city"));
    assert!((amount.missing - 0.1).abs() < 0.04 && city.missing == 0.0, "{profile:?}");
    let Values::Numbers { mean, deviation, edges, shares } = &amount.values else { panic!("{amount:?}") };
    // Even over 0 to 100.
    assert!((mean - 50.0).abs() < 4.0 && (deviation - 28.9).abs() < 2.0, "{amount:?}");
    assert!(edges.iter().zip(1..).all(|(edge, tenth)| (edge - 10.0 * f64::from(tenth)).abs() < 6.0), "{edges:?}");
    assert_eq!((edges.len(), shares.len()), (9, 10));
    let Values::Categories { frequent, others } = &city.values else { panic!("{city:?}") };
    assert_eq!((&*frequent[0].value, &*frequent[1].value, *others), ("Oslo", "Rome", 0.0));
    assert!((frequent[0].share - 0.75).abs() < 0.06, "{frequent:?}");
}

#[test]
fn rare_values_are_not_told() {
    let estimator = serde_json::from_str(r#"{ "type": "logistic_regression" }"#).unwrap();
    let text = (0..400)
        .map(|row| format!("{} {}\n", if row < 300 { "common".into() } else { format!("one{row}") }, row % 2 == 0));
    let learned = table(&format!("name late:boolean\n{}", text.collect::<String>()));
    let features = Features::Listed(vec!["name".into()]);
    let signature = Signature::plan(&learned.schema(), &estimator, &features, "late", None, Missing::Fail).unwrap();
    let mut model = ScoredModel::new(signature);
    model.step_batch(&learned).unwrap();
    let frequent = vec![Frequent { value: "common".to_owned(), share: 0.75 }];
    assert_eq!(model.profile()[0].values, Values::Categories { frequent, others: 0.25 });
}

#[test]
fn drift_is_told_where_there_is_some() {
    let usual = |row: u64| if row % 4 == 1 { "Rome" } else { "Oslo" };
    let none = asked(&[rows(7000, 7100, 0.0, usual)]);
    assert!(none.iter().all(|input| input.drift.is_none()), "of {} rows: {none:?}", none[0].rows);

    let one_by_one: Vec<_> = (7000..8000).map(|row| rows(row, row + 1, 0.0, usual)).collect();
    let same = asked(&one_by_one);
    assert!(same.iter().all(|input| input.rows == 1000 && input.drift.unwrap() < 0.1), "{same:?}");
    assert!((same[0].missing - 0.1).abs() < 1e-9 && (same[0].missing_learned - 0.1).abs() < 0.04, "{same:?}");
    assert_eq!(same.iter().map(|input| input.unseen).collect::<Vec<_>>(), [None, Some(0.0)]);

    let moved = asked(&(0..40).map(|batch| rows(batch * 100, batch * 100 + 100, 60.0, |_| "Lima")).collect::<Vec<_>>());
    assert!(moved.iter().all(|input| input.rows == 4000 && input.drift.unwrap() > 0.25), "{moved:?}");
    assert_eq!(moved[1].unseen, Some(1.0));
}

#[test]
fn only_the_last_rows_count() {
    let usual = |row: u64| if row % 4 == 1 { "Rome" } else { "Oslo" };
    let batches =
        |from: u64, shift| (0..100).map(move |batch| rows(from + batch * 99, from + batch * 99 + 99, shift, usual));
    let recovered: Vec<_> = batches(0, 60.0).chain(batches(20_000, 0.0)).chain(batches(30_000, 0.0)).collect();
    let figures = asked(&recovered);
    assert!(figures[0].rows < 11_000 && figures[0].drift.unwrap() < 0.1, "{figures:?}");
}

#[test]
fn the_stability_index_is_that_of_its_definition() {
    // 0.3 ln(0.5 / 0.2) + -0.3 ln(0.2 / 0.5), of equal thirds but for the first and the last.
    let index = stability_index(&[0.2, 0.3, 0.5], &[50, 30, 20]);
    assert!((index - 0.6 * libm::log(2.5)).abs() < 1e-12, "{index}");
    assert_eq!(stability_index(&[0.5, 0.5], &[7, 7]), 0.0);
}

#[test]
fn a_card_without_the_profile_of_all_features_is_not_compared_with() {
    let model = model(1000);
    assert!(Observed::new(model.model(), Vec::new()).is_none());
    assert!(Observed::new(model.model(), model.profile().into_iter().take(1).collect()).is_none());
}
