//! What a daemon tells as it happens: server-sent events.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use millstream_core::{Result, ResultExt as _};
use serde_json::Value as Json;

/// A stream of events.
pub struct Events {
    body: Incoming,
    text: EventText,
}

/// An event.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// What it is called.
    pub name: String,
    /// What it tells.
    pub data: Json,
}

/// What has come of events that are not whole yet.
#[derive(Default)]
struct EventText {
    bytes: Vec<u8>,
}

impl Events {
    pub fn new(body: Incoming) -> Self {
        Self { body, text: EventText::default() }
    }

    /// The next event; none at the end of the stream. What has come of one is kept if nobody waits for it any more.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.text.next() {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(frame) => {
                    self.text.add(frame.doing(|| "reading what the daemon tells")?.into_data().unwrap_or_default())
                }
                None => return Ok(None),
            }
        }
    }
}

impl EventText {
    fn add(&mut self, bytes: Bytes) {
        self.bytes.extend_from_slice(&bytes);
    }

    /// The next event that is whole. Comments, and what can't be read, are passed over.
    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
            let text: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&text);
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            let data = field("data:").and_then(|data| serde_json::from_str(data).ok());
            if let (Some(name), Some(data)) = (field("event:"), data) {
                return Some(Event { name: name.to_owned(), data });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let told = ": still here\n\nid: 1\nevent: flow\ndata: {\"name\":\"ä\"}\n\nevent: odd\ndata: {\n\nid: 2\nevent: gone\ndata: 3\n\nevent: x";
        for size in [1, 3, 1000] {
            let (mut text, mut events) = (EventText::default(), Vec::new());
            for piece in told.as_bytes().chunks(size) {
                text.add(Bytes::copy_from_slice(piece));
                events.extend(std::iter::from_fn(|| text.next()));
            }
            let expected = [("flow", json!({ "name": "ä" })), ("gone", json!(3))];
            let expected = expected.map(|(name, data)| Event { name: name.to_owned(), data });
            assert_eq!(events, expected);
        }
    }
}
