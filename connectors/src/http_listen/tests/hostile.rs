//! Bodies that nobody has meant well with: whatever is sent is answered, and the sender is told what is wrong with it.

use millstream_testkit::Hostile;

use super::*;

/// What requests say of their bodies.
const SAID: [&str; 7] = [
    "",
    "Content-Encoding: gzip\r\n",
    "Content-Encoding: zstd\r\n",
    "Content-Type: application/json\r\n",
    "Content-Type: text/csv\r\n",
    "Content-Type: application/vnd.apache.arrow.stream\r\n",
    "Content-Type: application/avro\r\n",
];

#[tokio::test]
async fn whatever_is_sent_is_answered() {
    let site = Site::new(NDJSON);
    let _input = site.open().await;
    let plain = body(&[1, 2, 3]);
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    Hostile::new([gzip(&plain), zstd, plain, b"a\n1\n".to_vec(), b"[{\"a\": 1}]".to_vec()]).attack(|bytes| {
        for said in SAID {
            let (status, answer) = site.send(said, bytes);
            assert!(matches!(status, 200 | 400 | 413 | 415), "{said}: {answer}");
        }
    });
}
