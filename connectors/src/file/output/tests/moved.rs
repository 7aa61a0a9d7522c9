//! Folders that were moved or copied, and whether the files are there that a checkpoint refers to.

use super::*;

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
