//! Columns that only a server or a registry knows, with the real binary: they are asked for once, planned without anybody, and compared.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::millstream::{Ran, Workshop};
use crate::site::Site;

/// A folder with a flow that leaves columns out, and what is in the environment.
struct LockSite {
    workshop: Workshop,
    variables: Vec<(&'static str, String)>,
}

impl Site for LockSite {
    fn workshop(&self) -> &Workshop {
        &self.workshop
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        self.variables.clone()
    }
}

/// Rows of the main port of a node, to the folder `out`.
const OUT: &str = r#"
    [output.out]
    type = "file"
    path = "out"
    format = "ndjson"
    rows = 1000
    every = "100ms"
    from = "#;

const ASKS: &str = "`millstream check flow.toml --connect --lock` asks for them, and writes them there";

impl LockSite {
    fn new(flow: &str, variables: Vec<(&'static str, String)>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lock_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let head = format!(
            "[flow]\nname = \"{name}\"\nepoch = {{ interval = \"50ms\" }}\n[checkpoint]\ninterval = \"100ms\"\n"
        );
        let site = Self { workshop: Workshop::new(), variables };
        site.workshop.write("flow.toml", &format!("{head}{flow}"));
        site
    }

    fn check(&self, arguments: &[&str]) -> Ran {
        let mut command: Command = self.workshop.command(&[&["check", "flow.toml"], arguments].concat());
        command.envs(self.variables()).output().unwrap().into()
    }

