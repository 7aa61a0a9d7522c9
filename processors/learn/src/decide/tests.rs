use millstream_testkit::{context, drive, parse, stream, table};

use super::*;

fn shares(policy: &str, scores: &[f64], row: u64) -> Vec<f64> {
    let settings: DecideSettings = parse(&format!("policy = {policy}"));
    settings.policy.check().unwrap();
    let mut into = Vec::new();
    settings.policy.propensities(scores, row, &mut into);
    into
}

fn are_near(found: &[f64], wanted: &[f64]) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12)
}

#[test]
fn propensities_are_those_of_the_formulas() {
    let scores = [0.2, 0.5, 0.1, 0.5];
    assert_eq!(shares("{ type = 'greedy' }", &scores, 1), [0.0, 1.0, 0.0, 0.0]);
    assert!(are_near(&shares("{ type = 'epsilon_greedy', epsilon = 0.2 }", &scores, 9), &[0.05, 0.85, 0.05, 0.05]));
    // With a scale of 10 and 16 rows: gamma is 40.
    let wanted = [1.0 / 16.0, 1.0 - 1.0 / 16.0 - 1.0 / 20.0 - 0.25, 1.0 / 20.0, 0.25];
    assert!(are_near(&shares("{ type = 'squarecb' }", &scores, 16), &wanted));
    let found = shares("{ type = 'softmax', temperature = 0.3 }", &scores, 16);
    assert!((found[1] / found[0] - exp(1.0)).abs() < 1e-12 && (found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    for policy in ["{ type = 'greedy' }", "{ type = 'squarecb' }", "{ type = 'softmax' }"] {
        assert_eq!(shares(policy, &[f64::NEG_INFINITY, f64::NAN], 3), [0.5, 0.5]);
        let shares_of_two = shares(policy, &[f64::INFINITY, 1.0, f64::NAN, 0.9], 3);
        assert!(shares_of_two[0] == 0.0 && shares_of_two[2] == 0.0 && shares_of_two[1] > shares_of_two[3]);
        assert_eq!(shares(policy, &[f64::NAN, -3.0], 3), [0.0, 1.0]);
        assert!(shares(policy, &[1e308, -1e308], 3).iter().all(|share| (0.0..=1.0).contains(share)));
    }
}

fn exp(x: f64) -> f64 {
    libm::exp(x)
}

#[test]
fn actions_are_drawn_as_often_as_they_are_probable() {
    let propensities = [0.1, 0.0, 0.6, 0.3];
    let mut counts = [0; 4];
    (1..=20_000).for_each(|row| counts[draw(&propensities, 7, row)] += 1);
    for (count, share) in counts.iter().zip(propensities) {
        assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.01, "{counts:?}");
    }
    let drawn = |seed| (1..100).map(|row| draw(&propensities, seed, row)).collect::<Vec<_>>();
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(draw(&[0.3, 0.7 - 1e-12, 0.0], 0, 1).max(1), 1);
}

#[test]
fn rows_leave_with_what_was_chosen_whatever_the_batches() {
    let scores = |row: usize| format!("{} {}", f64::from(row as u32 % 3), f64::from(row as u32 % 2));
    let text = (0..300).map(|row| format!("\n {row} {}", scores(row))).collect::<String>();
    let rows = table(&format!("id:int64 a:float64 b:float64?{text}"));
    let by_action = |name: &str| rows.column_by_name(name).unwrap().clone();
    let fields: Fields = ["a", "b"].map(|name| Field::new(name, DataType::Float64, true)).to_vec().into();
    let by_action = StructArray::try_new(fields, vec![by_action("a"), by_action("b")], None).unwrap();
    let rows =
        RecordBatch::try_from_iter([("id", rows.column(0).clone()), ("scores", Arc::new(by_action) as ArrayRef)]);
    let rows = rows.unwrap();
    let settings: DecideSettings = parse("policy = { type = 'epsilon_greedy', epsilon = 0.5 }\nseed = 3\nas = 'my_'");
    let whole = drive(&settings, &[("from", rows.clone())], 300).text("main");
    assert_eq!(drive(&settings, &[("from", rows.clone())], 7).text("main"), whole);
    let mut lines = whole.lines();
    let header = lines.next().unwrap();
    assert!(header.contains("my_decision:int64 my_chosen:utf8 my_propensity:float64 my_propensities"), "{header}");
    assert!(whole.contains(" 0.75 ") && whole.contains(" 0.25 "), "{whole}");
    let again: DecideSettings = parse("scores = 'scores'");
    assert!(drive(&again, &[("from", rows)], 300).text("main").contains(" 0.975 "));
}

#[test]
fn settings_that_make_no_sense_are_refused_at_their_places() {
    let schema = table("a:float64 b:float64\n 1 2").schema();
    let refused = |settings: &str| {
        let settings: DecideSettings = parse(settings);
        let problem = settings.plan(&context(), &[stream("from", schema.clone())]).unwrap_err().remove(0);
        format!("{problem} {:?}", problem.at)
    };
    assert!(refused("").contains("there is no column `scores`"));
    assert!(refused("scores = 'a'").contains("should have a number for each action"));
    let settings: DecideSettings = parse("policy = { type = 'epsilon_greedy', epsilon = 2 }");
    assert!(settings.policy.check().unwrap_err().to_string().contains("`epsilon` is 2"));
}
