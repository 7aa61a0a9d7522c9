//! A registry of schemas for tests, which has what it is told, and says so as Confluent's does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A registry of a test's own. It refuses schemas under subjects that begin with `closed`.
#[derive(Clone, Default)]
pub struct Registry {
    schemas: Arc<Mutex<Vec<Registered>>>,
    url: String,
}

/// A schema that it was told.
#[derive(Clone, Debug)]
pub struct Registered {
    pub subject: String,
    pub kind: String,
    pub schema: String,
    /// The subjects of the schemas that it names, with their versions.
    pub references: Vec<(String, u64)>,
}

impl Registry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let registry = Self { url, ..Self::default() };
        let serving = registry.clone();
        std::thread::spawn(move || listener.incoming().for_each(|stream| serving.serve(stream.unwrap())));
        registry
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was told, of which the first one has the number 1.
    pub fn schemas(&self) -> Vec<Registered> {
        self.schemas.lock().unwrap().clone()
    }

    /// Has a schema under a subject from now on, which names the first one of others. Returns its number.
    pub fn add(&self, subject: &str, kind: &str, schema: &str, references: &[&str]) -> u32 {
        let references = references.iter().map(|subject| ((*subject).to_owned(), 1)).collect();
        let mut schemas = self.schemas.lock().unwrap();
        schemas.push(Registered {
            subject: subject.to_owned(),
            kind: kind.to_owned(),
            schema: schema.to_owned(),
            references,
        });
        schemas.len() as u32
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut line, mut length, mut request) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
            let lower = line.to_lowercase();
            if let Some(bytes) = lower.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            if request.is_empty() {
                request = std::mem::take(&mut line);
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let (status, answer) = self.answer(&path, serde_json::from_slice(&body).ok());
        let answer = answer.to_string();
        let length = answer.len();
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
    }

    fn answer(&self, path: &str, told: Option<Value>) -> (&'static str, Value) {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let mut schemas = self.schemas.lock().unwrap();
        match (parts.as_slice(), told) {
            (["schemas", "ids", number], None) => {
                let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                found(place.and_then(|place| schemas.get(place)))
            }
            (["subjects", subject, "versions", version], None) => {
                let versions: Vec<_> = schemas.iter().filter(|known| known.subject == *subject).collect();
                let place = version.parse::<usize>().unwrap_or(versions.len()).checked_sub(1);
                found(place.and_then(|place| versions.get(place).copied()))
            }
            (["subjects", subject, rest @ ..], Some(told)) => {
                let told = Registered::of(subject, &told);
                if told.subject.starts_with("closed") {
                    return ("409 Conflict", json!({ "error_code": 409, "message": "a field is missing" }));
                }
                let is_same = |known: &Registered| known.subject == told.subject && known.schema == told.schema;
                let place = match schemas.iter().position(is_same) {
                    Some(place) => place,
                    None if *rest == ["versions"] => {
                        schemas.push(told.clone());
                        schemas.len() - 1
                    }
                    None => return ("404 Not Found", json!({ "error_code": 40403, "message": "Schema not found" })),
                };
                let before = schemas[..place].iter().filter(|known| known.subject == told.subject).count();
                let mut answer = BTreeMap::from([("id", place + 1)]);
                // What registers does not say it.
                if rest.is_empty() {
                    answer.insert("version", before + 1);
                }
                ("200 OK", json!(answer))
            }
            _ => ("404 Not Found", json!({ "error_code": 404, "message": "there is nothing" })),
        }
    }
}

/// What there is to say of a schema that was asked for.
fn found(schema: Option<&Registered>) -> (&'static str, Value) {
    let Some(found) = schema else {
        return ("404 Not Found", json!({ "error_code": 40403, "message": "Schema not found" }));
    };
    let reference =
        |(subject, version): &(String, u64)| json!({ "name": subject, "subject": subject, "version": version });
    let references: Vec<_> = found.references.iter().map(reference).collect();
    ("200 OK", json!({ "schema": found.schema, "schemaType": found.kind, "references": references }))
}

impl Registered {
    fn of(subject: &str, told: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let reference = |of: &Value| (text(&of["subject"]), of["version"].as_u64().unwrap());
        Self {
            subject: subject.to_owned(),
            kind: text(&told["schemaType"]),
            schema: text(&told["schema"]),
            references: told["references"].as_array().unwrap().iter().map(reference).collect(),
        }
    }
}
