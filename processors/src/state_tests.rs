use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{Kind, NodeTypes, Processor, ProcessorSettings, State, Stream};
use millstream_testkit::{
    Given, Sample, Timing, check_processors, context, drive, parse, state_after, state_in_time, stream, table,
};

use crate::dedup::DedupSettings;
use crate::distribute::DistributeSettings;
use crate::join::JoinSettings;
use crate::limit::LimitSettings;
use crate::parse::ParseSettings;
use crate::sample::SampleSettings;
use crate::sort::SortSettings;

const TIMING: Timing = Timing { lateness: 5_000_000, watermark_rows: 20, epoch_rows: 100, batch_rows: 100 };

/// Rows that are up to 7 seconds out of order.
fn rows() -> RecordBatch {
    let mut text = "at:timestamp k:utf8? v:float64?".to_owned();
    for row in 0..250 {
        let second = row / 5 + row * 37 % 8;
        let key = if row % 11 == 0 { "null".to_owned() } else { format!("key{}", row * 31 % 17) };
        let value = ["NaN", "-0.0", "null", "0.1", "1e300"][row % 5];
        write!(text, "\n 1970-01-01T00:{:02}:{:02}Z {key} {value}", second / 60, second % 60).unwrap();
    }
    table(&text)
}

/// The same rows with a list of structs, and one of texts.
fn with_nested(rows: &RecordBatch) -> RecordBatch {
    let texts = ["{}", r#"{"items":[],"tags":["a",null]}"#, r#"{"items":[{"n":1},{"n":2},{}],"tags":[]}"#];
    let texts = StringArray::from_iter_values((0..rows.num_rows()).map(|row| texts[row % 3]));
    let columns = [rows.columns(), &[Arc::new(texts) as ArrayRef]].concat();
    let field = Arc::new(Field::new("json", DataType::Utf8, false));
    let fields: Vec<_> = rows.schema().fields().iter().cloned().chain([field]).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let settings: ParseSettings =
        parse("column = 'json'\nformat = 'json'\nschema = { items = 'list<{ n = int64? }>?', tags = 'list<utf8?>?' }");
    drive(&settings, &[("from", rows)], 8192).ports["main"][0].clone()
}

fn boxed<T: Kind + ProcessorSettings + 'static>(settings: &str) -> Box<dyn ProcessorSettings> {
    Box::new(parse::<T>(settings))
}

/// Nodes whose state does not show how rows were cut into batches.
fn nodes() -> Vec<Box<dyn ProcessorSettings>> {
    vec![
        boxed::<DedupSettings>("keys = ['k', 'v']"),
        boxed::<DedupSettings>("keys = ['k']\nwithin = '3s'\nmax_keys = 12"),
        boxed::<DistributeSettings>("ports = ['a', 'b', 'c']\nrows = 7"),
        boxed::<LimitSettings>("rows = 100\nskip = 60"),
        boxed::<SampleSettings>("share = '30%'"),
        boxed::<SampleSettings>("rows = 20"),
        boxed::<SampleSettings>("rows = 2000"),
    ]
}

fn build(settings: &dyn ProcessorSettings, streams: &[Stream]) -> Box<dyn Processor> {
    (settings.plan(&context(), streams).unwrap().build)().unwrap()
}

/// The state of a join behind its table.
fn state_of_join(batch_rows: usize) -> State {
    let settings: JoinSettings = parse("on = ['k']");
    state_after(&settings, &[("from", rows()), ("with", weights())], batch_rows)
}

fn weights() -> RecordBatch {
    table("k:utf8? weight:float64?\n key1 0.5\n null 7\n key1 NaN\n key2 null\n key3 -0.0")
}

/// The pieces of a state, without the origin of the last batch.
fn pieces(state: &State) -> Vec<(&str, &[u8])> {
    state.parts().filter(|(name, _)| *name != "origin").collect()
}

