use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use arrow::datatypes::{DataType, Field, Schema};
use millstream_store::LocalStore;

use super::*;
use crate::{Features, Missing, Signature};

pub(super) fn registry(folder: &Path) -> ModelRegistry {
    ModelRegistry::open(Box::new(LocalStore::new(folder)), "models")
}

fn card(model: &str) -> ModelCard {
    let fields = vec![Field::new("a", DataType::Float64, false), Field::new("y", DataType::Boolean, false)];
    let estimator = serde_json::from_str(r#"{ "type": "logistic_regression" }"#).unwrap();
    let features = Features::Listed(vec!["a".into()]);
    let signature = Signature::plan(&Schema::new(fields), &estimator, &features, "y", None, Missing::Fail).unwrap();
    ModelCard::new(model, &signature, 7).trained_by("flow", "node")
}

pub(super) fn publish(registry: &ModelRegistry, id: &str) -> u64 {
    registry.publish("fraud", id.as_bytes(), card("fraud"), id).unwrap()
}

fn error(result: Result<Resolved>) -> String {
    result.unwrap_err().to_string()
}

/// A store in memory that counts what it is asked for: operations, and keys that were listed.
#[derive(Clone, Default)]
struct Counting {
    keys: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    operations: Arc<Mutex<(usize, usize)>>,
}

impl Counting {
    fn count(&self, listed: usize) {
        let mut operations = self.operations.lock().unwrap();
        *operations = (operations.0 + 1, operations.1 + listed);
    }

    /// What was counted while something was done.
    fn during<T>(&self, work: impl FnOnce() -> T) -> (T, (usize, usize)) {
        *self.operations.lock().unwrap() = (0, 0);
        (work(), *self.operations.lock().unwrap())
    }
}

impl Store for Counting {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.count(0);
        Ok(self.keys.lock().unwrap().get(key).cloned())
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.count(0);
        let mut keys = self.keys.lock().unwrap();
        let new = !keys.contains_key(key);
        keys.entry(key.to_owned()).or_insert_with(|| bytes.to_vec());
        Ok(new)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let keys = self.keys.lock().unwrap();
        let found: Vec<_> = keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        self.count(found.len());
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.count(0);
        self.keys.lock().unwrap().remove(key);
        Ok(())
    }
}

#[test]
fn a_publication_costs_the_same_however_many_versions_there_are() {
    let store = Counting::default();
    let registry = ModelRegistry::open(Box::new(store.clone()), "models");
    (1..1000).for_each(|version| assert_eq!(publish(&registry, &format!("id{version}")), version));
    let (version, (operations, listed)) = store.during(|| publish(&registry, "id1000"));
    assert!(version == 1000 && operations <= 12 && listed <= 4, "{version}: {operations} operations, {listed} keys");
    let (version, (operations, listed)) = store.during(|| publish(&registry, "id17"));
    assert!(version == 17 && operations <= 10 && listed <= 4, "{version}: {operations} operations, {listed} keys");
    let (found, (operations, listed)) = store.during(|| registry.resolve("fraud/500").unwrap());
    assert!(found.version == 500 && operations <= 5 && listed == 0, "{operations} operations, {listed} keys");
    let (found, (operations, listed)) = store.during(|| registry.resolve("fraud@champion").unwrap());
    assert!(found.version == 1 && operations <= 5 && listed <= 4, "{operations} operations, {listed} keys");
    let (found, (operations, listed)) = store.during(|| registry.resolve("fraud@latest").unwrap());
    assert!(found.version == 1000 && operations <= 7 && listed <= 4, "{operations} operations, {listed} keys");
    // What `models list` does.
    let list = || {
        registry
            .versions("fraud")
            .unwrap()
            .into_iter()
            .filter(|version| registry.card("fraud", *version).is_ok())
            .count()
    };
    let (count, (operations, _)) = store.during(list);
    assert!(count == 1000 && operations <= 1001, "{count} in {operations}");
}

#[test]
fn damaged_versions_are_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    ["a", "b", "c"].iter().for_each(|id| _ = publish(&registry, id));
    for (version, file) in [(1, "card.json"), (2, "version.json"), (3, "card.json"), (3, "model.safetensors")] {
        fs::write(folder.path().join(format!("fraud/versions/{version:08}/{file}")), "damaged").unwrap();
    }
    let mut table = fs::read_dir(folder.path().join("fraud/aliases")).unwrap();
    fs::write(table.next().unwrap().unwrap().path(), "damaged").unwrap();
    assert_eq!(publish(&registry, "d"), 4);
    assert_eq!(publish(&registry, "c"), 5, "whose card is damaged is nobody's");
    assert_eq!(registry.models().unwrap(), ["fraud"]);
    assert_eq!(registry.versions("fraud").unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(registry.card("fraud", 4).unwrap().publish_id, "d");
    assert!(registry.card("fraud", 1).unwrap_err().to_string().contains("fraud/versions/00000001/card.json"));
    assert_eq!(registry.resolve("fraud@latest").unwrap().bytes, b"c");
}

