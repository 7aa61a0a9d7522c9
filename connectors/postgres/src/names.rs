//! Identifiers, and which tables and columns a server has.

use arrow::datatypes::Schema;
use millstream_core::{Error, Problem, Result, known_names};
use millstream_database::can_be_key;
use tokio_postgres::Client;

use crate::client::failed;

/// How many bytes a name has at most; PostgreSQL cuts off the rest.
const NAME_BYTES: usize = 63;

/// An identifier as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The names of columns.
pub fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

/// A list of identifiers as SQL writes it.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A text as SQL writes it. Sessions take a backslash for itself (`standard_conforming_strings`), so that only quotes need care.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The condition that a row lies behind one of which these are the values, as the server has written them, in the order of some columns. It is
/// written so that a server can begin there in an index; the server takes each text for a value of its column's type.
pub fn behind(order: &[String], after: &[String]) -> Option<String> {
    if order.is_empty() || after.is_empty() {
        return None;
    }
    let values: Vec<_> = after.iter().map(|value| literal(value)).collect();
    Some(format!("({}) > ({})", list(order.iter().map(String::as_str)), values.join(", ")))
}

/// A table, of the schema `public` if it names no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// Its type without what limits it: `character varying`.
    pub kind: String,
    /// The number of the type.
    pub oid: u32,
    pub takes_null: bool,
    /// Whether it is always the server that says its value.
    pub is_generated: bool,
    /// How many characters it has at most.
    pub characters: Option<u64>,
}

