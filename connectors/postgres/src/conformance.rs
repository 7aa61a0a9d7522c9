//! The suites that every node passes, with a real server.

use std::rc::Rc;
use std::sync::OnceLock;

use millstream_core::{InputSettings as _, NodeTypes};
use millstream_testkit::{
    Given, InputSamples, OutputSamples, Postgres, Sample, Source, Target, check_examples, check_inputs, check_outputs,
    check_processors, context, parse, table,
};

use crate::query::PostgresQuerySettings;
use crate::register;

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    register(&mut types);
    types
}

/// What is wrong in settings of a query, and where.
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

/// What is wrong in settings of changes, and where.
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
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\nslot = 'A-b'\ntables.t.schema = { id = 'int64' }", "slot"),
    ("address = 'a'\nuser = 'u'\ndatabase = 'd'\npublication = ''\ntables.t.schema = { id = 'int64' }", "publication"),
];

/// Rows of all kinds, of which the ones with an id from 90 on don't fit.
const ROWS: &str = "
    DROP TABLE IF EXISTS things;
    DROP TYPE IF EXISTS kind;
    CREATE TYPE kind AS ENUM ('small', 'large');
    CREATE TABLE things (id bigint PRIMARY KEY, name varchar(20), amount numeric(10,2), day date, at timestamptz, \"then\" timestamp, kind kind,
        is_it boolean, bytes bytea, ratio double precision, size bigint, clock time, note jsonb, number uuid, many int[]);
    ALTER TABLE things REPLICA IDENTITY FULL";

const SCHEMA: &str = "{ id = 'int64', name = 'utf8?', amount = 'decimal(10,2)?', day = 'date?', at = 'timestamp?', then = 'timestamp?', \
                      kind = 'utf8?', is_it = 'boolean?', bytes = 'binary?', ratio = 'float64?', size = 'uint16?', clock = 'time?', \
                      note = 'json?', number = 'utf8?', many = 'utf8?' }";

const FIRST: &str = r#"
    INSERT INTO things VALUES
        (1, 'Zoë', 12.50, '2026-01-31', '2026-01-31 12:00:00.000001+00', '2026-01-31 12:00:00', 'small', true, '\x00ff', 1.5, 7, '12:30:00.5',
         '{"a": [1, "x"]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,2}'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, '', -0.05, '1969-12-31', '1970-01-01 00:00:01+00', '0044-03-15 12:00:00 BC', 'large', false, '', 'NaN', 0, '00:00:00', '[]', NULL, '{}')"#;

const SECOND: &str = "
    INSERT INTO things (id, name, size) VALUES (4, 'O''Hara\\\\', 65535), (90, 'too large', 65536);
    UPDATE things SET name = 'Ada' WHERE id = 1;
    DELETE FROM things WHERE id = 2;
    UPDATE things SET id = 5 WHERE id = 3";

fn query(postgres: &Postgres, name: &'static str, more: &str) -> String {
    let tls = format!("tls = {{ ca = '{}' }}\n", postgres.ca());
    format!("{}{tls}table = '{name}'\nschema = {SCHEMA}\nkey = ['id']\n{more}", postgres.settings())
}

fn made(postgres: &Rc<Postgres>, statements: &[&str]) -> impl Fn(&std::path::Path) + 'static {
    let (postgres, statements) = (postgres.clone(), statements.join(";\n"));
    move |_| postgres.say(&statements)
}

#[test]
fn examples_are_accepted() {
    check_examples(&types());
}

#[test]
fn inputs() {
    let Some(postgres) = Postgres::start().map(Rc::new) else { return };
    let all = [ROWS, FIRST, SECOND];
    let queries = vec![
        Source::new(query(&postgres, "things", ""), 3, 1, made(&postgres, &all)),
        Source::new(query(&postgres, "things", "page_rows = 2\ncursor = 'size'"), 3, 1, made(&postgres, &all)),
        Source::new(
            query(&postgres, "things", "page_rows = 1\ncursor = 'at'\nevery = '100ms'"),
            2,
            0,
            made(&postgres, &all),
        ),
        Source::new(query(&postgres, "things", ""), 0, 0, made(&postgres, &[ROWS])),
    ];
    let changes = |more: &str| {
        let table = format!(
            "tables.things.schema = {SCHEMA}\nmetadata = {{ what = 'op', before = 'before' }}\nheartbeat = '1s'"
        );
        format!("{}{table}\n{more}", postgres.settings())
    };
    let later = Source::new(changes("start = 'latest'"), 5, 1, made(&postgres, &[ROWS, FIRST]));
    let changes = vec![
        Source::new(changes("chunk_rows = 2"), 3, 1, made(&postgres, &all)),
        later.with_rest(made(&postgres, &[SECOND])),
        Source::new(changes(""), 0, 0, made(&postgres, &[ROWS])),
    ];
    let samples = [
        InputSamples { node: "postgres_query", sources: queries, wrong: WRONG_QUERY, excuses: &[] },
        InputSamples { node: "postgres_changes", sources: changes, wrong: WRONG_CHANGES, excuses: &[] },
    ];
    check_inputs(&types(), &samples);
}

/// A server that closures without captures find.
fn shared() -> Option<&'static Postgres> {
    static POSTGRES: OnceLock<Option<Postgres>> = OnceLock::new();
    POSTGRES.get_or_init(Postgres::start).as_ref()
}

