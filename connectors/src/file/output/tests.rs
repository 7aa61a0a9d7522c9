use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use millstream_core::{
    Barrier, CommitContext, Committer, Epoch, Former, Home, PendingCommit, Result, Run, State, Step, Then,
};
use millstream_testkit::{batch, commit_late, context, parse, stages, stream, table};

use super::*;

/// A stage, as a committer is given it.
fn stage_of(staged: &State) -> PendingCommit {
    PendingCommit { staged: staged.clone(), context: CommitContext::default() }
}

struct Folder(tempfile::TempDir);

/// An output that has staged what it was given.
struct Written {
    output: Option<Box<dyn Output>>,
    committer: Box<dyn Committer>,
    staged: State,
}

impl Written {
    async fn commit(&mut self) -> Result<()> {
        self.committer.commit(&stage_of(&self.staged)).await?;
        self.output = None;
        Ok(())
    }

    async fn abort(&mut self) {
        if let Some(output) = &mut self.output {
            output.abort().await;
        }
    }
}

const END: Barrier = Barrier { epoch: Epoch(1), then: Then::End };

/// A run without state.
fn stateless() -> Run {
    Run { incarnation: "0123456789abcdef".into(), generation: 0 }
}

/// A run of a flow with state.
fn generation(generation: u64) -> Run {
    Run { incarnation: "fedcba9876543210".into(), generation }
}

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn context(&self) -> PlanContext {
        PlanContext { work_folder: self.0.path().to_owned(), ..context() }
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// The names in a folder, hidden ones included.
    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What commits what a run before has staged into this folder itself.
    fn publisher(&self, settings: &str) -> Box<dyn Committer> {
        (self.plan(settings, &rows(0)).unwrap().build)().unwrap().committer().unwrap()
    }

    /// Commits what a run before has staged, and remembers it.
    async fn settle(&self, settings: &str, staged: &State) {
        let mut publisher = self.publisher(settings);
        publisher.commit(&stage_of(staged)).await.unwrap();
        publisher.committed(&stage_of(staged)).await.unwrap();
    }

    /// The hidden file whose name begins so, and ends as those of files that are not whole.
    fn part(&self, prefix: &str) -> String {
        let is_it = |name: &String| name.starts_with(prefix) && name.ends_with(".part");
        let mut names = self.files().into_iter().map(|(name, _)| name).filter(is_it);
        names.next().unwrap_or_else(|| panic!("`{prefix}` is not there: {:?}", self.names(".")))
    }

    /// A copy of it all, as of `cp -a`.
    fn copy(&self) -> Self {
        let copy = Self::new();
        for (path, bytes) in self.files() {
            let path = copy.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        copy
    }

    /// All files at the top and in folders there, hidden ones included.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.names(".").into_iter().flat_map(|name| match self.0.path().join(&name).is_dir() {
            true => self.names(&name).into_iter().map(|inner| format!("{name}/{inner}")).collect(),
            false => vec![name],
        });
        names.map(|name| (name.clone(), self.bytes(&name))).collect()
    }

    fn plan(&self, settings: &str, rows: &RecordBatch) -> Result<OutputPlan, Problems> {
        parse::<FileOutput>(settings).plan(&self.context(), &stream("from", rows.schema()))
    }

    fn place(&self, settings: &str) -> Vec<Step> {
        let mut problems = self.plan(settings, &table("a:int64")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0).at
    }

    /// An output that has been given the rows, and not been told what to do with them.
    async fn staged(&self, settings: &str, rows: &RecordBatch, cut: usize) -> Result<Written> {
        self.staged_by(self.plan(settings, rows).unwrap(), rows, cut).await
    }

    async fn staged_by(&self, plan: OutputPlan, rows: &RecordBatch, cut: usize) -> Result<Written> {
        assert_eq!((plan.uses, plan.delivery), (Uses::all(), Delivery::ExactlyOnce));
        let mut output = (plan.build)().unwrap();
        let committer = output.committer().unwrap();
        output.open(&Home::Nowhere, &stateless()).await?;
        for start in (0..rows.num_rows()).step_by(cut) {
            output.write(batch(rows.slice(start, cut.min(rows.num_rows() - start)))).await?;
        }
        let staged = output.stage(END).await?.staged.into_state()?;
        Ok(Written { output: Some(output), committer, staged })
    }

    /// Checks that a run does not begin, because of what is there.
    async fn refuses(&self, settings: &str) {
        let error = self.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
        assert!(error.contains("` exists; move it away"), "{error}");
    }

    async fn write(&self, settings: &str, rows: &RecordBatch) {
        let mut output = self.staged(settings, rows, 2).await.unwrap();
        output.commit().await.unwrap();
        output.commit().await.unwrap();
    }
}

fn rows(count: usize) -> RecordBatch {
    let lines: Vec<_> = (0..count).map(|n| format!("{n} x{n}")).collect();
    table(&format!("a:int64 b:utf8?\n{}", lines.join("\n")))
}

fn at(key: &str) -> Vec<Step> {
    vec![key.into()]
}

#[tokio::test]
async fn a_file_is_not_there_before_the_commit() {
    let folder = Folder::new();
    let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(3), 2).await.unwrap();
    assert_eq!(folder.names("deep/er"), [".a.csv.0123456789abcdef-0.part", ".a.csv.lock"]);
    output.commit().await.unwrap();
    assert_eq!(folder.names("deep/er"), ["a.csv"]);
    assert_eq!(folder.text("deep/er/a.csv"), "a,b\n0,x0\n1,x1\n2,x2\n");
    let mut output = folder.staged("path = \"deep/er/a.csv\"", &rows(1), 2).await.unwrap();
    output.abort().await;
    assert_eq!(folder.names("deep/er"), ["a.csv"]);
    assert!(folder.text("deep/er/a.csv").ends_with("2,x2\n"));
}

#[tokio::test]
async fn every_format_writes_a_whole_file_without_rows() {
    let folder = Folder::new();
    for (name, start) in [("a.csv", "a,b\n"), ("a.tsv", "a\tb\n"), ("a.parquet", "PAR1"), ("a.arrow", "ARROW1")] {
        folder.write(&format!("path = \"{name}\""), &rows(0)).await;
        assert!(folder.bytes(name).starts_with(start.as_bytes()), "{name}");
    }
    folder.write("path = \"a.ndjson\"", &rows(0)).await;
    assert_eq!(folder.text("a.ndjson"), "");
    folder.write("path = \"out\"\nformat = \"csv\"", &rows(0)).await;
    assert!(folder.names("out").is_empty(), "a folder gets none");
}

