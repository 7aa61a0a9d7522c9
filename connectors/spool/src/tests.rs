//! Rows go into the spool and come out of it, whatever the batches, the state, the disk and the end of the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use millstream_core::{CommitContext, Error, Home, Parts, PendingCommit, Result, Run, State};
use millstream_store::simulation::{Faults, Simulation};
use millstream_store::{Files, LocalFiles};
use millstream_testkit::Hostile;

use crate::{PartLimits, Spool, Spooled, Unnamed};

fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| "x".repeat(n as usize % 50))));
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef), ("text", texts)])
        .unwrap()
}

fn run(generation: u64) -> Run {
    Run { incarnation: "0123456789abcdef".into(), generation }
}

fn pending(staged: State, home: &Home) -> PendingCommit {
    PendingCommit { staged, context: CommitContext { home: home.clone(), ..CommitContext::default() } }
}

/// The numbers behind the first so many, and how long the parts are.
fn read(spooled: &Spooled, skip: u64, limits: PartLimits) -> Result<(Vec<i64>, Vec<u64>)> {
    let (mut numbers, mut parts, mut reader) = (Vec::new(), vec![0], spooled.parts(skip, limits));
    while let Some(piece) = reader.next_piece()? {
        numbers.extend(piece.rows.column(0).as_primitive::<Int64Type>().values());
        *parts.last_mut().unwrap() += piece.rows.num_rows() as u64;
        assert_eq!(piece.until, skip + numbers.len() as u64);
        assert_eq!(piece.is_last, piece.until == spooled.rows());
        if piece.ends_part && !piece.is_last {
            parts.push(0);
        }
    }
    Ok((numbers, parts))
}

const ROWS: i64 = 30_000;

#[test]
fn rows_come_back_wherever_they_were_kept() {
    for durable in ["folder", "elsewhere", "nowhere"] {
        for batch_rows in [1000, 7, 20_000] {
            let folder = tempfile::tempdir().unwrap();
            let home = match durable {
                "folder" => Home::Folder(folder.path().join("flow/node")),
                "elsewhere" => Home::Elsewhere,
                _ => Home::Nowhere,
            };
            let unnamed = Unnamed::default();
            let mut spool = Spool::open(rows(0..0).schema(), &home, &run(1), &unnamed).unwrap();
            for stage in 0..3 {
                let first = stage * ROWS;
                for start in (first..first + ROWS).step_by(batch_rows) {
                    spool.write(&rows(start..(start + batch_rows as i64).min(first + ROWS))).unwrap();
                }
                let mut staged = Parts::default();
                spool.stage(&mut staged).unwrap();
                // A state that is elsewhere is read by another process.
                let unnamed = if durable == "elsewhere" { Unnamed::default() } else { unnamed.clone() };
                let spooled = Spooled::of(&pending(staged.into_state().unwrap(), &home), &unnamed).unwrap();
                assert_eq!(spooled.rows(), ROWS as u64);
                let limits = PartLimits { rows: 10_000, ..PartLimits::default() };
                let (numbers, parts) = read(&spooled, 0, limits).unwrap();
                assert_eq!(numbers, (first..first + ROWS).collect::<Vec<_>>(), "{durable}");
                assert_eq!(parts, [10_000; 3], "{durable}, batches of {batch_rows}");
                for skip in [1, 8192, 12_345, ROWS as u64 - 1, ROWS as u64] {
                    let (numbers, _) = read(&spooled, skip, limits).unwrap();
                    assert_eq!(numbers, (first + skip as i64..first + ROWS).collect::<Vec<_>>());
                }
                spooled.remove().unwrap();
                spooled.remove().unwrap();
            }
            assert!(durable != "folder" || std::fs::read_dir(folder.path().join("flow/node")).unwrap().count() == 0);
        }
    }
}

#[test]
fn a_stage_without_rows_is_empty() {
    let mut spool = Spool::open(rows(0..0).schema(), &Home::Nowhere, &run(0), &Unnamed::default()).unwrap();
    let mut staged = Parts::default();
    spool.stage(&mut staged).unwrap();
    assert!(staged.is_empty());
    let spooled = Spooled::of(&pending(State::default(), &Home::Nowhere), &Unnamed::default()).unwrap();
    assert_eq!((spooled.rows(), read(&spooled, 0, PartLimits::default()).unwrap()), (0, (vec![], vec![0])));
}

