mod parallel;

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use arrow::array::RecordBatch;
use millstream_core::{Collector, FailedRow, Home, Input, Positions, Progress, State, Step};
use millstream_formats::{FileKind, WriteFiles, WriteOptions};
use millstream_testkit::{context, parse, rows_as_text, table};

use super::*;

struct Flow {
    folder: tempfile::TempDir,
    context: PlanContext,
}

impl Flow {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let context = PlanContext { flow_folder: folder.path().to_owned(), ..context() };
        Self { folder, context }
    }

    fn put(&self, name: &str, rows: &RecordBatch) {
        let FileKind { format, compression, ending } = FileKind::of(name);
        let file = fs::File::create(self.folder.path().join(name)).unwrap();
        let format = Format::<WriteFiles>::named(format.unwrap().name).unwrap().write(&ending).unwrap();
        let options = WriteOptions { format, compression, begins: true };
        let mut writer = options.open(file, &rows.schema()).unwrap();
        writer.write(rows).unwrap();
        writer.finish().unwrap();
    }

    fn plan(&self, settings: &str) -> Result<InputPlan, Problems> {
        parse::<FileInput>(settings).plan(&self.context)
    }

    fn problem(&self, settings: &str) -> (Vec<Step>, String) {
        let mut problems = self.plan(settings).unwrap_err();
        assert_eq!(problems.len(), 1);
        let problem = problems.remove(0);
        (problem.at, problem.message)
    }

    /// The rows of every partition as text, and the failed rows.
    fn read(&self, settings: &str) -> (Vec<(String, String)>, Vec<FailedRow>) {
        let plan = self.plan(settings).unwrap();
        let mut input = (plan.build)().unwrap();
        let mut out = Collector::new(1);
        now(input.open(&Home::Nowhere)).unwrap();
        while now(input.next(&mut out)).unwrap() == Progress::More {}
        let mut partitions: Vec<(String, Vec<RecordBatch>)> = Vec::new();
        for batch in out.take(0) {
            assert_eq!(batch.rows.schema(), plan.ports[0].schema);
            assert_eq!((&*batch.origin.source, batch.origin.end - batch.origin.start), ("node", batch.len() as u64));
            match partitions.last_mut() {
                Some((name, rows)) if **name == *batch.origin.partition => rows.push(batch.rows),
                _ => partitions.push((batch.origin.partition.to_string(), vec![batch.rows])),
            }
        }
        let text = partitions.into_iter().map(|(name, rows)| (name, rows_as_text(&rows))).collect();
        (text, out.take_failed())
    }
}

/// Files never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("files never wait"),
    }
}

fn at(path: &str) -> Vec<Step> {
    vec![path.into()]
}

#[test]
fn files_are_read_in_the_order_of_their_paths() {
    let mut flow =
        Flow::new(&[("data/b.csv", "n,a\n3,x\n"), ("data/a.csv", "a,n\nz,1\ny,2\n"), ("c.csv", "a,n\n,4\n")]);
    for batch_rows in [1, 7, 8192] {
        flow.context.batch_rows = batch_rows;
        let (rows, failed) = flow.read("path = [\"data/*.csv\", \"c.csv\", \"data/a.csv\"]");
        let header = "a:utf8? n:int64?\n";
        let expected = [("c.csv", "null 4\n"), ("data/a.csv", "z 1\ny 2\n"), ("data/b.csv", "x 3\n")];
        assert_eq!(rows, expected.map(|(name, text)| (name.to_owned(), format!("{header}{text}"))));
        assert!(failed.is_empty());
    }
}

