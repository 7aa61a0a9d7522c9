//! Flows of the library that need several servers, or a server and the data of the library: run with the real binary, on real servers.

use std::process::{Command, Stdio};

use millstream_testkit::{Kafka, Mysql, Sent};
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop, project};
use crate::{kafka, mysql};

/// A flow of the library, copied into a folder with the binary, and changed for this test.
struct Library {
    workshop: Workshop,
    sets: Vec<String>,
}

impl Library {
    fn new(flow: &str, sets: &[&str]) -> Self {
        let workshop = Workshop::new();
        workshop.write("flow.toml", &std::fs::read_to_string(project().join("flows").join(flow)).unwrap());
        Self { workshop, sets: sets.iter().map(|set| (*set).to_owned()).collect() }
    }

    fn command(&self, mysql: Option<&Mysql>, kafka: Option<&Kafka>) -> Command {
        let mut command = self.workshop.command(&["run", "--json", "flow.toml", "--state", "state"]);
        for set in &self.sets {
            command.args(["--set", set]);
        }
        if let Some(mysql) = mysql {
            command
                .env("MYSQL_ADDRESS", mysql.address())
                .env("MYSQL_USER", "alice")
                .env("MYSQL_PASSWORD", "canary-41d7");
        }
        if let Some(kafka) = kafka {
            command.env("KAFKA_BROKERS", kafka.brokers());
        }
        command
    }

