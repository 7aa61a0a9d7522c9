//! Into which folders rows go, by the values of columns and by their time: `country=DE/hour=2026-01-31T13`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{Error, Problem, Result, ResultExt, Stream, type_name, unknown_column};

/// The folder of rows whose value is missing, as Hive calls it.
const MISSING: &str = "__HIVE_DEFAULT_PARTITION__";

/// How many folders are remembered by the values that lead to them.
const MOST_KNOWN: usize = 100_000;

/// The longest name that file systems have, in bytes.
const LONGEST_NAME: usize = 255;

/// How rows are divided among folders.
pub struct Partitioning {
    levels: Vec<Level>,
    /// The columns that are written to files.
    written: Vec<usize>,
    converter: RowConverter,
    known: HashMap<Box<[u8]>, Arc<Path>>,
}

/// One level of folders.
struct Level {
    name: String,
    column: usize,
    of: Of,
}

/// What of a column's value is in the name of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// The value.
    Value,
    /// The time, as far as to this unit.
    Time(Unit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
}

/// Rows of one folder.
pub struct Share {
    /// The folder, below that of the output.
    pub folder: Arc<Path>,
    /// The rows, in their order.
    pub rows: RecordBatch,
    /// Where the last of them was.
    pub last: usize,
}

impl Partitioning {
    /// Plans it for the rows of a stream. Problems have the index of the name in `names` in them.
    pub fn plan(names: &[String], stream: &Stream) -> Result<Self, Problem> {
        let mut levels: Vec<Level> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if levels.iter().any(|level| level.name == *name) {
                return Err(Problem::new(format!("`{name}` is there twice")).under(index).under("partition"));
            }
            levels.push(level(name, stream).map_err(|problem| problem.under(index).under("partition"))?);
        }
        let is_in_name = |column: &usize| levels.iter().any(|level| level.of == Of::Value && level.column == *column);
        let written: Vec<usize> = (0..stream.schema.fields().len()).filter(|column| !is_in_name(column)).collect();
        if written.is_empty() {
            let problem =
                Problem::new("every column is part of the names of folders, so that none is left for the files");
            return Err(problem.at(["partition"]).help("leave one out"));
        }
        let fields = levels.iter().map(|level| SortField::new(level.key_type(&stream.schema))).collect();
        let converter = RowConverter::new(fields).map_err(|error| Problem::new(error.to_string()).at(["partition"]))?;
        Ok(Self { levels, written, converter, known: HashMap::new() })
    }

    /// The columns that the files have.
    pub fn schema(&self, schema: &SchemaRef) -> SchemaRef {
        let fields: Vec<_> = self.written.iter().map(|column| schema.fields()[*column].clone()).collect();
        Arc::new(Schema::new(fields))
    }

    /// The columns of the rows that the files have, and the folder of every row.
    pub fn split(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<Arc<Path>>)> {
        let keys: Vec<ArrayRef> = self.levels.iter().map(|level| level.key(rows)).collect::<Result<_>>()?;
        let converted = self.converter.convert_columns(&keys)?;
        if self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
        let mut folders: Vec<Arc<Path>> = Vec::with_capacity(rows.num_rows());
        for (row, key) in converted.iter().enumerate() {
            let folder = match self.known.get(key.data()) {
                Some(folder) => folder.clone(),
                None => {
                    let folder: Arc<Path> = self.folder(rows, row)?.into();
                    // Values of the same folder, such as hours of a day, share it.
                    self.known.insert(key.data().into(), folder.clone());
                    folder
                }
            };
            folders.push(folder);
        }
        Ok((rows.project(&self.written)?, folders))
    }

    fn folder(&self, rows: &RecordBatch, row: usize) -> Result<PathBuf> {
        self.levels.iter().map(|level| level.folder(rows, row)).collect()
    }
}

/// Divides rows among their folders, in the order in which those come.
pub fn shares(rows: &RecordBatch, folders: &[Arc<Path>]) -> Result<Vec<Share>> {
    let mut places: Vec<(Arc<Path>, Vec<u32>)> = Vec::new();
    let mut known: HashMap<&Path, usize> = HashMap::new();
    for (row, folder) in folders.iter().enumerate() {
        let place = *known.entry(&**folder).or_insert_with(|| {
            places.push((folder.clone(), Vec::new()));
            places.len() - 1
        });
        places[place].1.push(row as u32);
    }
    let share = |(folder, indices): (Arc<Path>, Vec<u32>)| {
        let is_all = indices.len() == rows.num_rows();
        let last = indices.last().map_or(0, |last| *last as usize);
        let rows = if is_all { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(indices))? };
        Ok(Share { folder, rows, last })
    };
    places.into_iter().map(share).collect()
}

