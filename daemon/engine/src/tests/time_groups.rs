//! Which inputs advance together in event time, and what is said of those that can't.

use super::running::plan;
use crate::explain::explain;
use crate::plan::{Plan, PlannedTimeGroup};

const TIME: &str = "event_time = { column = \"at\" }";

/// Rows of `a` that are predicted by what is learned from `labels`.
fn flow(a: &str, labels: &str, more: &str) -> Plan {
    plan(&format!(
        "input.a = {{ type = \"known\", rows = 9, every = 10, {a} }}\n\
         input.labels = {{ type = \"known\", rows = 9, every = 10, {labels} }}\n\
         processor.learned = {{ type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\"{more} }}\n\
         processor.scored = {{ type = \"obey\", beside = true, from = \"a\", model = \"m\" }}\n\
         processor.end = {{ type = \"parity\", from = \"scored\" }}\n\
         output.c = {{ type = \"file\", from = [\"end.even\", \"end.odd\"], path = \"x\" }}\n\
         output.d = {{ type = \"file\", from = \"learned\", path = \"y\" }}\n"
    ))
}

/// For each member: its name, whether it is predicted, and the names of those that it waits for.
fn members(plan: &Plan, group: &PlannedTimeGroup) -> String {
    let name = |place: &usize| plan.nodes[group.members[*place].input].name.as_str();
    let member = |place: usize| {
        let member = &group.members[place];
        let waits_for: Vec<_> = member.waits_for.iter().map(name).collect();
        format!("{}{} {waits_for:?}", name(&place), if member.is_predicted { "!" } else { "" })
    };
    (0..group.members.len()).map(member).collect::<Vec<_>>().join(", ")
}

#[test]
fn finite_inputs_wait_for_each_other_and_live_ones_for_the_rows_that_are_predicted() {
    let finite = flow(TIME, TIME, "");
    assert_eq!(members(&finite, &finite.time_groups[0]), r#"a! ["labels"], labels ["a"]"#);
    assert!(
        finite.is_strict() && finite.time_groups[0].is_strict && finite.warnings.is_empty(),
        "{:?}",
        finite.warnings
    );
    let page = explain(&finite);
    assert!(page.contains("`a`, `labels` advance together in event time"), "{page}");
    let live = format!("{TIME}, live = true");
    let live = flow(&live, TIME, "");
    assert_eq!(members(&live, &live.time_groups[0]), r#"a! [], labels ["a"]"#);
    let page = explain(&live);
    assert!(page.contains("rows of `labels` wait until `a` has come as far"), "{page}");
}

#[test]
fn inputs_without_event_time_are_warned_of() {
    const NONE: &str = "pause = 0";
    for (a, labels, named) in [(NONE, TIME, "`a`"), (TIME, NONE, "`labels`"), (NONE, NONE, "`a`, `labels`")] {
        let plan = flow(a, labels, "");
        assert!(plan.time_groups.is_empty());
        let warning = &plan.warnings[0];
        assert!(warning.starts_with("`scored` predicts rows of `a` by a model that learns from `labels`"), "{warning}");
        assert!(warning.ends_with(&format!("say `event_time` at {named}")), "{warning}");
    }
}

#[test]
fn a_model_that_comes_at_the_end_knows_what_came_later() {
    let plan = flow(TIME, TIME, ", at_the_end = true");
    assert!(plan.warnings[0].contains("whose only version comes at the end"), "{:?}", plan.warnings);
    let without_time = flow("pause = 0", "pause = 0", ", at_the_end = true");
    assert!(without_time.warnings.is_empty(), "all is learned first, as was meant: {:?}", without_time.warnings);
}

#[test]
fn rows_of_one_stream_need_no_event_time() {
    let plan = plan(
        r#"
        input.a = { type = "count", rows = 9 }
        input.b = { type = "count", rows = 9 }
        processor.both = { type = "merge", from = ["a", "b"], rows = 1 }
        processor.kinds = { type = "parity", from = "both" }
        processor.learned = { type = "teach", learns = "largest", from = "kinds.even", model = "m" }
        processor.scored = { type = "obey", beside = true, from = "kinds.odd", model = "m" }
        output.c = { type = "file", from = "scored", path = "x" }
        output.d = { type = "file", from = "learned", path = "y" }
    "#,
    );
    assert!(plan.warnings.is_empty() && plan.time_groups.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn inputs_that_wait_for_a_table_begin_together() {
    let plan = plan(&format!(
        "input.a = {{ type = \"known\", rows = 9, every = 10, {TIME} }}\n\
         input.labels = {{ type = \"known\", rows = 9, every = 10, {TIME} }}\n\
         input.table = {{ type = \"count\", rows = 9 }}\n\
         processor.ready = {{ type = \"after\", from = \"a\", with = \"table\" }}\n\
         processor.learned = {{ type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }}\n\
         processor.scored = {{ type = \"obey\", beside = true, from = \"ready\", model = \"m\" }}\n\
         output.c = {{ type = \"file\", from = \"scored\", path = \"x\" }}\n\
         output.d = {{ type = \"file\", from = \"learned\", path = \"y\" }}\n"
    ));
    let gate = |name: &str| plan.node(name).unwrap().gate();
    assert_eq!([gate("a"), gate("labels"), gate("table")], [1, 1, 0]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn labels_that_are_all_read_first_are_warned_of() {
    let plan = plan(&format!(
        "input.a = {{ type = \"known\", rows = 9, every = 10, {TIME} }}\n\
         input.labels = {{ type = \"known\", rows = 9, every = 10, {TIME} }}\n\
         processor.ready = {{ type = \"after\", from = \"a\", with = \"labels\" }}\n\
         processor.learned = {{ type = \"teach\", learns = \"largest\", from = \"labels\", model = \"m\" }}\n\
         processor.scored = {{ type = \"obey\", beside = true, from = \"ready\", model = \"m\" }}\n\
         output.c = {{ type = \"file\", from = \"scored\", path = \"x\" }}\n\
         output.d = {{ type = \"file\", from = \"learned\", path = \"y\" }}\n"
    ));
    assert!(plan.time_groups.is_empty());
    assert!(plan.warnings[0].contains("is read to its end before another begins"), "{:?}", plan.warnings);
    let page = explain(&plan);
    assert!(!page.contains("no row is predicted by what became known later"), "{page}");
}
