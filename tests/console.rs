//! The console in a real browser, of a real daemon: what people see and do there. Pictures of it are left in `target/console`.

use std::time::{Duration, Instant};

use millstream_testkit::Services;
use serde_json::{Value, json};

use crate::browser::{Browser, Element, key};
use crate::daemons::{Daemon, NEW, PATIENCE, append, learns, refuses, wait_for_rows};
use crate::millstream::{Workshop, project};

/// A flow that makes up rows.
fn makes_up(rate: u64, column: &str) -> String {
    format!(
        "checkpoint.interval = \"1s\"\n[input.rows]\ntype = \"generate\"\nrate = \"{rate}/s\"\ncolumns = {{ id = \"row\" }}\n\
         [processor.doubled]\ntype = \"sql\"\nfrom = \"rows\"\nquery = \"SELECT 2 * {column} AS id FROM rows\"\n\
         [output.kept]\ntype = \"file\"\nfrom = \"doubled\"\npath = \"out/\"\nformat = \"ndjson\"\nif_exists = \"append\"\n"
    )
}

/// A person before a browser.
pub struct Person {
    pub browser: Browser,
    /// A token of an administrator.
    token: String,
    /// What finds out for whom a page is hard to use.
    axe: String,
}

impl Person {
    /// One before a screen, or a phone.
    pub fn new(Site { services, token, .. }: &Site, phone: bool) -> Self {
        let browser = Browser::open(services, phone);
        Self { browser, token: token.clone(), axe: std::fs::read_to_string(services.get("AXE")).unwrap() }
    }

    pub fn find(&self, css: &str) -> Element<'_> {
        self.browser.find(css)
    }

    pub fn click(&self, css: &str) {
        // What is drawn anew before it is clicked is found again.
        while !self.find(css).try_click() {}
    }

    /// Presses the button that is called so.
    pub fn press(&self, name: &str) {
        while !self.browser.button(name).try_click() {}
    }

    /// Waits until the text of the page is as it is to be there, and returns it.
    pub fn until(&self, css: &str, is: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            // What is drawn anew while it is read is read again.
            let read =
                "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent).join('\\n')";
            let text = self.browser.execute(read, &[json!(css)]);
            let text = text.as_str().unwrap_or_default();
            if is(text) {
                return text.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "`{css}` says {text:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Goes to a screen.
    fn go(&self, daemon: &Daemon, hash: &str) {
        self.browser.go(&format!("http://{}/{hash}", daemon.address));
    }

    pub fn log_in(&self, daemon: &Daemon) {
        self.go(daemon, "");
        self.find("#token").type_in(&format!("{}{}", self.token, key::ENTER));
    }

    /// Writes another text into the field of the editor.
    fn write(&self, text: &str) {
        self.find("#text").rewrite(text);
    }

    /// Looks at the page as one who has no mouse or does not see would have to, and leaves a picture of it.
    fn judge(&self, name: &str) {
        let folder = project().join("target/console");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), self.browser.screenshot()).unwrap();
        self.browser.execute(&self.axe, &[]);
        let found = self.browser.execute_async(
            "const done = arguments[0]; axe.run().then((found) => done(found.violations
                .filter((each) => ['serious', 'critical'].includes(each.impact)).map((each) => [each.id, each.nodes[0].html])))",
        );
        assert_eq!(found, json!([]), "{name}");
    }

    /// What the page was refused by its policy, and what it has asked of others than the daemon.
    fn strayed(&self) -> Value {
        let run = "const observer = new ReportingObserver(() => {}, { types: ['csp-violation'], buffered: true });
            observer.observe();
            const foreign = performance.getEntriesByType('resource').map((each) => each.name).filter((name) => !name.startsWith(location.origin));
            return [...observer.takeRecords().map((each) => each.body.blockedURL), ...foreign]";
        self.browser.execute(run, &[])
    }
}

/// Where a browser and a daemon meet.
pub struct Site {
    services: Services,
    pub workshop: Workshop,
    token: String,
}