#[test]
fn a_registry_from_before_publications_were_kept_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    assert_eq!([publish(&registry, "a"), publish(&registry, "b")], [1, 2]);
    for kept in ["publications", "last"] {
        fs::remove_dir_all(folder.path().join("fraud").join(kept)).unwrap();
    }
    assert_eq!([publish(&registry, "c"), publish(&registry, "d")], [3, 4]);
}

#[test]
fn what_was_published_last_is_published_once_and_anything_else_anew() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    let run = |ids: &[&str], run: &str| {
        let of = |id: &&str| ModelCard { publish_id: (*id).to_owned(), run: run.to_owned(), ..card("fraud") };
        let versions = ids.iter().map(|id| (of(id), id.as_bytes())).collect();
        registry.publish_all("fraud", versions).unwrap()
    };
    assert_eq!(run(&[], "1"), None);
    assert_eq!(run(&["a"], "1"), Some(1));
    assert_eq!(run(&["b"], "2"), Some(2));
    assert_eq!(run(&["a"], "1"), Some(1), "a repetition of the first run, after a crash");
    assert_eq!(run(&["a"], "3"), Some(3));
    assert_eq!(run(&["a", "b", "c"], "4"), Some(5), "a run that was killed in the middle of this");
    assert_eq!(run(&["a", "b", "c"], "5"), Some(5));
    assert_eq!(run(&["b", "c", "d"], "6"), Some(6));
    assert_eq!(run(&["c", "a"], "7"), Some(8));
    assert_eq!(registry.resolve("fraud@latest").unwrap().bytes, b"a");
}

#[test]
fn a_version_is_found_by_number_alias_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    assert_eq!([publish(&registry, "a"), publish(&registry, "b")], [1, 2]);
    let found = |reference| registry.resolve(reference).unwrap().bytes;
    assert_eq!(found("fraud/2"), b"b");
    assert_eq!(found("fraud@latest"), b"b");
    assert_eq!(found("fraud@champion"), b"a", "the first version is the champion");
    assert_eq!(found("fraud"), b"a");
    registry.set_alias("fraud", "champion", 2).unwrap();
    registry.set_alias("fraud", "old", 1).unwrap();
    assert_eq!((found("fraud"), found("fraud@old")), (b"b".to_vec(), b"a".to_vec()));
    registry.delete_alias("fraud", "champion").unwrap();
    publish(&registry, "c");
    let why = error(registry.resolve("fraud"));
    assert_eq!(why, "model `fraud` has no champion; say which version is meant: `fraud@latest` or `fraud/3`");
    let card = registry.resolve("fraud/1").unwrap().card;
    assert_eq!((card.version, card.rows, card.publish_id.as_str()), (1, 7, "a"));
    assert_eq!(card.sha256, crate::sha256(b"a"));
}

#[test]
fn publishing_again_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    publish(&registry, "a");
    publish(&registry, "b");
    let keys = registry.store.list("").unwrap();
    assert_eq!([publish(&registry, "a"), publish(&registry, "b")], [1, 2]);
    assert_eq!(registry.store.list("").unwrap(), keys);
}

#[test]
fn a_publication_that_was_cut_short_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    let version = folder.path().join("fraud/versions/00000001");
    for left in ["card.json", "model.safetensors", "version.json"] {
        publish(&registry, "a");
        let files = ["card.json", "model.safetensors", "version.json"];
        let after = files.iter().skip_while(|file| **file != left).skip(1);
        after.for_each(|file| fs::remove_file(version.join(file)).unwrap());
        fs::remove_dir_all(folder.path().join("fraud/aliases")).unwrap();
        let there = usize::from(left == "version.json");
        assert_eq!(registry.versions("fraud").unwrap().len(), there, "up to {left}");
        assert_eq!(publish(&registry, "a"), 1);
        assert_eq!(registry.resolve("fraud@champion").unwrap().bytes, b"a");
    }
}

#[test]
fn an_unfinished_version_of_another_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    publish(&registry, "a");
    fs::remove_file(folder.path().join("fraud/versions/00000001/version.json")).unwrap();
    fs::remove_dir_all(folder.path().join("fraud/aliases")).unwrap();
    assert!(registry.models().unwrap().is_empty());
    assert!(registry.latest("fraud").is_err());
    assert_eq!(publish(&registry, "b"), 2);
    assert_eq!(registry.latest("fraud").unwrap(), 2);
    assert_eq!(registry.resolve("fraud@champion").unwrap().version, 2);
    // A number that is not complete does not count, whatever comes behind it.
    fs::remove_file(folder.path().join("fraud/versions/00000002/version.json")).unwrap();
    assert_eq!([publish(&registry, "a"), registry.latest("fraud").unwrap()], [1, 1]);
}

