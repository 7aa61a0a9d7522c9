//! Leaves of numbers as tensors, and back.

use millstream_core::Result;

use super::bins::Bins;
use super::line::Line;
use super::moments::Moments;
use super::{Amounts, Counted, CountedAmounts, Leaf, Plan, SUMS};
use crate::estimator::tree::Layout;
use crate::estimator::tree::saved::{Lists, damaged, take};
use crate::tensors::Tensors;

/// When it was looked at, its moments and errors, and the origin of what it has counted.
const COUNTERS: usize = 7;

pub(super) fn save(leaves: &[&Leaf<Amounts>], layout: &Layout, name: &str, tensors: &mut Tensors) {
    let numbers = layout.shape.numbers;
    let counters = leaves.iter().flat_map(|leaf| {
        let Amounts { moments, errors, .. } = &leaf.known;
        let origin = leaf.counted.as_ref().and_then(|counted| counted.origin).unwrap_or(0.0);
        [leaf.tried, moments.weight, moments.mean, moments.squares, errors[0], errors[1], origin]
    });
    tensors.put_f64(&format!("{name}.counters"), &[leaves.len(), COUNTERS], &counters.collect::<Vec<_>>());
    let lines: Vec<_> = leaves.iter().flat_map(|leaf| leaf.known.line.saved(numbers)).collect();
    tensors.put_f64(&format!("{name}.lines"), &[leaves.len(), Line::saved_count(numbers)], &lines);
    let is_active = |leaf: &&Leaf<Amounts>| match &leaf.counted {
        None => 0,
        Some(counted) => 1 + u8::from(counted.origin.is_some()),
    };
    tensors.put_u8(&format!("{name}.active"), &leaves.iter().map(is_active).collect::<Vec<_>>());
    let counted: Vec<_> = leaves.iter().filter_map(|leaf| leaf.counted.as_deref()).collect();
    let bins = || counted.iter().flat_map(|of| &of.numbers);
    let values = || counted.iter().flat_map(|of| &of.categories);
    let lengths: Vec<_> = bins().map(|bins| bins.places.len() as u32).collect();
    tensors.put_u32(&format!("{name}.bin_lengths"), &[lengths.len()], &lengths);
    let places: Vec<_> = bins().flat_map(|bins| bins.places.clone()).collect();
    tensors.put_f64(&format!("{name}.bin_places"), &[places.len(), 1], &places);
    let sums: Vec<_> = bins().flat_map(|bins| bins.sums.as_flattened()).copied().collect();
    tensors.put_f64(&format!("{name}.bin_sums"), &[places.len(), SUMS], &sums);
    let lengths: Vec<_> = values().map(|values| values.slots.len() as u32).collect();
    tensors.put_u32(&format!("{name}.value_lengths"), &[lengths.len()], &lengths);
    let slots: Vec<_> = values().flat_map(|values| values.slots.clone()).collect();
    tensors.put_u32(&format!("{name}.value_slots"), &[slots.len()], &slots);
    let sums: Vec<_> = values().flat_map(|values| values.counts.clone()).collect();
    tensors.put_f64(&format!("{name}.value_sums"), &[slots.len(), SUMS], &sums);
}

/// Reads the leaves that are the nodes of these numbers.
pub(super) fn load(plan: &Plan<Amounts>, name: &str, tensors: &Tensors, nodes: &[usize]) -> Result<Vec<Leaf<Amounts>>> {
    let (lists, shape) = (Lists::new(name, tensors, nodes.len()), plan.layout.shape);
    let active = lists.active()?;
    let of_line = Line::saved_count(shape.numbers);
    let (counters, lines) = (lists.of_leaves("counters", COUNTERS)?, lists.of_leaves("lines", of_line)?);
    let (bins, places, sums) =
        (lists.u32s("bin_lengths")?, lists.f64s("bin_places", 1)?, lists.f64s("bin_sums", SUMS)?);
    let (values, slots) = (lists.u32s("value_lengths")?, lists.u32s("value_slots")?);
    let value_sums = lists.f64s("value_sums", SUMS)?;
    let mut rest =
        Rest { bins: &bins, places: &places, sums: &sums, values: &values, slots: &slots, value_sums: &value_sums };
    let leaf = |(index, node): (usize, &usize)| {
        let own = &counters[index * COUNTERS..(index + 1) * COUNTERS];
        let line = &lines[index * of_line..(index + 1) * of_line];
        let known = Amounts {
            moments: Moments { weight: own[1], mean: own[2], squares: own[3] },
            errors: [own[4], own[5]],
            line: Line::load(shape.width, shape.numbers, line),
        };
        let origin = (active[index] == 2).then_some(own[6]);
        let counted = (active[index] > 0).then(|| rest.counted(plan, *node, origin).map(Box::new));
        Ok(Leaf { known, tried: own[0], counted: counted.transpose()? })
    };
    let leaves: Vec<_> = nodes.iter().enumerate().map(leaf).collect::<Result<_>>()?;
    if rest.is_empty() { Ok(leaves) } else { Err(damaged("it has parts that belong to none of its leaves")) }
}

/// What is left of what leaves have counted, which is read leaf by leaf.
struct Rest<'a> {
    bins: &'a [u32],
    places: &'a [f64],
    sums: &'a [f64],
    values: &'a [u32],
    slots: &'a [u32],
    value_sums: &'a [f64],
}

impl Rest<'_> {
    /// What the next leaf has counted, which is the node of that number.
    fn counted(&mut self, plan: &Plan<Amounts>, node: usize, origin: Option<f64>) -> Result<CountedAmounts> {
        let mut counted = CountedAmounts { origin, ..CountedAmounts::new(plan, node) };
        for bins in &mut counted.numbers {
            let length = take(&mut self.bins, 1)?[0] as usize;
            let (places, sums) = (take(&mut self.places, length)?, take(&mut self.sums, length.saturating_mul(SUMS))?);
            *bins = Bins::load(plan.rules.bins, places, sums).ok_or_else(|| damaged("bins are out of order"))?;
        }
        for values in &mut counted.categories {
            let length = take(&mut self.values, 1)?[0] as usize;
            values.slots = take(&mut self.slots, length)?.to_vec();
            if !values.slots.is_sorted_by(|a, b| a < b) {
                return Err(damaged("the values of a leaf are out of order"));
            }
            values.counts = take(&mut self.value_sums, length.saturating_mul(SUMS))?.to_vec();
        }
        Ok(counted)
    }

    fn is_empty(&self) -> bool {
        self.bins.is_empty()
            && self.places.is_empty()
            && self.sums.is_empty()
            && self.values.is_empty()
            && self.slots.is_empty()
            && self.value_sums.is_empty()
    }
}
