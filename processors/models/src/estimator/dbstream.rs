//! Clusters of any shape and number: DBSTREAM.
//!
//! Hahsler and Bolaños, "Clustering data streams based on shared density between micro-clusters" (2016), as River 0.26.1 learns it. Clusters are put together at
//! borders that row numbers say, by densities that are faded to them, as in the paper.

use std::collections::BTreeMap;

use millstream_core::{Error, Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{check_from_to, check_not_negative, check_positive};
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, PredictedColumn, Row, Settings, Shape, Takes};
use crate::encode::Feature;
use crate::label::Class;
use crate::tensors::Tensors;
use crate::vector::{exp, squared_distance};

/// Clusters of any shape, without a label and without saying how many there are (DBSTREAM, Hahsler & Bolaños 2016): a row within `clustering_threshold` of the centre of a
/// micro-cluster counts for it and draws it nearer; where none is so near, it makes one. Micro-clusters are one cluster where enough rows lie within both. What gets no rows fades,
/// and is forgotten. Adds the columns `cluster` (a number from 0, null for a row that lies within no micro-cluster of any) and `distance` from the nearest centre of those that are,
/// both null at first. The metric is `mean_distance`.
///
/// Take it where clusters come, move and go, or are long and bent, and where rows that belong to none are to be found; take `k_means` where their number is known and
/// they are round. The threshold decides: it is about the distance that rows of one cluster have from each other. Numbers are taken as they are (`raw`), so bring those of different
/// sizes to about one size in an `sql` node; there are no categories. A cluster can have another number after the next border. Memory is for
/// `max_micro_clusters` centres, and for what each shares with each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Dbstream {
    /// How near a row has to be to the centre of a micro-cluster to count for it.
    #[schemars(extend("exclusiveMinimum" = 0))]
    clustering_threshold: f64,
    /// How fast weights fade: a row counts half after one by this many rows.
    #[serde(default = "fading_factor")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    fading_factor: f64,
    /// After how many rows clusters are put together anew, and what is weak is forgotten: what counts less than one row would that came the last time.
    #[serde(default = "cleanup_interval")]
    #[schemars(range(min = 1))]
    cleanup_interval: u32,
    /// Which share of the rows of two micro-clusters, on average, has to lie within both, so that they are one cluster.
    #[serde(default = "intersection_factor")]
    #[schemars(range(min = 0, max = 1))]
    intersection_factor: f64,
    /// How much a micro-cluster has to count to be no noise.
    #[serde(default = "minimum_weight")]
    #[schemars(range(min = 0))]
    minimum_weight: f64,
    /// The most micro-clusters. Where another is needed, the one that counts least is forgotten.
    #[serde(default = "max_micro_clusters")]
    #[schemars(range(min = 1, max = 10000))]
    max_micro_clusters: u32,
}

fn fading_factor() -> f64 {
    0.01
}

fn cleanup_interval() -> u32 {
    100
}

fn intersection_factor() -> f64 {
    0.3
}

fn minimum_weight() -> f64 {
    1.0
}

fn max_micro_clusters() -> u32 {
    1000
}

const COLUMNS: &[PredictedColumn] = &[
    PredictedColumn { name: "cluster", whole: true, mean: None },
    PredictedColumn { name: "distance", whole: false, mean: Some("mean_distance") },
];

impl Kind for Dbstream {
    const NAME: &'static str = "dbstream";
    const EXAMPLE: &'static str = "clustering_threshold = 3.0\nfading_factor = 0.001";
}

impl Settings for Dbstream {
    fn takes(&self) -> Takes {
        Takes::Raw
    }

    fn labels(&self) -> Labels {
        Labels::Nothing
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Columns(COLUMNS)
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        check_positive(&[("clustering_threshold", self.clustering_threshold), ("fading_factor", self.fading_factor)])?;
        check_not_negative(&[("minimum_weight", self.minimum_weight)])?;
        check_from_to(&[
            ("cleanup_interval", self.cleanup_interval.into(), 1.0, f64::from(u32::MAX)),
            ("intersection_factor", self.intersection_factor, 0.0, 1.0),
            ("max_micro_clusters", self.max_micro_clusters.into(), 1.0, 10_000.0),
        ])
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        let category = features.iter().find(|feature| !feature.encoder.is_number());
        let Some(Feature { name, .. }) = category else { return Ok(()) };
        let problem = format!("feature `{name}` is a category, and micro-clusters have centres of numbers");
        Err(Problem::new(problem).help("leave it out, or make a number of it in an `sql` node"))
    }

