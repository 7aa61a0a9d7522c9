//! Serves models of a registry over the protocols that inference clients speak. It knows no flow, and neither tokens nor sockets: a program
//! that serves gives it requests, and says who may do what.
//!
//! * [`Repository`]: the models that are served, by name. It follows the aliases of the registry.
//! * [`Served`]: a version of a model, which answers requests.
//! * [`RequestLog`]: what was predicted, and the labels that are sent for it, for flows that learn from it by the input `served`.
//! * [`Batcher`]: computes what comes at the same time together, and gives everybody their own.
//! * [`rest`]: the table of routes, by protocol. gRPC is among them, since it is `POST` over HTTP/2.
//!
//! A request is answered by one version from its beginning to its end, whatever an alias is set to meanwhile.

mod batcher;
mod cells;
mod datatype;
mod exact;
mod grpc;
mod input;
mod refusal;
mod repository;
mod request_log;
pub mod rest;
mod served;
mod statistics;
mod tensor;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod trial;

use millstream_core::NodeTypes;

pub use batcher::{BatchLimits, Batched, Batcher, Predict};
pub use datatype::Datatype;
pub use input::ServedInput;
pub use refusal::{Reason, Refusal};
pub use repository::{ModelState, Repository};
pub use request_log::{Ids, Learned, LogLimits, RequestLog};
pub use served::{Output, Served};
pub use statistics::{Duration, Figures};
pub use tensor::Tensor;
pub use trial::{Trial, Trials};

/// Adds the node that reads the log of requests to the list of those that there are.
pub fn register(registry: &mut NodeTypes) {
    registry.input::<ServedInput>();
}
