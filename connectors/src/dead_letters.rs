//! The input `dead_letters`: the way back into a flow for rows that its nodes have refused.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use millstream_core::{
    Columns, Error, GivenRow, InputPlan, InputSettings, Intake, KeptNode, Kind, NotTaken, PlanContext, Problems, Result,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::push::{self, FormatTag, Ingest, Key, LogSettings, PushNode, Receiver, Refused, Worker};

/// Takes rows that nodes of the flow have refused, when somebody sends them again.
///
/// Rows that are kept (`on_error = { dead_letter = "FOLDER" }`) can be looked at, mended, and sent again in the console of a daemon, or over
/// its API. They come back into the flow by this input, so that it is the flow that says where: a node reads it beside what it
/// reads anyway, as in
///
/// ```toml
/// [input.mended]
/// type = "dead_letters"
/// schema = { id = "utf8", amount = "float64" }
///
/// [processor.checked]
/// type = "validate"
/// from = ["payments", "mended"]
/// rules = { positive = "amount > 0" }
/// ```
///
/// Whoever sends a row again is answered when it is durable, in a log of this input that is part of the flow's state. The flow counts it
/// exactly once from then on, like the rows of all other inputs, also if the daemon is killed at any moment. What was sent again is marked where it
/// is kept, and not taken a second time. A row that is refused once more is a new one among those that are kept.
///
/// A row has to have the columns of `schema`; one that has not is not taken, and whoever sends it is told why. The columns are those of the
/// node that reads the input. An event time can be said as for every input: a row that comes back is late for what the flow has concluded meanwhile.
///
/// It needs a flow that keeps state on this machine. It never ends, so that the flow is a live one.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DeadLettersInput {
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. With a `?` behind its type a value may be missing or null.
    schema: Columns,
    #[serde(flatten)]
    log: LogSettings,
}

/// How long a row may be.
const LARGEST_ROW: usize = 1 << 20;

/// How many times rows may have been sent that are not taken yet.
const WAITING: usize = 16;

impl Kind for DeadLettersInput {
    const NAME: &'static str = "dead_letters";
    const ALSO_CALLED: &'static [&'static str] = &["dead_letter", "refused", "rejected", "failed", "replay"];
    const EXAMPLE: &'static str = r#"
schema = { id = "utf8", amount = "float64?" }
"#;
    const NEEDS_STATE: bool = true;

    fn verify(kept: &KeptNode<'_>) -> Result<Option<String>> {
        push::verify(kept)
    }
}

impl InputSettings for DeadLettersInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let node = PushNode { kind: Self::NAME, largest: LARGEST_ROW, receiver: Box::new(Door::new()) };
        Ok(self.log.input_of_rows(node, &self.schema, context)?.plan())
    }
}

/// Rows that are given, and who waits to hear what has come of them.
type Given = (Vec<GivenRow>, oneshot::Sender<Vec<Result<(), NotTaken>>>);

/// What brings rows from those who give them to the log.
struct Door {
    outside: Arc<Outside>,
    /// Until it is open.
    given: Option<mpsc::Receiver<Given>>,
}

/// The side of the door on which rows are given.
#[derive(Debug)]
struct Outside(mpsc::Sender<Given>);

impl Door {
    fn new() -> Self {
        let (sender, given) = mpsc::channel(WAITING);
        Self { outside: Arc::new(Outside(sender)), given: Some(given) }
    }
}

#[async_trait]
impl Receiver for Door {
    async fn start(&mut self, ingest: Ingest) -> Result<Box<dyn Send>> {
        let given = self.given.take().ok_or_else(|| Error::new("it has begun to take rows already"))?;
        let worker = Worker::start(DeadLettersInput::NAME, |stop| Ok(serve(ingest, given, stop)))?;
        Ok(Box::new(worker))
    }

    fn intake(&self) -> Option<Arc<dyn Intake>> {
        Some(self.outside.clone())
    }
}

#[async_trait]
impl Intake for Outside {
    async fn take(&self, rows: Vec<GivenRow>) -> Vec<Result<(), NotTaken>> {
        let count = rows.len();
        let (answer, told) = oneshot::channel();
        // Who does not take them has gone, and the way to the answer with it.
        let _ = self.0.send((rows, answer)).await;
        let gone =
            || Err(NotTaken::NotNow("the flow has stopped meanwhile; what it had taken is not taken twice".into()));
        told.await.unwrap_or_else(|_| (0..count).map(|_| gone()).collect())
    }
}