    fn most_numbers(&self, features: &[Feature], _classes: &[Class]) -> u64 {
        let most = u64::from(self.max_micro_clusters);
        most.saturating_mul(most.max(features.len() as u64))
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Clusters::new(self, Shape::new(features, classes)))
    }
}

/// Something that fades since it was last brought up to date.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Faded {
    counts: f64,
    /// The number of the row behind which it was.
    at: u64,
}

impl Faded {
    #[inline(always)]
    fn now(self, fading: f64, row: u64) -> f64 {
        self.counts * exp(-fading * std::f64::consts::LN_2 * (row - self.at) as f64)
    }

    #[inline(always)]
    fn add(&mut self, fading: f64, row: u64, weight: f64) {
        *self = Self { counts: self.now(fading, row) + weight, at: row };
    }
}

#[derive(Clone, Debug)]
struct MicroCluster {
    /// Its number among all that there have been.
    id: u64,
    /// With padding.
    centre: Vec<f64>,
    weight: Faded,
    /// The cluster that it belonged to at the last border.
    cluster: Option<u32>,
}

#[derive(Clone, Debug)]
struct Clusters {
    settings: Dbstream,
    shape: Shape,
    /// How many rows were learned.
    rows: u64,
    /// In the order of their numbers.
    micro: Vec<MicroCluster>,
    /// By the numbers of two, how much the rows count that lie within both.
    shared: BTreeMap<(u64, u64), Faded>,
}

impl Clusters {
    fn new(settings: &Dbstream, shape: Shape) -> Self {
        Self { settings: settings.clone(), shape, rows: 0, micro: Vec::new(), shared: BTreeMap::new() }
    }

    /// The square of the distance within which rows count.
    #[inline(always)]
    fn reach(&self) -> f64 {
        self.settings.clustering_threshold * self.settings.clustering_threshold
    }

    /// Those within whose reach a row lies, and the squares of the distances from it.
    fn near(&self, row: Row<'_>) -> Vec<(usize, f64)> {
        let squares = self.micro.iter().map(|micro| squared_distance(&micro.centre, row.numbers));
        squares.enumerate().filter(|(_, square)| *square < self.reach()).collect()
    }

    fn learn_weighted(&mut self, row: Row<'_>, weight: f64) {
        let near = self.near(row);
        if near.is_empty() {
            self.make(row, weight);
        } else {
            self.draw(row, &near, weight);
            self.share(&near, weight);
        }
        self.rows += 1;
        if self.rows.is_multiple_of(self.settings.cleanup_interval.into()) {
            self.forget_what_is_weak();
            self.put_together();
        }
    }

    fn make(&mut self, row: Row<'_>, weight: f64) {
        let id = self.micro.last().map_or(0, |last| last.id + 1);
        if self.micro.len() == self.settings.max_micro_clusters as usize {
            let weight = |micro: &MicroCluster| micro.weight.now(self.settings.fading_factor, self.rows);
            let weakest = self.micro.iter().min_by(|one, other| weight(one).total_cmp(&weight(other)));
            let weakest = weakest.map_or(0, |micro| micro.id);
            self.micro.retain(|micro| micro.id != weakest);
            self.shared.retain(|(one, other), _| *one != weakest && *other != weakest);
        }
        let weight = Faded { counts: weight, at: self.rows };
        self.micro.push(MicroCluster { id, centre: row.numbers.to_vec(), weight, cluster: None });
    }

