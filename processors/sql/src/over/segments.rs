//! What the remembered rows feed the features with, in segments of rows that came one after the other.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use millstream_core::Result;

use crate::accumulate::aggregate::Arguments;

/// The segments. Rows are numbered in the order in which they came. A clone shares what they hold.
#[derive(Clone, Default)]
pub struct Segments {
    list: VecDeque<Segment>,
    /// The number of the row that comes next.
    end: u64,
    live: usize,
    /// Segments of which most is forgotten, by one of their rows.
    sparse: BTreeSet<u64>,
}

#[derive(Clone)]
struct Segment {
    rows: Numbers,
    /// Which of them are remembered.
    is_live: Vec<bool>,
    live: usize,
    /// One for each feature.
    arguments: Arc<[Arguments]>,
}

/// The numbers of the rows that a segment holds, in their order.
#[derive(Clone)]
enum Numbers {
    Run(Range<u64>),
    Listed(Arc<[u64]>),
}

/// How many rows a segment has before another one is begun.
pub const SEGMENT_ROWS: usize = 8192;

impl Segments {
    /// How many rows are remembered.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Adds what rows are fed with: the number of the first one. None is remembered yet.
    pub fn push(&mut self, arguments: Vec<Arguments>, rows: usize) -> Result<u64> {
        let start = self.end;
        if rows == 0 && !self.list.is_empty() {
            return Ok(start);
        }
        self.end += rows as u64;
        let added = Segment {
            rows: Numbers::Run(start..self.end),
            is_live: vec![false; rows],
            live: 0,
            arguments: arguments.into(),
        };
        self.list.push_back(added);
        self.join_before(self.list.len())?;
        Ok(start)
    }

    /// Joins the last of so many segments with those before it while these are small. Small ones are joined when about as much
    /// has come again, so that a row is copied only a few times.
    fn join_before(&mut self, until: usize) -> Result<()> {
        let (mut from, mut all) = (until - 1, self.list[until - 1].rows.len());
        while from > 0 {
            let before = self.list[from - 1].rows.len();
            if before > 2 * all || before + all > SEGMENT_ROWS {
                break;
            }
            (from, all) = (from - 1, all + before);
        }
        if from + 1 == until {
            return Ok(());
        }
        let joined = join(self.list.range(from..until))?;
        self.list.drain(from..until);
        self.list.insert(from, joined);
        Ok(())
    }

    /// Remembers a row that was added.
    pub fn remember(&mut self, row: u64) {
        let (segment, place) = self.place(row);
        let segment = &mut self.list[segment];
        segment.is_live[place] = true;
        segment.live += 1;
        self.live += 1;
    }

    /// Forgets a row that is remembered. What it holds stays for now.
    pub fn forget(&mut self, row: u64) {
        let (segment, place) = self.place(row);
        let segment = &mut self.list[segment];
        segment.is_live[place] = false;
        segment.live -= 1;
        self.live -= 1;
        if 2 * segment.live < segment.rows.len() {
            self.sparse.insert(segment.rows.first());
        }
    }

    /// Where a row lies: a segment, and a row in that.
    fn place(&self, row: u64) -> (usize, usize) {
        let segment = self.segment(row);
        (segment, self.list[segment].rows.place(row))
    }

    fn segment(&self, row: u64) -> usize {
        self.list.partition_point(|segment| segment.rows.first() <= row).saturating_sub(1)
    }

    /// Where rows lie: segments, and rows in these.
    pub fn find(&self, rows: impl Iterator<Item = u64>) -> Vec<(usize, usize)> {
        let (mut at, mut within) = (0, 0..0);
        let place = |row| {
            // The next one lies mostly in the same segment.
            if !within.contains(&row) {
                at = self.segment(row);
                within = self.list[at].rows.first()..self.list[at].rows.end();
            }
            (at, self.list[at].rows.place(row))
        };
        rows.map(place).collect()
    }

