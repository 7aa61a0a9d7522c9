//! Connections and secrets with the real binary: what is hidden, wherever it comes from, and what `check --connect` says of those who
//! don't answer.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use millstream_testkit::free_port;

use crate::millstream::{Ran, Workshop};

/// A flow that reads from a broker with a password. What it says of its brokers has the password in it, as a careless message would.
const FLOW: &str = r#"
[connection.shop]
type = "kafka"
brokers = "BROKERS"
sasl = { mechanism = "PLAIN", username = "ada", password = PASSWORD }

[input.rows]
type = "kafka"
connection = "shop"
topics = ["a"]
format = "json"
schema = { id = "int64" }

[output.out]
type = "drop"
from = "rows"
"#;

fn workshop(brokers: &str, password: &str) -> Workshop {
    let workshop = Workshop::new();
    workshop.write("f.toml", &FLOW.replace("BROKERS", brokers).replace("PASSWORD", password));
    let secret = workshop.write("secret", "geheim-word\n");
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    workshop.write("credentials/kafka", "geheim-word");
    workshop
}

fn run(workshop: &Workshop, arguments: &[&str]) -> Ran {
    let mut command = workshop.command(arguments);
    command.env("KEY", "geheim-word").env("CREDENTIALS_DIRECTORY", workshop.path("credentials"));
    command.output().unwrap().into()
}

/// The ways to write the password, and what is shown in its place.
const PASSWORDS: [(&str, &str); 4] = [
    ("\"${KEY}\"", "${KEY}"),
    ("{ env = \"KEY\" }", "${KEY}"),
    ("{ file = \"secret\" }", "${file:secret}"),
    ("{ credential = \"kafka\" }", "${credential:kafka}"),
];

#[test]
fn passwords_are_hidden_wherever_they_come_from() {
    for (password, shown) in PASSWORDS {
        let workshop = workshop("geheim-word:1,geheim-word", password);
        for arguments in
            [["check", "f.toml"].as_slice(), &["check", "--json", "f.toml"], &["run", "f.toml"], &["explain", "f.toml"]]
        {
            let Ran { code, stdout, stderr } = run(&workshop, arguments);
            assert_eq!(code, 2, "{stdout}{stderr}");
            let said = stdout + &stderr;
            assert!(said.contains(shown) && !said.contains("geheim"), "{arguments:?}: {said}");
            assert!(said.contains("connection `shop`"), "{said}");
        }
    }
    // In a run as well, where the broker is told to be the one that does not answer.
    for (password, shown) in PASSWORDS {
        let workshop = workshop("geheim-word:1", password);
        let ran = run(&workshop, &["check", "--connect", "f.toml"]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("no broker of `{shown}:1` answers")), "{}", ran.stderr);
        assert!(!ran.stderr.contains("geheim") && !ran.stdout.contains("geheim"), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_password_in_the_flow_is_warned_of_and_hidden() {
    let workshop = workshop("geheim-word:1", "\"geheim-word\"");
    let ran = run(&workshop, &["check", "f.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = "f.toml: warning: connection `shop`: `sasl.password` stands in the file, where others may read it; ";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    let ran = run(&workshop, &["check", "--connect", "f.toml"]);
    assert!(ran.stderr.contains("no broker of `${sasl.password}:1` answers"), "{}", ran.stderr);
}

#[test]
fn all_who_do_not_answer_are_said_at_once() {
    // One takes connections and says nothing, the other takes none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let closed = format!("127.0.0.1:{}", free_port());
    let input = |name: &str, broker: &str| {
        format!(
            "[input.{name}]\ntype = \"kafka\"\nbrokers = \"{broker}\"\ntopics = [\"a\"]\nformat = \"raw\"\n\
             [output.of_{name}]\ntype = \"drop\"\nfrom = \"{name}\"\n"
        )
    };
    let workshop = Workshop::new();
    workshop.write("f.toml", &(input("silent", &silent) + &input("closed", &closed)));
    let begin = Instant::now();
    let ran = workshop.run(&["check", "--connect", "f.toml"]);
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for (line, name, broker) in [(1, "silent", &silent), (9, "closed", &closed)] {
        let expected = format!("f.toml:{line}:1: input `{name}`: no broker of `{broker}` answers");
        assert!(ran.stderr.contains(&expected), "{expected}: {}", ran.stderr);
    }
    assert!(ran.stderr.ends_with("2 problems\n"), "{}", ran.stderr);
}

#[test]
fn a_flow_that_needs_nobody_connects_to_nobody() {
    let workshop = Workshop::new();
    workshop.write("f.toml", "[input.a]\ntype = \"generate\"\nrows = 1\ncolumns = { n = \"row\" }\n[output.b]\ntype = \"drop\"\nfrom = \"a\"\n");
    let ran = workshop.run(&["check", "--connect", "f.toml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "f.toml: ok, 2 nodes\nf.toml: nothing to connect to\n"));
    let json = workshop.run(&["check", "--json", "f.toml"]).json();
    let expected =
        serde_json::json!({ "flow": "f.toml", "ok": true, "problems": [], "warnings": [], "connections": [] });
    assert_eq!(json, expected);
}

#[test]
fn connections_may_be_shared_and_changed() {
    let workshop = workshop("kafka1:9092", "\"${KEY}\"");
    let flow = workshop.read("f.toml");
    let (begin, end) = (flow.find("[connection").unwrap(), flow.find("[input").unwrap());
    workshop.write("conf/shop.toml", &flow[begin..end]);
    workshop.write("f.toml", &format!("[flow]\nconnections = \"${{WHERE:conf/shop.toml}}\"\n{}", &flow[end..]));
    assert_eq!(run(&workshop, &["check", "f.toml"]).code, 0);
    let ran = run(&workshop, &["check", "f.toml", "--set", "connection.shop.brokers=kafka1"]);
    assert!(ran.stderr.contains("connection `shop`: `kafka1` is no address with a port"), "{}", ran.stderr);
    let ran = run(&workshop, &["check", "f.toml", "--set", "flow.connections=conf/none.toml"]);
    assert!(ran.stderr.contains("the file of connections `conf/none.toml` can't be read"), "{}", ran.stderr);
}
