//! Rows that are divided among folders.

use super::*;

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
