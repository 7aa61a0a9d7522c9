//! Facts about the machine and the program that a bundle is put together by.

use std::num::NonZeroUsize;

/// What Linux tells, and what it is called in the bundle.
const FACTS: [(&str, &str); 8] = [
    ("kernel", "/proc/version"),
    ("distribution", "/etc/os-release"),
    ("memory", "/proc/meminfo"),
    ("load", "/proc/loadavg"),
    ("pressure_cpu", "/proc/pressure/cpu"),
    ("pressure_memory", "/proc/pressure/memory"),
    ("pressure_io", "/proc/pressure/io"),
    ("mounts", "/proc/self/mounts"),
];

/// The program.
pub fn program() -> String {
    let cores = std::thread::available_parallelism().map_or(0, NonZeroUsize::get);
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    let nodes: Vec<_> =
        crate::nodes::registry().kinds().iter().map(|kind| format!("{} {}", kind.role, kind.name)).collect();
    format!("millstream {version}\n{system} {processor}, {cores} cores\n\n{}\n", nodes.join("\n"))
}

/// The machine: what may be read of it.
pub fn facts() -> Vec<(&'static str, String)> {
    FACTS.into_iter().filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?))).collect()
}
