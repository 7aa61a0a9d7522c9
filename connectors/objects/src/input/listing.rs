//! Which objects there are.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use glob::{MatchOptions, Pattern};
use millstream_core::{Error, Problem, Result, ResultExt as _};
use millstream_store::{Objects, Scheme, object_error};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};

/// How names are compared with patterns.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// What an object is, so that it is known when it is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What the service calls its content.
    pub etag: Option<String>,
    /// How many bytes it has.
    pub size: u64,
    /// When it was changed last, in microseconds since 1970.
    pub modified: i64,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its name below the connection's address.
    pub name: String,
    /// What it is.
    pub version: Version,
}

impl Version {
    /// That of an object that is there.
    pub fn of(object: &ObjectMeta) -> Self {
        Self { etag: object.e_tag.clone(), size: object.size, modified: object.last_modified.timestamp_micros() }
    }

    /// The second in which it was changed last: some answers say no more.
    pub fn second(&self) -> i64 {
        self.modified.div_euclid(1_000_000)
    }

    /// Whether it is the same content. Not every server names that.
    pub fn is(&self, other: &Self) -> bool {
        let tags = self.etag.as_ref().zip(other.etag.as_ref());
        self.size == other.size && tags.map_or(self.second() == other.second(), |(one, two)| quoted(one) == quoted(two))
    }

    /// The tag with which the content is asked for. None if the server has none that says that every byte is the same.
    pub fn tag(&self) -> Option<String> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/")).map(quoted)
    }
}

/// A tag in quotes, which some listings leave out.
fn quoted(tag: &str) -> String {
    if tag.starts_with('"') || tag.starts_with("W/") { tag.to_owned() } else { format!("\"{tag}\"") }
}

/// Which objects are wanted.
#[derive(Debug, Default)]
pub struct Patterns {
    /// Names of objects.
    names: Vec<String>,
    /// What is listed for each pattern, and the pattern.
    patterns: Vec<(String, Pattern)>,
}

impl Patterns {
    /// One more path or pattern.
    pub fn add(&mut self, path: &str, objects: &Objects) -> Result<(), Problem> {
        let path = path.trim_start_matches('/');
        if path.is_empty() || path.ends_with('/') {
            let problem = Problem::new(format!("`{path}` names no objects"));
            return Err(problem.help("to read all in a folder, write `FOLDER/*.parquet`, say"));
        }
        let Some(first) = path.find(['*', '?', '[']) else {
            objects.path(path).map_err(|error| Problem::new(error.to_string()))?;
            self.names.push(path.to_owned());
            return Ok(());
        };
        if objects.scheme == Scheme::Web {
            let problem = Problem::new("a web server does not say what it has");
            return Err(problem.help("name each file, without a pattern"));
        }
        let pattern = Pattern::new(path).map_err(|error| Problem::new(format!("`{path}` is no pattern: {error}")))?;
        let folder = path[..first].rfind('/').map_or("", |end| &path[..end]);
        objects.path(folder).map_err(|error| Problem::new(error.to_string()))?;
        self.patterns.push((folder.to_owned(), pattern));
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }

    /// The folders that are listed.
    pub fn folders(&self) -> Vec<String> {
        self.patterns.iter().map(|(folder, _)| folder.clone()).collect()
    }

    /// Whether a name is one of those that are wanted.
    pub fn is_wanted(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
            || self.patterns.iter().any(|(_, pattern)| pattern.matches_with(name, OPTIONS))
    }

    /// The objects that are there, in the order of their names.
    ///
    /// # Errors
    /// If they can't be listed, or one that was named is not there, though all have to be.
    pub async fn find(&self, objects: &Objects, all_named: bool) -> Result<Vec<Found>> {
        let mut found = BTreeMap::new();
        for name in &self.names {
            let path = objects.path(name)?;
            let object = match objects.store.head(&path).await {
                Err(object_store::Error::NotFound { .. }) if !all_named => continue,
                Err(object_store::Error::NotFound { .. }) => Err(Error::new("it is not there")),
                object => object.map_err(|error| object_error(&error)),
            };
            let object = object.doing(|| format!("looking for `{name}` at `{}`", objects.location))?;
            found.insert(name.clone(), Version::of(&object));
        }
        for (folder, pattern) in &self.patterns {
            let doing = || format!("listing `{}/{folder}`", objects.location);
            let folder = objects.path(folder)?;
            let mut listed = objects.store.list(Some(&folder).filter(|folder| **folder != Path::default()));
            while let Some(object) = listed.try_next().await.map_err(|error| object_error(&error)).doing(doing)? {
                let Some(name) = objects.name(&object.location) else { continue };
                if pattern.matches_with(name, OPTIONS) {
                    found.insert(name.to_owned(), Version::of(&object));
                }
            }
        }
        Ok(found.into_iter().map(|(name, version)| Found { name, version }).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_store::ObjectsOptions;

    use super::*;

    fn objects() -> Objects {
        Objects::open("s3://bucket/below", &ObjectsOptions { anonymous: true, ..ObjectsOptions::default() }).unwrap()
    }

    #[test]
    fn what_stands_before_a_pattern_is_listed() {
        let mut patterns = Patterns::default();
        for path in ["a/b*/c.csv", "d/**/*.csv", "*.csv", "e/f.csv"] {
            patterns.add(path, &objects()).unwrap();
        }
        assert_eq!(patterns.folders(), ["a", "d", ""]);
        for name in ["a/b1/c.csv", "d/x.csv", "d/e/f/x.csv", "x.csv", "e/f.csv"] {
            assert!(patterns.is_wanted(name), "{name}");
        }
        for name in ["a/c/c.csv", "d/x.parquet", "z/x.csv", "e/g.csv", "a/b/b/c.csv"] {
            assert!(!patterns.is_wanted(name), "{name}");
        }
        for path in ["", "a/", "../x", "a***b"] {
            assert!(patterns.add(path, &objects()).is_err(), "{path}");
        }
    }

    #[test]
    fn versions_are_told_apart() {
        let version = |etag: Option<&str>, size, modified| Version { etag: etag.map(str::to_owned), size, modified };
        assert!(version(Some("\"a\""), 1, 1).is(&version(Some("a"), 1, 2)), "quotes may be left out");
        assert!(!version(Some("a"), 1, 1).is(&version(Some("b"), 1, 1)));
        assert!(!version(Some("a"), 1, 1).is(&version(Some("a"), 2, 1)));
        assert!(
            version(None, 1, 1).is(&version(Some("b"), 1, 1)) && !version(None, 1, 1).is(&version(None, 1, 2_000_000))
        );
        assert_eq!(version(Some("W/\"a\""), 1, 1).tag(), None);
        assert_eq!(version(Some("a"), 1, 1).tag().as_deref(), Some("\"a\""));
    }
}
