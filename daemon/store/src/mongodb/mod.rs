//! A store in a database of MongoDB: a key is a document, and what is too large for one is a file of GridFS.

mod address;
mod errors;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, TryStreamExt as _};
use millstream_core::{Error, ErrorClass, Result, ResultExt as _};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::gridfs::GridFsBucket;
use mongodb::options::{
    Acknowledgment, ClientOptions, GridFsBucketOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};

use crate::waiting::{new_mark, wait};
use crate::{Store, key};
use address::Address;

/// Keeps each key in a document: `_id` is the key, `bytes` what it has, or `file` the number of a file of GridFS; `mark` says which call has
/// created it.
///
/// That `_id` is unique makes one of several win who create a key. An answer may get lost on its way; the creation is repeated then, and the
/// mark of what is there says whether the first one was ours. Writes are acknowledged when most servers have them in their journals, and
/// reads see nothing else.
pub struct MongoStore {
    documents: Collection<Document>,
    files: GridFsBucket,
    location: String,
}

/// The most bytes that a document holds; with its other parts it may have 16 MiB.
const MOST_IN_A_DOCUMENT: usize = 15 << 20;

/// How long one request may take: a model of gigabytes is one.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How often a request is sent whose answer gets lost.
const ATTEMPTS: usize = 3;

impl MongoStore {
    /// The store at an address. Nobody is asked for anything yet.
    ///
    /// # Errors
    /// If it is no address, or has options that drivers of MongoDB don't know.
    pub fn open(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let location = address.location();
        let client = wait(connect(address.clone()))?.doing(|| format!("opening `{location}`"))?;
        let database = client.database(&address.database);
        let bucket = GridFsBucketOptions::builder().bucket_name(address.collection.clone()).build();
        let files = database.gridfs_bucket(bucket);
        Ok(Self { documents: database.collection(&address.collection), files, location })
    }

