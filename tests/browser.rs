//! A browser that tests drive, by the protocol WebDriver of the W3C over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use millstream_testkit::Services;
use serde_json::{Value, json};

use crate::daemons::PATIENCE;

/// Under this name the protocol hands over an element of a page.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The keys that have no character.
pub mod key {
    /// Lets go of all keys that are held.
    pub const NULL: char = '\u{e000}';
    pub const ENTER: char = '\u{e007}';
    pub const CONTROL: char = '\u{e009}';
    pub const RIGHT: char = '\u{e014}';
    pub const DELETE: char = '\u{e017}';
}

/// An open browser. It is closed when this is dropped.
pub struct Browser {
    /// The address of the driver, such as `127.0.0.1:9515`.
    driver: String,
    /// The path of the session.
    session: String,
}

/// An element of the page that is shown.
pub struct Element<'a> {
    browser: &'a Browser,
    path: String,
}

impl Browser {
    /// Opens Chromium with this size of a window. Where an element or a script is asked for, it waits for it.
    pub fn open(services: &Services, phone: bool) -> Self {
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1440,1000"];
        let mut options = json!({ "binary": services.get("CHROMIUM"), "args": arguments });
        if phone {
            options["mobileEmulation"] = json!({ "deviceMetrics": { "width": 390, "height": 844, "pixelRatio": 2.0 } });
        }
        let patience = PATIENCE.as_millis() as u64;
        let capabilities = json!({
            "goog:chromeOptions": options,
            "timeouts": { "implicit": patience, "script": patience, "pageLoad": patience },
        });
        let driver = services.get("CHROMIUM_DRIVER");
        let mut browser = Self { driver: driver.strip_prefix("http://").unwrap().to_owned(), session: String::new() };
        let opened = browser.post("/session", &json!({ "capabilities": { "alwaysMatch": capabilities } }));
        browser.session = format!("/session/{}", opened["sessionId"].as_str().unwrap());
        browser
    }

    /// Goes to an address.
    pub fn go(&self, address: &str) {
        self.order("/url", &json!({ "url": address }));
    }

    pub fn refresh(&self) {
        self.order("/refresh", &json!({}));
    }

    /// Opens a tab, and goes on in it.
    pub fn open_tab(&self) {
        let tab = self.order("/window/new", &json!({ "type": "tab" }));
        self.order("/window", &json!({ "handle": tab["handle"] }));
    }

    /// The first element that a selector of CSS finds.
    pub fn find(&self, css: &str) -> Element<'_> {
        self.element(&self.order("/element", &json!({ "using": "css selector", "value": css })))
    }

    /// The button that is called so.
    pub fn button(&self, name: &str) -> Element<'_> {
        let path = format!("//button[normalize-space()='{name}']");
        self.element(&self.order("/element", &json!({ "using": "xpath", "value": path })))
    }

    /// The element that has the focus.
    pub fn focused(&self) -> Element<'_> {
        self.element(&self.get(&format!("{}/element/active", self.session)))
    }

    /// What a function with this body returns.
    pub fn execute(&self, body: &str, arguments: &[Value]) -> Value {
        self.order("/execute/sync", &json!({ "script": body, "args": arguments }))
    }

    /// What a function with this body gives to its last argument, which it is to call.
    pub fn execute_async(&self, body: &str) -> Value {
        self.order("/execute/async", &json!({ "script": body, "args": [] }))
    }

    /// How much memory the script of the page takes once what it needs no more is gone, in bytes.
    pub fn heap(&self) -> u64 {
        let ask = |command: &str| self.order("/goog/cdp/execute", &json!({ "cmd": command, "params": {} }));
        ask("HeapProfiler.collectGarbage");
        ask("Runtime.getHeapUsage")["usedSize"].as_u64().unwrap()
    }

    /// What is seen, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.get(&format!("{}/screenshot", self.session));
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    fn element(&self, found: &Value) -> Element<'_> {
        let id = found[ELEMENT].as_str().unwrap();
        Element { browser: self, path: format!("/element/{id}") }
    }

    /// Orders something of the session.
    fn order(&self, path: &str, body: &Value) -> Value {
        self.post(&format!("{}{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        value(self.ask("POST", path, &body.to_string()), body)
    }

    fn get(&self, path: &str) -> Value {
        value(self.ask("GET", path, ""), &json!(path))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.driver).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        let (driver, length) = (&self.driver, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {driver}\r\ncontent-type: application/json\r\n");
        write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
        // The driver keeps the connection, so that the answer ends where its length says.
        let mut answer = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            line.trim_end().to_ascii_lowercase()
        };
        let status = line().split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        for field in std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty())) {
            if let Some(said) = field.strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
        }
        let mut bytes = vec![0; length];
        answer.read_exact(&mut bytes).unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }
}

/// The value of an answer to what was asked.
fn value((status, mut body): (u16, Value), asked: &Value) -> Value {
    assert_eq!(status, 200, "{asked:#}: {:#}", body["value"]["message"]);
    body["value"].take()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.ask("DELETE", &self.session, "");
        }
    }
}

impl Element<'_> {
    fn click(&self) {
        assert!(self.try_click(), "it is no longer on the page");
    }

    /// Whether it was still on the page to be clicked.
    pub fn try_click(&self) -> bool {
        let path = format!("{}{}/click", self.browser.session, self.path);
        let (status, body) = self.browser.ask("POST", &path, "{}");
        if body["value"]["error"] == "stale element reference" {
            return false;
        }
        value((status, body), &json!(path));
        true
    }

    /// Types a text, in which keys without a character may be.
    pub fn type_in(&self, text: &str) {
        self.browser.order(&format!("{}/value", self.path), &json!({ "text": text }));
    }

    /// Types a text in place of what is there.
    pub fn rewrite(&self, text: &str) {
        self.type_in(&format!("{}a{}{}", key::CONTROL, key::NULL, key::DELETE));
        self.type_in(text);
    }

    /// Chooses what a list calls so.
    pub fn choose(&self, label: &str) {
        let option = json!({ "using": "xpath", "value": format!(".//option[normalize-space()='{label}']") });
        self.browser.element(&self.browser.order(&format!("{}/element", self.path), &option)).click();
    }

    pub fn attribute(&self, name: &str) -> Value {
        self.browser.get(&format!("{}{}/attribute/{name}", self.browser.session, self.path))
    }
}
