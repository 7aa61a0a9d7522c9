//! The list of all nodes.

use millstream_core::Registry;

/// All nodes of this build.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    millstream_connectors::register(&mut registry);
    millstream_processors::register(&mut registry);
    millstream_sql::register(&mut registry);
    millstream_learn::register(&mut registry);
    registry
}
