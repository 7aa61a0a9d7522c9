//! The table that is written to, what it takes, and the tables beside it.

use std::collections::HashMap;

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use millstream_core::{Error, ErrorClass, Result, known_names};
use millstream_database::OutputJob;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::MysqlTable;
use super::rows::{declared, unwritable};
use crate::client::failed;
use crate::names::{Table, quoted};

/// What is known of a table before rows are written to it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// For each column that is written, what it takes.
    limits: Vec<Limit>,
    /// How many bytes a statement has at most, unless a row has more; and how many a row may have.
    pub statement_bytes: usize,
    packet_bytes: u64,
    /// Whether the server is MariaDB.
    pub is_mariadb: bool,
}

/// What a column takes.
#[derive(Clone, Debug, Default)]
struct Limit {
    takes_null: bool,
    /// The most characters of a text.
    characters: Option<u64>,
    /// The most bytes of a text or of bytes.
    bytes: Option<u64>,
}

/// Statements have about so many bytes: larger ones are no faster.
const STATEMENT_BYTES: usize = 1 << 20;

/// What is known of a column: name, whether it may be null, what it is, what it does by itself, and its longest text.
type Known = (String, String, String, String, Option<u64>, Option<u64>);

impl Target {
    /// Creates what is missing and may be created, and finds out what the table takes.
    pub async fn prepare(of: &MysqlTable, connection: &mut Conn) -> Result<Self> {
        let job = &of.job;
        if job.creates {
            create(connection, &of.table, &creation(of)).await?;
        }
        create(connection, &of.progress, &progress(&of.progress)).await?;
        if let Some(refused) = &of.refused {
            create(connection, refused, &refusals(refused)).await?;
        }
        require_transactions(connection, &of.table).await?;
        let known = known(connection, &of.table).await?;
        let limits = job.names.iter().map(|name| limit(of, &known, name)).collect::<Result<_>>()?;
        let key = job.key_names();
        if !key.is_empty() {
            of.table.require_unique(connection, &key).await?;
        }
        let found: Option<(u64, String)> = connection
            .query_first("SELECT @@max_allowed_packet, VERSION()")
            .await
            .map_err(|error| failed("asking for the settings of the server", error))?;
        let (packet, version) = found.ok_or_else(|| Error::new("the server does not say which version it is"))?;
        let packet_bytes = packet / 2;
        let statement_bytes = STATEMENT_BYTES.min(usize::try_from(packet_bytes).unwrap_or(usize::MAX));
        Ok(Self { limits, statement_bytes, packet_bytes, is_mariadb: version.contains("MariaDB") })
    }

    /// Why the table does not take a row, as far as that is known.
    pub fn refusal(&self, job: &OutputJob, rows: &RecordBatch, row: usize) -> Option<String> {
        if job.is_delete(rows, row) {
            return job.refusal_of_delete(rows, row);
        }
        let mut total = 0;
        job.columns.iter().zip(&self.limits).find_map(|(index, limit)| {
            let column = rows.column(*index);
            let name = || job.schema.field(*index).name();
            if column.is_null(row) {
                return (!limit.takes_null)
                    .then(|| format!("column `{}` is null, which the table does not take", name()));
            }
            if let Some(why) = unwritable(column.as_ref(), row) {
                return Some(format!("column `{}` {why}", name()));
            }
            let (characters, bytes) = match column.data_type() {
                DataType::Utf8 => {
                    let text = column.as_string::<i32>().value(row);
                    // Most are so short that they need not be counted.
                    let most = limit.characters.unwrap_or(u64::MAX);
                    let characters = if text.len() as u64 > most { text.chars().count() as u64 } else { 0 };
                    (characters, text.len() as u64)
                }
                DataType::Binary => (0, column.as_binary::<i32>().value(row).len() as u64),
                _ => return None,
            };
            if limit.characters.is_some_and(|most| characters > most) || limit.bytes.is_some_and(|most| bytes > most) {
                return Some(format!("column `{}` is longer than the table's", name()));
            }
            // Bytes are written as two digits each.
            total += 2 * bytes;
            (total > self.packet_bytes)
                .then(|| "the row has more bytes than a statement may have (`max_allowed_packet`)".to_owned())
        })
    }
}

