//! Streams in one `from` of which some have nulls and others not, in either order.

use crate::millstream::Workshop;

/// Two inputs into one node. Only one of them has nulls: in a column, and within a list and a struct.
fn flow(processor: &str, from: &str) -> String {
    format!(
        "[input.whole]\ntype = \"file\"\npath = \"whole.ndjson\"\nevent_time = {{ column = \"at\" }}\n\
         schema = {{ at = \"timestamp\", n = \"int64\", l = \"list<int64>\", s = \"{{ x = int64 }}\" }}\n\
         [input.holes]\ntype = \"file\"\npath = \"holes.ndjson\"\nevent_time = {{ column = \"at\" }}\n\
         schema = {{ at = \"timestamp\", n = \"int64?\", l = \"list<int64?>\", s = \"{{ x = int64? }}\" }}\n\
         [processor.united]\nfrom = {from}\n{processor}\n\
         [output.out]\ntype = \"file\"\npath = \"out.csv\"\nfrom = \"numbers\"\n\
         [processor.numbers]\ntype = \"sql\"\nfrom = \"united\"\n\
         query = \"SELECT at, n, l[1] AS first, s.x AS x FROM united\"\n"
    )
}

#[test]
fn nulls_of_one_stream_fit_into_the_union_in_either_order() {
    let workshop = Workshop::new();
    let row = |second: u8, value: &str| {
        format!("{{\"at\":\"2026-01-01T00:00:0{second}Z\",\"n\":{value},\"l\":[{value}],\"s\":{{\"x\":{value}}}}}\n")
    };
    workshop.write("whole.ndjson", &[row(1, "1"), row(3, "3")].concat());
    workshop.write("holes.ndjson", &[row(2, "null"), row(4, "4")].concat());
    for processor in [
        "type = \"merge\"\norder = \"event_time\"",
        "type = \"sort\"\nby = [\"n\"]",
        "type = \"sample\"\nrows = 10",
        "type = \"dedup\"\nkeys = [\"at\"]",
        "type = \"limit\"\nrows = 10",
    ] {
        for from in ["[\"whole\", \"holes\"]", "[\"holes\", \"whole\"]"] {
            let flow = workshop.write("flow.toml", &flow(processor, from));
            let ran = workshop.run(&["run", flow.to_str().unwrap()]);
            assert_eq!(ran.code, 0, "{processor} {from}: {}{}", ran.stdout, ran.stderr);
            let out = workshop.read("out.csv");
            let mut lines: Vec<&str> = out.lines().skip(1).collect();
            lines.sort_unstable();
            let row = |second: u8, value: &str| format!("2026-01-01T00:00:0{second}Z,{value},{value},{value}");
            assert_eq!(lines, [row(1, "1"), row(2, ""), row(3, "3"), row(4, "4")], "{processor} {from}");
        }
    }
}
