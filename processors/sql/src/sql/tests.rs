use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use millstream_testkit::{Driven, context, drive, parse, stream, table};

use super::*;

fn settings(query: &str) -> SqlSettings {
    parse(&format!("query = '''{query}'''"))
}

/// What comes of a query, the same for every cut.
fn run(query: &str, rows: &RecordBatch) -> Driven {
    let driven = drive(&settings(query), &[("from", rows.clone())], 8192);
    for batch_rows in [1, 7] {
        let other = drive(&settings(query), &[("from", rows.clone())], batch_rows);
        assert_eq!(other.text("main"), driven.text("main"), "{query} in batches of {batch_rows}");
        let errors =
            |driven: &Driven| driven.failed.iter().map(|row| (row.error.clone(), row.row.clone())).collect::<Vec<_>>();
        assert_eq!(errors(&other), errors(&driven), "{query} in batches of {batch_rows}");
    }
    driven
}

fn payments() -> RecordBatch {
    table(
        "id:int64 amount:float64? country:utf8? at:timestamp
         1 10 DE 2026-01-01T10:20:30Z
         2 null Österreich 2026-01-01T23:59:59Z
         3 -4 null 2026-01-02T00:00:00Z
         4 0.5 DE 2026-02-28T12:00:00Z",
    )
}

/// Rows with a list `tags` and a structure `s`.
fn nested() -> RecordBatch {
    let lists = [Some(vec![Some(1), None, Some(3)]), None, Some(vec![]), Some(vec![Some(4)])];
    let tags: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
    let ids: ArrayRef = table("id:int64\n 1\n 2\n 3\n 4").column(0).clone();
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let structures: ArrayRef = Arc::new(StructArray::from(vec![(field, ids.clone())]));
    RecordBatch::try_from_iter([("id", ids), ("tags", tags), ("s", structures)]).unwrap()
}

#[test]
fn columns_and_conditions() {
    let query = "SELECT id, amount * 2 AS twice, country FROM input WHERE amount > 0 AND country = 'DE'";
    let expected = "id:int64 twice:float64? country:utf8?\n1 20.0 DE\n4 1.0 DE\n";
    assert_eq!(run(query, &payments()).text("main"), expected);
}

#[test]
fn a_star_with_new_columns_keeps_all() {
    let query = "SELECT *, ln(amount + 1) AS log_amount FROM input WHERE amount IS NOT NULL AND amount > -1";
    let driven = run(query, &payments());
    assert_eq!(driven.ports["main"][0].num_columns(), 5);
    let query = "SELECT * EXCEPT (at, country) FROM input WHERE id = 1";
    assert_eq!(run(query, &payments()).text("main"), "id:int64 amount:float64?\n1 10.0\n");
}

#[test]
fn cases_and_named_queries() {
    let query = "
        WITH sized AS (
            SELECT id, CASE WHEN amount > 1 THEN 'large' WHEN amount IS NULL THEN 'unknown' ELSE 'small' END AS size
            FROM input
        ), named AS (SELECT id AS number, upper(size) AS size FROM sized)
        SELECT * FROM (SELECT number, size FROM named WHERE number < 4) AS some WHERE size <> 'UNKNOWN'";
    assert_eq!(run(query, &payments()).text("main"), "number:int64 size:utf8?\n1 LARGE\n3 SMALL\n");
}

#[test]
fn names_match_as_written_and_functions_in_any_case() {
    let rows = table("Id:int64 id:int64 order:utf8\n 1 2 x");
    let query = "select Id, id, Upper(\"order\") as \"in capitals\", LOWER('É') AS é from input";
    let expected = "Id:int64 id:int64 in capitals:utf8? é:utf8\n1 2 X é\n";
    assert_eq!(run(query, &rows).text("main"), expected);
}

#[test]
fn what_has_no_name_is_called_by_its_text() {
    let query = "SELECT input.id, id + 1, abs(-id), s.a, s['a'] + 1 FROM input";
    let text = run(query, &nested()).text("main");
    assert_eq!(text.lines().next().unwrap(), "id:int64 id + 1:int64 abs(-id):int64? a:int64? s['a'] + 1:int64?");
}

#[test]
fn the_stream_may_be_called_by_its_node() {
    let mut stream = stream("from", payments().schema());
    stream.node = "payments".into();
    let query = settings("SELECT payments.id FROM payments WHERE payments.amount > 1");
    assert!(query.plan(&context(), &[stream]).is_ok());
}

