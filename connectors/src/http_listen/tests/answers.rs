//! Answers that the flow gives.

use millstream_core::{Epoch, Positions};
use serde_json::{Value, json};

use super::*;
use crate::push::Desk;

/// An input whose senders wait, at a desk that no other test has.
struct Asked {
    site: Arc<Site>,
    desk: Desk,
    name: &'static str,
}

impl Asked {
    fn new(name: &'static str, respond: &str) -> Self {
        let site = Arc::new(Site::new(&format!("respond = {respond}\n{NDJSON}")));
        Self { site, desk: Desk::of("answers", name), name }
    }

    fn input(&self) -> PushInput {
        let context = PlanContext { flow: "answers".to_owned(), node: self.name.to_owned(), ..context() };
        parse::<HttpListenInput>(&self.site.settings).input(&context, Arc::new(LocalFiles)).unwrap()
    }

    async fn open(&self) -> PushInput {
        let mut input = self.input();
        input.open(&self.site.home()).await.unwrap();
        input
    }

    /// Sends rows, and waits for what is answered.
    fn ask(&self, lines: &'static str, rows: &'static [i64]) -> thread::JoinHandle<(u16, Value)> {
        let site = self.site.clone();
        thread::spawn(move || {
            let (status, answer) = site.send(lines, &body(rows));
            (status, serde_json::from_str(answer.lines().last().unwrap()).unwrap())
        })
    }

    /// Answers a row.
    fn give(&self, position: u64, answer: &str) {
        self.desk.give([(position, answer)].into_iter());
    }
}

/// The values and positions of the next rows.
async fn next_rows(input: &mut PushInput) -> Vec<(i64, i64)> {
    let mut out = Collector::new(1);
    input.next(&mut out).await.unwrap();
    let column = |batch: &millstream_core::Batch, column: usize| {
        batch.rows.column(column).as_primitive::<Int64Type>().values().to_vec()
    };
    out.take(0).flat_map(|batch| column(&batch, 0).into_iter().zip(column(&batch, 1)).collect::<Vec<_>>()).collect()
}

fn before(position: u64) -> Positions {
    [("".into(), position)].into()
}

#[tokio::test]
async fn a_request_gets_what_the_flow_makes_of_its_rows() {
    let asked = Asked::new("rows", "{}");
    let plan = asked.input().plan();
    assert!(plan.is_answered);
    assert_eq!(plan.ports[0].schema.field(1).name(), "request");
    let mut input = asked.open().await;
    let first = asked.ask("", &[7, 8]);
    assert_eq!(next_rows(&mut input).await, [(7, 0), (8, 1)]);
    let second = asked.ask("", &[9]);
    assert_eq!(next_rows(&mut input).await, [(9, 2)]);
    for (position, answer) in [(2, "3"), (1, "2"), (0, "{\"a\":1}")] {
        asked.give(position, answer);
    }
    assert_eq!(first.join().unwrap(), (200, json!({"rows": 2, "first": 0, "answers": [{"a": 1}, 2]})));
    assert_eq!(second.join().unwrap(), (200, json!({"rows": 1, "first": 2, "answers": [3]})));
    assert_eq!(asked.ask("", &[]).join().unwrap(), (200, json!({"rows": 0, "first": null, "answers": []})));
    let report = input.report().unwrap();
    assert_eq!(format!("{report:?}").matches("Number(").count(), 2, "{report:?}");
}

#[tokio::test]
async fn rows_that_the_flow_drops_are_answered_at_the_barrier() {
    let asked = Asked::new("dropped", "{ answers = 'many' }");
    let mut input = asked.open().await;
    let request = asked.ask("", &[7, 8]);
    assert_eq!(next_rows(&mut input).await.len(), 2);
    asked.give(1, "1");
    asked.give(1, "2");
    input.barrier(Epoch(1), &before(2));
    asked.desk.pass(Epoch(1));
    assert_eq!(request.join().unwrap().1["answers"], json!([[], [1, 2]]));
}

#[tokio::test]
async fn a_flow_that_is_too_slow_or_stops_is_said() {
    let asked = Asked::new("slow", "{ timeout = '1ms' }");
    let input = asked.open().await;
    let (status, said) = asked.ask("", &[7]).join().unwrap();
    assert_eq!((status, &said["rows"], &said["first"]), (504, &json!(1), &json!(0)), "{said}");
    drop(input);
    let asked = Asked::new("stopping", "{}");
    let mut input = asked.open().await;
    let request = asked.ask("", &[7]);
    assert_eq!(next_rows(&mut input).await.len(), 1);
    // The connection ends soon behind that.
    let settings: RespondSettings = serde_json::from_value(json!({})).unwrap();
    drop(Closing(settings.answers(asked.desk.clone())));
    let (status, said) = request.join().unwrap();
    assert_eq!(status, 503, "{said}");
}

#[tokio::test]
async fn a_request_that_is_sent_again_gets_its_answer_also_behind_a_crash() {
    let asked = Asked::new("again", "{}");
    let mut input = asked.open().await;
    let request = asked.ask("Idempotency-Key: a\r\n", &[7]);
    assert_eq!(next_rows(&mut input).await, [(7, 0)]);
    asked.give(0, "1");
    let answered = (200, json!({"rows": 1, "first": 0, "answers": [1]}));
    assert_eq!(request.join().unwrap(), answered);
    assert_eq!(asked.ask("Idempotency-Key: a\r\n", &[7]).join().unwrap(), answered);
    // No checkpoint has covered it.
    drop(input);
    let mut input = asked.open().await;
    let again = asked.ask("Idempotency-Key: a\r\n", &[7]);
    assert_eq!(next_rows(&mut input).await, [(7, 0)]);
    asked.give(0, "1");
    assert_eq!(again.join().unwrap(), answered);
    // A checkpoint has covered it.
    let state = input.snapshot(&before(1)).unwrap();
    drop(input);
    let mut input = asked.input();
    input.restore(&before(1), &state.into_state().unwrap()).unwrap();
    input.open(&asked.site.home()).await.unwrap();
    let (status, said) = asked.ask("Idempotency-Key: a\r\n", &[7]).join().unwrap();
    assert_eq!((status, &said["first"]), (410, &json!(0)), "{said}");
}
