//! The messages of `pgoutput`, in which the server sends its log: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use millstream_core::{Error, Result};

/// A message, of those that say what is needed here.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins: where its commit is, when that was in microseconds since 2000, and its number.
    Begin {
        commit: u64,
        micros: i64,
        xid: u32,
    },
    /// It has ended, and what follows begins here.
    Commit {
        end: u64,
    },
    /// What a table looks like from here on.
    Relation(Relation<'a>),
    Insert {
        relation: u32,
        row: Vec<Datum<'a>>,
    },
    Update {
        relation: u32,
        before: Option<Vec<Datum<'a>>>,
        row: Vec<Datum<'a>>,
    },
    Delete {
        relation: u32,
        row: Vec<Datum<'a>>,
    },
    /// Tables have been emptied.
    Truncate(Vec<u32>),
    /// Something that is not needed.
    Other,
}

/// What a table looks like.
#[derive(Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    pub number: u32,
    pub schema: &'a str,
    pub name: &'a str,
    /// `f` if rows before a change are whole.
    pub identity: u8,
    pub columns: Vec<&'a str>,
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    Null,
    /// It has not changed, and is stored apart, so that it was not sent.
    Unchanged,
    Text(&'a str),
}

/// Reads a message. Behind what is needed of it there may be more, in versions that are newer.
///
/// # Errors
/// If it is cut off, or is none.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>> {
    let mut reader = Reader(bytes);
    Ok(match reader.byte()? {
        b'B' => Message::Begin { commit: reader.long()?, micros: reader.long()? as i64, xid: reader.int()? },
        b'C' => {
            reader.take(1 + 8)?;
            let end = reader.long()?;
            // When it was.
            reader.take(8)?;
            Message::Commit { end }
        }
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let relation = reader.int()?;
            reader.expect(b'N')?;
            Message::Insert { relation, row: reader.row()? }
        }
        b'U' => {
            let relation = reader.int()?;
            let before = match reader.byte()? {
                b'K' | b'O' => {
                    let before = reader.row()?;
                    reader.expect(b'N')?;
                    Some(before)
                }
                b'N' => None,
                other => return Err(unknown(other)),
            };
            Message::Update { relation, before, row: reader.row()? }
        }
        b'D' => {
            let relation = reader.int()?;
            match reader.byte()? {
                b'K' | b'O' => Message::Delete { relation, row: reader.row()? },
                other => return Err(unknown(other)),
            }
        }
        b'T' => {
            let count = reader.int()?;
            reader.take(1)?;
            // As many as there are bytes for, whatever it says.
            let relations: Result<Vec<u32>> = (0..count).map(|_| reader.int()).collect();
            Message::Truncate(relations?)
        }
        b'O' | b'Y' | b'M' => Message::Other,
        other => return Err(unknown(other)),
    })
}

fn unknown(byte: u8) -> Error {
    Error::new(format!("the log has a message that is not known: `{}`", byte.escape_ascii()))
}

