//! State and models in MongoDB, with the real binary and FerretDB, which speaks its protocol. `pymongo` reads what is written. Each test starts a server of
//! its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use millstream_models::sha256;
use millstream_store::Store;
use millstream_testkit::Services;
use serde_json::{Value, json};

use crate::millstream::{self, Ran, Running, Workshop};
use crate::s3::{LEARNING, until};

/// What must never be seen.
const SECRET: &str = "canary-5b1e";

/// Prints the key, the length and the SHA-256 of all that is in a collection, and whether it is a file of GridFS: `URL DATABASE COLLECTION`.
const READ: &str = r"
import gridfs, hashlib, json, sys, pymongo

database = pymongo.MongoClient(sys.argv[1])[sys.argv[2]]
files = gridfs.GridFS(database, sys.argv[3])
for document in database[sys.argv[3]].find().sort('_id'):
    content = files.get(document['file']).read() if 'file' in document else document['bytes']
    print(json.dumps([document['_id'], len(content), hashlib.sha256(content).hexdigest(), 'file' in document]))
";

fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| millstream::python(&["pymongo==4.20.1"], "pymongo"))
}

/// A server, and a folder with the binary that uses it.
struct Site {
    workshop: Workshop,
    services: Services,
}

impl Site {
    /// None where the tests are to do without.
    fn open() -> Option<Self> {
        Some(Self { services: Services::start(&["mongodb"])?, workshop: Workshop::new() })
    }

    /// The address of a collection.
    fn url(&self, collection: &str) -> String {
        let host = self.services.get("MONGODB_HOST");
        format!("mongodb://{host}/shop/{collection}?serverSelectionTimeoutMS=2000")
    }

    /// The flow that learns, with its registry here.
    fn write_flow(&self, text: &str) {
        self.workshop.write("flow.toml", &text.replace("s3://bucket/models", &self.url("models")));
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.workshop.run(arguments)
    }

    /// The JSON line of a flow that must come to its end.
    fn finish(&self, arguments: &[&str]) -> Value {
        self.workshop.run_json(&[&["flow.toml"], arguments].concat())
    }

