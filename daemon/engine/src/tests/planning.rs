//! What the planner finds wrong with the wiring of a flow.

use std::path::Path;

use super::kinds::registry;
use crate::file::{FlowFile, LoadOptions};
use crate::plan::{Plan, PlanOptions};

fn problems(text: &str) -> String {
    let registry = registry();
    let load = LoadOptions { environment: &|_| None, ..LoadOptions::new(registry) };
    let (file, mut diagnostics) = FlowFile::check(Path::new("test.toml"), text, load);
    let options = PlanOptions::new(registry, ".");
    match Plan::new(&file.unwrap_or_else(|| panic!("{diagnostics}")), &options) {
        Ok(_) if diagnostics.is_empty() => "none".to_owned(),
        Ok(_) => diagnostics.to_string(),
        Err(more) => {
            diagnostics.extend(more);
            diagnostics.to_string()
        }
    }
}

#[track_caller]
fn assert_problem(flow: &str, place: &str, message: &str) {
    let problems = problems(flow);
    assert!(problems.contains(place) && problems.contains(message), "{problems}");
}

#[test]
fn a_cycle_is_found() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
processor.b = { type = "add", from = ["a", "c"], by = 1 }
processor.c = { type = "add", from = "b", by = 1 }
output.d = { type = "file", from = "c", path = "x" }"#,
        "test.toml:3:",
        "rows would run in a cycle: `c` → `b` → `c`",
    );
}

#[test]
fn a_port_that_is_not_there() {
    let flow = |from: &str| {
        format!(
            r#"
input.a = {{ type = "count", rows = 5 }}
processor.b = {{ type = "parity", from = "a" }}
output.d = {{ type = "file", from = "{from}", path = "x" }}"#
        )
    };
    assert_problem(&flow("b.evne"), "test.toml:4:", "`b` has no port `evne`");
    assert_problem(&flow("b.evne"), "test.toml:4:", "did you mean `even`?");
    assert_problem(&flow("b"), "test.toml:4:", "`b` has several ports and no main one");
}

#[test]
fn an_input_of_several_tables_has_a_port_for_each() {
    let flow = |from: &str, column: &str| {
        format!(
            r#"
input.a = {{ type = "known", rows = 5, every = 1, tables = 2, event_time = {{ column = "{column}" }} }}
output.d = {{ type = "file", from = "{from}", path = "x" }}
output.e = {{ type = "file", from = "a.t0", path = "y" }}"#
        )
    };
    assert_eq!(problems(&flow("a.t1", "at")), "none");
    assert_problem(&flow("a.t2", "at"), "test.toml:3:", "`a` has no port `t2`");
    assert_problem(&flow("a", "at"), "test.toml:3:", "`a` has several ports and no main one");
    assert_problem(&flow("a.t1", "when"), "test.toml:2:", "port `t0`: there is no column `when`");
}

#[test]
fn streams_of_other_columns_can_not_be_united() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
input.b = { type = "count", rows = 5, wide = true }
processor.c = { type = "merge", from = ["a", "b"] }
output.d = { type = "file", from = "c", path = "x" }"#,
        "test.toml:4:",
        "`b` can't be united with `a`: it has 2 columns and the other 1",
    );
}

#[test]
fn a_model_that_no_node_trains() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
processor.t = { type = "teach", from = "a", model = "count" }
processor.o = { type = "obey", from = "a", model = "cuont" }
output.d = { type = "file", from = "o", path = "x" }"#,
        "test.toml:4:",
        "no node of this flow trains a model `cuont`",
    );
}

#[test]
fn a_model_that_two_nodes_train() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
processor.t = { type = "teach", from = "a", model = "count" }
processor.u = { type = "teach", from = "a", model = "count" }"#,
        "test.toml:4:",
        "model `count` is trained by `t` already",
    );
}

#[test]
fn one_input_behind_both_sides_of_a_node() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
processor.b = { type = "add", from = "a", by = 1 }
processor.c = { type = "after", from = "b", with = "a" }
output.d = { type = "file", from = "c", path = "x" }"#,
        "test.toml:4:",
        "input `a` is behind both `from` and `with`",
    );
}

