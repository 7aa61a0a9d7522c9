//! Whether a server writes all that a flow needs into its binary log.

use std::collections::HashMap;

use millstream_core::{Error, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::gtids::Gtids;
use super::place::{Place, Reached};
use crate::client::failed;

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    MySql,
    MariaDb,
}

/// The settings that have to be so, and what of the log would be missing otherwise.
const NEEDED: &[(&str, &str, &str)] = &[
    ("binlog_format", "ROW", "statements would be there in place of rows"),
    ("binlog_row_image", "FULL", "only some columns of each row would be there"),
    ("binlog_row_metadata", "FULL", "the names of columns would not be there"),
    ("binlog_row_value_options", "", "only parts of JSON would be there"),
    ("log_bin_compress", "OFF", "rows would be there in a form that can't be read"),
];

/// Checks the settings of a server, and says what it is.
pub async fn check(connection: &mut Conn) -> Result<Product> {
    let settings: Vec<(String, String)> = connection
        .query("SHOW GLOBAL VARIABLES WHERE variable_name LIKE 'binlog%' OR variable_name LIKE 'log_bin%' OR variable_name = 'version'")
        .await
        .map_err(|error| failed("asking for the settings of the binary log", error))?;
    let settings: HashMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    let get = |name: &str| settings.get(name).map(String::as_str);
    if get("log_bin") != Some("ON") {
        return Err(Error::new("the server writes no binary log; start it with `--log-bin` (and `--server-id`)"));
    }
    if get("binlog_row_metadata").is_none() {
        return Err(Error::new(
            "the server can't write the names of columns into its binary log; MySQL can from 8.0 on, and MariaDB from 10.5",
        ));
    }
    let wrong = NEEDED.iter().filter_map(|(name, needed, why)| {
        let is = get(name)?;
        let is_wrong = !is.eq_ignore_ascii_case(needed);
        is_wrong.then(|| format!("{name} is '{is}', so that {why}; say `SET GLOBAL {name} = '{needed}'`, and write it into its configuration"))
    });
    let wrong: Vec<_> = wrong.collect();
    if !wrong.is_empty() {
        return Err(Error::new(format!(
            "the binary log of the server does not say all that changes: {}",
            wrong.join("; ")
        )));
    }
    let is_mariadb = get("version").is_some_and(|version| version.contains("MariaDB"));
    Ok(if is_mariadb { Product::MariaDb } else { Product::MySql })
}

/// By what a server is told from those that may take its place.
pub async fn identity(connection: &mut Conn, product: Product) -> Result<String> {
    let name = match product {
        Product::MySql => "server_uuid",
        Product::MariaDb => "server_id",
    };
    let found: Option<String> = connection
        .query_first(format!("SELECT CAST(@@{name} AS CHAR)"))
        .await
        .map_err(|error| failed("asking which server it is", error))?;
    found.ok_or_else(|| Error::new(format!("the server does not say its `{name}`")))
}

/// The names of the files that the binary log has.
pub async fn files(connection: &mut Conn) -> Result<Vec<String>> {
    let rows: Vec<mysql_async::Row> = connection
        .query("SHOW BINARY LOGS")
        .await
        .map_err(|error| failed("asking for the files of the binary log", error))?;
    Ok(rows.iter().filter_map(|row| row.get_opt::<String, _>(0)?.ok()).collect())
}

/// Behind the last transaction.
pub async fn newest(connection: &mut Conn, product: Product) -> Result<Reached> {
    let doing = |error| failed("asking for the end of the binary log", error);
    let status = status(connection, product).await?;
    let file = status.get_opt::<String, _>(0).and_then(Result::ok);
    let position = status.get_opt::<u64, _>(1).and_then(Result::ok);
    let place = file.zip(position).map(|(file, position)| Place { file, position });
    let place = place.ok_or_else(|| Error::new("the server does not say where its binary log ends"))?;
    let gtids: Option<Option<String>> = match product {
        Product::MySql => connection.query_first("SELECT IF(@@gtid_mode = 'ON', @@gtid_executed, NULL)").await,
        Product::MariaDb => connection.exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&place.file, place.position)).await,
    }
    .map_err(doing)?;
    let gtids = gtids.flatten().map(|text| Gtids::parse(&text, product)).transpose()?.unwrap_or_default();
    // MySQL writes a transaction into its log before it counts as done, so that place and transactions may differ. The latter count.
    let server = match gtids {
        Gtids::MySql(_) => String::new(),
        Gtids::MariaDb(_) | Gtids::Unknown => identity(connection, product).await?,
    };
    Ok(Reached { server, place, gtids })
}

/// What a server says of the end of its log.
async fn status(connection: &mut Conn, product: Product) -> Result<mysql_async::Row> {
    let none = || Error::new("the server writes no binary log");
    let doing = |error| failed("asking for the end of the binary log", error);
    let statements: &[&str] = match product {
        Product::MySql => &["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"],
        Product::MariaDb => &["SHOW MASTER STATUS"],
    };
    let mut last = None;
    for statement in statements {
        match connection.query_first::<mysql_async::Row, _>(*statement).await {
            Ok(status) => return status.ok_or_else(none),
            // A server that does not know the word yet.
            Err(mysql_async::Error::Server(error)) if error.code == 1064 => last = Some(error.into()),
            Err(error) => return Err(doing(error)),
        }
    }
    Err(last.map_or_else(none, doing))
}
