//! What nodes have from connections, where secrets come from, and what is said where something of it is wrong.

use std::cell::RefCell;
use std::path::Path;

use millstream_core::{FilesRead, Locked, PlanContext, Role, Secret, State};
use serde_json::json;
use tempfile::TempDir;

use super::kinds_for_tests::registry;
use super::{Body, FlowFile, LoadOptions, Secrets};

/// A flow that reads two queues of a broker.
const FLOW: &str = r#"
[connection.shop]
type = "broker"
host = "a"
login = { user = "ada", password = "${PASSWORD}" }

[input.orders]
type = "queue"
connection = "shop"
queue = "orders"

[input.returns]
type = "queue"
connection = "shop"
host = "b"
queue = "returns"

[output.out]
type = "print"
from = ["orders", "returns"]
"#;

fn environment(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some("hunter22".to_owned()),
        "SHARED" => Some("shared.toml".to_owned()),
        _ => None,
    }
}

/// Reads a flow in a folder, and says its problems and warnings, a line each: place, what is marked, message and help.
fn read(folder: &Path, text: &str, sets: &[&str]) -> (FlowFile, Vec<String>) {
    let registry = registry();
    let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
    let options = LoadOptions { sets: &sets, environment: &environment, ..LoadOptions::new(&registry) };
    let (file, diagnostics) = FlowFile::check(&folder.join("f.toml"), text, options);
    let line = |diagnostic: &super::Diagnostic| {
        let file = Path::new(&diagnostic.path).file_name().map(|name| name.to_string_lossy().into_owned());
        let place = diagnostic.place.as_ref().map(|place| {
            let marked: String = place.source_line.chars().skip(place.column - 1).take(place.length).collect();
            format!("{}: {marked}: ", place.line)
        });
        let help = diagnostic.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{}:{}{}{help}", file.unwrap_or_default(), place.unwrap_or_default(), diagnostic.message)
    };
    let said = diagnostics.iter().map(line).collect();
    (file.expect("is TOML"), said)
}

fn said(text: &str) -> Vec<String> {
    read(Path::new(""), text, &[]).1
}

/// What is said of the flow with a change.
fn said_with(from: &str, to: &str) -> Vec<String> {
    assert!(FLOW.contains(from), "{from}");
    said(&FLOW.replacen(from, to, 1))
}

#[test]
fn a_node_has_from_its_connection_what_it_does_not_say() {
    let (file, said) = read(Path::new(""), FLOW, &["connection.shop.port=5"]);
    assert_eq!(said, [""; 0]);
    let login = json!({ "user": "ada", "password": "hunter22" });
    let orders = json!({ "queue": "orders", "host": "a", "login": login, "port": 5 });
    let returns = json!({ "queue": "returns", "host": "b", "login": login, "port": 5 });
    assert_eq!(file.nodes[0].table, orders);
    assert_eq!(file.nodes[1].table, returns);
    assert_eq!(file.secrets().hide("not hunter22"), "not ${PASSWORD}");
    assert_eq!(file.warnings, [""; 0]);
}