const SAMPLES: &[Sample] = &[
    Sample { node: "dedup", settings: "keys = ['k', 'v']" },
    Sample { node: "dedup", settings: "keys = ['k']\nwithin = '3s'\nmax_keys = 12" },
    Sample { node: "distribute", settings: "ports = ['a', 'b', 'c']\nrows = 7" },
    Sample { node: "limit", settings: "rows = 100\nskip = 60" },
    Sample { node: "merge", settings: "order = 'arrival'" },
    Sample { node: "merge", settings: "order = 'event_time'" },
    Sample { node: "sample", settings: "share = '30%'" },
    Sample { node: "sample", settings: "rows = 20" },
    Sample { node: "sample", settings: "rows = 2000" },
    Sample { node: "sort", settings: "by = ['-k', 'v']" },
    Sample { node: "sort", settings: "by = ['at', 'k']" },
    Sample { node: "split", settings: "by = ['k']\nparts = { train = 0.7, test = 0.3 }" },
    Sample { node: "split", settings: "before = { column = 'at', at = '1970-01-01T00:00:20Z' }\nparts = ['a', 'b']" },
    Sample { node: "join", settings: "on = ['k']" },
    Sample { node: "join", settings: "on = ['k']\nkind = 'left'" },
    Sample {
        node: "parse",
        settings: "column = 'k'\nformat = { type = 'regex', pattern = '^key(?<n>\\d)$' }\nschema = { n = 'int8' }",
    },
    Sample { node: "parse", settings: "column = 'k'\nformat = 'json'\nschema = { n = 'int8?' }\nkeep = true" },
    Sample { node: "flatten", settings: "" },
    Sample { node: "flatten", settings: "explode = 'items'\nindex = 'number'\njoin = { tags = ',' }" },
    Sample {
        node: "schema",
        settings: "rename = { v = 'w' }\ncast = { w = 'decimal(4,1)' }\ndefault = { k = 'none' }\norder = ['k']",
    },
    Sample { node: "schema", settings: "columns = { at = 'timestamp', new = 'utf8?', v = 'utf8' }\ndrift = 'coerce'" },
    Sample {
        node: "validate",
        settings: "rules.k = { column = 'k', not_null = true, in = ['key1', 'key2'] }\nrules.v = { column = 'v', max = 1 }",
    },
    Sample { node: "validate", settings: "rules.k = { column = 'k', matches = '1$' }\non_violation = 'mark'" },
    Sample {
        node: "mask",
        settings: "key = '0123456789abcdef'\ncolumns = { k = { type = 'hash' }, v = { type = 'tokenise' } }",
    },
    Sample {
        node: "mask",
        settings: "columns = { at = { type = 'truncate', to = '10s' }, k = { type = 'redact' }, v = { type = 'round', to = 0.5 } }",
    },
    Sample { node: "rate_limit", settings: "rows = '1000000/s'" },
    Sample { node: "buffer", settings: "expire_after = '5m'" },
    Sample { node: "buffer", settings: "when_full = 'drop_oldest'\nexpire_after = '2s'\nexpire_by = 'event_time'" },
];

#[test]
fn every_processor_keeps_to_what_all_do() {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    check_processors(&types, SAMPLES, &Given::new(with_nested(&rows()), weights()));
}

#[test]
fn a_state_does_not_show_how_rows_were_cut() {
    for settings in nodes() {
        let state = |batch_rows| state_in_time(settings.as_ref(), &rows(), Timing { batch_rows, ..TIMING });
        let whole = state(100);
        assert!(!whole.is_empty());
        assert!(pieces(&state(1)) == pieces(&whole) && pieces(&state(7)) == pieces(&whole), "{whole:?}");
    }
    assert!(state_of_join(1) == state_of_join(100));
}

#[test]
fn rows_that_wait_leave_out_columns_that_nobody_asks_for_and_keep_the_types_of_others() {
    let settings: SortSettings = parse("by = ['k']");
    let state = state_after(&settings, &[("from", rows())], 100);
    let restored = |columns: &str| build(&settings, &[stream("from", table(columns).schema())]).restore(&state);
    restored("k:utf8?\n").unwrap();
    let error = restored("k:int64?\n").unwrap_err().to_string();
    assert!(error.contains("`k` was `utf8` in the") && error.contains("and is `int64`"), "{error}");
}

#[test]
fn a_sample_whose_rows_have_no_numbers_is_refused() {
    let settings: SampleSettings = parse("rows = 20");
    let state = state_after(&settings, &[("from", rows())], 100);
    let parts = state.parts().map(|(name, bytes)| {
        // The number of numbers.
        let bytes = if name == "numbers" { [&[19], &bytes[1..]].concat() } else { bytes.to_vec() };
        (name.to_owned(), bytes)
    });
    let error = build(&settings, &[stream("from", rows().schema())]).restore(&State::new(parts)).unwrap_err();
    assert_eq!(error.to_string(), "the state has 20 rows and 19 numbers of rows");
}
