//! Secrets that are not in the flow: `{ env = "NAME" }`, `{ file = "PATH" }` and `{ credential = "NAME" }` become the texts that are there.

use std::path::Path;

use millstream_core::{FilesRead, Problem, Problems, Step};

use super::interpolate::Environment;
use super::secrets::SHORTEST;
use super::text::Text;
use super::value::{Entry, Value, ValueKind};
use super::walk::Walked;

/// The most bytes that a secret may have.
const LARGEST: usize = 64 << 10;

/// The variable in which systemd says where the credentials of a service are.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where secrets are looked up.
pub struct Vault<'a> {
    environment: Environment<'a>,
    /// The folder of the flow file.
    folder: &'a Path,
    files: &'a FilesRead,
    /// What may not be meant, such as a password in the file itself. Places begin at the root.
    pub notes: Problems,
}

/// A secret, and the name that is shown in its place.
struct Found {
    name: String,
    value: String,
}

impl<'a> Vault<'a> {
    pub fn new(environment: Environment<'a>, folder: &'a Path, files: &'a FilesRead) -> Self {
        Self { environment, folder, files, notes: Problems::new() }
    }

    /// Puts what is there in the place of every secret that is elsewhere. Those that are not there are unknown from now on.
    pub fn fill(&mut self, root: &mut Value, walked: &Walked) -> Problems {
        let is_good = |at: &&Vec<Step>| !walked.problems.iter().any(|problem| problem.at.starts_with(at));
        walked.secrets.iter().filter(is_good).filter_map(|at| self.fill_one(root, at)).collect()
    }

    fn fill_one(&mut self, root: &mut Value, at: &[Step]) -> Option<Problem> {
        let secret = root.at_mut(at)?;
        let found = match &secret.kind {
            // As `"${NAME:}"` says where the variable is not set: there is none.
            ValueKind::String(text) if text.as_str().is_empty() => return None,
            ValueKind::String(text) if text.variables().next().is_none() => {
                let note = Problem::new(format!("{} stands in the file, where others may read it", setting(at)));
                let help = "write `\"${NAME}\"`, `{ file = \"PATH\" }` or `{ credential = \"NAME\" }`";
                self.notes.push(note.help(help).at(at.to_vec()));
                Ok(Found { name: path(at), value: text.as_str().to_owned() })
            }
            ValueKind::Table(entries) => {
                let [Entry { key, value, .. }] = entries.as_slice() else { return None };
                self.look_up(key, value.as_str()?, at)
            }
            _ => return None,
        };
        match found {
            Ok(Found { name, value }) => {
                if value.chars().count() < SHORTEST {
                    let note = Problem::new(format!("{} is too short to be hidden in what is said", setting(at)));
                    self.notes.push(note.help(format!("take one of {SHORTEST} letters at least")).at(at.to_vec()));
                }
                let mut text = Text::default();
                text.push_variable(0..0, &name, &value);
                secret.kind = ValueKind::String(text);
                None
            }
            Err(problem) => {
                secret.kind = ValueKind::Unknown;
                Some(problem.at(at.to_vec()))
            }
        }
    }

    fn look_up(&mut self, place: &str, name: &str, at: &[Step]) -> Result<Found, Problem> {
        let found = |name: String, value| Found { name, value };
        match place {
            "env" => {
                let missing = || Problem::new(format!("the environment variable `{name}` is not set")).help("set it");
                (self.environment)(name).map(|value| found(name.to_owned(), value)).ok_or_else(missing)
            }
            "file" => {
                let path = self.folder.join(name);
                if is_open_to_all(&path) {
                    let note = Problem::new(format!("everybody on this machine may read {} in `{name}`", setting(at)));
                    self.notes.push(note.help(format!("`chmod o-r {}`", path.display())).at(at.to_vec()));
                }
                Ok(found(format!("file:{name}"), read(&path, self.files)?))
            }
            _ => {
                let value = read(&self.credential(name)?, self.files)?;
                Ok(found(format!("credential:{name}"), value))
            }
        }
    }

    /// The file of a credential.
    fn credential(&self, name: &str) -> Result<std::path::PathBuf, Problem> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(Problem::new(format!("`{name}` is no name of a credential")));
        }
        let folder = (self.environment)(CREDENTIALS).ok_or_else(|| {
            let problem = Problem::new(format!("there are no credentials: `{CREDENTIALS}` is not set"));
            problem.help(format!(
                "let systemd run Millstream with `LoadCredential={name}:PATH`, or write `{{ file = \"PATH\" }}`"
            ))
        })?;
        Ok(Path::new(&folder).join(name))
    }
}

/// What a file has, without the line break at its end.
fn read(path: &Path, files: &FilesRead) -> Result<String, Problem> {
    let wrong = |what: String| Problem::new(format!("the secret in `{}` {what}", path.display()));
    let text = files.read_text(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    if text.len() > LARGEST {
        return Err(wrong(format!("is too large: more than {} KiB", LARGEST >> 10)));
    }
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(wrong("is empty".to_owned())) } else { Ok(text.to_owned()) }
}

/// Whether those may read a file who are neither its owner nor of its group. Where containers are given secrets as files it is so, and
/// does no harm: it is not refused.
#[cfg(unix)]
fn is_open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_open_to_all(_: &Path) -> bool {
    false
}

/// The setting at a place, as its table's readers name it.
fn setting(at: &[Step]) -> String {
    format!("`{}`", path(at))
}

/// The keys behind the name of the node or connection.
fn path(at: &[Step]) -> String {
    let keys = at.iter().skip(2).map(|step| match step {
        Step::Key(key) | Step::Name(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    });
    keys.collect::<Vec<_>>().join(".")
}