#[test]
fn what_is_wrong_with_a_connection_is_said_once_and_there() {
    for (from, to, expected) in [
        ("host = \"a\"", "host = 5", "f.toml:4: 5: connection `shop`: expected a string, found a whole number"),
        (
            "host = \"a\"",
            "hots = \"a\"",
            "f.toml:4: hots: connection `shop`: there is no setting `hots`; did you mean `host`?",
        ),
        (
            "host = \"a\"",
            "host = \"a\"\nqueue = \"x\"",
            "f.toml:5: queue: connection `shop`: there is no setting `queue`; there are `type`, `host`, `port`, `login`",
        ),
        ("host = \"a\"\n", "", "f.toml:2: [connection.shop]: connection `shop`: `host` is missing; add `host = \"…\"`"),
        (
            "\"broker\"",
            "\"brokr\"",
            "f.toml:3: \"brokr\": connection `shop`: `type` can't be `brokr`; did you mean `broker`?",
        ),
        (
            "${PASSWORD}",
            "${PASS}",
            "f.toml:5: ${PASS}: the environment variable `PASS` is not set; set it, or give a default: `${PASS:default}`",
        ),
        (
            "\"${PASSWORD}\"",
            "{ env = \"PASS\" }",
            "f.toml:5: { env = \"PASS\" }: connection `shop`: the environment variable `PASS` is not set; set it",
        ),
    ] {
        assert_eq!(said_with(from, to), [expected], "{to}");
    }
    // Also where no node uses it.
    let unused = FLOW
        .replace("connection = \"shop\"", "host = \"a\"")
        .replace("host = \"b\"", "")
        .replace("host = \"a\"\nlogin", "hots = \"a\"\nlogin");
    assert_eq!(said(&unused).len(), 1, "{:?}", said(&unused));
    assert_eq!(
        said_with("[connection.shop]", "[connection.Shop]")[0],
        "f.toml:2: Shop: `Shop` is not a name for a connection; names begin with a small letter, followed by small \
         letters, digits and `_`"
    );
}

#[test]
fn what_is_wrong_in_a_plan_is_said_where_the_setting_is() {
    let (file, _) = read(Path::new(""), &FLOW.replace("host = \"a\"", "host = \"a\"\nport = 7"), &[]);
    let Some(Body::Input { settings, .. }) = file.node("orders").map(|node| &node.body) else { panic!() };
    let problems = settings.plan(&context()).unwrap_err();
    let diagnostics = file.diagnose("orders", problems).to_string();
    assert!(diagnostics.contains("f.toml:5:8: connection `shop`: nobody listens at port Some(7)"), "{diagnostics}");
}

fn context() -> PlanContext {
    PlanContext {
        flow: "f".to_owned(),
        node: "orders".to_owned(),
        renamed_from: None,
        flow_folder: "".into(),
        work_folder: "".into(),
        registry: "models".to_owned(),
        batch_rows: 1,
        columns: None,
        scripted: false,
        kept: State::default(),
        locked: Locked::default(),
        files: FilesRead::default(),
        expressions: None,
    }
}

#[test]
fn names_that_lead_to_no_connection_are_refused() {
    let other = "[connection.web]\ntype = \"site\"\nurl = \"u\"\n[input.orders]";
    for (from, to, expected) in [
        (
            "connection = \"shop\"",
            "connection = \"shpo\"",
            "\"shpo\": input `orders`: there is no connection `shpo`; did you mean `shop`?",
        ),
        ("connection = \"shop\"", "connection = 5", "5: input `orders`: expected a string, found a whole number"),
        ("connection = \"shop\"\n", "", "[input.orders]: input `orders`: `host` is missing; add `host = \"…\"`"),
        (
            "type = \"print\"",
            "connection = \"shop\"\ntype = \"print\"",
            "connection: output `out`: there is no setting `connection`; ",
        ),
    ] {
        let said = said_with(from, to);
        assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
    }
    let text = FLOW.replacen("[input.orders]", other, 1).replacen("connection = \"shop\"", "connection = \"web\"", 1);
    let said = said(&text);
    assert_eq!(
        said,
        ["f.toml:12: \"web\": input `orders`: `web` is a connection of type `site`; name one of type `broker`"]
    );
    let none = said_with("[connection.shop]", "[connection.web]");
    assert!(none[0].contains("there is no connection `shop`; did you mean") || none.len() == 2, "{none:?}");
}

/// A flow whose connection is in another file.
fn shared(connection: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shared.toml"), connection).unwrap();
    let begin = FLOW.find("[input.orders]").unwrap();
    (folder, format!("[flow]\nconnections = \"${{SHARED}}\"\n{}", &FLOW[begin..]))
}

