//! Rows that nodes of a flow have refused, where the flow keeps them in a folder: looked at, sent again, dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millstream_core::{GivenRow, NotTaken, Result, ResultExt as _};
use millstream_engine::outline::Outline;
use millstream_engine::run::FlowControl;
use millstream_host::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::flows::outline;
use super::parameters::{Caller, JsonBody, Limit, Path, Query};
use super::route::{Body, Route};
use super::views::Page;
use crate::Admin;
use crate::dead_letters::{DeadLetter, DeadLetters, Filter, Replayed};
use crate::problem::{Code, Problem};
use crate::security::Role;

/// How many rows are sent again at most when somebody asks for it.
const MOST: usize = 1000;

/// How many are sent before it is written down what has become of them. Inputs remember the keys of many more.
const TOGETHER: usize = 100;

/// How long an input may take for these.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/flows/{flow}/dead_letters", "listDeadLetters", "Rows that nodes of a flow have refused.", list)
            .role(Role::Operator)
            .query::<ListQuery>()
            .gives::<Page<DeadLetter>>(StatusCode::OK, "The rows; those of the newest file first."),
        Route::get("/flows/{flow}/dead_letters/{letter}", "getDeadLetter", "A row that a node has refused.", get)
            .role(Role::Operator)
            .gives::<DeadLetter>(StatusCode::OK, "The row."),
        Route::post(
            "/flows/{flow}/dead_letters/replay",
            "replayDeadLetters",
            "Sends refused rows into the flow again, mended or not. Each is taken once.",
            replay,
        )
        .takes(Body::json::<ReplayRequest>())
        .gives::<ReplayAnswer>(StatusCode::OK, "They are durable, and part of the flow."),
        Route::delete("/flows/{flow}/dead_letters", "dropDeadLetters", "Drops refused rows.", drop_some)
            .query::<DropQuery>()
            .gives::<DropAnswer>(StatusCode::OK, "They are not told of any more."),
        Route::delete("/flows/{flow}/dead_letters/{letter}", "dropDeadLetter", "Drops a refused row.", drop_one)
            .gives::<DropAnswer>(StatusCode::OK, "It is not told of any more."),
    ]
}

/// Which rows are told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ListQuery {
    /// Only those of this node.
    node: Option<String>,
    /// Only those that were not sent again.
    waiting: bool,
    /// How many at most. By default 100.
    limit: Option<Limit>,
    /// Only those behind this one: the `next` of the page before.
    cursor: Option<String>,
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    let letters = letters(&admin, &*outline(&admin, &flow).await?);
    let ListQuery { node, waiting, limit, cursor } = query;
    let (filter, limit) = (Filter { ids: None, node, waiting }, limit.map_or(100, |limit| limit.0 as usize));
    let found = spawn_blocking(move || letters.find(&filter, cursor.as_deref(), limit));
    let found = found.await.doing(|| "reading refused rows")??;
    let next = found.items.last().filter(|_| found.more).map(|last| last.id.clone());
    Ok(Json(Page { items: found.items, next }))
}

async fn get(
    State(admin): State<Arc<Admin>>,
    Path((flow, letter)): Path<(String, String)>,
) -> Result<Json<DeadLetter>, Problem> {
    let letters = letters(&admin, &*outline(&admin, &flow).await?);
    let filter = Filter { ids: Some([letter.clone()].into()), ..Filter::default() };
    let found = spawn_blocking(move || letters.find(&filter, None, 1)).await.doing(|| "reading a refused row")??;
    Ok(Json(found.items.into_iter().next().ok_or_else(|| missing(&flow, &letter))?))
}

/// The rows that nodes of a flow have refused.
fn letters(admin: &Admin, outline: &Outline) -> DeadLetters {
    let folders = outline.nodes.iter().filter_map(|node| node.dead_letters.as_ref());
    DeadLetters::new(folders.map(|folder| admin.in_data(folder)).collect())
}

fn missing(flow: &str, letter: &str) -> Problem {
    Problem::not_found(format!("the flow `{flow}` keeps no refused row `{letter}`; it may have been dropped"))
}

/// Which rows are sent again, where, and as what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ReplayRequest {
    /// These rows.
    #[schemars(length(max = 1000))]
    ids: Option<Vec<String>>,
    /// Those of this node, the oldest first, up to a thousand.
    node: Option<String>,
    /// The input of the type `dead_letters` that takes them. By default the one that the node reads which has refused a row; of an input that
    /// has, the one that is read beside it.
    to: Option<String>,
    /// By the ids of rows, what they are to be instead.
    edit: BTreeMap<String, Map<String, Value>>,
}

/// What has become of rows that were to be sent again.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct ReplayAnswer {
    /// How many are part of the flow now.
    replayed: usize,
    /// How many had been sent before, and were not again.
    already: usize,
    /// Whether there are more of them, which another request can send.
    more: bool,
}

