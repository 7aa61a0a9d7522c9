//! Values of environment variables are not to be read in anything that the process says: `${NAME}` stands in their place.

use crate::millstream::{Ran, Workshop};

/// Values in which `geheim` is what must not be read.
const VALUES: [&str; 4] = [
    "geheim",
    "pass-geheim-word",
    "it's \"geheim\"\nand\t\\geheim",
    "postgres://ada:geheim%40@db.example.com:5432/flights",
];

/// The flow, with a change: `KEY` is in `${}` where it has a value.
fn flow(workshop: &Workshop, from: &str, to: &str) {
    let text = r#"
        [flow]
        description = "for tests"
        registry = "models"
        [input.rows]
        type = "file"
        path = "rows.csv"
        schema = { n = "int64", s = "utf8" }
        [processor.made]
        type = "sql"
        from = "rows"
        query = "SELECT n, s FROM rows"
        [output.out]
        type = "file"
        from = "made"
        path = "out/rows.ndjson"
    "#;
    assert!(text.contains(from), "{from}");
    workshop.write("rows.csv", "n,s\n1,a\n");
    workshop.write("f.toml", &text.replace(from, to));
}

fn run(workshop: &Workshop, arguments: &[&str], value: &str) -> Ran {
    let ran: Ran = workshop.command(arguments).env("KEY", value).output().unwrap().into();
    for said in [&ran.stdout, &ran.stderr] {
        assert!(!said.to_lowercase().contains("geheim"), "{arguments:?} with {value:?} says: {said}");
    }
    ran
}

/// Runs all commands that say anything of the flow.
fn run_all(workshop: &Workshop, value: &str) {
    let commands: [&[&str]; 4] = [
        &["check", "f.toml"],
        &["explain", "f.toml"],
        &["test", "f.toml"],
        &["run", "f.toml", "--json", "--state", "state"],
    ];
    commands.iter().for_each(|arguments| _ = run(workshop, arguments, value));
}

#[test]
fn settings_that_are_wrong_name_the_variable() {
    for (from, to) in [
        ("type = \"sql\"", "type = \"${KEY}\""),
        ("from = \"rows\"", "from = \"${KEY}\""),
        ("int64", "${KEY}"),
        ("path = \"rows.csv\"", "path = \"${KEY}\""),
        ("path = \"rows.csv\"", "path = \"data-${KEY}-x/rows.csv\""),
        ("path = \"rows.csv\"", "path = \"rows.csv\"\nformat = \"${KEY}\""),
        ("path = \"rows.csv\"", "path = \"rows.csv\"\nbatch_rows = \"${KEY}\""),
        ("path = \"rows.csv\"", "path = \"rows.csv\"\nformat = { type = \"csv\", delimiter = \"${KEY}\" }"),
        ("path = \"out/rows.ndjson\"", "path = \"out/${KEY}\""),
        ("path = \"out/rows.ndjson\"", "path = \"rows.csv/${KEY}.csv\""),
        ("path = \"out/rows.ndjson\"", "path = \"s3://${KEY}\""),
        ("[flow]", "[flow]\nname = \"${KEY}\""),
        ("[flow]", "[flow]\nmax_failed = \"${KEY}\""),
        ("[flow]", "[flow]\non_error = \"${KEY}\""),
        ("[flow]", "[flow]\non_error = { dead_letter = \"rows.csv/${KEY}\" }"),
        ("SELECT n, s", "SELECT n, ${KEY}"),
        ("SELECT n, s", "SELECT n, '${KEY}' + 1 AS m"),
        ("SELECT n, s", "SELECT n, CAST('${KEY}' AS BIGINT) AS m"),
        ("SELECT n, s", "SELECT n, TIMESTAMP '${KEY}' AS m"),
        ("SELECT n, s", "SELECT n, regexp_like(s, '(${KEY}') AS m"),
        ("SELECT n, s FROM rows", "${KEY}"),
    ] {
        for value in VALUES {
            let workshop = Workshop::new();
            flow(&workshop, from, to);
            run_all(&workshop, value);
        }
    }
}

