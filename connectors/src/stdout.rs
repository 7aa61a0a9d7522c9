//! The output `stdout`.

use std::io::{ErrorKind, Write};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_core::{
    Barrier, Batch, Collector, Delivery, Error, Home, Kind, Output, OutputPlan, OutputSettings, PlanContext, Problem,
    Problems, Result, Run, Snapshot, Stream, Then, Uses,
};
use millstream_formats::{Encoder, Format, WriteFormat, WriteStreams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes rows to the standard output, as they come.
///
/// What was written can't be taken back: if the flow is killed and resumed, rows may be written twice.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutOutput {
    /// How rows are written: `"csv"`, or `{ type = "csv", delimiter = ";" }` with settings of the format.
    #[serde(default = "ndjson")]
    format: Format<WriteStreams>,
    /// Where to: `stderr` keeps the standard output free for other things.
    #[serde(default)]
    stream: Target,
    /// Only the first so many rows of a run are written, in `table` format as one table; those behind them are
    /// counted and forgotten. Without it all are written.
    #[schemars(range(min = 1))]
    rows: Option<usize>,
}

/// For `#[serde(default)]`.
fn ndjson() -> Format<WriteStreams> {
    Format::named("ndjson").expect("there is NDJSON")
}

/// One of the two streams that a process writes to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Target {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
}

impl Kind for StdoutOutput {
    const NAME: &'static str = "stdout";
    const ALSO_CALLED: &'static [&'static str] = &["print", "console", "log"];
    const EXAMPLE: &'static str = r#"
format = "table"
"#;
}

impl OutputSettings for StdoutOutput {
    fn plan(&self, _: &PlanContext, input: &Stream) -> Result<OutputPlan, Problems> {
        let format = self.format.write()?;
        let help = "use `format = \"ndjson\"`, or take the column apart before";
        format.check_columns(&input.schema).map_err(|problem: Problem| problem.at(["format"]).help(help))?;
        let (target, schema, rows) = (self.stream, input.schema.clone(), self.rows);
        let build = Box::new(move || Ok(Box::new(Printer::new(&format, target, schema, rows)?) as Box<dyn Output>));
        Ok(OutputPlan {
            writes: None,
            uses: Uses::all(),
            delivery: Delivery::AtLeastOnce,
            exclusive: None,
            answers: None,
            place: None,
            takes_other_columns: true,
            fails: false,
            build,
        })
    }
}

struct Printer {
    encoder: Box<dyn Encoder>,
    schema: SchemaRef,
    name: &'static str,
    sink: Box<dyn Write + Send>,
    /// Reused from batch to batch.
    text: Vec<u8>,
    /// How many more rows are written.
    left: usize,
    /// The rows that are written as one piece when they are complete.
    gathered: Option<Vec<RecordBatch>>,
}

impl Printer {
    fn new(format: &WriteFormat, target: Target, schema: SchemaRef, rows: Option<usize>) -> Result<Self> {
        let (name, sink): (_, Box<dyn Write + Send>) = match target {
            Target::Stdout => ("stdout", Box::new(std::io::stdout())),
            Target::Stderr => ("stderr", Box::new(std::io::stderr())),
        };
        let gathered = (format.is_one_piece() && rows.is_some()).then(Vec::new);
        let (encoder, left) = (format.encoder(&schema)?, rows.unwrap_or(usize::MAX));
        Ok(Self { encoder, schema, name, sink, text: Vec::new(), left, gathered })
    }

    /// Writes the one piece, unless that was done before.
    fn print_gathered(&mut self) -> Result<()> {
        let Some(gathered) = self.gathered.take() else { return Ok(()) };
        self.encoder.encode(&concat_batches(&self.schema, &gathered)?, &mut self.text)?;
        self.print()
    }

    /// Writes what is encoded, with one call: other outputs write to the same stream, and would else come between two halves of
    /// a row.
    fn print(&mut self) -> Result<()> {
        let written = self.sink.write_all(&self.text).and_then(|()| self.sink.flush());
        self.text.clear();
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Error::new(format!("{} was closed by the program that reads it", self.name)),
            _ => Error::caused_by(format!("writing to {}", self.name), error),
        })
    }
}

#[async_trait]
impl Output for Printer {
    async fn open(&mut self, _: &Home, _: &Run) -> Result<()> {
        self.encoder.begin(&mut self.text)?;
        self.print()
    }

    async fn write(&mut self, batch: Batch, _: &mut Collector) -> Result<()> {
        // Nobody may be reading any more once all that was asked for is written.
        if self.left == 0 {
            return Ok(());
        }
        let rows = batch.rows.slice(0, batch.len().min(self.left));
        self.left -= rows.num_rows();
        let Some(gathered) = &mut self.gathered else {
            self.encoder.encode(&rows, &mut self.text)?;
            return self.print();
        };
        gathered.push(rows);
        if self.left > 0 { Ok(()) } else { self.print_gathered() }
    }

