//! How often nodes were built and opened.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

static OPENED: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

/// The node of a flow is opened; a processor, which opens nothing, is built.
pub fn note(flow: &str, node: &str) {
    *OPENED.lock().unwrap().entry(format!("{flow}/{node}")).or_default() += 1;
}

/// How often that was so.
pub fn opened(flow: &str, node: &str) -> usize {
    OPENED.lock().unwrap().get(&format!("{flow}/{node}")).copied().unwrap_or_default()
}

/// Forgets it of other flows.
pub fn retain(is_wanted: impl Fn(&str) -> bool) {
    OPENED.lock().unwrap().retain(|node, _| is_wanted(node));
}
