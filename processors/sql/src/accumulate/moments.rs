//! `stddev` and `var`, by Welford's method; parts are put together by that of Chan, Golub and LeVeque (1979).

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::Float64Type;
use millstream_core::Result;

use super::accumulator::{Accumulator, Rows, Saved, apart, floats, for_present, together};

/// What is made of the squared distances from the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Divided by the rows, rather than by one less.
    pub population: bool,
    /// The square root: a standard deviation, no variance.
    pub root: bool,
}

/// How far values spread around their mean.
pub struct Moments {
    spread: Spread,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    rows: f64,
    mean: f64,
    /// The sum of the squared distances from the mean.
    squares: f64,
}

impl Moments {
    /// Of numbers.
    pub fn new(spread: Spread) -> Self {
        Self { spread, slots: Vec::new() }
    }
}

impl Accumulator for Moments {
    fn grow(&mut self, slots: usize) {
        self.slots.resize(slots, Slot::default());
    }

    fn update(&mut self, values: &ArrayRef, rows: Rows<'_>) -> Result<()> {
        let numbers = floats(values)?;
        for_present(values, rows, |row, slot| {
            let slot = &mut self.slots[slot];
            let before = numbers.values()[row] - slot.mean;
            slot.rows += 1.0;
            slot.mean += before / slot.rows;
            slot.squares += before * (numbers.values()[row] - slot.mean);
        });
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) {
        let from = self.slots[from as usize];
        let into = &mut self.slots[into as usize];
        if from.rows == 0.0 {
            return;
        }
        let rows = into.rows + from.rows;
        let distance = from.mean - into.mean;
        into.squares += from.squares + distance * distance * (into.rows * from.rows / rows);
        into.mean += distance * (from.rows / rows);
        into.rows = rows;
    }

    fn clear(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot::default();
    }

    fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        let result = slots.iter().map(|slot| {
            let slot = self.slots[*slot as usize];
            let rows = if self.spread.population { slot.rows } else { slot.rows - 1.0 };
            let variance = (rows > 0.0).then(|| slot.squares / rows);
            if self.spread.root { variance.map(f64::sqrt) } else { variance }
        });
        Ok(Arc::new(result.collect::<Float64Array>()))
    }

    fn save(&self, slots: &[u32]) -> Saved {
        let column = |of: fn(&Slot) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(slots.iter().map(|slot| of(&self.slots[*slot as usize]))))
        };
        let (rows, mean, squares) = (column(|slot| slot.rows), column(|slot| slot.mean), column(|slot| slot.squares));
        Box::new(|| Ok(together([("rows", rows), ("mean", mean), ("squares", squares)])))
    }

    fn load(&mut self, column: &ArrayRef) -> Result<()> {
        let columns: [ArrayRef; 3] = apart(column)?;
        let [rows, mean, squares] = columns.each_ref().map(|column| column.as_primitive::<Float64Type>().values());
        let slots = rows.iter().zip(mean).zip(squares);
        self.slots.extend(slots.map(|((rows, mean), squares)| Slot { rows: *rows, mean: *mean, squares: *squares }));
        Ok(())
    }
}
