//! Where a row goes: to a path of the connection's own service, or to another service that is allowed.

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use millstream_core::{Problem, Step, require_column, type_name};
use reqwest::Url;

use super::PathSetting;
use crate::client::shown;
use crate::connection::{HttpConnection, parse_url};

/// Where rows may go.
pub struct Addresses {
    /// The one address; or what those of a column are relative to.
    base: Url,
    column: Option<String>,
    /// Other services, as addresses of which only scheme, host and port count.
    hosts: Vec<Url>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub url: Url,
    /// Whether it is at the connection's own service.
    pub is_own: bool,
}

impl Addresses {
    pub fn new(connection: &HttpConnection, path: &PathSetting) -> Result<Self, Problem> {
        match path {
            PathSetting::Path(path) => Ok(Self { base: connection.address(path)?, column: None, hosts: Vec::new() }),
            PathSetting::Column(of) => {
                let host = |(index, text): (usize, &String)| {
                    let place = [Step::from("path"), Step::from("hosts"), Step::from(index)];
                    parse_url(text).map_err(|problem| problem.at(place))
                };
                let hosts = of.hosts.iter().enumerate().map(host).collect::<Result<_, _>>()?;
                Ok(Self { base: connection.address("")?, column: Some(of.column.clone()), hosts })
            }
        }
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The column that says where rows go.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// Checks that the column is there, and has texts.
    pub fn check_column(&self, schema: &Schema) -> Result<(), Problem> {
        let Some(column) = &self.column else { return Ok(()) };
        let place = ["path", "column"];
        let field = require_column(column, schema).map_err(|problem| problem.at(place))?;
        if *field.data_type() == DataType::Utf8 {
            return Ok(());
        }
        let found = type_name(field.data_type());
        Err(Problem::new(format!("column `{column}` is `{found}` and not utf8")).at(place))
    }

    /// For people.
    pub fn shown(&self) -> String {
        match &self.column {
            None => shown(&self.base),
            Some(column) => format!("where `{column}` says, from {} on", shown(&self.base)),
        }
    }

    /// The column of a batch that says where its rows go.
    pub fn of<'a>(&self, rows: &'a RecordBatch) -> Option<&'a StringArray> {
        rows.column_by_name(self.column.as_ref()?)?.as_string_opt::<i32>()
    }

    /// Where a row of a batch goes, or why it can't go there.
    pub fn address(&self, texts: Option<&StringArray>, row: usize) -> Result<Address, String> {
        let Some(texts) = texts else { return Ok(Address { url: self.base.clone(), is_own: true }) };
        let column = self.column.as_deref().unwrap_or_default();
        if texts.is_null(row) {
            return Err(format!("column `{column}` is null, which says where the row goes"));
        }
        let text = texts.value(row);
        let whole = text.split_once("://").is_some_and(|(scheme, _)| matches!(scheme, "http" | "https"));
        let url = if whole { text.parse() } else { self.base.join(text.trim_start_matches('/')) };
        let url = url.map_err(|_| format!("column `{column}`: `{text}` is no address"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("column `{column}`: names and passwords don't belong into an address"));
        }
        let is_own = url.origin() == self.base.origin();
        if is_own || self.hosts.iter().any(|host| host.origin() == url.origin()) {
            return Ok(Address { url, is_own });
        }
        let host = url.host_str().unwrap_or_default();
        Err(format!("column `{column}` leads to `{host}`, which is none of the `hosts` that rows may go to"))
    }

    /// The row behind those that go to the same address as a row of a batch.
    pub fn end_of_run(texts: Option<&StringArray>, row: usize, end: usize) -> usize {
        let Some(texts) = texts else { return end };
        let is_other = |other: &usize| texts.is_null(*other) || texts.value(*other) != texts.value(row);
        (row + 1..end).find(is_other).unwrap_or(end)
    }
}