/// Takes what is given, until it is to stop.
async fn serve(ingest: Ingest, mut given: mpsc::Receiver<Given>, mut stop: oneshot::Receiver<()>) {
    loop {
        let (rows, answer) = tokio::select! {
            given = given.recv() => match given {
                Some(given) => given,
                None => return,
            },
            _ = &mut stop => return,
        };
        // They are written together, in their order.
        let taken = join_all(rows.into_iter().map(|row| take(&ingest, row)));
        tokio::select! {
            // Whoever has asked may be gone.
            taken = taken => drop(answer.send(taken)),
            _ = &mut stop => return,
        }
    }
}

async fn take(ingest: &Ingest, GivenRow { key, row }: GivenRow) -> Result<(), NotTaken> {
    let key = Key::new(&key).ok_or_else(|| NotTaken::Wrong(format!("`{key}` can't be a key")))?;
    if row.len() > LARGEST_ROW {
        return Err(NotTaken::Wrong(format!("it is longer than {LARGEST_ROW} bytes")));
    }
    // What is on several lines would be several rows.
    if row.contains('\n') || serde_json::from_str::<Map<String, Value>>(&row).is_err() {
        return Err(NotTaken::Wrong("it is no JSON object on one line, which has the columns of a row".into()));
    }
    let mut memory = ingest.memory();
    memory.grow(row.len()).map_err(not_taken)?;
    ingest.take(Some(key), FormatTag::OWN, row.into_bytes(), memory).await.map(drop).map_err(not_taken)
}

fn not_taken(refused: Refused) -> NotTaken {
    match refused {
        Refused::NoText => NotTaken::Wrong("it is no text".into()),
        Refused::Unreadable { why, .. } | Refused::Format(why) => NotTaken::Wrong(why),
        Refused::KeyOfOthers => NotTaken::Wrong("it was sent before with other values, which were taken".into()),
        Refused::BeingTaken => NotTaken::NotNow("it is just being taken".into()),
        Refused::Held(held) => NotTaken::NotNow(held.reason().to_string()),
        Refused::NoRoom(why) | Refused::Unknown(why) => NotTaken::NotNow(why),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::{Collector, Home, Input};
    use millstream_testkit::{context, parse};

    use super::*;

    fn input() -> Box<dyn Input> {
        let settings: DeadLettersInput = parse("schema = { n = 'int64', text = 'utf8?' }");
        (settings.plan(&context()).unwrap().build)().unwrap()
    }

    fn row(key: &str, row: &str) -> GivenRow {
        GivenRow { key: key.into(), row: row.into() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_row_is_taken_once_for_its_key_also_behind_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let home = Home::Folder(home.path().to_owned());
        for run in 0..2 {
            let mut input = input();
            let intake = input.intake().unwrap();
            input.open(&home).await.unwrap();
            let rows = vec![row("a", r#"{"n":1}"#), row("b", r#"{"n":2,"text":"x"}"#), row("a", r#"{"n":1}"#)];
            let taken = intake.take(rows).await;
            assert!(taken[0].is_ok() && taken[1].is_ok(), "{run}: {taken:?}");
            let mut out = Collector::new(1);
            input.next(&mut out).await.unwrap();
            assert_eq!(out.take(0).map(|batch| batch.len()).sum::<usize>(), 2, "{run}");
            drop(input);
            let gone = intake.take(vec![row("c", r#"{"n":3}"#)]).await;
            assert!(matches!(&gone[..], [Err(NotTaken::NotNow(_))]), "{gone:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_no_row_of_the_input_is_not_taken_and_it_is_said_why() {
        let home = tempfile::tempdir().unwrap();
        let mut input = input();
        let intake = input.intake().unwrap();
        input.open(&Home::Folder(home.path().to_owned())).await.unwrap();
        for (wrong, why) in [
            (r#"{"n":"x"}"#, "`n`"),
            ("no row", "no JSON object"),
            ("", "no JSON object"),
            (r#"{"n":1} {"n":2}"#, "no JSON object"),
            ("{\"n\":1,\n\"text\":null}", "on one line"),
        ] {
            let taken = intake.take(vec![row("key", wrong), row("long", &" ".repeat(LARGEST_ROW + 1))]).await;
            let [Err(NotTaken::Wrong(said)), Err(NotTaken::Wrong(_))] = &taken[..] else {
                panic!("{wrong}: {taken:?}")
            };
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }
}