    /// What `pymongo` finds in a collection: key, length, SHA-256, and whether it is a file of GridFS.
    fn read(&self, collection: &str) -> Vec<(String, usize, String, bool)> {
        let url = format!("mongodb://{}/", self.services.get("MONGODB_HOST"));
        let read = Command::new(python()).args(["-c", READ, &url, "shop", collection]).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        String::from_utf8(read.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn store(&self) -> Box<dyn Store> {
        millstream_store::open(&self.url("keys"), self.workshop.path("").as_path()).unwrap()
    }
}

#[test]
fn keys_are_created_once_listed_and_deleted() {
    let Some(site) = Site::open() else { return };
    let store = site.store();
    assert_eq!((store.get("a").unwrap(), store.list("").unwrap()), (None, vec![]));
    let large = vec![7; 20 << 20];
    for (key, bytes) in [("a/b", &b"1"[..]), ("a", b""), ("ab", b"2"), ("größe/x", b"3"), ("a/large", &large)] {
        assert!(store.put_new(key, bytes).unwrap(), "{key}");
        assert!(!store.put_new(key, b"another").unwrap(), "{key}");
        assert!(store.get(key).unwrap().unwrap() == bytes, "{key}");
    }
    assert!(!store.put_new("a/b", &large).unwrap());
    assert_eq!(store.list("").unwrap(), ["a", "a/b", "a/large", "ab", "größe/x"]);
    assert_eq!(store.list("a/").unwrap(), ["a/b", "a/large"]);
    assert_eq!(store.list("grö").unwrap(), ["größe/x"]);
    let files: Vec<_> = site.read("keys").into_iter().filter(|(.., is_file)| *is_file).collect();
    assert_eq!(files, [("a/large".to_owned(), large.len(), sha256(&large), true)]);
    for key in ["a/large", "a/b", "none"] {
        store.delete(key).unwrap();
    }
    assert_eq!((store.list("a/").unwrap(), store.get("a/large").unwrap()), (vec![], None));
    assert!(site.read("keys.chunks").is_empty(), "a file is left over");
}

#[test]
fn of_many_who_create_a_key_one_wins() {
    let Some(site) = Site::open() else { return };
    let create = |name: usize| {
        let store = site.store();
        (0..20).filter(|key| store.put_new(&format!("{key}"), format!("{name}").as_bytes()).unwrap()).count()
    };
    let won: usize = thread::scope(|scope| {
        let creating: Vec<_> = (0..4).map(|name| scope.spawn(move || create(name))).collect();
        creating.into_iter().map(|creating| creating.join().unwrap()).sum()
    });
    assert_eq!((won, site.store().list("").unwrap().len()), (20, 20));
}

#[test]
fn a_flow_that_is_killed_goes_on_to_the_same_bytes() {
    let Some(site) = Site::open() else { return };
    site.write_flow(LEARNING);
    let local = ["--set", "flow.registry=models", "--set", "output.scored.path=undisturbed.csv"];
    let undisturbed = site.finish(&local);
    let state = site.url("state");
    for point in ["after-manifest:2", "recovery-taken-over", "blob-written:2", "version-written", "before-manifest:2"] {
        let mut durable = site.workshop.command(&["run", "flow.toml", "--state", &state]);
        let ran = Ran::from(durable.env("MILLSTREAM_CRASH", point).output().unwrap());
        assert_eq!(ran.code, -1, "{point}: {}", ran.stderr);
    }
    let resumed = site.finish(&["--state", &state]);
    assert_eq!(resumed["models"]["plane"]["sha256"], undisturbed["models"]["plane"]["sha256"]);
    assert!(site.workshop.read("scored.csv") == site.workshop.read("undisturbed.csv"), "the rows differ");
    // All models are those of the folder, to the bit, under the same keys.
    let found = site.read("models");
    let model = |version: u64| format!("plane/versions/{version:08}/model.safetensors");
    for version in 1..=4 {
        let (_, _, found, _) = found.iter().find(|(key, ..)| *key == model(version)).unwrap();
        let folder = site.workshop.path("models");
        assert_eq!(*found, sha256(&std::fs::read(folder.join(model(version))).unwrap()), "version {version}");
    }
    assert!(!site.workshop.exists("mongodb:"), "an address was taken for a folder");
}

#[test]
fn models_are_published_named_noted_and_used() {
    let Some(site) = Site::open() else { return };
    site.write_flow(LEARNING);
    let trained = site.finish(&[]);
    assert_eq!(trained["models"]["plane"]["version"], 4);
    let registry = site.url("models");
    let say = |arguments: &[&str]| {
        let ran = site.run(&[arguments, &["--registry", &registry]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        ran.stdout
    };
    let listed = say(&["models", "list"]);
    assert!(listed.contains("plane/1   champion") && listed.contains("plane/4"), "{listed}");
    say(&["models", "alias", "plane", "champion", "4"]);
    say(&["models", "tag", "plane/4", "quality=good"]);
    say(&["models", "describe", "plane", "a plane in space"]);
    let notes = say(&["models", "notes", "plane"]) + &say(&["models", "notes", "plane/4"]);
    assert!(notes.contains("a plane in space") && notes.contains("good"), "{notes}");
    let shown = say(&["models", "show", "plane"]);
    assert!(shown.contains(trained["models"]["plane"]["sha256"].as_str().unwrap()), "{shown}");
    let predicted = site.workshop.feed(&["predict", "plane", "--registry", &registry], "{\"x\": 1.0, \"y\": -1.0}\n");
    assert!(predicted.json()["prediction"].is_number(), "{}{}", predicted.stdout, predicted.stderr);
}

#[test]
fn two_processes_publish_one_model_and_nothing_is_lost() {
    let Some(site) = Site::open() else { return };
    site.write_flow(LEARNING);
    let run = |seed: &str| {
        let sets = [format!("processor.learner.estimator.seed={seed}"), format!("output.scored.path={seed}.csv")];
        let command = ["run", "--json", "flow.toml", "--set", &sets[0], "--set", &sets[1]];
        Running::start(site.workshop.command(&command).stdout(Stdio::piped()))
    };
    let (first, second) = (run("1"), run("2"));
    let published = [first, second].map(|running| {
        let ended = running.wait();
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        ended.json()["models"]["plane"].clone()
    });
    let found = site.read("models");
    let versions: Vec<_> = found.iter().filter(|(key, ..)| key.ends_with("/model.safetensors")).collect();
    assert_eq!(versions.len(), 8, "{found:?}");
    for published in published {
        let version = published["version"].as_u64().unwrap();
        let key = format!("plane/versions/{version:08}/model.safetensors");
        let (_, _, found, _) = versions.iter().find(|(found, ..)| *found == key).unwrap();
        assert_eq!(json!(found), published["sha256"], "version {version} is another's");
    }
}

#[test]
fn a_model_that_no_document_holds_is_published_and_used() {
    let Some(site) = Site::open() else { return };
    let layers =
        "type = \"network\", layers = [{ dense = 48, activation = \"relu\" }], optimizer = { type = \"adamw\" }";
    let large = "type = \"linear_regression\", learning_rate = 0.001";
    assert!(LEARNING.contains(layers));
    let columns = "columns = { id = \"row\", word = \"cast(row as varchar)\",";
    site.write_flow(
        &LEARNING
            .replace(layers, large)
            .replace("columns = { id = \"row\",", columns)
            .replace("features = [\"x\", \"y\"]", "features = { x = \"raw\", word = { hash = 3000000 } }")
            .replace("publish = { rows = 1000 }", ""),
    );
    let trained = site.finish(&[]);
    let found = site.read("models");
    let files: Vec<_> = found.iter().filter(|(.., is_file)| *is_file).collect();
    let [(key, length, hash, _)] = files[..] else { panic!("{files:?}") };
    assert_eq!(key, "plane/versions/00000001/model.safetensors");
    assert!(*length > 20 << 20, "{length}");
    assert_eq!(json!(hash), trained["models"]["plane"]["sha256"]);
    let row = "{\"x\": 1.0, \"word\": \"7\"}\n";
    let predicted = site.workshop.feed(&["predict", "plane", "--registry", &site.url("models")], row);
    assert!(predicted.json()["prediction"].is_number(), "{}{}", predicted.stdout, predicted.stderr);
}

#[test]
fn a_server_that_goes_away_for_a_while_delays_versions_and_loses_none() {
    let Some(site) = Site::open() else { return };
    let live = LEARNING.replace("rows = 4000\n", "rate = \"1000/s\"\n").replace("epoch.rows = 500", "epoch.rows = 250");
    site.write_flow(&live);
    let command = &["run", "--json", "flow.toml", "--state", "kept"];
    let mut running = Running::start(site.workshop.command(command).stdout(Stdio::piped()));
    let registry = site.url("models");
    let shown =
        |version: u64| site.run(&["models", "show", &format!("plane/{version}"), "--registry", &registry]).code == 0;
    until("a version", || shown(1));
    site.services.kill("mongodb");
    let mut lines = running.take_stderr();
    let said = lines.by_ref().map(Result::unwrap).find(|line| line.contains("the commit is tried again"));
    let said = said.expect("the flow has failed");
    assert!(said.contains("no server answers") && said.contains("/shop/models"), "{said}");
    site.services.start_again("mongodb");
    let published = (2..).find(|version| !shown(*version)).unwrap_or_default();
    until("another version", || shown(published + 1));
    assert_eq!(running.stop().json()["status"], "stopped");
    let whole = |version: u64| site.run(&["models", "show", &format!("plane/{version}"), "--registry", &registry]);
    for version in 1..=published + 1 {
        let ran = whole(version);
        assert_eq!(ran.code, 0, "version {version}: {}", ran.stderr);
    }
}

#[test]
fn what_is_missing_is_said() {
    let Some(site) = Site::open() else { return };
    let refused = |command: &mut Command, words: &str| {
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(ran.code, 1, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains(SECRET), "{words}: {}", ran.stderr);
    };
    let list = |registry: &str| site.workshop.command(&["models", "list", "--registry", registry]);
    let host = site.services.get("MONGODB_HOST");
    refused(&mut list(&format!("mongodb://ada:{SECRET}@{host}/shop")), "as `MONGODB_USERNAME` and `MONGODB_PASSWORD`");
    refused(&mut list("mongodb://db.example/shop"), "say `?tls=true` behind the address");
    refused(&mut list(&format!("mongodb://{host}/shop?tls=perhaps")), "opening `mongodb://");
    let nobody = "mongodb://127.0.0.1:1/shop?serverSelectionTimeoutMS=100";
    refused(&mut list(nobody), "listing `mongodb://127.0.0.1:1/shop/millstream`: no server answers");
    let mut with_password = list(&site.url("models"));
    refused(with_password.env("MONGODB_USERNAME", "ada").env("MONGODB_PASSWORD", SECRET), "listing `mongodb://");
}
