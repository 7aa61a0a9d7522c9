//! Rows of tables of MySQL and MariaDB, and what is said of who asks for them.

use millstream_testkit::Mysql;

use super::{both, shared};
use crate::databases::changes::CHANGES;
use crate::databases::{TableSite, reading, who_may_not_come_is_told};
use crate::millstream::{Ran, project};
use crate::site::Site as _;

#[test]
fn rows_are_looked_up() {
    both().for_each(reading::rows_are_looked_up);
}

#[test]
fn rows_that_are_new_are_read_run_by_run() {
    both().for_each(reading::rows_that_are_new_are_read_run_by_run);
}

#[test]
fn who_may_not_come() {
    let Some(mysql) = shared("mysql") else { return };
    who_may_not_come_is_told(mysql, CHANGES, "Access denied for user 'alice'");
}

#[test]
fn what_is_not_there_has_a_nearest_name() {
    for mysql in both() {
        let site = TableSite::new(mysql, CHANGES, true);
        site.edit("n = \"int64\"", "nn = \"int64\"");
        let failure = site.failure(&[]);
        assert!(failure.contains("there is no column `nn` in the table `${TABLE}`"), "{failure}");
        site.edit("table = \"${TABLE}\"", "table = \"${TABLE}x\"");
        let failure = site.failure(&[]);
        let said = "there is no table `${TABLE}x` in the database `shop` that the user can see; did you mean";
        assert!(failure.contains(said), "{failure}");
    }
}

/// Nodes of all kinds that look at the table.
const NODES: &str = r#"
[input.rows]
type = "mysql_query"
connection = "shop"
query = "SELECT id FROM ${TABLE}"
schema = { id = "int64" }
key = ["id"]
[processor.names]
type = "mysql_lookup"
from = "rows"
connection = "shop"
table = "${TABLE}"
on = ["id"]
schema = { text = "utf8?" }
on_error = "fail"
[output.out]
type = "mysql"
from = "names"
connection = "shop"
table = "${TABLE}"
"#;

#[test]
fn check_connects_and_says_what_is_there() {
    for mysql in both() {
        let (site, nodes) = (TableSite::new(mysql, CHANGES, true), TableSite::new(mysql, NODES, true));
        let ran = check(&site, "canary-41d7");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let found = ["input `shop`: version ", "a binary log with all rows"];
        assert!(found.iter().all(|found| ran.stdout.contains(found)), "{}", ran.stdout);
        let ran = check(&nodes, "canary-41d7");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for found in ["input `rows`: version ", "what the query asks for", "processor `names`: ", "output `out`: "] {
            assert!(ran.stdout.contains(found), "{}", ran.stdout);
        }
        let ran = check(&nodes, "canary-wrong");
        assert!(ran.code == 1 && ran.stderr.contains("Access denied"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
        for (from, to, said) in [
            ("text = \"utf8?\"", "texts = \"utf8?\"", "there is no column `texts`"),
            ("table = \"${TABLE}\"\non", "table = \"nobody\"\non", "there is no table `nobody`"),
            ("SELECT id FROM", "SELECT idd FROM", "preparing the query"),
        ] {
            nodes.edit(from, to);
            let ran = check(&nodes, "canary-41d7");
            assert!(ran.code == 1 && ran.stderr.contains(said), "{said}: {}{}", ran.stdout, ran.stderr);
            nodes.edit(to, from);
        }
    }
}

fn check(site: &TableSite<'_, Mysql>, password: &str) -> Ran {
    let mut command = site.workshop.command(&["check", "--connect", "flow.toml"]);
    command.envs(site.variables()).env("MYSQL_PASSWORD", password).output().unwrap().into()
}

#[test]
fn the_flow_of_the_library_takes_what_is_new() {
    let Some(mysql) = shared("mysql") else { return };
    let site = TableSite::new(mysql, "", true);
    let flow = std::fs::read_to_string(project().join("flows/mysql_to_parquet.toml")).unwrap();
    site.workshop.write("flow.toml", &flow);
    let orders = |values: &str| {
        mysql.say(&format!(
            "CREATE TABLE IF NOT EXISTS orders (id BIGINT PRIMARY KEY, customer BIGINT, amount DECIMAL(10,2), status VARCHAR(20), \
             updated_at DATETIME(6));\nREPLACE INTO orders VALUES {values}"
        ));
        let mut command = site.command(&["--state", "state"]);
        let ran: Ran = command.env("MYSQL_USER", "alice").output().unwrap().into();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json()["nodes"]["orders"].clone()
    };
    let first = orders("(1, 7, 12.50, 'paid', '2026-01-31 12:00:00'), (2, NULL, 3.00, NULL, '2026-01-31 12:00:01')");
    assert_eq!(first["rows_out"]["main"], 2, "{first}");
    orders("(1, 7, 12.50, 'sent', '2026-01-31 12:00:02'), (3, 7, 1.00, 'paid', '2026-01-31 12:00:03')");
    let files = site.workshop.list("out/orders").into_iter().filter(|name| name.ends_with(".parquet")).count();
    assert!(files >= 2, "{:?}", site.workshop.list("out/orders"));
}
