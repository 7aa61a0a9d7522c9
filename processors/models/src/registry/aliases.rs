//! Aliases: names that point at versions, such as `champion`. Every change writes the whole table again.

use std::collections::BTreeMap;

use millstream_core::{Error, Result, known_names};

use super::reference::check_alias;
use super::versions::to_json;
use super::{CHAMPION, MOST_NUMBERS, ModelRegistry, check_model_name};

/// Aliases and the versions that they point at.
pub type Aliases = BTreeMap<String, u64>;

impl ModelRegistry {
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
        self.check_version(model, version)?;
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
        if self.alias_number(model)? > 0 {
            return Ok(());
        }
        let Some(first) = self.versions(model)?.first().copied() else { return Ok(()) };
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
        match self.alias_number(model)? {
            0 => Ok((0, Aliases::new())),
            number => Ok((number, self.read_json(&key(model, number))?.unwrap_or_default())),
        }
    }

    /// The number of the table that counts; 0 if there is none.
    fn alias_number(&self, model: &str) -> Result<u64> {
        check_model_name(model)?;
        let folder = folder(model);
        let keys = self.store.list(&folder)?;
        let number = |key: &String| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse::<u64>().ok();
        Ok(keys.iter().filter_map(number).filter(|number| *number < MOST_NUMBERS).max().unwrap_or(0))
    }
}

fn folder(model: &str) -> String {
    format!("{model}/aliases/")
}

fn key(model: &str, number: u64) -> String {
    format!("{}{number:08}.json", folder(model))
}
