//! The text of a token, which is a secret: how it is made, read and told from others.

use std::fmt;

use blake3::Hash;

/// What all tokens begin with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "ms_";

/// How many letters the name of a token has that is a part of it.
const ID: usize = 8;

/// How many letters of chance there are: as much as 32 bytes.
const CHANCE: usize = 43;

/// How many letters the checksum has.
const CHECKSUM: usize = 6;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token, as it is handed over to whoever will use it: `ms_`, its id, 256 bits of chance, and a checksum. It can be neither printed nor
/// written by accident: only [`reveal`](Self::reveal) gives the text, which is the end of this value.
pub struct TokenText(String);

impl TokenText {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no chance to give.
    pub fn make() -> Result<Self, getrandom::Error> {
        let text = format!("{PREFIX}{}", letters(ID + CHANCE)?);
        let checksum = checksum(&text);
        Ok(Self(text + &checksum))
    }

    /// The text, once.
    pub fn reveal(self) -> String {
        self.0
    }

    /// What others may see of it.
    pub fn shown(&self) -> Shown<'_> {
        Shown { text: &self.0 }
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token {}", self.shown().id())
    }
}

/// A text that somebody has shown as a token, and that has the form of one.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    text: &'a str,
}

impl<'a> Shown<'a> {
    /// Reads a text. `None` if it can't be a token: most mistakes, such as one that was copied in part, are told without looking anything up.
    pub fn read(text: &'a str) -> Option<Self> {
        let letters = text.strip_prefix(PREFIX)?;
        let is_whole = letters.len() == ID + CHANCE + CHECKSUM && letters.bytes().all(|byte| LETTERS.contains(&byte));
        let (body, said) = is_whole.then(|| text.split_at(text.len() - CHECKSUM))?;
        (checksum(body) == said).then_some(Self { text })
    }

    /// The token's name, which is no secret.
    pub fn id(&self) -> &'a str {
        &self.text[PREFIX.len()..PREFIX.len() + ID]
    }

    /// What is kept of it. The text has so much chance in it that one round of a quick hash hides it.
    pub fn hash(&self) -> Hash {
        blake3::hash(self.text.as_bytes())
    }
}

/// So many letters by chance, each as likely as any other.
///
/// # Errors
/// If the system has no chance to give.
pub fn letters(count: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(count);
    let mut bytes = [0; 64];
    while text.len() < count {
        getrandom::fill(&mut bytes)?;
        // Of 256 values, those behind the last whole round of 62 would make some letters likelier.
        let whole = bytes.iter().filter(|byte| usize::from(**byte) < 256 / LETTERS.len() * LETTERS.len());
        let letters = whole.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        text.extend(letters.take(count - text.len()));
    }
    Ok(text)
}

fn checksum(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes()) as usize;
    let letter = |place| char::from(LETTERS[sum / LETTERS.len().pow(place) % LETTERS.len()]);
    (0..CHECKSUM as u32).rev().map(letter).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_not_printed() {
        let token = TokenText::make().unwrap();
        let (id, hash) = (token.shown().id().to_owned(), token.shown().hash());
        assert_eq!(format!("{token:?}"), format!("the token {id}"));
        let text = token.reveal();
        assert!(text.len() == 60 && text.starts_with(&format!("ms_{id}")), "{}", text.len());
        let read = Shown::read(&text).unwrap();
        assert!(read.id() == id && read.hash() == hash);
        assert_ne!(TokenText::make().unwrap().reveal(), text);
    }

    #[test]
    fn letters_are_equally_likely() {
        let text = letters(62_000).unwrap();
        for letter in LETTERS {
            let count = text.bytes().filter(|byte| byte == letter).count();
            assert!((850..1150).contains(&count), "{} times {}", count, char::from(*letter));
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_shown(text in ".{0,80}") {
            prop_assert!(Shown::read(&text).is_none());
        }

        #[test]
        fn a_token_with_a_mistake_is_none(place in 0..60_usize, letter in "[ -~]") {
            let text = TokenText::make().unwrap().reveal();
            let mut wrong = text.clone();
            wrong.replace_range(place..place + 1, &letter);
            prop_assert_eq!(Shown::read(&wrong).is_none(), wrong != text);
            prop_assert!(Shown::read(&text[..place]).is_none());
        }
    }
}