    /// The rows of files of Parquet, as JSON.
    fn rows(&self, files: &str) -> Vec<Value> {
        let path = self.workshop.path(files);
        let flow = format!(
            "[input.rows]\ntype = 'file'\npath = '{}'\nformat = 'parquet'\n[output.out]\ntype = 'file'\nfrom = 'rows'\n\
             path = 'rows.ndjson'\nif_exists = 'replace'\n",
            path.display()
        );
        self.workshop.write("rows.toml", &flow);
        self.workshop.run_json(&["rows.toml"]);
        self.workshop.read("rows.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A run that comes to its end, and what it has to say.
fn finish(mut command: Command) -> Value {
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran.json()
}

#[test]
fn tables_are_joined_by_their_foreign_keys() {
    let Some(mysql) = mysql::shared("mariadb") else { return };
    mysql.say(
        "CREATE TABLE joined_customers (id BIGINT PRIMARY KEY, name VARCHAR(50) NOT NULL, country CHAR(2));
         CREATE TABLE joined_products (id BIGINT PRIMARY KEY, title VARCHAR(50) NOT NULL, price DECIMAL(10,2) NOT NULL);
         CREATE TABLE joined_orders (id BIGINT PRIMARY KEY, customer_id BIGINT, product_id BIGINT, quantity BIGINT NOT NULL,
             placed_at DATETIME NOT NULL);
         INSERT INTO joined_customers VALUES (1, 'Ada', 'GB'), (2, 'Bo', NULL);
         INSERT INTO joined_products VALUES (10, 'mill', 19.90), (11, 'stream', 0.05);
         INSERT INTO joined_orders VALUES (100, 1, 10, 2, '2026-01-31 12:00:00'), (101, 2, 11, 3, '2026-01-31 12:00:01'),
             (102, 9, 10, 1, '2026-01-31 12:00:02'), (103, 1, NULL, 1, '2026-01-31 12:00:03')",
    );
    let tables = ["orders", "customers", "products"].map(|table| format!("input.{table}.table=joined_{table}"));
    let library = Library::new("join_tables_with_foreign_keys.toml", &tables.each_ref().map(String::as_str));
    finish(library.command(Some(mysql), None));
    let rows = library.rows("out/sales/*.parquet");
    let told: Vec<_> = rows.iter().map(|row| (&row["id"], &row["customer"], &row["product"], &row["amount"])).collect();
    let told = serde_json::to_value(told).unwrap();
    let wanted = serde_json::json!([[100, "Ada", "mill", 39.8], [101, "Bo", "stream", 0.15]]);
    assert_eq!(told.to_string().replace("39.80", "39.8").replace('"', ""), wanted.to_string().replace('"', ""));
    let rejected = library.workshop.list("out/rejected").into_iter().filter(|name| !name.starts_with('.'));
    let said: String = rejected.map(|name| library.workshop.read(&format!("out/rejected/{name}"))).collect();
    for (order, reason) in [(102, "customer_id names no customer"), (103, "product_id names no product")] {
        let line = said.lines().find(|line| line.contains(&order.to_string())).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn changes_of_a_table_are_events_in_a_topic() {
    let (Some(mysql), Some(kafka)) = (mysql::shared("mysql"), kafka::shared()) else { return };
    kafka.create("shop.orders", 3, &[("cleanup.policy", "compact")]);
    mysql.say(
        "CREATE TABLE changing_orders (id BIGINT PRIMARY KEY, customer BIGINT, amount DECIMAL(10,2), status VARCHAR(20));
         INSERT INTO changing_orders VALUES (1, 7, 12.50, 'placed'), (2, 7, 3.00, 'placed')",
    );
    kafka.create("shop.progress", 1, &[("cleanup.policy", "compact")]);
    let sets = [r#"input.shop.tables.orders.table="changing_orders""#, "output.topic.progress_topic=shop.progress"];
    let library = Library::new("mysql_changes_to_kafka.toml", &sets);
    let events = || -> Vec<(i64, Option<Value>)> {
        let parse = |value: &[u8]| serde_json::from_slice(value).unwrap();
        let received = kafka.read("shop.orders").into_iter().map(|(_, _, key, value)| {
            (std::str::from_utf8(&key.unwrap()).unwrap().parse().unwrap(), value.as_deref().map(parse))
        });
        received.collect()
    };
    let of = |id: i64| -> Vec<Option<Value>> {
        events().into_iter().filter(|(of, _)| *of == id).map(|(_, row)| row.map(|row| row["op"].clone())).collect()
    };
    let wait_for = |count: usize, running: &mut Running| {
        let begin = std::time::Instant::now();
        while events().len() < count {
            if begin.elapsed() > std::time::Duration::from_secs(120) {
                panic!("{:?}, and the flow says:\n{}", events(), running.last_words());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let start = || Running::start(library.command(Some(mysql), Some(kafka)).stdout(Stdio::piped()));
    let mut running = start();
    wait_for(2, &mut running);
    // It is killed, and something happens while it is away.
    drop(running);
    mysql.say("UPDATE changing_orders SET status = 'paid' WHERE id = 1;\nDELETE FROM changing_orders WHERE id = 2");
    let mut running = start();
    wait_for(4, &mut running);
    mysql.say("INSERT INTO changing_orders VALUES (3, 8, 1.00, 'placed')");
    wait_for(5, &mut running);
    running.stop();
    assert_eq!(of(1), [Some("r".into()), Some("u".into())]);
    assert_eq!(of(2), [Some("r".into()), None]);
    assert_eq!(of(3), [Some("c".into())]);
}

#[test]
fn an_archive_is_learned_and_then_a_topic() {
    let Some(kafka) = kafka::shared() else { return };
    let library = Library::new(
        "backfill_then_live.toml",
        &[
            r#"input.topic.topics=["archived_flights"]"#,
            "input.topic.bounded=true",
            r#"input.topic.event_time={ column = "time_hour", lateness = "1d" }"#,
        ],
    );
    // The last days of the year: those of the archive, and those that are in the topic, too.
    let flights = project().join("flows/data/nycflights13/flights.parquet");
    library.workshop.write(
        "archive.toml",
        &format!(
            "[input.flights]\ntype = 'file'\npath = '{}'\n\
             [processor.last]\ntype = 'sql'\nfrom = 'flights'\nquery = 'SELECT * FROM flights WHERE month = 12 AND day > 24'\n\
             [processor.overlap]\ntype = 'sql'\nfrom = 'last'\nquery = 'SELECT * FROM last WHERE day = 31'\n\
             [output.archive]\ntype = 'file'\nfrom = 'last'\npath = 'archive.parquet'\n\
             [output.topic]\ntype = 'file'\nfrom = 'overlap'\npath = 'topic.ndjson'\n",
            flights.display()
        ),
    );
    library.workshop.run_json(&["archive.toml"]);
    let archived = library.rows("archive.parquet").len();
    let overlap = library.workshop.read("topic.ndjson");
    // The same flights a day later are others.
    let text = overlap.replace("2014-01-01T", "2014-01-02T").replace("2013-12-31T", "2014-01-01T");
    let messages = || overlap.lines().chain(text.lines());
    let (twice, new) = (overlap.lines().count(), text.lines().count());
    assert!(archived > 5000 && twice > 500);
    kafka.create("archived_flights", 1, &[]);
    kafka.send("archived_flights", messages().map(|line| Sent::value(0, line)));
    let mut command = library.command(None, Some(kafka));
    command.env("ARCHIVE", library.workshop.path("archive.parquet"));
    let ran = finish(command);
    assert_eq!(ran["nodes"]["flights"]["rows_in"], archived + twice + new, "{ran}");
    assert_eq!(ran["nodes"]["fields"]["rows_in"], archived + new, "{ran}");
    let scored = library.rows("out/backfill_then_live/*.parquet");
    assert_eq!(scored.len(), archived + new);
    assert!(scored[archived..].iter().all(|row| row["time_hour"].as_str().unwrap() >= "2014-01-01"));
}
