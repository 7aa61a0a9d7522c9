//! Checks a tree against a JSON schema, and says everything that is wrong with it.
//!
//! Not a validator for any schema: it knows what schemars makes of settings structs, and speaks of it in the words of
//! flow files. A tagged or untagged enum is checked as the one variant that the value most likely means. Tables take no
//! keys but those that the schema names.

use millstream_core::{Problem, Problems, Secret, Step, known_names, nearest};
use serde_json::{Map, Value as Json};

use super::units::UnitTypes;
use super::value::{Entry, Value, ValueKind};
use super::words::{expected, fits, range_problem, sample, type_help};

/// What was found in a tree. Places begin at its root.
pub struct Walked {
    /// Everything that is wrong.
    pub problems: Problems,
    /// Where secrets are.
    pub secrets: Vec<Vec<Step>>,
}

/// Goes through `root`.
pub fn walk(root: &Value, schema: &Json) -> Walked {
    let units = UnitTypes::new();
    let mut walker = Walker::new(schema, &units, Vec::new());
    walker.value(root, schema);
    let Walker { problems, secrets, .. } = walker;
    Walked { problems, secrets }
}

/// One object of a schema. What holds for a value may be said by several: a schema, what it refers to, a variant.
pub type Facet<'s> = &'s Map<String, Json>;

pub struct Walker<'s> {
    /// The whole schema, which references are looked up in.
    pub schema: &'s Json,
    pub units: &'s UnitTypes,
    /// The way to the value that is being checked.
    pub path: Vec<Step>,
    pub problems: Problems,
    secrets: Vec<Vec<Step>>,
}

impl<'s> Walker<'s> {
    pub fn new(schema: &'s Json, units: &'s UnitTypes, path: Vec<Step>) -> Self {
        Self { schema, units, path, problems: Vec::new(), secrets: Vec::new() }
    }

    pub fn value(&mut self, value: &Value, schema: &'s Json) {
        if value.kind == ValueKind::Unknown {
            return;
        }
        let Some(facets) = self.facets(value, schema) else { return };
        if facets.iter().any(|facet| facet.get("format").is_some_and(|format| format == Secret::FORMAT)) {
            self.secrets.push(self.path.clone());
        }
        if !self.type_fits(value, &facets) || !self.is_one_of(value, &facets) {
            return;
        }
        match &value.kind {
            ValueKind::String(text) => self.text(text.as_str(), &facets),
            ValueKind::Integer(number) => self.number(*number as f64, &number.to_string(), &facets),
            ValueKind::Float(number) => self.number(*number, &number.to_string(), &facets),
            ValueKind::Array(items) => self.array(items, &facets),
            ValueKind::Table(entries) => self.table(entries, &facets),
            ValueKind::Boolean(_) | ValueKind::Datetime(_) | ValueKind::Unknown => {}
        }
    }

    pub fn report(&mut self, problem: Problem) {
        self.problems.push(problem.at(self.path.clone()));
    }

    /// All that the schema says about this value. `None` if it fits no variant, which has been reported.
    fn facets(&mut self, value: &Value, schema: &'s Json) -> Option<Vec<Facet<'s>>> {
        let mut facets = Vec::new();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            let Some(facet) = schema.as_object() else { continue };
            facets.push(facet);
            open.extend(self.parts(facet));
            for variants in unions(facet) {
                open.push(self.choose(value, variants)?);
            }
        }
        Some(facets)
    }

