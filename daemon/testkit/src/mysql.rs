//! A real MySQL or MariaDB to test with, and what only tests do to one.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts, Value};

use crate::{Services, await_progress};

/// Who may do anything, and the password.
const USER: &str = "alice";
const PASSWORD: &str = "canary-41d7";

/// A server of a test process's own, with a database `shop`.
#[derive(Debug)]
pub struct Mysql {
    services: Services,
    product: &'static str,
}

impl Mysql {
    /// The servers that there are.
    pub const PRODUCTS: [&'static str; 2] = ["mysql", "mariadb"];

    /// Starts one for a test. None where tests are to do without, which is said.
    pub fn start(product: &'static str) -> Option<Self> {
        Some(Self { services: Services::start(&[product])?, product })
    }

    /// Starts one.
    pub fn run(product: &'static str) -> Self {
        Self { services: Services::run(&[product]), product }
    }

    /// The servers, to kill and start again.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// `mysql` or `mariadb`.
    pub fn product(&self) -> &'static str {
        self.product
    }

    /// The address of the server.
    pub fn address(&self) -> &str {
        self.services.get(&format!("{}_ADDRESS", self.product.to_uppercase()))
    }

    /// The file with the certificate of the server.
    pub fn ca(&self) -> &str {
        self.services.get(&format!("{}_CA", self.product.to_uppercase()))
    }

    /// The settings by which a node connects.
    pub fn settings(&self) -> String {
        format!("address = '{}'\nuser = '{USER}'\npassword = '{PASSWORD}'\ndatabase = 'shop'\n", self.address())
    }

    fn options(&self) -> Opts {
        let (host, port) = self.address().split_once(':').unwrap();
        let tls = SslOpts::default()
            .with_disable_built_in_roots(true)
            .with_root_certs(vec![std::path::PathBuf::from(self.ca()).into()]);
        let options = OptsBuilder::default().ip_or_hostname(host).tcp_port(port.parse().unwrap()).user(Some(USER));
        let options = options.pass(Some(PASSWORD)).db_name(Some("shop")).prefer_socket(false).ssl_opts(tls);
        options.init(vec!["SET time_zone = '+00:00'"]).into()
    }

    /// Does something with a connection, over TLS.
    pub fn with<T: Send>(&self, ask: impl AsyncFnOnce(&mut Conn) -> T + Send) -> T {
        let options = self.options();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = Conn::new(options).await.unwrap();
                let answer = ask(&mut connection).await;
                connection.disconnect().await.unwrap();
                answer
            })
        };
        // A test may have a runtime of its own.
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    /// Says statements, one after the other, which are separated by `;` at the ends of lines.
    pub fn say(&self, statements: &str) {
        self.with(async |connection| {
            for statement in statements.split(";\n").map(|one| one.trim().trim_end_matches(';')) {
                if !statement.is_empty() {
                    let said = connection.query_drop(statement).await;
                    said.unwrap_or_else(|error| panic!("{statement}: {error}"));
                }
            }
        });
    }

    /// Rows, each as its values in SQL, with a blank between.
    pub fn rows(&self, query: &str) -> Vec<String> {
        self.with(async |connection| {
            let rows: Vec<Row> = connection.exec(query, ()).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            let text = |row: Row| row.unwrap().iter().map(|value| value.as_sql(true)).collect::<Vec<_>>().join(" ");
            rows.into_iter().map(text).collect()
        })
    }

    /// The one value that a query gives.
    pub fn value(&self, query: &str) -> Value {
        let value = self.with(async |connection| connection.exec_first::<Value, _, _>(query, ()).await.unwrap());
        value.unwrap_or_else(|| panic!("{query}: no row"))
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
