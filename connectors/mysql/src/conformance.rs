//! The suites that every node passes, with real servers.

use std::rc::Rc;
use std::sync::OnceLock;

use millstream_core::NodeTypes;
use millstream_testkit::{
    Given, InputSamples, Mysql, OutputSamples, Sample, Source, Target, check_examples, check_inputs, check_outputs,
    check_processors, table,
};

use crate::register;

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    register(&mut types);
    types
}

const WRONG_QUERY: &[(&str, &str)] = &[
    ("address = 'a b'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']", "address"),
    ("address = 'a:x'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']", "address"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 'a.b.c'\nschema = { id = 'int64' }\nkey = ['id']", "table"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\nquery = 'a; b'\nschema = { id = 'int64' }\nkey = ['id']", "query"),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nquery = 'q'\nschema = { id = 'int64' }\nkey = ['id']",
        "query",
    ),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = []", "key"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'float64' }\nkey = ['id']", "key"),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'list<int64>' }\nkey = ['id']",
        "schema.id",
    ),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']\ncursor = 'at'",
        "cursor",
    ),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']\nevery = '1s'",
        "every",
    ),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']\ntls = { key = 'k' }",
        "tls",
    ),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nschema = { id = 'int64' }\nkey = ['id']\ntls = { ca = 'nowhere' }",
        "tls.ca",
    ),
];

const WRONG_CHANGES: &[(&str, &str)] = &[
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntables = {}", "tables"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntables.T.schema = { id = 'int64' }", "tables.T"),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntables.t = { table = 'a.b.c', schema = { id = 'int64' } }",
        "tables.t.table",
    ),
    (
        "address = 'a'\nuser = 'u'\ndatabase = 'd'\ntables.t = { schema = { id = 'int64' }, key = ['x'] }",
        "tables.t.key",
    ),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntables.t.schema = { op = 'int64' }", "tables.t.schema.op"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\nserver_id = 0\ntables.t.schema = { id = 'int64' }", "server_id"),
];

/// Rows of all kinds, of which the ones with an id from 90 on don't fit.
const ROWS: &str = "
    DROP TABLE IF EXISTS things;
    CREATE TABLE things (id BIGINT PRIMARY KEY, name VARCHAR(20) CHARACTER SET latin1, amount DECIMAL(10,2), day DATE, at TIMESTAMP(6) NULL,
        kind ENUM('small', 'large'), marks SET('a', 'b', 'c'), bits BIT(3), bytes VARBINARY(5), ratio DOUBLE, size INT UNSIGNED,
        clock TIME(3), note JSON)";

const SCHEMA: &str = "{ id = 'int64', name = 'utf8?', amount = 'decimal(10,2)?', day = 'date?', at = 'timestamp?', kind = 'utf8?', \
                      marks = 'utf8?', bits = 'uint8?', bytes = 'binary?', ratio = 'float64?', size = 'uint16?', clock = 'time?', note = 'json?' }";

const FIRST: &str = r#"
    INSERT INTO things VALUES
        (1, 'Zoë', 12.50, '2026-01-31', '2026-01-31 12:00:00.000001', 'small', 'a,c', b'101', x'00ff', 1.5, 7, '12:30:00.5', '{"a": [1, "x"]}'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, '', -0.05, '1969-12-31', '1970-01-01 00:00:01', 'large', '', b'0', '', -1e300, 0, '00:00:00', '[]')"#;

const SECOND: &str = "
    INSERT INTO things (id, name, size) VALUES (4, 'O''Hara\\\\', 65535), (90, 'too large', 65536);
    UPDATE things SET name = 'Ada' WHERE id = 1;
    DELETE FROM things WHERE id = 2;
    UPDATE things SET id = 5 WHERE id = 3";

fn query(mysql: &Rc<Mysql>, name: &'static str, more: &str) -> String {
    let tls = format!("tls = {{ ca = '{}' }}\n", mysql.ca());
    format!("{}{tls}table = '{name}'\nschema = {SCHEMA}\nkey = ['id']\n{more}", mysql.settings())
}

fn made(mysql: &Rc<Mysql>, statements: &[&str]) -> impl Fn(&std::path::Path) + 'static {
    let (mysql, statements) = (mysql.clone(), statements.join(";\n"));
    move |_| mysql.say(&statements)
}

#[test]
fn examples_are_accepted() {
    check_examples(&types());
}

