//! What leaves a join with a table, and what is wrong with settings.

use arrow::array::RecordBatch;
use millstream_core::{Collector, Step};
use millstream_testkit::{Driven, context, drive, parse, rows_as_text, stream, table};

use super::*;
use crate::rows::BATCH_ROWS;

/// What comes of a join, the same for every cut.
fn run(settings: &str, from: &RecordBatch, with: &RecordBatch) -> Driven {
    let settings: JoinSettings = parse(settings);
    let inputs = [("from", from.clone()), ("with", with.clone())];
    let driven = drive(&settings, &inputs, 8192);
    for batch_rows in [1, 7] {
        assert_eq!(drive(&settings, &inputs, batch_rows).text("main"), driven.text("main"), "batches of {batch_rows}");
    }
    driven
}

fn problems(settings: &str, from: &str, with: &str) -> Vec<(Vec<Step>, String)> {
    let streams = [stream("from", table(from).schema()), stream("with", table(with).schema())];
    let problems = parse::<JoinSettings>(settings).plan(&context(), &streams).unwrap_err();
    problems.into_iter().map(|problem| (problem.at, problem.message)).collect()
}

fn orders() -> RecordBatch {
    table("id:int64 country:utf8?\n 1 DE\n 2 Österreich\n 3 null\n 4 FR\n 5 DE\n 6 🇨🇭")
}

fn countries() -> RecordBatch {
    table(
        "code:utf8? name:utf8 area:int64?\n DE Germany 357\n null Nowhere 0\n Österreich Austria 84\n 🇨🇭 Switzerland null",
    )
}

#[test]
fn every_row_of_the_stream_gets_its_match() {
    let driven = run("on = { country = 'code' }", &orders(), &countries());
    let expected = "id:int64 country:utf8? name:utf8? area:int64?\n\
        1 DE Germany 357\n2 Österreich Austria 84\n3 null null null\n4 FR null null\n5 DE Germany 357\n6 🇨🇭 Switzerland null\n";
    assert_eq!(driven.text("main"), expected);
}

#[test]
fn kinds() {
    let text = |kind: &str| {
        run(&format!("on = {{ country = 'code' }}\nkind = '{kind}'"), &orders(), &countries()).text("main")
    };
    let inner = "id:int64 country:utf8? name:utf8 area:int64?\n\
        1 DE Germany 357\n2 Österreich Austria 84\n5 DE Germany 357\n6 🇨🇭 Switzerland null\n";
    assert_eq!(text("inner"), inner);
    assert_eq!(text("semi"), "id:int64 country:utf8?\n1 DE\n2 Österreich\n5 DE\n6 🇨🇭\n");
    assert_eq!(text("anti"), "id:int64 country:utf8?\n3 null\n4 FR\n");
}

#[test]
fn taken_columns_come_in_the_order_of_take() {
    let settings = "on = { country = 'code' }\ntake = ['area', 'code']\nkind = 'inner'";
    let driven = run(settings, &orders().slice(0, 1), &countries());
    assert_eq!(driven.text("main"), "id:int64 country:utf8? area:int64? code:utf8?\n1 DE 357 DE\n");
}

#[test]
fn several_matches_are_several_rows_in_their_order() {
    let with = table("id:int32 tag:utf8\n 2 x\n 1 a\n 2 y\n 3 c\n 2 z");
    let from = table("id:int64?\n 2\n 9\n 1\n null\n 2");
    let driven = run("on = ['id']", &from, &with);
    assert_eq!(driven.text("main"), "id:int64? tag:utf8?\n2 x\n2 y\n2 z\n9 null\n1 a\nnull null\n2 x\n2 y\n2 z\n");
    let driven = run("on = ['id']\nkind = 'semi'", &from, &with);
    assert_eq!(driven.text("main"), "id:int64?\n2\n1\n2\n");
}

#[test]
fn many_matches_leave_in_batches_of_limited_size() {
    let with = table(&format!("id:int64 n:int64{}", (0..20_000).map(|n| format!("\n 1 {n}")).collect::<String>()));
    let settings: JoinSettings = parse("on = ['id']");
    let driven = drive(&settings, &[("from", table("id:int64\n 1")), ("with", with)], 8192);
    let sizes: Vec<_> = driven.ports["main"].iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [8192, 8192, 3616]);
}

