//! The processor `mask`: columns that may be seen by others.

mod generalise;
mod keyed;

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Kind, PlanContext, PortPlan, PortTime, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Secret, Step, Stream, Uses, require_column, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::generalise::{Generalise, Grain};
use self::keyed::Keyed;
use crate::refused::Refused;

/// Makes columns such that others may see them: what names somebody becomes a hash or a token, or goes; numbers and times become coarser.
/// Null stays null.
///
/// Equal values have equal hashes and tokens in every run and every flow with the same `key`, so that rows can still be counted and
/// joined by them. Without the key nobody can find out which value one stands for, by trying them all. A value is what CSV has for
/// it: text as UTF-8, numbers and times as they are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskSettings {
    /// What becomes of each column: `{ email = { type = "hash" }, name = { type = "redact" } }`.
    columns: IndexMap<String, Method>,
    /// The key of hashes and tokens: 16 bytes at least, of the kind that `openssl rand -hex 32` gives. Another one gives
    /// others, and whoever has it can try values.
    key: Option<Secret>,
}

/// What becomes of a column.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Method {
    /// The HMAC-SHA-256 of each value with `key`, as 64 hexadecimal digits, which other programs compute as well.
    Hash {},
    /// Null, a text, or the end of the value.
    Redact {
        /// The text that all values become.
        text: Option<String>,
        /// How many characters at the end of a text stay; each one before them becomes `*`. A text that has no more than that is
        /// masked as a whole.
        #[schemars(range(min = 1))]
        keep_last: Option<usize>,
    },
    /// A short text in place of a hash: the first bits of the HMAC-SHA-256 of each value with `key`, five a letter or digit.
    Tokenise {
        /// How many letters and digits. Of a million values, two may have the same with 8 of them, and don't with 16.
        #[serde(default = "default_length")]
        #[schemars(range(min = 8, max = 51))]
        length: usize,
        /// What stands in front of them, such as `"user_"`.
        #[serde(default)]
        prefix: String,
    },
    /// The nearest multiple of a number.
    Round {
        /// The number.
        #[schemars(extend("exclusiveMinimum" = 0))]
        to: f64,
    },
    /// The multiple of a number below, or the beginning of a stretch of time.
    Truncate {
        /// The number, or for times the stretch: `"1h"`, `"1d"`, `"month"`, `"year"`, counted in UTC.
        to: Grain,
    },
}

fn default_length() -> usize {
    16
}

impl Kind for MaskSettings {
    const NAME: &'static str = "mask";
    const ALSO_CALLED: &'static [&'static str] =
        &["anonymize", "anonymise", "pseudonymize", "redact", "tokenize", "hash"];
    const EXAMPLE: &'static str = r#"key = "${MASK_KEY}"
columns = { email = { type = "hash" }, card = { type = "redact", keep_last = 4 }, born = { type = "truncate", to = "year" } }"#;
}

impl ProcessorSettings for MaskSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let mut problems = Problems::new();
        let mut masks = Vec::new();
        if self.columns.is_empty() {
            problems.push(
                Problem::new("there are no columns").help("such as `{ email = { type = \"hash\" } }`").at(["columns"]),
            );
        }
        for (name, method) in &self.columns {
            match require_column(name, &stream.schema).and_then(|field| self.mask(field, method)) {
                Ok(mask) => masks.extend(stream.schema.index_of(name).map(|place| (place, mask))),
                Err(problem) => {
                    let place = if problem.at.first() == Some(&Step::from(KEY)) {
                        vec![]
                    } else {
                        vec!["columns", name.as_str()]
                    };
                    problems.push(place.into_iter().rev().fold(problem, Problem::under));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut fields: Vec<FieldRef> = stream.schema.fields().iter().cloned().collect();
        for (place, mask) in &masks {
            fields[*place] = mask.field(&fields[*place]).into();
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, stream.schema.metadata().clone()));
        let is_time = stream.event_time.as_ref().is_some_and(|time| self.columns.contains_key(time));
        let time = if is_time { PortTime::Recomputed } else { PortTime::Inherited };
        let ports = vec![PortPlan::main(schema.clone()).with_event_time(time)];
        let mask = MaskColumns { masks: masks.into(), schema };
        let uses = vec![Uses::passing_on(self.columns.keys().cloned())];
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(mask))) })
    }
}

/// The setting with the key.
const KEY: &str = "key";

/// How many bytes a key has at least.
const SHORTEST_KEY: usize = 16;