#[test]
fn lists_become_rows() {
    let driven = run("SELECT id, unnest(tags) AS tag FROM input", &nested());
    assert_eq!(driven.text("main"), "id:int64 tag:int64?\n1 1\n1 null\n1 3\n4 4\n");
    let driven = run("SELECT id FROM (SELECT id, unnest(tags) AS tag FROM input) AS t WHERE tag > 2", &nested());
    assert_eq!(driven.text("main"), "id:int64\n1\n4\n");
}

#[test]
fn lists_go_side_by_side() {
    let driven = run("SELECT unnest(tags) AS tag, unnest([id, id * 10]) AS n FROM input WHERE id <> 3", &nested());
    assert_eq!(driven.text("main"), "tag:int64? n:int64?\n1 1\nnull 10\n3 null\nnull 2\nnull 20\n4 4\nnull 40\n");
    let driven = run("SELECT id, unnest_outer(tags) AS tag FROM input WHERE id > 1", &nested());
    assert_eq!(driven.text("main"), "id:int64 tag:int64?\n2 null\n3 null\n4 4\n");
}

#[test]
fn what_a_list_becomes_leaves_in_pieces() {
    let lists =
        [Some((0..50_000).map(Some).collect::<Vec<_>>()), Some(vec![Some(-1)]), Some((0..9000).map(Some).collect())];
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
    let ids: ArrayRef = table("id:int64\n 1\n 2\n 3").column(0).clone();
    let rows = RecordBatch::try_from_iter([("id", ids), ("l", lists)]).unwrap();
    let driven = run("SELECT id, unnest(l) AS n FROM input", &rows);
    assert_eq!(driven.largest, BATCH_ROWS);
    assert_eq!(driven.text("main").lines().count(), 1 + 59_001);
    let query = "SELECT id, n FROM (SELECT id, n, unnest(l) AS m FROM (SELECT id, l, unnest(l) AS n FROM input WHERE id > 1) AS a WHERE n % 100 = 99 OR n < 0) AS b WHERE m = n";
    let driven = run(query, &rows);
    assert_eq!(driven.text("main").lines().count(), 1 + 1 + 90);
}

/// What comes of rows where only so many bytes are worked on together, with how many rows were pushed at once, at most.
fn run_with(bytes: usize, query: &str, rows: &RecordBatch) -> (String, Vec<usize>, usize) {
    let mut sql = super::plan(query, &stream("from", rows.schema())).unwrap().build(bytes);
    let (mut out, mut batches) = (Collector::new(1), Vec::new());
    sql.process(0, millstream_testkit::batch(rows.clone()), &mut out).unwrap();
    let mut largest = 0;
    loop {
        let pushed: Vec<_> = out.take(0).map(|batch| batch.rows).collect();
        largest = largest.max(pushed.iter().map(RecordBatch::num_rows).sum());
        batches.extend(pushed);
        if !sql.more(&mut out).unwrap() {
            break;
        }
    }
    let failed = out
        .take_failed()
        .into_iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(&row.row).unwrap()["id"].as_u64().unwrap() as usize);
    (millstream_testkit::rows_as_text(&batches), failed.collect(), largest)
}

#[test]
fn nothing_depends_on_how_much_is_worked_on_together() {
    let long = |n: usize| (0..n).map(|item| format!("{item}")).collect::<Vec<_>>().join(",");
    let texts = [long(300), "x".into(), format!("{},x", long(400)), "7".into(), format!("0,x,{}", long(100)), long(90)];
    let lines: Vec<_> = texts.iter().enumerate().map(|(id, text)| format!("{id} {text}")).collect();
    let rows = table(&format!("id:int64 t:utf8\n {}", lines.join("\n ")));
    for query in [
        "SELECT id, CAST(unnest(string_to_array(t, ',')) AS int) AS n FROM input",
        "SELECT id, t, CAST(n AS int) + 1 AS n FROM (SELECT id, t, unnest(string_to_array(t, ',')) AS n FROM input) AS a WHERE n <> '5'",
    ] {
        let (expected, failed, _) = run_with(1 << 20, query, &rows);
        assert_eq!(failed, [1, 2, 4], "a row leaves as a whole or not at all");
        for bytes in [1, 100, 3000, 20_000] {
            let (found, failed, largest) = run_with(bytes, query, &rows);
            assert!(found == expected, "{query} with {bytes} bytes");
            assert_eq!(failed, [1, 2, 4]);
            assert!(bytes > 100 || largest < 100, "{largest} rows of {query} with {bytes} bytes");
        }
    }
}

