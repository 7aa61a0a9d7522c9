//! The commands, as a person types them.

use crate::millstream::{Workshop, project};

const PEOPLE: &str = "name,age\nAda,36\nGrace,85\nAlan,old\n";

fn flow(workshop: &Workshop, more: &str) -> String {
    workshop.write("people.csv", PEOPLE);
    let text = format!(
        r#"
        [input.people]
        type = "file"
        path = "people.csv"
        schema = {{ name = "utf8", age = "int64" }}
        [processor.grown]
        type = "sql"
        from = "people"
        query = "SELECT name, age + 1 AS age FROM people"
        [output.out]
        type = "file"
        from = "grown"
        path = "out.ndjson"
        {more}
        "#
    );
    workshop.write("people.toml", &text).to_str().unwrap().to_owned()
}

const DROP: &str = "[flow]\non_error = \"drop\"";

#[test]
fn a_flow_that_fails_says_which_node_and_row() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, "");
    let ran = workshop.run(&["run", "--json", &flow]);
    assert_eq!(ran.code, 1);
    let json = ran.json();
    assert_eq!(json["status"], "failed");
    assert_eq!(json["error"]["node"], "people");
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("age") && message.contains("row 2") && message.contains("Alan,old"), "{message}");
    assert!(!workshop.exists("out.ndjson"), "nothing is committed");
    assert_eq!(workshop.list(".").iter().filter(|name| name.contains("part")).count(), 0, "no part file is left");
}

#[test]
fn of_several_flows_none_starts_if_one_can_not() {
    let workshop = Workshop::new();
    let first = flow(&workshop, DROP);
    let second = "[input.typed]\ntype = \"stdin\"\nformat = \"ndjson\"\nschema = { n = \"int64\" }\n";
    workshop.write("typed.toml", &format!("{second}[output.o]\ntype = \"drop\"\nfrom = \"typed\""));
    let ran = workshop.run(&["run", "--json", &first, "typed.toml", "--state", "state"]);
    assert_eq!(ran.code, 1);
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = lines.iter().map(|line| line["error"]["message"].as_str().unwrap()).collect();
    assert_eq!(messages[0], "not started, because flow `typed` can't be");
    assert!(messages[1].contains("input `typed` can't be read again"), "{messages:?}");
    assert!(
        ran.stderr.contains("error: flow `typed`: ") && ran.stderr.contains("no flow was started"),
        "{}",
        ran.stderr
    );
    assert_eq!(workshop.list("."), ["people.csv", "people.toml", "state", "typed.toml"]);
    assert!(!workshop.exists("state/people/manifests"), "no flow was taken over");
}

#[test]
fn an_output_that_must_not_be_there_is_found_before_the_flow_is_taken_over() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, DROP);
    workshop.write("out.ndjson", "old");
    let arguments = [flow.as_str(), "--state", "state", "--set", "output.out.if_exists=fail"];
    for command in ["run", "check"] {
        let ran = workshop.run(&[&[command], &arguments[..]].concat());
        assert!(ran.code > 0 && ran.stderr.contains("out.ndjson` exists; move it away"), "{}", ran.stderr);
        assert!(!workshop.exists("state/people/manifests"), "the flow was taken over");
    }
    std::fs::remove_file(workshop.path("out.ndjson")).unwrap();
    assert_eq!(workshop.run(&[&["run"], &arguments[..]].concat()).code, 0);
}

#[test]
fn refused_rows_are_dropped_and_counted() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, DROP);
    let json = workshop.run_json(&[&flow]);
    assert_eq!(json["nodes"]["people"]["rows_in"], 3);
    assert_eq!(json["nodes"]["people"]["rows_failed"], 1);
    assert_eq!(workshop.read("out.ndjson"), "{\"name\":\"Ada\",\"age\":37}\n{\"name\":\"Grace\",\"age\":86}\n");
}

#[test]
fn refused_rows_go_to_the_dead_letter() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, "[flow]\non_error = { dead_letter = \"dead/people\" }");
    workshop.run_json(&[&flow]);
    let files = workshop.list("dead/people");
    let files: Vec<_> = files.iter().filter(|name| name.contains("dead_letter_people")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let letter: serde_json::Value = serde_json::from_str(&workshop.read(&format!("dead/people/{}", files[0]))).unwrap();
    assert_eq!(letter["node"], "people");
    assert_eq!(letter["position"], 2);
    assert_eq!(letter["row"], "Alan,old");
    assert_eq!(letter["encoding"], "text");
    let before = workshop.read(&format!("dead/people/{}", files[0]));
    // Later runs, with refused rows and without, leave them where they are.
    workshop.run_json(&[&flow]);
    workshop.write("people.csv", "name,age\nAda,36\n");
    workshop.run_json(&[&flow]);
    let later = workshop.list("dead/people");
    assert_eq!(later.len(), 2, "{later:?}");
    assert!(later.iter().all(|name| workshop.read(&format!("dead/people/{name}")) == before));
}

