//! A flow that follows a growing file for minutes, learns from it and predicts, without growing itself; and a tab of the console that looks at a flow.
//!
//! Run by `tests/run --nightly`. `MILLSTREAM_ENDURANCE_S=60 cargo test endurance -- --ignored --nocapture` tries it for a
//! minute.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::console::{Person, Site};
use crate::daemons::Daemon;
use crate::millstream::{Running, Workshop};

/// How many MiB the resident memory may be above what it was when it had settled.
const MAY_GROW: f64 = 32.0;

/// 2,000 payments a second, 100 seconds of event time in each; one of a hundred is a bit late.
const WRITER: &str = r#"
    [input.payments]
    type = "generate"
    rate = "2000/s"
    seed = 5
    [input.payments.columns]
    id = "row"
    at = "timestamp '2026-01-01' + (row - CASE WHEN random() < 0.01 THEN random_int(1, 100) ELSE 0 END) * interval '50 ms'"
    country = "random_choice('DE', 'FR', 'GB', 'US')"
    amount = "exp(3 + random_normal())"
    fraud = "random() < CASE WHEN amount > 50 AND country = 'US' THEN 0.8 ELSE 0.05 END"
    [output.file]
    type = "stdout"
    from = "payments"
"#;

const FOLLOWER: &str = r#"
    [input.payments]
    type = "file"
    follow = true
    path = "payments.ndjson"
    schema = { id = "int64", at = "timestamp", country = "utf8", amount = "float64", fraud = "boolean" }
    event_time = { column = "at", lateness = "5s", idle = "10s" }
    [processor.minutes]
    type = "window"
    from = "payments"
    size = "1m"
    keys = ["country"]
    select = { rows = "count(*)", mean = "avg(amount)", p90 = "quantile(amount, 0.9)" }
    [output.minutes_kept]
    type = "file"
    from = "minutes"
    path = "minutes.ndjson"
    [processor.parts]
    type = "split"
    from = "payments"
    by = ["id"]
    parts = { taught = 0.8, asked = 0.2 }
    [processor.learned]
    type = "train"
    from = "parts.taught"
    model = "fraud"
    estimator = { type = "logistic_regression", learning_rate = 0.05 }
    features = ["amount", "country"]
    label = "fraud"
    publish = { rows = 5000 }
    [processor.guessed]
    type = "predict"
    from = "parts.asked"
    model = "fraud"
    [processor.known]
    type = "route"
    from = "guessed"
    when = { predicted = "prediction IS NOT NULL" }
    [output.predicted]
    type = "drop"
    from = "known.predicted"
    [output.before_the_first_model]
    type = "drop"
    from = "known.unmatched"
"#;

/// As fast as it can be, which a tab looks at.
const FAST: &str = r#"
    [input.rows]
    type = "generate"
    rate = "2000000/s"
    columns = { id = "row", text = "md5(CAST(row AS text))" }
    [processor.doubled]
    type = "sql"
    from = "rows"
    query = "SELECT 2 * id AS id, text FROM rows"
    [output.gone]
    type = "drop"
    from = "doubled"
"#;

/// How much the heap of a tab may grow: rows and rates of the last minutes are kept to be drawn.
const TAB_MAY_GROW: f64 = 4.0;

/// For how long it is watched, in seconds.
fn seconds() -> u64 {
    std::env::var("MILLSTREAM_ENDURANCE_S").map_or(600, |seconds| seconds.parse().unwrap())
}

/// The resident memory of a process, in MiB.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the process is running");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// What is measured once a second.
fn watch(seconds: u64, measure: impl Fn() -> f64) -> Vec<f64> {
    let started = Instant::now();
    let mut samples = Vec::new();
    while started.elapsed() < Duration::from_secs(seconds) {
        samples.push(measure());
        std::thread::sleep(Duration::from_secs(1));
    }
    samples
}

/// The most of the samples between two shares of the time.
fn most(samples: &[f64], from: f64, to: f64) -> f64 {
    let place = |share: f64| (share * samples.len() as f64) as usize;
    samples[place(from)..place(to)].iter().copied().fold(0.0, f64::max)
}

fn rows(summary: &Value, node: &str, port: &str) -> u64 {
    summary["nodes"][node]["rows_out"][port].as_u64().unwrap_or_else(|| panic!("{node}.{port}: {summary}"))
}

#[test]
#[ignore = "takes 10 minutes; `tests/run --nightly` runs it"]
fn memory_stays_flat_while_a_flow_follows_learns_and_predicts() {
    let seconds = seconds();
    let workshop = Workshop::new();
    let (writer_flow, follower_flow) =
        (workshop.write("writer.toml", WRITER), workshop.write("follower.toml", FOLLOWER));
    let growing = std::fs::File::create(workshop.path("payments.ndjson")).unwrap();
    let mut writer = workshop.command(&["run", writer_flow.to_str().unwrap()]);
    let writer = Running::start(writer.stdout(growing));
    let mut follower = workshop.command(&["run", "--json", follower_flow.to_str().unwrap()]);
    let mut follower = Running::start(follower.stdout(Stdio::piped()));

    let process = follower.id();
    let samples = watch(seconds, || resident(process));
    writer.stop();
    let summary = follower.stop().json();

    let (settled, end) = (most(&samples, 0.1, 0.2), most(&samples, 0.9, 1.0));
    eprintln!("{settled:.0} MiB after a fifth of {seconds} s, {end:.0} MiB at the end");
    assert!(end - settled <= MAY_GROW, "resident memory grew from {settled:.0} to {end:.0} MiB");

    let read = rows(&summary, "payments", "main");
    assert!(read as f64 > 0.8 * 2000.0 * seconds as f64, "{read} rows in {seconds} s");
    let kept = workshop.read("minutes.ndjson");
    let windows = kept.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let in_windows: u64 = windows.map(|window| window["rows"].as_u64().unwrap()).sum();
    assert_eq!(in_windows + rows(&summary, "minutes", "late"), read, "every row is in a window, or late");
    let (asked, predicted) = (rows(&summary, "parts", "asked"), rows(&summary, "known", "predicted"));
    assert!(predicted as f64 > 0.5 * asked as f64, "{predicted} of {asked} rows were predicted");
    let metrics = &summary["models"]["fraud"]["metrics"];
    assert!(metrics["auc"].as_f64().unwrap() > 0.6, "{metrics}");
}

#[test]
#[ignore = "takes 10 minutes and a browser; `tests/run --nightly` runs it"]
fn a_tab_stays_small_while_it_looks_at_a_flow_at_full_speed() {
    let Some(site) = Site::new() else { return };
    site.workshop.write("flows/made_up.toml", FAST);
    let daemon = Daemon::start(&site.workshop);
    let person = Person::new(&site, false);
    person.log_in(&daemon);
    person.until("tbody tr", |text| text.contains("running") && text.contains(" /s"));
    person.click("tbody a[href='#/flows/made_up']");
    person.click("[data-node=doubled]");
    person.press("Look at rows");
    person.until(".tap tbody tr", |text| text.lines().count() > 3);

    let samples = watch(seconds(), || person.browser.heap() as f64 / f64::from(1 << 20));
    let (settled, end) = (most(&samples, 0.1, 0.2), most(&samples, 0.9, 1.0));
    eprintln!("a tab has {settled:.1} MiB after a fifth of {} s, {end:.1} MiB at the end", seconds());
    assert!(end - settled <= TAB_MAY_GROW, "the heap of a tab grew from {settled:.1} to {end:.1} MiB");
    person.until(".tap tbody tr", |text| text.lines().count() > 3);
    daemon.stop();
}
