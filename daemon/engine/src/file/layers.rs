//! Settings of the program itself, which are no flow: files that lie over each other, and variables of the environment over all.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::{Problems, parse_settings};
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Document;
use super::interpolate::interpolate;
use super::parse::parse_at;
use super::secrets::Secrets;
use super::set::put;
use super::source::Source;
use super::value::{Value, ValueKind};
use super::walk::walk;

/// Where settings come from; each lies over those before.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// TOML files.
    pub files: &'a [PathBuf],
    /// The variables of the environment.
    pub variables: &'a [(String, String)],
    /// What the names of those begin with that are settings: with `MILLSTREAM__`, `MILLSTREAM__FLOWS__FOLDER` is `flows.folder`.
    pub prefix: &'a str,
}

/// A setting, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Setting {
    /// Its name, with those of the tables that it is in: `admin.rate`.
    pub key: String,
    /// Its value as it is written, with `${NAME}` for that of a variable.
    pub value: Json,
    /// The file and line, the variable of the environment, or `default`.
    pub origin: String,
}

/// Where the value of a setting comes from that nobody has set.
const DEFAULT: &str = "default";

impl Layers<'_> {
    /// Reads and checks the settings. The error has everything that is wrong, each at its place.
    pub fn read<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Diagnostics> {
        self.read_with(|_| Problems::new())
    }

    /// Reads and checks the settings, and asks what else is wrong with them, which is said at its place as well.
    pub fn read_with<T: DeserializeOwned + JsonSchema>(
        &self,
        check: impl FnOnce(&T) -> Problems,
    ) -> Result<T, Diagnostics> {
        let name = self.files.first().map_or_else(|| "the settings".to_owned(), |file| file.display().to_string());
        let mut source = Source::new(name, String::new());
        let mut root = Value { span: 0..0, kind: ValueKind::Table(Vec::new()) };
        let mut diagnostics = self.lay_all(&mut root, &mut source);
        let variable = |name: &str| self.variables.iter().find(|known| known.0 == name).map(|known| known.1.clone());
        diagnostics.extend(interpolate(&mut root, &variable, &source));
        let problems = walk(&root, &schema_for!(T).to_value()).problems;
        let document = Document { source, root, secrets: Arc::new(Secrets::default()) };
        diagnostics.extend(problems.into_iter().map(|problem| document.diagnose(problem)));
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let settings = parse_settings(Json::Object(document.root.to_json_table()))
            .map_err(|problem| Diagnostics::from(document.diagnose(problem)))?;
        let wrong: Diagnostics = check(&settings).into_iter().map(|problem| document.diagnose(problem)).collect();
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }

    /// The settings that have a value, and where it comes from. `defaults` is a text in which each has its default.
    pub fn shown(&self, defaults: &str) -> Result<Vec<Setting>, Diagnostics> {
        let mut source = Source::new(DEFAULT.to_owned(), String::new());
        let mut root = Value { span: 0..0, kind: ValueKind::Table(Vec::new()) };
        let start = source.add_file(DEFAULT.to_owned(), defaults.to_owned());
        let read = parse_text(defaults, start, &source)?;
        lay(&mut root, read);
        let wrong = self.lay_all(&mut root, &mut source);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut shown = Vec::new();
        show("", &root, &|span| source.origin(span), &mut shown);
        for setting in &mut shown {
            if setting.origin.rsplit_once(':').is_some_and(|(path, _)| path == DEFAULT) {
                setting.origin = DEFAULT.to_owned();
            }
        }
        Ok(shown)
    }

    /// Lays all files and variables over a tree. What is wrong with them.
    fn lay_all(&self, root: &mut Value, source: &mut Source) -> Diagnostics {
        let mut diagnostics = Diagnostics::default();
        for file in self.files {
            match read(file, source) {
                Ok(over) => lay(root, over),
                Err(wrong) => diagnostics.extend(wrong),
            }
        }
        diagnostics.extend(self.variables.iter().filter_map(|variable| self.vary(root, variable, source)));
        diagnostics
    }

    /// Puts the value of a variable into the tree, if it is a setting. What is wrong with it.
    fn vary(&self, root: &mut Value, (name, value): &(String, String), source: &mut Source) -> Option<Diagnostic> {
        let path = name.strip_prefix(self.prefix)?;
        let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let start = source.add_variable(name, value);
        let wrong = put(root, &path, value, start..start + value.len()).err();
        wrong.map(|(message, help)| source.diagnostic(&(start..start + value.len()), message, help))
    }
}

/// The `*.toml` in a folder, by their names. None if there is no such folder.
pub fn drop_ins(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn read(path: &Path, source: &mut Source) -> Result<Value, Diagnostics> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Diagnostic {
        path: shown.clone(),
        place: None,
        message: format!("the file can't be read: {error}"),
        help: None,
        follows: false,
    })?;
    let start = source.add_file(shown, text.clone());
    parse_text(&text, start, source)
}

/// Parses a text that is a part of a source.
fn parse_text(text: &str, start: usize, source: &Source) -> Result<Value, Diagnostics> {
    parse_at(text, start).map_err(|errors| {
        let placed = |error: super::parse::SyntaxError| {
            source.diagnostic(&(error.span.start + start..error.span.end + start), error.message, error.help)
        };
        errors.into_iter().map(placed).collect()
    })
}

