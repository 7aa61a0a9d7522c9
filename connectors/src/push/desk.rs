//! Where those wait who have sent rows, until the flow has answered them.
//!
//! What was taken is a record of rows at positions that nothing else has ([`Ack`](super::Ack)), and an answer names the position of the row that it
//! is for. So it finds who waits for it whatever way it took: with others in a batch, past others, once, several times or not at all.
//! A request is answered when each of its rows is. Of rows that the flow has dropped, or of which there may be several answers, that is known
//! behind the next barrier, which nothing overtakes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millstream_core::Epoch;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

/// How much memory answers take that are kept for those who ask once more.
const KEPT: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// How much memory an answer takes besides its text, about.
const OVERHEAD: usize = 100;

/// How many answers a row gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replies {
    /// One, of which the first counts, or null where the flow has dropped or refused the row. A request is answered as soon as all of its rows are.
    #[default]
    One,
    /// A list of any length. A request is answered at the barrier behind its rows: only then it is known that no more follow.
    Many,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The flow took longer.
    Late,
    /// It was there, and is no longer kept.
    Gone,
    /// The flow does not run any more.
    Closed,
}

/// Where those wait who have sent rows to one input.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Mutex<Requests>>);

#[derive(Debug, Default)]
struct Requests {
    is_open: bool,
    replies: Replies,
    /// The flow has been given the rows before. What was sent before and does not wait has been answered.
    read: u64,
    /// By the positions of their first rows.
    waiting: BTreeMap<u64, Request>,
    /// The latest answers.
    answered: BTreeMap<u64, Arc<str>>,
    /// How much memory these take.
    bytes: usize,
    /// How far the input had come at barriers that the answers have not come to.
    barriers: VecDeque<(Epoch, u64)>,
    /// How many requests have been answered.
    total: u64,
}

/// A request that has not been answered as a whole.
#[derive(Debug)]
struct Request {
    /// Row by row; several of them with commas between.
    answers: Vec<String>,
    /// How many rows have none.
    missing: usize,
    tell: watch::Sender<Option<Arc<str>>>,
}

impl Desk {
    /// That of an input of a flow, which is the same for all in this process who ask.
    pub fn of(flow: &str, input: &str) -> Self {
        static DESKS: LazyLock<Mutex<HashMap<String, Weak<Mutex<Requests>>>>> = LazyLock::new(Mutex::default);
        let mut desks = DESKS.lock().unwrap_or_else(PoisonError::into_inner);
        desks.retain(|_, desk| desk.strong_count() > 0);
        let name = format!("{flow}/{input}");
        if let Some(desk) = desks.get(&name).and_then(Weak::upgrade) {
            return Self(desk);
        }
        let desk = Self::default();
        desks.insert(name, Arc::downgrade(&desk.0));
        desk
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The input begins to take rows, and to give the flow those from `position` on.
    pub(crate) fn open(&self, replies: Replies, position: u64) {
        *self.lock() = Requests { is_open: true, replies, read: position, ..Requests::default() };
    }

    /// Nobody answers any more.
    pub fn close(&self) {
        let mut requests = self.lock();
        *requests = Requests { total: requests.total, ..Requests::default() };
    }

    /// The input gives the flow so many rows, all that were sent at once.
    pub(super) fn read(&self, first: u64, rows: usize) {
        let mut requests = self.lock();
        // Where rows are gone through again, nobody waits.
        if !requests.is_open {
            return;
        }
        requests.read = requests.read.max(first + rows as u64);
        requests.waiting.entry(first).or_insert_with(|| Request::new(rows));
    }

    /// The input ends an epoch behind the rows before `position`.
    pub(super) fn barrier(&self, epoch: Epoch, position: u64) {
        let mut requests = self.lock();
        if requests.is_open {
            requests.barriers.push_back((epoch, position));
        }
    }

    /// Gives answers, each a text of JSON, to the rows at these positions. Those for whom nobody waits are forgotten.
    pub fn give<'a>(&self, answers: impl Iterator<Item = (u64, &'a str)>) {
        let mut requests = self.lock();
        answers.for_each(|(position, answer)| requests.give(position, answer));
    }

    /// All answers that the rows of an epoch get have been given.
    pub fn pass(&self, epoch: Epoch) {
        self.lock().pass(epoch);
    }

    /// What the flow has answered to rows that were sent at once: a list in JSON, with an element for each of them. One that may be asked for
    /// once more is kept for a while.
    ///
    /// # Errors
    /// If there is no answer within a time.
    pub async fn answer(&self, first: u64, rows: u32, is_kept: bool, within: Duration) -> Result<Arc<str>, NoAnswer> {
        let asked = self.lock().ask(first, rows)?;
        let answered = match asked {
            Asked::Answered(answered) => answered,
            Asked::Waiting(receiver) => {
                let mut waiter = Waiter { desk: self, first, receiver };
                let answered = timeout(within, waiter.receiver.wait_for(Option::is_some)).await;
                let answered = answered.map_err(|_| NoAnswer::Late)?.map_err(|_| NoAnswer::Closed)?;
                answered.clone().ok_or(NoAnswer::Closed)?
            }
        };
        if !is_kept {
            self.lock().forget(first);
        }
        Ok(answered)
    }

    /// How many requests wait, and how many have been answered.
    pub fn counts(&self) -> (usize, u64) {
        let requests = self.lock();
        let is_waiting = |request: &&Request| request.tell.receiver_count() > 0;
        (requests.waiting.values().filter(is_waiting).count(), requests.total)
    }
}

