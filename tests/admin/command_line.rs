//! The command line of a daemon.

use serde_json::Value;

use crate::daemons::{Daemon, append, follows, wait_for_rows};
use crate::millstream::Workshop;

#[test]
fn flows_are_steered_from_the_command_line() {
    let workshop = Workshop::new();
    let daemon = Daemon::start(&workshop);
    append(&workshop, "f", 0..10);
    workshop.write("f.toml", &follows("f"));
    let run = |arguments: &[&str]| workshop.run(&[&["flows"], arguments].concat());
    let good = |arguments: &[&str]| {
        let ran = run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    assert!(good(&["apply", "f.toml", "--dry-run"]).contains("added"));
    assert_eq!(good(&["apply", "f.toml", "-m", "first"]), "flow `f`: revision 1\n");
    wait_for_rows(&workshop, "f", 10);
    assert!(good(&["list"]).contains("running"));
    workshop.write("f.toml", &follows("f").replace("SELECT id", "SELECT id + 1000 AS id"));
    assert_eq!(good(&["apply", "f.toml"]), "flow `f`: revision 2\n");
    assert!(good(&["diff", "f"]).contains("+        query"));
    assert!(good(&["stop", "f"]).starts_with("flow `f` has stopped at checkpoint "));
    assert!(good(&["show", "f"]).contains("desired           stopped"));
    assert_eq!(good(&["start", "f"]), "flow `f` runs, from revision 2\n");
    assert_eq!(good(&["rollback", "f", "--to", "1"]), "flow `f`: revision 3\n");
    assert!(good(&["logs", "f"]).contains("resumes from checkpoint"));
    workshop.write("f.toml", &follows("f").replace("SELECT id", "SELECT ids"));
    let wrong = run(&["apply", "f.toml"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there is no column `ids`"), "{}", wrong.stderr);
    let json: Value = serde_json::from_str(&good(&["show", "f", "--json"])).unwrap();
    assert_eq!(json["revision"], 3);
    assert_eq!(good(&["delete", "f"]), "flow `f` is gone; its state stays\n");
    let operations = workshop.run(&["operations", "list"]).stdout;
    assert!(operations.contains("remove") && operations.contains("uid "), "{operations}");
    let missing = run(&["show", "f"]);
    assert!(missing.code == 1 && missing.stderr.contains("there is no flow `f`"), "{}", missing.stderr);

    let token = workshop.run(&["token", "create", "--name", "ci", "--role", "viewer"]).stdout;
    workshop.write("token", &token);
    let url = format!("http://{}", daemon.address);
    let remote = run(&["list", "--url", &url, "--token-file", "token", "--json"]);
    assert_eq!((remote.code, remote.stdout.as_str()), (0, ""), "{}", remote.stderr);
    let refused = run(&["stop", "f", "--url", &url, "--token-file", "token"]);
    assert!(refused.code == 1 && refused.stderr.contains("takes the role `operator`"), "{}", refused.stderr);
    daemon.stop();
    let nobody = run(&["list"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("no daemon listens at"), "{}", nobody.stderr);
}
