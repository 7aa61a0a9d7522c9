//! The suites that every node passes, with a real S3, and with a folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, OnceLock};

use futures::TryStreamExt as _;
use millstream_core::NodeTypes;
use millstream_store::{Objects, ObjectsOptions};
use millstream_testkit::{
    InputSamples, OutputSamples, Services, Source, Target, check_examples, check_inputs, check_outputs, table,
};
use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::runtime::Runtime;

use crate::register;

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    register(&mut types);
    types
}

#[test]
fn every_example_is_accepted() {
    check_examples(&types());
}

/// A server that closures without captures find.
fn services() -> Option<&'static Services> {
    static SERVICES: OnceLock<Option<Services>> = OnceLock::new();
    SERVICES.get_or_init(|| Services::start(&["s3"])).as_ref()
}

/// Where the server is, if there is one.
pub fn endpoint() -> Option<String> {
    services().map(|services| services.get("S3_ENDPOINT").to_owned())
}

/// How a server is reached, as settings of a node.
pub fn settings(endpoint: &str) -> String {
    format!(
        "url = 's3://bucket/below'\nendpoint = '{endpoint}'\nregion = 'us-east-1'\nkey_id = 'id'\nkey = 'canary'\nallow_http = true\n"
    )
}

/// A store of the server.
pub fn objects(url: &str) -> Objects {
    let text = |text: &str| Some(text.to_owned());
    let options = ObjectsOptions {
        endpoint: endpoint(),
        region: text("us-east-1"),
        key_id: text("id"),
        key: text("canary"),
        allow_http: true,
        ..ObjectsOptions::default()
    };
    Objects::open(url, &options).unwrap()
}

/// The same, opened once for all that [`wait`] waits for, since that takes longer than most of what is asked of it.
fn kept(url: &str) -> Objects {
    static KEPT: Mutex<BTreeMap<String, Objects>> = Mutex::new(BTreeMap::new());
    KEPT.lock().unwrap().entry(url.to_owned()).or_insert_with(|| objects(url)).clone()
}

/// Waits for what is done on a runtime of its own, since suites have theirs, and connections end with the one that they were made on.
fn wait<T: Send>(work: impl Future<Output = T> + Send) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    std::thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(work)).join().unwrap())
}

/// Puts objects in the place of all that are there under a name.
fn put(url: &str, below: &str, named: &[(&str, Vec<u8>)]) {
    let store = kept(url);
    wait(async {
        let folder = store.path(below).unwrap();
        let there: Vec<_> = store.store.list(Some(&folder)).try_collect().await.unwrap();
        for object in there {
            store.store.delete(&object.location).await.unwrap();
        }
        for (name, bytes) in named {
            let path = store.path(&format!("{below}/{name}")).unwrap();
            store.store.put(&path, PutPayload::from(bytes.clone())).await.unwrap();
        }
    });
}

/// The lines of all objects under a name but the first so many of each.
pub fn lines(url: &str, below: &str, header: usize) -> Vec<String> {
    let store = kept(url);
    wait(async {
        let folder = store.path(below).unwrap();
        let there: Vec<_> = store.store.list(Some(&folder)).try_collect().await.unwrap();
        let mut lines = Vec::new();
        for object in there {
            let bytes = store.store.get(&object.location).await.unwrap().bytes().await.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            lines.extend(text.lines().skip(header).map(str::to_owned));
        }
        lines
    })
}

const WRONG_INPUT: &[(&str, &str)] = &[
    ("url = 'nowhere'\npath = 'a.csv'\nschema = { id = 'int64' }", "url"),
    ("url = 'http://host'\npath = 'a.csv'\nschema = { id = 'int64' }", "url"),
    ("url = 'https://host'\npath = '*.csv'\nschema = { id = 'int64' }", "path"),
    ("url = 's3://b'\nanonymous = true\npath = ''\nschema = { id = 'int64' }", "path"),
    ("url = 's3://b'\nanonymous = true\npath = ['a.csv', 'b.parquet']\nschema = { id = 'int64' }", "path.1"),
    ("url = 's3://b'\nanonymous = true\npath = 'a.unknown'\nschema = { id = 'int64' }", "path"),
    ("url = 's3://b'\nanonymous = true\nca = 'nowhere.pem'\npath = 'a.csv'\nschema = { id = 'int64' }", "ca"),
    ("url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\nkey_column = 'id'", "key_column"),
    (
        "url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\npartition = { id = 'int64' }",
        "partition.id",
    ),
    (
        "url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\npartition = { x = 'list<int64>' }",
        "partition.x",
    ),
    ("url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\ninterval = '0s'", "interval"),
    (
        "url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\ninterval = '1s'\nonce = 'new_objects'",
        "once",
    ),
    ("url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\nlookback = '1d'", "lookback"),
    (
        "url = 's3://b'\nanonymous = true\npath = 'a.parquet'\nschema = { id = 'int64' }\ncompression = 'gzip'",
        "compression",
    ),
    (
        "url = 's3://b'\nanonymous = true\npath = 'a.csv'\nschema = { id = 'int64' }\ntimeouts.request = '0s'",
        "timeouts.request",
    ),
];

