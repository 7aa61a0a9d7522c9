//! A member of a forest: a tree, what watches its errors, and the one that is to follow it.

use millstream_core::{Error, Result};

use super::chunk::Chunk;
use super::plan::{Plan, Renewal};
use crate::drift::adwin;
use crate::encode::Row;
use crate::estimator::random::Random;
use crate::estimator::tree::{Subspaces, Tree};
use crate::simd::Work;
use crate::tensors::Tensors;
use crate::vector::largest;

/// A tree that learns, and how well it does.
#[derive(Clone, Debug)]
struct Grown {
    /// Which tree of its member it is.
    generation: u32,
    tree: Tree,
    /// How many rows it has predicted, and how many of them rightly.
    rows: u64,
    right: u64,
    /// Its errors, watched for what may be a change, and for what is one.
    warning: adwin::Detector,
    drift: adwin::Detector,
}

impl Grown {
    fn new(plan: &Plan, member: u32, generation: u32) -> Self {
        let subspaces = plan.subspace.map(|size| {
            // The last stream of a member is that of the weights of rows.
            let stream = u64::from(member) << 32 | u64::from(generation.min(u32::MAX - 1));
            Subspaces { size, seed: plan.seed, stream }
        });
        let tree = Tree::new(plan.growth, &plan.features, plan.shape, subspaces);
        Self { generation, tree, rows: 0, right: 0, warning: <_>::default(), drift: <_>::default() }
    }

    /// How much its vote counts: as much as it was right.
    #[inline(always)]
    fn say(&self) -> f64 {
        if self.right == 0 { 1.0 } else { self.right as f64 / self.rows as f64 }
    }

    /// Learns a row that counts so much, and of which that class was predicted.
    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, class: usize, weight: f64, predicted: usize) {
        self.rows += 1;
        self.right += u64::from(predicted == class);
        if weight > 0.0 {
            self.tree.learn(row, class, weight, predicted);
        }
    }

    fn save(&self, name: &str, tensors: &mut Tensors) {
        self.tree.save(name, tensors);
        tensors.put_u64(&format!("{name}.grown"), &[self.generation.into(), self.rows, self.right]);
        for (list, detector) in [("warning", &self.warning), ("drift", &self.drift)] {
            let numbers = detector.to_numbers();
            tensors.put_f64(&format!("{name}.{list}"), &[numbers.len()], &numbers);
        }
    }

    fn load(plan: &Plan, member: u32, name: &str, tensors: &Tensors) -> Result<Self> {
        let damaged = || Error::new(format!("what the model knows of the tree `{name}` is damaged"));
        let [generation, rows, right] = tensors.u64s(&format!("{name}.grown"))?.try_into().map_err(|_| damaged())?;
        let mut grown = Self::new(plan, member, u32::try_from(generation).map_err(|_| damaged())?);
        grown.tree.load(name, tensors)?;
        (grown.rows, grown.right) = (rows, right);
        let detector = |list: &str| {
            let name = format!("{name}.{list}");
            let numbers = tensors.f64s(&name, &[tensors.rows(&name)?])?;
            adwin::Detector::from_numbers(&numbers).ok_or_else(damaged)
        };
        (grown.warning, grown.drift) = (detector("warning")?, detector("drift")?);
        Ok(grown)
    }
}

/// A member of a forest.
#[derive(Clone, Debug)]
pub(super) struct Member {
    number: u32,
    /// What draws how much each row counts.
    random: Random,
    /// How many trees it has had.
    generations: u32,
    current: Grown,
    /// The tree that is to follow if the drift that was warned of comes.
    next: Option<Box<Grown>>,
    /// Whether its errors have risen, and no tree has been replaced for that.
    pub has_drifted: bool,
}

impl Member {
    pub fn new(plan: &Plan, number: u32) -> Self {
        let random = Self::random(plan, number, 0);
        Self { number, random, generations: 1, current: Grown::new(plan, number, 0), next: None, has_drifted: false }
    }

    /// What draws the weights of rows, of which so many were learned before.
    fn random(plan: &Plan, number: u32, rows: u64) -> Random {
        Random::new(plan.seed, u64::from(number) << 32 | u64::from(u32::MAX), rows)
    }

    /// A new tree, which no other was.
    fn another(&mut self, plan: &Plan) -> Grown {
        let generation = self.generations;
        self.generations += 1;
        Grown::new(plan, self.number, generation)
    }

