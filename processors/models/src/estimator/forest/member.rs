//! A member of a forest: a tree, what watches its errors, and the one that is to follow it.

use millstream_core::{Error, Result};

use super::chunk::Chunk;
use super::plan::{Plan, Renewal};
use super::votes::Votes;
use crate::drift::adwin;
use crate::encode::Row;
use crate::estimator::random::Random;
use crate::estimator::tree::{Learned, Subspaces, Tree};
use crate::onnx::{Encoded, Graph, Value};
use crate::simd::Work;
use crate::tensors::Tensors;

/// A tree that learns, and how well it does.
#[derive(Clone, Debug)]
struct Grown<K: Votes> {
    /// Which tree of its member it is.
    generation: u32,
    tree: Tree<K>,
    /// How many rows it has predicted, and how wrong they were together.
    rows: u64,
    errors: f64,
    /// Its errors, watched for what may be a change, and for what is one.
    warning: adwin::Detector,
    drift: adwin::Detector,
}

impl<K: Votes> Grown<K> {
    fn new(plan: &Plan<K>, member: u32, generation: u32) -> Self {
        let subspaces = plan.subspace.map(|size| {
            // The last stream of a member is that of the weights of rows.
            let stream = u64::from(member) << 32 | u64::from(generation.min(u32::MAX - 1));
            Subspaces { size, seed: plan.seed, stream }
        });
        let tree = Tree::new(plan.growth, plan.rules.clone(), &plan.features, plan.shape, subspaces);
        Self { generation, tree, rows: 0, errors: 0.0, warning: <_>::default(), drift: <_>::default() }
    }

