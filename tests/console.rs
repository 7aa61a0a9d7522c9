//! The console in a real browser, of a real daemon: what people see and do there. Pictures of it are left in `target/console`.

use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use millstream_testkit::Services;
use serde_json::{Value, json};

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

/// A browser with a window.
struct Browser {
    client: Client,
    /// A token of an administrator.
    token: String,
    /// What finds out for whom a page is hard to use.
    axe: String,
}

impl Browser {
    /// Opens one: as large as a screen, or as that of a phone.
    async fn open(Site { services, token, .. }: &Site, phone: bool) -> Self {
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1000"];
        let mut options = json!({ "binary": services.get("CHROMIUM"), "args": arguments });
        if phone {
            options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2.0 } });
        }
        let capabilities = json!({ "goog:chromeOptions": options }).as_object().unwrap().clone();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(services.get("CHROMIUM_DRIVER")).await.unwrap();
        Self { client, token: token.clone(), axe: std::fs::read_to_string(services.get("AXE")).unwrap() }
    }

    /// Waits for what a selector finds.
    async fn find(&self, css: &str) -> Element {
        self.client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap();
    }

    /// Presses the button that is called so.
    async fn press(&self, name: &str) {
        let path = format!("//button[normalize-space()='{name}']");
        let button = self.client.wait().at_most(PATIENCE).for_element(Locator::XPath(&path)).await;
        button.unwrap_or_else(|error| panic!("{name}: {error}")).click().await.unwrap();
    }

    /// Waits until the text of the page is as it is to be there, and returns it.
    async fn until(&self, css: &str, is: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            // What is drawn anew while it is read is read again.
            let read =
                "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent).join('\\n')";
            let text = self.client.execute(read, vec![json!(css)]).await.unwrap();
            let text = text.as_str().unwrap_or_default();
            if is(text) {
                return text.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "`{css}` says {text:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Goes to a screen.
    async fn go(&self, daemon: &Daemon, hash: &str) {
        self.client.goto(&format!("http://{}/{hash}", daemon.address)).await.unwrap();
    }

    async fn log_in(&self, daemon: &Daemon) {
        self.go(daemon, "").await;
        self.find("#token").await.send_keys(&format!("{}{}", self.token, char::from(Key::Enter))).await.unwrap();
    }

    /// Writes another text into the field of the editor.
    async fn write(&self, text: &str) {
        let field = self.find("#text").await;
        let all = format!("{}a{}{}", char::from(Key::Control), char::from(Key::Null), char::from(Key::Delete));
        field.send_keys(&all).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Looks at the page as one who has no mouse or does not see would have to, and leaves a picture of it.
    async fn judge(&self, name: &str) {
        let folder = project().join("target/console");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), self.client.screenshot().await.unwrap()).unwrap();
        self.client.execute(&self.axe, Vec::new()).await.unwrap();
        let run = "const done = arguments[0]; axe.run().then((found) => done(found.violations
            .filter((each) => ['serious', 'critical'].includes(each.impact)).map((each) => [each.id, each.nodes[0].html])))";
        let found = self.client.execute_async(run, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{name}");
    }

    /// What the page was refused by its policy, and what it has asked of others than the daemon.
    async fn strayed(&self) -> Value {
        let run = "const observer = new ReportingObserver(() => {}, { types: ['csp-violation'], buffered: true });
            observer.observe();
            const foreign = performance.getEntriesByType('resource').map((each) => each.name).filter((name) => !name.startsWith(location.origin));
            return [...observer.takeRecords().map((each) => each.body.blockedURL), ...foreign]";
        self.client.execute(run, Vec::new()).await.unwrap()
    }
}

/// Where a browser and a daemon meet.
struct Site {
    services: Services,
    workshop: Workshop,
    token: String,
}