impl Table {
    /// A table as a flow names it: `orders`, or `shop.orders`.
    pub fn new(written: &str) -> Result<Self, Problem> {
        let (schema, name) = written.split_once('.').unwrap_or(("public", written));
        let is_wrong = |name: &str| name.is_empty() || name.len() > NAME_BYTES || name.contains(['\0', '.']);
        if is_wrong(schema) || is_wrong(name) {
            let problem = Problem::new(format!("no table can be called `{written}`"));
            return Err(problem.help("write `TABLE`, or `SCHEMA.TABLE`"));
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    /// As SQL writes it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// As people write it.
    pub fn written(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Its columns, in their order.
    ///
    /// # Errors
    /// If there is no such table.
    pub async fn columns(&self, client: &Client) -> Result<Vec<Column>> {
        let doing = || format!("looking for the table {}", self.quoted());
        let sql = "SELECT a.attname::text, format_type(a.atttypid, NULL), NOT a.attnotnull, \
                   a.attgenerated <> '' OR a.attidentity = 'a', \
                   CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 4 THEN a.atttypmod - 4 END, \
                   a.atttypid \
                   FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 \
                   AND NOT a.attisdropped ORDER BY a.attnum";
        let found = client.query(sql, &[&self.schema, &self.name]).await.map_err(|error| failed(doing(), error))?;
        if found.is_empty() {
            return Err(self.missing(client).await?);
        }
        let column = |row: &tokio_postgres::Row| Column {
            name: row.get(0),
            kind: row.get(1),
            takes_null: row.get(2),
            is_generated: row.get(3),
            characters: row.get::<_, Option<i32>>(4).and_then(|characters| u64::try_from(characters).ok()),
            oid: row.get(5),
        };
        Ok(found.iter().map(column).collect())
    }

    /// Whether `COPY` writes to it as `INSERT` does: it is no view, and there are no rules and no policies that `COPY` passes over or refuses.
    pub async fn takes_copies(&self, client: &Client) -> Result<bool> {
        let sql = "SELECT c.relkind IN ('r', 'p') AND NOT c.relhasrules AND NOT c.relrowsecurity FROM pg_class c \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1::text AND c.relname = $2::text";
        let found = client.query_opt(sql, &[&self.schema, &self.name]).await;
        let found = found.map_err(|error| failed(format!("looking for the table {}", self.quoted()), error))?;
        Ok(found.is_some_and(|row| row.get(0)))
    }

    /// Fails where a column is not there.
    pub async fn require_columns(&self, client: &Client, names: &[&str]) -> Result<()> {
        let columns = self.columns(client).await?;
        let there: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        require_columns(names, &there, &format!("the table `{}`", self.name))
    }

    /// What to say when it is not there.
    async fn missing(&self, client: &Client) -> Result<Error> {
        let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1";
        let tables = client.query(sql, &[&self.schema]).await;
        let tables = tables.map_err(|error| failed(format!("looking for the table {}", self.quoted()), error))?;
        let tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
        let help = known_names(&self.name, tables.iter().map(String::as_str));
        Ok(Error::new(format!("there is no table `{}` in the schema `{}`; {help}", self.name, self.schema)))
    }

    /// The unique keys that tell every row from every other: the columns of each, the primary one first.
    async fn keys(&self, client: &Client) -> Result<Vec<(bool, Vec<String>)>> {
        let sql = "SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.place) FROM pg_index i \
                   JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                   CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) \
                   LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
                   WHERE n.nspname = $1::text AND c.relname = $2::text AND i.indisunique AND i.indimmediate AND i.indisvalid \
                   AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts \
                   GROUP BY i.indexrelid, i.indisprimary HAVING bool_and(a.attnotnull) ORDER BY i.indisprimary DESC, i.indexrelid";
        let found = client.query(sql, &[&self.schema, &self.name]).await;
        let found = found.map_err(|error| failed(format!("looking for keys of {}", self.quoted()), error))?;
        Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Fails unless these columns together tell every row from every other, so that pages can begin behind any of them.
    pub async fn require_unique(&self, client: &Client, key: &[String]) -> Result<()> {
        let keys = self.keys(client).await?;
        if keys.iter().any(|(_, columns)| columns.iter().all(|column| key.contains(column))) {
            return Ok(());
        }
        Err(Error::new(format!(
            "no unique key of {} lies within `key`, so that rows could be missed between pages; {}",
            self.quoted(),
            help(
                &keys,
                "the table has no unique key without nulls; give it one, or read it by `query` with columns that are unique"
            )
        )))
    }

    /// Fails unless these columns are a unique key, so that the server can say which row has the same.
    pub async fn require_key(&self, client: &Client, key: &[String]) -> Result<()> {
        let keys = self.keys(client).await?;
        let is_same = |columns: &[String]| columns.len() == key.len() && columns.iter().all(|name| key.contains(name));
        if keys.iter().any(|(_, columns)| is_same(columns)) {
            return Ok(());
        }
        Err(Error::new(format!(
            "`key` is no unique key of {}, as which the server finds rows; {}",
            self.quoted(),
            help(&keys, "the table has none without nulls; give it a primary key")
        )))
    }

    /// The columns of its primary key, all of which have to be declared.
    pub async fn primary_key(&self, client: &Client, row: &Schema) -> Result<Vec<String>> {
        let keys = self.keys(client).await?;
        let Some((_, key)) = keys.into_iter().find(|(is_primary, _)| *is_primary) else {
            return Err(Error::new(format!(
                "{} has no primary key; name the columns of a unique key without nulls as `key` of the table",
                self.quoted()
            )));
        };
        match key.iter().find(|name| !row.field_with_name(name).is_ok_and(|field| can_be_key(field.data_type()))) {
            None => Ok(key),
            Some(name) => Err(Error::new(format!(
                "`{name}` is part of the primary key of {}, and has to be in `schema`, as no float",
                self.quoted()
            ))),
        }
    }
}

fn help(keys: &[(bool, Vec<String>)], none: &str) -> String {
    let named = |(_, columns): &(bool, Vec<String>)| {
        let columns: Vec<_> = columns.iter().map(|column| format!("\"{column}\"")).collect();
        format!("`key = [{}]`", columns.join(", "))
    };
    match keys {
        [] => none.to_owned(),
        keys => format!("there is {}", keys.iter().map(named).collect::<Vec<_>>().join(" and ")),
    }
}

/// Fails where a column is not among those that are there.
pub fn require_columns(names: &[&str], there: &[&str], of: &str) -> Result<()> {
    match names.iter().find(|name| !there.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let help = known_names(name, there.iter().copied());
            Err(Error::new(format!("there is no column `{name}` in {of}; {help}")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_stay_within_their_quotes() {
        assert_eq!(Table::new("a\"b.c").unwrap().quoted(), "\"a\"\"b\".\"c\"");
        assert_eq!(Table::new("orders").unwrap().written(), "public.orders");
        assert!(Table::new("a.b.c").is_err() && Table::new("").is_err() && Table::new(&"x".repeat(64)).is_err());
        assert_eq!(literal("O'Hara\\'"), "'O''Hara\\'''");
    }
}
