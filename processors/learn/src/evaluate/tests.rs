use arrow::array::{Float64Array, RecordBatch};
use millstream_core::{Baselines, Evaluation, Metrics};
use millstream_models::NumberScores;
use millstream_testkit::{batch, context, drive, parse, stream, table};

use super::*;
use crate::damage;

fn evaluate(settings: &str, rows: &RecordBatch, batch_rows: usize) -> (Evaluation, Vec<String>, usize) {
    let settings: EvaluateSettings = parse(settings);
    let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
    let Some(Report::Evaluation(evaluation)) = driven.report else { panic!("a report of an evaluation") };
    let passed = driven.ports.values().flatten().map(RecordBatch::num_rows).sum();
    (evaluation, driven.failed.into_iter().map(|failed| failed.error).collect(), passed)
}

fn problem(settings: &str, columns: &str) -> String {
    let settings: EvaluateSettings = parse(settings);
    settings.plan(&context(), &[stream("from", table(columns).schema())]).unwrap_err()[0].message.clone()
}

#[test]
fn the_example_is_one() {
    let _: EvaluateSettings = parse(EvaluateSettings::EXAMPLE);
}

#[test]
fn two_classes_with_probabilities() {
    let rows = table(
        "y:boolean? my_prediction:boolean? my_probability:float64?
         true true 0.9
         false false 0.1
         null true 0.9
         true null null
         true false 0.4",
    );
    for batch_rows in [1, 10] {
        let (evaluation, failed, passed) = evaluate("label = 'y'\nas = 'my_'", &rows, batch_rows);
        assert_eq!((evaluation.rows, failed.len(), passed), (3, 0, 5));
        assert_eq!(evaluation.metrics.get("accuracy"), Some(2.0 / 3.0));
        assert_eq!(evaluation.metrics.get("auc"), Some(1.0));
        assert_eq!(evaluation.recent, evaluation.metrics);
    }
}

#[test]
fn the_last_rows_are_counted_apart() {
    let row = |row: usize| if row < 500 { "1 2" } else { "1 1" };
    let rows: Vec<_> = (0..1600).map(row).collect();
    let of_classes = table(&format!("y:int64 prediction:int64\n{}", rows.join("\n")));
    let of_numbers = table(&format!("y:float64 prediction:float64\n{}", rows.join("\n")));
    for batch_rows in [7, 1600] {
        let (evaluation, ..) = evaluate("label = 'y'", &of_classes, batch_rows);
        assert_eq!(evaluation.metrics.get("accuracy"), Some(1100.0 / 1600.0));
        assert_eq!(evaluation.recent.get("accuracy"), Some(1.0));
        let (evaluation, ..) = evaluate("label = 'y'", &of_numbers, batch_rows);
        assert_eq!((evaluation.metrics.get("mae"), evaluation.recent.get("mae")), (Some(0.3125), Some(0.0)));
    }
}

/// The figures of a segment are those of an evaluation of its rows alone, however rows come, and though the state is kept in between.
#[test]
fn segments_have_the_figures_of_their_rows() {
    let rows: Vec<_> = (0..60)
        .map(|row| {
            let country = ["DE", "FR", "null", "US", "IT"][row * 7 % 5];
            format!("{} {} 0.{} {country}", row % 3 == 0, row % 4 == 0, row % 10)
        })
        .collect();
    let rows = |fits: &dyn Fn(&str) -> bool| {
        let lines: Vec<_> = rows.iter().filter(|row| fits(row.rsplit(' ').next().unwrap())).cloned().collect();
        table(&format!("y:boolean prediction:boolean probability:float64 country:utf8?\n{}", lines.join("\n")))
    };
    let settings = "label = 'y'\nby = 'country'\nmax_segments = 3";
    // The first three values are DE, none and IT.
    let expected = [("DE", "DE"), ("(none)", "null"), ("IT", "IT"), ("(others)", "FR US")];
    for batch_rows in [1, 7, 60] {
        let (evaluation, _, passed) = evaluate(settings, &rows(&|_| true), batch_rows);
        assert_eq!((passed, evaluation.rows, evaluation.segments.len()), (60, 60, 4));
        for (segment, values) in expected {
            let (alone, ..) = evaluate("label = 'y'", &rows(&|country| values.contains(country)), 60);
            assert_eq!(format!("{:?}", evaluation.segments[segment]), format!("{alone:?}"), "{segment}");
        }
    }
    let settings: EvaluateSettings = parse(settings);
    let build = || (settings.plan(&context(), &[stream("from", rows(&|_| true).schema())]).unwrap().build)().unwrap();
    let (mut whole, mut first, mut second, all) = (build(), build(), build(), rows(&|_| true));
    let count = |node: &mut Box<dyn Processor>, from, to| {
        node.process(0, batch(all.slice(from, to - from)), &mut Collector::new(1)).unwrap();
    };
    count(&mut whole, 0, 60);
    count(&mut first, 0, 31);
    second.restore(&first.snapshot().unwrap().state.into_state().unwrap()).unwrap();
    count(&mut second, 31, 60);
    assert_eq!(format!("{:?}", whole.report()), format!("{:?}", second.report()));
}

