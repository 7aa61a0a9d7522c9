//! What the remembered rows feed the features with, in segments of rows that came one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::Result;

use crate::accumulate::aggregate::Fed;

/// The segments. Rows are numbered in the order in which they came. A clone shares what they hold.
#[derive(Clone, Default)]
pub struct Segments {
    list: VecDeque<Segment>,
    /// The number of the row that comes next.
    end: u64,
    live: usize,
}

#[derive(Clone)]
struct Segment {
    /// The number of its first row.
    start: u64,
    rows: usize,
    /// How many of the rows are remembered.
    live: usize,
    /// One for each feature.
    fed: Arc<[Fed]>,
}

/// How many rows a segment has before another one is begun.
pub const SEGMENT_ROWS: usize = 8192;

impl Segments {
    /// How many rows are remembered.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Adds what rows are fed with: the number of the first one. None is remembered yet.
    pub fn push(&mut self, fed: Vec<Fed>, rows: usize) -> Result<u64> {
        let start = self.end;
        if rows == 0 && !self.list.is_empty() {
            return Ok(start);
        }
        // Small ones are joined when about as much has come again, so that a row is copied only a few times.
        let (mut from, mut all) = (self.list.len(), rows);
        while from > 0 && self.list[from - 1].rows <= 2 * all && self.list[from - 1].rows + all <= SEGMENT_ROWS {
            from -= 1;
            all += self.list[from].rows;
        }
        let joined: Vec<Segment> = self.list.drain(from..).collect();
        let fed = match &joined[..] {
            [] => fed.into(),
            _ => fed.iter().enumerate().map(|(feature, last)| join(&joined, feature, last)).collect::<Result<_>>()?,
        };
        let first = joined.first().map_or(start, |segment| segment.start);
        let live = joined.iter().map(|segment| segment.live).sum();
        self.list.push_back(Segment { start: first, rows: all, live, fed });
        self.end += rows as u64;
        Ok(start)
    }

    /// Remembers one of the rows that were added last.
    pub fn remember(&mut self) {
        if let Some(last) = self.list.back_mut() {
            last.live += 1;
            self.live += 1;
        }
    }

    /// Forgets a row. What it holds stays for now.
    pub fn forget(&mut self, row: u64) {
        let at = self.segment(row);
        self.list[at].live -= 1;
        self.live -= 1;
    }

    fn segment(&self, row: u64) -> usize {
        self.list.partition_point(|segment| segment.start <= row) - 1
    }

    /// Where rows lie: segments, and rows in these.
    pub fn find(&self, rows: impl Iterator<Item = u64>) -> Vec<(usize, usize)> {
        let (mut at, mut within) = (0, 0..0);
        let place = |row| {
            // The next one lies mostly in the same segment.
            if !within.contains(&row) {
                at = self.segment(row);
                let segment = &self.list[at];
                within = segment.start..segment.start + segment.rows as u64;
            }
            (at, (row - within.start) as usize)
        };
        rows.map(place).collect()
    }

    /// What a feature is fed with at some places.
    pub fn gather(&self, feature: usize, places: &[(usize, usize)]) -> Result<Fed> {
        let fed: Vec<&Fed> = self.list.iter().map(|segment| &segment.fed[feature]).collect();
        Fed::gather(&fed, places)
    }

    /// What all features are fed with at some places.
    pub fn gather_all(&self, places: &[(usize, usize)]) -> Result<Vec<Fed>> {
        let features = self.list.front().map_or(0, |segment| segment.fed.len());
        (0..features).map(|feature| self.gather(feature, places)).collect()
    }

    /// Drops segments at the front of which nothing is left.
    pub fn drop_forgotten(&mut self) {
        while self.list.len() > 1 && self.list.front().is_some_and(|segment| segment.live == 0) {
            self.list.pop_front();
        }
    }

    /// Whether most of what they hold is forgotten.
    pub fn are_sparse(&self) -> bool {
        let rows: usize = self.list.iter().map(|segment| segment.rows).sum();
        rows > 2 * self.live + 4 * SEGMENT_ROWS
    }

    /// Puts those rows together that are remembered. They are numbered anew from 0.
    pub fn compact(&mut self, remembered: impl Iterator<Item = u64>) -> Result<()> {
        let places = self.find(remembered);
        let fed = self.gather_all(&places)?.into();
        let rows = places.len();
        (self.live, self.end) = (rows, rows as u64);
        self.list = VecDeque::from([Segment { start: 0, rows, live: rows, fed }]);
        Ok(())
    }
}

fn join(several: &[Segment], feature: usize, last: &Fed) -> Result<Fed> {
    let all: Vec<&Fed> = several.iter().map(|segment| &segment.fed[feature]).chain([last]).collect();
    Fed::concat(&all)
}
