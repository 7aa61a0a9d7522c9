//! Aliases: names that point at versions, such as `champion`.

use std::collections::BTreeMap;

use millstream_core::{Error, Result, known_names};

use super::reference::check_alias;
use super::{CHAMPION, ModelRegistry, check_model_name};

/// Aliases and the versions that they point at.
pub type Aliases = BTreeMap<String, u64>;

impl ModelRegistry {
    /// The aliases of a model.
    pub fn aliases(&self, model: &str) -> Result<Aliases> {
        check_model_name(model)?;
        Ok(self.table(&folder(model))?.1)
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
        if self.table_number(&folder(model))? > 0 {
            return Ok(());
        }
        let Some(first) = self.versions(model)?.first().copied() else { return Ok(()) };
        // Losing means that there is a table now, which is as good.
        let table = Aliases::from([(CHAMPION.to_owned(), first)]);
        self.put_table(&folder(model), 1, &table)?;
        Ok(())
    }

    fn change_aliases(&self, model: &str, change: impl Fn(&mut Aliases) -> Result<()>) -> Result<()> {
        check_model_name(model)?;
        self.change_table(&folder(model), change).map(drop)
    }
}

fn folder(model: &str) -> String {
    format!("{model}/aliases/")
}