#[test]
fn an_empty_table_matches_nothing() {
    let empty = countries().slice(0, 0);
    let left = run("on = { country = 'code' }\ntake = ['name']", &orders().slice(0, 1), &empty);
    assert_eq!(left.text("main"), "id:int64 country:utf8? name:utf8?\n1 DE null\n");
    assert!(run("on = { country = 'code' }\nkind = 'inner'", &orders(), &empty).ports.is_empty());
    let anti = run("on = { country = 'code' }\nkind = 'anti'", &orders(), &empty);
    assert_eq!(anti.text("main"), rows_as_text([&orders()]));
    assert!(run("on = { country = 'code' }", &orders().slice(0, 0), &countries()).ports.is_empty());
}

#[test]
fn integers_of_all_widths_are_compared_by_value() {
    let with = table("key:uint64 name:utf8\n 18446744073709551615 largest\n 7 seven");
    let driven = run("on = { id = 'key' }", &table("id:int8?\n 7\n -1\n null"), &with);
    assert_eq!(driven.text("main"), "id:int8? name:utf8?\n7 seven\n-1 null\nnull null\n");
    let driven = run("on = { id = 'key' }", &table("id:uint64\n 18446744073709551615"), &with);
    assert_eq!(driven.text("main"), "id:uint64 name:utf8?\n18446744073709551615 largest\n");
}

#[test]
fn floats_have_one_zero_and_one_nan() {
    let with = table("key:float64? name:utf8\n 0.0 zero\n NaN none\n null nothing");
    let driven = run("on = { x = 'key' }", &table("x:float64?\n -0.0\n NaN\n null\n 0.5"), &with);
    assert_eq!(driven.text("main"), "x:float64? name:utf8?\n-0.0 zero\nNaN none\nnull null\n0.5 null\n");
}

/// A small generator of numbers, so that a failure repeats.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

fn random_table(header: &str, rows: u64, next: &mut impl FnMut(u64) -> u64) -> RecordBatch {
    let key = |next: &mut dyn FnMut(u64) -> u64| match next(6) {
        0 => "null".to_owned(),
        n => (n % 4).to_string(),
    };
    let line = |number| format!("\n {} {} v{number}", key(next), key(next));
    table(&format!("{header}{}", (0..rows).map(line).collect::<String>()))
}

/// The lines of the naive join: each row of `from` against each of `with`.
fn naive(kind: &str, keys: usize, from: &RecordBatch, with: &RecordBatch) -> Vec<String> {
    let lines = |rows: &RecordBatch| rows_as_text([rows]).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let key = |line: &str| line.split(' ').take(keys).map(str::to_owned).collect::<Vec<_>>();
    let (left, right) = (lines(from), lines(with));
    let mut out = Vec::new();
    for row in &left {
        let has_key = !key(row).contains(&"null".to_owned());
        let matches: Vec<_> = right.iter().filter(|other| has_key && key(other) == key(row)).collect();
        let value = |other: &String| other.split(' ').next_back().unwrap().to_owned();
        match kind {
            "semi" if !matches.is_empty() => out.push(row.clone()),
            "anti" if matches.is_empty() => out.push(row.clone()),
            "left" if matches.is_empty() => out.push(format!("{row} null")),
            "left" | "inner" => out.extend(matches.iter().map(|other| format!("{row} {}", value(other)))),
            _ => {}
        }
    }
    out
}

#[test]
fn it_is_the_naive_join() {
    let types = ["int64?", "utf8?", "int16?", "decimal(5,1)?"];
    for seed in 0..60 {
        let mut next = numbers(seed);
        let data_type = if seed % 2 == 0 { types[next(2) as usize] } else { types[next(4) as usize] };
        let keys = 1 + (seed % 2) as usize;
        let (left, right) = (next(30), next(20));
        let from = random_table(&format!("a:{data_type} b:utf8? x:utf8"), left, &mut next);
        let with = random_table(&format!("a:{data_type} b:utf8? y:utf8"), right, &mut next);
        for kind in ["left", "inner", "semi", "anti"] {
            let on = ["'a'", "'a', 'b'"][keys - 1];
            let take = if ["left", "inner"].contains(&kind) { "take = ['y']" } else { "" };
            let driven = run(&format!("on = [{on}]\nkind = '{kind}'\n{take}"), &from, &with);
            let lines: Vec<_> = driven.text("main").lines().skip(1).map(str::to_owned).collect();
            assert_eq!(lines, naive(kind, keys, &from, &with), "{kind} of {data_type}, seed {seed}");
        }
    }
}

