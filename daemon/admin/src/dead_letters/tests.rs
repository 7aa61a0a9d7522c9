//! Files of refused rows, and marks of what has become of them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::*;

/// A folder with two files: rows 0 to 2 of the node `a` with a line that is none of ours, and rows 3 and 4 of `b`.
fn folder() -> (tempfile::TempDir, DeadLetters) {
    let folder = tempfile::tempdir().unwrap();
    let line = |node: &str, n: u64| {
        let row = json!({ "n": n }).to_string();
        json!({ "node": node, "error": "bad", "source": "s", "position": n, "row": row }).to_string() + "\n"
    };
    let of_a: String = (0..3).map(|n| line("a", n)).collect();
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    std::fs::write(folder.path().join("one.ndjson"), of_a.clone() + "none of ours\n").unwrap();
    std::fs::write(folder.path().join("deep/two.ndjson"), line("b", 3) + &line("b", 4)).unwrap();
    std::fs::write(folder.path().join(".hidden"), of_a).unwrap();
    let letters = DeadLetters::new([folder.path().to_owned()].into());
    (folder, letters)
}

fn all(letters: &DeadLetters) -> Vec<DeadLetter> {
    let mut found = letters.find(&Filter::default(), None, 100).unwrap().items;
    found.sort_by_key(|letter| letter.position);
    found
}

fn of(ids: &[&DeadLetter]) -> Filter {
    Filter { ids: Some(ids.iter().map(|letter| letter.id.clone()).collect()), ..Filter::default() }
}

fn positions(letters: &[DeadLetter]) -> Vec<u64> {
    letters.iter().filter_map(|letter| letter.position).collect()
}

fn replayed() -> Replayed {
    Replayed { at: Timestamp::now(), by: "somebody".into(), to: "mended".into(), edited: false }
}

#[test]
fn rows_are_found_page_by_page_and_by_what_they_are_known_by() {
    let (_folder, letters) = folder();
    let found = all(&letters);
    assert_eq!(positions(&found), [0, 1, 2, 3, 4]);
    assert_eq!((&found[3].node, &found[3].row, found[3].text.as_str()), (&"b".into(), &json!({ "n": 3 }), "{\"n\":3}"));
    let (mut seen, mut behind) = (Vec::new(), None);
    loop {
        let page = letters.find(&Filter::default(), behind.as_deref(), 2).unwrap();
        assert_eq!(page.more, seen.len() < 4);
        seen.extend(positions(&page.items));
        let Some(last) = page.items.last().filter(|_| page.more) else { break };
        behind = Some(last.id.clone());
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(positions(&letters.find(&of(&[&found[1], &found[4]]), None, 9).unwrap().items).len(), 2);
    let of_a = Filter { node: Some("a".into()), ..Filter::default() };
    assert_eq!(positions(&letters.find(&of_a, None, 9).unwrap().items), [0, 1, 2]);
}

#[test]
fn what_was_sent_again_is_marked_and_what_is_dropped_is_gone() {
    let (folder, letters) = folder();
    let found = all(&letters);
    letters.replayed(&[found[1].clone(), found[3].clone()], &replayed()).unwrap();
    let marked: Vec<_> = all(&letters).iter().map(|letter| letter.replayed.is_some()).collect();
    assert_eq!(marked, [false, true, false, true, false]);
    let waiting = Filter { waiting: true, ..Filter::default() };
    assert_eq!(letters.find(&waiting, None, 9).unwrap().items.len(), 3);
    assert_eq!(letters.drop(&of(&[&found[0], &found[3]]), "somebody").unwrap(), 2);
    assert_eq!(positions(&all(&letters)), [1, 2, 4]);
    assert_eq!(letters.drop(&of(&[&found[0]]), "somebody").unwrap(), 0);
    let of_b = Filter { node: Some("b".into()), ..Filter::default() };
    assert_eq!(letters.drop(&of_b, "somebody").unwrap(), 1);
    assert_eq!(std::fs::read_dir(folder.path().join("deep")).unwrap().count(), 0, "nothing is left of the file");
    assert!(folder.path().join("one.ndjson").exists());
}

#[test]
fn marks_are_of_rows_and_not_of_places_and_survive_a_crash() {
    let (folder, letters) = folder();
    let found = all(&letters);
    letters.replayed(&found[..1], &replayed()).unwrap();
    let file = folder.path().join("one.ndjson");
    tear(&marks::beside(&file));
    letters.replayed(&found[1..2], &replayed()).unwrap();
    assert_eq!(marks::read(&file).unwrap().len(), 2);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"bad\"", "\"worse\"")).unwrap();
    assert!(all(&letters).iter().all(|letter| letter.replayed.is_none()), "other rows have come there");
}

/// Adds half of a mark.
fn tear(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"id\": \"x").unwrap();
}
