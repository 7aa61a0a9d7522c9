use std::fs::{self, File, OpenOptions};
use std::io::Write;

use millstream_core::{InputSettings, Step};
use millstream_testkit::{context, parse, rows_as_text};

use super::*;

/// A folder, and an input that follows files in it.
struct Followed {
    folder: tempfile::TempDir,
    input: Box<dyn Input>,
    out: Collector,
}

const NUMBERS: &str = "follow = true\nschema = { n = \"int64\" }";

impl Followed {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { input: Self::input(settings, folder.path()), folder, out: Collector::new(1) }
    }

    fn input(settings: &str, folder: &Path) -> Box<dyn Input> {
        let context = PlanContext { flow_folder: folder.to_owned(), ..context() };
        let plan = parse::<FileInput>(settings).plan(&context).unwrap();
        assert_eq!((plan.finite, plan.interleaved), (false, true));
        (plan.build)().unwrap()
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.folder.path().join(from), self.folder.path().join(to)).unwrap();
    }

    fn empty(&self, name: &str) {
        File::create(self.folder.path().join(name)).unwrap();
    }

    /// The rows that come until nothing has come for so many seconds: partition, first position, values.
    async fn rows_in(&mut self, seconds: u64) -> Vec<(String, u64, String)> {
        self.rows_in_time(Duration::from_secs(seconds)).await
    }

    async fn rows_in_time(&mut self, quiet: Duration) -> Vec<(String, u64, String)> {
        while let Ok(progress) = tokio::time::timeout(quiet, self.input.next(&mut self.out)).await {
            if progress.unwrap() == Progress::End {
                break;
            }
        }
        let row = |batch: millstream_core::Batch| {
            let text = rows_as_text([&batch.rows]);
            let values = text.lines().skip(1).collect::<Vec<_>>().join(" ");
            (batch.origin.partition.to_string(), batch.origin.start, values)
        };
        self.out.take(0).map(row).collect()
    }

    /// The partitions that have come and gone.
    fn partitions(&mut self) -> Vec<String> {
        let text = |change: PartitionChange| match change {
            PartitionChange::Added { partition, .. } => format!("+{partition}"),
            PartitionChange::Gone(partition) => format!("-{partition}"),
        };
        self.out.take_partitions().into_iter().map(text).collect()
    }

    /// The partitions that have come, and their locators.
    fn locators(&mut self) -> Vec<(Arc<str>, String)> {
        let locator = |change| match change {
            PartitionChange::Added { partition, locator } => Some((partition, locator)),
            PartitionChange::Gone(_) => None,
        };
        self.out.take_partitions().into_iter().filter_map(locator).collect()
    }

    async fn rows(&mut self) -> Vec<(String, u64, String)> {
        self.rows_in(10).await
    }

    /// The state when rows up to these positions have been sent.
    fn snapshot(&mut self, positions: &[(&str, u64)]) -> State {
        let positions = positions.iter().map(|(name, next)| (Arc::from(*name), *next)).collect();
        self.input.snapshot(&positions).unwrap().into_state().unwrap()
    }

    /// The rows that come to a run that resumes from there.
    async fn go_on(&mut self, settings: &str, state: &State) -> Vec<(String, u64, String)> {
        self.input = Self::input(settings, self.folder.path());
        self.input.restore(&Positions::from([("a.ndjson".into(), 1)]), state).unwrap();
        self.out = Collector::new(1);
        self.rows().await
    }
}

