//! Servers that speak otherwise than PostgreSQL does: what they send is read, or refused.

use std::io::Cursor;

use millstream_testkit::Hostile;

use super::*;
use crate::changes::decode::decode;

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// What a server sends that is asked for its log, up to the end of the connection.
fn log() -> Vec<u8> {
    let place = 7_u64.to_be_bytes();
    let begin = [&b"B"[..], &place, &place, &3_u32.to_be_bytes()].concat();
    let row = [&b"I\0\0\0\x07N\0\x02t\0\0\0\x01"[..], b"1n"].concat();
    let message = |of: &[u8]| frame(b'd', &[&b"w"[..], &place, &place, &place, of].concat());
    [
        frame(b'S', b"TimeZone\0GMT\0"),
        frame(b'W', b"\0\0\0"),
        message(&begin),
        message(&row),
        frame(b'd', &[&b"k"[..], &place, &place, &[1]].concat()),
        frame(b'N', b"SNOTICE\0Msaid\0\0"),
        frame(b'E', b"SFATAL\0C57P01\0Mgone\0Dfor ever\0\0"),
    ]
    .concat()
}

/// What it sends that is asked for a slot.
fn slot() -> Vec<u8> {
    let fields = [&b"\0\x02\0\0\0\x01s\0\0\0\x09"[..], b"0/1626CF8"].concat();
    [frame(b'D', &fields), frame(b'C', b"CREATE_REPLICATION_SLOT\0"), frame(b'Z', b"I")].concat()
}

fn wire(bytes: &[u8]) -> Wire {
    let io = tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink());
    Wire { io: Box::new(io), address: "there".into(), read: BytesMut::new(), written: BytesMut::new() }
}

#[test]
fn what_a_hostile_server_sends_is_read_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    Hostile::new([log(), slot()]).attack(|bytes| {
        runtime.block_on(async {
            let mut following = wire(bytes);
            while let Ok(sent) = following.next().await {
                if let Sent::Message(bytes) = sent {
                    let _ = decode(&bytes);
                }
            }
            let _ = wire(bytes).make_slot("slot", true).await;
            let _ = wire(bytes).begin("slot", "publication", Place(7)).await;
        });
    });
}

#[test]
fn a_log_and_a_slot_are_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut following = wire(&log());
        let mut messages = 0;
        let end = loop {
            match following.next().await {
                Ok(Sent::Message(bytes)) => messages += usize::from(decode(&bytes).is_ok()),
                Ok(Sent::Alive { end, wants_answer }) => assert!(end == Place(7) && wants_answer),
                Err(error) => break error.to_string(),
            }
        };
        assert!(messages == 2 && end.contains("gone"), "{messages}: {end}");
        assert!(wire(&slot()).make_slot("slot", true).await.is_ok());
    });
}
