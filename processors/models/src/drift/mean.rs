//! The mean of the numbers so far.

use serde::{Deserialize, Serialize};

use super::Change;

/// The mean of the numbers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    pub count: f64,
    pub value: f64,
}

impl Mean {
    #[inline(always)]
    pub fn update(&mut self, value: f64) {
        self.count += 1.0;
        self.value += (value - self.value) / self.count;
    }

    /// The mean of an earlier time, and that of the numbers since then.
    pub fn change_since(&self, earlier: &Self) -> Change {
        let since = self.count - earlier.count;
        let after = (self.value * self.count - earlier.value * earlier.count) / since;
        Change { before: earlier.value, after: if since > 0.0 { after } else { self.value } }
    }
}