#[test]
fn inputs() {
    for product in Mysql::PRODUCTS {
        let Some(mysql) = Mysql::start(product).map(Rc::new) else { return };
        let all = [ROWS, FIRST, SECOND];
        let queries = vec![
            Source::new(query(&mysql, "things", ""), 3, 1, made(&mysql, &all)),
            Source::new(query(&mysql, "things", "page_rows = 2\ncursor = 'size'"), 3, 1, made(&mysql, &all)),
            Source::new(
                query(&mysql, "things", "page_rows = 1\ncursor = 'at'\nevery = '100ms'"),
                2,
                0,
                made(&mysql, &all),
            ),
            Source::new(query(&mysql, "things", ""), 0, 0, made(&mysql, &[ROWS])),
        ];
        let changes = |more: &str| {
            let table = format!(
                "tables.things.schema = {SCHEMA}\nmetadata = {{ what = 'op', before = 'before' }}\nheartbeat = '1s'"
            );
            format!("{}{table}\n{more}", mysql.settings())
        };
        let later = Source::new(changes("start = 'latest'"), 5, 1, made(&mysql, &[ROWS, FIRST]));
        let changes = vec![
            Source::new(changes("chunk_rows = 2"), 3, 1, made(&mysql, &all)),
            later.with_rest(made(&mysql, &[SECOND])),
            Source::new(changes(""), 0, 0, made(&mysql, &[ROWS])),
        ];
        let samples = [
            InputSamples { node: "mysql_query", sources: queries, wrong: WRONG_QUERY, excuses: &[] },
            InputSamples { node: "mysql_changes", sources: changes, wrong: WRONG_CHANGES, excuses: &[] },
        ];
        check_inputs(&types(), &samples);
    }
}

/// A server that closures without captures find.
fn shared() -> Option<&'static Mysql> {
    static MYSQL: OnceLock<Option<Mysql>> = OnceLock::new();
    MYSQL.get_or_init(|| Mysql::start("mysql")).as_ref()
}

/// Settings that live as long as the process, with a server whose port is known only now.
fn leaked(mysql: &Mysql, more: &str) -> &'static str {
    Box::leak(format!("{}{more}", mysql.settings()).into_boxed_str())
}

#[test]
fn outputs() {
    let Some(mysql) = shared() else { return };
    let rows = table(&format!(
        "id:int64 name:utf8 ratio:float64\n{}",
        (0..40).map(|id| format!("{id} name_{id} {}.5\n", id * 3)).collect::<String>()
    ));
    fn prepare(_: &std::path::Path) {
        let mysql = shared().unwrap();
        mysql.say("DROP TABLE IF EXISTS written;\nCREATE TABLE written (id BIGINT, name VARCHAR(50), ratio DOUBLE);\nDROP TABLE IF EXISTS millstream_epochs");
    }
    fn prepare_none(folder: &std::path::Path) {
        prepare(folder);
        shared().unwrap().say("DROP TABLE IF EXISTS written");
    }
    fn visible(_: &std::path::Path) -> Vec<String> {
        let mysql = shared().unwrap();
        let there =
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'written'";
        match mysql.value(there) {
            mysql_async::Value::Int(0) => Vec::new(),
            _ => mysql.rows("SELECT * FROM written"),
        }
    }
    let small = "table = 'written'\ntransaction_rows = 3";
    let targets = vec![
        Target::new(leaked(mysql, small), visible).prepared(prepare),
        Target::new(leaked(mysql, "table = 'written'\ncreate_table = true"), visible).prepared(prepare_none),
    ];
    let wrong = &[
        ("address = 'a b'\nuser = 'u'\ndatabase = 'd'\ntable = 't'", "address"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = ''", "table"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nkey = ['x']", "key.0"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nop = 'id'\nkey = ['id']", "op"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nop = 'name'", "op"),
    ];
    check_outputs(&types(), &[OutputSamples { node: "mysql", targets, wrong, excuses: &[] }], &rows);
}

#[test]
fn processors() {
    let Some(mysql) = shared() else { return };
    mysql.say(
        "DROP TABLE IF EXISTS sorts;\n\
         CREATE TABLE sorts (id INT PRIMARY KEY, name VARCHAR(20), weight INT NULL);\n\
         INSERT INTO sorts VALUES (0, 'none', 3), (1, 'Ada', NULL), (2, 'Zoë', 70000)",
    );
    let text: String = (0..250)
        .map(|row| format!("1970-01-01T00:0{}:{:02}Z {} x{}\n", row / 60, row % 60, row % 5, row % 3))
        .collect();
    let from = table(&format!("at:timestamp n:int64 word:utf8\n{text}"));
    let on = "table = 'sorts'\non = { n = 'id' }\nschema = { name = 'utf8?', weight = 'uint16?' }\n";
    let samples = [
        Sample { node: "mysql_lookup", settings: leaked(mysql, on) },
        Sample { node: "mysql_lookup", settings: leaked(mysql, &format!("{on}missing = 'fail'\ncache_time = '0s'")) },
    ];
    check_processors(&types(), &samples, &Given::new(from.clone(), from));
}
