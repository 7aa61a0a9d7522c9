//! Who asks, and what they may do.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What somebody may do; each may do what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks: at flows, models, operations and logs.
    Viewer,
    /// Starts, stops and changes flows, promotes models, replays rows.
    Operator,
    /// Makes and revokes tokens, reads the audit log, changes the daemon.
    Admin,
}

impl Role {
    /// All, from the one that may do least.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name, as settings and requests say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| format!("`{text}` is no role; there are `viewer`, `operator` and `admin`"))
    }
}

/// The flows that somebody has to do with, as patterns of their names: `fraud_*`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct FlowPatterns(Vec<Pattern>);

impl FlowPatterns {
    /// All flows.
    pub fn all() -> Self {
        Self(Pattern::new("*").into_iter().collect())
    }

    /// Whether they are all flows, also those that come later.
    pub fn are_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.as_str() == "*")
    }

    /// Whether a flow is among them.
    pub fn contain(&self, flow: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(flow))
    }
}

impl TryFrom<Vec<String>> for FlowPatterns {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let pattern = |text: String| match Pattern::new(&text) {
            Ok(_) if text.is_empty() => Err("a pattern is empty; `*` is all flows".to_owned()),
            Ok(pattern) => Ok(pattern),
            Err(error) => Err(format!("`{text}` is no pattern of names such as `fraud_*`: {error}")),
        };
        Ok(Self(texts.into_iter().map(pattern).collect::<Result<_, _>>()?))
    }
}

impl From<FlowPatterns> for Vec<String> {
    fn from(patterns: FlowPatterns) -> Self {
        patterns.0.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }
}

impl fmt::Debug for FlowPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Pattern::as_str)).finish()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// By what they are known: the name of a token, that of a certificate, `uid 1000`.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// The flows that they may do it with.
    pub flows: FlowPatterns,
    /// The token that they have shown, or that their session was opened with.
    pub token: Option<Arc<str>>,
}

impl Principal {
    /// Whether they may do what takes a role: to a flow, or to what is no flow. Whoever has to do with some flows only may look at what
    /// is no flow, and never change it: with a token that they make they could do everything.
    pub fn may(&self, role: Role, flow: Option<&str>) -> bool {
        let concerned = match flow {
            Some(flow) => self.flows.contain(flow),
            None => role == Role::Viewer || self.flows.are_all(),
        };
        self.role >= role && concerned
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Result<FlowPatterns, String> {
        texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into()
    }

    fn somebody(role: Role, flows: &[&str]) -> Principal {
        Principal { name: "ci".into(), role, flows: patterns(flows).unwrap(), token: None }
    }

    #[test]
    fn each_role_may_do_what_those_before_may() {
        for (has, takes) in Role::ALL.into_iter().flat_map(|has| Role::ALL.map(|takes| (has, takes))) {
            assert_eq!(somebody(has, &["*"]).may(takes, Some("a")), has as u8 >= takes as u8, "{has} {takes}");
        }
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert!("root".parse::<Role>().unwrap_err().contains("`viewer`, `operator` and `admin`"));
    }

    #[test]
    fn with_some_flows_others_are_out_of_reach_and_the_daemon_is_only_looked_at() {
        let admin = somebody(Role::Admin, &["fraud_*", "trial"]);
        assert!(admin.may(Role::Operator, Some("fraud_eu")) && admin.may(Role::Admin, Some("trial")));
        assert!(!admin.may(Role::Viewer, Some("trials")) && !admin.may(Role::Viewer, Some("fraud")));
        assert!(admin.may(Role::Viewer, None));
        assert!(!admin.may(Role::Operator, None) && !admin.may(Role::Admin, None));
        assert!(!somebody(Role::Admin, &[]).may(Role::Viewer, Some("a")), "no pattern is no flow");
    }

    #[test]
    fn patterns_are_checked_and_written_as_they_were() {
        assert!(patterns(&["a["]).unwrap_err().contains("`a[` is no pattern of names such as `fraud_*`"));
        assert!(patterns(&[""]).unwrap_err().contains("`*` is all flows"));
        let read: FlowPatterns = serde_json::from_str("[\"fraud_*\"]").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "[\"fraud_*\"]");
        assert!(FlowPatterns::all().are_all() && !read.are_all());
    }
}