    /// Draws those that are near towards the row, but for those that would come too near to each other.
    fn draw(&mut self, row: Row<'_>, near: &[(usize, f64)], weight: f64) {
        let (fading, reach) = (self.settings.fading_factor, self.reach());
        let before: Vec<_> = near.iter().map(|(index, _)| self.micro[*index].centre.clone()).collect();
        for (index, square) in near {
            let micro = &mut self.micro[*index];
            micro.weight.add(fading, self.rows, weight);
            // A normal distribution whose deviation is a third of the threshold.
            let rate = exp(-square * 4.5 / reach);
            micro.centre.iter_mut().zip(row.numbers).for_each(|(own, number)| *own += rate * (number - *own));
        }
        for (place, (one, _)) in near.iter().enumerate() {
            for (other_place, (other, _)) in near.iter().enumerate().skip(place + 1) {
                if squared_distance(&self.micro[*one].centre, &self.micro[*other].centre) < reach {
                    self.micro[*one].centre.clone_from(&before[place]);
                    self.micro[*other].centre.clone_from(&before[other_place]);
                }
            }
        }
    }

    /// Counts the row for each two that are near.
    fn share(&mut self, near: &[(usize, f64)], weight: f64) {
        for (place, (one, _)) in near.iter().enumerate() {
            for (other, _) in &near[place + 1..] {
                let pair = (self.micro[*one].id, self.micro[*other].id);
                let shared = self.shared.entry(pair).or_insert(Faded { counts: 0.0, at: self.rows });
                shared.add(self.settings.fading_factor, self.rows, weight);
            }
        }
    }

    fn forget_what_is_weak(&mut self) {
        let Dbstream { fading_factor: fading, cleanup_interval, intersection_factor, .. } = self.settings;
        let row = self.rows;
        let weak = Faded { counts: 1.0, at: 0 }.now(fading, cleanup_interval.into());
        self.micro.retain(|micro| micro.weight.now(fading, row) >= weak);
        let micro = &self.micro;
        let is_there = |id: &u64| micro.binary_search_by_key(id, |micro| micro.id).is_ok();
        self.shared.retain(|(one, other), shared| {
            shared.now(fading, row) >= intersection_factor * weak && is_there(one) && is_there(other)
        });
    }

    /// Finds which micro-clusters are one cluster: those that are connected. Clusters are counted in the order of their first ones.
    fn put_together(&mut self) {
        let Dbstream { fading_factor: fading, intersection_factor, minimum_weight, .. } = self.settings;
        let weights: Vec<_> = self.micro.iter().map(|micro| micro.weight.now(fading, self.rows)).collect();
        let is_strong = |index: usize| weights[index] >= minimum_weight;
        let index = |id: u64| self.micro.binary_search_by_key(&id, |micro| micro.id).ok();
        let mut neighbours = vec![Vec::new(); self.micro.len()];
        for ((one, other), shared) in &self.shared {
            let (Some(one), Some(other)) = (index(*one), index(*other)) else { continue };
            let share = shared.now(fading, self.rows) / (0.5 * (weights[one] + weights[other]));
            if is_strong(one) && is_strong(other) && share > intersection_factor {
                neighbours[one].push(other);
                neighbours[other].push(one);
            }
        }
        let (mut clusters, mut next) = (vec![None; self.micro.len()], 0);
        for first in (0..self.micro.len()).filter(|index| is_strong(*index)) {
            let mut waiting = if clusters[first].is_none() { vec![first] } else { continue };
            while let Some(index) = waiting.pop() {
                if clusters[index].replace(next).is_none() {
                    waiting.extend(neighbours[index].iter().filter(|other| clusters[**other].is_none()));
                }
            }
            next += 1;
        }
        self.micro.iter_mut().zip(clusters).for_each(|(micro, cluster)| micro.cluster = cluster);
    }
}

impl ByRow for Clusters {
    #[inline(always)]
    fn outputs(&self) -> usize {
        COLUMNS.len()
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        let (mut found, mut least) = (f64::NAN, f64::INFINITY);
        for micro in &self.micro {
            let Some(cluster) = micro.cluster else { continue };
            let square = squared_distance(&micro.centre, row.numbers);
            if square < least {
                (found, least) = (cluster.into(), square);
            }
        }
        into[0] = if least < self.reach() { found } else { f64::NAN };
        into[1] = if least.is_finite() { least.sqrt() } else { f64::NAN };
    }