#[tokio::test]
async fn appending() {
    let folder = Folder::new();
    for name in ["a.csv", "a.ndjson"] {
        let settings = format!("path = \"{name}\"\nif_exists = \"append\"");
        folder.write(&settings, &rows(1)).await;
        folder.write(&settings, &rows(2)).await;
    }
    assert_eq!(folder.text("a.csv"), "a,b\n0,x0\n0,x0\n1,x1\n");
    assert_eq!(folder.text("a.ndjson").lines().count(), 3);
    folder.put("empty.csv", "");
    folder.write("path = \"empty.csv\"\nif_exists = \"append\"", &rows(1)).await;
    assert_eq!(folder.text("empty.csv"), "a,b\n0,x0\n");
    folder.put("other.csv", "a,c\n");
    let settings = "path = \"other.csv\"\nif_exists = \"append\"";
    let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.contains("its columns are `a`, `c`, and would be `a`, `b`; move it away"), "{error}");
    folder.put("open.ndjson", "{}");
    let settings = "path = \"open.ndjson\"\nif_exists = \"append\"";
    let error = folder.staged(settings, &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.ends_with("its last line has no line break"), "{error}");
}

#[tokio::test]
async fn csv_is_written_as_its_settings_say() {
    let folder = Folder::new();
    for (header, expected) in [("header = false", "0;x0\n0;x0\n1;x1\n"), ("header = true", "a;b\n0;x0\n0;x0\n1;x1\n")] {
        let name = format!("{}.csv", expected.len());
        let format = format!("format = {{ type = \"csv\", delimiter = \";\", {header} }}");
        let settings = format!("path = \"{name}\"\n{format}\nif_exists = \"append\"");
        folder.write(&settings, &rows(1)).await;
        folder.write(&settings, &rows(2)).await;
        assert_eq!(folder.text(&name), expected);
        folder.write(&format!("path = \"out\"\n{format}"), &rows(1)).await;
        let text = folder.text(&format!("out/{}", folder.names("out")[0]));
        assert_eq!(text, expected.replace("0;x0\n1;x1\n", ""));
    }
}

#[tokio::test]
async fn packed_files_can_be_appended_to() {
    let folder = Folder::new();
    let settings = "path = \"a.csv.gz\"\nif_exists = \"append\"";
    folder.write(settings, &rows(1)).await;
    folder.write(settings, &rows(1)).await;
    let file = fs::File::open(folder.0.path().join("a.csv.gz")).unwrap();
    let compressed = Some(Compression::Gzip);
    let text = std::io::read_to_string(millstream_formats::decompress(file, compressed).unwrap()).unwrap();
    assert_eq!(text, "a,b\n0,x0\n0,x0\n");
}

#[tokio::test]
async fn folders_are_rolled_by_rows_whatever_the_batches() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"ndjson\"\ncompression = \"zstd\"\nrows = 3";
    for cut in [1, 2, 100] {
        folder.staged(settings, &rows(6), cut).await.unwrap().commit().await.unwrap();
        let names = [1, 2].map(|number| format!("test-node-00000000000000000001-0000{number}.ndjson.zst"));
        assert_eq!(folder.names("out"), names, "no empty third file");
    }
}

#[tokio::test]
async fn folders_are_rolled_by_bytes_whatever_the_batches() {
    let folder = Folder::new();
    let many = rows(40_000);
    let mut lines = Vec::new();
    for cut in [777, 40_000] {
        let settings = "path = \"out\"\nformat = \"csv\"\nbytes = \"100kB\"";
        folder.staged(settings, &many, cut).await.unwrap().commit().await.unwrap();
        let names = folder.names("out");
        lines.push(names.iter().map(|name| folder.text(&format!("out/{name}")).lines().count()).collect::<Vec<_>>());
    }
    assert_eq!(lines[0], [16_385, 8193, 8193, 7233]);
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test]
async fn replacing_in_a_folder_leaves_what_others_wrote() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"csv\"\nrows = 1";
    folder.write(settings, &rows(3)).await;
    folder.put("out/notes.csv", "kept");
    folder.put("out/test-node2-00000000000000000001-00001.csv", "kept");
    folder.put("out/.test-node-00000000000000000001-00009.csv.0a-0.part", "left behind");
    folder.write(settings, &rows(1)).await;
    let names = ["notes.csv", "test-node-00000000000000000001-00001.csv", "test-node2-00000000000000000001-00001.csv"];
    assert_eq!(folder.names("out"), names);
    folder.write(&format!("{settings}\nif_exists = \"append\""), &rows(1)).await;
    assert_eq!(folder.names("out")[2], "test-node-00000000000000000001-00002.csv");
    folder.refuses(&format!("{settings}\nif_exists = \"fail\"")).await;
}

#[tokio::test]
async fn two_runs_never_write_to_one_place() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("out")).unwrap();
    symlink("a.csv", folder.0.path().join("link.csv")).unwrap();
    let folder_settings = "path = \"out\"\nformat = \"csv\"\nrows = 1";
    for if_exists in ["replace", "append"] {
        for (one, two) in [("a.csv", "a.csv"), ("a.csv", "link.csv"), ("out", "out")] {
            let settings = |path: &str| match path {
                "out" => format!("{folder_settings}\nif_exists = \"{if_exists}\""),
                path => format!("path = \"{path}\"\nif_exists = \"{if_exists}\""),
            };
            let mut first = folder.staged(&settings(one), &rows(3), 2).await.unwrap();
            let mut second = (folder.plan(&settings(two), &rows(1)).unwrap().build)().unwrap();
            let error = second.open(&Home::Nowhere, &stateless()).await.unwrap_err().to_string();
            assert!(error.starts_with("another run is writing `") && error.contains(one), "{error}");
            second.abort().await;
            first.commit().await.unwrap();
            folder.staged(&settings(two), &rows(1), 1).await.unwrap().abort().await;
        }
    }
    assert_eq!(folder.text("a.csv").lines().count(), 10, "a header and three times three rows");
    assert_eq!(folder.names("out").len(), 6);
    assert_eq!(folder.names("."), ["a.csv", "link.csv", "out"]);
}

#[tokio::test]
async fn a_commit_is_done_once() {
    let folder = Folder::new();
    let part = ".a.csv.0123456789abcdef-0.part";
    let mut output = folder.staged("path = \"a.csv\"", &rows(1), 1).await.unwrap();
    fs::remove_file(folder.0.path().join(part)).unwrap();
    folder.put("a.csv", "another one's");
    assert!(output.commit().await.is_err(), "the rows are lost, though there is a file");
    drop(output);
    folder.write("path = \"a.csv\"", &rows(1)).await;
    let mut output = folder.staged("path = \"a.csv\"", &rows(1), 1).await.unwrap();
    output.commit().await.unwrap();
    folder.put("a.csv", "another's");
    output.commit().await.unwrap();
    folder.put(part, "another one's");
    let error = output.commit().await.unwrap_err().to_string();
    assert!(error.contains("is damaged: it is not what the last checkpoint left there"), "{error}");
    output.abort().await;
    assert_eq!((&*folder.text("a.csv"), &*folder.text(part)), ("another's", "another one's"));
}

