//! What is said about broken flow files, what is read from good ones, and that nothing panics.

use std::path::Path;

use millstream_core::{NodeTypes, Problem, Role, Step, TextPlace};
use proptest::prelude::*;
use serde_json::json;

use super::kinds_for_tests::{options, registry};
use super::{Body, FlowFile, LoadOptions, OnError};

const GOOD: &str = r#"
[flow]
epoch = { rows = 10 }
on_error = { dead_letter = "dead/x" }
edge.bytes = "1MiB"

[output.shown]
type = "print"
from = ["joined", "trained.main"]

[input.payments]
type = "csv"
path = "${DATA:data}/a.csv"
schema = { id = "utf8", at = "timestamp(ms)?" }
event_time = { column = "at", lateness = "5s" }
batch_rows = 100

[processor.known]
type = "sql"
from = "payments"
query = """
SELECT id
  FROM payments -- ${DATA:data} \
    WHERE amuont > 1"""
on_error = "drop"
max_failed = "1%"

[processor.trained]
type = "train"
from = "known"
model = "m"
estimator = { type = "network", layers = [{ dense = 4, activation = "relu" }, { dropout = 0.5 }] }
features = { a = "raw", b = { one_hot = 3 } }
publish = { rows = 100 }

[processor.joined]
type = "join"
from = "trained"
with = "known.failed"
on = ["a"]

[[test]]
name = "all at once"
input.payments = [{ id = "x", at = 2026-01-01T00:00:00Z, f = nan }]
expect.joined.unmatched = [{ x = 1 }]
expect.shown = []
expect."known.main" = []
"#;

fn read(registry: &NodeTypes, text: &str, sets: &[&str]) -> Result<FlowFile, String> {
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let options = LoadOptions { sets: &sets, ..options(registry) };
    FlowFile::read(Path::new("flows/f.toml"), text, options).map_err(|diagnostics| diagnostics.to_string())
}

/// What is said about a file: for each thing its place, message and help on one line.
fn said(text: &str, sets: &[&str]) -> Vec<String> {
    let registry = registry();
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let (_, diagnostics) =
        FlowFile::check(Path::new("f.toml"), text, LoadOptions { sets: &sets, ..options(&registry) });
    let line = |diagnostic: &super::Diagnostic| {
        let help = diagnostic.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        let marked = diagnostic.place.as_ref().map(|place| {
            let marked: String = place.source_line.chars().skip(place.column - 1).take(place.length).collect();
            format!("{}:{}: {marked}: ", place.line, place.column)
        });
        format!("{}{}{help}", marked.unwrap_or_else(|| format!("{}: ", diagnostic.path)), diagnostic.message)
    };
    diagnostics.iter().map(line).collect()
}

/// Checks what is said about one more node, number 5 of its lines being the first of `settings`.
fn assert_said_about(node: &str, settings: &str, expected: &[&str]) {
    let text =
        format!("[input.a]\ntype = \"rows\"\n[{node}]\n{settings}\n[output.z]\ntype = \"print\"\nfrom = \"a\"\n");
    assert_eq!(said(&text, &[]), expected, "{text}");
}

#[test]
fn a_good_file_is_read() {
    let registry = registry();
    let file = read(&registry, GOOD, &[]).expect("is good");
    assert_eq!((file.flow.name.as_str(), file.flow.epoch.rows, file.flow.edge.rows), ("f", Some(10), 65536));
    assert_eq!((file.flow.edge.bytes.0, file.flow.registry.as_str()), (1 << 20, "models"));
    assert_eq!(file.flow.on_error, Some(OnError::DeadLetter("dead/x".to_owned())));
    assert_eq!(file.folder(), Path::new("flows"));
    let nodes: Vec<_> = file.nodes.iter().map(|node| (node.role(), node.name.as_str(), node.kind)).collect();
    let expected = [
        (Role::Output, "shown", "print"),
        (Role::Input, "payments", "csv"),
        (Role::Processor, "known", "sql"),
        (Role::Processor, "trained", "train"),
        (Role::Processor, "joined", "join"),
    ];
    assert_eq!(nodes, expected);
    assert!(file.broken.is_empty());
}

