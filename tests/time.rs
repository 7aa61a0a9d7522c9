//! Event time, from a file to windows.

use crate::millstream::Workshop;

#[test]
fn rows_without_a_time_are_refused_at_their_positions_and_late_ones_leave_by_their_port() {
    let workshop = Workshop::new();
    workshop.write(
        "events.csv",
        "at,n\n\
         2026-01-01T00:00:10Z,1\n\
         ,2\n\
         2026-01-01T00:02:00Z,three\n\
         2026-01-01T00:02:00Z,4\n\
         2026-01-01T00:00:50Z,5\n\
         2026-01-01T00:02:10Z,6\n",
    );
    let flow = workshop.write(
        "events.toml",
        r#"
        [input.events]
        type = "file"
        path = "events.csv"
        schema = { at = "timestamp?", n = "int64" }
        event_time = { column = "at", watermark_rows = 1 }
        [processor.minutes]
        type = "window"
        from = "events"
        size = "1m"
        select = { n = "sum(n)" }
        [output.sums]
        type = "file"
        from = "minutes"
        path = "sums.csv"
        [output.late]
        type = "file"
        from = "minutes.late"
        path = "late.csv"
        [output.refused]
        type = "file"
        from = "events.failed"
        path = "refused.csv"
        "#,
    );
    for batch_rows in [1, 2, 100] {
        let set = format!("input.events.batch_rows={batch_rows}");
        workshop.run_json(&[flow.to_str().unwrap(), "--set", &set]);
        let sums = "window_start,window_end,n\n\
                    2026-01-01T00:00:00Z,2026-01-01T00:01:00Z,1\n\
                    2026-01-01T00:02:00Z,2026-01-01T00:03:00Z,10\n";
        assert_eq!(workshop.read("sums.csv"), sums, "batches of {batch_rows}");
        assert_eq!(workshop.read("late.csv"), "at,n\n2026-01-01T00:00:50Z,5\n");
        let refused = workshop.read("refused.csv");
        let mut refused: Vec<&str> = refused.lines().skip(1).collect();
        refused.sort_by_key(|line| line.split(',').nth(4));
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused[0].contains("event time `at` is null") && refused[0].contains(",1,"), "{refused:?}");
        assert!(refused[1].contains("`three` is not an `int64`") && refused[1].contains(",2,"), "{refused:?}");
    }
}
