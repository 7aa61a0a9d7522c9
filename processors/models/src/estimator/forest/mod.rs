//! Forests: trees that each learn the rows with other weights and other features, and vote.
//!
//! What a tree does follows from the seed, its number and the rows. So each goes through some rows on its own, on whatever thread, and their votes
//! are added up in the order of the trees: the bits are the same for any number of threads.

mod chunk;
mod member;
mod plan;
mod votes;

use millstream_core::{Error, Result};

use super::{Estimator, Predict, Step};
use crate::drift::adwin;
use crate::onnx::{Encoded, Graph, Value};
use crate::simd;
use crate::tensors::Tensors;
use crate::threads;
use crate::vector::largest;
use chunk::{Chunk, Learn, Look};
use member::{Learning, Member, Voting};
pub(super) use plan::{Plan, Renewal};
pub(super) use votes::Votes;

/// How many numbers the votes of all trees on the rows are that they go through at once, about.
const VOTES_AT_ONCE: usize = 1 << 18;

/// Fewer votes are no work for a second thread.
const LEAST_WORK: usize = 1 << 8;

#[derive(Clone, Debug)]
pub(super) struct Forest<K: Votes> {
    plan: Plan<K>,
    members: Vec<Member<K>>,
    /// How many rows it has learned.
    rows: u64,
}

impl<K: Votes> Forest<K> {
    pub fn new(plan: Plan<K>) -> Self {
        let members = (0..plan.trees).map(|number| Member::new(&plan, number)).collect();
        Self { plan, members, rows: 0 }
    }

    /// How many numbers a vote has.
    fn votes(&self) -> usize {
        K::outputs(self.plan.shape)
    }

    fn rows_at_once(&self) -> usize {
        (VOTES_AT_ONCE / (self.votes() * self.members.len())).max(1)
    }

    /// Room for the votes of every member on the rows.
    fn ballots(&self, chunk: &Chunk) -> Vec<Vec<f64>> {
        vec![vec![0.0; chunk.len() * self.votes()]; self.members.len()]
    }

    fn is_worth_threads(&self, rows: usize) -> bool {
        rows * self.members.len() >= LEAST_WORK
    }

    fn learn(&mut self, chunk: &Chunk, into: &mut [f64]) {
        let mut ballots = self.ballots(chunk);
        let width = self.votes();
        let mut start = 0;
        while start < chunk.len() {
            let end = self.next_border(chunk, start);
            let (plan, is_worth) = (&self.plan, self.is_worth_threads(end - start));
            let votes = ballots.iter_mut().map(|votes| &mut votes[start * width..end * width]);
            let work = self.members.iter_mut().zip(votes).collect();
            threads::share(work, is_worth, |(member, votes)| simd::run(Learning { plan, chunk, start, member, votes }));
            self.rows += chunk.count_learned(start..end);
            self.replace_the_worst();
            start = end;
        }
        self.count(&ballots, into);
    }

    /// Up to which row the members need not know of each other. Where one may be replaced because another has drifted, that is when their detectors
    /// look, which they do at the same rows: they begin with the forest, or where one was replaced.
    fn next_border(&self, chunk: &Chunk, start: usize) -> usize {
        if matches!(self.plan.renewal, Renewal::Own { .. }) {
            return chunk.len();
        }
        let mut missing = u64::from(adwin::CLOCK) - self.rows % u64::from(adwin::CLOCK);
        for row in start..chunk.len() {
            missing -= chunk.count_learned(row..row + 1);
            if missing == 0 {
                return row + 1;
            }
        }
        chunk.len()
    }

    /// Replaces the tree with the most errors, the first of equals, if those of any have risen.
    fn replace_the_worst(&mut self) {
        if !self.members.iter().any(|member| member.has_drifted) {
            return;
        }
        let errors: Vec<_> = self.members.iter().map(Member::errors).collect();
        self.members[largest(&errors)].renew(&self.plan);
        self.members.iter_mut().for_each(|member| member.has_drifted = false);
    }

    fn look(&self, chunk: &Chunk, into: &mut [f64]) {
        let mut ballots = self.ballots(chunk);
        let (plan, is_worth) = (&self.plan, self.is_worth_threads(chunk.len()));
        let work = self.members.iter().zip(&mut ballots).collect();
        threads::share(work, is_worth, |(member, votes)| simd::run(Voting { plan, chunk, member, votes }));
        self.count(&ballots, into);
    }

    /// Adds up the votes, member by member, to what is predicted.
    fn count(&self, ballots: &[Vec<f64>], into: &mut [f64]) {
        let width = self.votes();
        let mut sums = vec![0.0; width];
        for (row, into) in into.chunks_exact_mut(K::predicted(width)).enumerate() {
            sums.fill(0.0);
            for votes in ballots {
                let votes = &votes[row * width..(row + 1) * width];
                sums.iter_mut().zip(votes).for_each(|(sum, vote)| *sum += vote);
            }
            K::count(&sums, ballots.len(), into);
        }
    }
}

impl<K: Votes> Estimator for Forest<K> {
    fn outputs(&self) -> usize {
        K::predicted(self.votes())
    }

    fn step(&mut self, mut step: Step<'_>) -> Result<u64> {
        let (count, outputs, before) = (step.rows.count(), self.outputs(), self.rows);
        let mut start = 0;
        while start < count {
            let rows = start..count.min(start + self.rows_at_once());
            start = rows.end;
            let chunk = simd::run(Learn { step: &mut step, rows: rows.clone() });
            self.learn(&chunk, &mut step.predictions[rows.start * outputs..rows.end * outputs]);
        }
        Ok(self.rows - before)
    }

    fn predict(&self, Predict { encoders, rows: all, predictions }: Predict<'_>) -> Result<()> {
        let (count, outputs) = (all.count(), self.outputs());
        let mut start = 0;
        while start < count {
            let rows = start..count.min(start + self.rows_at_once());
            start = rows.end;
            let chunk = simd::run(Look { encoders, all, rows: rows.clone() });
            self.look(&chunk, &mut predictions[rows.start * outputs..rows.end * outputs]);
        }
        Ok(())
    }

    fn save(&self, tensors: &mut Tensors) -> Result<()> {
        tensors.put_u64("estimator.rows", &[self.rows]);
        let members = self.members.iter().enumerate();
        members.for_each(|(number, member)| member.save(&self.plan, &name(number), tensors));
        Ok(())
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s("estimator.rows")?;
        let rows = rows.first().filter(|rows| **rows < 1 << 53);
        self.rows = *rows.ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        let member = |number: usize| Member::load(&self.plan, number as u32, self.rows, &name(number), tensors);
        self.members = (0..self.members.len()).map(member).collect::<Result<_>>()?;
        Ok(())
    }

    fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let mut sum = None;
        for member in &self.members {
            let votes = member.to_onnx(graph, row)?;
            sum = Some(match sum {
                None => votes,
                Some(sum) => graph.add("Add", &[&sum, &votes]),
            });
        }
        let sum = sum.ok_or_else(|| Error::new("it has no trees"))?;
        Ok(K::count_in_onnx(&sum, self.members.len(), self.votes(), graph))
    }

    fn another(&self) -> Box<dyn Estimator> {
        Box::new(self.clone())
    }
}

/// What the names of a member's tensors begin with.
fn name(number: usize) -> String {
    format!("estimator.{number}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
