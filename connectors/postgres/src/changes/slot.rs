//! What a server needs so that it keeps its log until it was read: a publication, which says of which tables, and a slot, which says how far.

use millstream_core::{Error, Result};
use tokio_postgres::Client;

use super::place::Place;
use super::reader::Job;
use crate::client::failed;
use crate::names::quoted;

/// Fails unless the server writes what is needed into its log.
pub async fn check_server(client: &Client) -> Result<()> {
    let sql = "SELECT current_setting('wal_level'), current_setting('server_version_num')::int, pg_is_in_recovery()";
    let row =
        client.query_one(sql, &[]).await.map_err(|error| failed("asking for the settings of the server", error))?;
    let (level, version, is_copy): (String, i32, bool) = (row.get(0), row.get(1), row.get(2));
    if level != "logical" {
        return Err(Error::new(format!(
            "wal_level is '{level}', so that the log of the server does not say which rows change; set `wal_level = logical` in its configuration, \
             and start it again"
        )));
    }
    if version < 140_000 {
        return Err(Error::new("the server is too old; its log can be read from PostgreSQL 14 on"));
    }
    if is_copy {
        return Err(Error::new("the server follows another one; connect to that"));
    }
    Ok(())
}

/// Fails unless the log has whole rows of the tables before a change.
pub async fn check_identities(client: &Client, job: &Job) -> Result<()> {
    let sql = "SELECT c.relreplident::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1::text AND c.relname = $2::text";
    let doing = |error| failed("asking what the log has of rows", error);
    let mut wrong = Vec::new();
    for table in &job.tables {
        let found = client.query_opt(sql, &[&table.table.schema, &table.table.name]).await.map_err(doing)?;
        if found.is_none_or(|row| row.get::<_, String>(0) != "f") {
            wrong.push(format!("`ALTER TABLE {} REPLICA IDENTITY FULL`", table.table.quoted()));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("the log does not have whole rows from before a change; say {}", wrong.join(" and "))))
}

/// Makes the publication unless there is one, and makes sure that it has the tables. Who begins may add tables to one that the flow has made; who goes
/// on may not, since a table that is missing then has been made again, and has changed without a word in the log.
pub async fn prepare_publication(client: &Client, job: &Job, begins: bool) -> Result<()> {
    let publication = quoted(&job.publication);
    let doing = |error| failed(format!("looking for the publication {publication}"), error);
    let sql =
        "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = $1::text";
    let Some(found) = client.query_opt(sql, &[&job.publication]).await.map_err(doing)? else {
        return create_publication(client, job).await;
    };
    if !found.get::<_, bool>(0) {
        return Err(Error::new(format!(
            "the publication {publication} does not have all that happens; say `ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, \
             truncate')`"
        )));
    }
    let sql = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1::text";
    let found = client.query(sql, &[&job.publication]).await.map_err(doing)?;
    let is_there = |schema: &str, name: &str| {
        found.iter().any(|row| row.get::<_, String>(0) == schema && row.get::<_, String>(1) == name)
    };
    let tables = job.tables.iter().map(|table| &table.table);
    let missing: Vec<_> = tables.filter(|table| !is_there(&table.schema, &table.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tables: Vec<_> = missing.iter().map(|table| table.quoted()).collect();
    let statement = format!("ALTER PUBLICATION {publication} ADD TABLE {}", tables.join(", "));
    if begins && job.owns_publication {
        return client.batch_execute(&statement).await.map_err(|error| failed(&statement, error));
    }
    let reset = if begins { "" } else { ", and `--reset` of the node begins with the tables anew" };
    Err(Error::new(format!(
        "the publication {publication} does not have {}; say `{statement}`{reset}",
        tables.join(", ")
    )))
}

async fn create_publication(client: &Client, job: &Job) -> Result<()> {
    let tables: Vec<_> = job.tables.iter().map(|table| table.table.quoted()).collect();
    let statement = format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        quoted(&job.publication),
        tables.join(", ")
    );
    client.batch_execute(&statement).await.map_err(|error| {
        let error = failed("making a publication", error);
        let class = error.class();
        Error::new(format!("{error}; somebody who may has to say: {statement}")).of_class(class)
    })
}

/// Drops a slot that was left by a run that has begun, and has come to no checkpoint.
pub async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    let doing = |error| failed(format!("dropping the slot `{slot}`, which was there already"), error);
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1::text";
    client.query(sql, &[&slot]).await.map(drop).map_err(doing)
}

/// Fails unless the server still has its log from a place on.
pub async fn check_slot(client: &Client, slot: &str, from: Place) -> Result<()> {
    let doing = |error| failed(format!("looking for the slot `{slot}`"), error);
    let sql = "SELECT database IS NOT DISTINCT FROM current_database() AND plugin IS NOT DISTINCT FROM 'pgoutput', \
               coalesce(wal_status, '') = 'lost', confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1::text";
    let found = client.query_opt(sql, &[&slot]).await.map_err(doing)?;
    let lost = |why: &str| {
        Error::new(format!(
            "{why}, so that changes behind {from} are lost; `--reset` of the node begins with the tables anew"
        ))
    };
    let Some(found) = found else { return Err(lost(&format!("the slot `{slot}` is gone"))) };
    if !found.get::<_, bool>(0) {
        return Err(lost(&format!("the slot `{slot}` is now one of another database or for another program")));
    }
    if found.get::<_, bool>(1) {
        return Err(lost(&format!(
            "the server has removed the log that the slot `{slot}` needs (`max_slot_wal_keep_size`)"
        )));
    }
    let confirmed: Option<String> = found.get(2);
    let confirmed: Place = confirmed.as_deref().unwrap_or("0/0").parse()?;
    if confirmed > from {
        return Err(lost(&format!("somebody else has read the log by the slot `{slot}` up to {confirmed}")));
    }
    Ok(())
}