fn rows<const N: usize>(expected: [(&str, u64, &str); N]) -> Vec<(String, u64, String)> {
    expected.map(|(name, start, values)| (name.to_owned(), start, values.to_owned())).to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_line_is_read_when_its_line_break_is_there() {
    let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
    assert_eq!(followed.rows().await, []);
    followed.append("a.ndjson", "{\"n\": 1}\n{\"n\"");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1")]));
    followed.append("a.ndjson", ": 2");
    assert_eq!(followed.rows().await, []);
    followed.append("a.ndjson", "}\nbad\n{\"n\": 4}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 1, "2"), ("a.ndjson", 3, "4")]));
    let failed = followed.out.take_failed();
    assert_eq!((&*failed[0].partition, failed[0].position, &*failed[0].row), ("a.ndjson", Some(2), "bad"));
}

#[tokio::test(start_paused = true)]
async fn csv_begins_with_its_header_in_every_file() {
    let mut followed = Followed::new(&format!("path = \"*.csv\"\n{NUMBERS}"));
    followed.append("a.csv", "m,");
    assert_eq!(followed.rows().await, []);
    followed.append("a.csv", "n\nx,1\n\"y\n");
    followed.append("b.csv", "n\n7\n");
    let mut found = followed.rows().await;
    found.sort();
    assert_eq!(found, rows([("a.csv", 0, "1"), ("b.csv", 0, "7")]));
    followed.append("a.csv", "z\",2\n");
    assert_eq!(followed.rows().await, rows([("a.csv", 1, "2")]));
    followed.append("c.csv", "o\n1\n");
    let error = followed.input.next(&mut followed.out).await.unwrap_err().to_string();
    assert!(error.starts_with("reading `c.csv`: there is no column `n` in the header"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_quote_that_is_not_closed_is_not_waited_for_without_end() {
    let mut followed = Followed::new(&format!(
        "path = \"a.csv\"\nformat = {{ type = \"csv\", max_field = {{ lines = 3 }} }}\n{NUMBERS}"
    ));
    followed.append("a.csv", "n,m\n1,a\n2,\"b\n3,c\n4,d\n");
    assert_eq!(followed.rows().await, rows([("a.csv", 0, "1")]));
    followed.append("a.csv", "5,e\n6,f\n7,g\n");
    let found = followed.rows().await;
    assert_eq!(found, rows([("a.csv", 2, "3 4 5 6 7")]));
    let failed = followed.out.take_failed();
    assert_eq!((failed.len(), failed[0].position, &*failed[0].row), (1, Some(1), "2,\"b"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_renamed_is_read_to_its_end_before_the_new_one() {
    let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
    followed.append("a.ndjson", "{\"n\": 1}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1")]));
    followed.rename("a.ndjson", "a.ndjson.1");
    followed.append("a.ndjson", "{\"n\": 10}\n");
    followed.append("a.ndjson.1", "{\"n\": 2}\n{\"n\": 3}");
    let expected = [("a.ndjson", 1, "2"), ("a.ndjson", 2, "3"), ("a.ndjson#2", 0, "10")];
    assert_eq!(followed.rows().await, rows(expected));
    followed.append("a.ndjson.1", "{\"n\": 4}\n");
    followed.append("a.ndjson", "{\"n\": 11}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson#2", 1, "11")]), "the old one was given up");
    fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
    assert_eq!(followed.rows().await, []);
    followed.append("a.ndjson", "{\"n\": 20}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson#3", 0, "20")]));
    let expected = ["+a.ndjson", "+a.ndjson#2", "-a.ndjson", "-a.ndjson#2", "+a.ndjson#3"];
    assert_eq!(followed.partitions(), expected);
}

