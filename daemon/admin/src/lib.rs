//! The administration of a daemon over REST. It knows the host and its flows, and neither nodes nor SQL.

pub mod logs;
pub mod metrics;
pub mod security;