#[test]
fn what_goes_wrong_while_a_flow_runs_names_the_variable() {
    let workshop = Workshop::new();
    for value in VALUES {
        flow(&workshop, "SELECT n, s", "SELECT n, CAST('${KEY}' || s AS BIGINT) AS m");
        let ran = run(&workshop, &["run", "f.toml"], value);
        assert!(ran.code > 0 && ran.stderr.contains("${KEY}"), "{}", ran.stderr);
        let json = run(&workshop, &["run", "f.toml", "--json"], value).json();
        assert!(json["error"]["message"].as_str().unwrap().contains("${KEY}"), "{json}");
        if value.contains('\'') {
            // It ends the text in the query, which does not check.
            continue;
        }
        // Nor is the value in rows that were refused.
        let set = "flow.on_error={ dead_letter = \"dead\" }";
        assert_eq!(run(&workshop, &["run", "f.toml", "--set", set], value).code, 0);
        let letters = workshop.list("dead").into_iter().map(|name| workshop.read(&format!("dead/{name}")));
        let letters = letters.collect::<String>();
        assert!(letters.contains("${KEY}") && !letters.contains("geheim"), "{letters}");
        std::fs::remove_dir_all(workshop.path("dead")).unwrap();
    }
}

#[test]
fn places_of_files_name_the_variable() {
    let workshop = Workshop::new();
    flow(&workshop, "path = \"out/rows.ndjson\"", "path = \"${KEY}/rows.ndjson\"");
    let ran = run(&workshop, &["run", "f.toml"], "out-geheim");
    assert!(ran.stderr.contains("1 row in ${KEY}/rows.ndjson"), "{}", ran.stderr);
    let json = run(&workshop, &["run", "f.toml", "--json"], "out-geheim").json();
    assert_eq!(json["outputs"]["out"]["place"], "${KEY}/rows.ndjson");
    assert_eq!(json["nodes"]["out"]["rows_in"], 1);
    // A folder that can't be made.
    workshop.write("geheim", "a file");
    let ran = run(&workshop, &["run", "f.toml"], "geheim");
    assert!(ran.code > 0 && ran.stderr.contains("${KEY}"), "{}", ran.stderr);
}

#[test]
fn explain_names_the_variable() {
    let workshop = Workshop::new();
    flow(&workshop, "for tests", "for ${KEY}, us");
    let ran = run(&workshop, &["explain", "f.toml"], "the geheim");
    assert!(ran.stdout.contains("for ${KEY}, us"), "{}", ran.stdout);
    // What is as short as this is no secret.
    assert!(run(&workshop, &["explain", "f.toml"], "us").stdout.contains("for us, us"));
    // Nor is a default, which stands in the file.
    flow(&workshop, "for tests", "for ${NONE:everybody}");
    assert!(run(&workshop, &["explain", "f.toml"], "us").stdout.contains("for everybody"));
}

#[test]
fn a_short_value_is_hidden_where_it_is_wrong() {
    let workshop = Workshop::new();
    for (from, to) in [("type = \"sql\"", "type = \"${KEY}\""), ("from = \"rows\"", "from = \"${KEY}\"")] {
        flow(&workshop, from, to);
        let ran = run(&workshop, &["check", "f.toml"], "xq");
        assert!(ran.stderr.contains("${KEY}") && !ran.stderr.contains("xq"), "{}", ran.stderr);
    }
}

#[test]
fn states_have_no_values_of_settings() {
    let workshop = Workshop::new();
    flow(&workshop, "SELECT n, s FROM rows", "SELECT n, s FROM rows WHERE s <> '${KEY}'");
    assert_eq!(run(&workshop, &["run", "f.toml", "--state", "state"], "geheim").code, 0);
    let mut folders = vec![workshop.path("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry)
            } else {
                let bytes = std::fs::read(&entry).unwrap();
                assert!(!bytes.windows(6).any(|bytes| bytes == b"geheim"), "{}", entry.display());
            }
        }
    }
}