#[test]
fn inputs() {
    let Some(s3) = endpoint().map(|endpoint| settings(&endpoint)) else { return };
    let csv = |rows: std::ops::Range<i32>| {
        let rows: String = rows.map(|row| format!("{row},{}\n", if row % 5 == 0 { "" } else { "x" })).collect();
        format!("id,name\n{rows}").into_bytes()
    };
    let named = vec![
        ("country=DE/a.csv", csv(0..10)),
        ("country=DE/b.csv", csv(0..0)),
        ("country=FR/a.csv", [csv(10..13), b"bad,y\n".to_vec(), csv(13..15)[8..].to_vec()].concat()),
        ("other.txt", b"not read".to_vec()),
    ];
    let reading = |more: &str| {
        format!(
            "{s3}path = 'csv/**/*.csv'\nschema = {{ id = 'int64', name = 'utf8?' }}\npartition = {{ country = 'utf8' }}\n{more}"
        )
    };
    let all = named.clone();
    let whole = move |_: &Path| put("s3://bucket/below", "csv", &all);
    let first = named[..2].to_vec();
    let begun = move |_: &Path| put("s3://bucket/below", "csv", &first);
    let rest = named[2..].to_vec();
    let more = move |_: &Path| {
        let store = kept("s3://bucket/below/csv");
        wait(async {
            for (name, bytes) in &rest {
                store.store.put(&store.path(name).unwrap(), PutPayload::from(bytes.clone())).await.unwrap();
            }
        });
    };
    let sources = vec![
        Source::new(reading("key_column = 'object'"), 15, 1, whole.clone()),
        Source::new(reading("once = 'new_objects'\nlookback = '1h'"), 15, 1, whole),
        Source::new(reading("interval = '50ms'"), 15, 1, begun).with_rest(more),
        Source::new(reading("on_bad_object = 'fail'"), 0, 0, |_| put("s3://bucket/below", "csv", &[])),
        Source::new(reading("on_bad_object = 'fail'").replace("{ country", "{ land"), 0, 3, {
            let named = named.clone();
            move |_| put("s3://bucket/below", "csv", &named)
        }),
    ];
    check_inputs(&types(), &[InputSamples { node: "objects", sources, wrong: WRONG_INPUT, excuses: &[] }]);
}

const WRONG_OUTPUT: &[(&str, &str)] = &[
    ("url = 'https://host'\nformat = 'csv'", "url"),
    ("url = 's3://secret:x@b'\nformat = 'csv'", "url"),
    ("url = 's3://b'\nanonymous = true\nformat = 'csv'\npath = '../x'", "path"),
    ("url = 's3://b'\nanonymous = true\nformat = 'parquet'\ncompression = 'gzip'", "compression"),
    ("url = 's3://b'\nanonymous = true\nformat = 'csv'\npartition = ['x']", "partition.0"),
    ("url = 's3://b'\nanonymous = true\nformat = 'csv'\nopen_partitions = 3", "open_partitions"),
    ("url = 's3://b'\nanonymous = true\nformat = { type = 'csv', delimiter = 'xx' }", "format.delimiter"),
];

#[test]
fn outputs() {
    let Some(s3) = endpoint().map(|endpoint| settings(&endpoint)) else { return };
    let rows = table(&format!(
        "id:int64 name:utf8 ratio:float64\n{}",
        (0..40).map(|id| format!("{id} name_{} {}.5\n", id % 3, id * 3)).collect::<String>()
    ));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let below = move |folder: &Path| lines("s3://bucket/below", &name(folder), 1);
    let targets = vec![
        // All that is written is one upload.
        Target::new(format!("{s3}path = 'FOLDER'\nformat = 'csv'"), below),
        // Objects that are put at once, and some that are uploads.
        Target::new(format!("{s3}path = 'FOLDER'\nformat = 'csv'\nrows = 3\nevery = '1h'"), below),
        Target::new(
            format!("{s3}path = 'FOLDER'\nformat = 'csv'\npartition = ['name']\nopen_partitions = 2\nevery = '0s'"),
            below,
        ),
        Target::new(format!("url = '{url}'\npath = 'FOLDER'\nformat = 'ndjson'\nrows = 7"), {
            let url = url.clone();
            move |folder: &Path| lines(&url, &name(folder), 0)
        }),
    ];
    check_outputs(&types(), &[OutputSamples { node: "objects", targets, wrong: WRONG_OUTPUT, excuses: &[] }], &rows);
}
