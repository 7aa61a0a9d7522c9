//! Rows that nodes of a flow have refused, where the flow keeps them in a folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millstream_core::{Result, ResultExt as _};
use millstream_host::{HostError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::parameters::{Limit, Path, Query};
use super::route::Route;
use super::views::Page;
use crate::Admin;
use crate::problem::Problem;
use crate::security::Role;

/// How many bytes of a row are told.
const LONGEST: u64 = 1 << 20;

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/flows/{flow}/dead_letters", "listDeadLetters", "Rows that nodes of a flow have refused.", list)
            .role(Role::Operator)
            .query::<ListQuery>()
            .gives::<Page<DeadLetter>>(StatusCode::OK, "The rows; those of the newest file first."),
    ]
}

/// Which rows are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    /// Only those of this node.
    node: Option<String>,
    /// How many at most. By default 100.
    limit: Option<Limit>,
    /// Only those behind this one: the `next` of the page before.
    cursor: Option<String>,
}

/// A row that a node has refused.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct DeadLetter {
    /// The file that it is in, and its line.
    id: String,
    /// When the file was written.
    at: Timestamp,
    /// The node.
    node: String,
    /// Why it was refused.
    error: String,
    /// The input that it came from.
    source: Option<String>,
    /// The part of the input.
    partition: Option<String>,
    /// Its position there.
    position: Option<u64>,
    /// Its line there, if it is of a text.
    line: Option<u64>,
    /// The row: an object, or a text if it could not be read.
    row: Value,
}

/// A line of a file of refused rows.
#[derive(Debug, Deserialize)]
struct Line {
    node: String,
    error: String,
    source: Option<String>,
    partition: Option<String>,
    position: Option<u64>,
    line: Option<u64>,
    row: Option<String>,
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let found = admin.host.flow(&flow).ok_or(HostError::NoFlow(flow))?;
    let nodes = found.status.outline.iter().flat_map(|outline| &outline.nodes);
    let folders: BTreeSet<PathBuf> =
        nodes.filter_map(|node| node.dead_letters.as_ref()).map(|folder| admin.in_data(folder)).collect();
    let page = spawn_blocking(move || page(&folders, &query)).await.doing(|| "reading refused rows")??;
    Ok(Json(page))
}

/// The rows that are asked for.
fn page(folders: &BTreeSet<PathBuf>, query: &ListQuery) -> Result<Page<DeadLetter>> {
    let limit = query.limit.map_or(100, |limit| limit.0 as usize);
    let mut files = Vec::new();
    for folder in folders {
        find(folder, &mut files)?;
    }
    // The newest first; of one moment, by name, so that pages fit each other.
    files.sort_by(|one, other| other.cmp(one));
    let (mut items, mut is_behind) = (Vec::new(), query.cursor.is_none());
    for (written, path) in &files {
        for item in rows(path, *written)? {
            if !is_behind {
                is_behind = query.cursor.as_ref() == Some(&item.id);
                continue;
            }
            if query.node.as_ref().is_some_and(|node| *node != item.node) {
                continue;
            }
            if items.len() == limit {
                let next = items.last().map(|last: &DeadLetter| last.id.clone());
                return Ok(Page { items, next });
            }
            items.push(item);
        }
    }
    Ok(Page { items, next: None })
}

/// The files below a folder that are whole, and when they were written.
fn find(folder: &FilePath, files: &mut Vec<(SystemTime, PathBuf)>) -> Result<()> {
    let reading = || format!("reading the folder `{}` of refused rows", folder.display());
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).doing(reading)? {
        let entry = entry.doing(reading)?;
        let (path, is_hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
        match entry.metadata() {
            // It has gone since.
            Err(_) => {}
            Ok(_) if is_hidden => {}
            Ok(metadata) if metadata.is_dir() => find(&path, files)?,
            Ok(metadata) => files.push((metadata.modified().doing(reading)?, path)),
        }
    }
    Ok(())
}

/// The rows of a file. A line that is none of ours is left out.
fn rows(path: &FilePath, written: SystemTime) -> Result<Vec<DeadLetter>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.doing(|| format!("reading `{}`", path.display()))?,
    };
    let (mut reader, mut number, mut rows, mut text) = (BufReader::new(file), 0, Vec::new(), Vec::new());
    loop {
        text.clear();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut text);
        if read.doing(|| format!("reading `{}`", path.display()))? == 0 {
            return Ok(rows);
        }
        number += 1;
        if let Ok(line) = serde_json::from_slice::<Line>(&text) {
            rows.push(dead_letter(line, format!("{}:{number}", path.display()), Timestamp(written)));
        }
    }
}

fn dead_letter(line: Line, id: String, at: Timestamp) -> DeadLetter {
    let Line { node, error, source, partition, position, line, row } = line;
    let text = row.unwrap_or_default();
    let row = serde_json::from_str(&text).unwrap_or(Value::String(text));
    DeadLetter { id, at, node, error, source, partition, position, line, row }
}