#[test]
fn connections_may_be_in_a_file_that_flows_share() {
    let (folder, text) = shared("[connection.shop]\ntype = \"broker\"\nhost = \"a\"\n");
    let (file, said) = read(folder.path(), &text, &["connection.shop.port=9"]);
    assert_eq!(said, [""; 0]);
    assert_eq!(file.nodes[0].table, json!({ "queue": "orders", "host": "a", "port": 9 }));
    let (_, said) = read(folder.path(), &format!("{text}\n[connection.shop]\ntype = \"site\"\nurl = \"u\"\n"), &[]);
    assert!(
        said.iter().any(
            |said| said.starts_with("shared.toml:1: shop: connection `shop`: the flow has one of that name itself")
        ),
        "{said:?}"
    );
    let (folder, text) = shared("[connection.shop]\ntype = \"broker\"\nhots = \"a\"\n[input.x]\ntype = \"rows\"\n");
    let expected = [
        "shared.toml:3: hots: connection `shop`: there is no setting `hots`; did you mean `host`?",
        "shared.toml:4: input: there is no `input` in a file of connections; it has tables `[connection.NAME]` and nothing else",
    ];
    assert_eq!(read(folder.path(), &text, &[]).1, expected);
    let (folder, text) = shared("[connection.shop\n");
    let said = read(folder.path(), &text, &[]).1;
    assert!(said.len() == 1 && said[0].starts_with("shared.toml:1: "), "{said:?}");
    // What is in a file that can't be understood may be a secret.
    std::fs::write(folder.path().join("shared.toml"), "# shop\nroot:hunter22:x\n").unwrap();
    let registry = registry();
    let options = LoadOptions { environment: &environment, ..LoadOptions::new(&registry) };
    let shown = FlowFile::check(&folder.path().join("f.toml"), &text, options).1.to_string();
    assert!(shown.contains("shared.toml:2:5: ") && !shown.contains("hunter22"), "{shown}");
    std::fs::remove_file(folder.path().join("shared.toml")).unwrap();
    let said = &read(folder.path(), &text, &[]).1;
    assert_eq!(said.len(), 1, "{said:?}");
    let said = &said[0];
    assert!(
        said.starts_with("f.toml:2: \"${SHARED}\": flow: the file of connections `") && said.contains("can't be read"),
        "{said}"
    );
}

/// The flow with its password elsewhere.
fn with_password(password: &str) -> String {
    FLOW.replace("\"${PASSWORD}\"", password)
}

#[test]
fn secrets_come_from_where_they_are_and_are_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("broker"), "from-systemd").unwrap();
    std::fs::write(folder.path().join("secret"), "from-a-file\r\n").unwrap();
    let credentials = credentials.to_str().unwrap().to_owned();
    let environment = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => Some(credentials.clone()),
        name => environment(name),
    };
    let registry = registry();
    for (written, value, shown) in [
        ("{ env = \"PASSWORD\" }", "hunter22", "${PASSWORD}"),
        ("{ file = \"secret\" }", "from-a-file", "${file:secret}"),
        ("{ credential = \"broker\" }", "from-systemd", "${credential:broker}"),
        ("\"in the clear\"", "in the clear", "${login.password}"),
    ] {
        let kept = RefCell::new(Secrets::none());
        let keep = |secrets: &Secrets| kept.borrow_mut().extend(secrets);
        let options = LoadOptions { environment: &environment, keep: &keep, ..LoadOptions::new(&registry) };
        let file = FlowFile::read(&folder.path().join("f.toml"), &with_password(written), options).unwrap();
        assert_eq!(file.nodes[0].table["login"]["password"], value);
        assert_eq!(file.secrets().hide(&format!("not {value}!")), format!("not {shown}!"));
        assert_eq!(kept.borrow().hide(value), shown);
    }
}