#[test]
fn the_settings_of_the_engine_are_read() {
    let registry = registry();
    let file = read(&registry, GOOD, &["processor.known.from=[\"payments.failed\"]"]).expect("is good");
    let node = |name| file.node(name).expect("is in the file");
    let from: Vec<_> = node("shown").from().iter().map(ToString::to_string).collect();
    assert_eq!(from, ["joined", "trained.main"]);
    assert_eq!(node("shown").from()[1].at, [Step::from("from"), Step::from(1)]);
    assert_eq!(node("known").from()[0].port.as_deref(), Some("failed"));
    assert_eq!(node("joined").side().map(ToString::to_string).as_deref(), Some("known.failed"));
    let Body::Input { common, .. } = &node("payments").body else { panic!("an input") };
    assert_eq!((common.batch_rows, &common.on_error), (100, &None));
    let Body::Processor { common, .. } = &node("known").body else { panic!("a processor") };
    assert_eq!((&common.on_error, common.max_failed), (&Some(OnError::Drop), Some(millstream_core::Share(0.01))));
}

#[test]
fn the_tests_of_a_file_are_read() {
    let registry = registry();
    let file = read(&registry, GOOD, &[]).expect("is good");
    let [test] = file.tests.as_slice() else { panic!("one test") };
    assert_eq!(test.name, "all at once");
    let rows = json!([{ "id": "x", "at": "2026-01-01T00:00:00Z", "f": "NaN" }]);
    assert_eq!((test.input[0].0.node.as_str(), json!(test.input[0].1)), ("payments", rows));
    let expected: Vec<_> = test.expect.iter().map(|(port, rows)| (port.to_string(), rows.len())).collect();
    let ports = ["joined.unmatched", "shown", "known.main"].map(str::to_owned);
    assert_eq!(expected, ports.into_iter().zip([1, 0, 0]).collect::<Vec<_>>());
    let problem = Problem::new("there is no such port").at(test.expect[0].0.at.clone());
    let text = file.diagnose_test(test, problem.into()).to_string();
    assert!(text.starts_with("flows/f.toml:45:15: test `all at once`: there is no such port\n"), "{text}");
}

#[test]
fn a_node_s_problems_are_put_at_their_places() {
    let registry = registry();
    let file = read(&registry, GOOD, &[]).expect("is good");
    let within = |line, column, length| Problem::new("no").at(["query"]).within(TextPlace { line, column, length });
    for (problem, place) in [
        (Problem::new("no"), "18:1"),
        (Problem::new("no").at(["query"]), "21:9"),
        (Problem::new("no").at([Step::Name("query".into())]), "21:1"),
        (Problem::new("no").at(["label", "x"]), "18:1"),
        (within(1, 8, 2), "22:8"),
        (within(2, 8, 8), "23:8"),
        (within(2, 21, 2), "23:20"),
        (within(2, 24, 1), "23:32"),
        (within(2, 31, 6), "24:11"),
        (within(9, 1, 1), "21:9"),
    ] {
        let text = file.diagnose("known", vec![problem.clone()]).to_string();
        assert!(text.starts_with(&format!("flows/f.toml:{place}: processor `known`: no\n")), "{problem:?}: {text}");
    }
    let text = file.diagnose_flow(Problem::new("no").at(["registry"]).into()).to_string();
    assert!(text.starts_with("flows/f.toml:2:1: flow: no\n"), "{text}");
    assert_eq!(file.diagnose("unknown", Problem::new("no").into()).to_string(), "flows/f.toml: no");
}