/// A state of format 4 goes on, and baselines and segments begin.
#[test]
fn segments_may_begin_later() {
    let rows = table("y:float64 prediction:float64 shop\n1 2 a\n3 3 a");
    let settings: EvaluateSettings = parse("label = 'y'\nby = 'shop'");
    let build = || (settings.plan(&context(), &[stream("from", rows.schema())]).unwrap().build)().unwrap();
    let count = |node: &mut Box<dyn Processor>| node.process(0, batch(rows.clone()), &mut Collector::new(1)).unwrap();
    let mut before = build();
    count(&mut before);
    let state = before.snapshot().unwrap().state.into_state().unwrap();
    let (scores, recent, _): (NumberScores, Recent<(f64, f64)>, BaselineScores) = state.get("counted").unwrap();
    let mut old = Parts::default();
    old.put("numbers", &(scores, recent)).unwrap();
    let mut after = build();
    after.restore(&old.into_state().unwrap()).unwrap();
    count(&mut after);
    let Some(Report::Evaluation(evaluation)) = after.report() else { panic!("a report of an evaluation") };
    assert_eq!((evaluation.rows, evaluation.segments["a"].rows), (4, 2));
    assert_eq!(evaluation.baselines.persistence.get("mae"), Some(1.5));
}

#[test]
fn baselines_and_the_figures_of_each_class_stand_beside() {
    let rows = table("y prediction\n a a\n b a\n b b\n b b\n a b");
    let (evaluation, ..) = evaluate("label = 'y'\nclasses = ['a', 'b', 'c']", &rows, 2);
    let Baselines { persistence, majority } = evaluation.baselines;
    assert_eq!((persistence.get("accuracy"), majority.get("accuracy")), (Some(3.0 / 5.0), Some(2.0 / 5.0)));
    let figures = |class: usize| {
        let (name, metrics) = &evaluation.by_class[class];
        (name.as_str(), ["rows", "precision", "recall", "f1"].map(|figure| metrics.get(figure).unwrap()))
    };
    assert_eq!(figures(0), ("a", [2.0, 0.5, 0.5, 0.5]));
    assert_eq!(figures(1), ("b", [3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]));
    assert!(figures(2).0 == "c" && figures(2).1[1].is_nan());
    let (evaluation, ..) = evaluate("label = 'y'", &table("y:float64 prediction:float64\n 2 1\n 4 4\n 3 3"), 2);
    assert_eq!(evaluation.baselines.persistence.get("mae"), Some(5.0 / 3.0));
    // Nobody knows which classes will come.
    let (evaluation, ..) = evaluate("label = 'y'", &table("y prediction\n a a\n b a"), 2);
    assert_eq!(evaluation.baselines, Baselines::default());
}

#[test]
fn integers_with_a_probability_are_two_classes() {
    let rows = table("y:int64 prediction:int32 probability:float64\n 1 1 0.8\n 0 1 0.6\n 7 1 0.6");
    let (evaluation, failed, passed) = evaluate("label = 'y'", &rows, 10);
    assert_eq!(evaluation.metrics.get("f1"), Some(2.0 / 3.0));
    assert_eq!((failed, passed), (vec!["`y` or `prediction` is none of the classes `0`, `1`".to_owned()], 2));
}