async fn known(connection: &mut Conn, table: &Table) -> Result<HashMap<String, Known>> {
    // It says which tables there are if there is none of the name.
    table.columns(connection).await?;
    let columns: Vec<Known> = connection
        .exec(
            "SELECT CONVERT(column_name USING utf8mb4), CONVERT(is_nullable USING utf8mb4), CONVERT(data_type USING utf8mb4), \
             CONVERT(CONCAT(extra, IF(column_default IS NULL, '', ' default')) USING utf8mb4), character_maximum_length, \
             character_octet_length FROM information_schema.columns WHERE table_schema = ? AND table_name = ?",
            (&table.database, &table.name),
        )
        .await
        .map_err(|error| failed(format!("asking for the columns of {}", table.quoted()), error))?;
    Ok(columns.into_iter().map(|column| (column.0.to_lowercase(), column)).collect())
}

fn limit(of: &MysqlTable, known: &HashMap<String, Known>, name: &str) -> Result<Limit> {
    let Some((_, nullable, kind, extra, characters, bytes)) = known.get(&name.to_lowercase()) else {
        let help = known_names(name, known.values().map(|column| column.0.as_str()));
        return Err(Error::new(format!(
            "the table {} has no column `{name}`; {help}; what is not to be written is left out by an `sql` node",
            of.table.quoted()
        )));
    };
    if extra.contains("GENERATED") && !extra.contains("DEFAULT_GENERATED") {
        return Err(Error::new(format!(
            "`{name}` of {} is computed by the server, and can't be written",
            of.table.quoted()
        )));
    }
    let is_text = matches!(kind.as_str(), "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext");
    let is_binary = matches!(kind.as_str(), "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob");
    // A TIMESTAMP that may not be null takes one for the time of now in some servers, and a number that counts takes it for the next one.
    let takes_null = nullable == "YES" || extra.contains("auto_increment");
    Ok(Limit {
        takes_null,
        characters: characters.filter(|_| is_text && kind != "longtext"),
        bytes: bytes.filter(|_| is_text && kind.ends_with("text") || is_binary),
    })
}

/// Fails where a table could not undo what was written.
async fn require_transactions(connection: &mut Conn, table: &Table) -> Result<()> {
    let engine: Option<(Option<String>, Option<String>)> = connection
        .exec_first(
            "SELECT t.engine, e.transactions FROM information_schema.tables t LEFT JOIN information_schema.engines e USING (engine) \
             WHERE t.table_schema = ? AND t.table_name = ?",
            (&table.database, &table.name),
        )
        .await
        .map_err(|error| failed(format!("looking at {}", table.quoted()), error))?;
    match engine {
        Some((Some(engine), Some(transactions))) if transactions != "YES" => Err(Error::new(format!(
            "{} is kept by {engine}, which has no transactions; `ALTER TABLE {} ENGINE = InnoDB`",
            table.quoted(),
            table.quoted()
        ))),
        _ => Ok(()),
    }
}

/// Creates a table unless it is there. Who may not create it has to be told only if it is missing.
async fn create(connection: &mut Conn, table: &Table, statement: &str) -> Result<()> {
    let Err(error) = connection.query_drop(statement).await else { return Ok(()) };
    let error = failed(format!("creating {}", table.quoted()), error);
    if error.class() == ErrorClass::Transient {
        return Err(error);
    }
    match connection.query_drop(format!("SELECT 1 FROM {} LIMIT 0", table.quoted())).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::new(format!("{error}; the table is needed, and made by: {statement}"))),
    }
}

fn creation(of: &MysqlTable) -> String {
    let job = &of.job;
    let is_key = |index: &usize| job.key.contains(index);
    let mut parts: Vec<_> = job
        .columns
        .iter()
        .map(|index| {
            let field = job.schema.field(*index);
            format!("{} {}", quoted(field.name()), declared(field, is_key(index)))
        })
        .collect();
    if !job.key.is_empty() {
        let key: Vec<_> = job.key_names().iter().map(|name| quoted(name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = InnoDB", of.table.quoted(), parts.join(", "))
}

fn progress(table: &Table) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (flow VARCHAR(190) NOT NULL, node VARCHAR(190) NOT NULL, incarnation VARCHAR(64) NOT NULL, \
         generation BIGINT UNSIGNED NOT NULL, epoch BIGINT UNSIGNED NOT NULL, written BIGINT UNSIGNED NOT NULL, \
         PRIMARY KEY (flow, node, incarnation)) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        table.quoted()
    )
}

fn refusals(table: &Table) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, flow VARCHAR(255) NOT NULL, \
         node VARCHAR(255) NOT NULL, error TEXT NOT NULL, row_json LONGTEXT NOT NULL, refused_at TIMESTAMP(6) NOT NULL \
         DEFAULT CURRENT_TIMESTAMP(6)) ENGINE = InnoDB CHARACTER SET utf8mb4",
        table.quoted()
    )
}