#[tokio::test]
async fn what_a_killed_run_left_behind_is_no_obstacle() {
    let folder = Folder::new();
    folder.put(".a.csv.0a-0.part", &"left behind\n".repeat(100));
    folder.put(".a.csv.lock", "");
    folder.write("path = \"a.csv\"", &rows(1)).await;
    fs::create_dir(folder.0.path().join("out")).unwrap();
    folder.put("out/.test-node.lock", "");
    folder.write("path = \"out\"\nformat = \"csv\"", &rows(1)).await;
    assert_eq!(folder.text("a.csv"), "a,b\n0,x0\n");
    assert_eq!(folder.names("."), ["a.csv", "out"]);
    assert_eq!(folder.names("out"), ["test-node-00000000000000000001-00001.csv"]);
}

#[tokio::test]
async fn files_that_come_into_the_way_are_not_replaced_by_what_adds() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"csv\"\nrows = 1\nif_exists = \"append\"";
    let mut output = folder.staged(settings, &rows(2), 1).await.unwrap();
    folder.put("out/test-node-00000000000000000001-00001.csv", "another's");
    output.commit().await.unwrap();
    output.commit().await.unwrap();
    assert_eq!(folder.text("out/test-node-00000000000000000001-00001.csv"), "another's");
    assert_eq!(folder.text("out/test-node-00000000000000000001-00002.csv"), "a,b\n0,x0\n");
    assert_eq!(folder.text("out/test-node-00000000000000000001-00003.csv"), "a,b\n1,x1\n");
    assert_eq!(folder.names("out").len(), 3);
    let mut output = folder.staged("path = \"b.csv\"\nif_exists = \"fail\"", &rows(1), 1).await.unwrap();
    folder.put("b.csv", "another's");
    let error = output.commit().await.unwrap_err().to_string();
    assert!(error.ends_with("b.csv` exists"), "{error}");
    output.abort().await;
    assert_eq!((folder.text("b.csv").as_str(), folder.names(".")), ("another's", vec!["b.csv".into(), "out".into()]));
}

#[tokio::test]
async fn a_file_that_is_replaced_keeps_its_mode() {
    let folder = Folder::new();
    let path = |name: &str| folder.0.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o7777;
    for (if_exists, before) in [("replace", 0o640), ("append", 0o600), ("replace", 0o400), ("append", 0o666)] {
        folder.put("a.csv", "");
        fs::set_permissions(path("a.csv"), fs::Permissions::from_mode(before)).unwrap();
        let settings = format!("path = \"a.csv\"\nif_exists = \"{if_exists}\"");
        let mut output = folder.staged(&settings, &rows(1), 1).await.unwrap();
        assert_eq!(mode(".a.csv.0123456789abcdef-0.part"), 0o600);
        output.commit().await.unwrap();
        assert_eq!(mode("a.csv"), before);
        fs::remove_file(path("a.csv")).unwrap();
    }
}

#[tokio::test]
async fn links_stay_links() {
    let folder = Folder::new();
    let path = |name: &str| folder.0.path().join(name);
    fs::create_dir(path("deep")).unwrap();
    symlink("deep/b.csv", path("a.csv")).unwrap();
    symlink("../c.csv", path("deep/b.csv")).unwrap();
    // A link to nothing is there, too.
    folder.refuses("path = \"a.csv\"\nif_exists = \"fail\"").await;
    for (if_exists, lines) in [("replace", 2), ("append", 3), ("replace", 2)] {
        folder.write(&format!("path = \"a.csv\"\nif_exists = \"{if_exists}\""), &rows(1)).await;
        assert_eq!(folder.text("c.csv").lines().count(), lines);
    }
    assert!(path("a.csv").is_symlink() && path("deep/b.csv").is_symlink());
    assert_eq!(folder.names("deep"), ["b.csv"]);
    symlink("loop.csv", path("loop.csv")).unwrap();
    let error = folder.staged("path = \"loop.csv\"", &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.ends_with("loop.csv` is a link that leads to itself"), "{error}");
}

#[tokio::test]
async fn only_a_flow_that_begins_is_refused_what_is_there() {
    let settings = "path = \"a.csv\"\nif_exists = \"fail\"";
    let folder = Folder::new();
    let mut state = None;
    let staged = run(&folder, settings, &rows(4), &mut state, &[rows(2)], Then::Stop).await.pop().unwrap();
    folder.settle(settings, &staged).await;
    folder.refuses(settings).await;
    run(&folder, settings, &rows(4), &mut state, &[rows(2)], Then::Continue).await;
}

#[test]
fn the_schema_says_the_default() {
    let schema = schemars::schema_for!(FileOutput);
    assert_eq!(schema.pointer("/properties/if_exists/default"), Some(&"replace".into()));
}

#[test]
fn settings_that_are_wrong() {
    let folder = Folder::new();
    folder.put("a.csv", "");
    fs::create_dir(folder.0.path().join("b.csv")).unwrap();
    assert_eq!(folder.place("path = \"out\""), at("path"));
    assert_eq!(folder.place("path = \"x.csv\"\nformat = \"parquet\""), at("format"));
    assert_eq!(folder.place("path = \"x.parquet.gz\""), at("path"));
    let reading = "path = \"x.csv\"\nformat = { type = \"csv\", comment = \"#\" }";
    assert_eq!(folder.place(reading), ["format".into(), Step::Name("comment".into())]);
    assert_eq!(folder.place("path = \"out\"\nformat = \"arrow\"\ncompression = \"gzip\""), at("compression"));
    assert_eq!(folder.place("path = \"x.csv\"\ncompression = \"gzip\""), at("compression"));
    assert_eq!(folder.place("path = \"x.csv\"\nrows = 5"), at("rows"));
    assert_eq!(folder.place("path = \"x.csv\"\nbytes = \"1MB\""), at("bytes"));
    assert_eq!(folder.place("path = \"x.parquet\"\nif_exists = \"append\""), at("if_exists"));
    assert_eq!(folder.place("path = \"b.csv\""), at("path"));
    let nested = table("l:list<utf8>?");
    assert_eq!(folder.plan("path = \"x.csv\"", &nested).unwrap_err()[0].at, at("path"));
    assert_eq!(folder.names("."), ["a.csv", "b.csv"], "planning writes nothing");
}

/// A run that keeps state: it is given rows between barriers, and ends without a word, as by a crash, or with `last`.
async fn run(
    folder: &Folder,
    settings: &str,
    schema: &RecordBatch,
    state: &mut Option<State>,
    rows: &[RecordBatch],
    last: Then,
) -> Vec<State> {
    run_behind(0, folder, settings, schema, state, rows, last).await
}

