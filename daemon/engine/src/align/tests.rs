use futures::FutureExt;
use millstream_testkit::{batch, table};

use super::*;
use crate::edge::{Limits, Sender, edge};

const LIMITS: Limits = Limits { rows: 1 << 20, bytes: 1 << 30 };

fn fan_in(ports: &[usize], stages: Vec<Stage>, always: &[usize]) -> (Vec<Sender>, Inputs) {
    let (senders, receivers): (Vec<_>, Vec<_>) = ports.iter().map(|_| edge(LIMITS)).unzip();
    let edges = ports.iter().copied().zip(receivers).collect();
    (senders, Inputs::new(edges, stages, always.to_vec()))
}

fn stage(edges: &[usize], read_order: ReadOrder) -> Stage {
    Stage { edges: edges.to_vec(), read_order, gates: Vec::new() }
}

fn row(values: &[i64]) -> Message {
    let lines: String = values.iter().map(|value| format!("\n{value}")).collect();
    Message::Batch(batch(table(&format!("n:int64{lines}"))))
}

async fn send(sender: &Sender, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        sender.send(message).await.expect("open");
    }
}

/// All events as short texts: `0:1,2` rows at port 0, `w5` a watermark, `|1` a barrier, `.0` a port's end.
async fn events(inputs: &mut Inputs) -> String {
    let mut words = Vec::new();
    loop {
        words.push(match inputs.next().await.expect("open") {
            Event::Batch(port, batch) => {
                let text = millstream_testkit::rows_as_text([&batch.rows]);
                format!("{port}:{}", text.lines().skip(1).collect::<Vec<_>>().join(","))
            }
            Event::Watermark(at) => format!("w{at}"),
            Event::Idle => "idle".to_owned(),
            Event::Barrier(epoch) => format!("|{epoch}"),
            Event::PortEnded(port) => format!(".{port}"),
            Event::Leave(Leaving::Given(rows)) => format!("-{rows}"),
            Event::Leave(Leaving::Expired(rows)) => format!("x{rows}"),
            Event::End => return words.join(" "),
            Event::SetAside(..) => panic!("nothing is set aside"),
        });
    }
}

#[tokio::test]
async fn a_node_that_had_ended_keeps_no_gate_closed() {
    let gate = Gate::new(2);
    let waiting = || Stage { gates: vec![gate.clone()], ..stage(&[1], ReadOrder::Arrival) };
    let (_senders, mut other) = fan_in(&[0, 0], vec![stage(&[0], ReadOrder::Arrival), waiting()], &[]);
    let (_others, mut ended) = fan_in(&[0, 0], vec![stage(&[0], ReadOrder::Arrival), waiting()], &[]);
    ended.open_gates();
    assert!(gate.changed(Epoch(0)).now_or_never().is_none(), "the other one still does");
    other.open_gates();
    assert!(gate.changed(Epoch(0)).now_or_never().is_some_and(|(_, is_open)| is_open));
}

fn mark(at: EventTime) -> Message {
    Message::Watermark(Watermark::At(at))
}

fn barrier(epoch: u64) -> Message {
    Message::Barrier(Epoch(epoch))
}

#[tokio::test]
async fn nothing_overtakes_a_border() {
    let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::Arrival)], &[]);
    send(&senders[0], [row(&[1]), barrier(1), row(&[2]), Message::End]).await;
    send(&senders[1], [row(&[3]), row(&[4]), barrier(1), row(&[5]), barrier(2), Message::End]).await;
    assert_eq!(events(&mut inputs).await, "0:1 0:3 0:4 |1 0:2 0:5 |2 .0");
}