#[test]
fn bad_rows_fail_with_their_position_in_their_file() {
    let flow = Flow::new(&[("a.ndjson", "{\"n\": 1}\nx\n"), ("b.ndjson", "{\"n\": \"y\"}\n{\"n\": 2}")]);
    let (rows, failed) = flow.read("path = \"*.ndjson\"\nschema = { n = \"int64\" }");
    assert_eq!(rows.len(), 2);
    let places: Vec<_> = failed.iter().map(|row| (&*row.source, &*row.partition, row.position, &*row.row)).collect();
    assert_eq!(places, [("node", "a.ndjson", Some(1), "x"), ("node", "b.ndjson", Some(0), "{\"n\": \"y\"}")]);
}

#[test]
fn binary_files_know_their_rows_and_columns() {
    let mut flow = Flow::new(&[]);
    flow.put("a.parquet", &table("id:int64 name:utf8\n1 x\n2 y"));
    flow.put("b.parquet", &table("id:int64 name:utf8?\n3 null"));
    flow.put("c.arrow", &table("id:int64 name:utf8\n1 x"));
    let plan = flow.plan("path = \"*.parquet\"").unwrap();
    assert_eq!((plan.rows, plan.finite, plan.replayable), (Some(3), true, true));
    let (rows, _) = flow.read("path = \"*.parquet\"");
    assert_eq!(rows[1].1, "id:int64 name:utf8?\n3 null\n");
    assert_eq!(flow.plan("path = \"c.arrow\"").unwrap().rows, Some(1));
    flow.context.columns = Some(BTreeSet::from(["name".to_owned()]));
    assert_eq!(flow.read("path = \"*.parquet\"").0[1].1, "name:utf8?\nnull\n");
    flow.context.columns = Some(BTreeSet::new());
    assert_eq!(flow.read("path = \"*.arrow\"").0, [("c.arrow".to_owned(), "\n\n".to_owned())]);
}

#[test]
fn names_and_settings_say_how_a_file_is_written() {
    let flow = Flow::new(&[("a.tsv", "a\tb\n1\t2\n"), ("data.txt", "1;NA\n"), ("c.csv", "at\n2026-01-31T12:00:00\n")]);
    assert_eq!(flow.read("path = \"a.tsv\"").0[0].1, "a:int64? b:int64?\n1 2\n");
    let format = "{ type = \"csv\", header = false, delimiter = \";\", null_values = [\"NA\"] }";
    let settings = format!("path = \"data.txt\"\nformat = {format}");
    assert_eq!(flow.read(&settings).0[0].1, "column_1:int64? column_2:utf8?\n1 null\n");
    let settings = "path = \"c.csv\"\nformat = { type = \"csv\", timezone = \"Europe/Berlin\" }";
    assert_eq!(flow.read(settings).0[0].1, "at:timestamp?\n2026-01-31T11:00:00Z\n");
    flow.put("a.csv.gz", &table("a:int64\n1"));
    fs::rename(flow.folder.path().join("a.csv.gz"), flow.folder.path().join("packed.csv")).unwrap();
    assert_eq!(flow.read("path = \"packed.csv\"\ncompression = \"gzip\"").0[0].1, "a:int64?\n1\n");
}

#[test]
fn values_behind_the_sample_that_do_not_fit_fail() {
    let flow = Flow::new(&[("a.csv", "a\n1\n2.5\n3\n")]);
    assert_eq!(flow.read("path = \"a.csv\"").0[0].1, "a:float64?\n1.0\n2.5\n3.0\n");
    let (_, failed) = flow.read("path = \"a.csv\"\ninfer_rows = 1");
    assert_eq!((failed.len(), failed[0].error.as_str()), (1, "column `a`: `2.5` is not an `int64`"));
}

