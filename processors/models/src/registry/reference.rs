//! How flows and people name a model: `fraud`, `fraud@champion`, `fraud@latest`, `fraud/3`.

use std::fmt;

use millstream_core::{Error, Result};

/// A model, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReference {
    /// The model's name.
    pub model: String,
    /// Which of its versions.
    pub selector: Selector,
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Not said: in a flow the one that the flow trains, else the champion.
    Any,
    /// The one with the highest number.
    Latest,
    /// The one that an alias points at.
    Alias(String),
    /// This one.
    Version(u64),
}

impl ModelReference {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self> {
        let (model, selector) = if let Some((model, alias)) = text.split_once('@') {
            check_alias(alias)?;
            let latest = alias == "latest";
            (model, if latest { Selector::Latest } else { Selector::Alias(alias.to_owned()) })
        } else if let Some((model, version)) = text.rsplit_once('/') {
            check_model_name(model)?;
            let number = version.parse().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| {
                Error::new(format!("`{version}` is no version of a model; versions are numbers such as `{model}/3`"))
            })?;
            (model, Selector::Version(number))
        } else {
            (text, Selector::Any)
        };
        check_model_name(model)?;
        Ok(Self { model: model.to_owned(), selector })
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = &self.model;
        match &self.selector {
            Selector::Any => f.write_str(model),
            Selector::Latest => write!(f, "{model}@latest"),
            Selector::Alias(alias) => write!(f, "{model}@{alias}"),
            Selector::Version(version) => write!(f, "{model}/{version}"),
        }
    }
}

/// The longest name of a model or alias, which is part of the names of folders and objects.
const LONGEST: usize = 100;

/// Refuses what can't be the name of a model.
pub fn check_model_name(name: &str) -> Result<()> {
    check_name(name, "a model")
}

/// Refuses what can't be the name of an alias.
pub(super) fn check_alias(name: &str) -> Result<()> {
    check_name(name, "an alias")
}

fn check_name(name: &str, what: &str) -> Result<()> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Err(Error::new(format!(
            "`{name}` is no name for {what}; names are lowercase letters, digits and `_`, and begin with a letter"
        )));
    }
    if name.len() > LONGEST {
        let (start, length) = (&name[..20], name.len());
        return Err(Error::new(format!("the name `{start}…` of {what} has {length} letters; {LONGEST} are the most")));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_they_were_written() {
        for text in ["fraud", "fraud@champion", "fraud@latest", "fraud/3"] {
            assert_eq!(ModelReference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["", "Fraud", "fraud@", "fraud@a/b", "fraud/", "fraud/x", "fraud/0", "../fraud", "fraud/3@x", "1a"]
        {
            assert!(ModelReference::parse(text).is_err(), "{text}");
        }
        let error = ModelReference::parse("../../x/1").unwrap_err().to_string();
        assert!(error.starts_with("`../../x` is no name for a model; names are"), "{error}");
        let long = "m".repeat(300);
        let error = check_model_name(&long).unwrap_err().to_string();
        assert_eq!(error, "the name `mmmmmmmmmmmmmmmmmmmm…` of a model has 300 letters; 100 are the most");
        assert!(check_model_name(&long[..100]).is_ok() && check_alias(&long).is_err());
    }
}
