//! What this process takes of the machine, as the kernel says it.

use std::time::Duration;

use millstream_core::{Error, Result, ResultExt as _};

/// What this process takes of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// Memory that it holds in RAM.
    pub resident_bytes: u64,
    /// How long processors have worked for it.
    pub cpu: Duration,
    /// Its threads.
    pub threads: u64,
    /// Files, connections and the like that it has open.
    pub open_files: u64,
}

/// How many ticks the kernel counts a second, for programs: on Linux the same on every machine that there is today.
const TICKS: f64 = 100.0;

impl Process {
    /// As it is now. Only files below `/proc/self` are read, which services see as well that see nothing else of `/proc`.
    ///
    /// # Errors
    /// If the kernel doesn't say it.
    pub fn look() -> Result<Self> {
        let looking = || "asking what this process takes";
        let stat = std::fs::read_to_string("/proc/self/stat").doing(looking)?;
        let status = std::fs::read_to_string("/proc/self/status").doing(looking)?;
        let open_files = std::fs::read_dir("/proc/self/fd").doing(looking)?.count() as u64;
        let parsed = Self::parse(&stat, &status, open_files);
        parsed.ok_or_else(|| Error::new("`/proc/self/stat` and `/proc/self/status` are not what they are on Linux"))
    }

    /// From the texts of the kernel. The name of the program, in parentheses, may have anything in it.
    fn parse(stat: &str, status: &str, open_files: u64) -> Option<Self> {
        let (_, behind_name) = stat.rsplit_once(')')?;
        // By the numbers of `man 5 proc_pid_stat`, where the first behind the name is 3.
        let time = |number: usize| behind_name.split_ascii_whitespace().nth(number - 3)?.parse::<f64>().ok();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            resident_bytes: value("VmRSS")? * 1024,
            cpu: Duration::from_secs_f64((time(14)? + time(15)?) / TICKS),
            threads: value("Threads")?,
            open_files,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let seen = Process::look().unwrap();
        assert!(seen.resident_bytes > 1 << 20 && seen.threads >= 1 && seen.open_files >= 3, "{seen:?}");
    }

    #[test]
    fn the_name_may_have_anything_in_it() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 150 0 0 0 250 150 0 0 20 0 9 0 100";
        let status = "Name:\ta) b (c)\nVmRSS:\t    12 kB\nThreads:\t9\n";
        let expected = Process { resident_bytes: 12 * 1024, cpu: Duration::from_secs(4), threads: 9, open_files: 5 };
        assert_eq!(Process::parse(stat, status, 5), Some(expected));
        assert_eq!(Process::parse("7 (a) S", status, 5), None);
    }
}