impl Site {
    /// None where tests are to do without a browser.
    fn new() -> Option<Self> {
        let services = Services::start(&["chromium"])?;
        let workshop = Workshop::new();
        workshop.write("flows/made_up.toml", &makes_up(2000, "id"));
        let made = workshop.run(&["token", "create", "--name", "ada", "--role", "admin"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        Some(Self { services, workshop, token: made.stdout.trim().to_owned() })
    }
}

#[tokio::test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
async fn people_see_what_flows_do_and_change_them() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let browser = Browser::open(&site, false).await;

    // A wrong token is refused in words, the right one lets in.
    browser.go(&daemon, "").await;
    browser.judge("login").await;
    browser.find("#token").await.send_keys("ms_wrong").await.unwrap();
    browser.press("Log in").await;
    browser.until(".wrong", |text| text.contains("does not know this token")).await;
    browser.log_in(&daemon).await;

    // Rates come by themselves.
    browser
        .until("tbody tr", |text| text.contains("made_up") && text.contains("running") && text.contains(" /s"))
        .await;
    browser.judge("flows").await;

    // The graph has rates; arrows follow its edges; the table says the same.
    browser.click("tbody a[href='#/flows/made_up']").await;
    browser.until("[data-node=doubled] .sub", |text| text.ends_with(" /s")).await;
    let rows = browser.until("tbody tr", |text| text.contains("doubled") && text.contains("kept")).await;
    assert!(rows.contains("generate input"), "{rows}");
    browser.find("[data-node=rows]").await.send_keys(&char::from(Key::Right).to_string()).await.unwrap();
    let focused = browser.client.active_element().await.unwrap().attr("data-node").await.unwrap();
    assert_eq!(focused.as_deref(), Some("doubled"));
    browser.client.active_element().await.unwrap().send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.until(".inspect", |text| text.contains("doubled") && text.contains("busy")).await;
    browser.judge("flow").await;

    // Rows are shown as they pass.
    browser.press("Look at rows").await;
    browser.until(".tap tbody tr", |text| text.lines().count() > 3).await;
    browser.press("Stop looking").await;

    // A flow that is wrong says where; mended, it is planned, and made.
    browser.go(&daemon, "#/new").await;
    browser.find("#name").await.send_keys("mine").await.unwrap();
    browser.write(&makes_up(10, "ids")).await;
    browser.until(".mistakes li", |text| text.contains("9:21") && text.contains("ids")).await;
    browser.until(".gutter .wrong", |text| text.starts_with("▲ 9\n")).await;
    browser.judge("mistake").await;
    browser.write(&makes_up(10, "id")).await;
    browser.until(".verdict", |text| text == "It checks.").await;
    browser.press("Plan").await;
    browser.until(".plan", |text| text.contains("mine is new") && text.contains("doubled")).await;
    browser.press("Make the flow").await;
    browser.until("h1", |text| text == "mine").await;
    browser.until(".state", |text| text == "running").await;

    // A change is planned with what it does to nodes, and applied.
    browser.go(&daemon, "#/flows/mine/edit").await;
    browser.until(".back", |text| text.contains("10/s")).await;
    browser.write(&makes_up(20, "id")).await;
    browser.until(".verdict", |text| text == "It checks.").await;
    browser.press("Plan").await;
    browser
        .until(".plan tbody tr", |text| text.contains("rows") && text.contains("changed") && text.contains("rate"))
        .await;
    browser.find("#message").await.send_keys("twice as fast").await.unwrap();
    browser.judge("plan").await;
    browser.press("Apply").await;
    browser.until("p.facts", |text| text.starts_with("revision 2 ")).await;
    browser.go(&daemon, "#/flows/mine?tab=revisions").await;
    browser.until("tbody tr", |text| text.contains("twice as fast") && text.contains("ada")).await;
    browser.press("What changed").await;
    browser.until(".changes .plus", |text| text.contains("20/s")).await;
    browser.judge("revisions").await;

    // It stops, and starts again.
    browser.press("Stop").await;
    browser.until(".state", |text| text == "stopped").await;
    browser.press("Start").await;
    browser.until(".state", |text| text == "running").await;

    browser.go(&daemon, "#/system").await;
    browser.until("main", |text| text.contains("apply") && text.contains("ada")).await;
    browser.judge("system").await;
    assert_eq!(browser.strayed().await, json!([]));
    browser.client.close().await.unwrap();
    daemon.stop();
}

#[tokio::test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
async fn rows_are_mended_checkpoints_seen_flows_drained_and_models_promoted() {
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
    let browser = Browser::open(&site, false).await;
    browser.log_in(&daemon).await;
    browser.find("tbody a").await;

    // A failed row says why; mended, it counts, and says who has sent it.
    browser.go(&daemon, "#/flows/m?tab=failed").await;
    browser.until(".rows li", |text| text.contains("same") && text.contains("{\"id\":0}")).await;
    browser.press("Mend …").await;
    let field = browser.find("dialog textarea").await;
    let all = format!("{}a{}{}", char::from(Key::Control), char::from(Key::Null), char::from(Key::Delete));
    field.send_keys(&all).await.unwrap();
    field.send_keys("{\"id\": 8}").await.unwrap();
    browser.judge("mend").await;
    browser.press("Keep, to be replayed").await;
    browser.press("Replay").await;
    browser.until(".lone", |text| text.contains("No failed row waits")).await;
    wait_for_rows(&site.workshop, "m", 2);
    browser.find("select[aria-label='Which rows']").await.select_by_label("also replayed").await.unwrap();
    browser.until(".rows li", |text| text.contains("mended and replayed into mended by ada")).await;
    browser.judge("failed").await;

    // Checkpoints say why they were taken, and what they have of each node.
    browser.go(&daemon, "#/flows/m?tab=checkpoints").await;
    browser.press("Checkpoint").await;
    browser.until("tbody tr", |text| text.contains("asked for")).await;
    // The table is drawn anew now and then.
    browser.client.execute("document.querySelector('tbody button').click()", Vec::new()).await.unwrap();
    browser.until(".diff", |text| text.contains("node by node") && text.contains("mended")).await;
    browser.judge("checkpoints").await;
    browser.press("Drain").await;
    browser.until(".state", |text| text == "stopped").await;

    browser.go(&daemon, "#/models/lateness").await;
    browser.press("Promote …").await;
    browser.until("dialog", |text| text.contains("in place of version 1")).await;
    browser.judge("promote").await;
    browser.press("Promote").await;
    browser.until("#notes", |text| text.contains("lateness@champion is now version")).await;

    browser.go(&daemon, "#/system").await;
    browser.until("main", |text| text.contains("MILLSTREAM__ADMIN__RATE") && text.contains("stop_within")).await;
    browser.judge("settings").await;
    assert_eq!(browser.strayed().await, json!([]));
    browser.client.close().await.unwrap();
    daemon.stop();
}

#[tokio::test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
async fn many_tabs_work_and_what_was_seen_stays_when_the_daemon_goes() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let browser = Browser::open(&site, false).await;
    browser.log_in(&daemon).await;
    browser.find("tbody a").await;

