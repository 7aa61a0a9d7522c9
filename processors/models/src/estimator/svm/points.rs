//! The rows that a fit compares with each other, and the lines of their kernel's matrix that are kept.

use super::super::columns::{AT_ONCE, Columns};
use super::kernel::Kernel;
use crate::encode::Scratch;
use crate::simd::{self, Work};

/// Some of the rows that there are, by blocks of [`AT_ONCE`] places. What is behind the last row of a class in its last block is padding.
pub(super) struct Points<'a> {
    pub kernel: &'a Kernel,
    pub rows: &'a Columns,
    /// By block, its first place.
    pub blocks: Vec<usize>,
}

impl Points<'_> {
    /// How many there are, padding included.
    pub fn len(&self) -> usize {
        self.blocks.len() * AT_ONCE
    }

    /// The place of a point among the rows.
    fn place(&self, point: usize) -> usize {
        self.blocks[point / AT_ONCE] + point % AT_ONCE
    }

    /// By point, the kernel of it with itself.
    pub fn own(&self) -> Vec<f64> {
        let mut row = Scratch::default();
        let own = |point| {
            self.rows.read(self.place(point), &mut row);
            self.kernel.own(row.row())
        };
        (0..self.len()).map(own).collect()
    }
}

/// A line of the matrix: the kernel of a row with all points.
struct Line<'a> {
    points: &'a Points<'a>,
    row: &'a Scratch,
    into: &'a mut [f32],
}

impl Work for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Points { kernel, rows, blocks } = self.points;
        for (start, into) in blocks.iter().zip(self.into.as_chunks_mut::<AT_ONCE>().0) {
            let values = kernel.values(rows, self.row.row(), *start);
            into.iter_mut().zip(values).for_each(|(into, value)| *into = value as f32);
        }
    }
}

/// What stands for no line, and for no point.
const NONE: u32 = u32::MAX;

/// Lines of the matrix, as many as there is memory for. That which was not asked for for longest gives way. What a line is does
/// not depend on which are kept.
pub(super) struct Lines<'a> {
    points: &'a Points<'a>,
    lines: Vec<f32>,
    /// By point, its line.
    of_point: Vec<u32>,
    /// By line, its point and when it was last asked for.
    holders: Vec<(u32, u64)>,
    most: usize,
    clock: u64,
    row: Scratch,
}

impl<'a> Lines<'a> {
    /// At least two of them, however little memory there is.
    pub fn new(points: &'a Points<'a>, memory: usize) -> Self {
        let most = (memory / (points.len() * size_of::<f32>())).clamp(2, points.len().max(2));
        // All at once, since to grow might take twice as much; what is never written takes none.
        let lines = vec![0.0; most * points.len()];
        let (of_point, row) = (vec![NONE; points.len()], Scratch::default());
        Self { points, lines, of_point, holders: Vec::new(), most, clock: 0, row }
    }

    /// Finds or computes the line of a point. That of the point before stays.
    pub fn find(&mut self, point: usize) -> usize {
        self.clock += 1;
        if self.of_point[point] != NONE {
            let line = self.of_point[point] as usize;
            self.holders[line].1 = self.clock;
            return line;
        }
        let line = self.make_room();
        self.holders[line] = (point as u32, self.clock);
        self.of_point[point] = line as u32;
        let length = self.points.len();
        self.points.rows.read(self.points.place(point), &mut self.row);
        let into = &mut self.lines[line * length..(line + 1) * length];
        simd::run(Line { points: self.points, row: &self.row, into });
        line
    }

    fn make_room(&mut self) -> usize {
        if self.holders.len() < self.most {
            self.holders.push((NONE, 0));
            return self.holders.len() - 1;
        }
        let oldest = self.holders.iter().enumerate().min_by_key(|(_, (_, asked))| *asked);
        let line = oldest.map_or(0, |(line, _)| line);
        self.of_point[self.holders[line].0 as usize] = NONE;
        line
    }

    #[inline(always)]
    pub fn line(&self, line: usize) -> &[f32] {
        let length = self.points.len();
        &self.lines[line * length..(line + 1) * length]
    }
}
