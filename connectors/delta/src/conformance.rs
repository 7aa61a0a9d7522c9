//! The suite that every output passes, with folders and with a real S3.

use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use arrow::array::RecordBatch;
use delta_kernel::Snapshot;
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use millstream_core::NodeTypes;
use millstream_store::{Objects, ObjectsOptions};
use millstream_testkit::{OutputSamples, Services, Target, check_outputs, rows_as_text, table};
use tokio::runtime::Runtime;

use crate::engine::engine;
use crate::place::Place;
use crate::register;

fn types() -> NodeTypes {
    let mut types = NodeTypes::default();
    register(&mut types);
    types
}

#[test]
fn the_example_is_accepted() {
    for kind in types().kinds() {
        let table: serde_json::Value = toml::from_str(kind.example).unwrap();
        kind.parse(table).unwrap();
        assert!(!kind.docs().is_empty(), "{} has no documentation", kind.name);
    }
}

/// Where a server of S3 is, if there is one.
fn endpoint() -> Option<&'static str> {
    static SERVICES: OnceLock<Option<Services>> = OnceLock::new();
    let services = SERVICES.get_or_init(|| Services::start(&["s3"])).as_ref();
    services.map(|services| services.get("S3_ENDPOINT"))
}

/// Waits for what is done on a runtime of its own, since suites have theirs, and connections end with the one that they were made on.
fn wait<T: Send>(work: impl Future<Output = T> + Send) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    std::thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(work)).join().unwrap())
}

/// The rows of a table, as texts; none if there is no table.
pub fn rows(objects: &Objects, path: &str) -> Vec<String> {
    let place = Place::new(objects.clone(), path.to_owned());
    wait(async {
        if !place.has_table().await.unwrap() {
            return Vec::new();
        }
        let engine = engine(place.store().clone());
        let read = move || {
            let snapshot = Snapshot::builder_for(place.root().unwrap()).build(&*engine).unwrap();
            let scan = snapshot.scan_builder().build().unwrap();
            let batches = scan.execute(engine).unwrap().map(|rows| rows.unwrap().try_into_record_batch().unwrap());
            batches.flat_map(|rows| texts(&rows)).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    })
}

fn texts(rows: &RecordBatch) -> Vec<String> {
    let text = |row| rows_as_text([&rows.slice(row, 1)]).lines().skip(1).collect();
    (0..rows.num_rows()).map(text).collect()
}

const WRONG: &[(&str, &str)] = &[
    ("url = 'https://host'", "url"),
    ("url = 's3://secret:x@b'", "url"),
    ("url = 's3://b'\nanonymous = true\npath = '../x'", "path"),
    ("url = 's3://b'\nanonymous = true\npartition = ['x']", "partition.0"),
    ("url = 's3://b'\nanonymous = true\npartition = ['ratio']", "partition.0"),
    // No column is called so, and a table has no other ones.
    ("url = 's3://b'\nanonymous = true\npartition = ['day']", "partition.0"),
    ("url = 's3://b'\nanonymous = true\nopen_partitions = 3", "open_partitions"),
];

#[test]
fn outputs() {
    let written = table(&format!(
        "id:int64 name:utf8 ratio:float64\n{}",
        (0..40).map(|id| format!("{id} name/{} {}.5\n", id % 3, id * 3)).collect::<String>()
    ));
    // Where there is a file system in memory, nothing waits for disks.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let url = format!("file://{}", folder.path().display());
    let local = Arc::new(Objects::open(&url, &ObjectsOptions::default()).unwrap());
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let below = |objects: &Arc<Objects>| {
        let objects = objects.clone();
        move |folder: &Path| rows(&objects, &name(folder))
    };
    let settings = format!("url = '{url}'\npath = 'FOLDER'\ncreate_table = true\n");
    let mut targets = vec![
        Target::new(format!("{settings}rows = 3\nevery = '1h'"), below(&local)),
        Target::new(format!("{settings}partition = ['name']\nopen_partitions = 2\nevery = '0s'"), below(&local)),
    ];
    if let Some(endpoint) = endpoint() {
        let text = |text: &str| Some(text.to_owned());
        let options = ObjectsOptions {
            endpoint: text(endpoint),
            region: text("us-east-1"),
            key_id: text("id"),
            key: text("canary"),
            allow_http: true,
            ..ObjectsOptions::default()
        };
        let remote = Arc::new(Objects::open("s3://bucket/below", &options).unwrap());
        let settings = format!(
            "url = 's3://bucket/below'\nendpoint = '{endpoint}'\nregion = 'us-east-1'\nkey_id = 'id'\nkey = 'canary'\nallow_http = true\n\
             path = 'FOLDER'\ncreate_table = true\nevery = '0s'"
        );
        targets.push(Target::new(settings, below(&remote)));
    }
    check_outputs(&types(), &[OutputSamples { node: "delta", targets, wrong: WRONG, excuses: &[] }], &written);
}