    fn learn_one(&mut self, row: Row<'_>, _target: f64) {
        self.learn_weighted(row, 1.0);
    }

    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_weighted(row, lesson.weight);
    }

    fn save(&self, tensors: &mut Tensors) {
        let micro = || self.micro.iter();
        let (count, numbers) = (self.micro.len(), self.shape.numbers);
        tensors.put_u64("estimator.rows", &[self.rows]);
        tensors.put_u64("estimator.ids", &micro().map(|micro| micro.id).collect::<Vec<_>>());
        let centres: Vec<_> = micro().flat_map(|micro| micro.centre[..numbers].iter().copied()).collect();
        tensors.put_f64("estimator.centres", &[count, numbers], &centres);
        save_faded("estimator.weights", micro().map(|micro| micro.weight), tensors);
        let clusters: Vec<_> = micro().map(|micro| micro.cluster.unwrap_or(NO_CLUSTER)).collect();
        tensors.put_u32("estimator.clusters", &[count], &clusters);
        let pairs: Vec<_> = self.shared.keys().flat_map(|(one, other)| [*one, *other]).collect();
        tensors.put_u64("estimator.shared.ids", &pairs);
        save_faded("estimator.shared", self.shared.values().copied(), tensors);
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        let (ids, numbers) = (tensors.u64s("estimator.ids")?, self.shape.numbers);
        let most = self.settings.max_micro_clusters as usize;
        if ids.len() > most {
            return Err(Error::new(format!("the model has {} micro-clusters, and {most} are the most", ids.len())));
        }
        let weights = load_faded("estimator.weights", ids.len(), tensors)?;
        let centres = tensors.f64s("estimator.centres", &[ids.len(), numbers])?;
        let clusters = tensors.u32s("estimator.clusters", &[ids.len()])?;
        let micro = |index: usize| {
            let mut centre = centres[index * numbers..(index + 1) * numbers].to_vec();
            centre.resize(self.shape.width, 0.0);
            let cluster = Some(clusters[index]).filter(|cluster| *cluster != NO_CLUSTER);
            MicroCluster { id: ids[index], centre, weight: weights[index], cluster }
        };
        self.micro = (0..ids.len()).map(micro).collect();
        let pairs = tensors.u64s("estimator.shared.ids")?;
        let shared = load_faded("estimator.shared", pairs.len() / 2, tensors)?;
        self.shared = pairs.as_chunks().0.iter().map(|[one, other]| (*one, *other)).zip(shared).collect();
        let rows = tensors.u64s("estimator.rows")?;
        // Nothing was brought up to date behind rows that there have not been.
        let latest = self.micro.iter().map(|micro| micro.weight.at).chain(self.shared.values().map(|shared| shared.at));
        let latest = latest.max().unwrap_or(0);
        let rows = rows.first().filter(|rows| (latest..1 << 53).contains(*rows));
        self.rows = *rows.ok_or_else(|| Error::new("the tensor `estimator.rows` of the model is damaged"))?;
        Ok(())
    }
}

/// What stands for no cluster.
const NO_CLUSTER: u32 = u32::MAX;

fn save_faded(name: &str, values: impl Iterator<Item = Faded> + Clone, tensors: &mut Tensors) {
    let counts: Vec<_> = values.clone().map(|faded| faded.counts).collect();
    tensors.put_f64(name, &[counts.len()], &counts);
    tensors.put_u64(&format!("{name}.at"), &values.map(|faded| faded.at).collect::<Vec<_>>());
}

