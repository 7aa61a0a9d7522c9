//! Trees that adapt as tensors, and back: the tree, and by node what is known of it beside.

use millstream_core::{Error, Result};

use super::{AdaptiveTree, Watch};
use crate::drift::adwin;
use crate::estimator::forest::Votes;
use crate::tensors::Tensors;

/// What stands for the alternate of a node that has none.
const NONE: u32 = u32::MAX;

fn damaged() -> Error {
    Error::new("what the model knows of the nodes of its tree is damaged")
}

impl<K: Votes> AdaptiveTree<K> {
    pub fn save(&self, tensors: &mut Tensors) {
        self.tree.save("estimator", tensors);
        tensors.put_u64("estimator.rows", &[self.rows]);
        tensors.put_f64("estimator.errors", &[1], &[self.errors]);
        let alternates: Vec<_> = self.watches.iter().map(|of| of.alternate.map_or(NONE, |root| root as u32)).collect();
        tensors.put_u32("estimator.alternates", &[alternates.len()], &alternates);
        let detectors: Vec<_> = self.watches.iter().map(|watch| watch.errors.to_numbers()).collect();
        let lengths: Vec<_> = detectors.iter().map(|numbers| numbers.len() as u32).collect();
        tensors.put_u32("estimator.detector_lengths", &[lengths.len()], &lengths);
        let numbers = detectors.concat();
        tensors.put_f64("estimator.detectors", &[numbers.len()], &numbers);
    }

    /// Reads a tree into a new one.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.tree.load("estimator", tensors)?;
        self.rows = *tensors.u64s("estimator.rows")?.first().ok_or_else(damaged)?;
        self.errors = tensors.f64s("estimator.errors", &[1])?[0];
        let nodes = self.tree.count_of_nodes();
        let alternates = tensors.u32s("estimator.alternates", &[nodes])?;
        let lengths = tensors.u32s("estimator.detector_lengths", &[nodes])?;
        let numbers = tensors.f64s("estimator.detectors", &[tensors.rows("estimator.detectors")?])?;
        let mut rest = numbers.as_slice();
        let watch = |(length, root): (&u32, &u32)| {
            let (own, others) = rest.split_at_checked(*length as usize).ok_or_else(damaged)?;
            rest = others;
            let alternate = (*root != NONE).then_some(*root as usize);
            Ok(Watch { errors: adwin::Detector::from_numbers(own).ok_or_else(damaged)?, alternate })
        };
        self.watches = lengths.iter().zip(&alternates).map(watch).collect::<Result<_>>()?;
        let known = self.tree.order(self.roots()).filter(|order| order.len() == nodes);
        if rest.is_empty() && known.is_some() { Ok(()) } else { Err(damaged()) }
    }
}
