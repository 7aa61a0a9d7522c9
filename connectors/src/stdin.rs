//! The input `stdin`.

use std::io::Read;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use millstream_core::{
    Collector, Columns, Error, Home, Input, InputPlan, InputSettings, Kind, PlanContext, Problem, Problems, Progress,
    Result, ResultExt,
};
use millstream_formats::{Decoder, Format, ReadMode, ReadStreams, Rows};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Reads rows from the standard input, until it is closed.
///
/// Rows are handed on as they come, so a program that keeps writing can be followed. Since the input can't be looked
/// at before the flow starts, `format` and `schema` have to be given; since it can't be read twice, a run that was
/// killed can't continue where it was. At most one node of a flow can read it.
///
/// A row that can't be read leaves by the port `failed`, with its number, counted from 0, as its position.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdinInput {
    /// How the rows are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format.
    format: Format<ReadStreams>,
    /// The columns and their types: `{ id = "utf8", amount = "float64?" }`. A value that is missing, null or of
    /// another type fails its row; with a `?` behind its type it may be missing or null.
    schema: Columns,
}

impl Kind for StdinInput {
    const NAME: &'static str = "stdin";
    const EXAMPLE: &'static str = r#"
format = "ndjson"
schema = { id = "int64", amount = "float64?" }
"#;
}

impl StdinInput {
    fn decoder(&self, context: &PlanContext) -> Result<Decoder, Problem> {
        Ok(Decoder { read_mode: ReadMode::Streaming, ..self.format.decoder(&self.schema, context)? })
    }
}

impl InputSettings for StdinInput {
    fn plan(&self, context: &PlanContext) -> Result<InputPlan, Problems> {
        let decoder = self.decoder(context)?;
        let (schema, source) = (decoder.schema(), context.node.as_str().into());
        Ok(InputPlan { replayable: false, ..InputPlan::new(schema, move || Ok(Stdin { source, decoder, rows: None })) })
    }
}

struct Stdin {
    source: Arc<str>,
    decoder: Decoder,
    rows: Option<mpsc::Receiver<Result<Rows>>>,
}

#[async_trait]
impl Input for Stdin {
    async fn open(&mut self, _: &Home) -> Result<()> {
        self.rows = Some(follow(std::io::stdin(), self.decoder.clone())?);
        Ok(())
    }

    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let rows = self.rows.as_mut().ok_or_else(|| Error::new("stdin is not open"))?;
        let Some(rows) = rows.recv().await else { return Ok(Progress::End) };
        rows.doing(|| "reading stdin")?.send(&self.source, &"".into(), out);
        Ok(Progress::More)
    }
}

/// Reads in a thread of its own, because a read may wait forever. The thread ends with the source, or when nobody
/// takes the rows any more.
fn follow(source: impl Read + Send + 'static, decoder: Decoder) -> Result<mpsc::Receiver<Result<Rows>>> {
    let (sender, receiver) = mpsc::channel(2);
    let read = move || {
        if let Err(error) = send_all(source, &decoder, &sender) {
            // The flow has ended if this can't be sent, and needs to know no more.
            let _ = sender.blocking_send(Err(error));
        }
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(read)?;
    Ok(receiver)
}

fn send_all(source: impl Read + Send + 'static, decoder: &Decoder, to: &mpsc::Sender<Result<Rows>>) -> Result<()> {
    let mut reader = decoder.read(source)?;
    loop {
        let mut rows = Rows::default();
        if !reader.next(&mut rows)? || to.blocking_send(Ok(rows)).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use millstream_testkit::{context, parse, rows_as_text};

    use super::*;

    fn open(settings: &str, source: impl Read + Send + 'static) -> Stdin {
        let settings: StdinInput = parse(settings);
        let decoder = settings.decoder(&context()).unwrap();
        let rows = Some(follow(source, decoder.clone()).unwrap());
        Stdin { source: "in".into(), decoder, rows }
    }

    const NDJSON: &str = "format = \"ndjson\"\nschema = { a = \"int64\" }";

    #[tokio::test]
    async fn rows_are_handed_on_before_the_source_ends() {
        let (source, mut writer) = std::io::pipe().unwrap();
        let mut input = open(NDJSON, source);
        let mut out = Collector::new(1);
        writer.write_all(b"{\"a\": 1}\n{\"a\": 2}\n{\"a\"").unwrap();
        assert_eq!(input.next(&mut out).await.unwrap(), Progress::More);
        let batch = out.take(0).next().unwrap();
        assert_eq!(rows_as_text([&batch.rows]), "a:int64\n1\n2\n");
        assert_eq!((&*batch.origin.source, batch.origin.start, batch.origin.end), ("in", 0, 2));
        writer.write_all(b": 3}\nbad").unwrap();
        drop(writer);
        assert_eq!(input.next(&mut out).await.unwrap(), Progress::More);
        assert_eq!(out.take(0).next().unwrap().origin.start, 2);
        assert_eq!(input.next(&mut out).await.unwrap(), Progress::More);
        assert_eq!(out.take_failed()[0].position, Some(3));
        assert_eq!(input.next(&mut out).await.unwrap(), Progress::End);
    }

    #[tokio::test]
    async fn a_header_that_does_not_fit_is_an_error() {
        let mut input = open("format = \"csv\"\nschema = { a = \"int64\" }", &b"b\n1\n"[..]);
        let error = input.next(&mut Collector::new(1)).await.unwrap_err();
        assert!(error.to_string().starts_with("reading stdin: there is no column `a`"), "{error}");
    }

    #[test]
    fn settings_that_are_wrong() {
        let problem = |text: &str| {
            let settings: StdinInput = parse(text);
            let problem = settings.plan(&context()).unwrap_err().remove(0);
            (problem.at, problem.message)
        };
        assert_eq!(problem("format = \"csv\"\nschema = { a = \"list<utf8>\" }").0, ["schema".into()]);
        let format = |format: &str| problem(&format!("format = {format}\nschema = {{ a = \"int64\" }}")).0;
        assert_eq!(format("{ type = \"ndjson\", timezone = \"Berlin\" }"), ["format".into(), "timezone".into()]);
        assert_eq!(format("{ type = \"csv\", delimiter = \"é\" }"), ["format".into(), "delimiter".into()]);
    }

    #[test]
    fn only_formats_that_can_be_read_from_a_stream() {
        let format = |name: &str| {
            let settings = toml::from_str::<StdinInput>(&format!("format = \"{name}\"\nschema = {{ a = \"int64\" }}"));
            settings.map(|settings| settings.format.kind().name)
        };
        assert_eq!(format("csv").unwrap(), "csv");
        assert_eq!(format("ndjson").unwrap(), "ndjson");
        assert_eq!(format("json").unwrap(), "json");
        assert!(format("parquet").is_err() && format("arrow").is_err());
        let schema = schemars::schema_for!(StdinInput).as_value().to_string();
        assert!(!schema.contains("parquet") && !schema.contains("arrow"), "{schema}");
    }

    #[test]
    fn it_ends_but_can_not_be_read_again() {
        let settings: StdinInput = parse(NDJSON);
        let plan = settings.plan(&context()).unwrap();
        assert_eq!((plan.finite, plan.replayable, plan.rows), (true, false, None));
    }
}
