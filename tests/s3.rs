//! State and models in S3, with the real binary and a real service. Each test starts a service of its own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream_testkit::Services;
use serde_json::Value;

use crate::millstream::{Ran, Running, Workshop};

/// What must never be seen.
const SECRET: &str = "canary-7f3a";

const STATE: &str = "s3://bucket/state";
const REGISTRY: &str = "s3://bucket/models";

/// A service, and a folder with the binary that uses it.
struct Site {
    workshop: Workshop,
    services: Services,
}

impl Site {
    /// None where the tests are to do without.
    fn open() -> Option<Self> {
        Some(Self { services: Services::start(&["s3"])?, workshop: Workshop::new() })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.workshop.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.services.get("S3_ENDPOINT"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_MAX_ATTEMPTS", "3")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let ran = Ran::from(self.command(arguments).output().unwrap());
        assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET), "a secret was printed: {ran:?}");
        ran
    }

    /// The JSON line of a flow that must come to its end.
    fn finish(&self, flow: &str, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["run", "--json", flow], arguments].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran.json()
    }

    /// A live flow that keeps state, once it has taken a checkpoint.
    fn live(&self, flow: &str) -> Running {
        let before = self.last_checkpoint();
        let mut running =
            Running::start(self.command(&["run", "--json", flow, "--state", STATE]).stdout(Stdio::piped()));
        let own = format!("process {} on ", running.id());
        until("a checkpoint", || {
            let last = self.last_checkpoint();
            last["owner"].as_str().is_some_and(|owner| owner.starts_with(&own))
                && last["checkpoint"].as_u64() > before["checkpoint"].as_u64().map(|number| number + 1)
        });
        running
    }

    /// The last checkpoint, or null.
    fn last_checkpoint(&self) -> Value {
        let ran = self.run(&["checkpoints", "--json", "--state", STATE]);
        if ran.code == 0 { ran.json() } else { Value::Null }
    }
}

/// Waits until there are so many of something. What brings nothing new for minutes hangs, however slow the machine is.
pub fn wait_for(what: &str, wanted: usize, mut count: impl FnMut() -> usize) {
    let (mut seen, mut since) = (0, Instant::now());
    while seen < wanted {
        assert!(since.elapsed() < Duration::from_secs(180), "waited too long for {what}: {seen} of {wanted} came");
        std::thread::sleep(Duration::from_millis(20));
        let now = count();
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, 1, || usize::from(holds()));
}

/// A model that is published again and again.
pub const LEARNING: &str = r#"
    [flow]
    registry = "s3://bucket/models"
    epoch.rows = 500
    [checkpoint]
    epochs = 1
    [input.rows]
    type = "generate"
    rows = 4000
    columns = { id = "row", x = "random_normal()", y = "random_normal()", z = "x - 2 * y + random_normal()" }
    [processor.learner]
    type = "train"
    from = "rows"
    model = "plane"
    estimator = { type = "network", layers = [{ dense = 48, activation = "relu" }], optimizer = { type = "adamw" } }
    features = ["x", "y"]
    label = "z"
    publish = { rows = 1000 }
    [output.scored]
    type = "file"
    from = "learner"
    path = "scored.csv"
"#;

/// Rows that come until the flow is stopped, and a checkpoint all the time.
const LIVE: &str = r#"
    [flow]
    epoch = { rows = 500, interval = "50ms" }
    on_error = "fail"
    [checkpoint]
    interval = "50ms"
    [input.rows]
    type = "generate"
    rate = "1000/s"
    columns = { id = "row" }
    [output.nowhere]
    type = "drop"
    from = "rows"
"#;

#[test]
fn a_flow_that_is_killed_goes_on_to_the_same_bytes() {
    let Some(site) = Site::open() else { return };
    site.workshop.write("flow.toml", LEARNING);
    let local = ["--set", "flow.registry=models", "--set", "output.scored.path=undisturbed.csv"];
    let undisturbed = site.finish("flow.toml", &local);
    let durable = ["run", "flow.toml", "--state", STATE];
    for point in ["after-manifest:2", "recovery-taken-over", "blob-written:2", "version-written", "before-manifest:2"] {
        let ran = Ran::from(site.command(&durable).env("MILLSTREAM_CRASH", point).output().unwrap());
        assert_eq!(ran.code, -1, "{point}: {}", ran.stderr);
    }
    let resumed = site.finish("flow.toml", &["--state", STATE]);
    assert_eq!(resumed["models"]["plane"]["sha256"], undisturbed["models"]["plane"]["sha256"]);
    assert_eq!(resumed["models"]["plane"]["version"], undisturbed["models"]["plane"]["version"]);
    assert!(site.workshop.read("scored.csv") == site.workshop.read("undisturbed.csv"), "the rows differ");
    let checked = site.run(&["checkpoints", "--state", STATE, "--verify"]);
    assert!(checked.code == 0 && checked.stdout.contains("the flow is done"), "{}{}", checked.stdout, checked.stderr);
    let replayed = site.run(&["replay", "flow.toml", "plane/3", "--state", STATE]);
    assert!(
        replayed.stdout.contains("plane/3: the same bits after 3000 rows"),
        "{}{}",
        replayed.stdout,
        replayed.stderr
    );
    assert!(!site.workshop.exists("s3:"), "an address was taken for a folder");
}

