//! The list of all nodes.

use millstream_core::NodeTypes;

/// All nodes of this build.
pub fn registry() -> NodeTypes {
    let mut registry = NodeTypes::default();
    millstream_connectors::register(&mut registry);
    #[cfg(feature = "git")]
    millstream_git::register(&mut registry);
    #[cfg(feature = "http")]
    millstream_http::register(&mut registry);
    #[cfg(feature = "kafka")]
    millstream_kafka::register(&mut registry);
    #[cfg(feature = "mqtt")]
    millstream_mqtt::register(&mut registry);
    #[cfg(feature = "mysql")]
    millstream_mysql::register(&mut registry);
    #[cfg(feature = "nats")]
    millstream_nats::register(&mut registry);
    #[cfg(feature = "postgres")]
    millstream_postgres::register(&mut registry);
    #[cfg(feature = "syslog")]
    millstream_syslog::register(&mut registry);
    #[cfg(feature = "objects")]
    millstream_objects::register(&mut registry);
    #[cfg(feature = "delta")]
    millstream_delta::register(&mut registry);
    #[cfg(not(feature = "delta"))]
    registry.lacks("delta", "delta");
    millstream_processors::register(&mut registry);
    millstream_sql::register(&mut registry);
    millstream_learn::register(&mut registry);
    millstream_serve::register(&mut registry);
    registry
}
