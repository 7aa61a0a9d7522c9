//! TLS, SCRAM and tokens, with a real Kafka: who may come, and what is said to others.
#![allow(clippy::disallowed_methods, reason = "tokens expire in real time")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millstream_core::{Home, InputSettings, OutputSettings};
use millstream_testkit::{Kafka, Sent, context, parse};
use rdkafka::consumer::Consumer as _;

use crate::client::{ConnectionSettings, Consumer, Role};
use crate::input::KafkaInputSettings;
use crate::output::KafkaOutputSettings;

/// An input that reads a topic of one message, by settings of the connection.
fn settings(listener: &str, kafka: &Kafka, security: &str) -> KafkaInputSettings {
    let brokers = kafka.services().get(listener);
    parse(&format!("brokers = '{brokers}'\ntopics = ['secured']\nformat = 'raw'\nbounded = true\n{security}"))
}

/// What `check --connect` says.
fn probe(listener: &str, kafka: &Kafka, security: &str) -> Result<String, String> {
    let probe = settings(listener, kafka, security).probe(&context()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(probe).map_err(|error| error.to_string())
}

/// Reads the topic.
fn read(listener: &str, kafka: &Kafka, security: &str) -> Result<(), String> {
    let settings = settings(listener, kafka, security);
    assert!(!format!("{settings:?}").contains(PASSWORD));
    let plan = settings.plan(&context()).map_err(|problems| format!("{problems:?}"))?;
    let mut input = (plan.build)().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(input.open(&Home::Nowhere)).map_err(|error| error.to_string())
}

const PASSWORD: &str = "canary-41d7";

#[test]
fn who_may_come_comes() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("secured", 1, &[]);
    kafka.send("secured", [Sent::value(0, "a")]);
    let [ca, certificate, key] =
        ["KAFKA_CA", "KAFKA_CLIENT_CERTIFICATE", "KAFKA_CLIENT_KEY"].map(|name| kafka.services().get(name));
    let sasl = |mechanism: &str, password: &str| {
        format!("sasl = {{ mechanism = '{mechanism}', username = 'alice', password = '{password}' }}\n")
    };
    let tls = format!("tls = {{ ca = '{ca}' }}\n");
    assert_eq!(read("KAFKA_BROKERS_TLS", &kafka, &tls), Ok(()));
    let mutual = format!("tls = {{ ca = '{ca}', certificate = '{certificate}', key = '{key}' }}");
    assert_eq!(read("KAFKA_BROKERS_TLS", &kafka, &mutual), Ok(()));
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let scram = tls.clone() + &sasl(mechanism, PASSWORD);
        assert_eq!(read("KAFKA_BROKERS_SASL", &kafka, &scram), Ok(()), "{mechanism}");
    }
    let probed = probe("KAFKA_BROKERS_SASL", &kafka, &(tls.clone() + &sasl("SCRAM-SHA-512", PASSWORD))).unwrap();
    assert!(probed.starts_with("1 topic with 1 partition at "), "{probed}");
    let wrong = "canary-wrong";
    let probed = probe("KAFKA_BROKERS_SASL", &kafka, &(tls.clone() + &sasl("SCRAM-SHA-512", wrong))).unwrap_err();
    assert!(probed.contains("Authentication failed") && !probed.contains(wrong), "{probed}");
    let refused = read("KAFKA_BROKERS_SASL", &kafka, &(tls + &sasl("SCRAM-SHA-512", wrong))).unwrap_err();
    assert!(refused.contains("Authentication failed"), "{refused}");
    assert!(!refused.contains(wrong), "{refused}");
}

/// A server that gives tokens, which nobody has signed, to who says the password: each lasts so long. It counts them.
fn token_server(lasts: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let given = Arc::new(AtomicUsize::new(0));
    let count = given.clone();
    let who = format!("basic {}", base64::engine::general_purpose::STANDARD.encode(format!("alice:{PASSWORD}")));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                head += &std::mem::take(&mut line);
            }
            let header = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
            };
            let length = header("content-length").unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            assert_eq!(String::from_utf8(body).unwrap(), "grant_type=client_credentials&scope=topics");
            let is_known = header("authorization").is_some_and(|said| said.replacen("Basic", "basic", 1) == who);
            let (status, answer) = if is_known {
                count.fetch_add(1, Ordering::SeqCst);
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
                let claims = format!(r#"{{"sub":"alice","iat":{now},"exp":{}}}"#, now + lasts.as_secs());
                let [head, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
                let token = format!("{head}.{claims}.");
                (
                    "200 OK",
                    format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{}}}"#, lasts.as_secs()),
                )
            } else {
                ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned())
            };
            let length = answer.len();
            let _ =
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        }
    });
    (url, given)
}

