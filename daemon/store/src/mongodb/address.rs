//! Addresses of databases: `mongodb://HOST:PORT,…/DATABASE/COLLECTION?OPTION=…`.

use millstream_core::{Error, Result};

/// The collection, where the address names none.
const COLLECTION: &str = "millstream";

/// An address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The servers, with commas between them.
    pub hosts: String,
    pub database: String,
    pub collection: String,
    /// What MongoDB's drivers know, `tls=true` for example, with `&` between them.
    pub options: String,
}

impl Address {
    /// Takes an address apart.
    ///
    /// # Errors
    /// If it is none, or it does not say whether a connection to another machine is encrypted. It is not repeated then: who puts a password
    /// into an address does not want to read it in a log.
    pub fn parse(address: &str) -> Result<Self> {
        let rest =
            address.strip_prefix("mongodb://").ok_or_else(|| no_address("it doesn't begin with `mongodb://`"))?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = path.trim_end_matches('/').split('/');
        let hosts = parts.next().unwrap_or_default().to_owned();
        if hosts.is_empty() || !hosts.chars().all(is_of_host) {
            return Err(no_address("its hosts are none"));
        }
        let database = parts.next().filter(|name| is_name(name)).ok_or_else(|| no_address("it names no database"))?;
        let collection = parts.next().unwrap_or(COLLECTION);
        if !is_name(collection) || parts.next().is_some() {
            return Err(no_address("what stands behind the database is no name of a collection"));
        }
        if options.split('&').any(is_secret) {
            return Err(no_address("one of its options is a password or a token"));
        }
        let options = options.to_owned();
        let (database, collection) = (database.to_owned(), collection.to_owned());
        let parsed = Self { hosts, database, collection, options };
        if parsed.says_tls() || parsed.hosts.split(',').all(is_here) {
            return Ok(parsed);
        }
        Err(Error::new(format!(
            "`{}` is another machine: say `?tls=true` behind the address, or `?tls=false` if all between is trusted",
            parsed.hosts
        )))
    }

    /// For messages.
    pub fn location(&self) -> String {
        format!("mongodb://{}/{}/{}", self.hosts, self.database, self.collection)
    }

    /// What drivers take, with the user and the password before the hosts if there are such.
    pub fn connection_string(&self, user: Option<(&str, &str)>) -> String {
        let user = user.map(|(user, password)| format!("{}:{}@", encoded(user), encoded(password)));
        format!("mongodb://{}{}/?{}", user.unwrap_or_default(), self.hosts, self.options)
    }

    fn says_tls(&self) -> bool {
        self.options.split('&').any(|option| option.starts_with("tls="))
    }
}

/// Whether an option is one that nobody else may read.
fn is_secret(option: &str) -> bool {
    let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
    name.contains("password") || name == "authmechanismproperties"
}

fn is_of_host(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | ',' | '[' | ']')
}

fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=60).contains(&name.len()) && name.chars().all(is_letter)
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    matches!(name, Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn no_address(why: &str) -> Error {
    Error::new(format!(
        "the address is none of a database of MongoDB: {why}; it should be `mongodb://HOST/DATABASE` or `mongodb://HOST/DATABASE/COLLECTION`, \
         and user and password belong into the environment, as `MONGODB_USERNAME` and `MONGODB_PASSWORD`"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hosts_a_database_and_a_collection() {
        let parsed = Address::parse("mongodb://127.0.0.1:27017/shop").unwrap();
        assert_eq!(parsed.location(), "mongodb://127.0.0.1:27017/shop/millstream");
        assert_eq!(parsed.connection_string(None), "mongodb://127.0.0.1:27017/?");
        assert_eq!(parsed.connection_string(Some(("a", "b@"))), "mongodb://%61:%62%40@127.0.0.1:27017/?");
        let parsed = Address::parse("mongodb://a.b:1,[fd00::1]:2/shop/models/?tls=true&replicaSet=r").unwrap();
        assert_eq!(parsed.location(), "mongodb://a.b:1,[fd00::1]:2/shop/models");
        assert_eq!(parsed.connection_string(None), "mongodb://a.b:1,[fd00::1]:2/?tls=true&replicaSet=r");
    }

    #[test]
    fn other_machines_are_reached_with_encryption_or_that_is_said() {
        for here in ["localhost", "[::1]:27017", "127.0.0.1,localhost:1"] {
            Address::parse(&format!("mongodb://{here}/shop")).unwrap();
        }
        for there in ["db", "127.0.0.1,db", "localhost.evil.example"] {
            let error = Address::parse(&format!("mongodb://{there}/shop")).unwrap_err().to_string();
            assert!(error.contains("say `?tls=true` behind the address"), "{error}");
            Address::parse(&format!("mongodb://{there}/shop?tls=false")).unwrap();
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for address in [
            "mongodb://ada:secret@localhost/shop",
            "mongodb:///secret",
            "mongodb://localhost",
            "mongodb://localhost/?secret",
            "mongodb://localhost/se.cret",
            "mongodb://localhost/shop/secret/models",
            "mongodb+srv://secret/shop",
            "mongodb://localhost/shop?proxyPassword=secret",
            "mongodb://localhost/shop?tls=true&authMechanismProperties=AWS_SESSION_TOKEN:secret",
        ] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(error.contains("as `MONGODB_USERNAME` and") && !error.contains("secret"), "{error}");
        }
    }
}
