//! Which variant of an enum a value means, so that only that one's problems are shown.

use millstream_core::{Problem, Step, known_names};
use serde_json::Value as Json;

use super::schema::{ALSO_CALLED, LACKING};
use super::value::{Entry, Value, ValueKind};
use super::walk::{Facet, Walker, constants, unions};
use super::words::{fits, join_or, noun_of_type, sample, type_help};

impl<'s> Walker<'s> {
    /// The variant to check the value against. `None` if there is none, which has been reported.
    pub fn choose(&mut self, value: &Value, variants: &'s [Json]) -> Option<&'s Json> {
        let fitting: Vec<_> = variants.iter().filter(|variant| self.may_be(variant, value)).collect();
        match (&value.kind, fitting.as_slice()) {
            (_, []) => {
                self.fits_none(value, variants);
                None
            }
            (ValueKind::Table(_), _) => self.choose_table(value, &fitting),
            (_, [only]) => Some(only),
            (ValueKind::String(text), _) => {
                let tables: Vec<_> = variants.iter().filter_map(|variant| self.table_form(variant)).collect();
                self.choose_text(text.as_str(), value, &fitting, tables)
            }
            _ => Some(self.least_wrong(value, &fitting)),
        }
    }

    /// What holds for the schema whatever the value is.
    pub fn fixed_facets(&self, schema: &'s Json) -> Vec<Facet<'s>> {
        let mut facets = Vec::new();
        let mut open = vec![schema];
        while let Some(facet) = open.pop().map(Json::as_object) {
            facets.extend(facet);
            open.extend(facet.into_iter().flat_map(|facet| self.parts(facet)));
        }
        facets
    }

    /// Whether the schema takes values of this type at all.
    fn may_be(&self, schema: &'s Json, value: &Value) -> bool {
        self.fixed_facets(schema).into_iter().all(|facet| {
            let type_fits = facet.get("type").is_none_or(|types| fits(value, types));
            let mut unions = unions(facet);
            type_fits && unions.all(|variants| variants.iter().any(|variant| self.may_be(variant, value)))
        })
    }

    fn fits_none(&mut self, value: &Value, variants: &'s [Json]) {
        let mut choices: Vec<String> = Vec::new();
        for choice in variants.iter().flat_map(|variant| self.choices(variant)) {
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        let message = format!("expected {}, found {}", join_or(&choices), value.noun());
        let types: Json = variants.iter().flat_map(|variant| self.types(variant)).collect();
        let help = self.tagged_form(value, variants).or_else(|| type_help(value, &types, &[]));
        self.report(Problem { help, ..Problem::new(message) });
    }

    /// How the table is written that a text seems to name: `{ type = "TEXT" }`.
    fn tagged_form(&self, value: &Value, variants: &'s [Json]) -> Option<String> {
        let ValueKind::String(text) = &value.kind else { return None };
        let (tag, tagged) = self.tag(&variants.iter().collect::<Vec<_>>())?;
        let form = |word: &str| format!("`{{ {tag} = {} }}`", Json::from(word));
        match tagged.iter().find(|(word, _)| *word == text.as_str()) {
            Some((word, _)) => Some(format!("write {}", form(word))),
            None => Some(format!("such as {}", form(tagged.first()?.0))),
        }
    }

    /// The types that the schema takes.
    fn types(&self, schema: &'s Json) -> Vec<&'s str> {
        let facets = self.fixed_facets(schema);
        let inner = facets.iter().flat_map(|facet| unions(facet)).flatten().flat_map(|variant| self.types(variant));
        facets.iter().filter_map(|facet| facet.get("type")?.as_str()).chain(inner).collect()
    }

    /// What the schema takes, in words: "`fail`", "a list".
    fn choices(&self, schema: &'s Json) -> Vec<String> {
        let facets = self.fixed_facets(schema);
        if let Some(words) = facets.iter().find_map(|facet| constants(facet)) {
            return words.iter().filter_map(Json::as_str).map(|word| format!("`{word}`")).collect();
        }
        let types = facets.iter().filter_map(|facet| facet.get("type")?.as_str()).filter(|name| *name != "null");
        let types = types.map(|name| noun_of_type(name).to_owned());
        let inner = facets.iter().flat_map(|facet| unions(facet)).flatten().flat_map(|variant| self.choices(variant));
        types.chain(inner).collect()
    }

    /// The texts that the schema takes, if it does not take any text.
    fn words(&self, schema: &'s Json) -> Option<Vec<&'s str>> {
        let facets = self.fixed_facets(schema);
        if let Some(words) = facets.iter().find_map(|facet| constants(facet)) {
            return words.iter().map(Json::as_str).collect();
        }
        let variants = facets.iter().flat_map(|facet| unions(facet)).flatten();
        let variants = variants.filter(|variant| self.may_be(variant, &any_text()));
        let words: Option<Vec<_>> = variants.map(|variant| self.words(variant)).collect();
        words.map(|words| words.concat()).filter(|words| !words.is_empty())
    }

    /// How a table of the schema is written, if it takes one that has to have keys: `{ dead_letter = "…" }`.
    fn table_form(&self, schema: &'s Json) -> Option<String> {
        let facets = self.fixed_facets(schema);
        let property = |key: &str| facets.iter().find_map(|facet| facet.get("properties")?.get(key));
        let required = self.required(schema);
        let entry = |key: &&str| Some(format!("{key} = {}", sample(property(key)?, self.schema)));
        let entries: Option<Vec<_>> = required.iter().map(entry).collect();
        entries.filter(|entries| !entries.is_empty()).map(|entries| format!("{{ {} }}", entries.join(", ")))
    }

    fn choose_text(
        &mut self,
        text: &str,
        value: &Value,
        fitting: &[&'s Json],
        tables: Vec<String>,
    ) -> Option<&'s Json> {
        let words: Vec<_> = fitting.iter().map(|variant| self.words(variant)).collect();
        let said = words.iter().position(|words| words.as_ref().is_some_and(|words| words.contains(&text)));
        let free: Vec<_> = (0..fitting.len()).filter(|index| words[*index].is_none()).map(|i| fitting[i]).collect();
        match (said, free.as_slice()) {
            (Some(index), _) => Some(fitting[index]),
            (None, []) => {
                let words = words.into_iter().flatten().flatten().map(str::to_owned);
                self.can_not_be(text, &words.chain(tables).collect::<Vec<_>>());
                None
            }
            (None, free) => Some(self.least_wrong(value, free)),
        }
    }

    fn choose_table(&mut self, value: &Value, fitting: &[&'s Json]) -> Option<&'s Json> {
        if let Some((tag, tagged)) = self.tag(fitting) {
            return self.choose_by_tag(value, tag, &tagged);
        }
        if let [only] = fitting {
            return Some(only);
        }
        let has = |key: &&str| value.get(key).is_some();
        let complete = |variant: &&&'s Json| self.required(variant).iter().all(has);
        let complete: Vec<_> = fitting.iter().filter(complete).copied().collect();
        if !complete.is_empty() {
            let chosen = self.least_wrong(value, &complete);
            self.clash(value, chosen, fitting);
            return Some(chosen);
        }
        let shared = |variant: &'s Json| self.properties(variant).iter().filter(|key| has(key)).count();
        let (most, variant) = fitting.iter().map(|variant| (shared(variant), *variant)).max_by_key(|(n, _)| *n)?;
        if most == 0 {
            self.shares_no_key(value, fitting);
            return None;
        }
        Some(variant)
    }

    /// The key that tells the variants apart, and each variant with the word that this key has there.
    pub fn tag(&self, variants: &[&'s Json]) -> Option<(&'s str, Vec<(&'s str, &'s Json)>)> {
        let constants = |variant: &'s Json| -> Vec<(&'s str, &'s str)> {
            let properties = self.fixed_facets(variant).into_iter().filter_map(|f| f.get("properties")?.as_object());
            let constant = |(key, schema): (&'s String, &'s Json)| Some((key.as_str(), schema.get("const")?.as_str()?));
            properties.flatten().filter_map(constant).collect()
        };
        let (tag, _) = *constants(variants.first()?).first()?;
        let word = |variant: &&'s Json| {
            let word = constants(variant).into_iter().find(|(key, _)| *key == tag)?.1;
            Some((word, *variant))
        };
        Some((tag, variants.iter().map(word).collect::<Option<_>>()?))
    }

    fn choose_by_tag(&mut self, value: &Value, tag: &str, tagged: &[(&'s str, &'s Json)]) -> Option<&'s Json> {
        let words: Vec<_> = tagged.iter().map(|(word, _)| *word).collect();
        let Some(written) = value.get(tag) else {
            let help = known_names("", words);
            self.report(Problem::new(format!("`{tag}` is missing")).help(help));
            return None;
        };
        self.path.push(Step::from(tag));
        let word = match &written.kind {
            ValueKind::String(text) => {
                let found = tagged.iter().find(|(word, _)| *word == text.as_str());
                let meant = self.called_otherwise(text.as_str(), tag, tagged);
                match (found, meant.is_empty()) {
                    (Some(_), _) => {}
                    (None, true) => match self.lacking(text.as_str()) {
                        Some(help) => self.can_not_be_for(text.as_str(), help),
                        None => self.can_not_be(text.as_str(), &words),
                    },
                    (None, false) => {
                        self.can_not_be_for(text.as_str(), format!("it is called {} here", join_or(&meant)));
                    }
                }
                found
            }
            ValueKind::Unknown => None,
            _ => {
                self.report(Problem::new(format!("expected a string, found {}", written.noun())));
                None
            }
        };
        self.path.pop();
        word.map(|(_, variant)| *variant)
    }

    /// Which feature of the build brings what is called so, if this program was built without it.
    fn lacking(&self, word: &str) -> Option<String> {
        let feature = self.schema.get(LACKING)?.get(word)?.as_str()?;
        Some(format!("this program was built without it: `cargo build --features {feature}` brings it"))
    }

    /// The words of the variants that others call by this word.
    fn called_otherwise(&self, word: &str, tag: &str, tagged: &[(&'s str, &'s Json)]) -> Vec<String> {
        let is_meant = |variant: &'s Json| {
            let properties = self.fixed_facets(variant).into_iter().filter_map(|facet| facet.get("properties"));
            let mut others = properties.filter_map(|properties| properties.get(tag)?.get(ALSO_CALLED)?.as_array());
            others.any(|others| others.iter().any(|other| other == word))
        };
        let meant = tagged.iter().filter(|(_, variant)| is_meant(variant));
        meant.map(|(word, _)| format!("`{word}`")).collect()
    }

    /// Reports keys of other variants than the chosen one.
    fn clash(&mut self, value: &Value, chosen: &'s Json, variants: &[&'s Json]) {
        let own = self.properties(chosen);
        let others: Vec<_> = variants.iter().flat_map(|variant| self.properties(variant)).collect();
        let with: Vec<_> = self.required(chosen).iter().map(|key| format!("`{key}`")).collect();
        for Entry { key, .. } in value.entries() {
            if !own.contains(&key.as_str()) && others.contains(&key.as_str()) {
                self.wrong_key(key, Problem::new(format!("`{key}` does not go with {}", with.join(", "))));
            }
        }
    }

    fn shares_no_key(&mut self, value: &Value, variants: &[&'s Json]) {
        let known: Vec<_> = variants.iter().flat_map(|variant| self.properties(variant)).collect();
        for entry in value.entries() {
            self.unknown_key(&entry.key, &known);
        }
        if value.entries().is_empty() {
            self.report(Problem::new("the table is empty").help(known_names("", known)));
        }
    }

    /// The variant that has the fewest problems with the value; of equals, the first.
    fn least_wrong(&self, value: &Value, variants: &[&'s Json]) -> &'s Json {
        let problems = |variant: &&&'s Json| {
            let mut trial = Walker::new(self.schema, self.units, self.path.clone());
            trial.value(value, variant);
            trial.problems.len()
        };
        variants.iter().min_by_key(problems).copied().unwrap_or(&Json::Bool(true))
    }

    fn required(&self, variant: &'s Json) -> Vec<&'s str> {
        let required = self.fixed_facets(variant).into_iter().filter_map(|facet| facet.get("required")?.as_array());
        required.flatten().filter_map(Json::as_str).collect()
    }

    pub fn properties(&self, variant: &'s Json) -> Vec<&'s str> {
        let named = self.fixed_facets(variant).into_iter().filter_map(|facet| facet.get("properties")?.as_object());
        named.flat_map(|properties| properties.keys().map(String::as_str)).collect()
    }
}

/// Stands for all texts where only the type matters.
fn any_text() -> Value {
    Value { span: 0..0, kind: ValueKind::String("".into()) }
}
