//! Numbers that look random.

/// A small generator of numbers, so that a failure repeats.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// One below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Mostly small ones, but any up to about a thousand.
    pub fn of_any_size(&mut self) -> u64 {
        let bound = 1 << (1 + self.below(10));
        self.below(bound)
    }

    /// True in one of so many cases.
    pub fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// One of several.
    pub fn choose<'t, T>(&mut self, among: &'t [T]) -> &'t T {
        &among[self.below(among.len() as u64) as usize]
    }
}