impl MaskSettings {
    fn mask(&self, field: &Field, method: &Method) -> Result<Mask, Problem> {
        match method {
            Method::Hash {} => Ok(Mask::Hash(self.keyed(field)?)),
            Method::Tokenise { length, prefix } => {
                if !(8..=51).contains(length) {
                    return Err(Problem::new(format!("a token of {length} letters is none"))
                        .help("8 to 51")
                        .at(["length"]));
                }
                Ok(Mask::Token(self.keyed(field)?, *length, prefix.clone()))
            }
            Method::Redact { text: None, keep_last: None } => Ok(Mask::Null),
            Method::Redact { text: Some(text), keep_last: None } => Ok(Mask::Text(text.clone())),
            Method::Redact { text: None, keep_last: Some(0) } => {
                Err(Problem::new("nothing stays of 0 characters").help("leave `keep_last` out").at(["keep_last"]))
            }
            Method::Redact { text: None, keep_last: Some(last) } if *field.data_type() == DataType::Utf8 => {
                Ok(Mask::End(*last))
            }
            Method::Redact { text: None, keep_last: Some(_) } => Err(no_text(field).at(["keep_last"])),
            Method::Redact { text: Some(_), keep_last: Some(_) } => {
                let problem = Problem::new("a value becomes a text or keeps its end, not both");
                Err(problem.help("leave out `text` or `keep_last`").at(["keep_last"]))
            }
            Method::Round { to } => {
                Generalise::round(*to, field).map(Mask::Coarse).map_err(|problem| problem.at(["to"]))
            }
            Method::Truncate { to } => {
                Generalise::truncate(to, field).map(Mask::Coarse).map_err(|problem| problem.at(["to"]))
            }
        }
    }

    fn keyed(&self, field: &Field) -> Result<Keyed, Problem> {
        let Some(key) = &self.key else {
            let problem = Problem::new("hashes and tokens need a `key`");
            return Err(problem.help("set it from the environment: `key = \"${MASK_KEY}\"`"));
        };
        if key.reveal().len() < SHORTEST_KEY {
            let problem = Problem::new(format!("a key of less than {SHORTEST_KEY} bytes can be guessed"));
            return Err(problem.help("`openssl rand -hex 32` gives one").at([KEY]));
        }
        if field.data_type().is_nested() {
            return Err(no_text(field));
        }
        Ok(Keyed::new(key.reveal().as_bytes()))
    }
}

fn no_text(field: &Field) -> Problem {
    Problem::new(format!("`{}` is {}, which is no text", field.name(), type_name(field.data_type())))
}

/// What becomes of a column, planned.
#[derive(Clone, Debug)]
enum Mask {
    Null,
    Text(String),
    /// So many characters at the end stay.
    End(usize),
    Hash(Keyed),
    Token(Keyed, usize, String),
    Coarse(Generalise),
}

impl Mask {
    fn field(&self, field: &Field) -> Field {
        match self {
            Self::Null => field.clone().with_nullable(true),
            Self::Text(_) | Self::End(_) | Self::Hash(_) | Self::Token(..) => {
                field.clone().with_data_type(DataType::Utf8)
            }
            Self::Coarse(_) => field.clone(),
        }
    }

    /// The column, and the values that have no place in it, which are null.
    fn apply(&self, column: &ArrayRef) -> Result<ArrayRef> {
        Ok(match self {
            Self::Null => new_null_array(column.data_type(), column.len()),
            Self::Text(text) => {
                let texts = StringArray::from_iter_values(std::iter::repeat_n(text, column.len()));
                Arc::new(StringArray::try_new(texts.offsets().clone(), texts.values().clone(), column.logical_nulls())?)
            }
            Self::End(last) => ends(column.as_string(), *last),
            Self::Hash(keyed) => keyed.hashes(column)?,
            Self::Token(keyed, length, prefix) => keyed.tokens(column, *length, prefix)?,
            Self::Coarse(generalise) => generalise.apply(column)?,
        })
    }
}

/// The last characters of texts, with a `*` for each before them.
fn ends(texts: &StringArray, last: usize) -> ArrayRef {
    let mut masked = StringBuilder::with_capacity(texts.len(), texts.values().len());
    for text in texts {
        let Some(text) = text else {
            masked.append_null();
            continue;
        };
        let kept = text.char_indices().rev().nth(last - 1).map_or(0, |(place, _)| place);
        let hidden = if kept == 0 { text } else { &text[..kept] };
        // Writing to it can't fail.
        hidden.chars().for_each(|_| _ = masked.write_char('*'));
        masked.append_value(&text[hidden.len()..]);
    }
    Arc::new(masked.finish())
}

struct MaskColumns {
    /// The columns, and what becomes of them.
    masks: Arc<[(usize, Mask)]>,
    schema: SchemaRef,
}

impl Processor for MaskColumns {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let mut columns = batch.rows.columns().to_vec();
        let mut refused = Refused::default();
        for (place, mask) in self.masks.iter() {
            let masked = mask.apply(&columns[*place])?;
            if let Mask::Coarse(_) = mask {
                let name = self.schema.field(*place).name();
                let why = |_| format!("column `{name}`: no coarser value fits the type");
                refused.add_new_nulls(&columns[*place], &masked, why);
            }
            columns[*place] = masked;
        }
        let rows = refused.sift(&batch, &self.schema, columns, out)?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        Some(Box::new(Self { masks: self.masks.clone(), schema: self.schema.clone() }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, drive, parse, stream, table};

    use super::*;

    const KEY_SETTING: &str = "key = '0123456789abcdef0123456789abcdef'\n";

    fn masked(settings: &str, rows: &str) -> (String, Vec<String>) {
        let settings: MaskSettings = parse(&(KEY_SETTING.to_owned() + settings));
        let rows = table(rows);
        let whole = drive(&settings, &[("from", rows.clone())], 8192);
        assert_eq!(drive(&settings, &[("from", rows)], 1).text("main"), whole.text("main"));
        (whole.text("main"), whole.failed.into_iter().map(|row| row.error).collect())
    }

    /// Computed by `printf VALUE | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn hashes_are_those_of_other_programs() {
        let rows = "a:utf8? n:int64\n ada@example.com 7\n null 7";
        let (masked, _) = masked("columns = { a = { type = 'hash' }, n = { type = 'hash' } }", rows);
        let ada = "e3e30b4d50224a4ba14084607085d072402144212a122eb4501daddd6bbe0ee3";
        let seven = "9657f4db0378a439d0a338d5b736d0ce953e0df354ecdb12c80e9c55adeec454";
        assert_eq!(masked, format!("a:utf8? n:utf8\n{ada} {seven}\nnull {seven}\n"));
    }

