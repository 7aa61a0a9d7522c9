//! Filters of searches: comparisons joined by `AND`, as `name LIKE 'fraud%' AND tags.owner = 'payments'`.

use std::collections::BTreeMap;

use crate::refusal::Refusal;

/// A filter: all of these have to hold.
#[derive(Debug, Default)]
pub struct Filter(Vec<Comparison>);

/// A comparison of something with a text.
#[derive(Debug)]
struct Comparison {
    of: Of,
    operator: Operator,
    value: String,
}

/// What is compared.
#[derive(Debug)]
enum Of {
    Name,
    /// The number of a version.
    Version,
    Tag(String),
    /// What none of ours has: the number of a run, for example.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    Like,
    /// The same, whatever the case of letters.
    Ilike,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// If it is none that is known.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut words = Words(text);
        let mut comparisons = Vec::new();
        while !words.0.trim_start().is_empty() {
            if !comparisons.is_empty() {
                words.keyword("AND")?;
            }
            let of = words.of()?;
            let operator = words.operator(matches!(of, Of::Version))?;
            let value = if matches!(of, Of::Version) { words.number()? } else { words.quoted('\'')? };
            comparisons.push(Comparison { of, operator, value });
        }
        Ok(Self(comparisons))
    }

    /// Whether a model, or a version of it, is among what is searched for.
    pub fn takes(&self, name: &str, version: Option<u64>, tags: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Comparison { of, operator, value }| {
            let found = match of {
                Of::Name => Some(name),
                Of::Version => {
                    return version.zip(value.parse().ok()).is_some_and(|(one, other)| operator.holds(one, other));
                }
                Of::Tag(tag) => tags.get(tag).map(String::as_str),
                Of::Nothing => None,
            };
            match operator {
                Operator::Equal => found == Some(value),
                Operator::NotEqual => found != Some(value),
                // Only numbers are compared so.
                Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => false,
                Operator::Like => found.is_some_and(|found| is_like(found, value)),
                Operator::Ilike => found.is_some_and(|found| is_like(&found.to_lowercase(), &value.to_lowercase())),
            }
        })
    }

    /// Whether it has to be known which tags there are.
    pub fn asks_for_tags(&self) -> bool {
        self.0.iter().any(|one| matches!(one.of, Of::Tag(_)))
    }

    /// The only name that can be found by it, if there is only one.
    pub fn name(&self) -> Option<&str> {
        let is_name = |one: &&Comparison| matches!((&one.of, one.operator), (Of::Name, Operator::Equal));
        self.0.iter().find(is_name).map(|one| one.value.as_str())
    }
}

impl Operator {
    /// Whether it holds for these numbers.
    fn holds(self, one: u64, other: u64) -> bool {
        match self {
            Self::Equal => one == other,
            Self::NotEqual => one != other,
            Self::Less => one < other,
            Self::AtMost => one <= other,
            Self::More => one > other,
            Self::AtLeast => one >= other,
            Self::Like | Self::Ilike => false,
        }
    }
}

/// Whether a text is as a pattern of SQL says, in which `%` is any text and `_` a letter.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // How much of the pattern can be met by what was read of the text.
    let mut met = vec![false; pattern.len() + 1];
    met[0] = true;
    let skip = |met: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            met[at + 1] |= met[at] && pattern[at] == '%';
        }
    };
    skip(&mut met);
    for letter in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate() {
            next[at + 1] = met[at] && (*wanted == '_' || *wanted == letter);
            next[at] |= met[at] && *wanted == '%';
        }
        skip(&mut next);
        met = next;
    }
    met[pattern.len()]
}

