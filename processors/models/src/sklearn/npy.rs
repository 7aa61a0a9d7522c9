//! Arrays of numpy, as files `.npy` have them.
//!
//! The format is that of `numpy.lib.format`: a magic text, two bytes of a version, the length of a header, a header that is a Python dictionary, and the
//! elements. Arrays of objects would be a pickle, which is not read.

use millstream_core::{Error, Result};

/// An array of one or two sides, or of none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    /// Row by row, however the file has them.
    pub values: Values,
}

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Numbers(Vec<f64>),
    Whole(Vec<i64>),
    Flags(Vec<bool>),
    Texts(Vec<String>),
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// What the header says.
#[derive(Debug)]
struct Header<'a> {
    /// The order of bytes (`<`, `>` or `|`), a letter for the kind, and how large an element is.
    element: &'a str,
    /// Whether elements lie column by column.
    by_column: bool,
    shape: Vec<usize>,
}

impl Array {
    /// Reads a file. It takes no more memory than a few times the file.
    ///
    /// # Errors
    /// If it is none, is cut off, or has elements that are neither numbers nor texts.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let (header, elements) = split(bytes).ok_or_else(|| Error::new("it is no file of numpy"))?;
        let header = Header::parse(header)?;
        let (order, kind, size) = header.kind()?;
        let count = header.shape.iter().try_fold(1_usize, |count, side| count.checked_mul(*side));
        let wanted = count.and_then(|count| count.checked_mul(size)).filter(|bytes| *bytes > 0);
        if wanted != Some(elements.len()) {
            let (found, shape, element) = (elements.len(), &header.shape, header.element);
            return Err(Error::new(format!("it has {found} bytes for the shape {shape:?} of `{element}`")));
        }
        let mut elements: Vec<&[u8]> = elements.chunks_exact(size).collect();
        if let (true, [rows, columns]) = (header.by_column, &header.shape[..]) {
            let by_row = (0..*rows).flat_map(|row| (0..*columns).map(move |column| column * rows + row));
            elements = by_row.map(|place| elements[place]).collect();
        }
        let values = Values::read(order == '>', kind, size, &elements)?;
        Ok(Self { shape: header.shape, values })
    }

    /// Its numbers, whole ones and flags as such.
    ///
    /// # Errors
    /// If they are texts.
    pub fn numbers(self) -> Result<Vec<f64>> {
        match self.values {
            Values::Numbers(numbers) => Ok(numbers),
            Values::Whole(whole) => Ok(whole.into_iter().map(|number| number as f64).collect()),
            Values::Flags(flags) => Ok(flags.into_iter().map(|flag| f64::from(u8::from(flag))).collect()),
            Values::Texts(_) => Err(Error::new("its elements are texts, and should be numbers")),
        }
    }
}

/// The header, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (version, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<2>()?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(length, rest)| (u16::from_le_bytes(*length) as usize, rest))?,
        2 | 3 => rest.split_first_chunk::<4>().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest))?,
        _ => return None,
    };
    let (header, elements) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, elements))
}

impl<'a> Header<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let value = |key: &str| {
            let (_, value) = text.split_once(&format!("'{key}':"))?;
            Some(value.trim_start())
        };
        let parse = || {
            let element = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
            let shape = value("shape")?.strip_prefix('(')?.split_once(')')?.0;
            let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
            Some(Self {
                // Where there is a list, elements have fields.
                element: element.map_or("fields", |(element, _)| element),
                by_column: value("fortran_order")?.starts_with("True"),
                shape: sides.map(|side| side.parse().ok()).collect::<Option<_>>()?,
            })
        };
        let header = parse().ok_or_else(|| Error::new("its header is none of numpy"))?;
        match header.shape.len() {
            0..=2 => Ok(header),
            sides => Err(Error::new(format!("it has {sides} sides; 2 are the most"))),
        }
    }

    /// The order of bytes, the letter of the kind, and how many bytes an element has.
    fn kind(&self) -> Result<(char, char, usize)> {
        let mut letters = self.element.chars();
        let (order, kind) = (letters.next().unwrap_or(' '), letters.next().unwrap_or(' '));
        let size = letters.as_str().parse::<usize>().ok();
        match (kind, size) {
            ('f', Some(size @ (4 | 8))) | ('i' | 'u', Some(size @ (1 | 2 | 4 | 8))) | ('b', Some(size @ 1)) => {
                Ok((order, kind, size))
            }
            ('U', Some(letters @ 1..=65536)) => Ok((order, kind, letters * 4)),
            ('O', _) => {
                Err(Error::new("its elements are Python's objects, which are not read, since that could run code"))
            }
            _ => Err(Error::new(format!("its elements are `{}`, and should be numbers or texts", self.element))),
        }
    }
}

