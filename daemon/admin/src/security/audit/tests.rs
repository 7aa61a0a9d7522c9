//! What is written, what is read, and what is found out.

use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::security::role::Role;

const SMALL: Limits = Limits { bytes: 2000, files: 3 };

fn event(path: &str) -> Event {
    Event {
        who: "ops".to_owned(),
        role: Some(Role::Operator),
        from: "127.0.0.1:9".to_owned(),
        method: "PUT".to_owned(),
        path: path.to_owned(),
        target: Some("flow:fraud".to_owned()),
        before: Some(json!({ "revision": 6 })),
        after: None,
    }
}

async fn done(audit: &Arc<Audit>, path: &str) {
    let begun = audit.begin(event(path)).await.unwrap();
    begun.end(Ending::Done, Some(json!({ "revision": 7 }))).await.unwrap();
}

fn folder(data: &tempfile::TempDir) -> PathBuf {
    data.path().join("admin/audit")
}

#[tokio::test]
async fn what_is_done_is_written_before_and_after() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::open(data.path()).unwrap();
    let begun = audit.begin(event("/api/v1/flows/fraud")).await.unwrap();
    let written = audit.page(None, 10).unwrap().items;
    assert_eq!((written.len(), &written[0].result, written[0].seq), (1, &Ending::Begun, begun.seq()));
    begun.end(Ending::Failed("the broker is down".to_owned()), None).await.unwrap();
    let page = audit.page(None, 1).unwrap();
    let last = &page.items[0];
    assert_eq!((last.seq, last.of, &last.result), (2, Some(1), &Ending::Failed("the broker is down".to_owned())));
    assert_eq!(page.next, Some(2));
    let before = audit.page(page.next, 10).unwrap();
    assert_eq!((before.items[0].seq, before.next), (1, None));
    assert_eq!(before.items[0].event, event("/api/v1/flows/fraud"));
}

#[tokio::test]
async fn the_chain_goes_on_over_files_and_restarts() {
    let data = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let audit = Audit::with_limits(data.path(), SMALL).unwrap();
        for number in 0..4 {
            done(&audit, &format!("/{round}/{number}")).await;
        }
    }
    let files = LogFile::all(&folder(&data)).unwrap();
    assert!(files.len() == SMALL.files && files[0].first > 1, "{files:?}");
    let verified = verify(&folder(&data), None).unwrap();
    assert_eq!((verified.last, verified.first, verified.torn), (Some(24), Some(files[0].first), false));
    let audit = Audit::with_limits(data.path(), SMALL).unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = audit.page(before, 5).unwrap();
        seen.extend(page.items.iter().map(|entry| entry.seq));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert!(seen.into_iter().eq((files[0].first..=24).rev()));
    assert!(Audit::open(data.path()).unwrap_err().to_string().contains("another daemon writes to it"));
}

#[tokio::test]
async fn a_line_that_a_crash_has_cut_off_is_removed() {
    let data = tempfile::tempdir().unwrap();
    done(&Audit::open(data.path()).unwrap(), "/a").await;
    let path = &LogFile::all(&folder(&data)).unwrap()[0].path;
    let whole = fs::read(path).unwrap();
    fs::write(path, [&whole[..], b"{\"seq\":3,\"at\""].concat()).unwrap();
    assert!(verify(path, None).unwrap().torn);
    let audit = Audit::open(data.path()).unwrap();
    assert_eq!(audit.page(None, 10).unwrap().items.len(), 2);
    done(&audit, "/b").await;
    assert_eq!(verify(&folder(&data), None).unwrap().last, Some(4));
    // A crash right after a file was begun leaves an empty one.
    drop(audit);
    fs::write(folder(&data).join("0000000000000005.ndjson"), "").unwrap();
    done(&Audit::open(data.path()).unwrap(), "/c").await;
    assert_eq!(verify(&folder(&data), None).unwrap().last, Some(6));
}

