//! Metrics of this process.

use millstream_host::{MemoryLimit, Process};

use super::Samples;
use super::table::{BUILD, CPU, MEMORY, MEMORY_LIMIT, OPEN_FILES, THREADS};

pub(super) fn collect(samples: &mut Samples) {
    samples.add(&BUILD, [env!("CARGO_PKG_VERSION")], 1.0);
    samples.add(&MEMORY_LIMIT, [], MemoryLimit::find().total_bytes as f64);
    // What the kernel does not say is left out.
    let Ok(process) = Process::look() else { return };
    samples.add(&MEMORY, [], process.resident_bytes as f64);
    samples.add(&CPU, [], process.cpu.as_secs_f64());
    samples.add(&OPEN_FILES, [], process.open_files as f64);
    samples.add(&THREADS, [], process.threads as f64);
}