#[test]
fn models_are_published_listed_named_and_used() {
    let Some(site) = Site::open() else { return };
    site.workshop.write("flow.toml", LEARNING);
    let trained = site.finish("flow.toml", &[]);
    assert_eq!(trained["models"]["plane"]["version"], 4);
    let listed = site.run(&["models", "list", "--registry", REGISTRY]).stdout;
    assert!(listed.contains("plane/1   champion") && listed.contains("plane/4"), "{listed}");
    assert_eq!(site.run(&["models", "alias", "plane", "champion", "4", "--registry", REGISTRY]).code, 0);
    let shown = site.run(&["models", "show", "plane", "--registry", REGISTRY]).stdout;
    assert!(shown.contains(trained["models"]["plane"]["sha256"].as_str().unwrap()), "{shown}");
    let mut command = site.command(&["predict", "plane", "--registry", REGISTRY]);
    site.workshop.write("row.ndjson", "{\"x\": 1.0, \"y\": -1.0}\n");
    let row = std::fs::File::open(site.workshop.path("row.ndjson")).unwrap();
    let predicted = Ran::from(command.stdin(row).output().unwrap());
    assert!(predicted.json()["prediction"].is_number(), "{}{}", predicted.stdout, predicted.stderr);
}

#[test]
fn a_second_process_takes_the_flow_over() {
    let Some(site) = Site::open() else { return };
    site.workshop.write("flow.toml", LIVE);
    let first = site.live("flow.toml");
    let mut second = site.live("flow.toml");
    let (id, ended) = (second.id(), first.wait());
    assert_eq!(ended.code, 1);
    let message = ended.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("process {id} on ")), "{message}");
    assert!(message.ends_with("has taken this flow over; nothing more of this run counts"), "{message}");
    second.stop();
    let last = site.last_checkpoint();
    assert_eq!(last["then"], "stop", "{last}");
}

#[test]
fn a_service_that_goes_away_fails_the_flow_which_goes_on_later() {
    let Some(site) = Site::open() else { return };
    site.workshop.write("flow.toml", LIVE);
    let running = site.live("flow.toml");
    site.services.kill("s3");
    let ended = running.wait();
    assert_eq!(ended.code, 1);
    let message = ended.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`s3://bucket/state/flow/") && message.contains("Connection refused"), "{message}");
    site.services.start_again("s3");
    let before = site.last_checkpoint();
    let ended = site.live("flow.toml").stop();
    let goes_on = format!("flow `flow`: resumes from checkpoint {}", before["checkpoint"]);
    assert!(ended.stderr.contains(&goes_on), "{goes_on}: {}", ended.stderr);
}

#[test]
fn a_registry_that_goes_away_for_a_while_delays_versions_and_nothing_else() {
    let Some(site) = Site::open() else { return };
    let live = LEARNING.replace("rows = 4000\n", "rate = \"1000/s\"\n").replace("epoch.rows = 500", "epoch.rows = 250");
    site.workshop.write("flow.toml", &live);
    let mut running =
        Running::start(site.command(&["run", "--json", "flow.toml", "--state", "kept"]).stdout(Stdio::piped()));
    let shown = |site: &Site, version: u64| {
        site.run(&["models", "show", &format!("plane/{version}"), "--registry", REGISTRY]).code == 0
    };
    until("a version", || shown(&site, 1));
    site.services.kill("s3");
    let mut lines = running.take_stderr();
    assert!(lines.any(|line| line.unwrap().contains("the commit is tried again")), "the flow has failed");
    site.services.start_again("s3");
    let published = (2..).find(|version| !shown(&site, *version)).unwrap_or_default();
    until("another version", || shown(&site, published + 1));
    assert_eq!(running.stop().json()["status"], "stopped");
}

#[test]
fn what_is_missing_is_said() {
    let Some(site) = Site::open() else { return };
    let list = ["checkpoints", "--state", STATE];
    let ended_with = |code: i32, command: &mut Command, words: &str| {
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(ran.code, code, "{words}");
        assert!(ran.stderr.contains(words) && !ran.stderr.contains(SECRET), "{words}: {}", ran.stderr);
    };
    let refused = |command: &mut Command, words: &str| ended_with(1, command, words);
    let no_bucket = "listing `s3://other/state`: The specified bucket does not exist (NoSuchBucket)";
    refused(&mut site.command(&["checkpoints", "--state", "s3://other/state"]), no_bucket);
    refused(site.command(&list).env_remove("AWS_SECRET_ACCESS_KEY"), "Missing SecretAccessKey");
    refused(site.command(&list).env_remove("AWS_ALLOW_HTTP"), "needs `AWS_ALLOW_HTTP=true`");
    let with_password = format!("s3://key:{SECRET}@bucket/state");
    refused(&mut site.command(&["checkpoints", "--state", &with_password]), "passwords belong into the environment");
    refused(&mut site.command(&["checkpoints", "--state", "ftp://host/state"]), "`ftp://` is not supported");
    site.workshop.write(
        "flow.toml",
        &LIVE.replace("type = \"generate\"", "type = \"http_listen\"").replace(
            "rate = \"1000/s\"\n    columns = { id = \"row\" }",
            "address = \"127.0.0.1:0\"\n    format = \"ndjson\"\n    schema = { id = \"int64\" }",
        ),
    );
    ended_with(2, &mut site.command(&["run", "flow.toml", "--state", STATE]), "`--state DIR` with a folder, not a URL");
}