impl Site {
    /// None where tests are to do without a person.
    pub fn new() -> Option<Self> {
        let services = Services::start(&["chromium"])?;
        let workshop = Workshop::new();
        workshop.write("flows/made_up.toml", &makes_up(2000, "id"));
        let made = workshop.run(&["token", "create", "--name", "ada", "--role", "admin"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        Some(Self { services, workshop, token: made.stdout.trim().to_owned() })
    }
}

#[test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
fn people_see_what_flows_do_and_change_them() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let person = Person::new(&site, false);

    // A wrong token is refused in words, the right one lets in.
    person.go(&daemon, "");
    person.judge("login");
    person.find("#token").type_in("ms_wrong");
    person.press("Log in");
    person.until(".wrong", |text| text.contains("does not know this token"));
    person.log_in(&daemon);

    // Rates come by themselves.
    person.until("tbody tr", |text| text.contains("made_up") && text.contains("running") && text.contains(" /s"));
    person.judge("flows");

    // The graph has rates; arrows follow its edges; the table says the same.
    person.click("tbody a[href='#/flows/made_up']");
    person.until("[data-node=doubled] .sub", |text| text.ends_with(" /s"));
    let rows = person.until("tbody tr", |text| text.contains("doubled") && text.contains("kept"));
    assert!(rows.contains("generate input"), "{rows}");
    person.find("[data-node=rows]").type_in(&key::RIGHT.to_string());
    assert_eq!(person.browser.focused().attribute("data-node"), "doubled");
    person.browser.focused().type_in(&key::ENTER.to_string());
    person.until(".inspect", |text| text.contains("doubled") && text.contains("busy"));
    person.judge("flow");

    // Rows are shown as they pass.
    person.press("Look at rows");
    person.until(".tap tbody tr", |text| text.lines().count() > 3);
    person.press("Stop looking");

    // A flow that is wrong says where; mended, it is planned, and made.
    person.go(&daemon, "#/new");
    person.find("#name").type_in("mine");
    person.write(&makes_up(10, "ids"));
    person.until(".mistakes li", |text| text.contains("9:21") && text.contains("ids"));
    person.until(".gutter .wrong", |text| text.starts_with("▲ 9\n"));
    person.judge("mistake");
    person.write(&makes_up(10, "id"));
    person.until(".verdict", |text| text == "It checks.");
    person.press("Plan");
    person.until(".plan", |text| text.contains("mine is new") && text.contains("doubled"));
    person.press("Make the flow");
    person.until("h1", |text| text == "mine");
    person.until(".state", |text| text == "running");

    // A change is planned with what it does to nodes, and applied.
    person.go(&daemon, "#/flows/mine/edit");
    person.until(".back", |text| text.contains("10/s"));
    person.write(&makes_up(20, "id"));
    person.until(".verdict", |text| text == "It checks.");
    person.press("Plan");
    person.until(".plan tbody tr", |text| text.contains("rows") && text.contains("changed") && text.contains("rate"));
    person.find("#message").type_in("twice as fast");
    person.judge("plan");
    person.press("Apply");
    person.until("p.facts", |text| text.starts_with("revision 2 "));
    person.go(&daemon, "#/flows/mine?tab=revisions");
    person.until("tbody tr", |text| text.contains("twice as fast") && text.contains("ada"));
    person.press("What changed");
    person.until(".changes .plus", |text| text.contains("20/s"));
    person.judge("revisions");

    // It stops, and starts again.
    person.press("Stop");
    person.until(".state", |text| text == "stopped");
    person.press("Start");
    person.until(".state", |text| text == "running");

    person.go(&daemon, "#/system");
    person.until("main", |text| text.contains("apply") && text.contains("ada"));
    person.judge("system");
    assert_eq!(person.strayed(), json!([]));
    daemon.stop();
}

#[test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
fn rows_are_mended_checkpoints_seen_flows_drained_and_models_promoted() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    append(&site.workshop, "m", 0..1);
    append(&site.workshop, "m", 4..5);
    daemon.put("m", &refuses("m"), &[NEW]).is(201);
    daemon.wait_until("m", |flow| flow["rows"]["failed"] == 1);
    // Files of refused rows are whole when the flow stops.
    daemon.post("/api/v1/flows/m/stop").is(200);
    daemon.post("/api/v1/flows/m/start").is(200);
    daemon.put("learning", &learns(&site.workshop, "learning"), &[NEW]).is(201);
    daemon.wait_until("learning", |flow| flow["state"] == "finished");
    let person = Person::new(&site, false);
    person.log_in(&daemon);
    person.find("tbody a");

