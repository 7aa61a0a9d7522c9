//! The store over objects in memory, whose service fails in the ways in which real ones do.

use std::fmt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult, Result,
};

use super::*;

/// What becomes of a creation.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is carried out and answered.
    Well,
    /// It is carried out, and its answer gets lost.
    Unanswered,
    /// It is carried out, its answer gets lost, and the client's repetition finds that there is an object.
    Repeated,
    /// It never arrives.
    Lost,
    /// The service is busy with another creation of the same object, which comes to nothing.
    InConflict,
}

/// A service of which each creation has a fate.
#[derive(Debug)]
struct Service {
    objects: InMemory,
    fates: Vec<Fate>,
    creations: AtomicUsize,
}

impl Service {
    fn with(fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self { objects: InMemory::new(), fates: fates.to_vec(), creations: AtomicUsize::new(0) })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service that fails")
    }
}

fn connection_lost() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "the connection was lost".into() }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "409 or 412".into() }
}

#[async_trait]
impl ObjectStore for Service {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let number = self.creations.fetch_add(1, Ordering::SeqCst);
        let put = self.objects.put_opts(path, payload, options);
        match self.fates.get(number).unwrap_or(&Fate::Well) {
            Fate::Well => put.await,
            Fate::Unanswered => put.await.and(Err(connection_lost())),
            Fate::Repeated => put.await.and(Err(exists(path))),
            Fate::Lost => Err(connection_lost()),
            Fate::InConflict => Err(exists(path)),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

fn store(service: &Arc<Service>) -> RemoteStore {
    RemoteStore::new(service.clone(), "below/it/", "s3://bucket/below/it")
}

#[test]
fn what_was_put_is_there_and_is_never_overwritten() {
    let store = store(&Service::with(&[]));
    assert_eq!(store.get("a/b").unwrap(), None);
    assert!(store.put_new("a/b", b"same").unwrap());
    assert!(!store.put_new("a/b", b"same").unwrap(), "the same bytes of another call are not ours");
    assert!(!store.put_new("a/b", b"second").unwrap());
    assert_eq!(store.get("a/b").unwrap().unwrap(), b"same");
}

#[test]
fn a_creation_that_was_carried_out_is_ours_whatever_is_answered() {
    for fate in [Fate::Unanswered, Fate::Repeated] {
        let store = store(&Service::with(&[fate]));
        assert!(store.put_new("a", b"1").unwrap(), "{fate:?}");
        assert!(!store.put_new("a", b"1").unwrap(), "{fate:?}");
    }
}

#[test]
fn a_creation_that_did_not_arrive_is_repeated_a_few_times() {
    for fate in [Fate::Lost, Fate::InConflict] {
        assert!(store(&Service::with(&[fate, fate])).put_new("a", b"1").unwrap(), "{fate:?}");
        assert!(store(&Service::with(&[fate, Fate::Repeated])).put_new("a", b"1").unwrap(), "{fate:?}");
        let store = store(&Service::with(&[fate; ATTEMPTS]));
        let error = store.put_new("a", b"1").unwrap_err().to_string();
        assert!(error.starts_with("writing `s3://bucket/below/it/a`: "), "{error}");
        assert_eq!(store.get("a").unwrap(), None);
    }
}

#[test]
fn somebody_else_has_it_although_the_answer_was_lost() {
    let service = Service::with(&[Fate::Well, Fate::Unanswered, Fate::Lost]);
    assert!(store(&service).put_new("a", b"first").unwrap());
    for _ in 0..2 {
        assert!(!store(&service).put_new("a", b"second").unwrap());
    }
    assert_eq!(store(&service).get("a").unwrap().unwrap(), b"first");
}

#[test]
fn of_many_that_race_for_a_key_exactly_one_wins() {
    let fates = [Fate::Well, Fate::Unanswered, Fate::Lost, Fate::Repeated, Fate::InConflict];
    let service = Service::with(&fates.repeat(20));
    let start = Barrier::new(8);
    for round in 0..20 {
        let key = format!("round/{round}/decision");
        let winners: Vec<usize> = thread::scope(|scope| {
            let race = |number: usize| {
                let (key, service, start) = (&key, &service, &start);
                scope.spawn(move || {
                    start.wait();
                    store(service).put_new(key, &[number as u8]).unwrap().then_some(number)
                })
            };
            let racers: Vec<_> = (0..8).map(race).collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        let [winner] = winners[..] else { panic!("winners: {winners:?}") };
        assert_eq!(store(&service).get(&key).unwrap().unwrap(), [winner as u8]);
    }
    assert_eq!(store(&service).list("").unwrap().len(), 20);
}

#[test]
fn keys_are_listed_sorted_by_prefix_without_what_others_have_put_there() {
    let service = Service::with(&[]);
    let store = store(&service);
    assert!(store.list("").unwrap().is_empty());
    for key in ["m/versions/2/x", "m/versions/10/x", "m/card", "other", "model"] {
        store.put_new(key, b"").unwrap();
    }
    for foreign in ["below/it/m/.hidden", "below/item", "elsewhere"] {
        let service = service.clone();
        wait(async move { service.objects.put(&foreign.into(), PutPayload::default()).await }).unwrap().unwrap();
    }
    assert_eq!(store.list("").unwrap(), ["m/card", "m/versions/10/x", "m/versions/2/x", "model", "other"]);
    assert_eq!(store.list("m/versions/1").unwrap(), ["m/versions/10/x"]);
    assert_eq!(store.list("m").unwrap().len(), 4);
    assert!(store.list("nothing/here").unwrap().is_empty());
    assert!(store.list("../x/").is_err());
}

#[test]
fn a_whole_bucket_is_a_store() {
    let store = RemoteStore::new(Service::with(&[]), "", "s3://bucket");
    store.put_new("a/b", b"1").unwrap();
    assert_eq!((store.list("").unwrap(), store.list("a/").unwrap()), (vec!["a/b".into()], vec!["a/b".into()]));
}

#[test]
fn deleting_is_repeatable() {
    let store = store(&Service::with(&[]));
    store.put_new("a", b"1").unwrap();
    store.delete("a").unwrap();
    store.delete("a").unwrap();
    assert!(store.put_new("a", b"2").unwrap());
}

#[test]
fn a_store_works_on_threads_of_any_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { assert!(store(&Service::with(&[])).put_new("a", b"1").unwrap()) });
}