/// Runs have rising numbers, as those of flows.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The same, behind an epoch.
async fn run_behind(
    passed: u64,
    folder: &Folder,
    settings: &str,
    schema: &RecordBatch,
    state: &mut Option<State>,
    rows: &[RecordBatch],
    last: Then,
) -> Vec<State> {
    let plan = folder.plan(settings, schema).unwrap();
    let mut output = (plan.build)().unwrap();
    if let Some(state) = state {
        output.restore(state).unwrap();
    }
    output.barrier(Epoch(passed));
    output.open(&Home::Elsewhere, &generation(next_generation())).await.unwrap();
    let mut staged = Vec::new();
    for (number, some) in rows.iter().enumerate() {
        output.write(batch(some.clone())).await.unwrap();
        let epoch = Epoch(passed + number as u64 + 1);
        output.barrier(epoch);
        let then = if number + 1 == rows.len() { last } else { Then::Continue };
        let snapshot = output.stage(Barrier { epoch, then }).await.unwrap();
        *state = Some(snapshot.state.into_state().unwrap());
        staged.push(snapshot.staged.into_state().unwrap());
    }
    if last == Then::Continue {
        // These rows come behind the last checkpoint, and are lost with the run.
        output.write(batch(rows[0].clone())).await.unwrap();
    }
    staged
}

#[tokio::test]
async fn a_file_is_gone_on_with_after_a_crash_and_after_a_stop() {
    let all = rows(30);
    let pieces: Vec<_> = (0..6).map(|piece| all.slice(piece * 5, 5)).collect();
    for name in ["a.csv", "a.ndjson", "a.csv.gz", "a.parquet", "a.arrow"] {
        let settings = format!("path = \"{name}\"");
        let whole = Folder::new();
        whole.write(&settings, &all).await;
        let folder = Folder::new();
        let mut state = None;
        for (pieces, last) in
            [(&pieces[..2], Then::Continue), (&pieces[2..4], Then::Stop), (&pieces[4..5], Then::Continue)]
        {
            for staged in run(&folder, &settings, &all, &mut state, pieces, last).await {
                if !staged.is_empty() {
                    folder.settle(&settings, &staged).await;
                }
            }
            assert_eq!(folder.names(".").contains(&name.to_owned()), last == Then::Stop || pieces.len() == 1, "{name}");
        }
        let staged = run(&folder, &settings, &all, &mut state, &pieces[5..], Then::End).await.pop().unwrap();
        folder.publisher(&settings).commit(&stage_of(&staged)).await.unwrap();
        folder.settle(&settings, &staged).await;
        assert!(folder.bytes(name) == whole.bytes(name), "{name}");
        assert_eq!(folder.names("."), [name], "nothing is left behind");
    }
}

#[tokio::test]
async fn what_is_not_as_the_checkpoint_says_is_noticed() {
    for (name, hidden) in [("a.csv", ".a.csv."), ("a.parquet", ".a.parquet.rows-1.")] {
        let settings = format!("path = \"{name}\"");
        for damage in ["flip", "cut", "remove"] {
            let folder = Folder::new();
            let mut state = None;
            run(&folder, &settings, &rows(9), &mut state, &[rows(9)], Then::Continue).await;
            let path = folder.0.path().join(folder.part(hidden));
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flip" => bytes[3] ^= 4,
                _ => bytes.truncate(7),
            }
            fs::write(&path, bytes).unwrap();
            if damage == "remove" {
                fs::remove_file(&path).unwrap();
            }
            let mut output = (folder.plan(&settings, &rows(9)).unwrap().build)().unwrap();
            output.restore(state.as_ref().unwrap()).unwrap();
            let error = output.open(&Home::Elsewhere, &generation(next_generation())).await.unwrap_err().to_string();
            let is_told = error.contains(if damage == "remove" { "is missing; put it back" } else { "is damaged" });
            assert!(is_told && error.contains(hidden), "{name}, {damage}: {error}");
        }
    }
}

#[tokio::test]
async fn other_columns_begin_another_file_of_a_folder_after_a_crash() {
    let (before, after) = (rows(4), table("a:int64 c:float64\n7 0.5"));
    for format in ["csv", "ndjson", "parquet", "json"] {
        let settings = format!("path = \"out\"\nformat = \"{format}\"");
        assert!(Folder::new().plan(&settings, &before).unwrap().takes_other_columns);
        let (folder, mut state) = (Folder::new(), None);
        run(&folder, &settings, &before, &mut state, &[before.slice(0, 3), before.slice(3, 1)], Then::Continue).await;
        let staged =
            run_behind(2, &folder, &settings, &after, &mut state, std::slice::from_ref(&after), Then::End).await;
        commit(&folder, &settings, &staged).await;
        let names = folder.names("out");
        assert_eq!(names.len(), 2, "{names:?}");
        let whole = Folder::new();
        whole.write(&settings, &before).await;
        assert!(folder.bytes(&format!("out/{}", names[0])) == whole.bytes(&format!("out/{}", whole.names("out")[0])));
        whole.write(&settings, &after).await;
        assert!(folder.bytes(&format!("out/{}", names[1])) == whole.bytes(&format!("out/{}", whole.names("out")[0])));
    }
}

#[tokio::test]
async fn one_file_of_ndjson_goes_on_with_other_columns() {
    let settings = "path = \"a.ndjson\"";
    let (before, after) = (rows(1), table("a:int64 c:float64\n7 0.5"));
    let (folder, mut state) = (Folder::new(), None);
    run(&folder, settings, &before, &mut state, std::slice::from_ref(&before), Then::Continue).await;
    let staged = run_behind(1, &folder, settings, &after, &mut state, std::slice::from_ref(&after), Then::End).await;
    commit(&folder, settings, &staged).await;
    assert_eq!(folder.text("a.ndjson"), "{\"a\":0,\"b\":\"x0\"}\n{\"a\":7,\"c\":0.5}\n");
    for path in ["a.csv", "a.ndjson.gz", "a.parquet", "a.json"] {
        assert!(!folder.plan(&format!("path = \"{path}\""), &before).unwrap().takes_other_columns, "{path}");
    }
}

/// What files of each kind are kept as: with and without a journal, one and many.
const PLACES: [&str; 4] = [
    "path = \"a.csv\"",
    "path = \"deep/a.ndjson.gz\"",
    "path = \"a.parquet\"",
    "path = \"out\"\nformat = \"csv\"\nrows = 7",
];

async fn commit(folder: &Folder, settings: &str, staged: &[State]) {
    for staged in staged.iter().filter(|staged| !staged.is_empty()) {
        folder.settle(settings, staged).await;
    }
}

#[tokio::test]
async fn late_and_repeated_commits_have_no_effect() {
    for settings in ["path = \"out\"\nformat = \"csv\"\nrows = 2", "path = \"out\"\nformat = \"parquet\"\nrows = 2"] {
        let [late, control] = [Folder::new(), Folder::new()];
        let parts = [rows(4), rows(5), rows(3)];
        let staged = run(&late, settings, &rows(0), &mut None, &parts, Then::End).await;
        commit_late(&stages(staged), || late.publisher(settings)).await.unwrap();
        let staged = run(&control, settings, &rows(0), &mut None, &parts, Then::End).await;
        commit(&control, settings, &staged).await;
        let published = |folder: &Folder| {
            let names = folder.names("out").into_iter().filter(|name| !name.starts_with('.'));
            names.map(|name| folder.bytes(&format!("out/{name}"))).collect::<Vec<_>>()
        };
        assert_eq!(published(&late).len(), 6);
        assert!(published(&late) == published(&control));
    }
}