    /// By class, how much its tree is for it.
    #[inline(always)]
    fn vote(&self, chunk: &Chunk, row: usize, votes: &mut [f64]) {
        self.current.tree.predict(chunk.row(row), votes);
        let say = self.current.say();
        votes.iter_mut().for_each(|vote| *vote *= say);
    }

    /// Learns a row for which these were the votes.
    #[inline(always)]
    fn learn(&mut self, plan: &Plan, chunk: &Chunk, row: usize, votes: &[f64], room: &mut [f64]) {
        let Some((row, class)) = chunk.learned(row) else { return };
        let predicted = largest(votes);
        let weight = f64::from(plan.poisson.draw(&mut self.random));
        if let Some(next) = &mut self.next {
            next.tree.predict(row, room);
            next.learn(row, class, weight, largest(room));
        }
        self.current.learn(row, class, weight, predicted);
        self.watch(plan, f64::from(u8::from(predicted != class)));
    }

    /// Prepares for a drift, and goes on with the next tree if there is one.
    #[inline(always)]
    fn watch(&mut self, plan: &Plan, error: f64) {
        match &plan.renewal {
            Renewal::Own { warning } => {
                if self.current.warning.rises(warning, error) {
                    self.next = Some(Box::new(self.another(plan)));
                }
                if self.current.drift.rises(&plan.drift, error) {
                    self.renew(plan);
                }
            }
            Renewal::Worst => self.has_drifted |= self.current.drift.rises(&plan.drift, error),
        }
    }

    /// Goes on with the next tree, or with a new one.
    pub fn renew(&mut self, plan: &Plan) {
        self.current = match self.next.take() {
            Some(next) => *next,
            None => self.another(plan),
        };
    }

    /// The share of the last rows that its tree predicted wrongly.
    pub fn errors(&self) -> f64 {
        self.current.drift.mean()
    }

    /// Whether its tree has been replaced.
    #[cfg(test)]
    pub fn has_been_replaced(&self) -> bool {
        self.current.generation > 0
    }

    pub fn save(&self, plan: &Plan, name: &str, tensors: &mut Tensors) {
        self.current.save(&format!("{name}.tree"), tensors);
        match &self.next {
            Some(next) => next.save(&format!("{name}.next"), tensors),
            // A model always has the same tensors.
            None => Grown::new(plan, self.number, 0).save(&format!("{name}.next"), tensors),
        }
        tensors.put_u64(&format!("{name}.generations"), &[self.generations.into(), u64::from(self.next.is_some())]);
    }

    /// Reads a member that has learned so many rows.
    pub fn load(plan: &Plan, number: u32, rows: u64, name: &str, tensors: &Tensors) -> Result<Self> {
        let damaged = || Error::new(format!("what the model knows of `{name}` is damaged"));
        let [generations, has_next] =
            tensors.u64s(&format!("{name}.generations"))?.try_into().map_err(|_| damaged())?;
        let next = (has_next == 1).then(|| Grown::load(plan, number, &format!("{name}.next"), tensors).map(Box::new));
        Ok(Self {
            number,
            random: Self::random(plan, number, rows),
            generations: u32::try_from(generations).map_err(|_| damaged())?,
            current: Grown::load(plan, number, &format!("{name}.tree"), tensors)?,
            next: next.transpose()?,
            has_drifted: false,
        })
    }
}

/// Has a member vote on rows of a chunk, each before it learns it.
pub(super) struct Learning<'a> {
    pub plan: &'a Plan,
    pub chunk: &'a Chunk,
    /// The first of the rows.
    pub start: usize,
    pub member: &'a mut Member,
    /// For its votes, one row behind the other.
    pub votes: &'a mut [f64],
}

impl Work for Learning<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { plan, chunk, start, member, votes } = self;
        let mut room = vec![0.0; plan.shape.classes];
        for (index, votes) in votes.chunks_exact_mut(plan.shape.classes).enumerate() {
            member.vote(chunk, start + index, votes);
            member.learn(plan, chunk, start + index, votes, &mut room);
        }
    }
}

/// Has a member vote on every row of a chunk.
pub(super) struct Voting<'a> {
    pub plan: &'a Plan,
    pub chunk: &'a Chunk,
    pub member: &'a Member,
    /// For its votes, one row behind the other.
    pub votes: &'a mut [f64],
}

impl Work for Voting<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { plan, chunk, member, votes } = self;
        let votes = votes.chunks_exact_mut(plan.shape.classes).enumerate();
        votes.for_each(|(row, votes)| member.vote(chunk, row, votes));
    }
}
