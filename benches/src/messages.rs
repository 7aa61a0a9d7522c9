//! What decoding messages costs, each of which is a row: beside Arrow's decoders, which are fed one message after the other.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow_avro::reader::ReaderBuilder as AvroBuilder;
use arrow_avro::schema::{AvroSchema, FingerprintAlgorithm, SchemaStore};
use millstream_core::{ColumnType, Columns, Error, Result};
use millstream_formats::{Format, ReadMessages, Rows};
use millstream_testkit::context;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::measurement::{Goal, Measurement, median};
use crate::own_process::numbers_of;

/// The two decoders take turns so often; the medians count.
const TURNS: usize = 5;

/// There are so many messages, all of which are decoded so often.
const MESSAGES: usize = 200_000;
const ROUNDS: usize = 10;

/// A flow takes so many at once.
const BATCH_ROWS: usize = 8192;

const SCHEMA: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "id", "type": "long"},
    {"name": "quantity", "type": "long"},
    {"name": "price", "type": "double"},
    {"name": "country", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
]}"#;

/// Measures how many messages both decode in a second of the CPU.
pub fn run() -> Result<Vec<Measurement>> {
    let compare = |format: &str, beside: &str| -> Result<Measurement> {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (decoder, figures) in ["millstream", "arrow"].iter().zip(&mut figures) {
                let [rows, seconds] = numbers_of(&["messages", format, decoder])?;
                figures.push(rows / seconds);
            }
        }
        let [ours, arrow] = figures.map(median);
        let name = format!("messages: {format}, 5 columns; beside {beside}, fed one by one");
        Ok(Measurement::new(name, "messages/CPU s", ours, Goal::Times(0.9)).beside(arrow))
    };
    Ok(vec![compare("json", "arrow-json")?, compare("avro", "arrow-avro")?])
}

/// Decodes messages of a format, with our decoder or Arrow's. Gives how many rows came out, and the CPU seconds.
pub fn decode(arguments: &[String]) -> Result<[f64; 2]> {
    let [format, decoder] = arguments else { return Err(Error::new("which format, and which decoder?")) };
    let messages: Vec<_> = (0..MESSAGES).map(if format == "json" { as_json } else { as_avro }).collect();
    let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    let start = cpu_seconds();
    let rows = match (format.as_str(), decoder.as_str()) {
        ("json", "arrow") => arrow_json(&messages)?,
        (_, "arrow") => arrow_avro(&messages)?,
        ("json", _) => millstream(json!("json"), &messages)?,
        _ => millstream(json!({ "type": "avro", "schema": SCHEMA }), &messages)?,
    };
    Ok([rows as f64, cpu_seconds() - start])
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Makes the values of a message: id, quantity, price in cents, country, time.
fn values(number: usize) -> (i64, i64, i64, &'static str, i64) {
    let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let cents = ((hash >> 20) % 100_000) as i64;
    let country = ["DE", "FR", "NL", "PL"][hash >> 62];
    (number as i64, 1 + (hash % 9) as i64, cents, country, 1_769_860_800_000_000)
}

fn as_json(number: usize) -> Vec<u8> {
    let (id, quantity, cents, country, _) = values(number);
    let mut text = String::new();
    let _ = write!(
        text,
        r#"{{"id":{id},"quantity":{quantity},"price":{}.{:02},"country":"{country}","at":"2026-01-31T12:00:00Z"}}"#,
        cents / 100,
        cents % 100
    );
    text.into_bytes()
}

fn as_avro(number: usize) -> Vec<u8> {
    let (id, quantity, cents, country, at) = values(number);
    let mut bytes = Vec::new();
    put_long(id, &mut bytes);
    put_long(quantity, &mut bytes);
    bytes.extend_from_slice(&(cents as f64 / 100.0).to_le_bytes());
    put_long(country.len() as i64, &mut bytes);
    bytes.extend_from_slice(country.as_bytes());
    put_long(at, &mut bytes);
    bytes
}

fn put_long(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn millstream(format: serde_json::Value, messages: &[&[u8]]) -> Result<usize> {
    let format: Format<ReadMessages> = serde_json::from_value(format).map_err(|error| Error::new(error.to_string()))?;
    let types =
        [("id", "int64"), ("quantity", "int64"), ("price", "float64"), ("country", "utf8"), ("at", "timestamp")];
    let column = |(name, kind): &(&str, &str)| ((*name).to_owned(), ColumnType::parse(kind).map_err(Error::new));
    let columns = types.iter().map(column).map(|(name, kind)| Ok((name, kind?))).collect::<Result<Vec<_>>>()?;
    let reader = format.reader(&Columns(columns), &context());
    let mut reader = reader.map_err(|problem| Error::new(problem.to_string()))?;
    let messages: Vec<_> = messages.iter().copied().map(Some).collect();
    let mut rows = 0;
    for _ in 0..ROUNDS {
        for messages in messages.chunks(BATCH_ROWS) {
            let mut out = Rows::default();
            reader.decode(messages, &mut out)?;
            rows += out.len() - out.failed.len();
        }
    }
    Ok(rows)
}

fn arrow_json(messages: &[&[u8]]) -> Result<usize> {
    let field = |name, data_type| Field::new(name, data_type, false);
    let schema = Schema::new(vec![
        field("id", DataType::Int64),
        field("quantity", DataType::Int64),
        field("price", DataType::Float64),
        field("country", DataType::Utf8),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ]);
    let builder = arrow::json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(BATCH_ROWS);
    let mut decoder = builder.build_decoder()?;
    let mut rows = 0;
    for _ in 0..ROUNDS {
        for messages in messages.chunks(BATCH_ROWS) {
            for message in messages {
                decoder.decode(message)?;
            }
            rows += decoder.flush()?.map_or(0, |batch| batch.num_rows());
        }
    }
    Ok(rows)
}

fn arrow_avro(messages: &[&[u8]]) -> Result<usize> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Rabin);
    let fingerprint = store.register(AvroSchema::new(SCHEMA.to_owned()))?;
    let builder = AvroBuilder::new().with_batch_size(BATCH_ROWS).with_utf8_view(false);
    let builder = builder.with_writer_schema_store(store).with_active_fingerprint(fingerprint);
    let mut decoder = builder.build_decoder()?;
    let arrow_avro::schema::Fingerprint::Rabin(fingerprint) = fingerprint else {
        return Err(Error::new("another fingerprint"));
    };
    let prefix = [&[0xc3, 0x01][..], &fingerprint.to_le_bytes()].concat();
    let failed = |error: arrow_avro::errors::AvroError| Error::new(error.to_string());
    let mut rows = 0;
    for _ in 0..ROUNDS {
        for messages in messages.chunks(BATCH_ROWS) {
            for message in messages {
                decoder.decode(&prefix).map_err(failed)?;
                decoder.decode(message).map_err(failed)?;
            }
            rows += decoder.flush().map_err(failed)?.map_or(0, |batch| batch.num_rows());
        }
    }
    Ok(rows)
}