#[test]
fn paths_that_are_wrong() {
    let flow = Flow::new(&[("a.csv", "a\n1\n"), ("b.ndjson", "{}\n"), ("c", ""), ("d.parquet", "x")]);
    assert_eq!(flow.problem("path = \"x*.csv\""), (at("path"), "no file matches `x*.csv`".into()));
    let place = vec!["path".into(), 1.into()];
    assert_eq!(flow.problem("path = [\"a.csv\", \"no.csv\"]"), (place, "there is no file `no.csv`".into()));
    let message = "the name of `c` does not say its format";
    assert_eq!(flow.problem("path = \"c\""), (at("path"), message.into()));
    let message = "`b.ndjson` is ndjson, unlike the files before it";
    assert_eq!(flow.problem("path = [\"a.csv\", \"b.ndjson\"]"), (at("path"), message.into()));
    let message = "`b.ndjson` has no rows to find the columns by";
    assert_eq!(flow.problem("path = \"b.ndjson\""), (at("path"), message.into()));
    let (place, message) = flow.problem("path = \"d.parquet\"");
    assert!(place == at("path") && message.contains("no valid Parquet file"), "{message}");
    assert_eq!(flow.problem("path = []"), (at("path"), "there are no paths".into()));
}

#[test]
fn files_with_other_columns_are_named() {
    let flow = Flow::new(&[("a.csv", "a,b\n1,2\n"), ("b.csv", "b,c\n"), ("e.csv", "")]);
    let message = "`b.csv` has other columns than `a.csv`: `a` is missing";
    assert_eq!(flow.problem("path = \"*.csv\""), (at("path"), message.into()));
    assert_eq!(flow.read("path = [\"a.csv\", \"e.csv\"]").0.len(), 1);
    flow.put("a.parquet", &table("a:int64\n1"));
    flow.put("b.parquet", &table("a:utf8\n1"));
    let message = "`b.parquet` has other columns than `a.parquet`: `a` is utf8 instead of int64";
    assert_eq!(flow.problem("path = \"*.parquet\""), (at("path"), message.into()));
}

#[test]
fn settings_that_are_wrong() {
    let flow = Flow::new(&[("a.csv", "a\n1\n")]);
    flow.put("a.parquet", &table("a:int64\n1"));
    let place = |settings: &str| flow.problem(settings).0;
    assert_eq!(place("path = \"a.parquet\"\nschema = { a = \"int64\" }"), at("schema"));
    assert_eq!(place("path = \"a.parquet\"\ncompression = \"gzip\""), at("compression"));
    assert_eq!(place("path = \"a.csv\"\nschema = { a = \"list<int64>\" }"), at("schema"));
    let csv = |setting: &str| place(&format!("path = \"a.csv\"\nformat = {{ type = \"csv\", {setting} }}"));
    assert_eq!(csv("timezone = \"Mars\""), ["format".into(), "timezone".into()]);
    assert_eq!(csv("delimiter = \"\\\"\""), ["format".into(), "delimiter".into()]);
    assert_eq!(csv("decimal_separator = \",\""), ["format".into(), "decimal_separator".into()]);
    assert_eq!(place("path = \"a.csv\"\nformat = \"parquet\"\ncompression = \"gzip\""), at("compression"));
    let message = "`a.csv`: there is no column `b` in the header; there is only `a`";
    assert_eq!(flow.problem("path = \"a.csv\"\nschema = { b = \"int64\" }"), (at("schema"), message.into()));
    assert!(flow.plan("path = \"a.csv\"\nschema = { b = \"int64?\" }").is_ok());
}

#[test]
fn a_file_that_is_emptied_is_an_error_that_names_it() {
    let flow = Flow::new(&[("a.csv", ""), ("b.csv", "a\n1\n")]);
    for settings in ["path = \"*.csv\"", "path = \"*.csv\"\nschema = { a = \"int64\" }"] {
        fs::write(flow.folder.path().join("b.csv"), "a\n1\n").unwrap();
        assert_eq!(flow.read(settings).0.len(), 1, "a file that was empty may stay so");
        let mut input = (flow.plan(settings).unwrap().build)().unwrap();
        fs::write(flow.folder.path().join("b.csv"), "").unwrap();
        let error = now(input.next(&mut Collector::new(1))).unwrap_err().to_string();
        assert!(error.contains("b.csv`: the header is gone"), "{error}");
    }
    let headerless = "path = \"b.csv\"\nformat = { type = \"csv\", header = false }\nschema = { a = \"int64\" }";
    assert_eq!(flow.read(headerless).0, []);
}

