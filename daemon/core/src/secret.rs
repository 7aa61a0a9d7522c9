//! Texts that nobody is to see.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A password or a key among settings. It can't be printed.
///
/// Flow files say it as a text with `${NAME}` in it, or where it is: `{ env = "NAME" }`, `{ file = "PATH" }`,
/// `{ credential = "NAME" }`. The engine puts the text in the place of such a table before settings are built.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The `format` by which its schema is told from that of other settings.
    pub const FORMAT: &str = "password";

    /// The text itself, for those who have to know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let table = |key: &str, description: &str| {
            json_schema!({
                "type": "object",
                "properties": { key: { "type": "string", "description": description } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A secret, which belongs into the environment or a file of its own, and not into the flow.",
            "format": Self::FORMAT,
            "anyOf": [
                { "type": "string" },
                table("env", "A variable of the environment."),
                table("file", "A file, relative to the flow's, whose content it is, without the line break at its end."),
                table("credential", "A credential that systemd has passed on to the service (`LoadCredential=`)."),
            ],
            "examples": ["${PASSWORD}"],
            "x-page": "../flows/README.md#secrets",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret("canary".to_owned());
        assert_eq!(format!("{:?}", Some(&secret)), "Some(a secret)");
        assert_eq!(secret.reveal(), "canary");
    }
}