    /// The schemas that hold beside this one whatever the value is.
    pub fn parts(&self, facet: Facet<'s>) -> Vec<&'s Json> {
        let reference = facet.get("$ref").and_then(Json::as_str).and_then(|target| target.strip_prefix('#'));
        let target = reference.and_then(|pointer| self.schema.pointer(pointer));
        let all = facet.get("allOf").and_then(Json::as_array).into_iter().flatten();
        target.into_iter().chain(all).collect()
    }

    fn type_fits(&mut self, value: &Value, facets: &[Facet<'s>]) -> bool {
        let misfit = facets.iter().filter_map(|facet| facet.get("type")).find(|types| !fits(value, types));
        let Some(types) = misfit else { return true };
        let message = format!("expected {}, found {}", expected(types), value.noun());
        let problem = Problem { help: type_help(value, types, facets), ..Problem::new(message) };
        self.report(problem);
        false
    }

    fn is_one_of(&mut self, value: &Value, facets: &[Facet<'s>]) -> bool {
        for allowed in facets.iter().filter_map(|facet| constants(facet)) {
            let json = value.to_json();
            if !allowed.contains(&json) {
                let allowed: Vec<_> = allowed.iter().map(plain).collect();
                self.can_not_be(&plain(&json), &allowed);
                return false;
            }
        }
        true
    }

    /// Reports a word that is none of those there are.
    pub fn can_not_be<S: AsRef<str>>(&mut self, word: &str, allowed: &[S]) {
        self.can_not_be_for(word, known_names(word, allowed.iter().map(AsRef::as_ref)));
    }

    /// Reports a word that can't be there.
    pub fn can_not_be_for(&mut self, word: &str, help: String) {
        let message = match self.path.last() {
            Some(Step::Key(key)) => format!("`{key}` can't be `{word}`"),
            _ => format!("expected something else than `{word}`"),
        };
        self.report(Problem::new(message).help(help));
    }

    fn text(&mut self, text: &str, facets: &[Facet<'s>]) {
        let units = self.units;
        if let Some(message) = facets.iter().find_map(|facet| units.check(facet, text)) {
            self.report(Problem::new(message));
        }
        let least = limit(facets, "minLength").unwrap_or(0);
        if (text.chars().count() as u64) < least {
            self.report(Problem::new(match least {
                1 => "the text is empty".to_owned(),
                least => format!("expected at least {least} characters"),
            }));
        }
    }

    fn number(&mut self, number: f64, written: &str, facets: &[Facet<'s>]) {
        if let Some(message) = facets.iter().find_map(|facet| range_problem(number, written, facet)) {
            self.report(Problem::new(message));
        }
    }

    fn array(&mut self, items: &[Value], facets: &[Facet<'s>]) {
        self.count(items.len() as u64, facets);
        let first = facets.iter().find_map(|facet| facet.get("prefixItems")?.as_array());
        let rest = facets.iter().find_map(|facet| facet.get("items"));
        for (index, item) in items.iter().enumerate() {
            let schema = first.and_then(|first| first.get(index)).or(rest);
            if let Some(schema) = schema {
                self.under(Step::Index(index), |walker| walker.value(item, schema));
            }
        }
    }

    fn count(&mut self, count: u64, facets: &[Facet<'s>]) {
        let least = limit(facets, "minItems").filter(|least| count < *least);
        let most = limit(facets, "maxItems").filter(|most| count > *most);
        let message = match (least, most) {
            (Some(1), _) => "the list is empty".to_owned(),
            (Some(least), _) => format!("expected at least {least} elements, found {count}"),
            (None, Some(most)) => format!("expected at most {most} elements, found {count}"),
            (None, None) => return,
        };
        self.report(Problem::new(message));
    }

    fn table(&mut self, entries: &[Entry], facets: &[Facet<'s>]) {
        let known = properties(facets);
        let mut meant = Vec::new();
        for entry in entries {
            match member(facets, &entry.key) {
                Member::Schema(schema) => {
                    self.under(Step::Key(entry.key.clone()), |walker| walker.value(&entry.value, schema));
                    meant.push(entry.key.as_str());
                }
                Member::Unknown if self.misplaced(entry, entries, facets) => {}
                Member::Unknown => {
                    self.unknown_key(&entry.key, &known);
                    // A misspelt key is not missing as well.
                    meant.extend(nearest(&entry.key, known.iter().copied()));
                }
            }
        }
        let required = facets.iter().filter_map(|facet| facet.get("required")?.as_array()).flatten();
        // By now, a node has the settings of its connection.
        let lent = facets.iter().filter_map(|facet| facet.get("else")?.get("required")?.as_array()).flatten();
        for key in required.chain(lent).filter_map(Json::as_str).filter(|key| !meant.contains(key)) {
            self.missing_key(key, facets);
        }
    }

    pub fn unknown_key(&mut self, key: &str, known: &[&str]) {
        let problem = Problem::new(format!("there is no setting `{key}`"));
        self.wrong_key(key, problem.help(known_names(key, known.iter().copied())));
    }

    /// Reports a key, unless that has been done already.
    pub fn wrong_key(&mut self, key: &str, problem: Problem) {
        self.under(Step::Name(key.to_owned()), |walker| {
            if !walker.problems.iter().any(|known| known.at == walker.path) {
                walker.report(problem);
            }
        });
    }

    fn missing_key(&mut self, key: &str, facets: &[Facet<'s>]) {
        let schema = facets.iter().find_map(|facet| facet.get("properties")?.get(key));
        let sample = schema.map_or_else(|| "…".to_owned(), |schema| sample(schema, self.schema));
        self.report(Problem::new(format!("`{key}` is missing")).help(format!("add `{key} = {sample}`")));
    }

    fn under(&mut self, step: Step, check: impl FnOnce(&mut Self)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }
}

/// The variants of each union that a schema is.
pub fn unions(facet: Facet<'_>) -> impl Iterator<Item = &Vec<Json>> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| facet.get(key)?.as_array())
}

/// The values that a schema takes, if it does not take any of a type.
pub fn constants(facet: Facet<'_>) -> Option<&[Json]> {
    let only = facet.get("const").map(std::slice::from_ref);
    only.or_else(|| facet.get("enum")?.as_array().map(Vec::as_slice))
}

/// What a schema says about a key.
enum Member<'s> {
    Schema(&'s Json),
    Unknown,
}

fn member<'s>(facets: &[Facet<'s>], key: &str) -> Member<'s> {
    let named = facets.iter().find_map(|facet| facet.get("properties")?.get(key));
    let others = || facets.iter().filter_map(|facet| facet.get("additionalProperties")).find(|any| **any != false);
    // A schema that says nothing about keys takes any.
    let silent = || !facets.iter().any(|f| f.contains_key("properties") || f.contains_key("additionalProperties"));
    match named.or_else(others) {
        Some(schema) => Member::Schema(schema),
        None if silent() => Member::Schema(&Json::Bool(true)),
        None => Member::Unknown,
    }
}

fn properties<'s>(facets: &[Facet<'s>]) -> Vec<&'s str> {
    let named = facets.iter().filter_map(|facet| facet.get("properties")?.as_object());
    named.flat_map(|properties| properties.keys().map(String::as_str)).collect()
}

fn limit(facets: &[Facet<'_>], key: &str) -> Option<u64> {
    facets.iter().find_map(|facet| facet.get(key)?.as_u64())
}

/// A constant as it is shown: texts without quotes.
fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::{JsonSchema, schema_for};
    use serde::Deserialize;

    use super::super::parse::parse;
    use super::*;

    /// Shapes that the nodes of the other tests don't have.
    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Shapes {
        pair: Option<(String, u8)>,
        nullable: Option<i64>,
        number: Option<f64>,
        rate: Option<Rate>,
        labels: Option<BTreeMap<String, bool>>,
        nested: Option<Box<Shapes>>,
        #[serde(flatten)]
        format: Format,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "format", rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Format {
        Csv { delimiter: Option<String> },
        Json(Json),
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Json {
        depth: u32,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Rate {
        Fixed(f64),
        Rows(#[schemars(range(min = 10))] u64),
        Named(Named),
        Text(String),
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Named {
        Slow,
        Fast,
    }

    fn messages(toml: &str) -> Vec<String> {
        let schema = schema_for!(Shapes).to_value();
        walk(&parse(toml).expect(toml), &schema).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_values_have_no_problems() {
        for toml in [
            "format = 'csv'\ndelimiter = ';'\npair = ['a', 255]\nnullable = -5\nnumber = 5\nrate = 0.5",
            "format = 'json'\ndepth = 3\nlabels = { a = true }\nrate = 'fast'",
            "format = 'csv'\ndelimiter = 2026-01-01\nrate = 'any'\nnested = { format = 'json', depth = 1 }",
        ] {
            assert!(messages(toml).is_empty(), "{:?}", messages(toml));
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        for (toml, expected) in [
            ("pair = ['a']", "expected at least 2 elements, found 1"),
            ("pair = ['a', 256]", "expected at most 255, found 256"),
            ("pair = ['a', 1, 2]", "expected at most 2 elements, found 3"),
            ("nullable = 'x'", "expected a whole number, found a string"),
            ("number = nan", "expected a number, found a decimal number; it must be finite"),
            ("rate = []", "expected a number, a whole number, `slow`, `fast` or a string, found a list"),
            ("labels = { a = 1 }", "expected `true` or `false`, found a whole number"),
            ("nested = { format = 'xml' }", "`format` can't be `xml`; there are `csv`, `json`"),
            ("nested = { pair = 5 }", "`format` is missing; there are `csv`, `json`"),
            (
                "depth = 3",
                "there is no setting `depth`; there are `pair`, `nullable`, `number`, `rate`, `labels`, \
              `nested`, `format`, `delimiter`",
            ),
        ] {
            assert_eq!(messages(&format!("format = 'csv'\n{toml}")), [expected], "{toml}");
        }
        let all = messages("format = 'json'\npair = 1\nlabels.a = 1\nnested = { format = 'csv', x = 1 }");
        assert_eq!(all.len(), 4, "{all:?}");
    }
}