async fn replay(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Caller(by): Caller,
    JsonBody(request): JsonBody<ReplayRequest>,
) -> Result<Json<ReplayAnswer>, Problem> {
    let ReplayRequest { ids, node, to, edit } = request;
    if ids.as_ref().is_some_and(|ids| ids.len() > MOST) {
        return Err(Problem::bad_request(format!("`ids` has more than {MOST} rows: send them by several requests")));
    }
    let filter = meant(ids.map(BTreeSet::from_iter), node, false)?;
    if let Some(other) = edit.keys().find(|id| filter.ids.as_ref().is_some_and(|ids| !ids.contains(*id))) {
        return Err(Problem::bad_request(format!("`edit` has the row `{other}`, which is not among `ids`")));
    }
    // One at a time, so that nobody marks a row that somebody else is just sending.
    let _alone = admin.replays.lock().await;
    let (_, control) = admin.host.running(&flow)?;
    let outline = outline(&admin, &flow).await?;
    let letters = letters(&admin, &outline);
    let (mut chosen, mut answer) = choose(&flow, letters.clone(), filter).await?;
    let before = chosen.len();
    chosen.retain(|letter| letter.replayed.is_none());
    answer.already = before - chosen.len();
    let ways = WaysBack { outline: &outline, control: &control, to: to.as_deref() };
    for (to, rows) in ways.sort(chosen)? {
        for rows in rows.chunks(TOGETHER) {
            answer.replayed += send(&control, &letters, rows, &edit, &to, &by, answer.replayed).await?;
        }
    }
    Ok(Json(answer))
}

/// The rows that are meant, the oldest first.
async fn choose(flow: &str, letters: DeadLetters, filter: Filter) -> Result<(Vec<DeadLetter>, ReplayAnswer), Problem> {
    let ids = filter.ids.clone();
    // Of a node, what was sent again is of no interest.
    let filter = Filter { waiting: ids.is_none(), ..filter };
    let read = spawn_blocking(move || letters.find(&filter, None, usize::MAX));
    let mut found = read.await.doing(|| "reading refused rows")??.items;
    let known: BTreeSet<&String> = found.iter().map(|letter| &letter.id).collect();
    if let Some(other) = ids.iter().flatten().find(|id| !known.contains(id)) {
        return Err(missing(flow, other));
    }
    found.sort_by_key(|letter| letter.at);
    let more = found.len() > MOST;
    found.truncate(MOST);
    Ok((found, ReplayAnswer { more, ..ReplayAnswer::default() }))
}

/// By which input rows come back into a flow.
struct WaysBack<'a> {
    outline: &'a Outline,
    control: &'a FlowControl,
    /// What whoever asks has said.
    to: Option<&'a str>,
}

impl WaysBack<'_> {
    /// The rows, by the inputs that take them.
    fn sort(&self, letters: Vec<DeadLetter>) -> Result<BTreeMap<String, Vec<DeadLetter>>, Problem> {
        let mut sorted: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
        for letter in letters {
            sorted.entry(self.of(&letter.node)?.to_owned()).or_default().push(letter);
        }
        Ok(sorted)
    }

    fn of(&self, node: &str) -> Result<&str, Problem> {
        let mut ways = match self.to {
            Some(to) => self.control.intakes().filter(|input| *input == to).collect(),
            None => self.leading_to(node),
        };
        match (ways.pop(), ways.is_empty()) {
            (Some(way), true) => Ok(way),
            _ => Err(self.none(node)),
        }
    }

    /// The inputs that a node reads, or those that are read beside it if it is one itself.
    fn leading_to(&self, node: &str) -> Vec<&str> {
        let is_read = |from: &str, to: &str| self.outline.edges.iter().any(|edge| edge.from == from && edge.to == to);
        let readers = || self.outline.edges.iter().filter(|edge| edge.from == node).map(|edge| edge.to.as_str());
        let is_input = self.outline.node(node).is_some_and(|node| node.role == "input");
        let leads = |input: &&str| {
            if is_input { readers().any(|reader| is_read(input, reader)) } else { is_read(input, node) }
        };
        self.control.intakes().filter(leads).collect()
    }

    fn none(&self, node: &str) -> Problem {
        let known: Vec<_> = self.control.intakes().map(|input| format!("`{input}`")).collect();
        let has = if known.is_empty() {
            "the flow has none".to_owned()
        } else {
            format!("the flow has {}; say which with `to`", known.join(", "))
        };
        let why = match self.to {
            Some(to) => format!("`{to}` is no input of the type `dead_letters`"),
            None => format!(
                "there is not one input of the type `dead_letters` that leads to where `{node}` has refused a row"
            ),
        };
        Problem::new(&Code::NO_WAY_BACK, format!("{why}; {has}"))
    }
}