#[test]
fn a_file_that_goes_away_is_an_error_that_names_it() {
    let flow = Flow::new(&[("a.csv", "a\n1\n")]);
    let mut input = (flow.plan("path = \"a.csv\"").unwrap().build)().unwrap();
    fs::remove_file(flow.folder.path().join("a.csv")).unwrap();
    let error = now(input.next(&mut Collector::new(1))).unwrap_err().to_string();
    assert!(error.starts_with("reading `") && error.contains("a.csv"), "{error}");
}

#[test]
fn a_file_that_is_another_one_than_before_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ndjson");
    let text: String = (0..20).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let context = PlanContext { flow_folder: folder.path().to_owned(), ..context() };
    let build = || {
        let settings = "path = \"a.ndjson\"\nschema = { n = \"int64\" }";
        (parse::<FileInput>(settings).plan(&context).unwrap().build)().unwrap()
    };
    fs::write(&path, &text).unwrap();
    let mut input = build();
    let mut out = Collector::new(1);
    now(input.next(&mut out)).unwrap();
    // All rows have been read, and seven of them sent.
    let positions = Positions::from([("a.ndjson".into(), 7)]);
    let state = input.snapshot(&positions).unwrap().into_state().unwrap();
    let go_on = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut input = build();
        input.restore(&positions, &state).unwrap();
        let mut out = Collector::new(1);
        now(input.next(&mut out)).map(|_| out.take(0).map(|batch| batch.len()).sum::<usize>())
    };
    assert_eq!(go_on(&text).unwrap(), 13);
    let error = go_on(&text[..60]).unwrap_err().to_string();
    assert!(error.contains("it was changed since it was opened (it has become shorter: 60 bytes"), "{error}");
    let error = go_on(&text.replace("19", "91")).unwrap_err().to_string();
    assert!(error.contains("it was changed since it was opened (its bytes are others)"), "{error}");
}

/// An input over `*.ndjson`, which is to be read seven rows at a time, and gone on with.
struct Reading {
    folder: tempfile::TempDir,
    input: Box<dyn Input>,
    out: Collector,
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("{{\"n\": {n}}}\n")).collect()
}

impl Reading {
    fn of(folder: tempfile::TempDir) -> Self {
        let context = PlanContext { flow_folder: folder.path().to_owned(), batch_rows: 7, ..context() };
        let settings = "path = \"*.ndjson\"\nschema = { n = \"int64\" }";
        let input = (parse::<FileInput>(settings).plan(&context).unwrap().build)().unwrap();
        Self { folder, input, out: Collector::new(1) }
    }

    fn next(&mut self) -> Result<usize> {
        now(self.input.next(&mut self.out)).map(|_| self.out.take(0).map(|batch| batch.len()).sum::<usize>())
    }

    fn rest(&mut self) -> Result<usize> {
        let mut rows = 0;
        loop {
            match self.next()? {
                0 => return Ok(rows),
                more => rows += more,
            }
        }
    }

    fn state(&mut self, file: &str, position: u64) -> (Positions, State) {
        let positions = Positions::from([(file.into(), position)]);
        let state = self.input.snapshot(&positions).unwrap().into_state().unwrap();
        (positions, state)
    }