#[tokio::test(start_paused = true)]
async fn files_that_follow_each_other_quickly_are_read_in_their_order() {
    let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
    for file in 0..5 {
        followed.append("a.ndjson", &format!("{{\"n\": {file}}}\n"));
        // Not long enough for the one before to be given up.
        let quiet = Duration::from_millis(300);
        while let Ok(progress) = tokio::time::timeout(quiet, followed.input.next(&mut followed.out)).await {
            progress.unwrap();
        }
        followed.rename("a.ndjson", &format!("{file}.old"));
    }
    let found = followed.rows().await;
    let name = |file: u64| if file == 0 { "a.ndjson".to_owned() } else { format!("a.ndjson#{}", file + 1) };
    let expected = [0, 1, 2, 3, 4].map(|file| (name(file), 0, file.to_string()));
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn a_first_line_may_be_long() {
    let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
    followed.append("a.ndjson", &" ".repeat(20 << 20));
    assert_eq!(followed.rows().await, []);
    followed.append("a.ndjson", "{\"n\": 1}\n{\"n\": 2}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1 2")]));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_found_under_another_name_is_followed_by_it() {
    let settings = format!("path = \"a*\"\nformat = \"ndjson\"\n{NUMBERS}");
    let mut followed = Followed::new(&settings);
    followed.append("a", "{\"n\": 1}\n");
    followed.append("a.3.gz", "packed");
    assert_eq!(followed.rows().await, rows([("a", 0, "1")]));
    followed.rename("a", "a.1");
    followed.append("a", "{\"n\": 10}\n");
    assert_eq!(followed.rows().await, rows([("a#2", 0, "10")]), "nothing is read twice");
    followed.rename("a.1", "a.2");
    followed.rename("a", "a.1");
    followed.append("a.2", "{\"n\": 2}\n");
    assert_eq!(followed.rows_in(60).await, rows([("a", 1, "2")]));
    followed.append("a.2", "{\"n\": 3}\n");
    followed.append("a.1", "{\"n\": 11}\n");
    let mut found = followed.rows().await;
    found.sort();
    assert_eq!(found, rows([("a", 2, "3"), ("a#2", 1, "11")]));
    assert!(followed.out.take_failed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_emptied_is_read_from_its_beginning() {
    let mut followed = Followed::new(&format!("path = \"a.ndjson\"\n{NUMBERS}"));
    followed.append("a.ndjson", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": ");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "1 2")]));
    followed.empty("a.ndjson");
    assert_eq!(followed.rows().await, []);
    followed.append("a.ndjson", "{\"n\": 3}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson#2", 0, "3")]));
    followed.empty("a.ndjson");
    followed.append("a.ndjson", "{\"n\": 4}\n{\"n\": 5}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson#3", 0, "4 5")]), "it is longer than before");
    assert_eq!(followed.partitions(), ["+a.ndjson", "-a.ndjson", "+a.ndjson#2", "-a.ndjson#2", "+a.ndjson#3"]);
    assert!(followed.out.take_failed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_where_another_one_was() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let mut followed = Followed::new(&settings);
    followed.append("a.ndjson", "{\"n\": 0}\n{\"n\": 1}\nbad\n{\"n\": 3}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "0 1"), ("a.ndjson", 3, "3")]));
    // A barrier lies between the rows that came last.
    let state = followed.snapshot(&[("a.ndjson", 1)]);
    assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson", 1, "1"), ("a.ndjson", 3, "3")]));
    assert_eq!(followed.out.take_failed()[0].position, Some(2));
    let state = followed.snapshot(&[("a.ndjson", 4)]);
    assert_eq!(followed.go_on(&settings, &state).await, []);
    // Rotated while nobody looked: what was left of it comes first.
    followed.append("a.ndjson", "{\"n\": 4}\n");
    followed.rename("a.ndjson", "a.ndjson.1");
    followed.append("a.ndjson", "{\"n\": 10}\n");
    assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson", 4, "4"), ("a.ndjson#2", 0, "10")]));
}

/// A file of which two rows were read, and the state then.
async fn read_in_part(settings: &str) -> (Followed, State) {
    let mut followed = Followed::new(settings);
    // Long enough to be known by it.
    followed.append("a.ndjson", &format!("{{\"n\": 0, \"more\": \"{}\"}}\n{{\"n\": 1}}\n", "-".repeat(1024)));
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "0 1")]));
    let state = followed.snapshot(&[("a.ndjson", 2)]);
    (followed, state)
}