    async fn stage(&mut self, barrier: Barrier) -> Result<Snapshot> {
        if barrier.then != Then::Continue {
            self.print_gathered()?;
            self.encoder.end(&mut self.text)?;
        }
        // Nobody may be reading any more.
        if !self.text.is_empty() {
            self.print()?;
        }
        Ok(Snapshot::default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use millstream_testkit::{batch, context, parse, stream, table};

    use super::*;

    const END: Barrier = Barrier { epoch: millstream_core::Epoch(1), then: Then::End };

    fn printer(settings: &str, rows: &RecordBatch, sink: impl Write + Send + 'static) -> Printer {
        let StdoutOutput { format, stream, rows: most } = parse(settings);
        let printer = Printer::new(&format.write().unwrap(), stream, rows.schema(), most).unwrap();
        Printer { sink: Box::new(sink), ..printer }
    }

    /// What is written for rows in batches of `cut`.
    async fn printed(settings: &str, rows: &RecordBatch, cut: usize) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut printer = printer(settings, rows, writer);
        printer.open(&Home::Nowhere, &Run::default()).await.unwrap();
        for start in (0..rows.num_rows()).step_by(cut) {
            printer
                .write(batch(rows.slice(start, cut.min(rows.num_rows() - start))), &mut Collector::new(0))
                .await
                .unwrap();
        }
        printer.stage(END).await.unwrap();
        drop(printer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn every_format() {
        let rows = table("a:int64? b:utf8?\n1 x\nnull yy");
        assert_eq!(printed("", &rows, 1).await, "{\"a\":1,\"b\":\"x\"}\n{\"b\":\"yy\"}\n");
        assert_eq!(printed("format = \"csv\"", &rows, 1).await, "a,b\n1,x\n,yy\n");
        let format = "format = { type = \"csv\", delimiter = \";\", header = false }";
        assert_eq!(printed(format, &rows, 1).await, "1;x\n;yy\n");
        let first = "+---+---+\n| a | b |\n+---+---+\n| 1 | x |\n+---+---+\n";
        let second = "+---+----+\n| a | b  |\n+---+----+\n|   | yy |\n+---+----+\n";
        assert_eq!(printed("format = \"table\"", &rows, 1).await, format!("{first}{second}"));
    }

    #[tokio::test]
    async fn only_the_first_rows_whatever_the_batches() {
        let rows = table("a:int64\n1\n2\n3\n4\n5");
        let first_three = "+---+\n| a |\n+---+\n| 1 |\n| 2 |\n| 3 |\n+---+\n";
        for cut in [1, 2, 3, 5] {
            assert_eq!(printed("format = \"csv\"\nrows = 3", &rows, cut).await, "a\n1\n2\n3\n");
            assert_eq!(printed("rows = 1", &rows, cut).await, "{\"a\":1}\n");
            assert_eq!(
                printed("format = \"json\"\nrows = 2", &rows, cut).await,
                "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n"
            );
            assert_eq!(printed("format = \"table\"\nrows = 3", &rows, cut).await, first_three);
            let fewer = rows.slice(0, 3);
            assert_eq!(printed("format = \"table\"\nrows = 100", &fewer, cut).await, first_three);
        }
        let none = printed("format = \"table\"\nrows = 3", &rows.slice(0, 0), 1).await;
        assert!(none.contains("| a |"), "{none}");
    }

    /// Counts how often it is written to.
    #[derive(Clone, Default)]
    struct Calls(Arc<AtomicUsize>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn no_other_output_comes_between_the_halves_of_a_row() {
        let rows = table(&format!("a:utf8\n{}", "a_text_of_some_length\n".repeat(20_000)));
        let calls = Calls::default();
        printer("", &rows, calls.clone()).write(batch(rows), &mut Collector::new(0)).await.unwrap();
        assert_eq!(calls.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_a_clean_error() {
        let rows = table("a:int64\n1");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let error = printer("", &rows, writer).write(batch(rows), &mut Collector::new(0)).await.unwrap_err();
        assert_eq!(error.to_string(), "stdout was closed by the program that reads it");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_when_it_has_its_rows_is_none() {
        let rows = table("a:int64\n1\n2\n3");
        for format in ["ndjson", "csv", "table"] {
            let (reader, writer) = std::io::pipe().unwrap();
            let mut printer = printer(&format!("format = \"{format}\"\nrows = 2"), &rows, writer);
            printer.open(&Home::Nowhere, &Run::default()).await.unwrap();
            printer.write(batch(rows.clone()), &mut Collector::new(0)).await.unwrap();
            drop(reader);
            printer.write(batch(rows.clone()), &mut Collector::new(0)).await.unwrap();
            printer.stage(END).await.unwrap();
        }
    }

    #[test]
    fn the_schema_says_the_defaults() {
        let schema = schemars::schema_for!(StdoutOutput);
        let default = |name: &str| schema.pointer(&format!("/properties/{name}/default")).unwrap().clone();
        assert_eq!((default("format"), default("stream")), ("ndjson".into(), "stdout".into()));
    }

    #[test]
    fn nested_columns_are_no_csv() {
        let settings: StdoutOutput = parse("format = \"csv\"");
        let rows = stream("from", millstream_testkit::schema("l:list<utf8>"));
        let problems = settings.plan(&context(), &rows).unwrap_err();
        assert_eq!(problems[0].at, ["format".into()]);
        assert_eq!(
            settings.plan(&context(), &stream("from", table("a").schema())).unwrap().delivery,
            Delivery::AtLeastOnce
        );
    }
}
