//! What a flow writes to S3 in a second, and how long it looks for objects, beside the client alone, with the server on the same machine.

use std::path::Path;
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use millstream_core::{Error, Result, ResultExt as _};
use millstream_store::{Objects, ObjectsOptions, object_error};
use millstream_testkit::Services;
use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};

use crate::flow;
use crate::measurement::{Goal, Measurement, median};

/// The flow and the client take turns so often; the medians count.
const TURNS: usize = 3;

/// So many objects are looked through.
const LISTED: usize = 100_000;

/// So many requests of the client are on their way at once, where it makes objects to be listed.
const AT_ONCE: usize = 64;

/// Measures how many bytes a second are written, and for how many seconds objects are listed.
pub fn run() -> Result<Vec<Measurement>> {
    let services = services();
    let [ours, bare] = written(&services)?;
    let name =
        "4 million rows of 4 columns → the output `objects`, Parquet in S3; beside a multipart upload of as many bytes";
    let written = Measurement::new(name, "MB/s", ours / 1e6, Goal::Times(0.8)).beside(bare / 1e6);
    let [ours, bare] = listed(&services)?;
    let name = "100,000 objects that the input `objects` looks through; beside the client's listing";
    Ok(vec![written, Measurement::new(name, "s", ours, Goal::AtMostTimes(1.2)).beside(bare)])
}

/// The server, which waits for its disk at each object: where there is one in memory, 100,000 of them are there in a minute.
pub fn services() -> Services {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { Services::run_in(memory, &["s3"]) } else { Services::run(&["s3"]) }
}

fn settings(services: &Services, node: &str) -> Vec<String> {
    vec![format!("{node}.endpoint={}", services.get("S3_ENDPOINT"))]
}

/// A place in it.
pub fn store(services: &Services, url: &str) -> Result<Objects> {
    let text = |text: &str| Some(text.to_owned());
    let options = ObjectsOptions {
        endpoint: text(services.get("S3_ENDPOINT")),
        region: text("us-east-1"),
        key_id: text("id"),
        key: text("canary-41d7"),
        allow_http: true,
        ..ObjectsOptions::default()
    };
    Objects::open(url, &options)
}

fn wrong(error: object_store::Error) -> Error {
    object_error(&error)
}

/// Counts the bytes of the objects that are there.
async fn bytes(objects: &Objects) -> Result<u64> {
    let folder = objects.path("")?;
    objects.store.list(Some(&folder)).try_fold(0, async |sum, object| Ok(sum + object.size)).await.map_err(wrong)
}

/// Measures the bytes a second that the flow and the client write: the medians.
fn written(services: &Services) -> Result<[f64; 2]> {
    let runtime = flow::runtime(2)?;
    let objects = store(services, "s3://bucket/written")?;
    let mut figures = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        let before = runtime.block_on(bytes(&objects))?;
        let begin = Instant::now();
        flow::rows_committed("objects_output.toml", &settings(services, "output.lake"), 2, "lake")?;
        let elapsed = begin.elapsed();
        let written = runtime.block_on(bytes(&objects))? - before;
        figures[0].push(written as f64 / elapsed.as_secs_f64());
        let begin = Instant::now();
        runtime.block_on(upload(services, turn, written))?;
        figures[1].push(written as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(figures.map(median))
}

/// Uploads an object of so many bytes, in parts as large as those of the output.
async fn upload(services: &Services, turn: usize, bytes: u64) -> Result<()> {
    const PART: usize = 8 << 20;
    let objects = store(services, "s3://bucket/bare")?;
    let upload = objects.store.put_multipart(&objects.path(&turn.to_string())?).await.map_err(wrong)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
    let part = vec![7; PART];
    let mut left = bytes as usize;
    while left > 0 {
        upload.wait_for_capacity(4).await.map_err(wrong)?;
        upload.write(&part[..left.min(PART)]);
        left -= left.min(PART);
    }
    upload.finish().await.map_err(wrong).map(|_| ())
}

/// Measures for how many seconds the flow and the client look for objects: the medians.
fn listed(services: &Services) -> Result<[f64; 2]> {
    let runtime = flow::runtime(2)?;
    let objects = store(services, "s3://bucket/listed")?;
    runtime.block_on(async {
        let put = |number: usize| {
            let objects = &objects;
            async move {
                let path = objects.path(&format!("{}/{number:06}.ndjson", number / 1000))?;
                objects.store.put(&path, PutPayload::from_static(b"{}")).await.map_err(wrong).map(|_| ())
            }
        };
        stream::iter((0..LISTED).map(put)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    })?;
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let begin = Instant::now();
        flow::rows_into("objects_listing.toml", &settings(services, "input.found"), 2, "gone")?;
        figures[0].push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let folder = objects.path("")?;
        let found = runtime.block_on(objects.store.list(Some(&folder)).try_fold(0, async |sum, _| Ok(sum + 1)));
        let found: usize = found.map_err(wrong).doing(|| "listing")?;
        figures[1].push(begin.elapsed().as_secs_f64());
        if found != LISTED {
            return Err(Error::new(format!("{found} objects instead of {LISTED}")));
        }
    }
    Ok(figures.map(median))
}
