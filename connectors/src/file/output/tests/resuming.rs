//! Files that are gone on with.

use super::*;

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