/// What somebody finds who asks for an answer.
enum Asked {
    Answered(Arc<str>),
    Waiting(watch::Receiver<Option<Arc<str>>>),
}

impl Requests {
    fn ask(&mut self, first: u64, rows: u32) -> Result<Asked, NoAnswer> {
        if let Some(answered) = self.answered.get(&first) {
            return Ok(Asked::Answered(answered.clone()));
        }
        if !self.is_open {
            return Err(NoAnswer::Closed);
        }
        if first < self.read && !self.waiting.contains_key(&first) {
            return Err(NoAnswer::Gone);
        }
        let request = self.waiting.entry(first).or_insert_with(|| Request::new(rows as usize));
        Ok(Asked::Waiting(request.tell.subscribe()))
    }

    fn give(&mut self, position: u64, answer: &str) {
        let Some((&first, request)) = self.waiting.range_mut(..=position).next_back() else { return };
        let Some(answers) = request.answers.get_mut((position - first) as usize) else { return };
        if answers.is_empty() {
            request.missing -= 1;
        } else if self.replies == Replies::Many {
            answers.push(',');
        } else {
            return;
        }
        answers.push_str(answer);
        if self.replies == Replies::One && request.missing == 0 {
            self.complete(first);
        }
    }

    fn pass(&mut self, epoch: Epoch) {
        let mut position = 0;
        while let Some((_, passed)) = self.barriers.pop_front_if(|(barrier, _)| *barrier <= epoch) {
            position = passed;
        }
        let is_over = |(first, request): &(&u64, &Request)| *first + request.answers.len() as u64 <= position;
        let over: Vec<u64> = self.waiting.range(..position).filter(is_over).map(|(first, _)| *first).collect();
        over.into_iter().for_each(|first| self.complete(first));
    }

    /// Answers a request with what there is for it.
    fn complete(&mut self, first: u64) {
        let Some(request) = self.waiting.remove(&first) else { return };
        let answered: Arc<str> = request.text(self.replies).into();
        request.tell.send_replace(Some(answered.clone()));
        self.bytes += cost(&answered);
        self.answered.insert(first, answered);
        self.total += 1;
        while self.bytes > KEPT
            && let Some((_, oldest)) = self.answered.pop_first()
        {
            self.bytes -= cost(&oldest);
        }
    }

    fn forget(&mut self, first: u64) {
        if let Some(answered) = self.answered.remove(&first) {
            self.bytes -= cost(&answered);
        }
    }
}

impl Request {
    fn new(rows: usize) -> Self {
        Self { answers: vec![String::new(); rows], missing: rows, tell: watch::Sender::new(None) }
    }