/// Settings of who connects with a token.
fn with_token(kafka: &Kafka, url: &str, secret: &str) -> String {
    let ca = kafka.services().get("KAFKA_CA");
    format!(
        "tls = {{ ca = '{ca}' }}\nsasl = {{ mechanism = 'OAUTHBEARER', token_url = '{url}', client_id = 'alice', client_secret = '{secret}', \
         scope = 'topics' }}\n"
    )
}

#[test]
fn who_has_a_token_comes() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("secured", 1, &[]);
    kafka.send("secured", [Sent::value(0, "a")]);
    let (url, given) = token_server(Duration::from_secs(3600));
    let good = with_token(&kafka, &url, PASSWORD);
    assert_eq!(read("KAFKA_BROKERS_SASL", &kafka, &good), Ok(()));
    assert!(probe("KAFKA_BROKERS_SASL", &kafka, &good).unwrap().starts_with("1 topic with 1 partition at "));
    // An output asks brokers by another client, of the same kind.
    let brokers = kafka.services().get("KAFKA_BROKERS_SASL");
    let output: KafkaOutputSettings =
        parse(&format!("brokers = '{brokers}'\ntopic = 'secured'\nformat = 'json'\n{good}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let probed = runtime.block_on(output.probe(&context()).unwrap()).map_err(|error| error.to_string());
    assert!(probed.as_ref().is_ok_and(|said| said.starts_with("topic `secured` with 1 partitions")), "{probed:?}");
    assert!(given.load(Ordering::SeqCst) >= 3);

    let wrong = "canary-wrong";
    let refused = read("KAFKA_BROKERS_SASL", &kafka, &with_token(&kafka, &url, wrong)).unwrap_err();
    assert!(refused.contains("asking for a token: the answer is 401 Unauthorized"), "{refused}");
    let gone = with_token(&kafka, "http://127.0.0.1:1/token", PASSWORD);
    let refused = read("KAFKA_BROKERS_SASL", &kafka, &gone).unwrap_err();
    assert!(refused.contains("asking `http://127.0.0.1:1/token`: "), "{refused}");
    assert!(!refused.contains(PASSWORD) && !refused.contains(wrong), "{refused}");
    let (url, _) = token_server(Duration::ZERO);
    let refused = read("KAFKA_BROKERS_SASL", &kafka, &with_token(&kafka, &url, PASSWORD)).unwrap_err();
    assert!(refused.contains("a token can't be used: "), "{refused}");
}

#[test]
fn tokens_are_renewed_while_they_are_good() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("secured", 1, &[]);
    let (url, given) = token_server(Duration::from_secs(6));
    let brokers = kafka.services().get("KAFKA_BROKERS_SASL");
    let connection: ConnectionSettings =
        parse(&format!("brokers = '{brokers}'\n{}", with_token(&kafka, &url, PASSWORD)));
    let options = connection.configure(Role::Beside, &[], &context()).unwrap();
    let look = |consumer: &Arc<Consumer>| {
        let found = consumer.fetch_metadata(Some("secured"), Duration::from_secs(5));
        found.map(|found| found.topics().len()).map_err(|error| crate::client::failed("looking", error))
    };
    let (consumer, topics) = Consumer::connect(&options, brokers, look).unwrap();
    assert_eq!(topics, 1);
    // Brokers end connections whose tokens have expired, unless another one is shown in time.
    let begun = SystemTime::now();
    while begun.elapsed().unwrap() < Duration::from_secs(15) {
        consumer.serve();
        assert_eq!(look(&consumer).unwrap(), 1);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(given.load(Ordering::SeqCst) >= 3, "{given:?}");
}
