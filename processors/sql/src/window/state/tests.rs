use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::datatypes::Int64Type;
use millstream_core::{Collector, Processor, ProcessorSettings, Stream};
use millstream_testkit::{
    Timing, context, drive_in_time, in_one_piece, parse, restore_damaged, rows_as_text, state_in_time, stream, table,
};

use super::super::{Panes, Sessions, WindowSettings};
use super::*;

const TIMING: Timing = Timing { lateness: 1_000_000, watermark_rows: 20, epoch_rows: 50, batch_rows: 100 };

/// All kinds of windows; none has room for all groups.
const WINDOWS: [&str; 3] = [
    "size = '10s'\nkeys = ['k', 'flag']\nmax_groups = 20",
    "size = '9s'\nevery = '6s'\nkeys = ['k']\nmax_groups = 19",
    "gap = '4s'\nkeys = ['k']\nmax_groups = 7",
];

/// All aggregates, over all kinds of values.
const AGGREGATES: &str = "early = true\n[select]\n\
    rows = 'count(*)'\nsome = 'count(v)'\nvalues = 'count(DISTINCT v)'\nkeys = 'count(DISTINCT k)'\n\
    sum = 'sum(v)'\nmean = 'avg(v)'\nsum_n = 'sum(n)'\nmean_n = 'avg(n)'\nsum_d = 'sum(d)'\nmean_d = 'avg(d)'\n\
    least = 'min(v)'\nmost = 'max(n)'\nleast_k = 'min(k)'\nmost_flag = 'max(flag)'\nmost_at = 'max(at)'\nmost_d = 'max(d)'\n\
    first = 'first_value(v)'\nlast = 'last_value(k)'\nfirst_flag = 'first_value(flag) FILTER (WHERE n > 5)'\n\
    dev = 'stddev(v)'\nvar = 'var_pop(n)'\nlow = 'quantile(n - 500, 0.1)'\nhigh = 'quantile(v, 0.8)'\n\
    none = 'min(NULL)'";

/// Rows that are up to 9 seconds out of order.
fn rows() -> RecordBatch {
    let mut text = "at:timestamp k:utf8? flag:boolean? n:int64 v:float64? d:decimal(7,2)?".to_owned();
    for row in 0..200 {
        let second = row / 2 + row * 37 % 10;
        let key = ["a", "bb", "null", "a-long-one", "e", "f", "g", "h"][row * 31 % 64 / 8];
        let flag = ["true", "false", "null"][row % 3];
        let value = ["NaN", "-0.0", "null", "0.1", "1e300", "0.7"][row * 7 % 6];
        let (minute, second, n) = (second / 60, second % 60, row * 7919 % 1000);
        write!(text, "\n 1970-01-01T00:{minute:02}:{second:02}Z {key} {flag} {n} {value} {n}.25").unwrap();
    }
    table(&text)
}

fn build(settings: &WindowSettings) -> Box<dyn Processor> {
    let stream = Stream { event_time: Some("at".into()), ..stream("from", rows().schema()) };
    (settings.plan(&context(), &[stream]).unwrap().build)().unwrap()
}

#[test]
fn all_aggregates_of_all_windows_go_on_as_if_nothing_had_been() {
    for windows in WINDOWS {
        let settings: WindowSettings = parse(&format!("{windows}\n{AGGREGATES}"));
        // A restored processor must come to the same as one that never stopped.
        let whole = drive_in_time(&settings, &rows(), TIMING);
        for port in ["main", "late", "early"] {
            let count = whole.text(port).lines().count();
            assert!(count > 3, "{count} rows leave by {port}: {windows}");
        }
        assert!(whole.failed.iter().any(|row| row.error.contains("max_groups")), "{windows}");
        let other = drive_in_time(&settings, &rows(), Timing { batch_rows: 3, ..TIMING });
        whole.ports.keys().for_each(|port| assert_eq!(other.text(port), whole.text(port), "{port}: {windows}"));
    }
}

#[test]
fn a_state_does_not_show_how_rows_were_cut() {
    for windows in WINDOWS {
        let settings: WindowSettings = parse(&format!("{windows}\n{AGGREGATES}"));
        // The origin is that of the last batch.
        let pieces = |state: &State| {
            let pieces = state.parts().filter(|(name, _)| *name != "origin");
            pieces.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect::<Vec<_>>()
        };
        let whole = pieces(&state_in_time(&settings, &rows(), TIMING));
        for batch_rows in [1, 7] {
            let other = state_in_time(&settings, &rows(), Timing { batch_rows, ..TIMING });
            assert!(pieces(&other) == whole, "{windows} in batches of {batch_rows}");
        }
        // Nor how often the node was restored.
        let mut restored = build(&settings);
        let state = state_in_time(&settings, &rows(), TIMING);
        restored.restore(&state).unwrap();
        let again = restored.snapshot().unwrap().state.into_state_after(&state).unwrap();
        assert!(pieces(&again) == whole, "{windows}");
    }
}