#[test]
fn a_diagnostic_is_shown_with_its_line() {
    let registry = registry();
    let file = read(&registry, GOOD, &[]).expect("is good");
    let place = TextPlace { line: 2, column: 31, length: 6 };
    let problem =
        Problem::new("there is no column `amuont`").at(["query"]).within(place).help("did you mean `amount`?");
    let expected = "\
flows/f.toml:24:11: processor `known`: there is no column `amuont`
   |
24 |     WHERE amuont > 1\"\"\"
   |           ^^^^^^ did you mean `amount`?";
    assert_eq!(file.diagnose("known", problem.into()).to_string(), expected);
}

#[test]
fn settings_of_the_flow_are_checked() {
    for (flow, expected) in [
        ("nam = \"x\"", "1:9: nam: flow: there is no setting `nam`; did you mean `name`?"),
        ("epoch.rows = 0", "1:22: 0: flow: expected at least 1, found 0"),
        ("on_error = \"fial\"", "1:20: \"fial\": flow: `on_error` can't be `fial`; did you mean `fail`?"),
        (
            "on_error = \"ignore\"",
            "1:20: \"ignore\": flow: `on_error` can't be `ignore`; there are `fail`, `drop`, `{ dead_letter = \"…\" }`",
        ),
        ("on_error = 5", "1:20: 5: flow: expected `fail`, `drop` or a table, found a whole number"),
        (
            "on_error.dead_leter = 1",
            "1:18: dead_leter: flow: there is no setting `dead_leter`; did you mean `dead_letter`?",
        ),
        ("epoch.interval = 5", "1:26: 5: flow: expected a string, found a whole number; such as `\"5s\"`"),
        ("max_failed = \"1\"", "1:22: \"1\": flow: `1` is not a number with a unit (`%`), such as `1%`"),
        ("language = 2", "1:20: 2: flow: there is no version 2 of the flow language; this program reads version 1"),
        (
            "name = \"Card\"",
            "1:16: \"Card\": flow: `Card` is not a name for a flow; names begin with a small letter, followed by small \
             letters, digits and `_`",
        ),
    ] {
        let nodes = "[input.a]\ntype = \"rows\"\n[output.b]\ntype = \"print\"\nfrom = \"a\"\n";
        assert_eq!(said(&format!("flow = {{{flow}}}\n{nodes}"), &[]), [expected]);
    }
}

#[test]
fn settings_of_nodes_are_checked() {
    assert_said_about(
        "input.x",
        "",
        &["3:1: [input.x]: input `x`: `type` is missing; there are `rows`, `csv`, `queue`"],
    );
    let misspelt = "4:8: \"cvs\": input `x`: `type` can't be `cvs`; did you mean `csv`?";
    assert_said_about("input.x", "type = \"cvs\"", &[misspelt]);
    let otherwise = "4:8: \"spreadsheet\": input `x`: `type` can't be `spreadsheet`; it is called `csv` here";
    assert_said_about("input.x", "type = \"spreadsheet\"", &[otherwise]);
    assert_said_about("input.x", "type = 5", &["4:8: 5: input `x`: expected a string, found a whole number"]);
    assert_said_about(
        "input.x",
        "type = \"csv\"\nschema = { id = \"utf9\", b = 3 }\nevent_time = { colum = \"at\", lateness = \"5\" }\nquote = \
         \"doubel\"\nbatch_rows = 0",
        &[
            "3:1: [input.x]: input `x`: `path` is missing; add `path = \"…\"`",
            "5:17: \"utf9\": input `x`: there is no type `utf9`; did you mean `utf8`?",
            "5:29: 3: input `x`: expected a string, found a whole number; such as `\"float64?\"`",
            "6:16: colum: input `x`: there is no setting `colum`; did you mean `column`?",
            "6:41: \"5\": input `x`: `5` is not a number with a unit (`ms`, `s`, `m`, `h`, `d`), such as `5s`",
            "7:9: \"doubel\": input `x`: `quote` can't be `doubel`; did you mean `double`?",
            "8:14: 0: input `x`: expected at least 1, found 0",
        ],
    );
    assert_said_about(
        "input.x",
        "type = \"rows\"\ncount = 1e3",
        &["5:9: 1e3: input `x`: expected a whole number, found a decimal number; write `1000`"],
    );
    assert_said_about(
        "output.x",
        "type = \"print\"\nform = \"a\"",
        &["5:1: form: output `x`: there is no setting `form`; did you mean `from`?"],
    );
    let neither = "5:12: 5: input `x`: expected `fail`, `drop` or a table, found a whole number";
    assert_said_about("input.x", "type = \"rows\"\non_error = 5", &[neither]);
    assert_said_about("output.x", "type = \"print\"\nfrom = []", &["5:8: []: output `x`: the list is empty"]);
    assert_said_about(
        "input.x",
        "type = \"csv\"\npath = \"\"\nschema = {}",
        &["5:8: \"\": input `x`: the text is empty"],
    );
}

