//! What a node spends its time with: it works, waits for rows, or waits for room behind it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It works. That includes what an output waits for at its target, and answers that a processor has asked for.
    Busy,
    /// It waits for rows.
    Waiting,
    /// It waits for room on the edges behind it.
    Blocked,
}

/// How long a node has done what, since its flow was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It has worked.
    pub busy: Duration,
    /// It has waited for rows.
    pub waiting: Duration,
    /// It has waited for room.
    pub blocked: Duration,
}

/// Measures what a node spends its time with. The node's task writes, anybody may read.
///
/// The time is looked at only where the task really waits: what is ready at once costs nothing. Each activity has one word: twice the
/// nanoseconds that it has lasted, or while it lasts, twice the nanoseconds before minus those of its beginning, and a bit that says so. So
/// a reader gets the whole of it at once, and what it reads never goes back.
#[derive(Debug)]
pub struct Clock {
    base: Instant,
    words: [AtomicU64; 3],
}

/// The bit of an activity that lasts.
const LASTS: u64 = 1;

impl Clock {
    /// A clock of a node that has not begun.
    pub fn new() -> Self {
        Self { base: Instant::now(), words: Default::default() }
    }

    /// The node's task: busy but for what it spends otherwise.
    pub async fn attend<T>(&self, task: impl Future<Output = T>) -> T {
        let _busy = Spell::begin(self, Activity::Busy);
        task.await
    }

    /// Waits for something; if it is not there at once, as that activity. Cancel safe if the future is.
    pub async fn spend<T>(&self, activity: Activity, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut pause = None;
        std::future::poll_fn(|context| {
            // What the future does when it is woken is work.
            pause = None;
            let polled = future.as_mut().poll(context);
            if polled.is_pending() && activity != Activity::Busy {
                pause = Pause::begin(self, activity);
            }
            polled
        })
        .await
    }

    /// What the node has spent its time with until now.
    pub fn times(&self) -> Times {
        let [busy, waiting, blocked] = [Activity::Busy, Activity::Waiting, Activity::Blocked].map(|one| self.read(one));
        Times { busy, waiting, blocked }
    }

    fn read(&self, activity: Activity) -> Duration {
        let word = &self.words[activity as usize];
        loop {
            let known = word.load(Ordering::Acquire);
            let now = if known & LASTS == 0 { 0 } else { self.now() };
            // What has ended meanwhile has its time in the word.
            if word.load(Ordering::Acquire) == known {
                return Duration::from_nanos((known & !LASTS).wrapping_add(now << 1) >> 1);
            }
        }
    }

    fn now(&self) -> u64 {
        Instant::now().saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Whether the activity did not last yet.
    fn begin(&self, activity: Activity, now: u64) -> bool {
        let word = &self.words[activity as usize];
        let known = word.load(Ordering::Relaxed);
        let begins = known & LASTS == 0;
        if begins {
            word.store(known.wrapping_sub(now << 1) | LASTS, Ordering::Release);
        }
        begins
    }

    /// Whether the activity has lasted.
    fn end(&self, activity: Activity, now: u64) -> bool {
        let word = &self.words[activity as usize];
        let known = word.load(Ordering::Relaxed);
        let ends = known & LASTS != 0;
        if ends {
            word.store((known & !LASTS).wrapping_add(now << 1), Ordering::Release);
        }
        ends
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// An activity that lasts until this is dropped.
struct Spell<'a> {
    clock: &'a Clock,
    activity: Activity,
}

impl<'a> Spell<'a> {
    fn begin(clock: &'a Clock, activity: Activity) -> Self {
        clock.begin(activity, clock.now());
        Self { clock, activity }
    }
}

impl Drop for Spell<'_> {
    fn drop(&mut self) {
        self.clock.end(self.activity, self.clock.now());
    }
}

/// An activity in which the node is not busy, until this is dropped.
struct Pause<'a> {
    clock: &'a Clock,
    activity: Activity,
}

impl<'a> Pause<'a> {
    /// None if the node is not busy: then it pauses already.
    fn begin(clock: &'a Clock, activity: Activity) -> Option<Self> {
        let now = clock.now();
        let was_busy = clock.end(Activity::Busy, now);
        // Only then may there be one, which makes the node busy when it is dropped.
        (was_busy && clock.begin(activity, now)).then(|| Self { clock, activity })
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        self.clock.end(self.activity, now);
        self.clock.begin(Activity::Busy, now);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::{advance, sleep};

    use super::*;

    fn times(busy: u64, waiting: u64, blocked: u64) -> Times {
        let [busy, waiting, blocked] = [busy, waiting, blocked].map(Duration::from_secs);
        Times { busy, waiting, blocked }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_busy_but_for_what_it_waits_for() {
        let clock = Clock::new();
        advance(Duration::from_secs(5)).await;
        clock
            .attend(async {
                assert_eq!(clock.spend(Activity::Waiting, ready(7)).await, 7);
                sleep(Duration::from_secs(1)).await;
                clock.spend(Activity::Waiting, sleep(Duration::from_secs(2))).await;
                clock.spend(Activity::Blocked, sleep(Duration::from_secs(3))).await;
                clock.spend(Activity::Busy, sleep(Duration::from_secs(4))).await;
            })
            .await;
        advance(Duration::from_secs(5)).await;
        assert_eq!(clock.times(), times(5, 2, 3));
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "what takes a while here is work, and no wait")]
    async fn what_is_done_between_two_waits_is_work() {
        let [worked, waited] = [20, 30].map(Duration::from_millis);
        let clock = Clock::new();
        let task = async {
            sleep(waited).await;
            std::thread::sleep(worked);
            sleep(waited).await;
        };
        clock.attend(clock.spend(Activity::Waiting, task)).await;
        let Times { busy, waiting, .. } = clock.times();
        assert!(busy >= worked && waiting >= waited, "{busy:?} {waiting:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_counts_until_now() {
        let clock = Clock::new();
        let look = async {
            sleep(Duration::from_secs(2)).await;
            clock.times()
        };
        let task = clock.attend(clock.spend(Activity::Blocked, std::future::pending::<()>()));
        tokio::select! {
            biased;
            () = task => {}
            seen = look => assert_eq!(seen, times(0, 0, 2)),
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(clock.times(), times(0, 0, 2), "the task was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_busy_again_and_what_lies_within_counts_once() {
        let clock = Clock::new();
        let wait = async { clock.spend(Activity::Blocked, sleep(Duration::from_secs(9))).await };
        let begin = Instant::now();
        clock
            .attend(async {
                tokio::select! {
                    () = clock.spend(Activity::Waiting, wait) => {}
                    () = sleep(Duration::from_secs(1)) => {}
                }
                sleep(Duration::from_secs(1)).await;
            })
            .await;
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
        assert_eq!(clock.times(), times(1, 0, 1), "the inner one came first");
    }
}
