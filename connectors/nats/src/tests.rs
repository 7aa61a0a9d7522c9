//! The suites that every node passes, and connections of all kinds, with a real server.

use std::path::Path;
use std::rc::Rc;

use millstream_core::{NodeTypes, Parsed, Role};
use millstream_testkit::{
    InputSamples, Nats, OutputSamples, Source, Target, check_examples, check_inputs, check_outputs, table,
};

use crate::register;

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    register(&mut types);
    types
}

#[test]
fn examples_are_accepted() {
    check_examples(&types());
}

const WRONG: &[(&str, &str)] = &[
    ("servers = 'a b'\nstream = 'a'\nformat = 'raw'", "servers"),
    ("servers = 'a:1,b:x'\nstream = 'a'\nformat = 'raw'", "servers"),
    ("servers = 'a'\nuser = 'me'\nstream = 'a'\nformat = 'raw'", "user"),
    ("servers = 'a'\nuser = 'me'\npassword = 'canary'\ntoken = 'canary'\nstream = 'a'\nformat = 'raw'", "token"),
    ("servers = 'a'\ntls = { ca = 'nowhere' }\nstream = 'a'\nformat = 'raw'", "tls.ca"),
    ("servers = 'a'\nstream = 'a'\nsubjects = ['a', 'b..c']\nformat = 'raw'", "subjects.1"),
    ("servers = 'a'\nstream = 'a'\nformat = 'raw'\nmetadata = { value = 'subject' }", "metadata.value"),
];

/// Makes a stream, unless it is there.
fn made(nats: &Rc<Nats>, stream: &'static str, messages: &'static [(&str, &str)]) -> impl Fn(&Path) + 'static {
    let nats = nats.clone();
    let is_made = std::cell::Cell::new(false);
    move |_| {
        if !is_made.replace(true) {
            nats.stream(stream, &[&format!("{stream}.>")], |_| {});
            let message = |(subject, text): &(&str, &str)| (format!("{stream}.{subject}"), text.as_bytes().to_vec());
            nats.send(&messages.iter().map(message).collect::<Vec<_>>());
        }
    }
}

const MESSAGES: &[(&str, &str)] = &[
    ("a.1", r#"{ "n": 1, "text": "x" }"#),
    ("b.1", r#"{ "n": 2 }"#),
    ("a.2", "no JSON"),
    ("a.3", r#"{ "n": 3 }"#),
    ("a.4", ""),
    ("b.2", r#"{ "n": 4, "text": null }"#),
    ("a.5", r#"{ "n": 5 }"#),
];

#[test]
fn inputs() {
    let Some(nats) = Nats::start().map(Rc::new) else { return };
    let settings = |stream: &str, more: &str| {
        format!(
            "servers = '{}'\nstream = '{stream}'\nformat = 'json'\nschema = {{ n = 'int64', text = 'utf8?' }}\n\
             metadata = {{ kind = 'subject', place = 'sequence', at = 'timestamp', headers = 'headers' }}\n{more}",
            nats.address()
        )
    };
    let sources = vec![
        Source::new(settings("live", ""), 5, 2, made(&nats, "live", MESSAGES)),
        Source::new(settings("bounded", "bounded = true"), 5, 2, made(&nats, "bounded", MESSAGES)),
        Source::new(settings("some", "subjects = ['some.a.>']"), 3, 2, made(&nats, "some", MESSAGES)),
        Source::new(settings("both", "subjects = ['both.b.*']\nbounded = true"), 2, 0, made(&nats, "both", MESSAGES)),
        Source::new(settings("empty", "bounded = true"), 0, 0, made(&nats, "empty", &[])),
    ];
    check_inputs(&types(), &[InputSamples { node: "nats", sources, wrong: WRONG, excuses: &[] }]);
}

const WRONG_OUTPUTS: &[(&str, &str)] = &[
    ("servers = '/'\nstream = 'a'\nsubject = 'a'\nformat = 'json'", "servers"),
    ("servers = 'a'\nstream = 'a'\nsubject = 'a.*'\nformat = 'json'", "subject"),
    ("servers = 'a'\nstream = 'a'\nsubject = { column = 'n' }\nformat = 'json'", "subject.column"),
    ("servers = 'a'\nstream = 'a'\nsubject = 'a'\nformat = 'raw'", "format"),
    ("servers = 'a'\nstream = 'a'\nsubject = 'a'\nformat = 'json'\nvalue = ['m']", "value"),
];

#[test]
fn outputs() {
    let Some(nats) = Nats::start().map(Rc::new) else { return };
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let settings = format!(
        "servers = '{}'\nstream = 'FOLDER'\nsubject = 'FOLDER.rows'\nformat = 'json'\nprogress_bucket = 'FOLDER-progress'",
        nats.address()
    );
    let (looked, made) = (nats.clone(), nats);
    let rows = move |folder: &Path| {
        let read = looked.read(&name(folder)).into_iter();
        read.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    };
    let prepare = move |folder: &Path| made.stream(&name(folder), &[&format!("{}.>", name(folder))], |_| {});
    let targets = vec![Target::new(settings, rows).prepared(prepare)];
    let texts = ["plain", "\"two words\"", "null", "ü,;"];
    let lines: Vec<_> = (0..23).map(|n: usize| format!("{n} {} {}.5", texts[n % 4], n * 3)).collect();
    let rows = table(&format!("n:int64 text:utf8? amount:float64\n{}", lines.join("\n")));
    check_outputs(&types(), &[OutputSamples { node: "nats", targets, wrong: WRONG_OUTPUTS, excuses: &[] }], &rows);
}

#[tokio::test]
async fn connections_are_encrypted_and_clients_known() {
    let Some(nats) = Nats::start() else { return };
    nats.stream("S", &["s"], |_| {});
    let (address, ca) = (nats.address().to_owned(), nats.services().get("NATS_CA").to_owned());
    let alice = "user = 'alice'\npassword = 'canary-41d7'";
    for (settings, is_right) in [
        (format!("servers = '{address}'\ntls = {{ ca = '{ca}' }}\n{alice}"), true),
        (format!("servers = '{address}'\n{alice}"), true),
        (format!("servers = '{address}'\ntls = {{ ca = '{ca}' }}\nuser = 'alice'\npassword = 'canary-wrong'"), false),
        (format!("servers = '{address}'\ntoken = 'canary-token'"), false),
        (format!("servers = '{address}'\ntls = {{}}\n{alice}"), false),
    ] {
        let types = types();
        let kind = types.find(Role::Output, "nats").unwrap();
        let table = toml::from_str(&format!("{settings}\nstream = 'S'\nsubject = 's'\nformat = 'json'")).unwrap();
        let Ok(Parsed::Output(parsed)) = kind.parse(table) else { panic!("{settings}") };
        let looked = parsed.probe(&millstream_testkit::context()).unwrap().await;
        assert_eq!(looked.is_ok(), is_right, "{settings}: {looked:?}");
        assert!(!format!("{looked:?}").contains("canary"), "{looked:?}");
    }
}