#[test]
fn texts_are_compared_as_they_come() {
    let rows = table("y guess\n a a\n b a\n c c\n ü ü");
    let (evaluation, ..) = evaluate("label = 'y'\nprediction = 'guess'", &rows, 1);
    assert_eq!(evaluation.metrics.get("accuracy"), Some(0.75));
    assert!(evaluation.metrics.get("log_loss").unwrap().is_nan());
}

#[test]
fn many_classes_with_their_probabilities() {
    use arrow::array::{ArrayRef, StructArray};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    let of_class = |name: &str, values: Vec<f64>| {
        (Arc::new(Field::new(name, DataType::Float64, false)), Arc::new(Float64Array::from(values)) as ArrayRef)
    };
    let probabilities = StructArray::from(vec![
        of_class("a", vec![0.5, 0.2]),
        of_class("b", vec![0.3, 0.2]),
        of_class("c", vec![0.2, 0.6]),
    ]);
    let texts = table("y prediction\n a a\n b c");
    let columns: [(&str, ArrayRef); 3] = [
        ("y", texts.column(0).clone()),
        ("prediction", texts.column(1).clone()),
        ("probabilities", Arc::new(probabilities)),
    ];
    let (evaluation, ..) = evaluate("label = 'y'", &RecordBatch::try_from_iter(columns).unwrap(), 10);
    let expected = -(0.5_f64.ln() + 0.2_f64.ln()) / 2.0;
    assert!((evaluation.metrics.get("log_loss").unwrap() - expected).abs() < 1e-12);
}

#[test]
fn numbers_are_scored_as_numbers() {
    let rows = table("y:int64? prediction:float64?\n 1 2\n 3 3\n null 1\n 2 null");
    let (evaluation, ..) = evaluate("label = 'y'", &rows, 1);
    assert_eq!((evaluation.rows, evaluation.metrics.get("mae")), (2, Some(0.5)));
}

#[test]
fn numbers_that_are_none_are_refused_and_leave_the_figures_whole() {
    let rows = table("y:float64? prediction:float64?\n 1 2\n nan 3\n 3 3\n 1 inf\n null nan");
    let (evaluation, failed, passed) = evaluate("label = 'y'", &rows, 10);
    assert_eq!((evaluation.rows, passed, evaluation.metrics.get("mae")), (2, 3, Some(0.5)));
    let why = ["`y` is NaN; numbers that are compared are finite, up to 1e150", "`prediction` is inf"];
    assert!(failed.iter().zip(why).all(|(failed, why)| failed.starts_with(why)) && failed.len() == 2, "{failed:?}");
    let rows =
        table("y:boolean prediction:boolean probability:float64\n true true 0.9\n false false nan\n true true 1.5");
    let (evaluation, failed, passed) = evaluate("label = 'y'", &rows, 10);
    assert!((evaluation.metrics.get("brier").unwrap() - 0.01).abs() < 1e-12 && passed == 1);
    assert_eq!(failed[0], "`probability` is NaN; probabilities are numbers from 0 to 1");
}

/// Trains on the rows, and evaluates what leaves: the model's own figures and the evaluation's.
fn trained_and_evaluated(more: &str, label: &str) -> (Metrics, Metrics) {
    use millstream_core::ModelReport;

    let label = |row: usize| label.split(' ').nth(usize::from(row % 7 < 2)).unwrap();
    let lines: Vec<_> =
        (0..200).map(|row| format!("{} {} {}", row % 7, label(row), if row % 7 < 2 { 2 } else { 1 })).collect();
    let rows = table(&format!("x:int64 word y:int64\n{}", lines.join("\n")));
    let settings = "model = 'm'\nestimator = { type = 'logistic_regression' }\nfeatures = ['x']";
    let train: crate::TrainSettings = parse(&format!("{settings}\n{more}"));
    let driven = drive(&train, &[("from", rows)], 50);
    let Some(Report::Model(ModelReport { metrics, .. })) = driven.report else { panic!("a report of a model") };
    let learned = &driven.ports["main"];
    let learned = arrow::compute::concat_batches(&learned[0].schema(), learned).unwrap();
    let (evaluation, failed, _) = evaluate(more.lines().next().unwrap(), &learned, 70);
    assert!(failed.is_empty(), "{failed:?}");
    (metrics, evaluation.metrics)
}