#[tokio::test]
async fn rows_are_taken_again_in_the_order_that_was_noted() {
    let values = [[1, 2, 3, 4], [5, 6, 7, 8]];
    let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::Arrival)], &[]);
    inputs.record();
    send(&senders[1], [row(&values[1][..1]), mark(3), row(&values[1][1..]), barrier(1), Message::End]).await;
    send(&senders[0], [row(&values[0][..3]), mark(2), barrier(1), row(&values[0][3..]), Message::End]).await;
    let expected = events(&mut inputs).await;
    let recorder = inputs.recorder();
    for cut in 1..5 {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::Arrival)], &[]);
        inputs.follow(recorder.clone());
        send(&senders[0], values[0][..3].chunks(cut).map(row)).await;
        send(&senders[0], [mark(2), barrier(1), row(&values[0][3..]), Message::End]).await;
        send(&senders[1], [row(&values[1][..1]), mark(3)]).await;
        send(&senders[1], values[1][1..].chunks(cut).map(row)).await;
        send(&senders[1], [barrier(1), Message::End]).await;
        let digits = |text: &str| text.replace("0:", "").replace([' ', ','], "");
        assert_eq!(digits(&events(&mut inputs).await), digits(&expected), "batches of {cut}");
    }
}

#[tokio::test]
async fn branches_of_one_input_are_put_together_epoch_by_epoch() {
    let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::EpochByEpoch)], &[]);
    send(&senders[1], [row(&[10]), barrier(1), row(&[20]), Message::End]).await;
    send(&senders[0], [row(&[1]), row(&[2]), barrier(1), row(&[3]), Message::End]).await;
    assert_eq!(events(&mut inputs).await, "0:1 0:2 0:10 |1 0:3 0:20 .0");
}

#[tokio::test]
async fn rows_in_turn_do_not_depend_on_batches() {
    for cut in 1..5 {
        let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::RoundRobin(2))], &[]);
        for (sender, values) in senders.iter().zip([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) {
            send(sender, values.chunks(cut).map(row)).await;
            send(sender, [Message::End]).await;
        }
        let rows = events(&mut inputs).await.replace("0:", "").replace(' ', ",");
        assert_eq!(rows, "1,2,6,7,3,4,8,9,5,10,.0", "batches of {cut}");
    }
}

#[tokio::test]
async fn a_later_stage_opens_its_gates_and_goes_on_with_the_epochs() {
    let gate = Gate::new(1);
    let second = Stage { edges: vec![0], read_order: ReadOrder::Arrival, gates: vec![gate.clone()] };
    let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[1], ReadOrder::Arrival), second], &[]);
    send(&senders[1], [row(&[1]), barrier(1), barrier(2), Message::End]).await;
    let from = async {
        let mut shown = Epoch::default();
        let mut is_open = false;
        while !is_open {
            (shown, is_open) = gate.changed(shown).await;
        }
        send(&senders[0], [row(&[7]), Message::Barrier(shown.next()), Message::End]).await;
    };
    let (text, ()) = tokio::join!(events(&mut inputs), from);
    assert_eq!(text, "1:1 |1 |2 .1 0:7 |3 .0");
}

#[tokio::test]
async fn an_edge_that_is_always_read_takes_part_in_borders() {
    let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0], ReadOrder::Arrival)], &[1]);
    send(&senders[0], [row(&[1]), barrier(1), row(&[2]), Message::End]).await;
    send(&senders[1], [barrier(1), row(&[9]), Message::End]).await;
    let text = events(&mut inputs).await;
    assert!(text.starts_with("0:1 |1 "), "{text}");
    assert!(text.contains("0:2") && text.contains("1:9") && text.ends_with(".1") | text.ends_with(".0"), "{text}");
}

#[tokio::test]
async fn the_lowest_watermark_wins_until_its_edge_ends() {
    let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::Arrival)], &[]);
    send(&senders[0], [mark(5), mark(9), Message::End]).await;
    send(&senders[1], [mark(3), mark(20), Message::End]).await;
    let text = events(&mut inputs).await;
    assert_eq!(text, "w3 w20 .0", "edge 0 ends at once; then only edge 1 counts");
}

#[tokio::test]
async fn an_idle_edge_holds_nobody_back() {
    let (senders, mut inputs) = fan_in(&[0, 0], vec![stage(&[0, 1], ReadOrder::EpochByEpoch)], &[]);
    let idle = || Message::Watermark(Watermark::Idle);
    send(&senders[0], [mark(5), idle(), barrier(1), row(&[1]), Message::End]).await;
    send(&senders[1], [mark(8), idle(), barrier(1), mark(20), Message::End]).await;
    assert_eq!(events(&mut inputs).await, "w8 idle |1 0:1 idle w20 .0", "until it has rows again, or its end");
}