#[tokio::test(start_paused = true)]
async fn a_file_is_known_by_what_is_in_it_where_it_was_copied_or_decompressed() {
    let settings = format!("path = \"*.ndjson\"\n{NUMBERS}");
    for name in ["a.ndjson", "a.1", "b.ndjson"] {
        let (mut followed, state) = read_in_part(&settings).await;
        followed.append("a.ndjson", "{\"n\": 2}\n");
        let text = fs::read(followed.folder.path().join("a.ndjson")).unwrap();
        fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
        followed.append("other.ndjson", "{\"n\": 7}\n");
        fs::write(followed.folder.path().join(name), text).unwrap();
        let mut found = followed.go_on(&settings, &state).await;
        found.sort();
        assert_eq!(found, rows([("a.ndjson", 2, "2"), ("other.ndjson", 0, "7")]), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_has_gone_or_was_emptied_while_nobody_looked_is_missed() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let (followed, state) = read_in_part(&settings).await;
    let error = || {
        let mut input = Followed::input(&settings, followed.folder.path());
        input.restore(&Positions::from([("a.ndjson".into(), 2)]), &state).unwrap_err().to_string()
    };
    fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
    assert!(error().starts_with("`a.ndjson`, of which 2 rows were read, is there no more"), "{}", error());
    followed.append("a.ndjson", "{\"n\": 20}\n{\"n\": 21}\n{\"n\": 22}\n");
    assert!(error().starts_with("`a.ndjson`, of which 2 rows were read, is there no more"), "{}", error());
    let mut followed = followed;
    let found = followed.go_on(&format!("{settings}\nif_gone = \"go_on\""), &state).await;
    assert_eq!(found, rows([("a.ndjson#2", 0, "20 21 22")]));
    assert_eq!(followed.partitions(), ["-a.ndjson", "+a.ndjson#2"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_waits_for_its_turn_is_known_and_missed_as_well() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let (mut followed, _) = read_in_part(&settings).await;
    // The first one is not given up yet, so that the second one waits when it is renamed in its turn.
    followed.rename("a.ndjson", "a.1");
    followed.append("a.ndjson", "{\"n\": 10}\n");
    assert_eq!(followed.rows_in_time(Duration::from_millis(300)).await, []);
    let state = followed.snapshot(&[("a.ndjson", 2)]);
    for name in ["a.1", "a.ndjson"] {
        let text = fs::read(followed.folder.path().join(name)).unwrap();
        fs::write(followed.folder.path().join("new"), text).unwrap();
        fs::rename(followed.folder.path().join("new"), followed.folder.path().join(name)).unwrap();
    }
    followed.rename("a.ndjson", "a.2");
    assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson#2", 0, "10")]));
    fs::remove_file(followed.folder.path().join("a.2")).unwrap();
    let mut input = Followed::input(&settings, followed.folder.path());
    let error = input.restore(&Positions::new(), &state).unwrap_err().to_string();
    assert!(error.starts_with("`a.ndjson`, of which 0 rows were read, is there no more"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_not_known_by_a_first_row_that_others_may_have() {
    let settings = format!("path = \"*.ndjson\"\n{NUMBERS}\nif_gone = \"go_on\"");
    let mut followed = Followed::new(&settings);
    followed.append("a.ndjson", "{\"n\": 0}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "0")]));
    let state = followed.snapshot(&[("a.ndjson", 1)]);
    // So that the new one is not made of the same.
    followed.append("b.ndjson", "{\"n\": 0}\n{\"n\": 1}\n");
    fs::remove_file(followed.folder.path().join("a.ndjson")).unwrap();
    assert_eq!(followed.go_on(&settings, &state).await, rows([("b.ndjson", 0, "0 1")]));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_emptied_just_before_the_end_is_not_missed() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let (mut followed, _) = read_in_part(&settings).await;
    followed.empty("a.ndjson");
    let state = followed.snapshot(&[("a.ndjson", 2)]);
    followed.append("a.ndjson", "{\"n\": 20}\n{\"n\": 21}\n");
    assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson#2", 0, "20 21")]));
}

#[tokio::test(start_paused = true)]
async fn rows_are_gone_through_again_where_a_rotation_has_put_them() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let (mut followed, _) = read_in_part(&settings).await;
    followed.rename("a.ndjson", "a.ndjson.1");
    followed.append("a.ndjson.1", "{\"n\": 2}");
    followed.append("a.ndjson", "{\"n\": 10}\n");
    assert_eq!(followed.rows().await, rows([("a.ndjson", 2, "2"), ("a.ndjson#2", 0, "10")]));
    let locators: Vec<(Arc<str>, String)> = followed.locators();
    followed.rename("a.ndjson", "a.ndjson.2");
    followed.append("a.ndjson", "{\"n\": 20}\n");
    let mut past = Followed { input: Followed::input(&settings, followed.folder.path()), ..followed };
    past.input.open(&Home::Replay(None)).await.unwrap();
    for ((partition, locator), expected) in locators.iter().zip([&[(0, "0 1"), (2, "2")][..], &[(0, "10")]]) {
        past.input.locate(partition, locator).unwrap();
        let expected = expected.iter().map(|(start, values)| (partition.to_string(), *start, (*values).to_owned()));
        assert_eq!(past.rows().await, expected.collect::<Vec<_>>());
    }
    fs::remove_file(past.folder.path().join("a.ndjson.1")).unwrap();
    let mut late = Followed::input(&settings, past.folder.path());
    let error = late.locate(&locators[0].0, &locators[0].1).unwrap_err().to_string();
    assert!(error.starts_with("the file that was `a.ndjson` when rows of partition `a.ndjson` were read"), "{error}");
}

/// Renames `a.ndjson.1` to `a.ndjson.2` and so on, and `a.ndjson` to `a.ndjson.1`; then a file comes with this row.
fn rotate(followed: &Followed, rotated: usize, row: u64) {
    for number in (0..rotated).rev() {
        let name = |number| if number == 0 { "a.ndjson".to_owned() } else { format!("a.ndjson.{number}") };
        followed.rename(&name(number), &name(number + 1));
    }
    // File systems count the time of creation in ticks of some milliseconds.
    std::thread::sleep(Duration::from_millis(20));
    followed.append("a.ndjson", &format!("{{\"n\": {row}}}\n"));
}

#[tokio::test(start_paused = true)]
async fn files_that_come_and_are_renamed_before_anybody_looks_are_found_beside_the_one_before() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    for is_running in [false, true] {
        let mut followed = Followed::new(&settings);
        // One that was read before.
        followed.append("a.ndjson", "{\"n\": 90}\n");
        assert_eq!(followed.rows().await, rows([("a.ndjson", 0, "90")]));
        rotate(&followed, 1, 0);
        assert_eq!(followed.rows().await, rows([("a.ndjson#2", 0, "0")]));
        let state = followed.snapshot(&[("a.ndjson", 1), ("a.ndjson#2", 1)]);
        followed.append("a.ndjson", "{\"n\": 1}\n");
        rotate(&followed, 2, 10);
        rotate(&followed, 3, 20);
        followed.append("a.ndjson.1", "{\"n\": 11}\n");
        // Others that have nothing to do with it, and one that was compressed.
        followed.append("b.ndjson.1", "{\"n\": 91}\n");
        followed.append("a.ndjson.bak", "{\"n\": 92}\n");
        followed.append("a.ndjson.4.gz", "packed");
        rotate(&followed, 4, 30);
        let found = if is_running { followed.rows().await } else { followed.go_on(&settings, &state).await };
        let expected =
            [("a.ndjson#2", 1, "1"), ("a.ndjson#3", 0, "10 11"), ("a.ndjson#4", 0, "20"), ("a.ndjson#5", 0, "30")];
        assert_eq!(found, rows(expected));
        assert_eq!(followed.rows().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_file_is_none_that_came_after_it() {
    let settings = format!("path = \"a.ndjson\"\n{NUMBERS}");
    let (mut followed, state) = read_in_part(&settings).await;
    std::thread::sleep(Duration::from_millis(20));
    let path = |name: &str| followed.folder.path().join(name);
    fs::copy(path("a.ndjson"), path("a.ndjson-20260131")).unwrap();
    followed.rename("a.ndjson", "a.ndjson.1");
    followed.append("a.ndjson", "{\"n\": 10}\n");
    assert_eq!(followed.go_on(&settings, &state).await, rows([("a.ndjson#2", 0, "10")]));
}

#[tokio::test(start_paused = true)]
async fn long_files_are_read_in_full_batches_in_turn() {
    let mut followed = Followed::new(&format!("path = [\"b.ndjson\", \"a.ndjson\"]\n{NUMBERS}"));
    let lines: String = (0..20_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    followed.append("a.ndjson", &lines);
    followed.append("b.ndjson", &lines);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        followed.input.next(&mut followed.out).await.unwrap();
        sizes.extend(followed.out.take(0).map(|batch| (batch.origin.partition.to_string(), batch.len())));
    }
    sizes.sort();
    let of = |name: &str| [3616, 8192, 8192].map(|rows| (name.to_owned(), rows));
    assert_eq!(sizes, [of("a.ndjson"), of("b.ndjson")].concat());
}

#[test]
fn settings_that_can_not_be_followed() {
    let problem = |text: &str| {
        let problem = parse::<FileInput>(&format!("follow = true\n{text}")).plan(&context()).unwrap_err().remove(0);
        (problem.at, problem.message)
    };
    let schema = "schema = { n = \"int64\" }";
    let at = |key: &str| vec![Step::from(key)];
    let message = "files that are followed need a `schema`";
    assert_eq!(problem("path = \"a.csv\""), (at("follow"), message.into()));
    let message = "parquet files can't be followed: they are written as a whole";
    assert_eq!(problem(&format!("path = \"a.parquet\"\n{schema}")), (at("path"), message.into()));
    let message = "`a.csv.gz` is compressed, and can't be followed";
    assert_eq!(problem(&format!("path = \"a.csv.gz\"\n{schema}")), (at("path"), message.into()));
    let compressed = format!("path = \"a.csv\"\ncompression = \"zstd\"\n{schema}");
    assert_eq!(problem(&compressed), (at("compression"), "a compressed file can't be followed".into()));
    let latin = format!("path = \"a.csv\"\nformat = {{ type = \"csv\", encoding = \"latin-1\" }}\n{schema}");
    let place = vec!["format".into(), "encoding".into()];
    assert_eq!(problem(&latin), (place, "only files in UTF-8 can be followed".into()));
    let message = "the name of `log*` does not say its format";
    assert_eq!(problem(&format!("path = \"log*\"\n{schema}")), (at("path"), message.into()));
    assert_eq!(problem(&format!("path = [\"a.csv\", \"a***b\"]\n{schema}")).0, ["path".into(), 1.into()]);
    assert_eq!(problem(&format!("path = \"src\"\nformat = \"csv\"\n{schema}")).1, "`src` is a folder");
    let message = "`b.csv` is csv, unlike the paths before it";
    assert_eq!(problem(&format!("path = [\"a.json\", \"b.csv\"]\n{schema}")), (at("path"), message.into()));
    assert_eq!(problem("path = \"a.csv\"\nschema = { n = \"list<int64>\" }").0, at("schema"));
}