/// The end of a flow whose beginning was left behind with this state.
async fn end(folder: &Folder, settings: &str, rows: &RecordBatch, state: Option<&State>) {
    let mut state = state.cloned();
    let staged = run(folder, settings, rows, &mut state, std::slice::from_ref(rows), Then::End).await;
    commit(folder, settings, &staged).await;
}

#[test]
fn what_is_wrong_whatever_arrives_is_said_without_columns() {
    let check = |settings: &str| parse::<FileOutput>(settings).check(&Folder::new().context());
    assert!(check("path = \"a.csv\"").is_ok());
    assert_eq!(check("path = \"a.csv\"\nrows = 3\nevery = \"1m\"").unwrap_err().len(), 2);
    assert!(check("path = \"out\"").unwrap_err()[0].message.contains("does not say its format"));
}

/// What an output says that begins with these settings, as a run of a state or of none.
fn begin(folder: &Folder, settings: &str, former: Former, run: &Run) -> Result<Box<dyn Output>> {
    let mut output = (folder.plan(settings, &rows(9)).unwrap().build)().unwrap();
    output.begin(former, run).map(|()| output)
}

#[tokio::test]
async fn what_another_state_goes_on_with_is_not_replaced() {
    let another = Run { incarnation: "00000000000000aa".into(), generation: 1 };
    for settings in PLACES.into_iter().chain(["path = \"b.csv\"\nif_exists = \"append\""]) {
        let (folder, mut state) = (Folder::new(), None);
        let staged = run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Stop).await;
        assert!(begin(&folder, settings, Former::Ended, &another).is_ok(), "nothing has been published");
        commit(&folder, settings, &staged).await;
        let before = folder.files();
        for run in [&another, &Run::default()] {
            let error = begin(&folder, settings, Former::Ended, run).err().unwrap().to_string();
            for part in
                ["is of a run with another state", ".fedcba9876543210.ledger` is its ledger", "`--remove-published`"]
            {
                assert!(error.contains(part), "{settings}: {part}: {error}");
            }
            assert!(begin(&folder, settings, Former::MayGo, run).is_ok(), "{settings}");
        }
        assert!(begin(&folder, settings, Former::Ended, &generation(9)).is_ok(), "its own");
        assert!(folder.files() == before, "nothing has changed");
    }
    // What is added to a folder harms nobody.
    let (folder, mut state) = (Folder::new(), None);
    let staged = run(&folder, PLACES[3], &rows(9), &mut state, &[rows(9)], Then::Stop).await;
    commit(&folder, PLACES[3], &staged).await;
    let appending = format!("{}\nif_exists = \"append\"", PLACES[3]);
    assert!(begin(&folder, &appending, Former::Ended, &Run::default()).is_ok());
    assert!(begin(&folder, PLACES[3], Former::Stays, &another).is_ok());
}

#[tokio::test]
async fn another_state_goes_with_its_files_if_that_is_said() {
    let settings = PLACES[3];
    let (folder, mut state) = (Folder::new(), None);
    let staged = run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Stop).await;
    commit(&folder, settings, &staged).await;
    let before = folder.names("out");
    assert!(before.iter().any(|name| name.ends_with(".ledger")), "{before:?}");
    let mut output = begin(&folder, settings, Former::MayGo, &Run::default()).unwrap();
    let mut committer = output.committer().unwrap();
    output.open(&Home::Nowhere, &stateless()).await.unwrap();
    output.write(batch(rows(3))).await.unwrap();
    let staged = output.stage(END).await.unwrap().staged.into_state().unwrap();
    assert!(before.iter().all(|name| folder.names("out").contains(name)), "until it is decided");
    committer.commit(&stage_of(&staged)).await.unwrap();
    drop(output);
    assert_eq!(folder.names("out").len(), 1, "{:?}", folder.names("out"));
    assert!(begin(&folder, settings, Former::Ended, &Run::default()).is_ok());
}

#[tokio::test]
async fn a_copied_folder_goes_on_with_its_own_files() {
    let all = rows(30);
    let pieces = [all.slice(0, 9), all.slice(9, 9)];
    for settings in PLACES {
        for last in [Then::Continue, Then::Stop] {
            let (here, mut state) = (Folder::new(), None);
            let staged = run(&here, settings, &all, &mut state, &pieces, last).await;
            commit(&here, settings, &staged).await;
            let there = here.copy();
            let before = here.files();
            end(&there, settings, &all.slice(18, 12), state.as_ref()).await;
            assert!(here.files() == before, "{settings}: the original has changed");
            // What it would have come to without a copy.
            end(&here, settings, &all.slice(18, 12), state.as_ref()).await;
            assert!(there.files() == here.files(), "{settings}");
            assert!(
                there.files().iter().all(|(name, _)| !name.ends_with(".part")),
                "{settings}: {:?}",
                there.names(".")
            );
        }
    }
}

#[tokio::test]
async fn what_was_decided_becomes_visible_in_the_copy() {
    for settings in PLACES {
        for last in [Then::Stop, Then::End] {
            let (here, mut state) = (Folder::new(), None);
            // A run before, whose files go.
            end(&here, settings, &rows(20), None).await;
            let staged = run(&here, settings, &rows(9), &mut state, &[rows(9)], last).await;
            let there = here.copy();
            let before = here.files();
            commit(&there, settings, &staged).await;
            assert!(here.files() == before, "{settings}: the original has changed");
            commit(&here, settings, &staged).await;
            assert!(there.files() == here.files() && there.files() != before, "{settings}");
        }
    }
}

#[tokio::test]
async fn a_run_in_another_folder_is_told_where_the_files_are() {
    for settings in PLACES {
        for last in [Then::Continue, Then::Stop] {
            let (here, elsewhere, mut state) = (Folder::new(), Folder::new(), None);
            let staged = run(&here, settings, &rows(9), &mut state, &[rows(9)], last).await;
            let mut output = (elsewhere.plan(settings, &rows(9)).unwrap().build)().unwrap();
            output.restore(state.as_ref().unwrap()).unwrap();
            let mut errors =
                vec![output.open(&Home::Elsewhere, &generation(next_generation())).await.unwrap_err().to_string()];
            for staged in staged.iter().filter(|staged| !staged.is_empty()) {
                errors.push(elsewhere.publisher(settings).commit(&stage_of(staged)).await.unwrap_err().to_string());
            }
            for error in errors {
                let place = here.0.path().display().to_string();
                let is_told = error.contains(&format!("is not there: the last checkpoint left it in `{place}"));
                assert!(is_told && error.contains("run the flow in the folder in which it ran before"), "{error}");
            }
            assert!(elsewhere.files().is_empty(), "{settings}");
        }
    }
}

