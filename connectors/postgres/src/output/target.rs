//! The table that is written to, what it takes, and the tables beside it.

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use millstream_core::{Error, ErrorClass, Result, known_names};
use millstream_database::OutputJob;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::PostgresTable;
use super::copy::{declared, native, unwritable, whole};
use crate::client::failed;
use crate::names::{Column, Table, list, quoted};

/// What is known of a table before rows are written to it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// For each column that is written, its type, as SQL writes it.
    pub kinds: Vec<String>,
    /// Whether rows can be copied into the table itself: nothing has to become of them on the way.
    pub takes_copies: bool,
    /// What each column takes.
    limits: Vec<Limit>,
}

/// What a column takes.
#[derive(Clone, Debug, Default)]
struct Limit {
    takes_null: bool,
    /// The most characters of a text.
    characters: Option<u64>,
    /// The least and the greatest whole number.
    numbers: Option<(i128, i128)>,
}

impl Target {
    /// Creates what is missing and may be created, and finds out what the table takes.
    pub async fn prepare(of: &PostgresTable, client: &Client) -> Result<Self> {
        if of.job.creates {
            create(client, &of.table, &creation(of)).await?;
        }
        create(client, &of.progress, &progress(&of.progress)).await?;
        if let Some(refused) = &of.refused {
            create(client, refused, &refusals(refused)).await?;
        }
        let columns = of.table.columns(client).await?;
        let found = of.job.names.iter().map(|name| find(of, &columns, name)).collect::<Result<Vec<_>>>()?;
        if !of.job.key.is_empty() {
            of.table.require_key(client, &of.job.key_names()).await?;
        }
        let are_same = of.job.columns.iter().zip(&found).all(|(index, column)| {
            let native = native(of.job.schema.field(*index).data_type());
            native.is_some_and(|native| has_form(column.oid, &native))
        });
        // What takes the place of another row goes through a table beside it.
        let takes_copies = of.job.key.is_empty() && are_same && of.table.takes_copies(client).await?;
        Ok(Self {
            takes_copies,
            kinds: found.iter().map(|column| column.kind.clone()).collect(),
            limits: found.into_iter().map(limit).collect(),
        })
    }

    /// Why the table does not take rows, as far as that is known.
    pub fn refusals(&self, job: &OutputJob, rows: &RecordBatch) -> Vec<Option<String>> {
        let mut refusals = vec![None; rows.num_rows()];
        let deletes: Vec<bool> = (0..rows.num_rows()).map(|row| job.is_delete(rows, row)).collect();
        for (row, refusal) in refusals.iter_mut().enumerate().filter(|(row, _)| deletes[*row]) {
            *refusal = job.refusal_of_delete(rows, row);
        }
        for (index, limit) in job.columns.iter().zip(&self.limits) {
            let column = rows.column(*index).as_ref();
            if limit.takes_all(column) {
                continue;
            }
            let is_key = job.key.contains(index);
            for (row, refusal) in refusals.iter_mut().enumerate() {
                if refusal.is_none() && (is_key || !deletes[row]) {
                    let why = limit.refusal(column, row);
                    *refusal = why.map(|why| format!("column `{}` {why}", job.schema.field(*index).name()));
                }
            }
        }
        refusals
    }
}

impl Limit {
    /// Whether there is nothing in a column that could be refused.
    fn takes_all(&self, column: &dyn Array) -> bool {
        if column.null_count() > 0 && !self.takes_null || self.characters.is_some() || self.numbers.is_some() {
            return false;
        }
        match column.data_type() {
            DataType::Utf8 => !column.as_string::<i32>().value_data().contains(&0),
            DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::List(_) => false,
            _ => true,
        }
    }

    fn refusal(&self, column: &dyn Array, row: usize) -> Option<&'static str> {
        if column.is_null(row) {
            return (!self.takes_null).then_some("is null, which the table does not take");
        }
        if let Some(why) = unwritable(column, row) {
            return Some(why);
        }
        if let (Some(most), DataType::Utf8) = (self.characters, column.data_type()) {
            let text = column.as_string::<i32>().value(row);
            // Most are so short that they need not be counted. Blanks at the end are cut off.
            let is_longer = |text: &str| text.len() as u64 > most && text.chars().count() as u64 > most;
            return (is_longer(text) && is_longer(text.trim_end_matches(' '))).then_some("is longer than the table's");
        }
        let (least, most) = self.numbers?;
        let number = whole(column, row)?;
        (!(least..=most).contains(&number)).then_some("is too large or too small for the table's")
    }
}

/// Whether values that are copied as one type can be copied into a column of another.
fn has_form(oid: u32, native: &Type) -> bool {
    oid == native.oid() || *native == Type::TEXT && [Type::VARCHAR.oid(), Type::BPCHAR.oid()].contains(&oid)
}

fn find(of: &PostgresTable, columns: &[Column], name: &str) -> Result<Column> {
    let Some(column) = columns.iter().find(|column| column.name == name) else {
        let help = known_names(name, columns.iter().map(|column| column.name.as_str()));
        return Err(Error::new(format!(
            "the table {} has no column `{name}`; {help}; what is not to be written is left out by an `sql` node",
            of.table.quoted()
        )));
    };
    if column.is_generated {
        return Err(Error::new(format!(
            "`{name}` of {} is computed by the server, and can't be written",
            of.table.quoted()
        )));
    }
    Ok(column.clone())
}

fn limit(column: Column) -> Limit {
    let numbers = match column.kind.as_str() {
        "smallint" => Some((i16::MIN.into(), i16::MAX.into())),
        "integer" => Some((i32::MIN.into(), i32::MAX.into())),
        "bigint" => Some((i64::MIN.into(), i64::MAX.into())),
        _ => None,
    };
    Limit { takes_null: column.takes_null, characters: column.characters, numbers }
}

/// Creates a table unless it is there. Who may not create it has to be told only if it is missing.
async fn create(client: &Client, table: &Table, statement: &str) -> Result<()> {
    let Err(error) = client.batch_execute(statement).await else { return Ok(()) };
    let error = failed(format!("creating {}", table.quoted()), error);
    if error.class() == ErrorClass::Transient {
        return Err(error);
    }
    match client.batch_execute(&format!("SELECT 1 FROM {} LIMIT 0", table.quoted())).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::new(format!("{error}; the table is needed, and made by: {statement}"))),
    }
}

fn creation(of: &PostgresTable) -> String {
    let job = &of.job;
    let column = |index: &usize| {
        let field = job.schema.field(*index);
        let takes_null = field.is_nullable() && !job.key.contains(index);
        let null = if takes_null { "" } else { " NOT NULL" };
        format!("{} {}{null}", quoted(field.name()), declared(field.data_type()))
    };
    let mut parts: Vec<_> = job.columns.iter().map(column).collect();
    if !job.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(job.key_names().iter().map(String::as_str))));
    }
    format!("CREATE TABLE IF NOT EXISTS {} ({})", of.table.quoted(), parts.join(", "))
}

fn progress(table: &Table) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (flow text NOT NULL, node text NOT NULL, incarnation text NOT NULL, generation bigint NOT NULL, \
         epoch bigint NOT NULL, written bigint NOT NULL, PRIMARY KEY (flow, node, incarnation))",
        table.quoted()
    )
}

fn refusals(table: &Table) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, flow text NOT NULL, node text NOT NULL, \
         error text NOT NULL, row_json text NOT NULL, refused_at timestamptz NOT NULL DEFAULT now())",
        table.quoted()
    )
}
