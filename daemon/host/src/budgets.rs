//! What there is of memory and disk, and what happens when little is left: nearly no disk holds the inputs of all flows until there is more, and
//! where it is full, the ballast is given up, so that what must be written still can be.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{Result, ResultExt as _};
use tokio::time::{MissedTickBehavior, interval};

use crate::ballast::Ballast;
use crate::host::Host;
use crate::process::Process;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// The share of the memory that there is which the process may take.
const MEMORY_SHARE: f64 = 0.7;

const GIB: u64 = 1 << 30;

/// Little disk, of which is warned.
const LITTLE: Threshold = Threshold { share: 0.10, bytes: 2 * GIB };

/// Nearly no disk, which holds inputs.
const NEARLY_NONE: Threshold = Threshold { share: 0.05, bytes: GIB / 2 };

/// No disk to speak of, which takes the ballast.
const NONE: Threshold = Threshold { share: 0.01, bytes: 64 << 20 };

/// Inputs go on when there is so much more than what has held them.
const RELIEF: f64 = 1.5;

/// The space of the disk that a folder is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// The folder.
    pub folder: PathBuf,
    /// How many bytes this user can still write.
    pub free_bytes: u64,
    /// How many it has.
    pub total_bytes: u64,
}

/// The memory that the process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// What there is: the limit of the control group, or else of the machine.
    pub total_bytes: u64,
    /// What of that the process should not exceed.
    pub budget_bytes: u64,
}

/// How much disk there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskLevel {
    /// Enough.
    Enough,
    /// So little that somebody should see to it.
    Little,
    /// So little that inputs are held.
    NearlyNone,
}

/// There is less than this share and fewer than so many bytes. Both: a share alone would hold a large disk with room for months, and bytes
/// alone would hold a small one for ever.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    share: f64,
    bytes: u64,
}

impl Threshold {
    /// How many bytes have to be free.
    fn of(self, total: u64) -> u64 {
        self.bytes.min((total as f64 * self.share) as u64)
    }
}

impl DiskSpace {
    /// As it is now.
    ///
    /// # Errors
    /// If the folder can't be looked at.
    pub fn of(folder: &Path) -> Result<Self> {
        let looking = || format!("looking how much disk is left for `{}`", folder.display());
        let found = rustix::fs::statvfs(folder).map_err(std::io::Error::from).doing(looking)?;
        Ok(Self {
            folder: folder.to_owned(),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Whether nothing is left.
    fn is_full(&self) -> bool {
        self.free_bytes < NONE.of(self.total_bytes)
    }

    /// The same disk, of which so much is not to be used.
    fn without(self, bytes: u64) -> Self {
        Self { free_bytes: self.free_bytes.saturating_sub(bytes), ..self }
    }

    /// How much that is, where it was `before`: inputs that are held go on only when there is a good deal more.
    pub fn level(&self, before: DiskLevel) -> DiskLevel {
        let least = NEARLY_NONE.of(self.total_bytes);
        let relieved = (least as f64 * RELIEF) as u64;
        let held_below = if before == DiskLevel::NearlyNone { relieved } else { least };
        if self.free_bytes < held_below {
            DiskLevel::NearlyNone
        } else if self.free_bytes < LITTLE.of(self.total_bytes) {
            DiskLevel::Little
        } else {
            DiskLevel::Enough
        }
    }
}

impl fmt::Display for DiskSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [free, total] = [self.free_bytes, self.total_bytes].map(|bytes| bytes as f64 / GIB as f64);
        write!(f, "{free:.1} of {total:.1} GiB of the disk with `{}` are free", self.folder.display())
    }
}

impl MemoryLimit {
    /// As the control group of this process says it, or those that it is in, or else as large as the machine's memory. None
    /// if nobody says it.
    pub fn find() -> Option<Self> {
        let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of_group = group_of(&group).and_then(|group| limit_of(Path::new("/sys/fs/cgroup"), group));
        of_group.into_iter().chain(memory_of_machine()).min().map(Self::of)
    }

    fn of(total_bytes: u64) -> Self {
        Self { total_bytes, budget_bytes: (total_bytes as f64 * MEMORY_SHARE) as u64 }
    }
}

/// The memory of the machine. Services that see nothing of `/proc` but themselves find it where its parts are described.
fn memory_of_machine() -> Option<u64> {
    let whole = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_in(&text));
    let parts = || {
        let nodes = std::fs::read_dir("/sys/devices/system/node").ok()?.flatten();
        let texts = nodes.filter_map(|node| std::fs::read_to_string(node.path().join("meminfo")).ok());
        Some(texts.filter_map(|text| memory_in(&text)).sum()).filter(|bytes| *bytes > 0)
    };
    whole.or_else(parts)
}

