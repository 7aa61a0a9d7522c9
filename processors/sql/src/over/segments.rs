//! What the remembered rows feed the features with, in segments of rows that came one after the other.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use millstream_core::Result;

use crate::accumulate::aggregate::Arguments;

/// The segments. Rows are numbered in the order in which they came.
#[derive(Default)]
pub struct Segments {
    list: VecDeque<Segment>,
    /// The number of the row that comes next.
    end: u64,
    live: usize,
    /// Segments of which most is forgotten, by one of their rows.
    sparse: BTreeSet<u64>,
}

struct Segment {
    held: Rows,
    /// The slots of the rows in the state, of those that are remembered.
    slots: Vec<u32>,
    live: usize,
}

/// What rows are arguments with.
#[derive(Clone)]
struct Rows {
    numbers: Numbers,
    /// One for each feature.
    arguments: Arc<[Arguments]>,
}

/// The slot of a row that is not remembered.
const NONE: u32 = u32::MAX;

/// What all segments of one moment hold, whatever becomes of them.
pub struct Held(Vec<Rows>);

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

    /// Adds what rows are arguments with: the number of the first one. None is remembered yet.
    pub fn push(&mut self, arguments: Vec<Arguments>, rows: usize) -> Result<u64> {
        let start = self.end;
        if rows == 0 && !self.list.is_empty() {
            return Ok(start);
        }
        self.end += rows as u64;
        self.add(arguments, Numbers::Run(start..self.end), rows)?;
        Ok(start)
    }

    /// The numbers that so many rows would have that come next.
    pub fn numbers_of_next(&self, rows: usize) -> Vec<u64> {
        (self.end..self.end + rows as u64).collect()
    }

    /// Adds what rows of these numbers are arguments with, if they ascend, and come behind those that there are.
    pub fn push_numbered(&mut self, arguments: Vec<Arguments>, numbers: &[u64]) -> Option<Result<()>> {
        let Some(last) = numbers.last() else { return Some(Ok(())) };
        if numbers[0] < self.end || !numbers.is_sorted_by(|one, next| one < next) {
            return None;
        }
        self.end = last.checked_add(1)?;
        Some(self.add(arguments, Numbers::Listed(numbers.into()), numbers.len()))
    }

    fn add(&mut self, arguments: Vec<Arguments>, numbers: Numbers, rows: usize) -> Result<()> {
        self.list.push_back(Segment {
            held: Rows { numbers, arguments: arguments.into() },
            slots: vec![NONE; rows],
            live: 0,
        });
        self.join_before(self.list.len())
    }

    /// Joins the last of so many segments with those before it while these are small. Small ones are joined when about as much
    /// has come again, so that a row is copied only a few times.
    fn join_before(&mut self, until: usize) -> Result<()> {
        let (mut from, mut all) = (until - 1, self.list[until - 1].held.numbers.len());
        while from > 0 {
            let before = self.list[from - 1].held.numbers.len();
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

    /// Remembers a row that was added, which has this slot in the state.
    pub fn remember(&mut self, row: u64, slot: u32) {
        let (segment, place) = self.place(row);
        let segment = &mut self.list[segment];
        segment.slots[place] = slot;
        segment.live += 1;
        self.live += 1;
    }

    /// Forgets a row that is remembered, and gives its slot. What it holds stays for now.
    pub fn forget(&mut self, row: u64) -> u32 {
        let (segment, place) = self.place(row);
        let segment = &mut self.list[segment];
        segment.live -= 1;
        self.live -= 1;
        if 2 * segment.live < segment.slots.len() {
            self.sparse.insert(segment.held.numbers.first());
        }
        std::mem::replace(&mut segment.slots[place], NONE)
    }

    /// Where a row lies: a segment, and a row in that.
    fn place(&self, row: u64) -> (usize, usize) {
        let segment = self.segment(row);
        (segment, self.list[segment].held.numbers.place(row))
    }

    fn segment(&self, row: u64) -> usize {
        self.list.partition_point(|segment| segment.held.numbers.first() <= row).saturating_sub(1)
    }

    /// Where rows lie: segments, and rows in these.
    pub fn find(&self, rows: impl Iterator<Item = u64>) -> Vec<(usize, usize)> {
        find(rows, |row| self.segment(row), |segment| &self.list[segment].held.numbers)
    }

    /// What a feature is arguments with at some places.
    pub fn gather(&self, feature: usize, places: &[(usize, usize)]) -> Result<Arguments> {
        let arguments: Vec<&Arguments> = self.list.iter().map(|segment| &segment.held.arguments[feature]).collect();
        Arguments::gather(&arguments, places)
    }

    /// What they hold now. Nothing is copied.
    pub fn held(&self) -> Held {
        Held(self.list.iter().map(|segment| segment.held.clone()).collect())
    }

    /// How many bytes a row is arguments with, about.
    pub fn row_bytes(&self) -> usize {
        let (mut bytes, mut rows) = (0, 0);
        for Rows { numbers, arguments } in self.list.iter().map(|segment| &segment.held) {
            rows += numbers.len();
            let of_values =
                |arguments: &Arguments| arguments.values().to_data().get_slice_memory_size().unwrap_or_default();
            bytes += arguments.iter().map(of_values).sum::<usize>();
        }
        bytes / rows.max(1)
    }

    /// Drops what is forgotten where that is most of a segment, so that each row is copied for one that is forgotten.
    pub fn tidy(&mut self) -> Result<()> {
        // Rows of the last one may never have been remembered.
        self.sparse.extend(self.list.back().map(|segment| segment.held.numbers.first()));
        while let Some(first) = self.sparse.pop_first() {
            // Segments may have been joined since.
            let at = self.segment(first);
            let segment = &self.list[at];
            if 2 * segment.live >= segment.slots.len() || (segment.live == 0 && self.list.len() == 1) {
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
        let mask: BooleanArray = self.slots.iter().map(|slot| Some(*slot != NONE)).collect();
        let arguments = self.held.arguments.iter().map(|arguments| arguments.filter(&mask)).collect::<Result<_>>()?;
        let live = self.held.numbers.iter().zip(&self.slots).filter(|(_, slot)| **slot != NONE);
        let (numbers, slots): (Vec<u64>, Vec<u32>) = live.unzip();
        Ok(Self { held: Rows { numbers: Numbers::Listed(numbers.into()), arguments }, slots, live: self.live })
    }
}

impl Held {
    /// Where rows lie: segments, and rows in these.
    pub fn find(&self, rows: impl Iterator<Item = u64>) -> Vec<(usize, usize)> {
        let segment = |row| self.0.partition_point(|held| held.numbers.first() <= row).saturating_sub(1);
        find(rows, segment, |segment| &self.0[segment].numbers)
    }

    /// What all features are arguments with at some places.
    pub fn gather_all(&self, places: &[(usize, usize)]) -> Result<Vec<Arguments>> {
        let gather = |feature: usize| {
            Arguments::gather(&self.0.iter().map(|held| &held.arguments[feature]).collect::<Vec<_>>(), places)
        };
        (0..self.0.first().map_or(0, |held| held.arguments.len())).map(gather).collect()
    }
}

/// Where rows lie: segments, and rows in these. `segment` finds that of a row, and `numbers` are those of the rows in one.
fn find<'a>(
    rows: impl Iterator<Item = u64>,
    segment: impl Fn(u64) -> usize,
    numbers: impl Fn(usize) -> &'a Numbers,
) -> Vec<(usize, usize)> {
    let (mut at, mut within) = (0, 0..0);
    let place = |row| {
        // The next one lies mostly in the same segment.
        if !within.contains(&row) {
            at = segment(row);
            within = numbers(at).first()..numbers(at).end();
        }
        (at, numbers(at).place(row))
    };
    rows.map(place).collect()
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
    let features = several.clone().next().map_or(0, |segment| segment.held.arguments.len());
    let arguments = |feature: usize| {
        Arguments::concat(&several.clone().map(|segment| &segment.held.arguments[feature]).collect::<Vec<_>>())
    };
    let numbers = Numbers::join(several.clone().map(|segment| &segment.held.numbers));
    Ok(Segment {
        held: Rows { numbers, arguments: (0..features).map(arguments).collect::<Result<_>>()? },
        slots: several.clone().flat_map(|segment| segment.slots.iter().copied()).collect(),
        live: several.map(|segment| segment.live).sum(),
    })
}
