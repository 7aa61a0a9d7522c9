//! Rows, feature by feature, so that one is compared with several others at once: what is added up for each of them is added in the order of the
//! features, whatever the width of vectors.

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
    stride: usize,
    /// Of the numbers, one column behind the other.
    columns: Vec<f64>,
    /// Of the categories.
    slots: Vec<u32>,
}

impl Columns {
    /// Places for so many rows of these features.
    pub fn new(features: &[Feature], rows: usize) -> Self {
        Self::of(Shape::new(features, &[]).numbers, ends_of_categories(features), rows)
    }

    fn of(numbers: usize, ends: Vec<u32>, rows: usize) -> Self {
        let stride = rows.next_multiple_of(AT_ONCE).max(AT_ONCE);
        Self { numbers, stride, columns: vec![0.0; stride * numbers], slots: vec![NOTHING; stride * ends.len()], ends }
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
        self.stride
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

    /// Puts a row.
    #[inline(always)]
    pub fn put(&mut self, place: usize, row: Row<'_>) {
        for (column, number) in self.columns.chunks_exact_mut(self.stride).zip(row.numbers) {
            column[place] = *number;
        }
        for (column, slot) in self.slots.chunks_exact_mut(self.stride).zip(Self::by_category(&self.ends, row)) {
            column[place] = slot;
        }
    }

    /// Reads a row, without padding.
    #[inline(always)]
    pub fn read(&self, place: usize, into: &mut Scratch) {
        into.numbers.clear();
        into.numbers.extend(self.columns.chunks_exact(self.stride).map(|column| column[place]));
        into.slots.clear();
        let slots = self.slots.chunks_exact(self.stride).map(|column| column[place]);
        into.slots.extend(slots.filter(|slot| *slot != NOTHING));
    }

    /// The squares of the distances of a row from those from a place on. Categories that differ lie as far apart as their slots: the square is 2,
    /// or 1 where one has no value.
    #[inline(always)]
    pub fn squares(&self, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        let mut squares = [0.0; AT_ONCE];
        for (column, number) in self.columns.chunks_exact(self.stride).zip(row.numbers) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                let off = column[lane] - number;
                squares[lane] += off * off;
            }
        }
        for (column, slot) in self.slots.chunks_exact(self.stride).zip(Self::by_category(&self.ends, row)) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                let lacks = column[lane] == NOTHING || slot == NOTHING;
                let apart = if lacks { 1.0 } else { 2.0 };
                squares[lane] += if column[lane] == slot { 0.0 } else { apart };
            }
        }
        squares
    }

    /// The products of a row with those from a place on. Categories that are the same count 1.
    #[inline(always)]
    pub fn products(&self, row: Row<'_>, start: usize) -> [f64; AT_ONCE] {
        let mut products = [0.0; AT_ONCE];
        for (column, number) in self.columns.chunks_exact(self.stride).zip(row.numbers) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                products[lane] += column[lane] * number;
            }
        }
        for (column, slot) in self.slots.chunks_exact(self.stride).zip(Self::by_category(&self.ends, row)) {
            let Some(column) = column[start..].first_chunk::<AT_ONCE>() else { continue };
            for lane in 0..AT_ONCE {
                products[lane] += if column[lane] == slot && slot != NOTHING { 1.0 } else { 0.0 };
            }
        }
        products
    }

    /// The column of a number.
    #[inline(always)]
    pub fn column(&self, number: usize) -> &[f64] {
        &self.columns[number * self.stride..(number + 1) * self.stride]
    }

    /// Writes the rows of these places, in their order.
    pub fn save(&self, name: &str, places: &[usize], tensors: &mut Tensors) {
        let columns = self.columns.chunks_exact(self.stride);
        let numbers: Vec<_> = columns.flat_map(|column| places.iter().map(|place| column[*place])).collect();
        tensors.put_f64(&format!("{name}numbers"), &[self.numbers, places.len()], &numbers);
        let columns = self.slots.chunks_exact(self.stride);
        let slots: Vec<_> = columns.flat_map(|column| places.iter().map(|place| column[*place])).collect();
        tensors.put_u32(&format!("{name}slots"), &[self.ends.len(), places.len()], &slots);
    }

    /// Reads rows into these places.
    pub fn load(&mut self, name: &str, places: &[usize], tensors: &Tensors) -> Result<()> {
        let rows = places.len();
        let numbers = tensors.f64s(&format!("{name}numbers"), &[self.numbers, rows])?;
        let slots = tensors.u32s(&format!("{name}slots"), &[self.ends.len(), rows])?;
        for (index, column) in self.columns.chunks_exact_mut(self.stride).enumerate() {
            places.iter().zip(&numbers[index * rows..]).for_each(|(place, number)| column[*place] = *number);
        }
        for (index, column) in self.slots.chunks_exact_mut(self.stride).enumerate() {
            places.iter().zip(&slots[index * rows..]).for_each(|(place, slot)| column[*place] = *slot);
        }
        Ok(())
    }
}