/// The bytes of the line `MemTotal: 1024 kB`, which has words before it where it is that of a part.
fn memory_in(text: &str) -> Option<u64> {
    let (_, number) = text.lines().find_map(|line| line.split_once("MemTotal:"))?;
    number.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The control group of version 2 in a list of the kernel's.
fn group_of(list: &str) -> Option<&str> {
    list.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The least limit of a group and those that it is in. None if there is none.
fn limit_of(root: &Path, group: &str) -> Option<u64> {
    let folder = root.join(group);
    let groups = folder.ancestors().take_while(|folder| folder.starts_with(root));
    // `max` is no number, and no limit.
    groups.filter_map(|group| std::fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()).min()
}

/// Sees to it that flows don't fill the disk with a folder, for as long as it is polled: holds their inputs when it is nearly full, and lets
/// them go on when there is more. Gives up the ballast when it is full, and takes it again when there is room. Warns where the process takes
/// more memory than its share.
pub async fn keep_budgets(folder: PathBuf, ballast: Ballast, host: &Host) -> Infallible {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ballast = Arc::new(ballast);
    let mut keeper = Keeper { host, disk: DiskLevel::Enough, is_over: false, limit: MemoryLimit::find() };
    loop {
        ticks.tick().await;
        let (folder, ballast) = (folder.clone(), ballast.clone());
        // A disk that is away may keep its caller.
        let look = tokio::task::spawn_blocking(move || (look_at_disk(&folder, &ballast), Process::look()));
        let Ok((space, process)) = look.await else { continue };
        match space {
            Ok((space, lacking)) => {
                keeper.see_disk(&space.clone().without(lacking));
                host.note_disk(space);
            }
            Err(error) => tracing::warn!(%error, "the disk can't be watched"),
        }
        if let Ok(process) = process {
            keeper.see_memory(process.resident_bytes);
        }
    }
}

/// How much disk there is, and how much of that the ballast is to have, which it has not.
fn look_at_disk(folder: &Path, ballast: &Ballast) -> Result<(DiskSpace, u64)> {
    let space = DiskSpace::of(folder)?;
    let is_there = ballast.is_there();
    if is_there && space.is_full() {
        ballast.give_up()?;
        tracing::error!("{space}: the ballast is given up, so that checkpoints and logs can still be written");
        return Ok((DiskSpace::of(folder)?, ballast.bytes()));
    }
    let with_ballast = space.clone().without(ballast.bytes());
    if !is_there && ballast.bytes() > 0 && with_ballast.level(DiskLevel::NearlyNone) != DiskLevel::NearlyNone {
        ballast.take()?;
        return Ok((DiskSpace::of(folder)?, 0));
    }
    Ok((space, if is_there { 0 } else { ballast.bytes() }))
}

/// What has been seen so far.
struct Keeper<'a> {
    host: &'a Host,
    disk: DiskLevel,
    /// Whether more memory is taken than there should be.
    is_over: bool,
    limit: Option<MemoryLimit>,
}

impl Keeper<'_> {
    fn see_disk(&mut self, space: &DiskSpace) {
        let level = space.level(self.disk);
        let before = std::mem::replace(&mut self.disk, level);
        match (before, self.disk) {
            (before, now) if before == now => {}
            (_, DiskLevel::NearlyNone) => {
                tracing::error!("{space}: the inputs of all flows pause until there is more");
                self.host.hold(Some(format!("the disk is nearly full: {space}").into()));
            }
            (before, now) => {
                match now {
                    DiskLevel::Enough => tracing::info!("{space}: that is enough"),
                    _ => tracing::warn!("{space}: that is little"),
                }
                if before == DiskLevel::NearlyNone {
                    tracing::info!("the inputs of all flows go on");
                    self.host.hold(None);
                }
            }
        }
    }

    /// Warned is once, until it has become clearly less.
    fn see_memory(&mut self, bytes: u64) {
        let Some(MemoryLimit { budget_bytes: budget, .. }) = self.limit else { return };
        if bytes > budget && !self.is_over {
            let [taken, budget] = [bytes, budget].map(|bytes| bytes >> 20);
            tracing::warn!("the process takes {taken} MiB of memory, and should not take more than {budget} MiB");
        }
        self.is_over = bytes > budget || (self.is_over && bytes > budget / 10 * 9);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use DiskLevel::{Enough, Little, NearlyNone};

    use super::*;

    fn space(free_mib: u64, total_gib: u64) -> DiskSpace {
        DiskSpace { folder: "/data".into(), free_bytes: free_mib << 20, total_bytes: total_gib * GIB }
    }

    #[test]
    fn inputs_go_on_only_when_there_is_a_good_deal_more() {
        let mut level = Enough;
        for (free, expected) in [
            (4000, Enough),
            (2000, Little),
            (511, NearlyNone),
            (600, NearlyNone),
            (769, Little),
            (600, Little),
            (2048, Enough),
        ] {
            level = space(free, 1000).level(level);
            assert_eq!(level, expected, "{free} MiB");
        }
    }

    #[test]
    fn what_is_little_depends_on_the_size_of_a_small_disk() {
        let levels = [150, 80, 40].map(|free| space(free, 1).level(Enough));
        assert_eq!(levels, [Enough, Little, NearlyNone]);
    }

    #[test]
    fn the_disk_of_a_folder_is_seen() {
        let seen = DiskSpace::of(Path::new("/")).unwrap();
        assert!(seen.free_bytes <= seen.total_bytes && seen.total_bytes > 0, "{seen:?}");
        let error = DiskSpace::of(Path::new("/not/there")).unwrap_err().to_string();
        assert!(error.starts_with("looking how much disk is left for `/not/there`: "), "{error}");
        assert_eq!(space(512, 10).to_string(), "0.5 of 10.0 GiB of the disk with `/data` are free");
    }

    #[test]
    fn the_least_limit_of_the_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("system.slice/millstream.service");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        std::fs::write(folder.path().join("system.slice/memory.max"), "1000\n").unwrap();
        let group = group_of("1:name=x:/old\n0::/system.slice/millstream.service\n").unwrap();
        assert_eq!(limit_of(folder.path(), group), Some(1000));
        std::fs::write(inner.join("memory.max"), "900\n").unwrap();
        assert_eq!(limit_of(folder.path(), group), Some(900));
        assert_eq!(limit_of(folder.path(), "other"), None);
        assert_eq!(MemoryLimit::of(900).budget_bytes, 630);
        assert_eq!(memory_in("Node 0 MemTotal:       2048 kB\nNode 0 MemFree: 1 kB\n"), Some(2 << 20));
        let found = MemoryLimit::find().unwrap();
        assert!(found.budget_bytes > 0 && found.budget_bytes < found.total_bytes, "{found:?}");
    }
}