/// What is left of a filter.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn of(&mut self) -> Result<Of, Refusal> {
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let word = self.while_of(is_word);
        match word.as_str() {
            "name" => Ok(Of::Name),
            "version_number" => Ok(Of::Version),
            "run_id" | "source_path" => Ok(Of::Nothing),
            "tag" | "tags" if self.0.starts_with('.') => {
                self.0 = &self.0[1..];
                let quote = ['`', '"'].into_iter().find(|quote| self.0.starts_with(*quote));
                let tag = match quote {
                    Some(quote) => self.quoted(quote)?,
                    None => self.while_of(|letter| is_word(letter) || letter == '.' || letter == '-'),
                };
                Ok(Of::Tag(tag))
            }
            _ => Err(self.wrong("`name`, `version_number`, `tags.NAME`, `run_id` or `source_path`")),
        }
    }

    /// An operator, of numbers or of texts.
    fn operator(&mut self, of_numbers: bool) -> Result<Operator, Refusal> {
        use Operator::{AtLeast, AtMost, Equal, Ilike, Less, Like, More, NotEqual};
        self.0 = self.0.trim_start();
        let (all, said): (&[_], _) = if of_numbers {
            let all = &[("!=", NotEqual), ("=", Equal), ("<=", AtMost), ("<", Less), (">=", AtLeast), (">", More)];
            (all, "`=`, `!=`, `<`, `<=`, `>` or `>=`")
        } else {
            (&[("!=", NotEqual), ("=", Equal), ("LIKE", Like), ("ILIKE", Ilike)], "`=`, `!=`, `LIKE` or `ILIKE`")
        };
        for (text, operator) in all {
            if self.take(text) {
                return Ok(*operator);
            }
        }
        Err(self.wrong(said))
    }

    /// The digits of a number.
    fn number(&mut self) -> Result<String, Refusal> {
        let number = self.while_of(|letter| letter.is_ascii_digit());
        if number.parse::<u64>().is_ok() { Ok(number) } else { Err(self.wrong("a number such as 3")) }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Refusal> {
        self.0 = self.0.trim_start();
        if self.take(keyword) { Ok(()) } else { Err(self.wrong(&format!("`{keyword}`"))) }
    }

    /// Takes a text, whatever the case of its letters, if it comes next.
    fn take(&mut self, text: &str) -> bool {
        let comes = self.0.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text));
        if comes {
            self.0 = &self.0[text.len()..];
        }
        comes
    }

    fn quoted(&mut self, quote: char) -> Result<String, Refusal> {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
        let Some((text, rest)) = rest else { return Err(self.wrong(&format!("a text in `{quote}`"))) };
        self.0 = rest;
        Ok(text.to_owned())
    }

    fn while_of(&mut self, belongs: impl Fn(char) -> bool) -> String {
        self.0 = self.0.trim_start();
        let end = self.0.find(|letter| !belongs(letter)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        let word = word.to_owned();
        self.0 = rest;
        word
    }

    fn wrong(&self, wanted: &str) -> Refusal {
        let here: String = self.0.chars().take(30).collect();
        Refusal::wrong(format!("`filter` can't be read at `{here}`, where it should say {wanted}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn takes(filter: &str, name: &str) -> bool {
        let tags = [("owner".to_owned(), "payments".to_owned()), ("a b".to_owned(), "1".to_owned())].into();
        Filter::parse(filter).unwrap().takes(name, Some(12), &tags)
    }

    #[test]
    fn filters_are_those_of_the_client() {
        assert!(takes("", "fraud") && takes("name = 'fraud'", "fraud") && !takes("name='fraud'", "frauds"));
        assert!(takes("tag.`mlflow.prompt.is_prompt` != 'true'", "fraud"));
        assert!(
            takes("tags.owner = 'payments' and tags.\"a b\" = '1'", "x") && !takes("tags.owner != 'payments'", "x")
        );
        assert!(
            takes("name LIKE 'fr%'", "fraud")
                && takes("name ILIKE 'FR_UD'", "fraud")
                && !takes("name LIKE 'fr'", "fraud")
        );
        assert!(takes("name LIKE '%a%d'", "fraud") && !takes("name LIKE '_'", "") && takes("name LIKE '%'", ""));
        assert!(!takes("run_id = '7'", "fraud"));
        assert!(takes("name = 'fraud' and version_number = 12", "fraud") && takes("version_number != 1", "fraud"));
        assert!(takes("version_number > 9 AND version_number<13", "fraud") && takes("version_number <= 12", "fraud"));
        assert!(!takes("version_number >= 13", "fraud") && !takes("version_number < 12", "fraud"));
        assert!(!Filter::parse("version_number = 12").unwrap().takes("fraud", None, &BTreeMap::new()));
        for wrong in [
            "name",
            "name = fraud",
            "nam = 'a'",
            "name = 'a' OR name = 'b'",
            "name = 'a",
            "tags = 'a'",
            "version_number = 'a'",
            "version_number LIKE 1",
            "name > 'a'",
        ] {
            let refusal = Filter::parse(wrong).unwrap_err();
            assert!(refusal.message.starts_with("`filter` can't be read at"), "{wrong}: {refusal}");
        }
    }
}
