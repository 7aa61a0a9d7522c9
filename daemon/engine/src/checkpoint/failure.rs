//! What keeps a flow from taking or settling a checkpoint.

use millstream_core::Error;

use crate::plan::NodeIndex;

/// What has gone wrong.
#[derive(Debug)]
pub struct Failure {
    /// The node that it has gone wrong at. None if it is the state of the flow as a whole that can't be read or written.
    pub node: Option<NodeIndex>,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// Of a node.
    pub fn of(node: NodeIndex) -> impl Fn(Error) -> Self {
        move |error| Self { node: Some(node), error }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { node: None, error }
    }
}