/// Adds the settings of a tree: what is no table, and tables without entries.
fn show(key: &str, value: &Value, origin: &impl Fn(&Range<usize>) -> String, shown: &mut Vec<Setting>) {
    let entries = value.entries();
    if entries.is_empty() && !key.is_empty() {
        shown.push(Setting { key: key.to_owned(), value: value.to_json(), origin: origin(&value.span) });
    }
    for entry in entries {
        let key = if key.is_empty() { entry.key.clone() } else { format!("{key}.{}", entry.key) };
        show(&key, &entry.value, origin, shown);
    }
}

/// Lays a tree over another one: tables are joined, and anything else takes the place of what was there.
fn lay(under: &mut Value, over: Value) {
    let (Some(entries), ValueKind::Table(over_entries)) = (under.entries_mut(), &over.kind) else {
        *under = over;
        return;
    };
    for entry in over_entries.iter().cloned() {
        match entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => {
                known.key_span = entry.key_span;
                lay(&mut known.value, entry.value);
            }
            None => entries.push(entry),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::Problem;
    use serde::Deserialize;

    use super::*;

    /// Settings to test with.
    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        name: String,
        flows: Flows,
    }

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Flows {
        folder: String,
        threads: Option<u16>,
    }

    /// The settings of files with these texts, and of variables.
    fn settings(texts: &[&str], variables: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = |(number, text): (usize, &&str)| {
            let path = folder.path().join(format!("{number}.toml"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let files: Vec<_> = texts.iter().enumerate().map(file).collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let layers = Layers { files: &files, variables: &variables, prefix: "MS__" };
        let shown = format!("{}/", folder.path().display());
        layers.read().map_err(|wrong: Diagnostics| wrong.to_string().replace(&shown, ""))
    }

    #[test]
    fn each_lies_over_those_before() {
        let texts = ["name = 'a'\nflows.folder = 'x'", "[flows]\nfolder = '${HOME}/y'"];
        let found = settings(&texts, &[("HOME", "/h"), ("MS__FLOWS__THREADS", "4"), ("MS__NAME", "b")]);
        let expected = Settings { name: "b".into(), flows: Flows { folder: "/h/y".into(), threads: Some(4) } };
        assert_eq!(found, Ok(expected));
        assert_eq!(settings(&[], &[]), Ok(Settings::default()));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_its_place() {
        let wrong = settings(&["flows.folder = 1", "[flow]\nthreads = 2"], &[("MS__FLOWS__THREADS", "many")]);
        let wrong = wrong.unwrap_err();
        for expected in [
            "0.toml:1:16: expected a string, found a whole number",
            "1.toml:1:2: there is no setting `flow`",
            "MS__FLOWS__THREADS: expected a whole number, found a string",
        ] {
            assert!(wrong.contains(expected), "{wrong}");
        }
        assert!(settings(&["a = "], &[]).unwrap_err().starts_with("0.toml:1:5: "), "{:?}", settings(&["a = "], &[]));
    }

    #[test]
    fn what_else_is_wrong_is_said_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "[flows]\nthreads = 7").unwrap();
        let layers = Layers { files: &[file], variables: &[], prefix: "MS__" };
        let check = |settings: &Settings| {
            assert_eq!(settings.flows.threads, Some(7));
            vec![
                Problem::new("too many").at(["flows", "threads"]).help("say 4"),
                Problem::new("it has to be said").at(["name"]),
            ]
        };
        let wrong = layers.read_with(check).unwrap_err().to_string();
        assert!(wrong.contains("a.toml:2:11: too many") && wrong.contains("it has to be said"), "{wrong}");
        assert!(layers.read_with(|_: &Settings| Problems::new()).is_ok());
    }

    #[test]
    fn each_setting_says_where_its_value_comes_from_and_no_value_of_a_variable_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "name = 'a'\n\n[flows]\nfolder = 'x/${KEY}'\nlevels = { b = 'info' }").unwrap();
        let variables = [("KEY", "secret"), ("MS__NAME", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let layers = Layers { files: std::slice::from_ref(&file), variables: &variables, prefix: "MS__" };
        let shown = layers.shown("name = ''\n[flows]\nfolder = 'y'\nthreads = 2\nlevels = {}\nhosts = []").unwrap();
        let shown: Vec<_> =
            shown.iter().map(|Setting { key, value, origin }| format!("{key} = {value} # {origin}")).collect();
        let place = |line: usize| format!("{}:{line}", file.display());
        let expected = [
            "name = \"b\" # MS__NAME".to_owned(),
            format!("flows.folder = \"x/${{KEY}}\" # {}", place(4)),
            "flows.threads = 2 # default".to_owned(),
            format!("flows.levels.b = \"info\" # {}", place(5)),
            "flows.hosts = [] # default".to_owned(),
        ];
        assert_eq!(shown, expected);
        let wrong = Layers { variables: &[("MS__NAME__X".to_owned(), "1".to_owned())], ..layers };
        assert!(wrong.shown("").is_err());
    }

    #[test]
    fn drop_ins_are_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "c.bak"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = drop_ins(folder.path()).unwrap();
        assert_eq!(found, [folder.path().join("a.toml"), folder.path().join("b.toml")]);
        assert!(drop_ins(&folder.path().join("none")).unwrap().is_empty());
    }
}
