//! The suite that every node passes, and connections of all kinds, with a real broker.

use std::path::Path;
use std::rc::Rc;

use millstream_core::{NodeTypes, Parsed, Role};
use millstream_testkit::{InputSamples, Mqtt, Source, check_examples, check_inputs};

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
    ("address = 'a b'\ntopics = ['a']\nformat = 'raw'", "address"),
    ("address = 'a'\npassword = 'canary'\ntopics = ['a']\nformat = 'raw'", "password"),
    ("address = 'a'\ntls = { ca = 'nowhere' }\ntopics = ['a']\nformat = 'raw'", "tls.ca"),
    ("address = 'a'\ntopics = []\nformat = 'raw'", "topics"),
    ("address = 'a'\ntopics = ['a', 'b#']\nformat = 'raw'", "topics.1"),
    ("address = 'a'\ntopics = ['a']\nformat = 'ndjson'", "format"),
    ("address = 'a'\ntopics = ['a']\nformat = 'raw'\nmetadata = { value = 'topic' }", "metadata.value"),
    ("address = 'a'\ntopics = ['a']\nformat = 'raw'\nclient_id = ''", "client_id"),
    ("address = 'a'\ntopics = ['a']\nformat = 'raw'\nmax_message = '0B'", "max_message"),
    ("address = 'a'\ntopics = ['a']\nformat = 'raw'\nmax_log = '1MiB'", "max_log"),
];

/// Makes the broker forget what it has for the client.
fn forgotten(mqtt: &Rc<Mqtt>) -> impl Fn(&Path) + 'static {
    let mqtt = mqtt.clone();
    move |_| mqtt.forget("suite")
}

#[test]
fn inputs() {
    let Some(mqtt) = Mqtt::start().map(Rc::new) else { return };
    let settings = |format: &str| {
        format!(
            "address = '{}'\nclient_id = 'suite'\ntopics = ['rooms/+/t', 'all/#']\n{format}\n\
             metadata = {{ room = 'topic', kept = 'retained', again = 'repeated' }}",
            mqtt.address()
        )
    };
    let sender = mqtt.clone();
    let json =
        Source::new(settings("format = 'json'\nschema = { n = 'int64', text = 'utf8?' }"), 7, 2, forgotten(&mqtt))
            .with_rest(move |_| {
                let row = |n: usize| (format!("rooms/{n}/t"), format!("{{ \"n\": {n} }}").into_bytes());
                let mut messages: Vec<_> = (0..7).map(row).collect();
                messages.insert(2, ("all".to_owned(), b"no JSON".to_vec()));
                messages.insert(5, ("all/1/2".to_owned(), Vec::new()));
                messages.push(("rooms/1/2/t".to_owned(), b"for nobody".to_vec()));
                sender.publish(&messages, false);
            });
    let raw = Source::new(settings("format = 'raw'"), 0, 0, forgotten(&mqtt));
    check_inputs(&types(), &[InputSamples { node: "mqtt", sources: vec![json, raw], wrong: WRONG, excuses: &[] }]);
}

#[test]
fn wrong_outputs_are_refused_at_their_place() {
    let types = types();
    let kind = types.find(Role::Output, "mqtt").unwrap();
    let schema = millstream_testkit::schema("n:int64 topic:utf8");
    for (settings, message) in [
        ("address = 'a'\ntopic = 'a/#'\nformat = 'json'", "`a/#` is no topic to publish to"),
        ("address = 'a'\ntopic = { column = 'n' }\nformat = 'json'", "column `n` is `int64` and not utf8"),
        ("address = 'a'\ntopic = { column = 'topik' }\nformat = 'json'", "`topik`"),
        ("address = 'a'\ntopic = 'a'\nformat = 'raw'", "raw messages are bytes or texts"),
        ("address = 'a'\ntopic = 'a'\nformat = 'json'\nvalue = ['m']", "`m`"),
        ("address = 'a:b'\ntopic = 'a'\nformat = 'json'", "`a:b` is no address of a server"),
    ] {
        let Ok(Parsed::Output(parsed)) = kind.parse(toml::from_str(settings).unwrap()) else { panic!("{settings}") };
        let stream = millstream_testkit::stream("from", schema.clone());
        let problems = parsed.plan(&millstream_testkit::context(), &stream).err().unwrap_or_default();
        let found: Vec<_> = problems.iter().map(|problem| problem.message.clone()).collect();
        assert!(found.iter().any(|found| found.contains(message)), "{settings}: {found:?}");
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_clients_known() {
    let Some(mqtt) = Mqtt::start() else { return };
    let get = |variable: &str| mqtt.services().get(variable).to_owned();
    let (ca, tls, known) = (get("MQTT_CA"), get("MQTT_ADDRESS_TLS"), get("MQTT_ADDRESS_KNOWN"));
    let certificate = format!("certificate = '{}', key = '{}'", get("MQTT_CLIENT_CERTIFICATE"), get("MQTT_CLIENT_KEY"));
    let alice = "user = 'alice'\npassword = 'canary-41d7'";
    for (settings, is_right) in [
        (format!("address = '{tls}'\ntls = {{ ca = '{ca}' }}\n{alice}"), true),
        (format!("address = '{tls}'\ntls = {{ ca = '{ca}' }}\nuser = 'alice'\npassword = 'canary-wrong'"), false),
        (format!("address = '{tls}'\ntls = {{ ca = '{ca}' }}"), false),
        (format!("address = '{tls}'\ntls = {{}}\n{alice}"), false),
        (format!("address = '{tls}'\n{alice}"), false),
        (format!("address = '{known}'\ntls = {{ ca = '{ca}', {certificate} }}"), true),
        (format!("address = '{known}'\ntls = {{ ca = '{ca}' }}"), false),
    ] {
        let types = types();
        let kind = types.find(Role::Output, "mqtt").unwrap();
        let table = toml::from_str(&format!("{settings}\ntopic = 'a'\nformat = 'json'")).unwrap();
        let Ok(Parsed::Output(parsed)) = kind.parse(table) else { panic!("{settings}") };
        let looked = parsed.probe(&millstream_testkit::context()).unwrap().await;
        assert_eq!(looked.is_ok(), is_right, "{settings}: {looked:?}");
        assert!(!format!("{looked:?}").contains("canary"), "{looked:?}");
    }
}