#[test]
fn only_the_variant_that_is_meant_is_checked() {
    let common = "type = \"train\"\nfrom = \"a\"\nmodel = \"m\"\n";
    let about = |settings: &str, expected: &[&str]| {
        assert_said_about("processor.t", &format!("{common}{settings}"), expected);
    };
    let linear = "estimator.type = \"linear\"\n";
    about(
        "features = []\nestimator = { type = \"network\", layers = [{ dense = \"4\" }, { dropuot = 1 }, {}] }",
        &[
            "8:53: \"4\": processor `t`: expected a whole number, found a string; write `4` without quotes",
            "8:62: dropuot: processor `t`: there is no setting `dropuot`; did you mean `dropout`?",
            "8:77: {}: processor `t`: the table is empty; there are `dense`, `activation`, `dropout`",
        ],
    );
    about(
        "features = []\nestimator = { type = \"network\", layers = [{ dense = 4, dropout = 0.5 }] }",
        &["8:56: dropout: processor `t`: `dropout` does not go with `dense`"],
    );
    about(
        "features = []\nestimator = { learning_rate = 1 }",
        &["8:13: { learning_rate = 1 }: processor `t`: `type` is missing; there are `linear`, `network`"],
    );
    about(
        "features = []\nestimator = { type = \"linear\", learning_rate = 0 }",
        &["8:48: 0: processor `t`: expected more than 0, found 0"],
    );
    for (text, form) in [("network", "write `{ type = \"network\" }`"), ("netwrok", "such as `{ type = \"linear\" }`")]
    {
        let expected = format!("8:13: \"{text}\": processor `t`: expected a table, found a string; {form}");
        about(&format!("features = []\nestimator = \"{text}\""), &[&expected]);
    }
    let listed = ["8:12: \"a\": processor `t`: expected a list or a table, found a string; write `[\"a\"]`"];
    about(&format!("{linear}features = \"a\""), &listed);
    about(
        &format!("{linear}features = {{ a = \"row\", b = {{ one_hto = 3 }} }}"),
        &[
            "8:18: \"row\": processor `t`: `a` can't be `row`; did you mean `raw`?",
            "8:31: one_hto: processor `t`: there is no setting `one_hto`; did you mean `one_hot`?",
        ],
    );
    about(
        &format!("{linear}features = []\npublish = {{ rows = 5, interval = \"5s\" }}\nquick = \"true\""),
        &[
            "9:23: interval: processor `t`: `interval` does not go with `rows`",
            "10:9: \"true\": processor `t`: expected `true` or `false`, found a string; write `true` without quotes",
        ],
    );
}