#[test]
fn classes_are_those_of_the_node_that_made_the_predictions() {
    for more in [
        "label = 'y'\nclasses = [1, 2]",
        "label = 'y'\nclasses = [2, 1]",
        "label = 'word'\nclasses = ['no', 'yes']",
        "label = 'word'\nclasses = ['yes', 'no']",
    ] {
        let (of_train, of_evaluate) = trained_and_evaluated(more, "no yes");
        assert_eq!(format!("{of_train:?}"), format!("{of_evaluate:?}"), "{more}");
        assert!(of_train.get("auc").unwrap() > 0.9);
    }
}

#[test]
fn of_classes_that_nobody_has_named_none_is_positive() {
    let f1 = |rows: &str| evaluate("label = 'y'", &table(&format!("y prediction\n{rows}")), 10).0.metrics.get("f1");
    assert_eq!(f1("a a\n b a\n b b\n b b"), f1("b b\n b b\n b a\n a a"));
}

#[test]
fn columns_are_asked_for() {
    let settings: EvaluateSettings = parse("label = 'y'");
    let schema = table("y:boolean prediction:boolean probability:float64 other:int64\n").schema();
    let plan = settings.plan(&context(), &[stream("from", schema)]).unwrap();
    assert_eq!(plan.uses, [Uses::passing_on(["prediction", "probability", "y"])]);
}

#[test]
fn wrong_settings_are_explained() {
    assert_eq!(problem("label = 'z'", "y prediction\n"), "there is no column `z`");
    assert_eq!(problem("label = 'y'\nas = 'a_'", "y prediction\n"), "there is no column `a_prediction`");
    let types = problem("label = 'y'", "y prediction:boolean\n");
    assert_eq!(types, "label `y` and prediction `prediction` can't be compared: they are utf8 and boolean");
    let text = problem("label = 'y'\nprobability = 'p'", "y:boolean prediction:boolean p\n");
    assert_eq!(text, "column `p` is utf8, and no number");
    let by = |more: &str| problem(&format!("label = 'y'\nby = {more}"), "y prediction amount:float64\n");
    assert_eq!(by("'shop'"), "there is no column `shop`");
    assert_eq!(by("'amount'"), "column `amount` is float64, whose values make no segments");
    assert_eq!(by("'y'\nmax_segments = 0"), "0 segments can't be told apart; there are from 1 to 1000");
    let odd = problem("label = 'y'\nclasses = [0, 300]", "y:int8 prediction:int8\n");
    assert_eq!(odd, "`300` is no value of the label `y`, which is int8");
}

#[test]
fn damaged_states_do_no_harm() {
    for (settings, rows) in [
        ("label = 'y'", "y:boolean prediction:boolean probability:float64\n true true 0.9\n false true 0.6"),
        ("label = 'y'", "y prediction\n a a\n b a\n c b"),
        ("label = 'y'", "y:float64 prediction:float64\n 1 2\n 2.5 2"),
        ("label = 'y'\nclasses = ['a', 'b', 'c']", "y prediction\n a a\n b a\n c b"),
        ("label = 'y'\nby = 'shop'", "y:boolean prediction:boolean shop\n true true a\n false true b"),
    ] {
        let (settings, rows): (EvaluateSettings, _) = (parse(settings), table(rows));
        let build = || (settings.plan(&context(), &[stream("from", rows.schema())]).unwrap().build)().unwrap();
        let mut evaluator = build();
        let mut out = Collector::new(1);
        evaluator.process(0, batch(rows.clone()), &mut out).unwrap();
        let state = evaluator.snapshot().unwrap().state.into_state().unwrap();
        let refused = damage::try_all(&state, build, |node, out| node.process(0, batch(rows.clone()), out));
        assert!(refused > 5, "{refused}");
    }
}

#[test]
fn a_state_of_other_classes_is_refused() {
    let rows = table("y prediction\n a a\n b a\n c b");
    let build = |classes: &str| {
        let settings: EvaluateSettings = parse(&format!("label = 'y'\nclasses = {classes}"));
        (settings.plan(&context(), &[stream("from", rows.schema())]).unwrap().build)().unwrap()
    };
    let state = build("['a', 'b', 'c']").snapshot().unwrap().state.into_state().unwrap();
    build("['a', 'b', 'c']").restore(&state).unwrap();
    let error = build("['a', 'c', 'b']").restore(&state).unwrap_err().to_string();
    assert_eq!(error, "what was counted is damaged in the state, or not of these classes");
}