    /// What a feature is fed with at some places.
    pub fn gather(&self, feature: usize, places: &[(usize, usize)]) -> Result<Arguments> {
        let arguments: Vec<&Arguments> = self.list.iter().map(|segment| &segment.arguments[feature]).collect();
        Arguments::gather(&arguments, places)
    }

    /// What all features are fed with at some places.
    pub fn gather_all(&self, places: &[(usize, usize)]) -> Result<Vec<Arguments>> {
        let features = self.list.front().map_or(0, |segment| segment.arguments.len());
        (0..features).map(|feature| self.gather(feature, places)).collect()
    }

    /// Drops what is forgotten where that is most of a segment, so that each row is copied for one that is forgotten.
    pub fn tidy(&mut self) -> Result<()> {
        // Rows of the last one may never have been remembered.
        self.sparse.extend(self.list.back().map(|segment| segment.rows.first()));
        while let Some(first) = self.sparse.pop_first() {
            // Segments may have been joined since.
            let at = self.segment(first);
            let segment = &self.list[at];
            if 2 * segment.live >= segment.rows.len() || (segment.live == 0 && self.list.len() == 1) {
                continue;
            }
            match segment.live {
                0 => _ = self.list.remove(at),
                _ => {
                    self.list[at] = segment.thinned()?;
                    self.join_before(at + 1)?;
                }
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Only what is remembered.
    fn thinned(&self) -> Result<Self> {
        let mask = BooleanArray::from(self.is_live.clone());
        let arguments = self.arguments.iter().map(|arguments| arguments.filter(&mask)).collect::<Result<_>>()?;
        let rows = self.rows.iter().zip(&self.is_live).filter_map(|(row, is_live)| is_live.then_some(row)).collect();
        Ok(Self { rows: Numbers::Listed(rows), is_live: vec![true; self.live], live: self.live, arguments })
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => (run.end - run.start) as usize,
            Self::Listed(listed) => listed.len(),
        }
    }

    fn first(&self) -> u64 {
        match self {
            Self::Run(run) => run.start,
            Self::Listed(listed) => listed.first().copied().unwrap_or_default(),
        }
    }

    /// One more than the last.
    fn end(&self) -> u64 {
        match self {
            Self::Run(run) => run.end,
            Self::Listed(listed) => listed.last().map_or(0, |last| last + 1),
        }
    }

    /// The place of one of them.
    fn place(&self, row: u64) -> usize {
        match self {
            Self::Run(run) => (row - run.start) as usize,
            Self::Listed(listed) => listed.partition_point(|held| *held < row),
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::Run(run) => Box::new(run.clone()),
            Self::Listed(listed) => Box::new(listed.iter().copied()),
        }
    }

    fn join<'a>(several: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let (mut start, mut end, mut rows) = (None, 0, 0);
        for numbers in several.clone() {
            (start, end, rows) = (start.or(Some(numbers.first())), numbers.end(), rows + numbers.len() as u64);
        }
        let all = start.unwrap_or_default()..end;
        if all.end.saturating_sub(all.start) == rows {
            Self::Run(all)
        } else {
            Self::Listed(several.flat_map(Self::iter).collect())
        }
    }
}

/// Several segments as one.
fn join<'a>(several: impl Iterator<Item = &'a Segment> + Clone) -> Result<Segment> {
    let features = several.clone().next().map_or(0, |segment| segment.arguments.len());
    let arguments = |feature: usize| {
        Arguments::concat(&several.clone().map(|segment| &segment.arguments[feature]).collect::<Vec<_>>())
    };
    Ok(Segment {
        rows: Numbers::join(several.clone().map(|segment| &segment.rows)),
        is_live: several.clone().flat_map(|segment| segment.is_live.iter().copied()).collect(),
        live: several.clone().map(|segment| segment.live).sum(),
        arguments: (0..features).map(arguments).collect::<Result<_>>()?,
    })
}