    // A browser opens six connections to a daemon, and each tab holds one while it is looked at.
    for _ in 0..7 {
        let tab = browser.client.new_window(true).await.unwrap();
        browser.client.switch_to_window(tab.handle).await.unwrap();
        browser.go(&daemon, "#/flows/made_up").await;
        browser.until("[data-node=doubled] .sub", |text| text.ends_with(" /s")).await;
    }

    daemon.stop();
    browser.until("#contact", |text| text.contains("does not answer")).await;
    browser.until("tbody tr", |text| text.contains("doubled")).await;
    browser.client.close().await.unwrap();
}

#[tokio::test]
#[ignore = "its browser is large; `tests/run` installs it where it can"]
async fn it_is_used_on_a_phone_and_in_the_dark() {
    let Some(site) = Site::new() else { return };
    let daemon = Daemon::start(&site.workshop);
    let browser = Browser::open(&site, true).await;
    browser.log_in(&daemon).await;
    browser.find("tbody a").await;
    for theme in ["light", "dark"] {
        browser
            .client
            .execute("localStorage.setItem('millstream-theme', arguments[0])", vec![json!(theme)])
            .await
            .unwrap();
        browser.client.refresh().await.unwrap();
        browser.until("tbody tr", |text| text.contains(" /s")).await;
        browser.judge(&format!("phone-{theme}-flows")).await;
        browser.click("tbody a[href='#/flows/made_up']").await;
        browser.until("[data-node=doubled] .sub", |text| text.ends_with(" /s")).await;
        browser.judge(&format!("phone-{theme}-flow")).await;
        // The graph runs downwards.
        let place = "return ['rows', 'doubled'].map((name) => document.querySelector(`[data-node=${name}]`).getBoundingClientRect().top)";
        let tops = browser.client.execute(place, Vec::new()).await.unwrap();
        assert!(tops[0].as_f64() < tops[1].as_f64(), "{tops}");
        browser.go(&daemon, "#/flows").await;
    }
    browser.client.close().await.unwrap();
    daemon.stop();
}