#[test]
fn dead_letters_go_with_a_join() {
    let workshop = Workshop::new();
    let quickstart = project().join("flows/quickstart.toml");
    let set = "flow.on_error={ dead_letter = \"dead\" }";
    let ran = workshop.run(&["check", quickstart.to_str().unwrap(), "--set", set]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn settings_can_be_changed_from_the_command_line() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, DROP);
    workshop.run_json(&[&flow, "--set", "output.out.path=other.csv"]);
    assert_eq!(workshop.read("other.csv"), "name,age\nAda,37\nGrace,86\n");
    let wrong = workshop.run(&["run", &flow, "--set", "output.out.pth=x"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("pth"), "{}", wrong.stderr);
}

#[test]
fn rows_that_nobody_reads_are_told_at_the_end() {
    let workshop = Workshop::new();
    let flow = r#"
        [input.numbers]
        type = "generate"
        rows = 100
        columns = { k = "row % 10" }
        [processor.once]
        type = "dedup"
        from = "numbers"
        keys = ["k"]
        [output.o]
        type = "drop"
        from = "once"
    "#;
    workshop.write("flow.toml", flow);
    assert!(!workshop.run(&["check", "flow.toml"]).stdout.contains("warning"));
    let ran = workshop.run(&["run", "flow.toml"]);
    assert!(ran.stderr.contains("warning: 90 rows left by `once.repeated`, which nobody reads"), "{}", ran.stderr);
    let read = format!("{flow}\n[output.rest]\ntype = \"drop\"\nfrom = \"once.repeated\"");
    workshop.write("flow.toml", &read);
    assert!(!workshop.run(&["run", "flow.toml"]).stderr.contains("nobody reads"));
}

#[test]
fn rows_of_a_node_are_shown() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, DROP);
    let ran = workshop.run(&["run", &flow, "--show", "people", "--show", "people.failed"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("Grace") && ran.stdout.contains("85") && ran.stdout.contains("Alan,old"),
        "{}",
        ran.stdout
    );
}

#[test]
fn usage_and_checking_errors_end_with_2() {
    let workshop = Workshop::new();
    assert_eq!(workshop.run(&["run"]).code, 2);
    assert_eq!(workshop.run(&["rnu"]).code, 2);
    let missing = workshop.run(&["check", "nowhere.toml"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("nowhere.toml"), "{}", missing.stderr);
}

#[test]
fn checking_writes_nothing() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, "");
    let ran = workshop.run(&["check", &flow]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(workshop.list("."), ["people.csv", "people.toml"]);
}