#[tokio::test]
async fn edges_come_along_together_in_event_time() {
    for first in [0, 1] {
        let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0, 1], ReadOrder::EventTime)], &[]);
        let messages = [
            vec![row(&[1]), mark(10), row(&[2]), mark(30), row(&[3]), Message::End],
            vec![row(&[11]), mark(20), row(&[12]), mark(25), barrier(1), row(&[13]), mark(40), Message::End],
        ];
        for edge in [first, 1 - first] {
            send(&senders[edge], messages[edge].clone()).await;
        }
        let text = events(&mut inputs).await;
        assert_eq!(text, "0:1 1:11 w10 0:2 w20 1:12 w25 0:3 .0 |1 1:13 w40 .1", "whichever comes first");
    }
}

#[tokio::test]
async fn an_end_that_comes_before_its_turn_waits_for_it() {
    for read_order in [ReadOrder::EventTime, ReadOrder::EpochByEpoch] {
        let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0, 1], read_order)], &[]);
        send(&senders[0], [row(&[1]), mark(30)]).await;
        send(&senders[1], [mark(10), Message::End]).await;
        let mut seen = Vec::new();
        // Lets both edges be read as far as they go.
        while let Some(event) = inputs.next().now_or_never() {
            seen.push(format!("{:?}", event.expect("open")));
        }
        send(&senders[0], [row(&[2]), Message::End]).await;
        let rest = events(&mut inputs).await;
        let expected = if read_order == ReadOrder::EventTime { "0:2 .0" } else { "0:2 .0 w10 .1" };
        assert_eq!(rest, expected, "after {seen:?}");
    }
}

#[tokio::test]
async fn what_is_always_read_does_not_hold_event_time_back() {
    let (senders, mut inputs) = fan_in(&[0, 1], vec![stage(&[0], ReadOrder::Arrival)], &[1]);
    send(&senders[0], [mark(5), row(&[1]), Message::End]).await;
    let text = async {
        let event = inputs.next().await.expect("open");
        assert!(matches!(event, Event::Watermark(5)), "{event:?}");
        send(&senders[1], [mark(3), Message::End]).await;
        events(&mut inputs).await
    };
    assert_eq!(text.await, "0:1 .0 .1");
}

#[tokio::test]
async fn what_a_buffer_took_and_gave_is_followed() {
    let (senders, mut inputs) = fan_in(&[0], vec![stage(&[0], ReadOrder::Arrival)], &[]);
    let before = [
        FanInEvent::Passed(0, 1),
        FanInEvent::Rows(0, 2),
        FanInEvent::Left(1),
        FanInEvent::Rows(0, 1),
        FanInEvent::Time(0),
        FanInEvent::Expired(2),
        FanInEvent::Barrier,
        FanInEvent::Left(1),
        FanInEvent::Rows(0, 1),
        FanInEvent::End(0),
    ];
    inputs.of_buffer();
    inputs.follow(before.into());
    send(&senders[0], [row(&[1, 2]), row(&[3, 4]), mark(5), barrier(1), row(&[5]), Message::End]).await;
    let first = inputs.next().await.expect("open");
    assert!(
        matches!(&first, Event::Batch(0, rows) if rows.len() == 1) && inputs.has_passed() == Some(true),
        "{first:?}"
    );
    assert_eq!(events(&mut inputs).await, "0:2 0:3 -1 0:4 w5 x2 |1 -1 0:5 .0");
    assert_eq!((inputs.has_passed(), inputs.is_scripted()), (Some(false), false));
}

#[tokio::test]
async fn an_upstream_node_that_stops_early_is_noticed() {
    let (senders, mut inputs) = fan_in(&[0], vec![stage(&[0], ReadOrder::Arrival)], &[]);
    drop(senders);
    assert_eq!(inputs.next().await.map(|_| ()), Err(Closed));
}
