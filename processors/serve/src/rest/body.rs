//! Reads bodies: bounded, also where they are compressed.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Serving;
use super::room::Share;
use super::words::in_words;
use crate::refusal::Refusal;

/// How long a body may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of a body as they come, of which `share` is taken.
pub async fn receive(headers: &HeaderMap, body: Body, most: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(Refusal::too_large(most));
    }
    timeout(PATIENCE, collect(body, most, share)).await.map_err(|_| Refusal::slow(PATIENCE))?
}

async fn collect(mut body: Body, most: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::wrong(format!("the body can't be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(Refusal::too_large(most));
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The bytes of a body, without its compression, and what they take of the memory for all.
pub async fn read(headers: &HeaderMap, body: Body, serving: &Serving) -> Result<(Bytes, Share), Refusal> {
    let mut share = serving.room.share();
    let bytes = receive(headers, body, serving.max_body, &mut share).await?;
    let length = bytes.len();
    let bytes = decompressed(headers, bytes, serving.max_body)?;
    share.grow(bytes.len().saturating_sub(length))?;
    Ok((bytes, share))
}

fn decompressed(headers: &HeaderMap, bytes: Bytes, most: usize) -> Result<Bytes, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or_default().trim());
    match encoding {
        None | Some("" | "identity") => Ok(bytes),
        Some("gzip") => decompress(MultiGzDecoder::new(&bytes[..]), "gzip", most),
        Some("deflate") => decompress(ZlibDecoder::new(&bytes[..]), "deflate", most),
        Some(other) => {
            let message = format!("`Content-Encoding` is `{other}`; what is taken is `gzip`, `deflate` and `identity`");
            Err(Refusal::unsupported(message))
        }
    }
}

fn decompress(from: impl Read, encoding: &str, most: usize) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::new();
    let read = from.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::wrong(format!("the body is no `{encoding}`: {error}")))?;
    if bytes.len() > most { Err(Refusal::too_large(most)) } else { Ok(bytes.into()) }
}

/// Reads JSON.
///
/// # Errors
/// If it is none, or not what is taken: which part, and why.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only what is wrong is read a second time, to find its place.
        let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
        let place = serde_path_to_error::deserialize::<_, T>(deserializer).err().map(|error| error.path().to_string());
        let place = place.filter(|place| !place.is_empty() && place != ".");
        let place = place.map_or_else(|| "the body".to_owned(), |place| format!("`{place}`"));
        Refusal::wrong(format!("{place} is not what is taken: {}", in_words(&error.to_string())))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use futures::stream::pending;

    use super::super::room::Room;
    use super::*;

    async fn of(encoding: &str, bytes: Vec<u8>, most: usize) -> Result<Bytes, Refusal> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        let bytes = receive(&headers, Body::from(bytes), most, &mut Room::new(1 << 30).share()).await?;
        decompressed(&headers, bytes, most)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let body = Body::from_stream(pending::<Result<Bytes, Infallible>>());
        let refused = receive(&HeaderMap::new(), body, 9, &mut Room::new(1 << 30).share()).await.unwrap_err();
        assert_eq!((refused.reason.status(), refused.message.as_str()), (408, "the body has not come within 60s"));
    }

    #[tokio::test]
    async fn bodies_are_bounded_together() {
        let room = Room::new(4096);
        let mut first = room.share();
        let receive =
            async |share: &mut Share| receive(&HeaderMap::new(), Body::from(vec![0; 3000]), 4096, share).await;
        assert_eq!(receive(&mut first).await.unwrap().len(), 3000);
        assert_eq!(receive(&mut room.share()).await.unwrap_err().reason.status(), 503);
        drop(first);
        assert_eq!(receive(&mut room.share()).await.unwrap().len(), 3000);
    }

    #[tokio::test]
    async fn what_is_compressed_counts_by_what_it_becomes() {
        let bomb = vec![0; 1 << 20];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&bomb).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::best());
        deflate.write_all(&bomb).unwrap();
        let deflate = deflate.finish().unwrap();
        assert!(gzip.len() < 2000 && deflate.len() < 2000);
        for (encoding, bytes) in [("gzip", gzip), ("deflate", deflate)] {
            assert_eq!(of(encoding, bytes.clone(), 1 << 20).await.unwrap(), bomb);
            assert_eq!(of(encoding, bytes.clone(), (1 << 20) - 1).await.unwrap_err().reason.status(), 413);
            let cut = bytes[..bytes.len() - 9].to_vec();
            assert_eq!(of(encoding, cut, 1 << 20).await.unwrap_err().reason.status(), 400, "{encoding}");
        }
        assert_eq!(of("identity", vec![1; 10], 9).await.unwrap_err().reason.status(), 413);
        assert_eq!(of("br", vec![1], 9).await.unwrap_err().reason.status(), 415);
    }
}
