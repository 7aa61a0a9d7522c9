//! Factors that all slots are multiplied by, each slot when it is used: strong penalties bring a factor every few rows, and
//! there may be a million slots.

/// What the common factor of all weights was when it was multiplied out, and what the mean of the weights was then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    pub scale: f64,
    pub share: f64,
    pub count: f64,
}

impl Factor {
    /// What becomes of a value, and of its part in the rest of the mean.
    #[inline]
    pub fn apply(self, value: f64, rest: f64) -> (f64, f64) {
        (value * self.scale, (rest + self.share * value) / self.count)
    }
}

/// Of so many factors slots are multiplied at once, so that their list stays short.
const MOST: usize = 1 << 12;

/// So few slots are multiplied at once, which costs little.
const FEW_SLOTS: usize = 1 << 12;

/// Slots are also multiplied at once when there was no factor for so long that it costs so much a row.
const SLOTS_A_ROW: usize = 16;

/// Factors, and which slots have been multiplied by which.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    factors: Vec<Factor>,
    /// For every slot, how many factors it has been multiplied by.
    done: Vec<u32>,
    /// How many rows have come since the last factor.
    rows: usize,
}

impl Pending {
    /// Whether every slot is multiplied by all factors.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.factors.is_empty()
    }

    /// Adds a factor for so many slots.
    pub fn add(&mut self, factor: Factor, slots: usize) {
        self.done.resize(slots, 0);
        self.factors.push(factor);
        self.rows = 0;
    }

    /// Counts a row. Whether all slots should be multiplied now.
    pub fn has_waited_enough(&mut self) -> bool {
        self.rows += 1;
        let slots = self.done.len();
        self.factors.len() >= MOST || slots <= FEW_SLOTS || self.rows * SLOTS_A_ROW >= slots
    }

    /// The value of a slot and its part in the rest of the mean, multiplied by what they have not been yet.
    #[inline]
    pub fn apply(&self, slot: usize, mut value: f64, mut rest: f64) -> (f64, f64) {
        for factor in self.factors.iter().skip(self.done.get(slot).map_or(0, |done| *done as usize)) {
            if value == 0.0 && rest == 0.0 {
                // And so they stay, as do most after a hundred factors.
                break;
            }
            (value, rest) = factor.apply(value, rest);
        }
        (value, rest)
    }

    /// Notes that a slot has been multiplied by all factors.
    #[inline]
    pub fn done(&mut self, slot: usize) {
        self.done[slot] = self.factors.len() as u32;
    }
}