#[tokio::test]
async fn what_was_changed_is_found() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::open(data.path()).unwrap();
    for path in ["/a", "/b", "/c"] {
        done(&audit, path).await;
    }
    let path = &LogFile::all(&folder(&data)).unwrap()[0].path;
    let text = fs::read_to_string(path).unwrap();
    let head = verify(path, None).unwrap().head;
    assert!(verify(path, Some(&head)).is_ok());
    let lines: Vec<&str> = text.lines().collect();
    let without = |gone: usize| {
        let left = lines.iter().enumerate().filter(|(number, _)| *number != gone);
        left.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let cases = [
        (
            text.replacen("\"who\":\"ops\"", "\"who\":\"ada\"", 1),
            ":2: entry 2 does not follow entry 1, which was changed",
        ),
        (without(2), ":3: entry 4 comes behind entry 2: lines were removed or added"),
        (without(0).replacen("\"seq\":2", "\"seq\":1", 1), ":1: entry 1 is not the first"),
        (text.replacen("{\"seq\":3", "{\"seq\":\"3\"", 1), ":3: the line is no entry"),
        ("a".repeat(100_000), ":1: the line is too long"),
    ];
    for (changed, expected) in cases {
        fs::write(path, &changed).unwrap();
        let error = verify(path, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::write(path, without(5)).unwrap();
    assert!(verify(path, None).is_ok(), "the end can be cut off, unless somebody remembers it");
    assert!(verify(path, Some(&head)).unwrap_err().to_string().contains("no line has the hash"));
}

#[tokio::test(start_paused = true)]
async fn not_all_refused_attempts_are_written() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::open(data.path()).unwrap();
    for _ in 0..100 {
        audit.refused(event("/api/v1/tokens"), "forbidden".to_owned()).await;
    }
    assert_eq!(audit.page(None, 1000).unwrap().items.len(), 60);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    audit.refused(event("/api/v1/tokens"), "forbidden".to_owned()).await;
    let last = &audit.page(None, 1).unwrap().items[0];
    assert_eq!((last.unwritten, &last.result), (40, &Ending::Refused("forbidden".to_owned())));
    done(&audit, "/a").await;
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error_until_it_can_be() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::with_limits(data.path(), Limits { bytes: 1, files: 64 }).unwrap();
    done(&audit, "/a").await;
    // Each line takes a file of its own, which can't be made in a folder that is not there.
    fs::rename(folder(&data), data.path().join("away")).unwrap();
    assert!(audit.begin(event("/b")).await.is_err());
    fs::rename(data.path().join("away"), folder(&data)).unwrap();
    done(&audit, "/c").await;
    assert_eq!(verify(&folder(&data), None).unwrap().entries, 4);
}

#[tokio::test]
async fn a_log_whose_end_is_damaged_is_not_gone_on_with() {
    let data = tempfile::tempdir().unwrap();
    done(&Audit::open(data.path()).unwrap(), "/a").await;
    let path = &LogFile::all(&folder(&data)).unwrap()[0].path;
    fs::write(path, "{}\n").unwrap();
    let error = Audit::open(data.path()).unwrap_err().to_string();
    assert!(error.contains("move the log away to begin another one"), "{error}");
}

#[test]
fn long_texts_are_cut_and_long_states_hashed() {
    let long = Event { after: Some(json!("a".repeat(100_000))), ..event(&"ü".repeat(5000)) };
    let of = |event| Entry {
        seq: 1,
        at: chrono::Utc::now(),
        event,
        result: Ending::Done,
        of: None,
        unwritten: 0,
        prev: String::new(),
    };
    let line = of(long).line().unwrap();
    assert!(line.len() < 10_000, "{}", line.len());
    let read: Entry = serde_json::from_slice(&line).unwrap();
    assert!(read.event.after.unwrap()["blake3"].is_string());
    assert!(read.event.path.ends_with('…') && read.event.path.chars().count() == 1025);
    assert_eq!(read.event.before, Some(json!({ "revision": 6 })));
}

proptest! {
    #[test]
    fn any_bytes_can_be_verified_and_read(lines in prop::collection::vec(".{0,60}", 0..6), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let data = tempfile::tempdir().unwrap();
        drop(Audit::open(data.path()).unwrap());
        let path = folder(&data).join("0000000000000001.ndjson");
        fs::write(&path, [lines.join("\n").as_bytes(), &bytes].concat()).unwrap();
        let _ = verify(&path, Some("head"));
        let _ = verify(&folder(&data), None);
        let _ = Audit::open(data.path()).map(|audit| audit.page(Some(3), 2).map(|page| page.items.len()));
    }
}