impl Values {
    fn read(is_big: bool, kind: char, size: usize, elements: &[&[u8]]) -> Result<Self> {
        let float = |bytes: &&[u8]| match size {
            4 => f64::from(f32::from_bits(unsigned(bytes, is_big) as u32)),
            _ => f64::from_bits(unsigned(bytes, is_big)),
        };
        // The sign of a smaller number is moved to where that of 64 bits is, and back.
        let unused = 64_usize.saturating_sub(8 * size);
        let whole = |bytes: &&[u8]| (unsigned(bytes, is_big) << unused) as i64 >> unused;
        match kind {
            'f' => Ok(Self::Numbers(elements.iter().map(float).collect())),
            'i' => Ok(Self::Whole(elements.iter().map(whole).collect())),
            'u' => {
                let number = |bytes: &&[u8]| i64::try_from(unsigned(bytes, is_big));
                let numbers = elements.iter().map(number).collect::<Result<_, _>>();
                numbers.map(Self::Whole).map_err(|_| Error::new("it has whole numbers that are too large"))
            }
            'b' => Ok(Self::Flags(elements.iter().map(|bytes| bytes[0] != 0).collect())),
            _ => elements.iter().map(|bytes| text(bytes, is_big)).collect::<Result<_>>().map(Self::Texts),
        }
    }
}

/// The bits of a number of up to eight bytes.
fn unsigned(bytes: &[u8], is_big: bool) -> u64 {
    let add = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
    if is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}

/// A text of four bytes for each letter, and zeros behind them.
fn text(bytes: &[u8], is_big: bool) -> Result<String> {
    let letters: Vec<u64> = bytes.chunks_exact(4).map(|letter| unsigned(letter, is_big)).collect();
    let end = letters.iter().rposition(|letter| *letter != 0).map_or(0, |last| last + 1);
    let letter = |letter: &u64| u32::try_from(*letter).ok().and_then(char::from_u32);
    let text = letters[..end].iter().map(letter).collect::<Option<String>>();
    text.ok_or_else(|| Error::new("it has a text of letters that there are not"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(element: &str, order: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': {element}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, b"\x01\x00", &length, header.as_bytes(), elements].concat()
    }

    fn bytes<const N: usize>(numbers: &[[u8; N]]) -> Vec<u8> {
        numbers.concat()
    }

    #[test]
    fn elements_come_row_by_row_whatever_their_order() {
        let six: Vec<_> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0_f64].map(f64::to_le_bytes).into();
        let by_row = Array::read(&file("'<f8'", "False", "(2, 3)", &bytes(&six))).unwrap();
        assert_eq!(by_row, Array { shape: vec![2, 3], values: Values::Numbers(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) });
        let by_column = Array::read(&file("'<f8'", "True", "(2, 3)", &bytes(&six))).unwrap();
        assert_eq!(by_column.values, Values::Numbers(vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
        let big = Array::read(&file("'>f4'", "False", "(2,)", &bytes(&[1.5_f32, -2.0].map(f32::to_be_bytes)))).unwrap();
        assert_eq!(big.values, Values::Numbers(vec![1.5, -2.0]));
        let alone = Array::read(&file("'<i4'", "False", "()", &(-7_i32).to_le_bytes())).unwrap();
        assert_eq!((alone.shape.len(), alone.values), (0, Values::Whole(vec![-7])));
        let small = Array::read(&file("'|u1'", "False", "(2,)", &[0, 255])).unwrap();
        assert_eq!(small.values, Values::Whole(vec![0, 255]));
        let flags = Array::read(&file("'|b1'", "False", "(2,)", &[0, 1])).unwrap();
        assert_eq!(flags.values, Values::Flags(vec![false, true]));
        let letters: Vec<_> = "ab\0ü\0\0".chars().map(|letter| u32::from(letter).to_le_bytes()).collect();
        let texts = Array::read(&file("'<U3'", "False", "(2,)", &bytes(&letters))).unwrap();
        assert_eq!(texts.values, Values::Texts(vec!["ab".to_owned(), "ü".to_owned()]));
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        let refused = |bytes: &[u8]| Array::read(bytes).unwrap_err().to_string();
        let one = 1.0_f64.to_le_bytes();
        assert_eq!(refused(b"PK"), "it is no file of numpy");
        assert_eq!(refused(&file("'<f8'", "False", "(2,)", &one)), "it has 8 bytes for the shape [2] of `<f8`");
        let (endless, none) = ("(4294967296, 4294967296)", "(0, 18446744073709551615)");
        assert!(refused(&file("'<f8'", "False", endless, &one)).starts_with("it has 8 bytes for the shape"));
        assert!(refused(&file("'<f8'", "False", none, &[])).starts_with("it has 0 bytes for the shape"));
        assert!(refused(&file("'|O'", "False", "(1,)", &one)).contains("could run code"));
        assert!(refused(&file("[('a', '<f8')]", "False", "(1,)", &one)).contains("`fields`"));
        assert!(refused(&file("'<c16'", "False", "(1,)", &one)).contains("`<c16`"));
        assert!(refused(&file("'<U0'", "False", "(9,)", &[])).contains("`<U0`"));
        assert!(
            refused(&file("'<U99999999999999999999'", "False", "(9,)", &[])).contains("should be numbers or texts")
        );
        assert_eq!(refused(&file("'<f8'", "False", "(1, 1, 1)", &one)), "it has 3 sides; 2 are the most");
        assert_eq!(refused(&file("'<f8'", "False", "(-1,)", &one)), "its header is none of numpy");
        assert!(refused(&file("'<U1'", "False", "(1,)", &0xD800_u32.to_le_bytes())).contains("that there are not"));
    }
}