#[tokio::test]
async fn what_a_checkpoint_refers_to_can_be_checked() {
    for (settings, hidden) in [
        ("path = \"a.csv\"", ".a.csv."),
        ("path = \"a.parquet\"", ".a.parquet.rows-1."),
        ("path = \"out\"\nformat = \"csv\"", "out/.test-node-00000000000000000001-00001.csv."),
    ] {
        let (folder, mut state) = (Folder::new(), None);
        // It has grown since.
        run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Continue).await;
        let check = || KeptFiles::read(state.as_ref().unwrap(), &[]).unwrap().unwrap().check();
        check().unwrap();
        let path = folder.0.path().join(folder.part(hidden));
        let bytes = fs::read(&path).unwrap();
        let mut flipped = bytes.clone();
        flipped[9] ^= 1;
        for damaged in [&flipped[..], &bytes[..9]] {
            fs::write(&path, damaged).unwrap();
            let error = check().unwrap_err().to_string();
            assert!(error.contains("is damaged") && error.contains(hidden), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let error = check().unwrap_err().to_string();
        assert!(error.contains("is missing") && error.contains(hidden), "{error}");
    }
    assert!(KeptFiles::read(&State::default(), &[]).unwrap().is_none());
}

#[tokio::test]
async fn what_is_to_become_visible_can_be_checked() {
    for settings in PLACES {
        let (folder, mut state) = (Folder::new(), None);
        let staged = run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Stop).await.pop().unwrap();
        let check =
            |staged: &State| match KeptFiles::read(state.as_ref().unwrap(), std::slice::from_ref(staged)).unwrap() {
                Some(files) => files.check(),
                None => Ok(()),
            };
        check(&staged).unwrap();
        let is_part = |name: &str| name.ends_with(".part") && !name.contains(".rows-");
        let (name, bytes) = folder.files().into_iter().find(|(name, _)| is_part(name)).unwrap();
        fs::write(folder.0.path().join(&name), &bytes[1..]).unwrap();
        assert!(check(&staged).unwrap_err().to_string().contains("is damaged"), "{settings}");
        fs::write(folder.0.path().join(&name), &bytes).unwrap();
        folder.publisher(settings).commit(&stage_of(&staged)).await.unwrap();
        check(&staged).unwrap();
        check(&State::default()).unwrap();
    }
}

#[tokio::test]
async fn an_output_that_begins_anew_leaves_nothing_behind() {
    for settings in PLACES {
        let (folder, undisturbed, mut state) = (Folder::new(), Folder::new(), None);
        // Twice, so that there is more than one journal.
        for _ in 0..2 {
            run(&folder, settings, &rows(20), &mut state, &[rows(20)], Then::Continue).await;
        }
        assert!(folder.files().iter().any(|(name, _)| name.ends_with(".part")));
        for folder in [&folder, &undisturbed] {
            end(folder, settings, &rows(3), None).await;
        }
        assert!(folder.files() == undisturbed.files(), "{settings}: {:?}", folder.names("."));
    }
}

/// Rows that were decided, and of which nothing is visible yet.
async fn decided(folder: &Folder, settings: &str, then: Then) -> (Option<State>, State) {
    let mut state = None;
    let staged = run(folder, settings, &rows(9), &mut state, &[rows(9)], then).await.pop().unwrap();
    (state, staged)
}

#[tokio::test]
async fn a_decided_file_that_is_missing_is_missed() {
    for settings in PLACES {
        for if_exists in
            ["replace", "append"].into_iter().filter(|one| *one == "replace" || !settings.contains("parquet"))
        {
            let settings = format!("{settings}\nif_exists = \"{if_exists}\"");
            let folder = Folder::new();
            // What a run before has left must not be taken for it.
            end(&folder, &settings, &rows(3), None).await;
            let (_, staged) = decided(&folder, &settings, Then::End).await;
            let parts =
                folder.files().into_iter().filter(|(name, _)| name.ends_with(".part") && !name.contains(".rows-"));
            let parts: Vec<_> = parts.collect();
            fs::remove_file(folder.0.path().join(&parts[0].0)).unwrap();
            let before = folder.files();
            let error = folder.publisher(&settings).commit(&stage_of(&staged)).await.unwrap_err().to_string();
            assert!(error.contains("was to become visible, and is neither there nor at"), "{settings}: {error}");
            assert!(folder.files() == before, "{settings}: nothing else is touched");
            let path = folder.0.path().join(&parts[0].0);
            fs::write(path, &parts[0].1).unwrap();
            folder.settle(&settings, &staged).await;
        }
    }
}

#[tokio::test]
async fn a_run_without_state_leaves_the_files_of_others_alone() {
    for settings in PLACES {
        let folder = Folder::new();
        let mut state = None;
        run(&folder, settings, &rows(20), &mut state, &[rows(9)], Then::Continue).await;
        let hidden = || folder.files().into_iter().filter(|(name, _)| name.ends_with(".part")).collect::<Vec<_>>();
        let before = hidden();
        folder.write(settings, &rows(2)).await;
        assert!(hidden() == before, "{settings}");
        end(&folder, settings, &rows(2), state.as_ref()).await;
        assert!(hidden().is_empty());
    }
}

#[tokio::test]
async fn a_published_file_may_be_taken_away_before_that_is_remembered() {
    for settings in PLACES {
        for if_exists in
            ["replace", "append"].into_iter().filter(|one| *one == "replace" || !settings.contains("parquet"))
        {
            let settings = format!("{settings}\nif_exists = \"{if_exists}\"");
            let folder = Folder::new();
            let (state, staged) = decided(&folder, &settings, Then::Stop).await;
            folder.publisher(&settings).commit(&stage_of(&staged)).await.unwrap();
            let is_published = |name: &str| !name.contains("/.") && !name.starts_with('.');
            for (name, _) in folder.files().iter().filter(|(name, _)| is_published(name)) {
                fs::remove_file(folder.0.path().join(name)).unwrap();
            }
            KeptFiles::read(state.as_ref().unwrap(), std::slice::from_ref(&staged)).unwrap().unwrap().check().unwrap();
            folder.settle(&settings, &staged).await;
            end(&folder, &settings, &rows(3), state.as_ref()).await;
            let published: Vec<_> = folder.files();
            assert_eq!(published.len(), 1, "{settings}: {published:?}");
            assert!(is_published(&published[0].0));
        }
    }
}

