//! Files of other states, and of a state that is gone on from no more.

use super::*;

#[tokio::test]
async fn what_another_state_goes_on_with_is_not_replaced() {
    let another = Run { incarnation: "00000000000000aa".into(), generation: 1 };
    for settings in PLACES.into_iter().chain(["path = \"b.csv\"\nif_exists = \"append\""]) {
        let (folder, mut state) = (Folder::new(), None);
        let staged = run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Stop).await;
        assert!(begin(&folder, settings, PriorOutput::Ended, &another).is_ok(), "nothing has been published");
        commit(&folder, settings, &staged).await;
        let before = folder.files();
        for run in [&another, &Run::default()] {
            let error = begin(&folder, settings, PriorOutput::Ended, run).err().unwrap().to_string();
            for part in
                ["is of a run with another state", ".fedcba9876543210.ledger` is its ledger", "`--remove-published`"]
            {
                assert!(error.contains(part), "{settings}: {part}: {error}");
            }
            assert!(begin(&folder, settings, PriorOutput::MayGo, run).is_ok(), "{settings}");
        }
        assert!(begin(&folder, settings, PriorOutput::Ended, &generation(9)).is_ok(), "its own");
        assert!(folder.files() == before, "nothing has changed");
    }
    // What is added to a folder harms nobody.
    let (folder, mut state) = (Folder::new(), None);
    let staged = run(&folder, PLACES[3], &rows(9), &mut state, &[rows(9)], Then::Stop).await;
    commit(&folder, PLACES[3], &staged).await;
    let appending = format!("{}\nif_exists = \"append\"", PLACES[3]);
    assert!(begin(&folder, &appending, PriorOutput::Ended, &Run::default()).is_ok());
    assert!(begin(&folder, PLACES[3], PriorOutput::Stays, &another).is_ok());
}

#[tokio::test]
async fn another_state_goes_with_its_files_if_that_is_said() {
    let settings = PLACES[3];
    let (folder, mut state) = (Folder::new(), None);
    let staged = run(&folder, settings, &rows(9), &mut state, &[rows(9)], Then::Stop).await;
    commit(&folder, settings, &staged).await;
    let before = folder.names("out");
    assert!(before.iter().any(|name| name.ends_with(".ledger")), "{before:?}");
    let mut output = begin(&folder, settings, PriorOutput::MayGo, &Run::default()).unwrap();
    let mut committer = output.committer().unwrap();
    output.open(&Home::Nowhere, &stateless()).await.unwrap();
    output.write(batch(rows(3)), &mut Collector::new(0)).await.unwrap();
    let staged = output.stage(END).await.unwrap().staged.into_state().unwrap();
    assert!(before.iter().all(|name| folder.names("out").contains(name)), "until it is decided");
    committer.commit(&stage_of(&staged)).await.unwrap();
    drop(output);
    assert_eq!(folder.names("out").len(), 1, "{:?}", folder.names("out"));
    assert!(begin(&folder, settings, PriorOutput::Ended, &Run::default()).is_ok());
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