    /// Learns a row that counts so much, and of which this was predicted. Returns how wrong that was, as it is watched.
    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, target: K::Target, weight: f64, predicted: &[f64]) -> f64 {
        let error = K::error(predicted, target);
        self.rows += 1;
        self.errors += error;
        if weight > 0.0 {
            self.tree.learn(&Learned { row, target, weight, predicted });
        }
        K::watched(error, self.errors / self.rows as f64)
    }

    fn save(&self, name: &str, tensors: &mut Tensors) {
        self.tree.save(name, tensors);
        tensors.put_u64(&format!("{name}.grown"), &[self.generation.into(), self.rows]);
        tensors.put_f64(&format!("{name}.errors"), &[1], &[self.errors]);
        for (list, detector) in [("warning", &self.warning), ("drift", &self.drift)] {
            let numbers = detector.to_numbers();
            tensors.put_f64(&format!("{name}.{list}"), &[numbers.len()], &numbers);
        }
    }

    fn load(plan: &Plan<K>, member: u32, name: &str, tensors: &Tensors) -> Result<Self> {
        let damaged = || Error::new(format!("what the model knows of the tree `{name}` is damaged"));
        let [generation, rows] = tensors.u64s(&format!("{name}.grown"))?.try_into().map_err(|_| damaged())?;
        let mut grown = Self::new(plan, member, u32::try_from(generation).map_err(|_| damaged())?);
        grown.tree.load(name, tensors)?;
        (grown.rows, grown.errors) = (rows, tensors.f64s(&format!("{name}.errors"), &[1])?[0]);
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
pub(super) struct Member<K: Votes> {
    number: u32,
    /// What draws how much each row counts.
    random: Random,
    /// How many trees it has had.
    generations: u32,
    current: Grown<K>,
    /// The tree that is to follow if the drift that was warned of comes.
    next: Option<Box<Grown<K>>>,
    /// Whether its errors have risen, and no tree has been replaced for that.
    pub has_drifted: bool,
}

impl<K: Votes> Member<K> {
    pub fn new(plan: &Plan<K>, number: u32) -> Self {
        let random = Self::random(plan, number, 0);
        Self { number, random, generations: 1, current: Grown::new(plan, number, 0), next: None, has_drifted: false }
    }

    /// What draws the weights of rows, of which so many were learned before.
    fn random(plan: &Plan<K>, number: u32, rows: u64) -> Random {
        Random::new(plan.seed, u64::from(number) << 32 | u64::from(u32::MAX), rows)
    }

    /// A new tree, which no other was.
    fn another(&mut self, plan: &Plan<K>) -> Grown<K> {
        let generation = self.generations;
        self.generations += 1;
        Grown::new(plan, self.number, generation)
    }

    /// What its tree votes for.
    #[inline(always)]
    fn vote(&self, chunk: &Chunk, row: usize, votes: &mut [f64]) {
        self.current.tree.predict(chunk.row(row), votes);
        let say = K::say(self.current.rows, self.current.errors);
        votes.iter_mut().for_each(|vote| *vote *= say);
    }

    /// Adds to a graph what its tree votes for.
    pub fn to_onnx(&self, graph: &mut Graph, row: &Encoded) -> Result<Value> {
        let votes = self.current.tree.to_onnx(graph, row)?;
        let say = graph.doubles(&[], &[K::say(self.current.rows, self.current.errors)]);
        Ok(graph.add("Mul", &[&votes, &say]))
    }

    /// Learns a row for which these were the votes.
    #[inline(always)]
    fn learn(&mut self, plan: &Plan<K>, chunk: &Chunk, row: usize, votes: &[f64], room: &mut [f64]) {
        let Some((row, target, weight)) = chunk.learned(row) else { return };
        let target = K::target(target);
        let weight = weight * f64::from(plan.poisson.draw(&mut self.random));
        if let Some(next) = &mut self.next {
            next.tree.predict(row, room);
            next.learn(row, target, weight, room);
        }
        let error = self.current.learn(row, target, weight, votes);
        self.watch(plan, error);
    }

    /// Prepares for a drift, and goes on with the next tree if there is one.
    #[inline(always)]
    fn watch(&mut self, plan: &Plan<K>, error: f64) {
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
    pub fn renew(&mut self, plan: &Plan<K>) {
        self.current = match self.next.take() {
            Some(next) => *next,
            None => self.another(plan),
        };
    }

    /// How wrong its tree was of the last rows.
    pub fn errors(&self) -> f64 {
        self.current.drift.mean()
    }

    /// Whether its tree has been replaced.
    #[cfg(test)]
    pub fn has_been_replaced(&self) -> bool {
        self.current.generation > 0
    }

    pub fn save(&self, plan: &Plan<K>, name: &str, tensors: &mut Tensors) {
        self.current.save(&format!("{name}.tree"), tensors);
        match &self.next {
            Some(next) => next.save(&format!("{name}.next"), tensors),
            // A model always has the same tensors.
            None => Grown::new(plan, self.number, 0).save(&format!("{name}.next"), tensors),
        }
        tensors.put_u64(&format!("{name}.generations"), &[self.generations.into(), u64::from(self.next.is_some())]);
    }

    /// Reads a member that has learned so many rows.
    pub fn load(plan: &Plan<K>, number: u32, rows: u64, name: &str, tensors: &Tensors) -> Result<Self> {
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
pub(super) struct Learning<'a, K: Votes> {
    pub plan: &'a Plan<K>,
    pub chunk: &'a Chunk,
    /// The first of the rows.
    pub start: usize,
    pub member: &'a mut Member<K>,
    /// For its votes, one row behind the other.
    pub votes: &'a mut [f64],
}

impl<K: Votes> Work for Learning<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { plan, chunk, start, member, votes } = self;
        let mut room = vec![0.0; K::outputs(plan.shape)];
        for (index, votes) in votes.chunks_exact_mut(K::outputs(plan.shape)).enumerate() {
            member.vote(chunk, start + index, votes);
            member.learn(plan, chunk, start + index, votes, &mut room);
        }
    }
}

/// Has a member vote on every row of a chunk.
pub(super) struct Voting<'a, K: Votes> {
    pub plan: &'a Plan<K>,
    pub chunk: &'a Chunk,
    pub member: &'a Member<K>,
    /// For its votes, one row behind the other.
    pub votes: &'a mut [f64],
}

impl<K: Votes> Work for Voting<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { plan, chunk, member, votes } = self;
        let votes = votes.chunks_exact_mut(K::outputs(plan.shape)).enumerate();
        votes.for_each(|(row, votes)| member.vote(chunk, row, votes));
    }
}