#[test]
fn texts_that_grow_are_worked_on_one_after_the_other() {
    let rows: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..100));
    let rows = RecordBatch::try_from_iter([("id", rows)]).unwrap();
    for query in
        ["SELECT id, repeat('x', 1000000 + id) AS t FROM input", "SELECT id, lpad('x', 1000000, 'y') AS t FROM input"]
    {
        let mut sql = super::plan(query, &stream("from", rows.schema())).unwrap().build(MAX_BATCH_BYTES);
        let mut out = Collector::new(1);
        sql.process(0, millstream_testkit::batch(rows.clone()), &mut out).unwrap();
        let mut ids = Vec::new();
        loop {
            let pushed: Vec<_> = out.take(0).map(|batch| batch.rows).collect();
            assert!(pushed.iter().map(batch_bytes).sum::<usize>() <= MAX_BATCH_BYTES, "{query}");
            ids.extend(pushed.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()));
            if !sql.more(&mut out).unwrap() {
                break;
            }
        }
        assert!(ids.into_iter().eq(0..100), "{query}");
    }
}

#[test]
fn times() {
    let query =
        "SELECT date_trunc('hour', at) AS hour, at + interval '90 minutes' AS later, extract(day FROM at) AS day
                 FROM input WHERE at >= '2026-01-01T23:00:00Z' AND at < timestamp '2026-02-01 00:00:00'";
    let expected = "hour:timestamp later:timestamp day:int32\n\
                    2026-01-01T23:00:00Z 2026-01-02T01:29:59Z 1\n2026-01-02T00:00:00Z 2026-01-02T01:30:00Z 2\n";
    assert_eq!(run(query, &payments()).text("main"), expected);
}

#[test]
fn decimals_are_rounded_to_whole_numbers_of_one_digit_more() {
    let rows = table("x:float64 d:decimal(2,1)\n 1 9.5\n 1.5 -9.5");
    let query = "SELECT ceil(d) AS up, floor(d) AS down, CASE x WHEN ceil(0.5) THEN 1 ELSE 2 END AS n FROM input";
    let expected = "up:decimal(3,1) down:decimal(3,1) n:int64\n10.0 9.0 1\n-9.0 -10.0 2\n";
    assert_eq!(run(query, &rows).text("main"), expected);
}

