//! Answers with what the flow makes of rows.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use millstream_core::{Figures, Report};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::request::{Refusal, SOON};
use crate::push::{Ack, Desk, NoAnswer, Replies};

/// How requests are answered by the flow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondSettings {
    /// The column that each row gets besides those of `schema`: its position, an `int64`. By default `"request"`.
    #[serde(default = "column")]
    pub column: String,
    /// How many answers a row gets: `"one"`, by default, or `"many"`.
    #[serde(default)]
    pub answers: Replies,
    /// How long a request waits for them once its rows are durable, by default `"10s"`.
    #[serde(default = "timeout")]
    timeout: millstream_core::Duration,
}

/// The column with the position of a row, unless settings say otherwise.
pub fn column() -> String {
    "request".to_owned()
}

fn timeout() -> millstream_core::Duration {
    millstream_core::Duration(Duration::from_secs(10))
}

impl RespondSettings {
    /// What those who have sent rows get at a desk.
    pub fn answers(&self, desk: Desk) -> Answers {
        Answers { desk, timeout: self.timeout.0 }
    }
}

/// What those who have sent rows get from the flow.
#[derive(Clone)]
pub struct Answers {
    desk: Desk,
    timeout: Duration,
}

impl Answers {
    /// The answers to rows that were taken. Who has a key may ask for them once more.
    pub async fn to(&self, ack: Ack, has_key: bool) -> Result<Arc<str>, Refusal> {
        let Some(first) = ack.first else { return Ok("[]".into()) };
        let answered = self.desk.answer(first, ack.rows, has_key, self.timeout).await;
        answered.map_err(|why| self.refusal(why).of(ack))
    }

    fn refusal(&self, why: NoAnswer) -> Refusal {
        match why {
            NoAnswer::Late => {
                let message = format!("the rows are taken, and the flow has not answered within {:?}", self.timeout);
                Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
            }
            NoAnswer::Gone => Refusal::new(
                StatusCode::GONE,
                "the rows were taken and answered before, and the answer is no longer kept",
            ),
            NoAnswer::Closed => {
                let message = "the rows are taken, and the flow has stopped before it answered; with the same `Idempotency-Key` \
                               the request gets its answer when it runs again";
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).again_after(SOON)
            }
        }
    }

    /// How many wait, for people.
    pub fn report(&self) -> Report {
        let (waiting, answered) = self.desk.counts();
        let values = vec![("waiting", json!(waiting)), ("answered", json!(answered))];
        Report::Figures(Figures { title: "requests".to_owned(), values })
    }
}

/// Tells those who wait, when it is dropped, that nobody will answer any more.
pub struct Closing(pub Answers);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.desk.close();
    }
}