#[tokio::test]
async fn a_former_owner_that_wakes_changes_nothing() {
    for settings in PLACES {
        let folder = Folder::new();
        // Files of a run before, whose names come again.
        end(&folder, settings, &rows(20), None).await;
        let (state, staged) = decided(&folder, settings, Then::Stop).await;
        // It is taken over before it has published anything; the new owner does that, goes on, and has new files.
        folder.settle(settings, &staged).await;
        let mut later = state.clone();
        run(&folder, settings, &rows(20), &mut later, &[rows(20)], Then::Continue).await;
        let before = folder.files();
        folder.publisher(settings).commit(&stage_of(&staged)).await.unwrap();
        assert!(folder.files() == before, "{settings}: while the new owner has rows that are not visible");
        end(&folder, settings, &rows(20), later.as_ref()).await;
        let before = folder.files();
        let _ = folder.publisher(settings).commit(&stage_of(&staged)).await;
        assert!(folder.files() == before, "{settings}: when the flow has come to its end");
    }
}

#[tokio::test]
async fn a_former_owner_that_wakes_can_not_go_on_with_the_files_of_the_new_one() {
    for settings in PLACES {
        let folder = Folder::new();
        let (mut state, early) = (None, generation(next_generation()));
        run(&folder, settings, &rows(20), &mut state, &[rows(9)], Then::Continue).await;
        let former = state.clone();
        let late = generation(next_generation());
        run(&folder, settings, &rows(20), &mut state, &[rows(9)], Then::Continue).await;
        let before = folder.files();
        assert!(early.generation < late.generation);
        let mut output = (folder.plan(settings, &rows(9)).unwrap().build)().unwrap();
        output.restore(former.as_ref().unwrap()).unwrap();
        let _ = output.open(&Home::Elsewhere, &early).await;
        drop(output);
        let after = folder.files();
        assert!(before.iter().all(|file| after.contains(file)), "{settings}: what the new owner needs is there");
        end(&folder, settings, &rows(2), state.as_ref()).await;
    }
}

#[tokio::test]
async fn a_run_that_ended_before_its_first_checkpoint_is_no_obstacle() {
    for (settings, last) in PLACES.iter().flat_map(|settings| [(settings, Then::Continue), (settings, Then::Stop)]) {
        let (folder, undisturbed) = (Folder::new(), Folder::new());
        for (folder, is_disturbed) in [(&folder, true), (&undisturbed, false)] {
            let mut state = None;
            let staged = run(folder, settings, &rows(20), &mut state, &[rows(9)], last).await;
            commit(folder, settings, &staged).await;
            if is_disturbed {
                run(folder, settings, &rows(20), &mut state.clone(), &[rows(5)], Then::Continue).await;
                let kept = KeptFiles::read(state.as_ref().unwrap(), &[]).unwrap();
                kept.map_or(Ok(()), |kept| kept.check()).unwrap();
            }
            end(folder, settings, &rows(3), state.as_ref()).await;
        }
        assert!(folder.files() == undisturbed.files(), "{settings}, {last:?}: {:?}", folder.names("."));
    }
}

#[tokio::test]
async fn hidden_files_are_private_and_published_ones_as_others() {
    let folder = Folder::new();
    let mode = |name: &str| fs::metadata(folder.0.path().join(name)).unwrap().permissions().mode() & 0o777;
    folder.put("usual", "");
    for settings in PLACES {
        let (_, staged) = decided(&folder, settings, Then::Continue).await;
        for (name, _) in folder.files().iter().filter(|(name, _)| name.starts_with('.') || name.contains("/.")) {
            assert_eq!(mode(name), 0o600, "{name}");
        }
        commit(&folder, settings, &[staged]).await;
        end(&folder, settings, &rows(3), None).await;
    }
    for (name, _) in folder.files().iter().filter(|(name, _)| !name.contains(".part") && !name.contains(".ledger")) {
        assert_eq!(mode(name), mode("usual"), "{name}");
    }
}

#[tokio::test]
async fn a_link_at_a_hidden_name_is_not_followed() {
    let folder = Folder::new();
    let path = |name: &str| folder.0.path().join(name);
    folder.put("other", "another's");
    symlink(path("other"), path(".a.csv.lock")).unwrap();
    let error = folder.staged("path = \"a.csv\"", &rows(1), 1).await.err().unwrap().to_string();
    assert!(error.contains("is a link, where a lock should be"), "{error}");
    fs::remove_file(path(".a.csv.lock")).unwrap();
    symlink(path("other"), path(".a.csv.0123456789abcdef-0.part")).unwrap();
    folder.write("path = \"a.csv\"", &rows(1)).await;
    assert_eq!((folder.text("other").as_str(), folder.names(".").len()), ("another's", 2));
}

#[tokio::test]
async fn a_folder_that_can_not_be_listed_is_an_error() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"csv\"";
    let (_, staged) = decided(&folder, settings, Then::End).await;
    drop(staged);
    // Root may list any folder, so that of a file is taken.
    fs::remove_dir_all(folder.0.path().join("out")).unwrap();
    let mut output = (folder.plan(settings, &rows(1)).unwrap().build)().unwrap();
    folder.put("out", "a file");
    let error = output.open(&Home::Nowhere, &stateless()).await.unwrap_err().to_string();
    assert!(error.contains("out"), "{error}");
}

#[tokio::test]
async fn the_time_of_a_file_goes_on_through_crashes() {
    let folder = Folder::new();
    let settings = "path = \"out\"\nformat = \"csv\"\nevery = \"50ms\"";
    let mut state = None;
    let staged = run(&folder, settings, &rows(9), &mut state, &[rows(1)], Then::Continue).await;
    assert!(staged[0].is_empty(), "it is too early");
    // The one thing that is tested is that time passes.
    std::thread::sleep(std::time::Duration::from_millis(60));
    let staged = run(&folder, settings, &rows(9), &mut state, &[rows(1)], Then::Continue).await;
    assert!(!staged[0].is_empty());
}

/// The files of a folder with their texts, without what is hidden.
fn texts(folder: &Folder, name: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![name.to_owned()];
    while let Some(inner) = folders.pop() {
        for name in folder.names(&inner).into_iter().filter(|name| !name.starts_with('.')) {
            let path = format!("{inner}/{name}");
            match folder.0.path().join(&path).is_dir() {
                true => folders.push(path),
                false => files.push((path.clone(), String::from_utf8_lossy(&folder.bytes(&path)).into_owned())),
            }
        }
    }
    files.sort();
    files
}

/// Hidden files anywhere in a folder.
fn hidden(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let below = entries.iter().filter(|path| path.is_dir()).flat_map(|path| hidden(path)).collect::<Vec<_>>();
    let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    entries.into_iter().filter(is_hidden).chain(below).collect()
}

const SALES: &str = "country:utf8? n:int64 at:timestamp\n DE 1 2026-01-31T13:59:59Z\n FR 2 2026-01-31T14:00:00Z\n \
                     null 3 1969-12-31T23:59:59Z\n DE 4 2026-01-31T13:00:00Z\n a/b=c 5 2026-02-01T00:00:00Z";