#[test]
fn bad_rows_fail_alone() {
    let rows = table("id:int64 text:utf8 by:int64\n 1 12 3\n 2 abc 3\n 3 7 0\n 4 99999999999 1\n 5 8 2");
    let driven = run("SELECT id, CAST(text AS int) / by AS ratio FROM input", &rows);
    assert_eq!(driven.text("main"), "id:int64 ratio:int64\n1 4\n5 4\n");
    let errors: Vec<_> = driven.failed.iter().map(|row| row.error.as_str()).collect();
    let expected = [
        "computing `ratio`: can't cast string 'abc' to value of int32 type",
        "computing `ratio`: division by zero",
        "computing `ratio`: can't cast string '99999999999' to value of int32 type",
    ];
    assert_eq!(errors, expected);
    assert_eq!(driven.failed[1].row, r#"{"id":3,"text":"7","by":0}"#);
    assert_eq!(driven.ports["main"].len(), 1, "one batch, not its splinters");
}

#[test]
fn an_earlier_condition_guards_a_later_one() {
    let rows = table("a:int64 b:int64?\n 6 0\n 6 2\n 6 null\n 1 2");
    for query in [
        "SELECT a FROM input WHERE b <> 0 AND a / b > 1",
        "SELECT a FROM (SELECT * FROM input WHERE b <> 0) AS t WHERE a / b > 1",
        "SELECT a FROM input WHERE CASE WHEN b <> 0 THEN a / b > 1 END",
    ] {
        let driven = run(query, &rows);
        assert!(driven.failed.is_empty(), "{query}: {:?}", driven.failed);
        assert_eq!(driven.text("main"), "a:int64\n6\n");
    }
    let driven = run("SELECT a FROM input WHERE a / b > 1", &rows);
    assert_eq!(driven.failed.len(), 1);
    assert_eq!(driven.failed[0].error, "in WHERE: division by zero");
}

#[test]
fn only_the_columns_that_are_used_are_asked_for() {
    let uses = |query| settings(query).plan(&context(), &[stream("from", payments().schema())]).unwrap().uses.remove(0);
    assert_eq!(uses("SELECT id FROM input WHERE \"amount\" > 1"), Uses::only(["id", "amount"]));
    assert_eq!(uses("SELECT *, id + 1 AS next FROM input"), Uses::passing_on(["id"]));
    assert_eq!(uses("SELECT * EXCEPT (at) FROM input"), Uses::passing_on(["at"]));
    assert_eq!(uses("SELECT 1 AS one FROM input"), Uses::only::<&str>([]));
}

#[test]
fn constants_and_other_encodings() {
    let query = "SELECT 1 AS one, NULL AS nothing, arrow_cast(country, 'Utf8View') AS view, to_timestamp(0) AS zero FROM input WHERE id = 1";
    let expected = "one:int64 nothing:utf8? view:utf8? zero:timestamp\n1 null DE 1970-01-01T00:00:00Z\n";
    assert_eq!(run(query, &payments()).text("main"), expected);
}

#[test]
fn types_may_be_called_as_flows_call_them() {
    let query = "SELECT CAST('7' AS int16) AS a, CAST(7 AS uint64) AS b, '7'::float64 AS c, CAST(7 AS utf8) AS d, CAST([7] AS int32[]) AS e \
                 FROM input WHERE id = 1";
    let expected = "a:int16 b:uint64 c:float64 d:utf8 e:list<int32?>\n7 7 7.0 7 [7]\n";
    assert_eq!(run(query, &payments()).text("main"), expected);
}

#[test]
fn nothing_left_is_no_batch() {
    assert!(run("SELECT * FROM input WHERE false", &payments()).ports.is_empty());
    assert!(run("SELECT id FROM input WHERE id > 10", &payments()).ports.is_empty());
}

#[test]
fn the_example_is_settings() {
    let _: SqlSettings = parse(SqlSettings::EXAMPLE);
}

#[test]
fn an_event_time_that_is_computed_anew_is_not_that_of_the_input() {
    let planned = |query: &str| {
        let stream = Stream { event_time: Some("at".to_owned()), ..stream("from", payments().schema()) };
        let plan = settings(query).plan(&context(), &[stream]).unwrap();
        plan.ports[0].event_time.clone()
    };
    for kept in [
        "SELECT * FROM input WHERE amount > 0",
        "SELECT at, amount + 1 AS more FROM input",
        "WITH a AS (SELECT id, at AS other FROM input) SELECT other AS at FROM a AS b",
        "SELECT id FROM input",
    ] {
        assert_eq!(planned(kept), PortTime::Inherited, "{kept}");
    }
    for other in [
        "SELECT id, at + INTERVAL '1 hour' AS at FROM input",
        "SELECT * EXCEPT (at), date_trunc('day', at) AS at FROM input",
        "WITH a AS (SELECT greatest(at, now) AS at FROM (SELECT at, at + INTERVAL '1 hour' AS now FROM input)) SELECT * FROM a",
    ] {
        assert_eq!(planned(other), PortTime::Recomputed, "{other}");
    }
}

#[test]
fn fields_of_structs_in_lists() {
    let item = Field::new_struct("item", vec![Field::new("sku", DataType::Utf8, true)], true);
    let skus: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a", "b", "c"]));
    let items = StructArray::try_new(vec![Arc::new(Field::new("sku", DataType::Utf8, true))].into(), vec![skus], None);
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 1]);
    let items: ArrayRef = Arc::new(ListArray::new(Arc::new(item), offsets, Arc::new(items.unwrap()), None));
    let ids = table("id:int64\n 1\n 2").column(0).clone();
    let rows = RecordBatch::try_from_iter([("id", ids), ("items", items)]).unwrap();
    let query = "SELECT id, item.sku FROM (SELECT id, unnest(items) AS item FROM input) AS one";
    assert_eq!(run(query, &rows).text("main").lines().skip(1).collect::<Vec<_>>(), ["1 a", "1 b", "2 c"]);
    let query = "SELECT items[1]['sku'] AS first FROM input";
    assert_eq!(run(query, &rows).text("main").lines().skip(1).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn json_of_a_struct_is_told_how_fields_are_written() {
    for (query, what) in [("SELECT s ->> 'a' FROM input", "struct"), ("SELECT json_get(tags, 0) FROM input", "list")] {
        let problems = settings(query).plan(&context(), &[stream("from", nested().schema())]).unwrap_err();
        assert!(
            problems[0].message.ends_with(&format!("take a text that is JSON, and this is a {what}")),
            "{problems:?}"
        );
        assert!(problems[0].help.as_ref().unwrap().contains("`column.field`"));
    }
}

#[test]
fn times_that_clocks_show_somewhere() {
    let rows = table(
        "at:timestamp
         2026-03-28T23:30:00Z
         2026-03-29T22:00:00Z
         2026-10-25T00:30:00Z
         2026-10-25T01:30:00Z",
    );
    let expected = "local:timestamp?\n2026-03-29T00:30:00Z\n2026-03-30T00:00:00Z\n2026-10-25T02:30:00Z\n\
                    2026-10-25T02:30:00Z\n";
    let query = "SELECT to_local_time(at AT TIME ZONE 'Europe/Berlin') AS local FROM input";
    assert_eq!(run(query, &rows).text("main"), expected);
}