#[test]
fn racing_publications_get_a_number_each() {
    let folder = tempfile::tempdir().unwrap();
    let versions: HashSet<u64> = thread::scope(|scope| {
        let race = |number: usize| {
            let registry = registry(folder.path());
            scope.spawn(move || publish(&registry, &format!("id{number}")))
        };
        let racers: Vec<_> = (0..12).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(versions.len(), 12);
    let registry = registry(folder.path());
    assert_eq!(registry.versions("fraud").unwrap(), (1..=12).collect::<Vec<_>>());
    for version in 1..=12 {
        let resolved = registry.resolve(&format!("fraud/{version}")).unwrap();
        assert_eq!(resolved.card.publish_id.as_bytes(), resolved.bytes);
    }
}

#[test]
fn racing_processes_publish_the_same_once() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            let registry = registry(folder.path());
            scope.spawn(move || assert_eq!(publish(&registry, "same"), 1));
        }
    });
    assert_eq!(registry(folder.path()).versions("fraud").unwrap(), [1]);
}

#[test]
fn racing_aliases_are_all_set() {
    let folder = tempfile::tempdir().unwrap();
    publish(&registry(folder.path()), "a");
    thread::scope(|scope| {
        for number in 0..8 {
            let registry = registry(folder.path());
            scope.spawn(move || registry.set_alias("fraud", &format!("alias{number}"), 1).unwrap());
        }
    });
    assert_eq!(registry(folder.path()).aliases("fraud").unwrap().len(), 9);
}

#[test]
fn errors_say_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    assert_eq!(error(registry.resolve("fraud")), "there is no model `fraud` in `models`; there is none");
    publish(&registry, "a");
    publish(&registry, "b");
    assert_eq!(error(registry.resolve("fruad")), "there is no model `fruad` in `models`; did you mean `fraud`?");
    assert_eq!(error(registry.resolve("fraud/3")), "model `fraud` has no version 3; it has 1 and 2");
    assert_eq!(
        error(registry.resolve("fraud@champoin")),
        "model `fraud` has no alias `champoin`; did you mean `champion`?"
    );
    assert!(registry.set_alias("fraud", "champion", 9).is_err());
    assert!(registry.set_alias("fraud", "latest", 1).is_err());
    assert!(registry.delete_alias("fraud", "none").is_err());
}

#[test]
fn a_damaged_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    publish(&registry, "a");
    fs::write(folder.path().join("fraud/versions/00000001/model.safetensors"), "b").unwrap();
    assert!(error(registry.resolve("fraud/1")).contains("is damaged"));
}

#[test]
fn notes_of_models_and_versions_change_and_nobody_loses_one() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path());
    let tag = |name: &str, value: Option<&str>| NotesChange {
        tags: [(name.to_owned(), value.map(str::to_owned))].into(),
        ..NotesChange::default()
    };
    let message =
        |version, change: &NotesChange| registry.change_notes("fraud", version, change).unwrap_err().to_string();
    assert!(message(None, &NotesChange::default()).contains("no model `fraud`"));
    publish(&registry, "one");
    assert_eq!(registry.notes("fraud", None).unwrap(), Notes::default());
    thread::scope(|scope| {
        for writer in 0..4 {
            let (registry, change) = (&registry, tag(&format!("tag{writer}"), Some("x")));
            scope.spawn(move || registry.change_notes("fraud", Some(1), &change).unwrap());
        }
    });
    assert_eq!(registry.notes("fraud", Some(1)).unwrap().tags.len(), 4);
    registry.change_notes("fraud", Some(1), &tag("tag2", None)).unwrap();
    let left: Vec<_> = registry.notes("fraud", Some(1)).unwrap().tags.into_keys().collect();
    assert_eq!(left, ["tag0", "tag1", "tag3"]);
    let describe = |text: &str| NotesChange { description: Some(text.to_owned()), ..NotesChange::default() };
    registry.change_notes("fraud", None, &describe("Scores card payments.")).unwrap();
    let of_model = registry.change_notes("fraud", None, &tag("owner", Some("payments"))).unwrap();
    assert_eq!((of_model.description.as_str(), of_model.tags.len()), ("Scores card payments.", 1));
    assert_eq!(registry.versions("fraud").unwrap(), [1]);
    assert!(message(None, &describe(&"x".repeat(20_000))).contains("16384 bytes"));
    assert!(message(None, &tag("", Some(""))).contains("a name has 1 to 250"));
    assert!(message(Some(2), &tag("a", Some("b"))).contains("no version 2"));
}