/// Settings that live as long as the process, with a server whose port is known only now.
fn leaked(postgres: &Postgres, more: &str) -> &'static str {
    Box::leak(format!("{}{more}", postgres.settings()).into_boxed_str())
}

#[test]
fn outputs() {
    let Some(postgres) = shared() else { return };
    let rows = table(&format!(
        "id:int64 name:utf8 ratio:float64\n{}",
        (0..40).map(|id| format!("{id} name_{id} {}.5\n", id * 3)).collect::<String>()
    ));
    fn prepare(_: &std::path::Path) {
        shared().unwrap().say(
            "DROP TABLE IF EXISTS written;\nCREATE TABLE written (id numeric, name varchar(50), ratio float8);\nDROP TABLE IF EXISTS \
             millstream_epochs",
        );
    }
    fn prepare_none(folder: &std::path::Path) {
        prepare(folder);
        shared().unwrap().say("DROP TABLE IF EXISTS written");
    }
    fn visible(_: &std::path::Path) -> Vec<String> {
        let postgres = shared().unwrap();
        match postgres.rows("SELECT to_regclass('written')").as_slice() {
            [none] if none == "NULL" => Vec::new(),
            _ => postgres.rows("SELECT * FROM written"),
        }
    }
    let small = "table = 'written'\ntransaction_rows = 3";
    let targets = vec![
        Target::new(leaked(postgres, small), visible).prepared(prepare),
        Target::new(leaked(postgres, "table = 'written'\ncreate_table = true"), visible).prepared(prepare_none),
    ];
    let wrong = &[
        ("address = 'a b'\nuser = 'u'\ndatabase = 'd'\ntable = 't'", "address"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = ''", "table"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nkey = ['x']", "key.0"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nop = 'id'\nkey = ['id']", "op"),
        ("address = 'a'\nuser = 'u'\ndatabase = 'd'\ntable = 't'\nop = 'name'", "op"),
    ];
    check_outputs(&types(), &[OutputSamples { node: "postgres", targets, wrong, excuses: &[] }], &rows);
}

#[test]
fn processors() {
    let Some(postgres) = shared() else { return };
    postgres.say(
        "DROP TABLE IF EXISTS sorts;\n\
         CREATE TABLE sorts (id int PRIMARY KEY, name varchar(20), weight int);\n\
         INSERT INTO sorts VALUES (0, 'none', 3), (1, 'Ada', NULL), (2, 'Zoë', 70000)",
    );
    let text: String = (0..250)
        .map(|row| format!("1970-01-01T00:0{}:{:02}Z {} x{}\n", row / 60, row % 60, row % 5, row % 3))
        .collect();
    let from = table(&format!("at:timestamp n:int64 word:utf8\n{text}"));
    let on = "table = 'sorts'\non = { n = 'id' }\nschema = { name = 'utf8?', weight = 'uint16?' }\n";
    let samples = [
        Sample { node: "postgres_lookup", settings: leaked(postgres, on) },
        Sample {
            node: "postgres_lookup",
            settings: leaked(postgres, &format!("{on}missing = 'fail'\ncache_time = '0s'")),
        },
    ];
    check_processors(&types(), &samples, &Given::new(from.clone(), from));
}

/// What `check --connect` says of who comes in this way.
fn look(postgres: &Postgres, connection: &str) -> Result<String, String> {
    let settings = format!(
        "address = '{}'\ndatabase = 'shop'\nquery = 'SELECT 1 AS id'\nschema = {{ id = 'int64' }}\nkey = ['id']\n{connection}",
        postgres.address()
    );
    let probe = parse::<PostgresQuerySettings>(&settings).probe(&context()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(probe).map_err(|error| error.to_string())
}

#[test]
fn who_may_come_comes() {
    let Some(postgres) = shared() else { return };
    let [ca, certificate, key] =
        ["POSTGRES_CA", "POSTGRES_CLIENT_CERTIFICATE", "POSTGRES_CLIENT_KEY"].map(|name| postgres.services().get(name));
    let password = "password = 'canary-41d7'\n";
    let trusting = format!("tls = {{ ca = '{ca}' }}\n");
    let there = |connection: String| {
        let found = look(postgres, &connection);
        assert!(found.as_ref().is_ok_and(|found| found.starts_with("PostgreSQL 1")), "{connection}: {found:?}");
    };
    there(format!("user = 'plain'\n{password}"));
    there(format!("user = 'tls'\n{password}{trusting}"));
    there(format!("user = 'certified'\ntls = {{ ca = '{ca}', certificate = '{certificate}', key = '{key}' }}"));
    let not_there = |connection: String, why: &str| {
        let found = look(postgres, &connection).unwrap_err();
        assert!(found.contains(why) && !found.contains("canary"), "{connection}: {found}");
    };
    not_there(format!("user = 'tls'\n{password}"), "no pg_hba.conf entry");
    not_there("user = 'plain'\npassword = 'canary-wrong'".to_owned(), "password authentication failed for user");
    not_there("user = 'plain'".to_owned(), "password");
    not_there(format!("user = 'certified'\n{trusting}"), "certificate");
    not_there(format!("user = 'tls'\n{password}tls = {{ ca = '{certificate}' }}"), "invalid peer certificate");
}
