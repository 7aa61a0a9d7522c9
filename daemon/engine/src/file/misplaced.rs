//! Keys that a table does not take, although they are known: those of a table within it, and those that are refused there.

use millstream_core::Problem;
use serde_json::{Map, Value as Json};

use super::value::{Entry, Value, ValueKind};
use super::walk::{Facet, Walker, unions};
use super::words::{join_or, toml_text};

/// The key in the schema of a table for settings that it does not take, though somebody may try them: each with why.
const REFUSED: &str = "x-refused";

/// A setting whose table, or one of several that it may be, has a key.
struct Home<'s> {
    name: &'s str,
    /// The tables that have the key.
    tables: Vec<&'s Json>,
}

impl<'s> Walker<'s> {
    /// Reports a key that is refused for a reason, or that belongs into a table within this one. Returns false if it is neither.
    pub fn misplaced(&mut self, entry: &Entry, entries: &[Entry], facets: &[Facet<'s>]) -> bool {
        let key = entry.key.as_str();
        let refused = facets.iter().find_map(|facet| facet.get(REFUSED)?.get(key)?.as_str());
        let problem = match (refused, self.home(key, facets)) {
            (Some(why), _) => Problem::new(why).help("leave it out"),
            (None, Some(home)) => {
                let problem = Problem::new(format!("there is no setting `{key}` here"));
                problem.help(self.move_there(&home, entries, facets))
            }
            (None, None) => return false,
        };
        self.wrong_key(key, problem);
        true
    }

    fn home(&self, key: &str, facets: &[Facet<'s>]) -> Option<Home<'s>> {
        let properties = facets.iter().filter_map(|facet| facet.get("properties")?.as_object()).flatten();
        let mut homes = properties.map(|(name, schema)| {
            let mut tables = self.tables(schema);
            tables.retain(|table| self.properties(table).contains(&key));
            Home { name, tables }
        });
        homes.find(|home| !home.tables.is_empty())
    }

    /// The tables that a value may be.
    fn tables(&self, schema: &'s Json) -> Vec<&'s Json> {
        let facets = self.fixed_facets(schema);
        if facets.iter().any(|facet| facet.contains_key("properties")) {
            return vec![schema];
        }
        let variants = facets.iter().flat_map(|facet| unions(facet)).flatten();
        variants.flat_map(|variant| self.tables(variant)).collect()
    }

    /// How to write the keys of this table that belong into another one.
    fn move_there(&self, home: &Home<'s>, entries: &[Entry], facets: &[Facet<'s>]) -> String {
        let is_known =
            |key: &str| facets.iter().any(|facet| facet.get("properties").is_some_and(|own| own.get(key).is_some()));
        let has = |key: &str| home.tables.iter().any(|table| self.properties(table).contains(&key));
        let moved = entries.iter().filter(|entry| !is_known(&entry.key) && has(&entry.key));
        let moved: Map<_, _> = moved.map(|entry| (entry.key.clone(), entry.value.to_json())).collect();
        let written = entries.iter().find(|entry| entry.key == home.name).map(|entry| &entry.value);
        let (mut table, types) = self.begun(home, written);
        table.extend(moved);
        let name = home.name;
        let which = match types.as_slice() {
            [] | [_] => String::new(),
            types => format!(", where `type` is {}", join_or(types)),
        };
        format!("it belongs into `{name}`: `{name} = {}`{which}", toml_text(&table.into()))
    }

    /// What the table has already: what is written in it, or the word that stands for its type. And the types to choose from.
    fn begun(&self, home: &Home<'s>, written: Option<&Value>) -> (Map<String, Json>, Vec<String>) {
        let Some((tag, tagged)) = self.tag(&home.tables) else {
            return (written.map(Value::to_json_table).unwrap_or_default(), Vec::new());
        };
        let words = tagged.iter().map(|(word, _)| *word);
        let word = written.and_then(Value::as_str).filter(|word| words.clone().any(|known| known == *word));
        let only = word.or(tagged.first().filter(|_| tagged.len() == 1).map(|(word, _)| *word));
        match (written.map(|written| &written.kind), only) {
            (Some(ValueKind::Table(_)), _) => (written.map(Value::to_json_table).unwrap_or_default(), Vec::new()),
            (_, Some(word)) => (Map::from_iter([(tag.to_owned(), word.into())]), Vec::new()),
            (_, None) => {
                let table = Map::from_iter([(tag.to_owned(), "…".into())]);
                (table, words.map(|word| format!("`{word}`")).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, schema_for};
    use serde_json::json;

    use super::super::parse::parse;
    use super::super::walk::walk;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Node {
        format: Option<Format>,
        event_time: Option<EventTime>,
        #[schemars(extend("x-refused" = json!({ "comment": "`comment` is for others" })))]
        deep: Option<Box<Deep>>,
    }

    #[derive(JsonSchema)]
    #[serde(tag = "type", rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Format {
        Csv { delimiter: Option<String>, header: Option<bool>, timezone: Option<String> },
        Json { timezone: Option<String> },
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct EventTime {
        lateness: Option<String>,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Deep {
        depth: Option<u8>,
    }

    #[test]
    fn keys_are_told_where_they_belong() {
        let schema = schema_for!(Node).to_value();
        let messages = |toml: &str| -> Vec<String> {
            walk(&parse(toml).expect(toml), &schema).problems.iter().map(ToString::to_string).collect()
        };
        let says = |key: &str, help: &str| format!("there is no setting `{key}` here; it belongs into {help}");
        let format = |table: &str| format!("`format`: `format = {{ {table} }}`");
        let both = format("type = \"csv\", delimiter = \";\", header = false");
        for (toml, expected) in [
            ("delimiter = ';'", vec![says("delimiter", &format("type = \"csv\", delimiter = \";\""))]),
            ("delimiter = ';'\nheader = false", vec![says("delimiter", &both), says("header", &both)]),
            ("format = { type = 'csv', header = false }\ndelimiter = ';'", {
                let table = "type = \"csv\", header = false, delimiter = \";\"";
                vec![says("delimiter", &format(table))]
            }),
            ("timezone = 'UTC'", {
                let table = format("type = \"…\", timezone = \"UTC\"");
                vec![says("timezone", &format!("{table}, where `type` is `csv` or `json`"))]
            }),
            ("lateness = '5s'", vec![says("lateness", "`event_time`: `event_time = { lateness = \"5s\" }`")]),
            ("deep = { comment = '#' }", vec!["`comment` is for others; leave it out".to_owned()]),
        ] {
            assert_eq!(messages(toml), expected, "{toml}");
        }
    }
}