    fn go_on(self, (positions, state): &(Positions, State)) -> Self {
        let mut again = Self::of(self.folder);
        again.input.restore(positions, state).unwrap();
        again
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_not_gone_on_with() {
    // The new one begins as the old one does, and is as long.
    for new in [lines(100..120), lines(0..20).replace("19", "91"), lines(0..30)] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.ndjson"), lines(0..20)).unwrap();
        let mut reading = Reading::of(folder);
        assert_eq!(reading.next().unwrap(), 7);
        fs::write(reading.path("new"), &new).unwrap();
        fs::rename(reading.path("new"), reading.path("a.ndjson")).unwrap();
        let state = reading.state("a.ndjson", 7);
        let gone_on = reading.go_on(&state).rest();
        if new == lines(0..30) {
            assert_eq!(gone_on.unwrap(), 23, "it is the old one with more rows");
        } else {
            let error = gone_on.unwrap_err().to_string();
            assert!(error.contains("`a.ndjson`: another file has taken its name since it was opened"), "{error}");
        }
    }
}

#[test]
fn a_copy_of_a_file_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.ndjson"), lines(0..20)).unwrap();
    let mut reading = Reading::of(folder);
    reading.next().unwrap();
    let state = reading.state("a.ndjson", 5);
    fs::copy(reading.path("a.ndjson"), reading.path("copy")).unwrap();
    fs::rename(reading.path("copy"), reading.path("a.ndjson")).unwrap();
    assert_eq!(reading.go_on(&state).rest().unwrap(), 15);
}

#[test]
fn nobody_looks_at_a_file_again_that_was_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ndjson", "b.ndjson"] {
        fs::write(folder.path().join(name), lines(0..7)).unwrap();
    }
    let mut reading = Reading::of(folder);
    assert_eq!((reading.next().unwrap(), reading.next().unwrap()), (7, 7));
    let in_b = reading.state("b.ndjson", 3);
    let behind_a = reading.state("a.ndjson", 7);
    fs::write(reading.path("a.ndjson"), lines(50..90)).unwrap();
    let mut reading = reading.go_on(&in_b);
    assert_eq!(reading.rest().unwrap(), 4);
    let mut reading = reading.go_on(&behind_a);
    assert_eq!(reading.rest().unwrap(), 7);
    let behind_b = reading.state("b.ndjson", 7);
    fs::remove_file(reading.path("b.ndjson")).unwrap();
    assert_eq!(reading.go_on(&behind_b).rest().unwrap(), 0);
}

#[test]
fn each_run_reads_the_files_that_are_new() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "path = \"*.ndjson\"\nschema = { n = \"int64\" }\nonce = \"new_files\"";
    let context = PlanContext { flow_folder: folder.path().to_owned(), batch_rows: 7, ..context() };
    let put = |name: &str, rows: u32| fs::write(folder.path().join(name), lines(0..rows)).unwrap();
    let mut before: Option<(Positions, State)> = None;
    let mut run = |expected: &[(&str, usize)]| {
        let plan = parse::<FileInput>(settings).plan(&context).unwrap();
        assert!(!plan.finite && plan.replayable);
        let mut input = (plan.build)().unwrap();
        let mut positions = Positions::new();
        if let Some((before, state)) = &before {
            input.restore(before, state).unwrap();
            positions = before.clone();
        }
        let (mut out, mut read) = (Collector::new(1), Vec::new());
        while now(input.next(&mut out)).unwrap() == Progress::More {
            for batch in out.take(0) {
                positions.insert(batch.origin.partition.clone(), batch.origin.end);
                read.push((batch.origin.partition.to_string(), batch.len()));
            }
        }
        let read: Vec<_> = read.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
        assert_eq!(read, expected);
        {
            let next = std::pin::pin!(input.next(&mut out));
            assert!(next.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it waits to be stopped");
        }
        let state = input.snapshot(&positions).unwrap().into_state().unwrap();
        before = Some((positions, state));
    };
    run(&[]);
    put("b.ndjson", 3);
    run(&[("b.ndjson", 3)]);
    run(&[]);
    put("a.ndjson", 2);
    put("c.ndjson", 1);
    run(&[("a.ndjson", 2), ("c.ndjson", 1)]);
    // Those that were read may be taken away.
    fs::remove_file(folder.path().join("c.ndjson")).unwrap();
    put("b.ndjson", 9);
    run(&[]);
}