#[test]
fn a_state_of_format_3_is_gone_on_with() {
    for windows in WINDOWS {
        let settings: WindowSettings = parse(&format!("{windows}\n{AGGREGATES}"));
        let state = state_in_time(&settings, &rows(), TIMING);
        let is_sessions = windows.starts_with("gap");
        let (columns, order) = if is_sessions { Sessions::own_fields() } else { Panes::own_fields() };
        let (mut before, own) = in_one_piece(&state, "groups", columns.len(), order);
        if is_sessions {
            let of = |rows: &RecordBatch| {
                let [first, last] = [1, 2].map(|column| rows.column(column).as_primitive::<Int64Type>().clone());
                let changed = rows.column(3).as_boolean().clone();
                (0..rows.num_rows()).map(move |row| (first.value(row), last.value(row), changed.value(row)))
            };
            let mut parts = Parts::default();
            parts.put("sessions", &own.iter().flat_map(of).collect::<Vec<_>>()).unwrap();
            let sessions = parts.into_state().unwrap();
            let parts = before.parts().chain(sessions.parts());
            before = State::new(parts.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
        }
        let finish = |state: &State| {
            let (mut window, mut out) = (build(&settings), Collector::new(3));
            window.restore(state).unwrap();
            window.finish(&mut out).unwrap();
            rows_as_text(out.take(0).map(|batch| batch.rows).collect::<Vec<_>>().iter())
        };
        assert_eq!(finish(&before), finish(&state), "{windows}");
    }
}

#[test]
fn a_state_that_is_damaged_is_no_reason_to_panic() {
    for windows in WINDOWS {
        let settings: WindowSettings = parse(&format!("{windows}\n{AGGREGATES}"));
        restore_damaged(&state_in_time(&settings, &rows(), TIMING), || build(&settings));
    }
}

#[test]
fn a_state_that_does_not_fit_together_is_refused() {
    let refused = |windows: &str, put: fn(&mut Parts) -> Result<()>| {
        let settings: WindowSettings = parse(&format!("{windows}\nselect = {{ n = 'count(*)' }}"));
        let state = state_in_time(&settings, &rows(), Timing { watermark_rows: 1000, ..TIMING });
        let mut other = Parts::default();
        put(&mut other).unwrap();
        let other = other.into_state().unwrap();
        let parts = state.parts().chain(other.parts()).map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
        build(&settings).restore(&State::new(parts)).unwrap_err().to_string()
    };
    let pane = "the state has no good pane of a window at 0";
    assert_eq!(refused("size = '1h'", |parts| parts.put("panes", [(0, true, 2_u64)].as_slice())), pane);
    assert_eq!(refused("size = '1h'", |parts| parts.put("panes", [(0, true, 1_u64), (0, true, 0)].as_slice())), pane);
    let pane = "the state has no good pane of a window at 7";
    assert_eq!(refused("size = '1h'", |parts| parts.put("panes", [(7, true, 1_u64)].as_slice())), pane);
    let left = "the state has 1 groups that belong to no window";
    assert_eq!(refused("size = '1h'", |parts| parts.put("panes", [(0, true, 0_u64)].as_slice())), left);
    let sessions = "the state has 2 sessions and 1 groups";
    assert_eq!(
        refused("gap = '1h'", |parts| parts.put("sessions", [(0, 1, true), (2, 3, false)].as_slice())),
        sessions
    );
}

#[test]
fn a_state_of_other_aggregates_is_refused() {
    let settings = |select: &str| parse::<WindowSettings>(&format!("size = '1h'\nselect = {{ {select} }}"));
    let state = state_in_time(&settings("x = 'sum(n)'"), &rows(), TIMING);
    for other in ["x = 'sum(v)'", "y = 'sum(n)'", "x = 'sum(n)', y = 'sum(n)'", "x = 'max(n)'"] {
        let error = build(&settings(other)).restore(&state).unwrap_err().to_string();
        assert!(error.contains("its rows were kept with other columns"), "{other}: {error}");
    }
}
