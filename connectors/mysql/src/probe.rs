//! Whether a server answers and has what a node will need, before its flow runs.

use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Probe, Result};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::changes::check_log;
use crate::client::{Server, failed};
use crate::names::{Table, require_columns};

/// What a node will need of a server.
#[derive(Default)]
pub struct Needs {
    /// Tables, each with the columns that the flow declares, if it declares them.
    pub tables: Vec<(Table, Option<SchemaRef>)>,
    /// A query, which is prepared and not run.
    pub query: Option<String>,
    /// Whether the binary log is read.
    pub log: bool,
}

/// What looks whether a server has it.
pub fn probe(server: Server, needs: Needs) -> Probe {
    Box::pin(async move {
        let mut connection = server.connect().await?;
        let looked = look(&mut connection, &server, &needs).await;
        // Whatever it says to that, it has been asked.
        let _ = connection.disconnect().await;
        looked
    })
}

async fn look(connection: &mut Conn, server: &Server, needs: &Needs) -> Result<String> {
    let version: Option<String> = connection
        .query_first("SELECT CONVERT(VERSION() USING utf8mb4)")
        .await
        .map_err(|error| failed("asking which version the server is", error))?;
    let version = version.ok_or_else(|| Error::new("the server does not say which version it is"))?;
    let mut found = Vec::new();
    for (table, schema) in &needs.tables {
        let there = table.columns(connection).await?;
        if let Some(schema) = schema {
            require_columns(schema, &there, &format!("the table `{}`", table.name))?;
        }
        found.push(format!("`{}`", table.name));
    }
    if let Some(query) = &needs.query {
        connection.prep(query.as_str()).await.map_err(|error| failed("preparing the query", error))?;
        found.push("what the query asks for".to_owned());
    }
    if needs.log {
        check_log(connection).await?;
        found.push("a binary log with all rows".to_owned());
    }
    let has = if found.is_empty() { String::new() } else { format!(", with {}", found.join(", ")) };
    Ok(format!("version {version} at `{}`{has}", server.address()))
}
