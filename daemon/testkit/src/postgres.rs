//! A real PostgreSQL to test with, and what only tests do to one.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Services, await_progress};

/// Who may do anything, and the password.
const USER: &str = "alice";
const PASSWORD: &str = "canary-41d7";

/// A server of a test process's own, with a database `shop`.
#[derive(Debug)]
pub struct Postgres {
    services: Services,
}

impl Postgres {
    /// Starts one for a test. None where tests are to do without, which is said.
    pub fn start() -> Option<Self> {
        Some(Self { services: Services::start(&["postgres"])? })
    }

    /// Starts one.
    pub fn run() -> Self {
        Self { services: Services::run(&["postgres"]) }
    }

    /// The server, to kill and start again, and its files.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The address of the server.
    pub fn address(&self) -> &str {
        self.services.get("POSTGRES_ADDRESS")
    }

    /// The file with the certificate of the server.
    pub fn ca(&self) -> &str {
        self.services.get("POSTGRES_CA")
    }

    /// The settings by which a node connects.
    pub fn settings(&self) -> String {
        format!("address = '{}'\nuser = '{USER}'\npassword = '{PASSWORD}'\ndatabase = 'shop'\n", self.address())
    }

    fn tls(&self) -> MakeRustlsConnect {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        MakeRustlsConnect::new(config.with_no_client_auth())
    }

    /// Does something with a connection, over TLS.
    pub fn with<T: Send>(&self, ask: impl AsyncFnOnce(&Client) -> T + Send) -> T {
        let (host, port) = self.address().split_once(':').unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port.parse().unwrap()).user(USER).password(PASSWORD).dbname("shop");
        config.ssl_mode(SslMode::Require);
        let tls = self.tls();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) = config.connect(tls).await.unwrap();
                let task = tokio::spawn(connection);
                client.batch_execute("SET TimeZone = 'GMT'").await.unwrap();
                let answer = ask(&client).await;
                drop(client);
                let _ = task.await;
                answer
            })
        };
        // A test may have a runtime of its own.
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    /// Says statements, one after the other, which are separated by `;` at the ends of lines.
    pub fn say(&self, statements: &str) {
        self.with(async |client| {
            for statement in statements.split(";\n").map(|one| one.trim().trim_end_matches(';')) {
                if !statement.is_empty() {
                    let said = client.batch_execute(statement).await;
                    said.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
                }
            }
        });
    }

    /// Rows, each as the texts of its values with a blank between.
    pub fn rows(&self, query: &str) -> Vec<String> {
        self.with(async |client| {
            let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
            let text = |message: SimpleQueryMessage| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|index| row.get(index).unwrap_or("NULL")).collect::<Vec<_>>().join(" "))
                }
                _ => None,
            };
            messages.into_iter().filter_map(text).collect()
        })
    }

    /// Asks for a number again and again until it is this one.
    ///
    /// # Panics
    /// If it stays another one for minutes.
    pub fn await_number(&self, query: &str, wanted: i64) {
        await_progress(|| {
            let seen = self.rows(query);
            if seen == [wanted.to_string()] { Ok(()) } else { Err((query, seen)) }
        });
    }
}