    #[test]
    fn tokens_are_short_and_the_same_for_equal_values() {
        let settings = "columns = { a = { type = 'tokenise', length = 8, prefix = 't_' } }";
        let (text, _) = masked(settings, "a:float64?\n 0.0\n -0.0\n 1.5\n null");
        let tokens: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(tokens[0], tokens[1]);
        assert_ne!(tokens[0], tokens[2]);
        assert_eq!((tokens[0].len(), &tokens[0][..2], tokens[3]), (10, "t_", "null"));
        let longest = masked("columns = { a = { type = 'tokenise', length = 51 } }", "a:utf8\n x").0;
        assert_eq!(longest.lines().nth(1).unwrap().len(), 51);
    }

    #[test]
    fn values_are_redacted() {
        let settings = "columns = { a = { type = 'redact' }, b = { type = 'redact', text = '?' }, c = { type = 'redact', keep_last = 2 } }";
        let rows = "a:int64 b:int64? c:utf8?\n 1 2 4242\n 1 null äöü\n 1 2 no\n 1 2 null";
        assert_eq!(
            masked(settings, rows).0,
            "a:int64? b:utf8? c:utf8?\nnull ? **42\nnull null *öü\nnull ? **\nnull ? null\n"
        );
    }

    #[test]
    fn numbers_become_coarser() {
        let settings = "columns = { i = { type = 'truncate', to = 10 }, f = { type = 'round', to = 0.5 }, d = { type = 'round', to = 5 } }";
        let rows = "i:int8? f:float64 d:decimal(5,1)?\n 37 1.3 12.5\n -3 -1.8 12.4\n null NaN null\n -128 0 1";
        let (text, failed) = masked(settings, rows);
        assert_eq!(text, "i:int8? f:float64 d:decimal(5,1)?\n30 1.5 15.0\n-10 -2.0 10.0\nnull NaN null\n");
        assert_eq!(failed, ["column `i`: no coarser value fits the type"]);
    }

    #[test]
    fn times_become_coarser() {
        let settings = "columns = { t = { type = 'truncate', to = '1h' }, m = { type = 'truncate', to = 'month' }, d = { type = 'truncate', to = '7d' }, y = { type = 'truncate', to = 'year' } }";
        let rows = "t:timestamp m:timestamp d:date y:date\n 2026-05-17T11:59:59Z 2026-05-17T11:59:59Z 1970-01-09 2026-05-17\n 1969-12-31T23:30:00Z 1969-12-31T23:30:00Z 1969-12-31 1969-12-31";
        let expected = "t:timestamp m:timestamp d:date y:date\n\
                        2026-05-17T11:00:00Z 2026-05-01T00:00:00Z 1970-01-08 2026-01-01\n\
                        1969-12-31T23:00:00Z 1969-12-01T00:00:00Z 1969-12-25 1969-01-01\n";
        assert_eq!(masked(settings, rows).0, expected);
    }

    #[test]
    fn what_cannot_be_is_found_while_it_is_planned() {
        let streams = [stream("from", table("a:utf8 n:int64 d:date\n").schema())];
        let problem = |settings: &str| {
            let problems = parse::<MaskSettings>(settings).plan(&context(), &streams).unwrap_err();
            (problems[0].message.clone(), problems[0].at.clone())
        };
        let hash = "columns = { a = { type = 'hash' } }";
        assert_eq!(problem(hash).0, "hashes and tokens need a `key`");
        let short = problem(&format!("key = 'canary'\n{hash}"));
        assert_eq!(short, ("a key of less than 16 bytes can be guessed".to_owned(), vec!["key".into()]));
        let (message, at) = problem("columns = { n = { type = 'redact', keep_last = 4 } }");
        assert_eq!(message, "`n` is int64, which is no text");
        assert_eq!(at, ["columns".into(), "n".into(), "keep_last".into()]);
        assert_eq!(
            problem("columns = { n = { type = 'round', to = 0.5 } }").0,
            "values of the type int64 are no multiples of 0.5"
        );
        assert_eq!(problem("columns = { d = { type = 'truncate', to = '1h' } }").0, "`1h` is no stretch of days");
        assert_eq!(problem("columns = { a = { type = 'truncate', to = '1h' } }").0, "`a` is utf8, not a time");
    }
}