#[test]
fn inputs_that_wait_for_each_other() {
    assert_problem(
        r#"
input.a = { type = "count", rows = 5 }
input.b = { type = "count", rows = 5 }
processor.c = { type = "after", from = "a", with = "b" }
processor.d = { type = "after", from = "b", with = "a" }
output.e = { type = "file", from = "c", path = "x" }
output.f = { type = "file", from = "d", path = "y" }"#,
        "test.toml:",
        "would wait for each other",
    );
}

#[test]
fn a_node_behind_a_wrong_one_says_so_once() {
    let problems = problems(
        r#"
input.a = { type = "count", rwos = 5 }
processor.b = { type = "add", from = "a", by = 1 }
output.d = { type = "file", from = "b", path = "x" }"#,
    );
    assert!(problems.contains("`rwos`"), "{problems}");
    assert_eq!(problems.matches("not checked").count(), 1, "{problems}");
    assert!(!problems.contains("is empty"), "{problems}");
}

#[test]
fn an_output_behind_a_wrong_node_says_what_is_wrong_itself() {
    let problems = problems(
        r#"
input.a = { type = "count", rows = 5, event_time = { column = "none" } }
processor.b = { type = "add", from = "a", by = 1 }
output.d = { type = "file", from = "b", path = "" }
output.e = { type = "file", from = "a", path = "" }"#,
    );
    assert_eq!(problems.matches("the path is empty").count(), 2, "{problems}");
    assert!(problems.contains("because `a` is wrong") && problems.contains("no column `none`"), "{problems}");
}

#[test]
fn thirty_forks_that_meet_again_are_planned_at_once() {
    let mut flow = String::from("input.a0 = { type = \"count\", rows = 5 }\n");
    for number in 0..30 {
        flow += &format!("processor.b{number} = {{ type = \"parity\", from = \"a{number}\" }}\n");
        let ports = format!("[\"b{number}.even\", \"b{number}.odd\"]");
        flow += &format!("processor.a{} = {{ type = \"merge\", from = {ports} }}\n", number + 1);
    }
    flow += "output.end = { type = \"file\", from = \"a30\", path = \"x\" }";
    // A way through the graph for each of 2^30 choices must not be followed one by one.
    assert_eq!(problems(&flow), "none");
}

#[test]
fn what_becomes_of_rows_that_nobody_sends_again_has_to_be_said() {
    let flow = |flow: &str, input: &str, sum: &str| {
        format!(
            r#"
flow = {{ {flow} }}
input.a = {{ type = "count", rows = 5, acknowledges = true{input} }}
processor.b = {{ type = "add", from = "a", by = 1{sum} }}
output.d = {{ type = "file", from = "b", path = "x" }}"#
        )
    };
    let message = "one that `a` or `b` can't use would end the flow, in every run";
    assert_problem(&flow("", "", ""), "test.toml:3:11", message);
    assert_problem(&flow("", ", on_error = \"drop\"", ""), "test.toml:3:11", "one that `b` can't use");
    assert_eq!(problems(&flow("on_error = \"fail\"", "", "")), "none");
    assert_eq!(problems(&flow("", ", on_error = \"fail\"", ", on_error = \"drop\"")), "none");
}

#[test]
fn what_becomes_of_rows_that_come_in_every_run_should_be_said() {
    let warnings = |flow: &str, input: &str, more: &str| {
        let input = format!("input.a = {{ type = \"events\", rows = 5, {input} }}");
        let output = "output.d = { type = \"file\", from = \"a\", path = \"x\" }";
        super::running::plan(&format!("flow = {{ {flow} }}\n{input}\n{output}\n{more}")).warnings
    };
    let said = warnings("", "mixed = true, live = true", "");
    assert!(
        said.len() == 1 && said[0].starts_with("input `a` is live, and does not say what becomes of rows"),
        "{said:?}"
    );
    assert_eq!(warnings("", "mixed = true", ""), [""; 0], "it ends");
    assert_eq!(warnings("on_error = \"fail\"", "mixed = true, live = true", ""), [""; 0]);
    assert_eq!(warnings("", "mixed = true, live = true, on_error = \"drop\"", ""), [""; 0]);
    let read = "output.e = { type = \"file\", from = \"a.failed\", path = \"y\" }";
    assert_eq!(warnings("", "mixed = true, live = true", read), [""; 0], "somebody reads them");
}