    /// What is said when all is well.
    fn checks(&self, arguments: &[&str]) -> String {
        let ran = self.check(arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// What is said when the flow does not check, or a source is not as it should be.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.check(arguments);
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
        ran.stderr
    }

    /// Asks for the columns that nothing says, and looks whether these lines are in the file.
    fn lock(&self, source: &str, columns: &[&str]) {
        let said = self.refused(2, &[]);
        assert!(
            said.contains(&format!("nor `flow.lock` says the columns of {source}")) && said.contains(ASKS),
            "{said}"
        );
        assert!(!self.workshop.exists("flow.lock"));
        let said = self.checks(&["--connect", "--lock"]);
        assert!(said.contains(&format!("{} columns of {source} in `flow.lock`\n", columns.len())), "{said}");
        let lock = self.workshop.read("flow.lock");
        assert!(lock.contains(&format!("source = \"{source}\"\n")), "{lock}");
        assert!(lock.contains(&format!("[schema.columns]\n{}\n", columns.join("\n"))), "{lock}");
        // What was written is all that it takes.
        self.checks(&[]);
        let said = self.checks(&["--connect"]);
        assert!(said.contains(&format!("{source} has the columns of `flow.lock`\n")), "{said}");
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use millstream_testkit::Mysql;

    use super::*;
    use crate::mysql::shared;

    fn variables(mysql: &Mysql) -> Vec<(&'static str, String)> {
        vec![("MYSQL_ADDRESS", mysql.address().to_owned()), ("MYSQL_PASSWORD", "canary-41d7".to_owned())]
    }

    const SERVER: &str = r#"
        [connection.shop]
        type = "mysql"
        address = "${MYSQL_ADDRESS}"
        user = "alice"
        password = "${MYSQL_PASSWORD}"
        database = "shop"
    "#;

    #[test]
    fn columns_of_tables_are_locked() {
        for product in Mysql::PRODUCTS {
            let Some(mysql) = shared(product) else { return };
            mysql.say(
                "DROP TABLE IF EXISTS lock_all, lock_names;\n\
                 CREATE TABLE lock_all (id BIGINT UNSIGNED PRIMARY KEY, small TINYINT NOT NULL, flag BIT(1), amount DECIMAL(10,2), \
                 huge DECIMAL(60,2), `a note` VARCHAR(20) CHARACTER SET utf8mb4, data VARBINARY(5), made DATETIME(6) NOT NULL, day DATE, \
                 clock TIME, kind ENUM('a', 'b') NOT NULL, ratio FLOAT, body TEXT CHARACTER SET latin1, more JSON);\n\
                 INSERT INTO lock_all VALUES (1, -5, b'1', 12.50, 123.45, 'x', x'00ff', '2026-01-31 12:00:00.5', '2026-01-31', '12:30:00', \
                 'b', 0.5, 'ä', '{}');\n\
                 CREATE TABLE lock_names (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL);\n\
                 INSERT INTO lock_names VALUES (1, 'one')",
            );
            let nodes = "[input.rows]\ntype = \"mysql_query\"\nconnection = \"shop\"\ntable = \"lock_all\"\nkey = [\"id\"]\n\
                         [processor.named]\ntype = \"mysql_lookup\"\nfrom = \"rows\"\nconnection = \"shop\"\ntable = \"lock_names\"\non = [\"id\"]\n";
            let site = LockSite::new(&format!("{SERVER}{nodes}{OUT}\"named\""), variables(mysql));
            // MariaDB has no type of its own for JSON.
            let more = if product == "mysql" { "more = \"json?\"" } else { "more = \"utf8?\"" };
            let columns = [
                "id = \"uint64\"",
                "small = \"int8\"",
                "flag = \"boolean?\"",
                "amount = \"decimal(10,2)?\"",
                "huge = \"utf8?\"",
                "\"a note\" = \"utf8?\"",
                "data = \"binary?\"",
                "made = \"timestamp\"",
                "day = \"date?\"",
                "clock = \"time?\"",
                "kind = \"utf8\"",
                "ratio = \"float32?\"",
                "body = \"utf8?\"",
                more,
            ];
            site.lock("the table `lock_all`", &columns);
            assert!(site.workshop.read("flow.lock").contains("[schema.columns]\nid = \"uint64\"\nname = \"utf8\"\n"));
            site.finish(&[]);
            let rows = site.rows();
            assert_eq!(
                (rows.len(), &rows[0]["a note"], &rows[0]["name"], &rows[0]["flag"]),
                (1, &"x".into(), &"one".into(), &true.into())
            );
            assert_eq!((&rows[0]["huge"], &rows[0]["body"]), (&"123.45".into(), &"ä".into()));

            let takes = "`millstream check flow.toml --connect --lock` takes them as they are";
            mysql.say("ALTER TABLE lock_all ADD COLUMN extra INT NOT NULL DEFAULT 7");
            let said = site.checks(&["--connect"]);
            let expected = "the table `lock_all` has other columns than `flow.lock`: `extra`, a `int32`, is new";
            assert!(said.contains(&format!("input `rows`: {expected}; {takes}")), "{said}");
            mysql.say("ALTER TABLE lock_all DROP COLUMN ratio, MODIFY amount DECIMAL(12,2) NOT NULL");
            let said = site.refused(1, &["--connect"]);
            let expected =
                "`amount` was `decimal(10,2)?` and is `decimal(12,2)`; `ratio` is gone; `extra`, a `int32`, is new";
            assert!(said.contains(expected) && said.contains(takes), "{said}");
            let said = site.checks(&["--connect", "--lock"]);
            assert!(
                said.contains(&format!("14 columns of the table `lock_all` in `flow.lock`: {expected}\n")),
                "{said}"
            );
            site.checks(&["--connect"]);

            // Nothing is written unless all is known.
            let before = site.workshop.read("flow.lock");
            mysql.say("DROP TABLE lock_names");
            let said = site.refused(1, &["--connect", "--lock"]);
            assert!(
                said.contains("the columns of the table `lock_names` are not known: asking for the columns: "),
                "{said}"
            );
            assert_eq!(site.workshop.read("flow.lock"), before);
        }
    }

    #[test]
    fn columns_of_a_log_and_of_a_query_are_locked() {
        for product in Mysql::PRODUCTS {
            let Some(mysql) = shared(product) else { return };
            mysql.say(
                "DROP TABLE IF EXISTS lock_log;\n\
                 CREATE TABLE lock_log (id INT PRIMARY KEY, text VARCHAR(20) CHARACTER SET utf8mb4);\n\
                 INSERT INTO lock_log VALUES (1, 'one')",
            );
            let nodes = "[input.shop]\ntype = \"mysql_changes\"\nconnection = \"shop\"\ntables.rows = { table = \"lock_log\" }\n";
            let site = LockSite::new(&format!("{SERVER}{nodes}{OUT}\"shop.rows\""), variables(mysql));
            site.lock("the table `lock_log`", &["id = \"int32\"", "text = \"utf8?\""]);
            assert!(site.workshop.read("flow.lock").contains("setting = \"input.shop.tables.rows.schema\"\n"));
            let running = site.start();
            site.wait_for(1);
            mysql.say("INSERT INTO lock_log VALUES (2, 'two')");
            site.wait_for(2);
            running.stop();
            assert_eq!(site.rows()[1]["text"], "two");

            let query = "[input.sums]\ntype = \"mysql_query\"\nconnection = \"shop\"\nquery = \"SELECT id, id + 1 AS next FROM lock_log\"\n\
                         key = [\"id\"]\n";
            let site = LockSite::new(&format!("{SERVER}{query}{OUT}\"sums\""), variables(mysql));
            site.lock("the query", &["id = \"int32\"", "next = \"int64\""]);
            site.finish(&[]);
            assert_eq!(site.rows().len(), 2);
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use millstream_testkit::Postgres;

    use super::*;
    use crate::postgres::shared;

    fn variables(postgres: &Postgres) -> Vec<(&'static str, String)> {
        vec![
            ("POSTGRES_ADDRESS", postgres.address().to_owned()),
            ("POSTGRES_PASSWORD", "canary-41d7".to_owned()),
            ("POSTGRES_CA", postgres.ca().to_owned()),
        ]
    }

    const SERVER: &str = r#"
        [connection.shop]
        type = "postgres"
        address = "${POSTGRES_ADDRESS}"
        user = "alice"
        password = "${POSTGRES_PASSWORD}"
        database = "shop"
        tls = { ca = "${POSTGRES_CA}" }
    "#;

    #[test]
    fn columns_of_tables_are_locked() {
        let Some(postgres) = shared() else { return };
        postgres.say(
            "DROP TABLE IF EXISTS lock_all, lock_names;\n\
             CREATE TABLE lock_all (id bigint PRIMARY KEY, small smallint NOT NULL, flag boolean, amount numeric(10,2), huge numeric, \
             note varchar(20), data bytea, made timestamptz NOT NULL, plain timestamp(3), day date, clock time, ratio real, more jsonb, \
             tags text[], who uuid, twice bigint GENERATED ALWAYS AS (id * 2) STORED);\n\
             ALTER TABLE lock_all REPLICA IDENTITY FULL;\n\
             INSERT INTO lock_all VALUES (1, -5, true, 12.50, 123.45, 'x', '\\x00ff', '2026-01-31 12:00:00.5Z', '2026-01-31', '2026-01-31', \
             '12:30:00', 0.5, '{}', '{a}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');\n\
             CREATE TABLE lock_names (id bigint PRIMARY KEY, name text NOT NULL);\nINSERT INTO lock_names VALUES (1, 'one')",
        );
        let nodes = "[input.rows]\ntype = \"postgres_query\"\nconnection = \"shop\"\ntable = \"lock_all\"\nkey = [\"id\"]\n\
                     [processor.named]\ntype = \"postgres_lookup\"\nfrom = \"rows\"\nconnection = \"shop\"\ntable = \"lock_names\"\non = [\"id\"]\n";
        let site = LockSite::new(&format!("{SERVER}{nodes}{OUT}\"named\""), variables(postgres));
        let columns = [
            "id = \"int64\"",
            "small = \"int16\"",
            "flag = \"boolean?\"",
            "amount = \"decimal(10,2)?\"",
            "huge = \"utf8?\"",
            "note = \"utf8?\"",
            "data = \"binary?\"",
            "made = \"timestamp\"",
            "plain = \"timestamp?\"",
            "day = \"date?\"",
            "clock = \"time?\"",
            "ratio = \"float32?\"",
            "more = \"json?\"",
            "tags = \"utf8?\"",
            "who = \"utf8?\"",
            "twice = \"int64?\"",
        ];
        site.lock("the table `lock_all`", &columns);
        site.finish(&[]);
        let rows = site.rows();
        assert_eq!((rows.len(), &rows[0]["tags"], &rows[0]["name"]), (1, &"{a}".into(), &"one".into()));

        // Its log does not have what the server computes.
        let nodes = "[input.log]\ntype = \"postgres_changes\"\nconnection = \"shop\"\ntables.lock_all = {}\n";
        let log = LockSite::new(&format!("{SERVER}{nodes}{OUT}\"log.lock_all\""), variables(postgres));
        log.lock("the table `lock_all`", &columns[..15]);
        let running = log.start();
        log.wait_for(1);
        running.stop();
        postgres.say("ALTER TABLE lock_all ALTER amount TYPE numeric(12,2), DROP COLUMN twice");
        let said = log.refused(1, &["--connect"]);
        assert!(said.contains("than `flow.lock`: `amount` was `decimal(10,2)?` and is `decimal(12,2)?`\n"), "{said}");
        let said = site.refused(1, &["--connect"]);
        assert!(said.contains("and is `decimal(12,2)?`; `twice` is gone\n"), "{said}");

        let query = "[input.sums]\ntype = \"postgres_query\"\nconnection = \"shop\"\nquery = \"SELECT id, amount FROM lock_all\"\nkey = [\"id\"]\n";
        let site = LockSite::new(&format!("{SERVER}{query}{OUT}\"sums\""), variables(postgres));
        site.lock("the query", &["id = \"int64?\"", "amount = \"decimal(12,2)?\""]);
        site.finish(&[]);
    }
}

#[cfg(feature = "kafka")]
mod kafka {
    use millstream_testkit::{Kafka, Sent};
    use serde_json::json;

    use super::*;
    use crate::kafka::shared;
    use crate::millstream::project;
    use crate::registry::Registry;

    /// What reads a topic, whose columns a registry has.
    fn site(kafka: &Kafka, topic: &str, registry: &Registry, settings: &str) -> LockSite {
        let node = format!(
            "[input.rows]\ntype = \"kafka\"\nbrokers = \"${{KAFKA_BROKERS}}\"\ntopics = [\"{topic}\"]\nbounded = true\n\
             registry = {{ url = \"{}\" }}\n{settings}",
            registry.url()
        );
        LockSite::new(&format!("{node}{OUT}\"rows\""), vec![("KAFKA_BROKERS", kafka.brokers().to_owned())])
    }

    /// A message of the schema with a number.
    fn message(schema: u32, value: &[u8]) -> Vec<u8> {
        [&[0][..], &schema.to_be_bytes(), value].concat()
    }

    #[test]
    fn columns_of_schemas_of_avro_are_locked() {
        let Some(kafka) = shared() else { return };
        let (topic, registry) = ("lock-avro", Registry::start());
        kafka.create(topic, 1, &[]);
        let record =
            |fields: serde_json::Value| json!({ "type": "record", "name": "Row", "fields": fields }).to_string();
        let (id, note) =
            (json!({ "name": "id", "type": "long" }), json!({ "name": "note", "type": "string", "default": "none" }));
        let kind = json!({ "name": "kind", "type": "Kind" });
        registry.add(
            "kind",
            "AVRO",
            &json!({ "type": "enum", "name": "Kind", "symbols": ["A", "B"] }).to_string(),
            &[],
        );
        let value = registry.add("lock-avro-value", "AVRO", &record(json!([id, note, kind])), &["kind"]);
        let key = registry.add("lock-avro-key", "AVRO", "\"string\"", &[]);
        // Behind them comes one that knows no notes; of these the default is that of the file.
        let other = registry.add("other", "AVRO", &record(json!([id, kind])), &["kind"]);
        let keys = [message(key, b"\x02a"), message(key, b"\x02b"), b"c".to_vec(), message(key, b"\x02d")];
        let good = message(value, b"\x02\x04hi\x02");
        // Of the second, the value names no schema; of the third, the key.
        let values = [good.clone(), b"none".to_vec(), good, message(other, b"\x04\0")];
        let sent =
            values.iter().zip(&keys).map(|(value, key)| Sent { value: Some(value), key: Some(key), ..Sent::default() });
        kafka.send(topic, sent);

        let settings = "format = \"avro\"\nkey_format = \"avro\"\non_error = { dead_letter = \"refused\" }\n";
        let site = site(kafka, topic, &registry, settings);
        site.lock(
            "the subject `lock-avro-value` of the registry",
            &["id = \"int64\"", "note = \"utf8\"", "kind = \"utf8\""],
        );
        let lock = site.workshop.read("flow.lock");
        assert!(lock.contains("\n[[schema]]\nsetting = \"input.rows.key_schema\"\nsource = \"the subject `lock-avro-key` of the registry\"\n"), "{lock}");
        let ran = site.finish(&[]);
        assert_eq!(ran.json()["nodes"]["rows"]["rows_failed"], 2, "{}", ran.stdout);
        let row = |id: u64, note: &str, kind: &str, key: &str| json!({ "id": id, "note": note, "kind": kind, "key_value": key });
        assert_eq!(site.rows(), [row(1, "hi", "B", "a"), row(2, "none", "A", "d")]);
        let names = site.workshop.list("refused");
        let refused: String = names.iter().map(|name| site.workshop.read(&format!("refused/{name}"))).collect();
        assert!(
            refused.contains("the message names no schema") && refused.contains("key: the message names no schema"),
            "{refused}"
        );

        registry.add(
            "lock-avro-value",
            "AVRO",
            &record(json!([id, { "name": "note", "type": ["null", "string"] }])),
            &[],
        );
        let said = site.refused(1, &["--connect"]);
        assert!(
            said.contains("other columns than `flow.lock`: `note` was `utf8` and is `utf8?`; `kind` is gone"),
            "{said}"
        );
    }

    #[test]
    fn types_of_protobuf_are_locked() {
        let Some(kafka) = shared() else { return };
        let (topic, registry) = ("lock-protobuf", Registry::start());
        kafka.create(topic, 1, &[]);
        let rows = "{\"a\":1,\"b\":\"x\",\"c\":[1,2]}\n{\"a\":3,\"c\":[7]}\n";
        let settings = "format = { type = \"protobuf\", message = \"test.Inner\" }\n";
        let site = site(kafka, topic, &registry, settings);
        // It is a flow that tells the registry of them.
        let types = project().join("connectors/formats/tests/data/everything.binpb");
        std::fs::copy(types, site.workshop.path("types.binpb")).unwrap();
        site.workshop.write("rows.ndjson", rows);
        let writer = format!(
            "[input.rows]\ntype = \"file\"\npath = \"rows.ndjson\"\nschema = {{ a = \"int64\", b = \"utf8?\", c = \"list<int64>?\" }}\n\
             [output.sent]\ntype = \"kafka\"\nfrom = \"rows\"\nbrokers = \"${{KAFKA_BROKERS}}\"\ntopic = \"{topic}\"\n\
             create_topics = true\nformat = {{ type = \"protobuf\", descriptors = \"types.binpb\", message = \"test.Inner\" }}\nregistry = {{ url = \"{}\" }}\n",
            registry.url()
        );
        site.workshop.write("writer.toml", &writer);
        let written = site.workshop.command(&["run", "writer.toml"]).envs(site.variables()).output().unwrap();
        let written = Ran::from(written);
        assert_eq!(written.code, 0, "{}", written.stderr);

        let types = ["a = \"int32\"", "b = \"utf8?\"", "c = \"list<uint32>\""];
        site.lock("the subject `lock-protobuf-value` of the registry", &types);
        std::fs::remove_file(site.workshop.path("types.binpb")).unwrap();
        site.finish(&[]);
        assert_eq!(site.rows(), [json!({ "a": 1, "b": "x", "c": [1, 2] }), json!({ "a": 3, "c": [7] })]);

        site.edit("test.Inner", "test.Iner");
        let said = site.refused(1, &["--connect", "--lock"]);
        assert!(said.contains("there is no message `test.Iner` in the schema"), "{said}");
    }

    #[test]
    fn what_a_registry_does_not_have_is_said() {
        let Some(kafka) = shared() else { return };
        let registry = Registry::start();
        let site = site(kafka, "lock-none", &registry, "format = \"avro\"\n");
        let said = site.refused(1, &["--connect", "--lock"]);
        assert!(said.contains("the registry has no schema under the subject `lock-none-value`"), "{said}");
        registry.add("lock-none-value", "PROTOBUF", "", &[]);
        let said = site.refused(1, &["--connect", "--lock"]);
        assert!(said.contains("it is one of PROTOBUF, and `format` is `avro`"), "{said}");
        // Of several topics, none says the columns.
        site.edit("[\"lock-none\"]", "[\"lock-*\"]");
        let said = site.refused(2, &["--connect", "--lock"]);
        assert!(said.contains("`subject` is missing") && said.contains("name a subject of the registry"), "{said}");
        site.edit("registry = {", "registry = { subject = \"some-value\",");
        let said = site.refused(2, &[]);
        assert!(said.contains("the columns of the subject `some-value` of the registry"), "{said}");
    }
}

#[test]
fn a_lock_that_was_changed_by_hand_is_refused() {
    let flow = "[input.rows]\ntype = \"generate\"\nrows = 3\ncolumns = { id = \"row\" }\n[output.out]\ntype = \"drop\"\nfrom = \"rows\"\n";
    let site = LockSite::new(flow, Vec::new());
    let said = site.checks(&["--connect", "--lock"]);
    assert!(said.contains("warning: there is nothing to lock\n"), "{said}");
    assert!(!site.workshop.exists("flow.lock"));
    let lock = "version = 1\n[[schema]]\nsetting = \"input.rows.schema\"\nsource = \"s\"\nfingerprint = \"0\"\n[schema.columns]\nid = \"int64\"\n";
    site.workshop.write("flow.lock", lock);
    let said = site.refused(2, &[]);
    let expected = "flow.lock: `input.rows.schema` is not as it was written; other columns belong into the flow file; \
                    `millstream check flow.toml --connect --lock` writes it anew\n";
    assert!(said.contains(expected), "{said}");
    site.workshop.write("flow.lock", "version = 1\n<<<<<<< ours\n");
    assert!(site.refused(2, &[]).contains("flow.lock: line 2: "));
    let ran = site.check(&["--lock"]);
    assert!(ran.code == 2 && ran.stderr.contains("--connect"), "{}", ran.stderr);
}