fn load_faded(name: &str, count: usize, tensors: &Tensors) -> Result<Vec<Faded>> {
    let (counts, at) = (tensors.f64s(name, &[count])?, tensors.u64s(&format!("{name}.at"))?);
    if at.len() != count {
        return Err(Error::new(format!("the tensor `{name}.at` of the model is damaged")));
    }
    Ok(counts.into_iter().zip(at).map(|(counts, at)| Faded { counts, at }).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::fixtures::data;
    use crate::vector::padded;

    /// What River has learned from the first rows of a fixture.
    #[derive(Deserialize)]
    struct River {
        settings: Dbstream,
        rows: usize,
        ids: Vec<u64>,
        centres: Vec<Vec<f64>>,
        weights: Vec<f64>,
        shared: Vec<(u64, u64, f64)>,
    }

    fn clusters(settings: &Dbstream, numbers: usize) -> Clusters {
        Clusters::new(settings, Shape { numbers, width: padded(numbers), slots: 0, classes: 0 })
    }

    fn learn(clusters: &mut Clusters, numbers: &[f64]) {
        let mut numbers = numbers.to_vec();
        numbers.resize(clusters.shape.width, 0.0);
        clusters.learn_one(Row { numbers: &numbers, slots: &[] }, 0.0);
    }

    fn predict(clusters: &Clusters, numbers: &[f64]) -> [f64; 2] {
        let (mut numbers, mut prediction) = (numbers.to_vec(), [0.0; 2]);
        numbers.resize(clusters.shape.width, 0.0);
        clusters.predict_one(Row { numbers: &numbers, slots: &[] }, &mut prediction);
        prediction
    }

    #[test]
    fn micro_clusters_are_those_of_river() {
        let data = data("segments");
        let mut compared = 0;
        for line in include_str!("../../tests/data/dbstream.ndjson").lines() {
            let river: River = serde_json::from_str(line).unwrap();
            river.settings.check(&[]).unwrap();
            let mut clusters = clusters(&river.settings, data.shape().numbers);
            data.rows[..river.rows].iter().for_each(|(numbers, ..)| learn(&mut clusters, numbers));
            assert_eq!(clusters.micro.iter().map(|micro| micro.id).collect::<Vec<_>>(), river.ids);
            for ((micro, centre), weight) in clusters.micro.iter().zip(&river.centres).zip(&river.weights) {
                assert!((micro.weight.counts - weight).abs() < 1e-9, "{} instead of {weight}", micro.weight.counts);
                let off = micro.centre.iter().zip(centre).map(|(own, theirs)| (own - theirs).abs());
                assert!(off.fold(0.0, f64::max) < 1e-9, "{:?} instead of {centre:?}", micro.centre);
            }
            let shared: Vec<_> =
                clusters.shared.iter().map(|((one, other), shared)| (*one, *other, shared.counts)).collect();
            assert_eq!(shared.len(), river.shared.len());
            for (found, wanted) in shared.iter().zip(&river.shared) {
                assert!((found.0, found.1) == (wanted.0, wanted.1) && (found.2 - wanted.2).abs() < 1e-9, "{found:?}");
            }
            compared += 1;
        }
        assert_eq!(compared, 4);
    }

    fn settings(threshold: f64, most: u32) -> Dbstream {
        Dbstream {
            clustering_threshold: threshold,
            fading_factor: 0.001,
            cleanup_interval: 50,
            intersection_factor: 0.1,
            minimum_weight: 3.0,
            max_micro_clusters: most,
        }
    }

    #[test]
    fn a_long_cluster_is_one_and_what_lies_apart_is_another() {
        let mut clusters = clusters(&settings(1.0, 100), 1);
        assert!(predict(&clusters, &[0.0]).iter().all(|value| value.is_nan()));
        // From 0 to 10, and about 20.
        for row in 0..1000_u32 {
            let place = f64::from(row * 37 % 101) / 100.0;
            learn(&mut clusters, &[if row % 4 == 0 { 20.0 + 0.5 * place } else { 10.0 * place }]);
        }
        let [of_low, of_middle, of_high, apart] = [0.3, 5.2, 9.8, 20.2].map(|number| predict(&clusters, &[number])[0]);
        assert!(
            of_low == of_middle && of_middle == of_high && apart != of_low,
            "{of_low}, {of_middle}, {of_high}, {apart}"
        );
        let [noise, distance] = predict(&clusters, &[15.0]);
        assert!(noise.is_nan() && distance > 4.0 && distance < 6.0);
    }

    #[test]
    fn the_weakest_gives_way_and_what_fades_is_forgotten() {
        let mut clusters = clusters(&settings(1.0, 3), 1);
        for number in [0.0, 0.0, 10.0, 20.0, 20.0, 30.0] {
            learn(&mut clusters, &[number]);
        }
        assert_eq!(clusters.micro.iter().map(|micro| micro.centre[0]).collect::<Vec<_>>(), [0.0, 20.0, 30.0]);
        (0..5000).for_each(|_| learn(&mut clusters, &[30.0]));
        assert_eq!(clusters.micro.len(), 1);
    }
}