/// Gives rows to an input, and writes down which it has taken. How many these are. `before` have been sent already.
async fn send(
    control: &FlowControl,
    letters: &DeadLetters,
    rows: &[DeadLetter],
    edit: &BTreeMap<String, Map<String, Value>>,
    to: &str,
    by: &str,
    before: usize,
) -> Result<usize, Problem> {
    let row = |letter: &DeadLetter| match edit.get(&letter.id) {
        Some(edited) => Value::Object(edited.clone()).to_string(),
        None => letter.text.clone(),
    };
    let given = rows.iter().map(|letter| GivenRow { key: letter.id.clone(), row: row(letter) }).collect();
    let intake = control.intake(to).ok_or_else(|| Problem::new(&Code::NO_WAY_BACK, Code::NO_WAY_BACK.meaning))?;
    let late = || Problem::new(&Code::UNAVAILABLE, format!("the input `{to}` takes no row just now; send them again"));
    let taken = timeout(PATIENCE, intake.take(given)).await.map_err(|_| late())?;
    let (mut marked, mut first) = (Vec::new(), None);
    for (letter, taken) in rows.iter().zip(taken) {
        match taken {
            Ok(()) => marked.push(letter.clone()),
            Err(why) => _ = first.get_or_insert((&letter.id, why)),
        }
    }
    let count = marked.len();
    let (letters, edited) = (letters.clone(), edit.keys().cloned().collect::<BTreeSet<_>>());
    let (to, by) = (to.to_owned(), by.to_owned());
    let mark = move || {
        let (mended, same): (Vec<_>, Vec<_>) = marked.into_iter().partition(|letter| edited.contains(&letter.id));
        let replayed = |edited| Replayed { at: Timestamp::now(), by: by.clone(), to: to.clone(), edited };
        letters.replayed(&mended, &replayed(true)).and_then(|()| letters.replayed(&same, &replayed(false)))
    };
    spawn_blocking(mark).await.doing(|| "marking rows that were sent again")??;
    first.map_or(Ok(count), |(id, why)| Err(not_taken(id, why, before + count)))
}

fn not_taken(id: &str, why: NotTaken, others: usize) -> Problem {
    let others = if others == 0 { String::new() } else { format!("; {others} others were sent") };
    let code = match &why {
        NotTaken::Wrong(_) => &Code::ROW_NOT_TAKEN,
        NotTaken::NotNow(_) => &Code::UNAVAILABLE,
    };
    Problem::new(code, format!("the row `{id}` is not taken: {why}{others}"))
}

/// Which rows are dropped.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct DropQuery {
    /// These, with commas between them.
    ids: Option<String>,
    /// Those of this node.
    node: Option<String>,
    /// All of them.
    all: bool,
}

/// What has become of rows that were to be dropped.
#[derive(Debug, Serialize, JsonSchema)]
struct DropAnswer {
    /// How many were.
    dropped: usize,
}

async fn drop_some(
    State(admin): State<Arc<Admin>>,
    Path(flow): Path<String>,
    Query(query): Query<DropQuery>,
    Caller(by): Caller,
) -> Result<Json<DropAnswer>, Problem> {
    let DropQuery { ids, node, all } = query;
    let ids = ids.map(|ids| ids.split(',').map(str::to_owned).collect());
    drop_letters(&admin, &flow, meant(ids, node, all)?, by).await
}

async fn drop_one(
    State(admin): State<Arc<Admin>>,
    Path((flow, letter)): Path<(String, String)>,
    Caller(by): Caller,
) -> Result<Json<DropAnswer>, Problem> {
    let filter = Filter { ids: Some([letter.clone()].into()), ..Filter::default() };
    let answer = drop_letters(&admin, &flow, filter, by).await?;
    if answer.dropped == 0 { Err(missing(&flow, &letter)) } else { Ok(answer) }
}

async fn drop_letters(admin: &Admin, flow: &str, filter: Filter, by: String) -> Result<Json<DropAnswer>, Problem> {
    let _alone = admin.replays.lock().await;
    let letters = letters(admin, &*outline(admin, flow).await?);
    let dropped = spawn_blocking(move || letters.drop(&filter, &by)).await.doing(|| "dropping refused rows")??;
    Ok(Json(DropAnswer { dropped }))
}

/// The rows that somebody means, who has to say so.
fn meant(ids: Option<BTreeSet<String>>, node: Option<String>, all: bool) -> Result<Filter, Problem> {
    if ids.is_none() && node.is_none() && !all {
        return Err(Problem::bad_request("say which rows: by `ids`, or by the `node` that has refused them"));
    }
    Ok(Filter { ids, node, waiting: false })
}