    /// All answers as JSON.
    fn text(&self, replies: Replies) -> String {
        let text = |answers: &String| match replies {
            Replies::Many => format!("[{answers}]"),
            Replies::One if answers.is_empty() => "null".to_owned(),
            Replies::One => answers.clone(),
        };
        format!("[{}]", self.answers.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

fn cost(answered: &str) -> usize {
    answered.len() + OVERHEAD
}

/// Somebody who waits.
struct Waiter<'a> {
    desk: &'a Desk,
    first: u64,
    receiver: watch::Receiver<Option<Arc<str>>>,
}

impl Drop for Waiter<'_> {
    /// Who goes before the flow has got to the rows need not be remembered, however many wait in the log.
    fn drop(&mut self) {
        let mut requests = self.desk.lock();
        if self.first >= requests.read
            && requests.waiting.get(&self.first).is_some_and(|request| request.tell.receiver_count() == 1)
        {
            requests.waiting.remove(&self.first);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn desk(replies: Replies) -> Desk {
        let desk = Desk::default();
        desk.open(replies, 0);
        desk
    }

    #[tokio::test]
    async fn whoever_comes_first_the_answer_or_the_one_who_waits() {
        let desk = desk(Replies::One);
        let mut early = pin!(desk.answer(0, 2, false, LONG));
        assert!(poll!(early.as_mut()).is_pending());
        desk.read(0, 2);
        desk.read(2, 1);
        desk.give([(1, "1"), (2, "2"), (1, "no second one"), (0, "0"), (7, "nobody's")].into_iter());
        assert_eq!(&*early.await.unwrap(), "[0,1]");
        assert_eq!(&*desk.answer(2, 1, false, LONG).await.unwrap(), "[2]");
        assert_eq!(desk.counts(), (0, 2));
        assert_eq!(desk.answer(2, 1, true, LONG).await, Err(NoAnswer::Gone), "it has been taken");
    }

    #[tokio::test]
    async fn a_barrier_answers_for_rows_that_nothing_comes_of() {
        let desk = desk(Replies::One);
        desk.read(0, 3);
        desk.read(3, 2);
        desk.barrier(Epoch(1), 4);
        desk.barrier(Epoch(2), 5);
        desk.give([(1, "1")].into_iter());
        desk.pass(Epoch(0));
        let mut first = pin!(desk.answer(0, 3, false, LONG));
        let mut second = pin!(desk.answer(3, 2, false, LONG));
        assert!(poll!(first.as_mut()).is_pending());
        desk.pass(Epoch(1));
        assert_eq!(&*first.await.unwrap(), "[null,1,null]");
        assert!(poll!(second.as_mut()).is_pending(), "one of its rows lies behind the barrier");
        desk.pass(Epoch(2));
        assert_eq!(&*second.await.unwrap(), "[null,null]");
    }

    #[tokio::test]
    async fn many_answers_are_all_there_at_the_barrier() {
        let desk = desk(Replies::Many);
        desk.read(0, 2);
        desk.give([(0, "1"), (0, "2")].into_iter());
        let mut answer = pin!(desk.answer(0, 2, false, LONG));
        assert!(poll!(answer.as_mut()).is_pending());
        desk.barrier(Epoch(1), 2);
        desk.pass(Epoch(1));
        assert_eq!(&*answer.await.unwrap(), "[[1,2],[]]");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_told_why() {
        let desk = desk(Replies::One);
        assert_eq!(desk.answer(0, 1, false, LONG).await, Err(NoAnswer::Late));
        assert_eq!(desk.lock().waiting.len(), 0, "who has gone is not remembered");
        let mut answer = pin!(desk.answer(0, 1, false, LONG));
        assert!(poll!(answer.as_mut()).is_pending());
        desk.close();
        assert_eq!(answer.await, Err(NoAnswer::Closed));
        assert_eq!(desk.answer(0, 1, false, LONG).await, Err(NoAnswer::Closed));
        desk.open(Replies::One, 5);
        assert_eq!(desk.answer(0, 1, false, LONG).await, Err(NoAnswer::Gone), "a run before has answered it");
    }

    #[tokio::test]
    async fn answers_are_kept_for_those_who_ask_again_as_long_as_there_is_room() {
        let desk = desk(Replies::One);
        for first in 0..20 {
            desk.read(first, 1);
            desk.give([(first, "1")].into_iter());
            assert_eq!(&*desk.answer(first, 1, true, LONG).await.unwrap(), "[1]");
            assert_eq!(&*desk.answer(first, 1, true, LONG).await.unwrap(), "[1]");
        }
        assert_eq!(desk.answer(0, 1, true, LONG).await, Err(NoAnswer::Gone));
        assert!(desk.lock().bytes <= KEPT && desk.lock().answered.len() == KEPT / cost("[1]"));
    }

    #[test]
    fn the_desk_of_an_input_is_one() {
        let [one, same, other] = ["a", "a", "b"].map(|input| Desk::of("desk", input));
        assert!(Arc::ptr_eq(&one.0, &same.0) && !Arc::ptr_eq(&one.0, &other.0));
    }
}
