//! Commits that are late, repeated, or find a file gone.

use super::*;

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
