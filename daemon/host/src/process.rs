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

impl Process {
    /// As it is now. Only files below `/proc/self` are read, which services see as well that see nothing else of `/proc`.
    ///
    /// # Errors
    /// If the kernel doesn't say it.
    pub fn look() -> Result<Self> {
        let looking = || "asking what this process takes";
        let stat = std::fs::read_to_string("/proc/self/stat").doing(looking)?;
        let open_files = std::fs::read_dir("/proc/self/fd").doing(looking)?.count() as u64;
        Self::parse(&stat, open_files).ok_or_else(|| Error::new("`/proc/self/stat` is not what it is on Linux"))
    }

    /// From the line of the kernel. The name of the program, in parentheses, may have anything in it.
    fn parse(stat: &str, open_files: u64) -> Option<Self> {
        let (_, behind_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind_name.split_ascii_whitespace().collect();
        // By the numbers of `man 5 proc_pid_stat`, where the first behind the name is 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)? + field(15)?;
        Some(Self {
            resident_bytes: field(24)? * rustix::param::page_size() as u64,
            cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            threads: field(20)?,
            open_files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_itself() {
        let seen = Process::look().unwrap();
        assert!(seen.resident_bytes > 1 << 20 && seen.threads >= 1 && seen.open_files >= 3, "{seen:?}");
    }

    #[test]
    fn the_name_may_have_anything_in_it() {
        let line = "7 (a) b (c)) S 1 7 7 0 -1 4194560 150 0 0 0 250 150 0 0 20 0 9 0 100 1000 3 18446744073709551615";
        let seen = Process::parse(line, 5).unwrap();
        assert_eq!((seen.threads, seen.open_files), (9, 5));
        assert_eq!(seen.resident_bytes, 3 * rustix::param::page_size() as u64);
        assert_eq!(seen.cpu, Duration::from_secs_f64(400.0 / rustix::param::clock_ticks_per_second() as f64));
        assert_eq!(Process::parse("7 (a) S", 0), None);
    }
}