#[test]
fn names_and_references_are_checked() {
    let sql = |from: &str| format!("type = \"sql\"\nquery = \"q\"\nfrom = {from}");
    let about = |from: &str, expected: &[&str]| assert_said_about("processor.p", &sql(from), expected);
    about("\"aa\"", &["6:8: \"aa\": processor `p`: there is no node `aa`; there is only `a`"]);
    about("[\"a\", \"p.x\"]", &["6:14: \"p.x\": processor `p`: `p` can't read from itself"]);
    about("\"z\"", &["6:8: \"z\": processor `p`: `z` is an output, from which nothing can be read"]);
    about("\"a.\"", &["6:8: \"a.\": processor `p`: there is no port behind `a.`; write `a`"]);
    assert_said_about(
        "processor.a",
        &sql("\"a\""),
        &[
            "3:12: a: `a` is also the name of an input; each node has a name of its own",
            "6:8: \"a\": processor `a`: `a` can't read from itself",
        ],
    );
    assert_said_about(
        "processor.A-b",
        &sql("\"a\""),
        &["3:12: A-b: `A-b` is not a name for a node; names begin with a \
         small letter, followed by small letters, digits and `_`"],
    );
    let renamed = |name: &str| format!("{}\nrenamed_from = \"{name}\"", sql("\"a\""));
    assert_said_about(
        "processor.p",
        &renamed("z"),
        &[
            "7:16: \"z\": processor `p`: `z` is still a node of this flow, and keeps its state; name a node that was renamed, and \
           is gone",
        ],
    );
    let taken = format!("{}\nrenamed_from = \"p\"\n[processor.p]\n{}", sql("\"a\""), renamed("q"));
    let help = "first run the flow with a new name for the one, and leave `renamed_from` out when that has been done";
    assert_said_about(
        "processor.q",
        &taken,
        &[
            &format!(
                "7:16: \"p\": processor `q`: `p` is still a node of this flow, and keeps its state; where the name `p` passes from \
                 one node to another, {help}"
            ),
            &format!(
                "12:16: \"q\": processor `p`: `q` is still a node of this flow, and keeps its state; where the name `q` passes \
                 from one node to another, {help}"
            ),
        ],
    );
    assert_said_about(
        "processors.x",
        &sql("\"a\""),
        &["3:2: processors: there is no setting `processors`; did you mean `processor`?"],
    );
    assert_eq!(
        said("", &[]),
        [
            "f.toml: the flow has no input; add a table `[input.NAME]`",
            "f.toml: the flow has neither a processor nor an output; add a table `[processor.NAME]` or `[output.NAME]`",
        ]
    );
}

#[test]
fn tests_are_checked() {
    assert_said_about(
        "[test]",
        "input.z = [{}]\nexpect.c = [{}]\nexpect.a.x = 5",
        &[
            "3:1: [[test]]: test 1: `name` is missing; add `name = \"…\"`",
            "4:7: z: test 1: there is no input `z`; there is only `a`",
            "5:8: c: test 1: there is no node `c`; there are `a`, `z`",
            "6:14: 5: test 1: expected a list, found a whole number",
        ],
    );
    assert_said_about(
        "[test]",
        "name = \"n\"\nexpect.z = []\ninput.a = [3]",
        &["6:12: 3: test `n`: expected a table, found a whole number"],
    );
}

#[test]
fn variables_and_sets_have_their_places() {
    assert_said_about(
        "output.x",
        "type = \"print\"\nfrom = \"é${FROM}\"",
        &["5:10: ${FROM}: the environment variable `FROM` is not set; set it, or give a default: `${FROM:default}`"],
    );
    let nodes = "[input.a]\ntype = \"rows\"\n[output.b]\ntype = \"print\"\nfrom = \"a\"\n";
    let sets = ["input.a.count=5000", "input.a.cuont=1", "output.b.from=c", "input.x.y=1", "flow.registry=${R}"];
    assert_eq!(
        said(nodes, &sets),
        [
            "--set input.x.y=1: there is no input `x`; there is only `a`",
            "--set flow.registry=${R}: the environment variable `R` is not set; set it, or give a default: `${R:default}`",
            "--set input.a.count=5000: input `a`: expected at most 1000, found 5000",
            "--set input.a.cuont=1: input `a`: there is no setting `cuont`; did you mean `count`?",
            "--set output.b.from=c: output `b`: there is no node `c`; there is only `a`",
        ]
    );
}