    // A failed row says why; mended, it counts, and says who has sent it.
    person.go(&daemon, "#/flows/m?tab=failed");
    person.until(".rows li", |text| text.contains("same") && text.contains("{\"id\":0}"));
    person.press("Mend …");
    person.find("dialog textarea").rewrite("{\"id\": 8}");
    person.judge("mend");
    person.press("Keep, to be replayed");
    person.press("Replay");
    person.until(".lone", |text| text.contains("No failed row waits"));
    wait_for_rows(&site.workshop, "m", 2);
    person.find("select[aria-label='Which rows']").choose("also replayed");
    person.until(".rows li", |text| text.contains("mended and replayed into mended by ada"));
    person.judge("failed");

    // Checkpoints say why they were taken, and what they have of each node.
    person.go(&daemon, "#/flows/m?tab=checkpoints");
    person.press("Checkpoint");
    person.until("tbody tr", |text| text.contains("asked for"));
    // The table is drawn anew now and then.
    person.browser.execute("document.querySelector('tbody button').click()", &[]);
    person.until(".diff", |text| text.contains("node by node") && text.contains("mended"));
    person.judge("checkpoints");
    person.press("Drain");
    person.until(".state", |text| text == "stopped");

    person.go(&daemon, "#/models/lateness");
    person.press("Promote …");
    person.until("dialog", |text| text.contains("in place of version 1"));
    person.judge("promote");
    person.press("Promote");
    person.until("#notes", |text| text.contains("lateness@champion is now version"));

    person.go(&daemon, "#/system");
    person.until("main", |text| text.contains("MILLSTREAM__ADMIN__RATE") && text.contains("stop_within"));
    person.judge("settings");
    assert_eq!(person.strayed(), json!([]));
    daemon.stop();
}

#[test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
fn many_tabs_work_and_what_was_seen_stays_when_the_daemon_goes() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let person = Person::new(&site, false);
    person.log_in(&daemon);
    person.find("tbody a");

    // A browser opens six connections to a daemon, and each tab holds one while it is looked at.
    for _ in 0..7 {
        person.browser.open_tab();
        person.go(&daemon, "#/flows/made_up");
        person.until("[data-node=doubled] .sub", |text| text.ends_with(" /s"));
    }

    daemon.stop();
    person.until("#contact", |text| text.contains("does not answer"));
    person.until("tbody tr", |text| text.contains("doubled"));
}

#[test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
fn it_is_used_on_a_phone_and_in_the_dark() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let person = Person::new(&site, true);
    person.log_in(&daemon);
    person.find("tbody a");
    for theme in ["light", "dark"] {
        person.browser.execute("localStorage.setItem('millstream-theme', arguments[0])", &[json!(theme)]);
        person.browser.refresh();
        person.until("tbody tr", |text| text.contains(" /s"));
        person.judge(&format!("phone-{theme}-flows"));
        person.click("tbody a[href='#/flows/made_up']");
        person.until("[data-node=doubled] .sub", |text| text.ends_with(" /s"));
        person.judge(&format!("phone-{theme}-flow"));
        // The graph runs downwards.
        let place = "return ['rows', 'doubled'].map((name) => document.querySelector(`[data-node=${name}]`).getBoundingClientRect().top)";
        let tops = person.browser.execute(place, &[]);
        assert!(tops[0].as_f64() < tops[1].as_f64(), "{tops}");
        person.go(&daemon, "#/flows");
    }
    daemon.stop();
}
