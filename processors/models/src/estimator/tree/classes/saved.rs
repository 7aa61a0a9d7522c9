//! Leaves of classes as tensors, and back.

use millstream_core::Result;

use super::normals::SAVED_LISTS;
use super::{Classes, Counted, CountedClasses, Layout, Leaf, Plan};
use crate::estimator::tree::saved::{Lists, damaged, take};
use crate::tensors::Tensors;

pub(super) fn save(leaves: &[&Leaf<Classes>], layout: &Layout, name: &str, tensors: &mut Tensors) {
    let classes = layout.shape.classes;
    let flat = |of: &dyn Fn(&Leaf<Classes>) -> Vec<f64>| leaves.iter().flat_map(|leaf| of(leaf)).collect::<Vec<_>>();
    let masses = flat(&|leaf| leaf.known.masses.clone());
    tensors.put_f64(&format!("{name}.masses"), &[leaves.len(), classes], &masses);
    let counters = flat(&|leaf| vec![leaf.tried, leaf.known.right[0], leaf.known.right[1]]);
    tensors.put_f64(&format!("{name}.counters"), &[leaves.len(), 3], &counters);
    let active: Vec<_> = leaves.iter().map(|leaf| u8::from(leaf.counted.is_some())).collect();
    tensors.put_u8(&format!("{name}.active"), &active);
    let counted: Vec<_> = leaves.iter().filter_map(|leaf| leaf.counted.as_deref()).collect();
    let counts: Vec<_> = counted.iter().flat_map(|of| of.counts.clone()).collect();
    tensors.put_f64(&format!("{name}.counts"), &[counted.len(), classes], &counts);
    let lists = counted.iter().flat_map(|of| of.numbers.saved(of.view.count_of_numbers(layout)));
    let lists: Vec<_> = lists.collect();
    tensors.put_f64(&format!("{name}.numbers"), &[lists.len(), 1], &lists);
    let values = || counted.iter().flat_map(|of| &of.categories);
    let lengths: Vec<_> = values().map(|values| values.slots.len() as u32).collect();
    tensors.put_u32(&format!("{name}.value_lengths"), &[lengths.len()], &lengths);
    let slots: Vec<_> = values().flat_map(|values| values.slots.clone()).collect();
    tensors.put_u32(&format!("{name}.value_slots"), &[slots.len()], &slots);
    let counts: Vec<_> = values().flat_map(|values| values.counts.clone()).collect();
    tensors.put_f64(&format!("{name}.value_counts"), &[slots.len(), classes], &counts);
}

/// Reads the leaves that are the nodes of these numbers.
pub(super) fn load(plan: &Plan<Classes>, name: &str, tensors: &Tensors, nodes: &[usize]) -> Result<Vec<Leaf<Classes>>> {
    let (lists, classes) = (Lists::new(name, tensors, nodes.len()), plan.layout.shape.classes);
    let active = lists.active()?;
    let (masses, counters) = (lists.of_leaves("masses", classes)?, lists.of_leaves("counters", 3)?);
    let (counts, numbers) = (lists.f64s("counts", classes)?, lists.f64s("numbers", 1)?);
    let (lengths, slots) = (lists.u32s("value_lengths")?, lists.u32s("value_slots")?);
    let values = lists.f64s("value_counts", classes)?;
    let mut rest = Rest { counts: &counts, lists: &numbers, lengths: &lengths, slots: &slots, values: &values };
    let leaf = |(index, node): (usize, &usize)| {
        let mut known = Classes::new(masses[index * classes..(index + 1) * classes].to_vec());
        known.right = [counters[index * 3 + 1], counters[index * 3 + 2]];
        let counted = (active[index] == 1).then(|| rest.counted(plan, *node).map(Box::new));
        Ok(Leaf { known, tried: counters[index * 3], counted: counted.transpose()? })
    };
    let leaves: Vec<_> = nodes.iter().enumerate().map(leaf).collect::<Result<_>>()?;
    if rest.is_empty() { Ok(leaves) } else { Err(damaged("it has parts that belong to none of its leaves")) }
}

/// What is left of what leaves have counted, which is read leaf by leaf.
struct Rest<'a> {
    counts: &'a [f64],
    lists: &'a [f64],
    lengths: &'a [u32],
    slots: &'a [u32],
    values: &'a [f64],
}

impl Rest<'_> {
    /// What the next leaf has counted, which is the node of that number.
    fn counted(&mut self, plan: &Plan<Classes>, node: usize) -> Result<CountedClasses> {
        let mut counted = CountedClasses::new(plan, node);
        let (classes, numbers) = (plan.layout.shape.classes, counted.view.count_of_numbers(&plan.layout));
        counted.counts.copy_from_slice(take(&mut self.counts, classes)?);
        let lists = take(&mut self.lists, classes * SAVED_LISTS * numbers)?;
        counted.numbers.load(numbers, lists, &counted.counts);
        for values in &mut counted.categories {
            let length = take(&mut self.lengths, 1)?[0] as usize;
            values.slots = take(&mut self.slots, length)?.to_vec();
            if !values.slots.is_sorted_by(|a, b| a < b) {
                return Err(damaged("the values of a leaf are out of order"));
            }
            values.counts = take(&mut self.values, length.saturating_mul(classes))?.to_vec();
        }
        Ok(counted)
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty()
            && self.lists.is_empty()
            && self.lengths.is_empty()
            && self.slots.is_empty()
            && self.values.is_empty()
    }
}
