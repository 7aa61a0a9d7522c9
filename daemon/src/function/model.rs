//! A model as a function: rows are predicted by it.

use std::sync::Arc;

use millstream_admin::serving::router_of_function;
use millstream_core::{Error, ResultExt as _};
use millstream_models::registry::ModelReference;
use millstream_serve::Repository;
use millstream_serve::rest::{Room, Serving};
use tokio::runtime::Builder;

use super::FunctionArguments;
use super::front::Front;
use crate::exit::{CommandError, Exit, Outcome};
use crate::interrupts::Interrupts;
use crate::{logging, serve};

/// Serves the model until it is told to end.
pub fn run(arguments: &FunctionArguments) -> Outcome {
    let mut settings = arguments.config.settings()?;
    if let Some(registry) = &arguments.registry {
        settings.models.clone_from(registry);
    }
    let reference = ModelReference::parse(&arguments.target).map_err(|error| CommandError::Usage(error.to_string()))?;
    logging::start(&settings.log, false);
    let runtime = Builder::new_multi_thread().thread_name("serve").enable_all().build();
    let runtime = runtime.doing(|| "starting the threads that serve")?;
    let mut interrupts = Interrupts::listen(&runtime);
    let serve = &settings.serve;
    let trials = serve.trials().map_err(|problem| Error::new(problem.to_string()))?;
    let repository =
        Repository::open(serve::registry(&settings)?, std::slice::from_ref(&reference), serve.batch.limits())?;
    let (max_body, room) = (serve.body.0, Room::new(serve.bodies.0));
    let serving = Arc::new(Serving { repository: repository.clone(), max_body, room, trials, log: None });
    let served = runtime.block_on(async {
        let front = Front::start(arguments, router_of_function(serving, reference.model)).await?;
        tokio::select! {
            never = repository.keep_fresh(serve.follow.0) => match never {},
            () = interrupts.next() => {}
        }
        front.leave(arguments, &mut interrupts).await;
        Ok(Exit::Done)
    });
    runtime.shutdown_background();
    served
}