#[tokio::test]
async fn rows_are_divided_among_folders() {
    let folder = Folder::new();
    let sales = table(SALES);
    for cut in [1, 2, 100] {
        let settings = "path = \"out\"\nformat = \"csv\"\npartition = [\"country\", \"hour\"]";
        let timed = Stream { event_time: Some("at".into()), ..stream("from", sales.schema()) };
        let plan = parse::<FileOutput>(settings).plan(&folder.context(), &timed).unwrap();
        folder.staged_by(plan, &sales, cut).await.unwrap().commit().await.unwrap();
        let name = "test-node-00000000000000000001-00001.csv";
        let expected = [
            ("out/country=DE/hour=2026-01-31T13", "n,at\n1,2026-01-31T13:59:59Z\n4,2026-01-31T13:00:00Z\n"),
            ("out/country=FR/hour=2026-01-31T14", "n,at\n2,2026-01-31T14:00:00Z\n"),
            ("out/country=__HIVE_DEFAULT_PARTITION__/hour=1969-12-31T23", "n,at\n3,1969-12-31T23:59:59Z\n"),
            ("out/country=a%2Fb%3Dc/hour=2026-02-01T00", "n,at\n5,2026-02-01T00:00:00Z\n"),
        ];
        let expected: Vec<_> = expected.map(|(path, text)| (format!("{path}/{name}"), text.to_owned())).into();
        assert_eq!(texts(&folder, "out"), expected, "{cut}");
        assert!(hidden(folder.0.path()).is_empty());
    }
}

#[tokio::test]
async fn years_months_and_days_are_those_of_the_event_time() {
    for (unit, names) in [
        ("year", vec!["year=1969", "year=2026"]),
        ("month", vec!["month=1969-12", "month=2026-01", "month=2026-02"]),
        ("day", vec!["day=1969-12-31", "day=2026-01-31", "day=2026-02-01"]),
    ] {
        let folder = Folder::new();
        let sales = table(SALES);
        let settings = format!("path = \"out\"\nformat = \"parquet\"\npartition = [\"{unit}\"]");
        let timed = Stream { event_time: Some("at".into()), ..stream("from", sales.schema()) };
        let plan = parse::<FileOutput>(&settings).plan(&folder.context(), &timed).unwrap();
        folder.staged_by(plan, &sales, 2).await.unwrap().commit().await.unwrap();
        assert_eq!(folder.names("out"), names);
    }
}

#[tokio::test]
async fn so_many_files_are_open_whatever_the_batches() {
    let many: String = (0..300).map(|n| format!("\n{} {n}", n * 7919 % 13 * (n % 3))).collect();
    let many = table(&format!("k:int64 n:int64{many}"));
    let settings = "path = \"out\"\nformat = \"csv\"\npartition = [\"k\"]\nopen_partitions = 4\nrows = 9";
    let mut before: Option<Vec<(String, String)>> = None;
    for cut in [1, 7, 100, 300] {
        let folder = Folder::new();
        folder.staged(settings, &many, cut).await.unwrap().commit().await.unwrap();
        let files = texts(&folder, "out");
        assert_eq!(files.iter().map(|(_, text)| text.lines().count() - 1).sum::<usize>(), 300);
        assert!(before.is_none_or(|before| before == files), "{cut}");
        before = Some(files);
    }
}

#[tokio::test]
async fn divided_rows_come_through_crashes() {
    let many: String = (0..300).map(|n| format!("\n{} {n}", n * 7919 % 13)).collect();
    let many = table(&format!("a:int64 b:int64{many}"));
    for format in ["csv", "parquet"] {
        let settings = format!("path = \"out\"\nformat = \"{format}\"\npartition = [\"a\"]\nopen_partitions = 6");
        let (folder, whole) = (Folder::new(), Folder::new());
        let mut state = None;
        for piece in 0..3 {
            let rows = many.slice(piece * 100, 100);
            let last = if piece == 2 { Then::End } else { Then::Continue };
            let staged = run_behind(piece as u64, &folder, &settings, &many, &mut state, &[rows], last).await;
            commit(&folder, &settings, &staged).await;
        }
        assert!(hidden(folder.0.path()).is_empty(), "{:?}", hidden(folder.0.path()));
        // Every row once, however often the run was killed.
        if format == "csv" {
            let lines =
                |text: &String| text.lines().skip(1).map(|line| line.parse::<u64>().unwrap()).collect::<Vec<_>>();
            let mut numbers: Vec<u64> = texts(&folder, "out").iter().flat_map(|(_, text)| lines(text)).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        }
        // A run before is replaced in all folders, also in those that are not written to now.
        end(&folder, &settings, &many.slice(0, 1), None).await;
        whole.write(&settings, &many.slice(0, 1)).await;
        let files = |folder: &Folder| {
            let found = walk(folder.0.path());
            found.into_iter().map(|path| path.strip_prefix(folder.0.path()).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(files(&folder), files(&whole));
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.into_iter().flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn partitions_that_are_wrong() {
    let folder = Folder::new();
    let wrong = |settings: &str| {
        let settings = format!("path = \"out\"\nformat = \"csv\"\n{settings}");
        let mut problems = folder.plan(&settings, &table("a:int64 f:float64")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0).message
    };
    assert_eq!(wrong("partition = [\"b\"]"), "there is no column `b`");
    assert_eq!(wrong("partition = [\"a\", \"a\"]"), "`a` is there twice");
    assert_eq!(wrong("partition = [\"f\"]"), "`f` is float64, which makes no names of folders");
    assert_eq!(wrong("partition = [\"hour\"]"), "there is no column `hour`, and the rows have no event time");
    assert_eq!(wrong("open_partitions = 3"), "`open_partitions` needs `partition`");
    let mut problems = folder.plan("path = \"a.csv\"\npartition = [\"a\"]", &table("a:int64 b:int64")).unwrap_err();
    assert_eq!(problems.remove(0).at, at("partition"));
    let mut problems =
        folder.plan("path = \"out\"\nformat = \"csv\"\npartition = [\"a\"]", &table("a:int64")).unwrap_err();
    assert!(problems.remove(0).message.contains("none is left for the files"));
}

#[tokio::test]
async fn an_output_that_begins_from_scratch_elsewhere_leaves_nothing_hidden() {
    for settings in PLACES {
        for then in [Then::Continue, Then::Stop] {
            let folder = Folder::new();
            let mut state = None;
            let staged = run(&folder, settings, &rows(20), &mut state, &[rows(9)], then).await;
            commit(&folder, settings, &staged).await;
            let visible = texts(&folder, ".");
            // A copy of the work folder must not touch the original.
            let (elsewhere, before) = (Folder::new(), walk(folder.0.path()));
            elsewhere.publisher("path = \"b.csv\"").abort(state.as_ref().unwrap()).await.unwrap();
            assert!(walk(folder.0.path()) == before);
            let mut publisher = folder.publisher("path = \"b.csv\"");
            publisher.abort(state.as_ref().unwrap()).await.unwrap();
            assert!(hidden(folder.0.path()).is_empty(), "{settings}: {:?}", hidden(folder.0.path()));
            assert!(texts(&folder, ".") == visible);
        }
    }
}