#[test]
fn what_an_input_leaves_out_is_said_of_the_plan_and_where_it_is_missing() {
    let flow = |time: &str| {
        format!(
            "input.a = {{ type = \"events\", rows = 5, left_out = [\"span\"]{time} }}\n\
             output.d = {{ type = \"file\", from = \"a\", path = \"x\" }}"
        )
    };
    let said = "input `a`: column `span` has the type Duration(s), which flows can't carry: it is left out";
    assert_eq!(super::running::plan(&flow("")).warnings, [said]);
    let message =
        "there is no column `span`: it is left out where it is read, since flows can't carry its type, Duration(s)";
    assert_problem(&flow(", event_time = { column = \"span\" }"), "test.toml:1:", message);
    assert_problem(&flow(", event_time = { column = \"spam\" }"), "test.toml:1:", "there is no column `spam`");
}

#[test]
fn an_event_time_that_is_not_right() {
    let flow = |time: &str| {
        format!(
            r#"
input.a = {{ type = "events", rows = 5, event_time = {{ {time} }} }}
output.c = {{ type = "file", from = "a", path = "x" }}"#
        )
    };
    assert_problem(&flow("lateness = \"1s\""), "test.toml:2:53:", "it does not say where the event time is");
    assert_problem(&flow("expression = \"wrong\""), "test.toml:2:70:", "no such word");
    assert_problem(&flow("expression = \"n\""), "test.toml:2:", "an event time is a `timestamp`, and this is `int64`");
    assert_problem(&flow("expression = \"second\", column = \"at\""), "test.toml:2:", "there is a column `at` already");
    assert_problem(&flow("column = \"n\""), "test.toml:2:", "column `n` is not a `timestamp`, but `int64`");
}

#[test]
fn ports_that_nobody_reads_are_named() {
    let text = "input.a = { type = \"events\", rows = 5, event_time = { column = \"at\" } }\n\
                processor.b = { type = \"hold\", from = \"a\" }\n\
                processor.c = { type = \"hold\", from = \"b\" }\n\
                output.d = { type = \"file\", from = \"c\", path = \"x\" }\n";
    let said = super::running::plan(text).warnings;
    assert_eq!(said, [""; 0], "a run says so if rows are late");
    let odd = "processor.e = { type = \"parity\", from = \"a\" }\n\
               output.f = { type = \"file\", from = [\"e.even\", \"b.late\", \"c.late\"], path = \"y\" }\n";
    let said = super::running::plan(&format!("{text}{odd}")).warnings;
    assert_eq!(said, ["nobody reads `e.odd`: its rows are counted and dropped"]);
}

#[test]
fn what_the_flow_reads_is_not_written() {
    let flow = |reads: &str| {
        format!(
            r#"
flow.on_error = {{ dead_letter = "dead" }}
input.a = {{ type = "count", rows = 5, reads = "{reads}" }}
input.b = {{ type = "count", rows = 5, refuse = 2, on_error = {{ dead_letter = "own" }} }}
output.c = {{ type = "file", from = ["a", "b"], path = "x" }}"#
        )
    };
    assert_eq!(problems(&flow("other")), "none");
    assert_problem(&flow("x"), "test.toml:5:55", "input `a` reads what is written here: `x`");
    assert_problem(&flow("own"), "test.toml:4:", "input `a` reads what is written here: `own`");
    let of_all = flow("dead").replace(", on_error = { dead_letter = \"own\" }", "");
    assert_problem(&of_all, "test.toml:2:", "input `a` reads what is written here: `dead`");
}

#[test]
fn what_an_input_does_at_its_end_is_explained() {
    let page = |more: &str| {
        let text = format!(
            "input.a = {{ type = \"events\", rows = 5, event_time = {{ column = \"at\", lateness = \"5s\", watermark_rows = 7 }}{more} }}\n\
             output.d = {{ type = \"file\", from = \"a\", path = \"x\" }}\n"
        );
        crate::explain::explain(&super::running::plan(&text))
    };
    let late = "the watermark is the latest `at` less 5 s, and moves after every 7 rows and at barriers; a row that is earlier is late";
    let finite = page("");
    assert!(finite.contains("ends by itself") && finite.contains(late), "{finite}");
    assert!(page(", live = true").contains(" live, can be read again"), "{finite}");
    let pauses = page(", live = true, pauses = true");
    assert!(pauses.contains("each run ends behind what is there") && !pauses.contains("is live"), "{pauses}");
}
