//! Identifiers, and which tables and columns a server has.

use arrow::datatypes::{DataType, Schema};
use millstream_core::{Error, Problem, Result, known_names};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use crate::client::failed;

/// An identifier as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table, of the connection's database if it names no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub database: String,
    pub name: String,
}

impl Table {
    /// A table as a flow names it: `orders`, or `shop.orders`.
    pub fn new(written: &str, database: &str) -> Result<Self, Problem> {
        let (database, name) = written.split_once('.').unwrap_or((database, written));
        let is_wrong = |name: &str| name.is_empty() || name.chars().count() > 64 || name.contains(['\0', '.']);
        if is_wrong(database) || is_wrong(name) {
            let problem = Problem::new(format!("no table can be called `{written}`"));
            return Err(problem.help("write `TABLE`, or `DATABASE.TABLE`"));
        }
        Ok(Self { database: database.to_owned(), name: name.to_owned() })
    }

    /// As SQL writes it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }

    /// The names of its columns, in their order, as the server spells them.
    ///
    /// # Errors
    /// If there is no such table.
    pub async fn columns(&self, connection: &mut Conn) -> Result<Vec<String>> {
        let doing = || format!("looking for the table {}", self.quoted());
        let columns: Vec<String> = connection
            .exec(
                "SELECT CONVERT(column_name USING utf8mb4) FROM information_schema.columns WHERE table_schema = ? AND table_name = ? \
                 ORDER BY ordinal_position",
                (&self.database, &self.name),
            )
            .await
            .map_err(|error| failed(doing(), error))?;
        if !columns.is_empty() {
            return Ok(columns);
        }
        let tables: Vec<String> = connection
            .exec(
                "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables WHERE table_schema = ? ORDER BY table_name",
                (&self.database,),
            )
            .await
            .map_err(|error| failed(doing(), error))?;
        let help = known_names(&self.name, tables.iter().map(String::as_str));
        let database = &self.database;
        Err(Error::new(format!(
            "there is no table `{}` in the database `{database}` that the user can see; {help}",
            self.name
        )))
    }

    /// The columns of its primary key, all of which have to be declared.
    pub async fn primary_key(
        &self,
        connection: &mut Conn,
        row: &Schema,
        can_be: fn(&DataType) -> bool,
    ) -> Result<Vec<String>> {
        let key: Vec<String> = connection
            .exec(
                "SELECT CONVERT(column_name USING utf8mb4) FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? \
                 AND index_name = 'PRIMARY' ORDER BY seq_in_index",
                (&self.database, &self.name),
            )
            .await
            .map_err(|error| failed(format!("looking for the primary key of {}", self.quoted()), error))?;
        if key.is_empty() {
            return Err(Error::new(format!(
                "{} has no primary key; name the columns of a unique key without nulls as `key` of the table",
                self.quoted()
            )));
        }
        let declared = |name: &String| {
            let field = row.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
            field.filter(|field| can_be(field.data_type())).map(|field| field.name().clone())
        };
        let wrong = |name: &String| {
            Error::new(format!(
                "`{name}` is part of the primary key of {}, and has to be in `schema`, as no float",
                self.quoted()
            ))
        };
        key.iter().map(|name| declared(name).ok_or_else(|| wrong(name))).collect()
    }

    /// Fails unless these columns together tell every row from every other, so that pages can begin behind any of them.
    pub async fn require_unique(&self, connection: &mut Conn, key: &[String]) -> Result<()> {
        let uniques: Vec<(String, String, String)> = connection
            .exec(
                "SELECT CONVERT(s.index_name USING utf8mb4), CONVERT(s.column_name USING utf8mb4), \
                 CONVERT(c.is_nullable USING utf8mb4) FROM information_schema.statistics s JOIN information_schema.columns c \
                 USING (table_schema, table_name, column_name) WHERE s.table_schema = ? AND s.table_name = ? AND s.non_unique = 0 \
                 AND s.sub_part IS NULL ORDER BY s.index_name, s.seq_in_index",
                (&self.database, &self.name),
            )
            .await
            .map_err(|error| failed(format!("looking for keys of {}", self.quoted()), error))?;
        let indexes: Vec<_> = uniques.chunk_by(|(one, ..), (other, ..)| one == other).collect();
        let is_key = |column: &str| key.iter().any(|key| key.eq_ignore_ascii_case(column));
        if indexes.iter().any(|index| index.iter().all(|(_, column, nullable)| nullable == "NO" && is_key(column))) {
            return Ok(());
        }
        let named = |index: &[(String, String, String)]| {
            let columns: Vec<_> = index.iter().map(|(_, column, _)| format!("\"{column}\"")).collect();
            format!("`key = [{}]`", columns.join(", "))
        };
        let usable: Vec<_> = indexes
            .iter()
            .filter(|index| index.iter().all(|(.., nullable)| nullable == "NO"))
            .map(|index| named(index))
            .collect();
        let help = match usable.as_slice() {
            [] => "the table has no unique key without nulls; give it one, or read it by `query` with columns that are unique".to_owned(),
            keys => format!("there is {}", keys.join(" and ")),
        };
        Err(Error::new(format!(
            "no unique key of {} lies within `key`, so that rows could be missed between pages; {help}",
            self.quoted()
        )))
    }
}

/// Fails where a column that the flow declares is not there.
pub fn require_columns(schema: &Schema, there: &[String], of: &str) -> Result<()> {
    for field in schema.fields() {
        if !there.iter().any(|column| column.eq_ignore_ascii_case(field.name())) {
            let help = known_names(field.name(), there.iter().map(String::as_str));
            return Err(Error::new(format!("there is no column `{}` in {of}; {help}", field.name())));
        }
    }
    Ok(())
}
