//! Metrics of this process, and of what it has of the machine.

use millstream_host::{Host, MemoryLimit, Process};

use super::Samples;
use super::table::{BUILD, CPU, DISK_FREE, DISK_TOTAL, MEMORY, MEMORY_LIMIT, OPEN_FILES, THREADS};

pub(super) fn collect(samples: &mut Samples) {
    samples.add(&BUILD, [env!("CARGO_PKG_VERSION")], 1.0);
    if let Some(limit) = MemoryLimit::find() {
        samples.add(&MEMORY_LIMIT, [], limit.total_bytes as f64);
    }
    // What the kernel does not say is left out.
    let Ok(process) = Process::look() else { return };
    samples.add(&MEMORY, [], process.resident_bytes as f64);
    samples.add(&CPU, [], process.cpu.as_secs_f64());
    samples.add(&OPEN_FILES, [], process.open_files as f64);
    samples.add(&THREADS, [], process.threads as f64);
}

/// Of the disk with the data.
pub(super) fn collect_disk(host: &Host, samples: &mut Samples) {
    if let Some(space) = host.disk() {
        let folder = space.folder.display().to_string();
        samples.add(&DISK_FREE, [&folder], space.free_bytes as f64);
        samples.add(&DISK_TOTAL, [&folder], space.total_bytes as f64);
    }
}