#[test]
fn rows_with_many_matches_leave_in_pieces() {
    let with: String = (0..3000).map(|n| format!("\n {} {n}", n % 2)).collect();
    let from: String = (0..100).map(|n| format!("\n {} {n}", n % 3)).collect();
    let (from, with) = (table(&format!("k:int64 n:int64{from}")), table(&format!("k:int64 m:int64{with}")));
    for (kind, expected) in [("inner", 67 * 1500), ("left", 67 * 1500 + 33)] {
        let driven = run(&format!("on = ['k']\nkind = '{kind}'"), &from, &with);
        assert_eq!(driven.ports["main"].iter().map(RecordBatch::num_rows).sum::<usize>(), expected);
        assert!(driven.largest <= BATCH_ROWS, "{} rows at once", driven.largest);
    }
}

#[test]
fn a_table_that_is_too_large_says_how_large_it_is() {
    let rows = (0..200_000).map(|n| format!("\n {n} 1")).collect::<String>();
    let inputs = [table("id:int64\n 1"), table(&format!("id:int64 n:int64{rows}"))];
    let streams: Vec<_> = inputs.iter().map(|rows| stream("from", rows.schema())).collect();
    let settings: JoinSettings = parse("on = ['id']\nmax_bytes = '1MiB'");
    let mut join = (settings.plan(&context(), &streams).unwrap().build)().unwrap();
    let mut out = Collector::new(1);
    join.process(1, millstream_testkit::batch(inputs[1].clone()), &mut out).unwrap();
    let error = join.ended(1, &mut out).unwrap_err().to_string();
    assert_eq!(
        error,
        "`with` has 4MiB in the columns that the join needs, and `max_bytes` is 1MiB; set it to 4MiB or more"
    );
}

#[test]
fn problems_are_told_at_their_places() {
    let from = "id:int64 country:utf8? name:utf8?\n";
    let with = "code:utf8? name:utf8? n:int32 list:list<utf8>?\n";
    let told = |settings: &str| problems(settings, from, with);
    let key = |text: &str| Step::from(text);
    assert_eq!(
        told("on = ['id', 'cod']"),
        [
            (vec![key("on"), Step::Index(0)], "there is no column `id` in `with`".to_owned()),
            (vec![key("on"), Step::Index(1)], "there is no column `cod`".to_owned()),
            (vec![key("on"), Step::Index(1)], "there is no column `cod` in `with`".to_owned()),
            (vec![], "both `from` and `with` have a column `name`".to_owned()),
        ]
    );
    assert_eq!(
        told("on = { id = 'code' }\ntake = ['n', 'nn', 'n', 'name']"),
        [
            (vec![key("on"), key("id")], "`id` is int64, and `code` of `with` is utf8".to_owned()),
            (vec![key("take"), Step::Index(1)], "there is no column `nn`".to_owned()),
            (vec![key("take"), Step::Index(2)], "`n` is taken twice".to_owned()),
            (vec![key("take"), Step::Index(3)], "both `from` and `with` have a column `name`".to_owned()),
        ]
    );
    assert_eq!(told("on = []\ntake = ['n']"), [(vec![key("on")], "a join needs a key".to_owned())]);
    assert_eq!(told("on = ['name']\nkind = 'semi'\ntake = ['n']")[0].1, "this kind of join adds no columns");
}

#[test]
fn only_the_columns_that_are_used_are_asked_for() {
    let uses = |settings: &str| {
        let streams = [stream("from", orders().schema()), stream("with", countries().schema())];
        parse::<JoinSettings>(settings).plan(&context(), &streams).unwrap().uses
    };
    let stream = Uses::passing_on(["country"]);
    let on = "on = { country = 'code' }";
    assert_eq!(uses(on), [stream.clone(), Uses::passing_on(["code"])]);
    assert_eq!(uses(&format!("{on}\ntake = ['name']")), [stream.clone(), Uses::only(["code", "name"])]);
    assert_eq!(uses(&format!("{on}\nkind = 'anti'")), [stream, Uses::only(["code"])]);
}

#[test]
fn the_example_is_settings() {
    let _: JoinSettings = parse(JoinSettings::EXAMPLE);
}