#[test]
fn tests_of_flows_run() {
    let workshop = Workshop::new();
    let flow = flow(
        &workshop,
        r#"
        [[test]]
        name = "everybody grows"
        input.people = [{ name = "Ada", age = 36 }]
        expect.grown = [{ name = "Ada", age = 37 }]
        [[test]]
        name = "nobody grows"
        input.people = [{ name = "Ada", age = 36 }]
        expect.out = [{ age = 36 }]
        "#,
    );
    let ran = workshop.run(&["test", &flow]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("ok      "), "{}", ran.stdout);
    assert!(ran.stdout.contains("`out`: row 0: `age` is 37, expected 36"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("1 passed, 1 failed\n"), "{}", ran.stdout);
    assert!(!workshop.exists("out.ndjson"), "a test has no effects");
}

#[test]
fn tests_need_no_files_whose_columns_are_declared_and_expect_rows_and_failures_of_one_node() {
    let workshop = Workshop::new();
    let more = r#"
        [[test]]
        name = "the file is elsewhere"
        input.people = [{ name = "Ada", age = 36 }]
        expect.people.main = [{ name = "Ada", age = 36 }]
        expect.people.failed = []
        expect.grown = [{ name = "Ada", age = 37 }]
    "#;
    let flow = flow(&workshop, more);
    std::fs::remove_file(workshop.path("people.csv")).unwrap();
    let ran = workshop.run(&["test", &flow]);
    assert_eq!((ran.code, ran.stdout.ends_with("1 passed, 0 failed\n")), (0, true), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(workshop.run(&["check", &flow]).code, 2, "to run it, the file is needed");
}

#[test]
fn nodes_that_the_engine_has_added_are_not_counted() {
    let workshop = Workshop::new();
    let flow = flow(&workshop, "[flow]\non_error = { dead_letter = \"dead\" }");
    assert!(workshop.run(&["check", &flow]).stdout.ends_with(": ok, 3 nodes\n"));
}

#[test]
fn graphs_and_explanations() {
    let workshop = Workshop::new();
    let quickstart = project().join("flows/quickstart.toml");
    let quickstart = quickstart.to_str().unwrap();
    let text = workshop.run(&["graph", quickstart]).stdout;
    assert!(text.contains("route    → no_weather: rejected · arrived: parts · unmatched: never_arrived"), "{text}");
    let mermaid = workshop.run(&["graph", quickstart, "--format", "mermaid"]).stdout;
    assert!(mermaid.contains("lateness -.->|model| never_arrived"), "{mermaid}");
    let explained = workshop.run(&["explain", quickstart]).stdout;
    for promise in ["reads `weather`, then `flights`", "strict: every run", "exactly once", "late boolean?"] {
        assert!(explained.contains(promise), "{promise} is not in\n{explained}");
    }
}

#[test]
fn nodes_are_listed_and_documented() {
    let workshop = Workshop::new();
    let list = workshop.run(&["list"]).stdout;
    for node in
        ["file", "stdin", "sql", "route", "split", "merge", "join", "train", "predict", "evaluate", "stdout", "drop"]
    {
        assert!(list.contains(&format!("  {node} ")), "{node} is not in\n{list}");
    }
    let page = workshop.run(&["docs", "join"]).stdout;
    assert!(page.contains("## processor `join`") && page.contains("- `on`"), "{page}");
    assert!(list.contains("formats\n  csv "), "{list}");
    let page = workshop.run(&["docs", "csv"]).stdout;
    assert!(page.starts_with("## format `csv`\n") && page.contains("- `delimiter`"), "{page}");
    let node = workshop.run(&["docs", "stdin"]).stdout;
    assert!(node.contains("[its settings](FORMATS.md)") && !node.contains("delimiter` (text)"), "{node}");
    let other = workshop.run(&["docs", "window", "--role", "input"]);
    assert_eq!(other.code, 2);
    let expected = "error: there is no input `window`; there is a processor of that name: `millstream docs window`\n";
    assert_eq!(other.stderr, expected);
    let wrong = workshop.run(&["docs", "jion"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("did you mean `join`?"), "{}", wrong.stderr);
}

#[test]
fn devices_are_found_or_refused() {
    let workshop = Workshop::new();
    assert_eq!(workshop.run(&["device", "cpu"]).stdout, "cpu\n");
    let missing = workshop.run(&["device", "cuda:1000"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.starts_with("error: device `cuda:1000`: "), "{}", missing.stderr);
    let wrong = workshop.run(&["device", "gpu"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("there are `auto`, `cpu`, and `cuda:0`"), "{}", wrong.stderr);
}

#[test]
fn shells_can_complete_the_command() {
    let script = Workshop::new().run(&["completion", "bash"]).stdout;
    assert!(script.contains("millstream") && script.contains("explain"));
}

#[test]
fn every_command_has_a_manual_page() {
    let workshop = Workshop::new();
    let ran = workshop.run(&["man", "share/man1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for page in ["millstream.1", "millstream-daemon.1", "millstream-models-list.1"] {
        let text = workshop.read(&format!("share/man1/{page}"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    workshop.write("file", "");
    let ran = workshop.run(&["man", "file"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("error: writing manual pages into `file`"), "{}", ran.stderr);
}

#[test]
fn standard_input_to_standard_output() {
    let workshop = Workshop::new();
    let flow = workshop.write(
        "pipe.toml",
        r#"
        [input.rows]
        type = "stdin"
        format = "csv"
        schema = { a = "int64", b = "utf8?" }
        [output.out]
        type = "stdout"
        from = "rows"
        "#,
    );
    let ran = workshop.feed(&["run", "--json", flow.to_str().unwrap()], "a,b\n1,x\n2,\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n"), "{}", ran.stdout);
}

const LEARN: &str = r#"
    [input.rows]
    type = "file"
    path = "rows.csv"
    schema = { x = "float64", y = "int64" }
    [processor.learn]
    type = "train"
    from = "rows"
    model = "m"
    estimator = { type = "logistic_regression" }
    features = ["x"]
    label = "y"
    classes = [2, 1]
    [processor.chosen]
    type = "sql"
    from = "learn"
    query = "SELECT y, prediction, probability FROM learn WHERE y > 0"
    [processor.judged]
    type = "evaluate"
    from = "chosen"
    label = "y"
    [output.nothing]
    type = "drop"
    from = "judged"
"#;

#[test]
fn evaluations_take_the_classes_of_the_model_they_judge() {
    let workshop = Workshop::new();
    let rows: String = (0..300).map(|row| format!("{},{}\n", row * 7 % 11, 1 + row * 7 % 11 / 6)).collect();
    workshop.write("rows.csv", &format!("x,y\n{rows}"));
    workshop.write("learn.toml", LEARN);
    let ran = workshop.run_json(&["learn.toml"]);
    let (model, judged) = (&ran["models"]["m"], &ran["evaluations"]["judged"]);
    assert_eq!((&model["metrics"], &model["confusion"]), (&judged["metrics"], &judged["confusion"]));
    assert_eq!(model["confusion"]["classes"], serde_json::json!(["2", "1"]));
    assert!(model["metrics"]["recall"].as_f64().unwrap() > 0.8, "{model}");
}

#[test]
fn the_latest_version_is_the_last_and_a_damaged_one_hides_no_other() {
    let workshop = Workshop::new();
    workshop.write("rows.csv", "x,y\n1,1\n2,2\n3,1\n");
    workshop.write("learn.toml", LEARN);
    let version = |set: &str| workshop.run_json(&["learn.toml", "--set", set])["models"]["m"]["version"].clone();
    let rate = |rate: &str| format!("processor.learn.estimator.learning_rate={rate}");
    assert_eq!([version(&rate("0.1")), version(&rate("0.2")), version(&rate("0.1"))], [1, 2, 3]);
    assert_eq!(version(&rate("0.1")), 3, "it is there already");
    workshop.write("models/m/versions/00000001/card.json", "damaged");
    assert_eq!(version(&rate("0.3")), 4);
    let listed = workshop.run(&["models", "list"]);
    assert_eq!(listed.code, 0);
    assert!(listed.stdout.contains("m/1 ") && listed.stdout.contains("damaged"), "{}", listed.stdout);
    assert!(listed.stdout.contains("m/4 ") && listed.stdout.contains("logistic_regression"), "{}", listed.stdout);
    assert!(listed.stderr.contains("m/versions/00000001/card.json"), "{}", listed.stderr);
}

#[test]
fn what_a_flow_reads_is_not_written_by_it() {
    let workshop = Workshop::new();
    std::fs::create_dir(workshop.path("data")).unwrap();
    workshop.write("data/a.csv", "a\n1\n");
    let flow = |reads: &str, more: &str| {
        format!(
            "[input.rows]\ntype = \"file\"\npath = \"{reads}\"\nschema = {{ a = \"int64\" }}\n{more}\n\
             [output.out]\ntype = \"file\"\nfrom = \"rows\"\npath = \"data/clean.csv\"\n"
        )
    };
    for (reads, more) in [
        ("data/*.csv", ""),
        ("data/../data/clean.csv", "follow = true"),
        ("data/c*", "format = \"csv\"\nfollow = true"),
    ] {
        workshop.write("flow.toml", &flow(reads, more));
        let checked = workshop.run(&["check", "flow.toml"]);
        assert!(
            checked.code == 2 && checked.stderr.contains("input `rows` reads what is written here"),
            "{}",
            checked.stderr
        );
    }
    workshop.write("flow.toml", &flow("data/a.csv", ""));
    assert_eq!(workshop.run(&["check", "flow.toml"]).code, 0);
    workshop.write("flow.toml", &flow("data/a.csv", "once = \"new_files\""));
    let run = workshop.run(&["run", "flow.toml"]);
    assert!(
        run.code == 2 && run.stderr.contains("so needs a state that says what that is: `--state DIR`"),
        "{}",
        run.stderr
    );
    let empty = workshop.run(&["run", "flow.toml", "--state", ""]);
    assert!(
        empty.code == 2 && empty.stderr.contains("it is empty; it should be a folder such as `state`"),
        "{}",
        empty.stderr
    );
    assert_eq!(workshop.list("data"), ["a.csv"]);
}
