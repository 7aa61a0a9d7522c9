//! The lock file beside a flow: the columns that sources elsewhere had when they were asked, for settings that leave them out.
//!
//! It lies beside `flow.toml` as `flow.lock`, and `millstream check flow.toml --connect --lock` writes it. Each schema has a fingerprint, so that
//! one is noticed that was changed by hand, or mixed from two versions.

use std::io::ErrorKind;
use std::path::Path;

use millstream_core::{Columns, FilesRead, Locked, Role, SourceSchema};
use serde::Deserialize;
use serde_json::Value as Json;

use super::diagnostic::Diagnostic;

/// The version of lock files that this program reads and writes.
const VERSION: u32 = 1;

/// How many digits a fingerprint has.
const DIGITS: usize = 32;

/// What lies beside a flow.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// Where it is, or would be.
    pub path: String,
    /// The command that writes it.
    command: String,
    /// Sorted by their settings.
    schemas: Vec<LockedSchema>,
}

/// A schema that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedSchema {
    /// The setting that leaves it out, from the root of the flow file: `input.orders.schema`.
    pub setting: String,
    /// The source that has said it.
    pub source: String,
    /// What it has said.
    pub schema: SourceSchema,
}

/// The file as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    #[serde(default)]
    schema: Vec<WrittenSchema>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSchema {
    setting: String,
    source: String,
    fingerprint: String,
    #[serde(default)]
    definition: Vec<String>,
    columns: Columns,
}

impl Lock {
    /// The one of a flow, as if nothing had been asked yet.
    pub fn beside(flow: &Path) -> Self {
        let path = flow.with_extension("lock").display().to_string();
        let command = format!("millstream check {} --connect --lock", flow.display());
        Self { path, command, schemas: Vec::new() }
    }

    /// Reads the one of a flow. There may be none, as long as nothing had to be asked.
    ///
    /// # Errors
    /// If it can't be read, or was not written as it is.
    pub fn read(flow: &Path, files: &FilesRead) -> Result<Self, Box<Diagnostic>> {
        let lock = Self::beside(flow);
        let text = match files.read_text(Path::new(&lock.path)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(lock),
            Err(error) => return Err(lock.wrong(format!("it can't be read: {error}"))),
        };
        let schemas = parse(&text).map_err(|why| lock.wrong(why))?;
        Ok(Self { schemas, ..lock })
    }

    fn wrong(&self, message: String) -> Box<Diagnostic> {
        let help = Some(format!("`{}` writes it anew", self.command));
        Box::new(Diagnostic { path: self.path.clone(), place: None, message, help, follows: false })
    }

    /// The same with other schemas.
    pub fn with(self, mut schemas: Vec<LockedSchema>) -> Self {
        schemas.sort_by(|one, other| one.setting.cmp(&other.setting));
        Self { schemas, ..self }
    }

    /// The command that writes it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// What it has for a setting.
    pub fn schema(&self, setting: &str) -> Option<&LockedSchema> {
        self.schemas.iter().find(|locked| locked.setting == setting)
    }

    /// What it has for a node.
    pub(crate) fn of(&self, role: Role, node: &str) -> Locked {
        let prefix = setting(role, node, "");
        let own = |locked: &LockedSchema| {
            let setting = locked.setting.strip_prefix(&prefix)?.to_owned();
            Some((setting, (locked.source.clone(), locked.schema.clone())))
        };
        let schemas = self.schemas.iter().filter_map(own).collect();
        Locked { file: self.path.clone(), command: self.command.clone(), schemas }
    }

    /// Its text.
    pub fn text(&self) -> String {
        let head = format!(
            "# The columns that sources elsewhere had when `{}` asked them. It belongs to the flow.\nversion = {VERSION}\n",
            self.command
        );
        self.schemas.iter().fold(head, |text, schema| text + "\n" + &schema.text())
    }
}

/// A setting of a node, from the root of the flow file.
pub fn setting(role: Role, node: &str, of_node: &str) -> String {
    format!("{}.{node}.{of_node}", role.name())
}

impl LockedSchema {
    fn text(&self) -> String {
        let Self { setting, source, schema: SourceSchema { columns, definition } } = self;
        let mut text = format!("[[schema]]\nsetting = {}\nsource = {}\n", quoted(setting), quoted(source));
        text += &format!("fingerprint = {}\n", quoted(&self.fingerprint()));
        if !definition.is_empty() {
            let texts: String = definition.iter().map(|text| format!("    {},\n", quoted(text))).collect();
            text += &format!("definition = [\n{texts}]\n");
        }
        text += "\n[schema.columns]\n";
        text + &columns.0.iter().map(|(name, column)| format!("{} = \"{column}\"\n", key(name))).collect::<String>()
    }

