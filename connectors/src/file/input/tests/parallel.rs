//! Files that several threads decode: nobody sees how many there are.

use tokio::runtime::Builder;

use super::*;

const SETTINGS: &str = "path = \"*.EXTENSION\"\nschema = { n = \"int64\", t = \"utf8?\" }";

/// Three files of a format, the second of which has nothing, with rows that can't be read.
fn files(extension: &str) -> Flow {
    let row = |n: u32| match (extension, n % 11) {
        ("csv", 3) => format!("{n},\"a \"\"quote\"\"\nover two lines\"\r\n"),
        ("csv", 5) => format!("x,{n}\n"),
        ("csv", 7) => format!("{n},\"not closed\n"),
        ("csv", _) => format!("{n},t\n"),
        (_, 3) => format!("{{\"n\": {n}, \"t\": \"a\\nb\"}}\r\n\n"),
        (_, 5) => format!("{{\"n\": \"x{n}\"}}\n"),
        (_, 7) => format!("{{\"n\": {n}\n"),
        (_, _) => format!("{{\"n\": {n}}}\n"),
    };
    let header = if extension == "csv" { "n,t\n" } else { "" };
    let text = |rows: std::ops::Range<u32>| format!("{header}{}", rows.map(row).collect::<String>());
    let names = ["a", "b", "c"].map(|name| format!("{name}.{extension}"));
    let texts = [text(0..60), text(0..0), text(60..100)];
    let mut flow = Flow::new(&[(&names[0], &texts[0]), (&names[1], &texts[1]), (&names[2], &texts[2])]);
    flow.context.batch_rows = 4;
    flow
}

/// What an input pushes at a time.
struct Pushed {
    rows: Vec<(String, u64, String)>,
    failed: Vec<FailedRow>,
}

async fn next(input: &mut dyn Input) -> Option<Pushed> {
    let mut out = Collector::of_input(1);
    let progress = input.next(&mut out).await.unwrap();
    let row = |batch: &millstream_core::Batch, row: usize| {
        let text = rows_as_text([&batch.rows.slice(row, 1)]);
        (batch.origin.partition.to_string(), batch.origin.start + row as u64, text)
    };
    let rows = out.take(0).flat_map(|batch| (0..batch.len()).map(|at| row(&batch, at)).collect::<Vec<_>>());
    let rows = rows.collect();
    (progress == Progress::More).then(|| Pushed { rows, failed: out.take_failed() })
}

/// All rows that are left, and those that can't be read.
async fn rest(input: &mut dyn Input) -> (Vec<(String, u64, String)>, Vec<FailedRow>) {
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    while let Some(pushed) = next(input).await {
        rows.extend(pushed.rows);
        failed.extend(pushed.failed);
    }
    (rows, failed)
}

#[test]
fn any_number_of_threads_reads_the_same_and_goes_on_from_anywhere() {
    for extension in ["csv", "ndjson"] {
        let flow = files(extension);
        let settings = SETTINGS.replace("EXTENSION", extension);
        let build = || (flow.plan(&settings).unwrap().build)().unwrap();
        let mut expected = None;
        for threads in [1, 2, 8] {
            let runtime = Builder::new_multi_thread().worker_threads(threads).build().unwrap();
            runtime.block_on(async {
                let mut input = build();
                input.open(&Home::Nowhere).await.unwrap();
                let all = rest(input.as_mut()).await;
                assert_eq!((all.0.len(), all.1.len()), (82, 18), "{extension}");
                let expected = expected.get_or_insert_with(|| all.clone());
                assert_eq!(all, *expected, "{extension}, {threads} threads");
                go_on_from_anywhere(&build, expected).await;
            });
        }
    }
}

/// Wherever an input is taken down, another one goes on.
async fn go_on_from_anywhere(build: &dyn Fn() -> Box<dyn Input>, all: &(Vec<(String, u64, String)>, Vec<FailedRow>)) {
    let mut input = build();
    input.open(&Home::Nowhere).await.unwrap();
    let mut positions = Positions::new();
    while let Some(pushed) = next(input.as_mut()).await {
        let rows = pushed.rows.iter().map(|(file, position, _)| (file.clone(), *position));
        let failed = pushed.failed.iter().map(|row| (row.partition.to_string(), row.position.unwrap()));
        for (file, position) in rows.chain(failed) {
            positions.entry(file.as_str().into()).and_modify(|next| *next = position.max(*next)).or_insert(position);
            let state = input.snapshot(&positions).unwrap().into_state().unwrap();
            let mut again = build();
            again.restore(&positions, &state).unwrap();
            again.open(&Home::Nowhere).await.unwrap();
            let same = again.snapshot(&positions).unwrap().into_state().unwrap();
            let (rows, failed) = rest(again.as_mut()).await;
            let is_left = |of: &str, position: u64| of > &*file || (of == file && position >= positions[&*file]);
            assert!(rows.iter().eq(all.0.iter().filter(|(of, position, _)| is_left(of, *position))));
            let left = all.1.iter().filter(|row| is_left(&row.partition, row.position.unwrap()));
            assert!(failed.iter().eq(left), "{file} from {position}");
            assert_eq!(same, state, "nothing has come since");
        }
    }
}
