//! Aliases: names that point at versions, such as `champion`. Every change writes the whole table anew.

use std::collections::BTreeMap;

use millstream_core::{Error, Result, known_names};

use super::reference::check_alias;
use super::versions::to_json;
use super::{CHAMPION, MOST_NUMBERS, Registry, check_model_name, numbers};

/// Aliases and the versions that they point at.
pub type Aliases = BTreeMap<String, u64>;

impl Registry {
    /// The aliases of a model.
    pub fn aliases(&self, model: &str) -> Result<Aliases> {
        Ok(self.alias_table(model)?.1)
    }

    /// Points an alias at a version that there is.
    pub fn set_alias(&self, model: &str, alias: &str, version: u64) -> Result<()> {
        check_alias(alias)?;
        if alias == "latest" {
            return Err(Error::new("`latest` always is the version with the highest number, and can't be set"));
        }
        let versions = self.versions(model)?;
        if versions.is_empty() {
            return Err(self.no_model(model)?);
        }
        if !versions.contains(&version) {
            return Err(Error::new(format!("model `{model}` has no version {version}; it has {}", numbers(&versions))));
        }
        self.change_aliases(model, |aliases| {
            aliases.insert(alias.to_owned(), version);
            Ok(())
        })
    }

    /// Removes an alias.
    pub fn delete_alias(&self, model: &str, alias: &str) -> Result<()> {
        self.change_aliases(model, |aliases| match aliases.remove(alias) {
            Some(_) => Ok(()),
            None => {
                let known = known_names(alias, aliases.keys().map(String::as_str));
                Err(Error::new(format!("model `{model}` has no alias `{alias}`; {known}")))
            }
        })
    }

    /// Makes the first version the champion, unless somebody has ever set an alias.
    pub(super) fn crown_the_first(&self, model: &str) -> Result<()> {
        let (number, _) = self.alias_table(model)?;
        let Some(first) = self.versions(model)?.first().copied().filter(|_| number == 0) else { return Ok(()) };
        // Losing means that there is a table now, which is as good.
        let table = Aliases::from([(CHAMPION.to_owned(), first)]);
        self.store.put_new(&key(model, 1), &to_json(&table)?)?;
        Ok(())
    }

    fn change_aliases(&self, model: &str, change: impl Fn(&mut Aliases) -> Result<()>) -> Result<()> {
        loop {
            let (number, mut aliases) = self.alias_table(model)?;
            change(&mut aliases)?;
            if self.store.put_new(&key(model, number + 1), &to_json(&aliases)?)? {
                return Ok(());
            }
        }
    }

    /// The table that counts, and its number; 0 if there is none.
    fn alias_table(&self, model: &str) -> Result<(u64, Aliases)> {
        check_model_name(model)?;
        let folder = folder(model);
        let keys = self.store.list(&folder)?;
        let number = |key: &String| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse::<u64>().ok();
        let numbers = keys.iter().filter_map(number).filter(|number| *number < MOST_NUMBERS);
        let Some(number) = numbers.max() else { return Ok((0, Aliases::new())) };
        Ok((number, self.read_json(&key(model, number))?.unwrap_or_default()))
    }
}

fn folder(model: &str) -> String {
    format!("{model}/aliases/")
}

fn key(model: &str, number: u64) -> String {
    format!("{}{number:08}.json", folder(model))
}