#[test]
fn parts_end_by_bytes_too() {
    let unnamed = Unnamed::default();
    let mut spool = Spool::open(rows(0..0).schema(), &Home::Nowhere, &run(0), &unnamed).unwrap();
    spool.write(&rows(0..ROWS)).unwrap();
    let mut staged = Parts::default();
    spool.stage(&mut staged).unwrap();
    let spooled = Spooled::of(&pending(staged.into_state().unwrap(), &Home::Nowhere), &unnamed).unwrap();
    let (_, parts) = read(&spooled, 0, PartLimits { bytes: 1, ..PartLimits::default() }).unwrap();
    assert_eq!(parts, [8192, 8192, 8192, ROWS as u64 - 3 * 8192], "what is more than a part is one");
}

/// A stage of some rows in a folder.
fn staged_in(files: Arc<dyn Files>, folder: &Path, generation: u64) -> Result<State> {
    let home = Home::Folder(folder.to_owned());
    let mut spool = Spool::open_on(files, rows(0..0).schema(), &home, &run(generation), &Unnamed::default())?;
    spool.write(&rows(0..500))?;
    let mut staged = Parts::default();
    spool.stage(&mut staged)?;
    staged.into_state()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = LocalFiles.list(folder).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

#[test]
fn what_is_missing_or_damaged_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::Folder(folder.path().to_owned());
    let staged = staged_in(Arc::new(LocalFiles), folder.path(), 1).unwrap();
    let said = || {
        let spooled = Spooled::of(&pending(staged.clone(), &home), &Unnamed::default()).unwrap();
        read(&spooled, 0, PartLimits::default()).map(drop).map_err(|error: Error| error.to_string())
    };
    assert_eq!(said(), Ok(()));
    let path = folder.path().join(&names(folder.path())[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = said().unwrap_err();
    assert!(error.contains("is damaged: it has 500 rows that a checkpoint has decided"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = said().unwrap_err();
    assert!(error.starts_with(&format!("`{}` is missing: it has 500 rows", path.display())), "{error}");
    assert!(error.ends_with("only `--reset` of the output helps, which loses them"), "{error}");
    let elsewhere = Spooled::of(&pending(staged.clone(), &Home::Elsewhere), &Unnamed::default()).unwrap();
    let error = read(&elsewhere, 0, PartLimits::default()).unwrap_err().to_string();
    assert!(error.contains("run the flow with the state that it had"), "{error}");
}

#[test]
fn only_what_nobody_can_need_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["spool-0123456789abcdef-9-1.arrow", "spool-fedcba-1-1.arrow", "log"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    for generation in [2, 5] {
        staged_in(Arc::new(LocalFiles), folder.path(), generation).unwrap();
    }
    let own = "spool-0123456789abcdef-5-1.arrow";
    assert_eq!(names(folder.path()), ["log", own, "spool-0123456789abcdef-9-1.arrow", "spool-fedcba-1-1.arrow"]);
}

/// What was staged is there when the machine starts again, whatever operation of the disk the power goes at, and whatever else fails.
#[test]
fn what_is_staged_outlives_the_machine() {
    let (folder, mut staged_so_far) = (PathBuf::from("/home"), 0);
    for seed in 0..300 {
        let disk = Simulation::new(seed);
        disk.create_folder(&folder, millstream_store::Access::Private).unwrap();
        disk.sync_folder(Path::new("/")).unwrap();
        let errors = if seed % 3 == 0 { 100 } else { 0 };
        disk.set_faults(Faults {
            power: Some(1 + seed % 12),
            errors,
            capacity: if seed % 5 == 0 { 2000 } else { usize::MAX },
        });
        let staged = staged_in(Arc::new(disk.clone()), &folder, 1);
        let disk = disk.restarted();
        if let Ok(staged) = staged {
            staged_so_far += 1;
            let home = Home::Folder(folder.clone());
            let spooled = Spooled::of_on(Arc::new(disk.clone()), &pending(staged, &home), &Unnamed::default()).unwrap();
            let (numbers, _) = read(&spooled, 0, PartLimits::default()).unwrap();
            assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "seed {seed}");
            spooled.remove().unwrap();
        }
        staged_in(Arc::new(disk), &folder, 2).unwrap();
    }
    assert!(staged_so_far > 20, "{staged_so_far}");
}

/// Whatever becomes of a file, its rows are those that were written, or it is said that it is damaged.
#[test]
fn hostile_files_have_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let staged = staged_in(Arc::new(LocalFiles), folder.path(), 1).unwrap();
    let home = Home::Folder(folder.path().to_owned());
    let spooled = Spooled::of(&pending(staged, &home), &Unnamed::default()).unwrap();
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    Hostile::new([whole.clone()]).attack(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        match read(&spooled, 0, PartLimits::default()) {
            Ok((numbers, _)) => assert!(bytes == whole && numbers.len() == 500),
            Err(error) => assert!(error.to_string().contains("is damaged"), "{error}"),
        }
    });
}
