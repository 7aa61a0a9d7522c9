//! The tokens in a file that several processes change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use millstream_core::Result;

use crate::security::role::{FlowPatterns, Principal, Role};
use crate::security::tokens::{NewToken, TokenStore};

fn new(name: &str, expires: Option<DateTime<Utc>>) -> NewToken {
    NewToken { name: name.to_owned(), role: Role::Operator, flows: FlowPatterns::all(), expires }
}

fn name(principal: Result<Option<Principal>>) -> Option<String> {
    principal.unwrap().map(|principal| principal.name.to_string())
}

#[test]
fn whoever_shows_a_token_is_known_until_it_is_revoked_by_anybody() {
    let data = tempfile::tempdir().unwrap();
    let (daemon, command) = (TokenStore::new(data.path()), TokenStore::new(data.path()));
    let now = Utc::now();
    assert!(daemon.list().unwrap().is_empty() && daemon.revoke("00000000").unwrap().is_none());
    let (first, text) = command.create(new("ci", None), now).unwrap();
    let (second, other) = command.create(new("ops", None), now).unwrap();
    let (text, other) = (text.reveal(), other.reveal());
    assert_eq!(name(daemon.check(&text, now)).as_deref(), Some("ci"));
    assert_eq!(daemon.check(&other, now).unwrap().unwrap().token.as_deref(), Some(&*second.id));
    assert_eq!(name(daemon.principal(&first.id, now)).as_deref(), Some("ci"));
    assert_eq!(command.revoke(&first.id).unwrap(), Some(first.clone()));
    assert_eq!((name(daemon.check(&text, now)), name(daemon.principal(&first.id, now))), (None, None));
    assert_eq!(name(daemon.check(&other, now)).as_deref(), Some("ops"));
}

#[test]
fn the_file_has_no_secret_and_others_do_not_read_it() {
    let data = tempfile::tempdir().unwrap();
    let store = TokenStore::new(data.path());
    let (token, text) = store.create(new("ci", None), Utc::now()).unwrap();
    let hash = text.shown().hash();
    let text = text.reveal();
    let path = data.path().join("admin/tokens.json");
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains(&token.id) && written.contains(hash.to_hex().as_str()));
    assert!(!written.contains(&text[11..]), "{written}");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_token_ends_when_it_was_said_to() {
    let data = tempfile::tempdir().unwrap();
    let store = TokenStore::new(data.path());
    let now = Utc::now();
    let (_, text) = store.create(new("ci", Some(now + TimeDelta::days(1))), now).unwrap();
    let text = text.reveal();
    assert!(store.check(&text, now + TimeDelta::hours(23)).unwrap().is_some());
    assert!(store.check(&text, now + TimeDelta::days(1)).unwrap().is_none());
    let late = store.create(new("late", Some(now)), now).unwrap_err();
    assert!(late.to_string().contains("expired already"), "{late}");
}

#[test]
fn names_are_names_and_one_tokens() {
    let data = tempfile::tempdir().unwrap();
    let store = TokenStore::new(data.path());
    for wrong in ["", "  ", "a\nb", &"a".repeat(65)] {
        assert!(store.create(new(wrong, None), Utc::now()).is_err(), "{wrong:?}");
    }
    store.create(new("ci", None), Utc::now()).unwrap();
    let again = store.create(new("ci", None), Utc::now()).unwrap_err();
    assert!(again.to_string().contains("there is a token `ci` already"), "{again}");
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn when_a_token_was_used_is_kept_in_memory_until_it_is_flushed() {
    let data = tempfile::tempdir().unwrap();
    let (daemon, command) = (TokenStore::new(data.path()), TokenStore::new(data.path()));
    let now = Utc::now().trunc_subsecs(0);
    let (_, text) = daemon.create(new("ci", None), now).unwrap();
    daemon.check(&text.reveal(), now + TimeDelta::hours(1)).unwrap().unwrap();
    let used = |store: &TokenStore| store.list().unwrap()[0].last_used;
    assert_eq!((used(&daemon), used(&command)), (Some(now + TimeDelta::hours(1)), None));
    daemon.flush().unwrap();
    assert_eq!(used(&command), Some(now + TimeDelta::hours(1)));
}

#[test]
fn nobody_is_let_in_by_a_file_that_is_damaged() {
    let data = tempfile::tempdir().unwrap();
    let store = TokenStore::new(data.path());
    let (_, text) = store.create(new("ci", None), Utc::now()).unwrap();
    let text = text.reveal();
    for damage in ["{", "{\"tokens\": [{}]}", ""] {
        fs::write(data.path().join("admin/tokens.json"), damage).unwrap();
        let error = store.check(&text, Utc::now()).unwrap_err().to_string();
        assert!(error.contains("tokens.json"), "{error}");
    }
    fs::remove_file(data.path().join("admin/tokens.json")).unwrap();
    assert!(store.check(&text, Utc::now()).unwrap().is_none());
}

#[test]
fn many_who_make_tokens_at_once_lose_none() {
    let data = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for maker in 0..4 {
            let store = TokenStore::new(data.path());
            scope.spawn(move || {
                for round in 0..5 {
                    store.create(new(&format!("{maker}-{round}"), None), Utc::now()).unwrap();
                }
            });
        }
    });
    assert_eq!(TokenStore::new(data.path()).list().unwrap().len(), 20);
}
