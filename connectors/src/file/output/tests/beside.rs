//! What is at the place of an output already, or comes there: files, links, locks, permissions.

use super::*;

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
