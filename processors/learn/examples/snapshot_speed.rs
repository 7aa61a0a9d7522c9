//! How long a flow waits for the state of a network of 50 MiB (weights, and two numbers that AdamW remembers of each), and
//! how long it then takes to turn it into bytes, which nobody waits for. Prints JSON, in milliseconds.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]

use std::error::Error;
use std::time::Instant;

use millstream_core::{Collector, Epoch, Processor, ProcessorSettings};
use millstream_learn::TrainSettings;
use millstream_testkit::{batch, context, parse, stream, table};
use serde_json::json;

const SETTINGS: &str = "
    model = 'large'
    features = ['a', 'b']
    label = 'y'
    publish = { rows = 1 }
    [estimator]
    type = 'network'
    layers = [{ dense = 2090 }, { dense = 2090 }]
    optimizer = { type = 'adamw' }
    batch_rows = 2
";

fn main() -> Result<(), Box<dyn Error>> {
    let settings: TrainSettings = parse(SETTINGS);
    let rows = table("a:float64 b:float64 y:boolean\n1 2 true\n2 1 false\n3 5 true\n5 4 false");
    let build = || -> Result<Box<dyn Processor>, Box<dyn Error>> {
        let plan =
            settings.plan(&context(), &[stream("from", rows.schema())]).map_err(|problems| format!("{problems:?}"))?;
        Ok((plan.build)()?)
    };
    let mut trainer = build()?;
    let mut out = Collector::new(2);
    for round in 0..5 {
        trainer.process(0, batch(rows.clone()), &mut out)?;
        let (barrier, ()) = timed(|| trainer.barrier(Epoch(round), &mut out))?;
        out.take(1).for_each(drop);
        let (snapshot, kept) = timed(|| trainer.snapshot())?;
        let (staged, _) = timed(|| kept.staged.into_state())?;
        let (bytes, state) = timed(|| kept.state.into_state())?;
        let (report, _) = timed(|| Ok(trainer.report()))?;
        let size: usize = state.parts().map(|(_, bytes)| bytes.len()).sum();
        let mut resumed = build()?;
        let (restore, ()) = timed(|| resumed.restore(&state))?;
        println!(
            "{}",
            json!({ "bytes": size, "barrier with a version": barrier, "snapshot": snapshot, "staged into bytes": staged,
                "state into bytes": bytes, "report": report, "restore": restore })
        );
    }
    Ok(())
}

/// The milliseconds that some work takes.
fn timed<T>(work: impl FnOnce() -> millstream_core::Result<T>) -> millstream_core::Result<(f64, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, done))
}