fn level(name: &str, stream: &Stream) -> Result<Level, Problem> {
    let of = match name {
        "year" => Of::Time(Unit::Year),
        "month" => Of::Time(Unit::Month),
        "day" => Of::Time(Unit::Day),
        "hour" => Of::Time(Unit::Hour),
        _ => Of::Value,
    };
    if of == Of::Value || stream.schema.column_with_name(name).is_some() {
        let column = stream.schema.index_of(name).map_err(|_| unknown_column(name, &stream.schema))?;
        let data_type = stream.schema.field(column).data_type();
        return if is_nameable(data_type) {
            Ok(Level { name: name.to_owned(), column, of: Of::Value })
        } else {
            Err(Problem::new(format!("`{name}` is {}, which makes no names of folders", type_name(data_type))))
        };
    }
    let column = stream.require_event_time().map_err(|_| {
        let problem = Problem::new(format!("there is no column `{name}`, and the rows have no event time"));
        problem.help(
            "name a column; or say `event_time = { column = \"…\" }` at every input behind it, and keep that column",
        )
    })?;
    Ok(Level { name: name.to_owned(), column, of })
}

fn is_nameable(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Boolean
                | DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Time64(_)
                | DataType::Decimal128(..)
        )
}

const HOUR: i64 = 3_600_000_000;

impl Level {
    fn key_type(&self, schema: &SchemaRef) -> DataType {
        match self.of {
            Of::Value => schema.field(self.column).data_type().clone(),
            Of::Time(_) => DataType::Int64,
        }
    }

    /// What tells rows of different folders from each other, if not always of one folder.
    fn key(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let column = rows.column(self.column);
        let unit = match self.of {
            Of::Value => return Ok(column.clone()),
            Of::Time(Unit::Hour) => HOUR,
            Of::Time(_) => 24 * HOUR,
        };
        let times = column.as_primitive::<TimestampMicrosecondType>();
        Ok(Arc::new(times.unary::<_, arrow::datatypes::Int64Type>(|time| time.div_euclid(unit))))
    }

    /// The name of the folder of a row.
    fn folder(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        let column = rows.column(self.column);
        let value =
            if column.is_null(row) { None } else { Some(self.text(column, row)?).filter(|text| !text.is_empty()) };
        let value = value.map_or_else(|| MISSING.to_owned(), |text| escape(&text));
        let name = format!("{}={value}", escape(&self.name));
        if name.len() <= LONGEST_NAME {
            Ok(name)
        } else {
            Err(Error::new(format!(
                "a value of `{}` has {} bytes, too many for the name of a folder: `{}…`",
                self.name,
                value.len(),
                value.chars().take(40).collect::<String>()
            )))
        }
    }

    fn text(&self, column: &ArrayRef, row: usize) -> Result<String> {
        let one = column.slice(row, 1);
        let doing = || format!("naming the folder of a value of `{}`", self.name);
        let options = FormatOptions::new().with_display_error(false);
        let format = |value: &ArrayRef| -> Result<String> {
            let formatter = ArrayFormatter::try_new(value, &options).doing(doing)?;
            formatter.value(0).try_to_string().doing(doing)
        };
        let Of::Time(unit) = self.of else { return format(&one) };
        let time = format(&cast(&one, &DataType::Timestamp(TimeUnit::Microsecond, None)).doing(doing)?)?;
        Ok(unit.of(&time))
    }
}

impl Unit {
    /// The beginning of a time such as `2026-01-31T13:00:00`. Years have more digits, or a sign, in other ages.
    fn of(self, time: &str) -> String {
        let (date, clock) = time.split_once('T').unwrap_or((time, ""));
        let without = |parts: usize| date.rsplitn(parts + 1, '-').last().unwrap_or(date).to_owned();
        match self {
            Self::Hour => format!("{date}T{}", clock.get(..2).unwrap_or_default()),
            Self::Day => date.to_owned(),
            Self::Month => without(1),
            Self::Year => without(2),
        }
    }
}

/// A value in the name of a folder, with those characters in hexadecimal that Hive writes like that.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(character) {
            _ = write!(escaped, "%{:02X}", character as u32);
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The value that stands behind the `=` in the name of a folder. None if it is missing.
pub fn value_in_name(text: &str) -> Option<String> {
    (text != MISSING).then(|| unescape(text))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hexadecimal = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let letter = hexadecimal.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(letter.unwrap_or(bytes[at]));
        at += if letter.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}