    /// Waits for a request, which is sent again if its answer gets lost.
    fn ask<T, W>(
        &self,
        doing: &str,
        key: &str,
        request: impl Fn(Collection<Document>, GridFsBucket) -> W + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = mongodb::error::Result<T>> + Send + 'static,
    {
        let (documents, files) = (self.documents.clone(), self.files.clone());
        let asked = wait(async move {
            let mut attempts = 1..ATTEMPTS;
            loop {
                match tokio::time::timeout(TIMEOUT, request(documents.clone(), files.clone())).await {
                    Ok(Err(error)) if errors::is_lost(&error) && attempts.next().is_some() => {}
                    Ok(answer) => return answer.map_err(|error| errors::in_words(&error)),
                    Err(_) => return Err(no_answer()),
                }
            }
        })?;
        let place = if key.is_empty() { self.location.clone() } else { format!("{}/{key}", self.location) };
        asked.doing(|| format!("{doing} `{place}`"))
    }
}

impl Store for MongoStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        key::check(key)?;
        let id = key.to_owned();
        self.ask("reading", key, move |documents, files| read(documents, files, id.clone()))
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        key::check(key)?;
        let document = doc! { "_id": key, "mark": new_mark()? };
        let bytes = bytes.to_vec();
        self.ask("writing", key, move |documents, files| create(documents, files, document.clone(), bytes.clone()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let first = prefix.to_owned();
        let keys: Vec<String> = self.ask("listing", "", move |documents, _| list(documents, first.clone()))?;
        // Servers may be told to order texts otherwise.
        let mut keys: Vec<String> =
            keys.into_iter().filter(|key| key.starts_with(prefix) && key::check(key).is_ok()).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<()> {
        key::check(key)?;
        let id = key.to_owned();
        self.ask("deleting", key, move |documents, files| delete(documents, files, id.clone()))
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore").field("location", &self.location).finish_non_exhaustive()
    }
}

/// A client, with a user and a password if the environment has such.
async fn connect(address: Address) -> Result<Client> {
    let in_words = |error: mongodb::error::Error| errors::in_words(&error);
    let mut options = ClientOptions::parse(address.connection_string(None)).await.map_err(in_words)?;
    let user = [std::env::var("MONGODB_USERNAME"), std::env::var("MONGODB_PASSWORD")];
    if let [Ok(user), Ok(password)] = &user {
        // What is wrong with it now is secret.
        let with_user = ClientOptions::parse(address.connection_string(Some((user, password)))).await;
        options = with_user.map_err(|_| Error::new("`MONGODB_USERNAME` and `MONGODB_PASSWORD` can't be used"))?;
    }
    options.app_name = Some("millstream".to_owned());
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    Client::with_options(options).map_err(in_words)
}

fn no_answer() -> Error {
    Error::new(format!("no answer came within {} seconds", TIMEOUT.as_secs())).of_class(ErrorClass::Transient)
}

type Answer<T> = mongodb::error::Result<T>;

async fn read(documents: Collection<Document>, files: GridFsBucket, id: String) -> Answer<Option<Vec<u8>>> {
    let Some(mut document) = documents.find_one(doc! { "_id": &id }).await? else { return Ok(None) };
    match (document.remove("bytes"), document.remove("file")) {
        (Some(Bson::Binary(Binary { bytes, .. })), _) => Ok(Some(bytes)),
        (_, Some(file)) => read_file(&files, file).await,
        _ => Err(mongodb::error::Error::custom(format!("the document `{id}` has neither `bytes` nor a `file`"))),
    }
}

/// A file; none if it was deleted meanwhile.
async fn read_file(files: &GridFsBucket, file: Bson) -> Answer<Option<Vec<u8>>> {
    let mut stream = match files.open_download_stream(file).await {
        Err(error) if errors::is_no_file(&error) => return Ok(None),
        stream => stream?,
    };
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(Some(bytes))
}

/// Creates a document. False if somebody else has.
async fn create(
    documents: Collection<Document>,
    files: GridFsBucket,
    mut document: Document,
    bytes: Vec<u8>,
) -> Answer<bool> {
    let file = if bytes.len() > MOST_IN_A_DOCUMENT {
        let file = write_file(&files, &document, &bytes).await?;
        document.insert("file", file.clone());
        Some(file)
    } else {
        document.insert("bytes", Binary { subtype: BinarySubtype::Generic, bytes });
        None
    };
    let won = match documents.insert_one(&document).await {
        Err(error) if errors::is_duplicate(&error) => None,
        inserted => Some(inserted.map(|_| true)?),
    };
    // If an attempt before has won, its file is the one that counts.
    if won.is_none()
        && let Some(file) = file
    {
        files.delete(file).await?;
    }
    match won {
        Some(won) => Ok(won),
        None => is_marked(&documents, &document).await,
    }
}

/// Writes a file of a number of its own, whose name is the key.
async fn write_file(files: &GridFsBucket, document: &Document, bytes: &[u8]) -> Answer<Bson> {
    let (id, name) = (Bson::ObjectId(ObjectId::new()), document.get_str("_id").unwrap_or_default());
    let mut stream = files.open_upload_stream(name).id(id.clone()).await?;
    stream.write_all(bytes).await?;
    stream.close().await?;
    Ok(id)
}

/// Whether the document that is there was created by the same call.
async fn is_marked(documents: &Collection<Document>, document: &Document) -> Answer<bool> {
    let wanted = doc! { "_id": document.get_str("_id").unwrap_or_default() };
    // Waits until most servers know of it.
    let found = documents.find_one(wanted).read_concern(ReadConcern::linearizable()).await?;
    Ok(found.is_some_and(|found| found.get("mark") == document.get("mark")))
}

async fn list(documents: Collection<Document>, prefix: String) -> Answer<Vec<String>> {
    let behind = format!("{prefix}{}", char::MAX);
    let found = documents.find(doc! { "_id": { "$gte": &prefix, "$lte": behind } }).projection(doc! { "_id": 1 });
    let key = |document: Document| document.get_str("_id").map(str::to_owned).unwrap_or_default();
    found.await?.map_ok(key).try_collect().await
}

async fn delete(documents: Collection<Document>, files: GridFsBucket, id: String) -> Answer<()> {
    let wanted = doc! { "_id": id };
    let found = documents.find_one(wanted.clone()).projection(doc! { "file": 1 }).await?;
    documents.delete_one(wanted).await?;
    match found.and_then(|mut document| document.remove("file")) {
        Some(file) => match files.delete(file).await {
            Err(error) if errors::is_no_file(&error) => Ok(()),
            deleted => deleted,
        },
        None => Ok(()),
    }
}