fn cut() -> Error {
    Error::new("a message of the log is cut off")
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        let byte = self.byte()?;
        if byte == wanted { Ok(()) } else { Err(unknown(byte)) }
    }

    fn short(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn int(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text with a zero behind it.
    fn name(&mut self) -> Result<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(cut)?;
        let name = self.take(end)?;
        self.take(1)?;
        text(name)
    }

    fn relation(&mut self) -> Result<Relation<'a>> {
        let (number, schema, name) = (self.int()?, self.name()?, self.name()?);
        let (identity, count) = (self.byte()?, self.short()?);
        let mut columns = Vec::new();
        for _ in 0..count {
            self.take(1)?;
            columns.push(self.name()?);
            self.take(4 + 4)?;
        }
        Ok(Relation { number, schema, name, identity, columns })
    }

    fn row(&mut self) -> Result<Vec<Datum<'a>>> {
        let count = self.short()?;
        let mut row = Vec::with_capacity(usize::from(count).min(self.0.len()));
        for _ in 0..count {
            row.push(match self.byte()? {
                b'n' => Datum::Null,
                b'u' => Datum::Unchanged,
                b't' => {
                    let length = usize::try_from(self.int()?).map_err(|_| cut())?;
                    Datum::Text(text(self.take(length)?)?)
                }
                other => return Err(unknown(other)),
            });
        }
        Ok(row)
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::new("the log has a text that is not in UTF-8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::Hostile;

    use super::*;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            match value {
                Some("unchanged") => bytes.push(b'u'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend((text.len() as u32).to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
                None => bytes.push(b'n'),
            }
        }
        bytes
    }

    /// A message of each kind.
    fn messages() -> Vec<Vec<u8>> {
        let seven = 7_u32.to_be_bytes();
        let relation = [
            &b"R"[..],
            &seven,
            b"public\0things\0f\0\x02",
            b"\x01id\0\0\0\0\x14\xff\xff\xff\xff",
            b"\0name\0\0\0\0\x19\xff\xff\xff\xff",
        ];
        let some = row(&[Some("1"), Some("Zoë")]);
        let less = row(&[Some("1"), Some("unchanged")]);
        vec![
            [&b"B"[..], &9_u64.to_be_bytes(), &5_i64.to_be_bytes(), &3_u32.to_be_bytes()].concat(),
            [&b"C\0"[..], &9_u64.to_be_bytes(), &11_u64.to_be_bytes(), &5_i64.to_be_bytes()].concat(),
            relation.concat(),
            [&b"I"[..], &seven, b"N", &some].concat(),
            [&b"U"[..], &seven, b"O", &some, b"N", &less].concat(),
            [&b"U"[..], &seven, b"N", &some].concat(),
            [&b"D"[..], &seven, b"K", &row(&[Some("1"), None])].concat(),
            [&b"T"[..], &2_u32.to_be_bytes(), b"\0", &seven, &8_u32.to_be_bytes()].concat(),
            b"Oanything".to_vec(),
        ]
    }

    #[test]
    fn messages_are_read() {
        let all = messages();
        let read: Vec<_> = all.iter().map(|bytes| decode(bytes).unwrap()).collect();
        let some = || vec![Datum::Text("1"), Datum::Text("Zoë")];
        assert_eq!(read[0], Message::Begin { commit: 9, micros: 5, xid: 3 });
        assert_eq!(read[1], Message::Commit { end: 11 });
        let relation =
            Relation { number: 7, schema: "public", name: "things", identity: b'f', columns: vec!["id", "name"] };
        assert_eq!(read[2], Message::Relation(relation));
        assert_eq!(read[3], Message::Insert { relation: 7, row: some() });
        let less = vec![Datum::Text("1"), Datum::Unchanged];
        assert_eq!(read[4], Message::Update { relation: 7, before: Some(some()), row: less });
        assert_eq!(read[5], Message::Update { relation: 7, before: None, row: some() });
        assert_eq!(read[6], Message::Delete { relation: 7, row: vec![Datum::Text("1"), Datum::Null] });
        assert_eq!(read[7], Message::Truncate(vec![7, 8]));
        assert_eq!(read[8], Message::Other);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for message in messages() {
            for end in 0..message.len() {
                let read = decode(&message[..end]);
                assert!(read.is_err() || message[0] == b'O', "{message:?} to {end}: {read:?}");
            }
        }
        // Counts and lengths that are larger than what is there.
        assert!(decode(b"T\xff\xff\xff\xff\0\0\0\0\x01").is_err());
        assert!(decode(b"I\0\0\0\x01N\xff\xfft\xff\xff\xff\xffx").is_err());
    }

    #[test]
    fn hostile_messages_do_no_harm() {
        Hostile::new(messages()).attack(|bytes| _ = decode(bytes));
    }
}