#[test]
fn the_files_that_a_flow_is_read_from_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let (connection, nodes) = FLOW.split_at(FLOW.find("[input.orders]").unwrap());
    let connection = connection.replace("\"${PASSWORD}\"", "{ file = \"secret\" }");
    write("secret", "from-a-file");
    write("shared.toml", &connection);
    let (file, said) = read(folder.path(), &format!("[flow]\nconnections = \"shared.toml\"\n{nodes}"), &[]);
    assert_eq!(said, [""; 0]);
    // The lock file is not there yet.
    let names = ["f.lock", "secret", "shared.toml"];
    assert_eq!(file.files.paths(), names.map(|name| folder.path().join(name)));
    assert!(!file.files.have_changed());
    for (name, before) in names.into_iter().zip([None, Some("from-a-file"), Some(connection.as_str())]) {
        write(name, "version = 1");
        assert!(file.files.have_changed(), "{name}");
        before.map_or_else(|| std::fs::remove_file(folder.path().join(name)).unwrap(), |text| write(name, text));
        assert!(!file.files.have_changed(), "{name}");
    }
}

#[test]
fn secrets_that_are_not_there_are_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    std::fs::write(folder.path().join("large"), "x".repeat(70_000)).unwrap();
    for (password, expected) in [
        ("{ file = \"none\" }", "can't be read"),
        ("{ file = \"empty\" }", "is empty"),
        ("{ file = \"large\" }", "is too large: more than 64 KiB"),
        ("{ file = \".\" }", "can't be read: it is no file"),
        ("{ credential = \"x\" }", "there are no credentials: `CREDENTIALS_DIRECTORY` is not set"),
        ("{ credential = \"../x\" }", "`../x` is no name of a credential"),
        ("{ env = \"NONE\" }", "the environment variable `NONE` is not set"),
        ("{ fiel = \"x\" }", "there is no setting `fiel`; did you mean `file`?"),
        ("{ file = \"x\", env = \"PASSWORD\" }", "does not go with"),
        ("{}", "the table is empty; there are `env`, `file`, `credential`"),
        ("5", "expected a string or a table, found a whole number"),
    ] {
        let said = read(folder.path(), &with_password(password), &[]).1;
        assert!(said.len() == 1 && said[0].contains(expected), "{password}: {said:?}");
    }
}

#[test]
fn secrets_that_others_may_read_are_warned_of() {
    let (file, said) = read(Path::new(""), &with_password("\"hunter22\""), &["input.orders.key=key1"]);
    assert_eq!(said, [""; 0]);
    let help = "write `\"${NAME}\"`, `{ file = \"PATH\" }` or `{ credential = \"NAME\" }`";
    let expected = [
        format!("connection `shop`: `login.password` stands in the file, where others may read it; {help}"),
        format!("input `orders`: `key` stands in the file, where others may read it; {help}"),
    ];
    assert_eq!(file.warnings, expected);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter22").unwrap();
        for (mode, warnings) in [(0o644, 1), (0o640, 0), (0o400, 0)] {
            std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
            let (file, said) = read(folder.path(), &with_password("{ file = \"secret\" }"), &[]);
            assert_eq!((said.len(), file.warnings.len()), (0, warnings), "{said:?} {:?}", file.warnings);
        }
    }
}

#[test]
fn the_schema_knows_connections() {
    let registry = registry();
    let schema = super::flow_schema(&registry);
    let all = &schema["properties"]["connection"]["additionalProperties"]["oneOf"];
    assert_eq!(*all, json!([{ "$ref": "#/$defs/connection.broker" }, { "$ref": "#/$defs/connection.site" }]));
    let queue = super::node_schema(registry.find(Role::Input, "queue").unwrap(), &registry);
    assert_eq!(queue["required"], json!(["type", "queue"]));
    assert_eq!(queue["else"]["required"], json!(["host"]));
    assert_eq!(schema.pointer("/$defs/connection.broker/$defs/Secret/format"), Some(&json!(Secret::FORMAT)));
}