    /// By which it is noticed that something of it was changed.
    fn fingerprint(&self) -> String {
        let Self { setting, source, schema: SourceSchema { columns, definition } } = self;
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        [setting, source].into_iter().chain(definition).for_each(|text| add(text));
        for (name, column) in &columns.0 {
            add(name);
            add(&column.to_string());
        }
        hasher.finalize().to_hex()[..DIGITS].to_owned()
    }
}

/// What a file says, or what is wrong with it.
fn parse(text: &str) -> Result<Vec<LockedSchema>, String> {
    let Written { version, schema } = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this program reads version {VERSION}"));
    }
    let read = |written: WrittenSchema| {
        let WrittenSchema { setting, source, fingerprint, definition, columns } = written;
        let locked = LockedSchema { setting, source, schema: SourceSchema { columns, definition } };
        if locked.fingerprint() == fingerprint {
            return Ok(locked);
        }
        Err(format!("`{}` is not as it was written; other columns belong into the flow file", locked.setting))
    };
    schema.into_iter().map(read).collect()
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.contains(['"', '\\', '\n']) && !text.contains("''") && !text.ends_with('\'') && text.chars().all(is_plain) {
        // The line break at the beginning is none of it.
        return format!("'''\n{text}'''");
    }
    escaped(text)
}

/// A key as TOML writes it.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { escaped(name) }
}

/// A text in quotes, on one line. JSON escapes as TOML does, but for one letter.
fn escaped(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_core::ColumnType;

    use super::*;

    fn locked(setting: &str, columns: &[(&str, &str)], definition: &[&str]) -> LockedSchema {
        let column = |(name, of): &(&str, &str)| ((*name).to_owned(), ColumnType::parse(of).unwrap());
        let definition = definition.iter().map(|text| (*text).to_owned()).collect();
        let schema = SourceSchema { columns: Columns(columns.iter().map(column).collect()), definition };
        LockedSchema { setting: setting.to_owned(), source: "the table `orders`".to_owned(), schema }
    }

    fn lock() -> Lock {
        let orders = locked("input.shop.tables.orders.schema", &[("zip code", "utf8?"), ("id", "decimal(10,2)")], &[]);
        let payments = locked(
            "input.payments.schema",
            &[("at", "timestamp"), ("\"\u{7f}\\", "list<{ a = utf8? }>?"), ("raw", "json")],
            &["{\n\t\"type\": \"record\" }", "it's \"\u{1}\" ''' \\", "ends'", "\"\r\n"],
        );
        Lock::beside(Path::new("flows/shop.toml")).with(vec![orders, payments])
    }

    #[test]
    fn what_is_written_is_read() {
        let (lock, text) = (lock(), lock().text());
        assert_eq!(parse(&text).unwrap(), lock.schemas, "{text}");
        let plain = "\n[[schema]]\nsetting = \"input.shop.tables.orders.schema\"\nsource = \"the table `orders`\"\nfingerprint = \"";
        assert!(
            text.contains(plain)
                && text.ends_with("\"\n\n[schema.columns]\n\"zip code\" = \"utf8?\"\nid = \"decimal(10,2)\"\n"),
            "{text}"
        );
        assert!(
            text.starts_with("# ") && text.contains("`millstream check flows/shop.toml --connect --lock`"),
            "{text}"
        );
        assert_eq!(lock.path, "flows/shop.lock");
    }

    #[test]
    fn a_node_finds_its_own() {
        let own = lock().of(Role::Input, "shop");
        assert_eq!(own.schemas.keys().collect::<Vec<_>>(), ["tables.orders.schema"]);
        assert!(lock().of(Role::Input, "sho").schemas.is_empty());
    }

    #[test]
    fn what_was_changed_by_hand_is_refused() {
        let text = lock().text();
        for (from, to, expected) in [
            ("decimal(10,2)", "decimal(12,2)", "`input.shop.tables.orders.schema` is not as it was written"),
            ("zip code", "zip", "`input.shop.tables.orders.schema` is not as it was written"),
            ("version = 1", "version = 2", "it is of version 2, and this program reads version 1"),
            ("id = ", "id ", "line "),
            ("source = ", "sauce = ", "line "),
        ] {
            let error = parse(&text.replace(from, to)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