#[test]
fn what_is_no_toml_is_said_alone() {
    let lines = said("[input.a]\ntype = \"rows\n[b\nc = 1 2\n", &[]);
    assert!(lines.len() > 1, "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("setting")), "{lines:?}");
}

#[test]
fn broken_nodes_are_named_and_the_others_built() {
    let registry = registry();
    let text = GOOD.replace("batch_rows = 100", "batch_rows = \"${NONE}\"").replace("model =", "modle =");
    let (file, diagnostics) = FlowFile::check(Path::new("f.toml"), &text, options(&registry));
    let file = file.expect("it is TOML");
    assert_eq!(file.broken, ["payments", "trained"]);
    assert_eq!(file.nodes.len(), 3);
    assert_eq!(diagnostics.len(), 2);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let registry = registry();
    let diagnostics = FlowFile::load(Path::new("no/such.toml"), options(&registry)).expect_err("is not there");
    assert!(diagnostics.to_string().starts_with("no/such.toml: the flow file can't be read: "), "{diagnostics}");
}

#[test]
fn the_name_of_a_file_must_do_as_a_name() {
    let registry = registry();
    let text = GOOD.replace("[flow]", "[flow]\nname = \"good\"");
    let path = Path::new("Card-Fraud.toml");
    assert!(FlowFile::read(path, &text, options(&registry)).is_ok());
    let diagnostics = FlowFile::read(path, GOOD, options(&registry)).expect_err("the name");
    let expected = "Card-Fraud.toml: the file's name `Card-Fraud` is not a name for a flow; set `name` in `[flow]`";
    assert_eq!(diagnostics.to_string(), expected);
}

/// Pieces that are put into a good file at random.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\\",
    "\\u00e9",
    "${",
    "}",
    "$${",
    "${X:y}",
    "#",
    "\t",
    "ä",
    "😀",
    "\u{feff}",
    "\0",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "nan",
    "true",
    "2026-01-01",
    "type",
    "from",
    "[input.x]",
    "[input]",
    "[[test]]",
    "[[test.input]]",
    "[flow]",
    "expect.a.b",
    "a.b.c",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece()), 0..8),
        set in "[a-z.\"0-9]{0,12}=?\\PC{0,8}",
        within in (0..6_usize, 0..40_usize, 0..20_usize),
    ) {
        let mut characters: Vec<char> = GOOD.chars().collect();
        for (at, deleted, inserted) in edits {
            let start = at.index(characters.len() + 1);
            let end = (start + deleted).min(characters.len());
            characters.splice(start..end, inserted.chars());
        }
        let text: String = characters.into_iter().collect();
        let registry = registry();
        let sets = [set, "processor.known.query=x".to_owned()];
        let options = LoadOptions { sets: &sets[..within.0 % 3], ..options(&registry) };
        let (file, diagnostics) = FlowFile::check(Path::new("f.toml"), &text, options);
        prop_assert!(file.is_some() || !diagnostics.is_empty());
        let shown = diagnostics.to_string();
        prop_assert_eq!(shown.is_empty(), diagnostics.is_empty());
        if let Some(file) = file {
            let (line, column, length) = within;
            let problem = Problem::new("no").at(["query"]).within(TextPlace { line, column, length });
            let shown = file.diagnose("known", problem.into()).to_string();
            prop_assert!(shown.contains(": no"), "{}", shown);
        }
    }

    #[test]
    fn any_text_at_all_does_not_panic(text in "(?s).{0,200}") {
        let registry = registry();
        let (_, diagnostics) = FlowFile::check(Path::new("f.toml"), &text, options(&registry));
        prop_assert!(!diagnostics.is_empty());
    }
}
