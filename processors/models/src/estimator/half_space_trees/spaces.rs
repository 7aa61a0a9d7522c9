//! Trees that halve a space.

use crate::estimator::random::Random;

/// Complete trees. Of a tree, the first node is the whole space, and node `n` has the halves `2 n` and `2 n + 1`.
#[derive(Clone, Debug)]
pub(super) struct Spaces {
    height: u32,
    /// By tree and node that has halves, where it is halved; there is no node 0.
    cuts: Vec<Cut>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    dimension: u32,
    at: f64,
}

impl Spaces {
    /// Each tree has a space of its own about the cube from 0 to 1, and halves it along dimensions that are drawn.
    pub fn new(trees: u32, height: u32, seed: u64, dimensions: usize) -> Self {
        let mut cuts = vec![Cut::default(); (trees as usize) << height];
        for (tree, cuts) in cuts.chunks_exact_mut(1 << height).enumerate() {
            let mut random = Random::new(seed, tree as u64, 0);
            let mut sides: Vec<_> = (0..dimensions).map(|_| side(random.uniform())).collect();
            divide(cuts, 1, &mut sides, &mut random);
        }
        Self { height, cuts }
    }

    pub fn trees(&self) -> usize {
        self.cuts.len() >> self.height
    }

    /// Room for as many counts as there are nodes: of each tree two times as many as it has cuts.
    pub fn counts(&self) -> Vec<u32> {
        vec![0; 2 * self.cuts.len()]
    }

    /// Counts a point, in every part of the space that it is in.
    #[inline(always)]
    pub fn count(&self, point: &[f64], counts: &mut [u32]) {
        let trees = self.cuts.chunks_exact(1 << self.height).zip(counts.chunks_exact_mut(2 << self.height));
        for (cuts, counts) in trees {
            let mut node = 1;
            counts[node] += 1;
            for _ in 0..self.height {
                node = half(cuts, node, point);
                counts[node] += 1;
            }
        }
    }

    /// By tree, how many points there would be if all of the space were as full as where this one is: the smallest part, or the first that has no
    /// more than `least`.
    #[inline(always)]
    pub fn densities<'a>(&'a self, point: &'a [f64], counts: &'a [u32], least: f64) -> impl Iterator<Item = f64> + 'a {
        let trees = self.cuts.chunks_exact(1 << self.height).zip(counts.chunks_exact(2 << self.height));
        trees.map(move |(cuts, counts)| {
            let (mut node, mut depth) = (1, 0);
            while depth < self.height && f64::from(counts[node]) > least {
                node = half(cuts, node, point);
                depth += 1;
            }
            f64::from(counts[node]) * f64::from(1_u32 << depth)
        })
    }
}

#[inline(always)]
fn half(cuts: &[Cut], node: usize, point: &[f64]) -> usize {
    let cut = cuts[node];
    2 * node + usize::from(point[cut.dimension as usize] >= cut.at)
}

/// Where a space begins and ends along a dimension: it has all from 0 to 1, and its middle is where it was drawn.
fn side(middle: f64) -> (f64, f64) {
    let half = 2.0 * middle.max(1.0 - middle);
    (middle - half, middle + half)
}

fn divide(cuts: &mut [Cut], node: usize, sides: &mut [(f64, f64)], random: &mut Random) {
    if node >= cuts.len() || sides.is_empty() {
        return;
    }
    let dimension = random.below(sides.len());
    let whole = sides[dimension];
    let at = f64::midpoint(whole.0, whole.1);
    cuts[node] = Cut { dimension: dimension as u32, at };
    for (node, side) in [(2 * node, (whole.0, at)), (2 * node + 1, (at, whole.1))] {
        sides[dimension] = side;
        divide(cuts, node, sides, random);
    }
    sides[dimension] = whole;
}
