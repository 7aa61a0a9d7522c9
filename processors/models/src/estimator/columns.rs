//! Rows in blocks, each feature by feature, so that one is compared with a block of others at once: what is added up for each of them is added in the order of
//! the features, whatever the width of vectors.

use millstream_core::Result;

use super::{Row, Shape, ends_of_categories};
use crate::encode::{Feature, Scratch};
use crate::tensors::Tensors;

/// So many rows are compared at once.
pub(super) const AT_ONCE: usize = 32;

/// What stands for a category without a value.
const NOTHING: u32 = u32::MAX;

/// Places for rows. Those that were not put yet have zeros, and no categories.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// By category, the end of its slots.
    ends: Vec<u32>,
    /// How many numbers a row has.
    numbers: usize,
    /// How many places there are, padding included.
    places: usize,
    /// By block and number, that of each place.
    columns: Vec<[f64; AT_ONCE]>,
    /// By block and category, the slot of each place.
    slots: Vec<[u32; AT_ONCE]>,
}

impl Columns {
    /// Places for so many rows of these features.
    pub fn new(features: &[Feature], rows: usize) -> Self {
        Self::of(Shape::new(features, &[]).numbers, ends_of_categories(features), rows)
    }

    fn of(numbers: usize, ends: Vec<u32>, rows: usize) -> Self {
        let blocks = rows.div_ceil(AT_ONCE).max(1);
        let (columns, slots) = (vec![[0.0; AT_ONCE]; blocks * numbers], vec![[NOTHING; AT_ONCE]; blocks * ends.len()]);
        Self { numbers, places: blocks * AT_ONCE, columns, slots, ends }
    }

    /// Places for so many rows of the same features.
    pub fn like(&self, rows: usize) -> Self {
        Self::of(self.numbers, self.ends.clone(), rows)
    }

    /// Places for so many rows of so many numbers.
    pub fn of_numbers(numbers: usize, rows: usize) -> Self {
        Self::of(numbers, Vec::new(), rows)
    }

    /// How many places there are, a multiple of [`AT_ONCE`].
    pub fn places(&self) -> usize {
        self.places
    }

    /// How many numbers a row has.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// How many slots all categories have.
    pub fn slots(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// The slot of each category of a row.
    #[inline(always)]
    fn by_category<'a>(ends: &'a [u32], row: Row<'a>) -> impl Iterator<Item = u32> + 'a {
        let mut rest = row.slots;
        ends.iter().map(move |end| match rest.split_first() {
            Some((slot, others)) if slot < end => {
                rest = others;
                *slot
            }
            _ => NOTHING,
        })
    }

    /// The columns of the block that has a place.
    #[inline(always)]
    fn block(&self, place: usize) -> (&[[f64; AT_ONCE]], &[[u32; AT_ONCE]]) {
        let (block, categories) = (place / AT_ONCE, self.ends.len());
        let columns = &self.columns[block * self.numbers..(block + 1) * self.numbers];
        (columns, &self.slots[block * categories..(block + 1) * categories])
    }

    /// Puts a row.
    #[inline(always)]
    pub fn put(&mut self, place: usize, row: Row<'_>) {
        let (block, lane, categories) = (place / AT_ONCE, place % AT_ONCE, self.ends.len());
        let columns = &mut self.columns[block * self.numbers..(block + 1) * self.numbers];
        columns.iter_mut().zip(row.numbers).for_each(|(column, number)| column[lane] = *number);
        let slots = &mut self.slots[block * categories..(block + 1) * categories];
        slots.iter_mut().zip(Self::by_category(&self.ends, row)).for_each(|(column, slot)| column[lane] = slot);
    }

    /// Reads a row, without padding.
    #[inline(always)]
    pub fn read(&self, place: usize, into: &mut Scratch) {
        let ((columns, slots), lane) = (self.block(place), place % AT_ONCE);
        into.numbers.clear();
        into.numbers.extend(columns.iter().map(|column| column[lane]));
        into.slots.clear();
        into.slots.extend(slots.iter().map(|column| column[lane]).filter(|slot| *slot != NOTHING));
    }

    /// The squares of the distances of a row from those of the block that begins at a place. Categories that differ lie as far apart as their slots: the
    /// square is 2, or 1 where one has no value.
    #[inline(always)]
    pub fn squares(&self, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        let (columns, slots) = self.block(start);
        let mut squares = [0.0; AT_ONCE];
        for (column, number) in columns.iter().zip(row.numbers) {
            for lane in 0..AT_ONCE {
                let off = column[lane] - number;
                squares[lane] += off * off;
            }
        }
        for (column, slot) in slots.iter().zip(Self::by_category(&self.ends, row)) {
            for lane in 0..AT_ONCE {
                let lacks = column[lane] == NOTHING || slot == NOTHING;
                let apart = if lacks { 1.0 } else { 2.0 };
                squares[lane] += if column[lane] == slot { 0.0 } else { apart };
            }
        }
        squares
    }

    /// The products of a row with those of the block that begins at a place. Categories that are the same count 1.
    #[inline(always)]
    pub fn products(&self, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        let (columns, slots) = self.block(start);
        let mut products = [0.0; AT_ONCE];
        for (column, number) in columns.iter().zip(row.numbers) {
            for lane in 0..AT_ONCE {
                products[lane] += column[lane] * number;
            }
        }
        for (column, slot) in slots.iter().zip(Self::by_category(&self.ends, row)) {
            for lane in 0..AT_ONCE {
                products[lane] += if column[lane] == slot && slot != NOTHING { 1.0 } else { 0.0 };
            }
        }
        products
    }

    /// The numbers of the block that begins at a place, one column behind the other.
    #[inline(always)]
    pub fn columns(&self, start: usize) -> &[[f64; AT_ONCE]] {
        self.block(start).0
    }

    /// Writes the rows of these places, in their order, one column behind the other.
    pub fn save(&self, name: &str, places: &[usize], tensors: &mut Tensors) {
        let (rows, categories) = (places.len(), self.ends.len());
        let number = |(number, place): (usize, &usize)| self.block(*place).0[number][place % AT_ONCE];
        let each = (0..self.numbers).flat_map(|column| places.iter().map(move |place| (column, place)));
        tensors.put_f64(&format!("{name}numbers"), &[self.numbers, rows], &each.map(number).collect::<Vec<_>>());
        let slot = |(category, place): (usize, &usize)| self.block(*place).1[category][place % AT_ONCE];
        let each = (0..categories).flat_map(|column| places.iter().map(move |place| (column, place)));
        tensors.put_u32(&format!("{name}slots"), &[categories, rows], &each.map(slot).collect::<Vec<_>>());
    }

    /// Reads rows into these places.
    pub fn load(&mut self, name: &str, places: &[usize], tensors: &Tensors) -> Result<()> {
        let (rows, categories) = (places.len(), self.ends.len());
        let numbers = tensors.f64s(&format!("{name}numbers"), &[self.numbers, rows])?;
        let slots = tensors.u32s(&format!("{name}slots"), &[categories, rows])?;
        for (row, place) in places.iter().enumerate() {
            let (block, lane) = (place / AT_ONCE, place % AT_ONCE);
            for column in 0..self.numbers {
                self.columns[block * self.numbers + column][lane] = numbers[column * rows + row];
            }
            for column in 0..categories {
                self.slots[block * categories + column][lane] = slots[column * rows + row];
            }
        }
        Ok(())
    }
}
