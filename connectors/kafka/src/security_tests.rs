//! TLS and SCRAM, with a real Kafka: who may come, and what is said to others.

use millstream_core::{Home, Input, InputSettings};
use millstream_testkit::{Kafka, Sent, context, parse};

use crate::input::KafkaInputSettings;

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
