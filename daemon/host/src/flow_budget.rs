//! What one flow may take of memory and disk. A flow that takes more reads nothing until it takes less; where that does not help against
//! what it takes of memory, it is started again from its checkpoint, and then fails. The others go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_engine::stats::FlowStats;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::hold::Reason;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Inputs go on when so much of what the flow may take is taken.
const RELIEF: f64 = 0.9;

/// What a flow may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// How long inputs are held for memory before the flow is started again.
    pub patience: Duration,
}

/// What a flow takes, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowUsage {
    /// Bytes of memory: rows that wait on edges, and the states of nodes as the last checkpoint has them.
    pub memory: u64,
    /// Bytes of the files in its folders.
    pub disk: u64,
}

/// What becomes of a flow by what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Fine,
    /// Its inputs are held.
    Hold(Reason),
    /// It is started again from its checkpoint.
    Restart(String),
    /// It fails.
    Fail(String),
}

/// Sees to it that a flow keeps to what it may take.
#[derive(Debug, Default)]
pub struct FlowBudget {
    /// Whether inputs are held for memory, and since when.
    over_memory: Option<Instant>,
    /// Whether inputs are held for disk.
    over_disk: bool,
    /// Whether it was started again since it last took less than it may.
    was_restarted: bool,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self { memory: None, disk: None, patience: Duration::from_secs(60) }
    }
}

impl FlowLimits {
    fn are_none(&self) -> bool {
        self.memory.is_none() && self.disk.is_none()
    }
}

impl FlowBudget {
    /// A run has begun, in which nothing is held yet.
    pub fn begin(&mut self) {
        (self.over_memory, self.over_disk) = (None, false);
    }

    /// Forgets what was: what runs from now on is something else.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The flow takes so much now.
    pub fn look(&mut self, limits: &FlowLimits, usage: FlowUsage, now: Instant) -> Verdict {
        let is_over = |taken: u64, limit: Option<u64>, was_over: bool| {
            let relief = if was_over { RELIEF } else { 1.0 };
            limit.is_some_and(|limit| taken as f64 > limit as f64 * relief)
        };
        self.over_disk = is_over(usage.disk, limits.disk, self.over_disk);
        if !is_over(usage.memory, limits.memory, self.over_memory.is_some()) {
            (self.over_memory, self.was_restarted) = (None, false);
            let why = || over("files", usage.disk, limits.disk, "limits.disk").into();
            return if self.over_disk { Verdict::Hold(why()) } else { Verdict::Fine };
        }
        let since = *self.over_memory.get_or_insert(now);
        let why = over("memory", usage.memory, limits.memory, "limits.memory");
        match () {
            () if now.duration_since(since) < limits.patience => Verdict::Hold(why.into()),
            () if !std::mem::replace(&mut self.was_restarted, true) => Verdict::Restart(why),
            () => Verdict::Fail(why),
        }
    }
}

fn over(what: &str, taken: u64, limit: Option<u64>, setting: &str) -> String {
    let [taken, limit] = [taken, limit.unwrap_or_default()].map(|bytes| bytes as f64 / f64::from(1 << 20));
    format!("the flow takes {taken:.1} MiB of {what}, and may take {limit:.1} MiB (`{setting}`)")
}

/// Looks again and again what a flow takes, for as long as somebody wants to know it. It never changes where nothing limits it.
pub fn watch_usage(stats: Arc<FlowStats>, folders: Vec<PathBuf>, limits: &FlowLimits) -> watch::Receiver<FlowUsage> {
    let (sender, receiver) = watch::channel(FlowUsage::default());
    let limits = *limits;
    tokio::spawn(async move {
        if limits.are_none() {
            return sender.closed().await;
        }
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !sender.is_closed() {
            ticks.tick().await;
            let folders = if limits.disk.is_some() { folders.clone() } else { Vec::new() };
            // A disk that is away may keep its caller.
            let disk = spawn_blocking(move || folders.iter().map(|folder| bytes_in(folder)).sum()).await;
            sender.send_replace(FlowUsage { memory: stats.memory(), disk: disk.unwrap_or_default() });
        }
    });
    receiver
}

/// How many bytes the files of a folder have. Those that vanish meanwhile have none.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LIMITS: FlowLimits =
        FlowLimits { memory: Some(100 << 20), disk: Some(10 << 20), patience: Duration::from_secs(60) };

    fn usage(memory_mib: u64, disk_mib: u64) -> FlowUsage {
        FlowUsage { memory: memory_mib << 20, disk: disk_mib << 20 }
    }

    #[test]
    fn inputs_are_held_until_clearly_less_is_taken() {
        let (mut budget, now) = (FlowBudget::default(), Instant::now());
        let mut held = |usage| matches!(budget.look(&LIMITS, usage, now), Verdict::Hold(_));
        let seen =
            [usage(100, 10), usage(101, 1), usage(95, 1), usage(90, 1), usage(95, 1), usage(1, 11), usage(1, 10)];
        assert_eq!(seen.map(&mut held), [false, true, true, false, false, true, true]);
        assert!(!held(usage(1, 9)));
    }

    #[test]
    fn a_flow_that_stays_over_its_memory_is_started_again_and_then_fails() {
        let (mut budget, begin) = (FlowBudget::default(), Instant::now());
        let mut look = |mib, seconds| budget.look(&LIMITS, usage(mib, 20), begin + Duration::from_secs(seconds));
        let why = "the flow takes 120.0 MiB of memory, and may take 100.0 MiB (`limits.memory`)";
        assert_eq!(look(120, 0), Verdict::Hold(why.into()));
        assert_eq!(look(120, 59), Verdict::Hold(why.into()));
        assert_eq!(look(120, 60), Verdict::Restart(why.into()));
        budget.begin();
        let mut look = |mib, seconds| budget.look(&LIMITS, usage(mib, 0), begin + Duration::from_secs(seconds));
        assert!(matches!(look(120, 70), Verdict::Hold(_)));
        assert_eq!(look(120, 130), Verdict::Fail(why.into()));
        assert_eq!(look(80, 131), Verdict::Fine);
        assert!(matches!(look(120, 132), Verdict::Hold(_)));
        assert!(matches!(look(120, 192), Verdict::Restart(_)), "it had taken less meanwhile");
    }

    #[test]
    fn all_files_of_a_folder_count() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for (file, bytes) in [("one", 10), ("a/two", 20), ("a/b/three", 30)] {
            std::fs::write(folder.path().join(file), vec![0; bytes]).unwrap();
        }
        assert_eq!(bytes_in(folder.path()), 60);
        assert_eq!(bytes_in(Path::new("/not/there")), 0);
    }
}
