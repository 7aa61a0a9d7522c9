//! FTRL-proximal.

use std::collections::BTreeMap;

use millstream_core::{Problem, Result, known_names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::{ClassWeight, check_class_weight, check_from_to, check_not_negative, weights_of};
use super::linear::{log_gradient, sigmoid};
use super::random::mixed;
use super::{ByRow, Estimator, Gives, Kind, Labels, Lesson, Row, Settings, Shape};
use crate::encode::{Encoder, Feature};
use crate::label::Class;
use crate::tensors::Tensors;
use crate::vector::dot;

/// Two classes: logistic regression by FTRL-proximal (McMahan et al., "Ad click prediction: a view from the trenches", 2013). Each weight has a rate
/// of its own, which gets smaller with its gradients, and is 0 as long as not enough speaks for it: `l1` says how much.
///
/// Take it for clicks and the like: many categories with rare values, best `{ hash = 1048576 }`, where a value that is seen for the first time has to
/// count at once. Two numbers are kept for each slot, however many rows there are.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ftrl {
    /// How far rows move a weight at first.
    #[serde(default = "alpha")]
    alpha: f64,
    /// How long it takes until they move it less: about as long as the squares of its gradients add up to the square of this.
    #[serde(default = "beta")]
    beta: f64,
    /// The L1 penalty: what has to speak for a weight before it is not 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l1: f64,
    /// The L2 penalty: how strongly weights are drawn towards 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    l2: f64,
    /// Categories that say more together than each alone: `[["country", "card"]]` has weights for each country with each card. Both have to be
    /// features that are categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crosses: Vec<Vec<String>>,
    /// How many slots each of the crosses has. Its values are hashed, and may share one.
    #[serde(default = "cross_slots", skip_serializing_if = "is_usual")]
    #[schemars(range(min = 1, max = 16777216))]
    cross_slots: u32,
    /// How much the rows of a class count, by the class: `{ true = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    class_weight: ClassWeight,
}

fn alpha() -> f64 {
    0.1
}

fn beta() -> f64 {
    1.0
}

fn cross_slots() -> u32 {
    1 << 18
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_usual(slots: &u32) -> bool {
    *slots == cross_slots()
}

impl Kind for Ftrl {
    const NAME: &'static str = "ftrl";
    const EXAMPLE: &'static str = "alpha = 0.05\nl1 = 0.5";
}

impl Settings for Ftrl {
    fn labels(&self) -> Labels {
        Labels::TwoClasses
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Probabilities
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_from_to(&[("alpha", self.alpha, 1e-9, 1e9), ("beta", self.beta, 1e-9, 1e9)])?;
        check_not_negative(&[("l1", self.l1), ("l2", self.l2)])?;
        check_from_to(&[("cross_slots", self.cross_slots.into(), 1.0, Encoder::MOST_SLOTS.into())])?;
        check_class_weight(&self.class_weight, classes)
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        for (index, cross) in self.crosses.iter().enumerate() {
            let of_cross = |problem: Problem| problem.under(index).under("crosses");
            if cross.len() < 2 {
                return Err(of_cross(Problem::new(
                    "a cross is of two categories or more, such as [\"country\", \"card\"]",
                )));
            }
            for (place, name) in cross.iter().enumerate() {
                let categories = features.iter().filter(|feature| !feature.encoder.is_number());
                if !categories.clone().any(|feature| feature.name == *name) {
                    let problem = Problem::new(format!("`{name}` is no feature that is a category"));
                    let help = known_names(name, categories.map(|feature| feature.name.as_str()));
                    return Err(of_cross(problem.help(help).under(place)));
                }
            }
        }
        Ok(())
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        let of_crosses = u64::from(self.cross_slots).saturating_mul(self.crosses.len() as u64);
        (numbers as u64).max(slots as u64).max(of_crosses).max(1)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let Self { alpha, beta, l1, l2, .. } = *self;
        let counts = weights_of(classes, &self.class_weight).try_into().unwrap_or([1.0; 2]);
        let shape = Shape::new(features, classes);
        Box::new(Proximal {
            rule: Rule { alpha, beta, l1, l2 },
            counts,
            numbers: shape.numbers,
            of_numbers: Weights::new(shape.width),
            of_slots: Weights::new(shape.slots),
            crosses: Crosses::new(&self.crosses, self.cross_slots, features),
            intercept: Weights::new(1),
        })
    }
}

/// How weights follow from gradients.
#[derive(Clone, Copy, Debug)]
struct Rule {
    alpha: f64,
    beta: f64,
    l1: f64,
    l2: f64,
}

impl Rule {
    /// The weight for which so much speaks, of which the squares of the gradients add up to so much.
    #[inline(always)]
    fn weight(&self, against: f64, squares: f64) -> f64 {
        let beyond = against - self.l1.copysign(against);
        let weight = -beyond / ((self.beta + squares.sqrt()) / self.alpha + self.l2);
        if against.abs() > self.l1 { weight } else { 0.0 }
    }

    /// What speaks against a weight, the squares of its gradients, and the weight, behind one more gradient.
    #[inline(always)]
    fn step(&self, (against, squares, weight): (f64, f64, f64), gradient: f64) -> (f64, f64, f64) {
        let more = squares + gradient * gradient;
        let nearer = (more.sqrt() - squares.sqrt()) / self.alpha;
        let against = against + (gradient - nearer * weight);
        (against, more, self.weight(against, more))
    }
}

/// Weights, and what they follow from.
#[derive(Clone, Debug)]
struct Weights {
    /// What speaks against each: its gradients, less what drew it to where it is.
    against: Vec<f64>,
    squares: Vec<f64>,
    weights: Vec<f64>,
}

impl Weights {
    fn new(count: usize) -> Self {
        Self { against: vec![0.0; count], squares: vec![0.0; count], weights: vec![0.0; count] }
    }

    #[inline(always)]
    fn step(&mut self, rule: Rule, place: usize, gradient: f64) {
        let step = rule.step((self.against[place], self.squares[place], self.weights[place]), gradient);
        (self.against[place], self.squares[place], self.weights[place]) = step;
    }

    /// All of them, each by a gradient that is as many times this as its number.
    #[inline(always)]
    fn step_all(&mut self, rule: Rule, numbers: &[f64], gradient: f64) {
        let own = self.against.iter_mut().zip(&mut self.squares).zip(&mut self.weights);
        for (((against, squares), weight), number) in own.zip(numbers) {
            (*against, *squares, *weight) = rule.step((*against, *squares, *weight), gradient * number);
        }
    }

    fn save(&self, name: &str, count: usize, tensors: &mut Tensors) {
        tensors.put_f64(&format!("estimator.{name}.against"), &[count], &self.against[..count]);
        tensors.put_f64(&format!("estimator.{name}.squares"), &[count], &self.squares[..count]);
    }

    fn load(&mut self, rule: Rule, name: &str, count: usize, tensors: &Tensors) -> Result<()> {
        self.against[..count].copy_from_slice(&tensors.f64s(&format!("estimator.{name}.against"), &[count])?);
        self.squares[..count].copy_from_slice(&tensors.f64s(&format!("estimator.{name}.squares"), &[count])?);
        for ((weight, against), squares) in self.weights.iter_mut().zip(&self.against).zip(&self.squares) {
            *weight = rule.weight(*against, *squares);
        }
        Ok(())
    }
}

/// Categories that are learned from together.
#[derive(Clone, Debug)]
struct Crosses {
    /// By cross, the slots of each of its categories, as the first and the one behind the last.
    members: Vec<Vec<(u32, u32)>>,
    /// How many slots each has.
    slots: u32,
    /// One cross behind the other.
    weights: Weights,
}

impl Crosses {
    fn new(crosses: &[Vec<String>], slots: u32, features: &[Feature]) -> Self {
        let mut end = 0;
        let of_feature = |feature: &Feature| {
            let first = end;
            end += feature.encoder.slots();
            (feature.name.clone(), (first, end))
        };
        let of_features: Vec<_> = features.iter().map(of_feature).collect();
        let of_name = |name: &String| of_features.iter().find(|(known, _)| known == name).map(|(_, slots)| *slots);
        let members: Vec<Vec<_>> = crosses.iter().map(|cross| cross.iter().filter_map(of_name).collect()).collect();
        let weights = Weights::new(members.len() * slots as usize);
        Self { members, slots, weights }
    }

    /// Where the weights of a row are; a cross that lacks a value has none.
    #[inline(always)]
    fn places<'a>(&'a self, row: Row<'a>) -> impl Iterator<Item = usize> + 'a {
        self.members.iter().enumerate().filter_map(move |(cross, members)| {
            let mut hash = 0_u64;
            for (first, end) in members {
                let slot = row.slots.iter().find(|slot| (*first..*end).contains(*slot))?;
                hash = mixed(hash ^ u64::from(*slot));
            }
            Some(cross * self.slots as usize + (hash % u64::from(self.slots)) as usize)
        })
    }

    #[inline(always)]
    fn step(&mut self, rule: Rule, row: Row<'_>, gradient: f64) {
        for cross in 0..self.members.len() {
            // Crosses have no places in common, and each has at most one.
            let range = cross * self.slots as usize..(cross + 1) * self.slots as usize;
            let place = self.places(row).find(|place| range.contains(place));
            if let Some(place) = place {
                self.weights.step(rule, place, gradient);
            }
        }
    }
}

/// A weight for each number and slot, and an intercept.
#[derive(Clone, Debug)]
struct Proximal {
    rule: Rule,
    /// How much rows of either class count.
    counts: [f64; 2],
    numbers: usize,
    of_numbers: Weights,
    of_slots: Weights,
    crosses: Crosses,
    intercept: Weights,
}

impl Proximal {
    #[inline(always)]
    fn sum(&self, row: Row<'_>) -> f64 {
        let slots = row.slots.iter().fold(0.0, |sum, slot| sum + self.of_slots.weights[*slot as usize]);
        let crosses = self.crosses.places(row).fold(0.0, |sum, place| sum + self.crosses.weights.weights[place]);
        dot(&self.of_numbers.weights, row.numbers) + (slots + crosses) + self.intercept.weights[0]
    }

    /// Learns a row that counts so much.
    #[inline(always)]
    fn learn_weighted(&mut self, row: Row<'_>, target: f64, weight: f64) {
        let gradient = log_gradient(self.sum(row), target) * self.counts[usize::from(target != 0.0)] * weight;
        self.intercept.step(self.rule, 0, gradient);
        self.of_numbers.step_all(self.rule, row.numbers, gradient);
        row.slots.iter().for_each(|slot| self.of_slots.step(self.rule, *slot as usize, gradient));
        self.crosses.step(self.rule, row, gradient);
    }
}

impl ByRow for Proximal {
    #[inline(always)]
    fn outputs(&self) -> usize {
        1
    }

    #[inline(always)]
    fn predict_one(&self, row: Row<'_>, into: &mut [f64]) {
        into[0] = sigmoid(self.sum(row));
    }

    #[inline(always)]
    fn learn_one(&mut self, row: Row<'_>, target: f64) {
        self.learn_weighted(row, target, 1.0);
    }

    #[inline(always)]
    fn learn(&mut self, row: Row<'_>, lesson: &Lesson<'_>) {
        self.learn_weighted(row, lesson.target, lesson.weight);
    }

    fn save(&self, tensors: &mut Tensors) {
        self.of_numbers.save("numbers", self.numbers, tensors);
        self.of_slots.save("slots", self.of_slots.weights.len(), tensors);
        self.intercept.save("intercept", 1, tensors);
        if !self.crosses.members.is_empty() {
            self.crosses.weights.save("crosses", self.crosses.weights.weights.len(), tensors);
        }
    }

    fn load(&mut self, tensors: &Tensors) -> Result<()> {
        self.of_numbers.load(self.rule, "numbers", self.numbers, tensors)?;
        self.of_slots.load(self.rule, "slots", self.of_slots.weights.len(), tensors)?;
        if !self.crosses.members.is_empty() {
            let count = self.crosses.weights.weights.len();
            self.crosses.weights.load(self.rule, "crosses", count, tensors)?;
        }
        self.intercept.load(self.rule, "intercept", 1, tensors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn proximal(l1: f64) -> Proximal {
        Proximal {
            rule: Rule { alpha: 0.5, beta: 1.0, l1, l2: 0.1 },
            counts: [1.0; 2],
            numbers: 1,
            of_numbers: Weights::new(8),
            of_slots: Weights::new(4),
            crosses: Crosses::new(&[], 1, &[]),
            intercept: Weights::new(1),
        }
    }

    fn category(name: &str, slots: u32) -> Feature {
        Feature::new(name, "utf8", Encoder::OneHot(slots))
    }

    fn crossed(crosses: &[&[&str]]) -> Ftrl {
        serde_json::from_value(serde_json::json!({ "alpha": 0.5, "crosses": crosses, "cross_slots": 64 })).unwrap()
    }

    /// Neither says anything alone.
    #[test]
    fn categories_that_only_say_something_together_are_learned_by_a_cross() {
        let features = [category("a", 2), category("b", 2)];
        let probabilities = |crosses: &[&[&str]]| {
            let classes = [Class::Boolean(false), Class::Boolean(true)];
            let mut estimator = crossed(crosses).build(&features, &classes);
            let mut tensors = Tensors::default();
            estimator.save(&mut tensors).unwrap();
            assert_eq!(tensors.rows("estimator.crosses.squares").ok(), (!crosses.is_empty()).then_some(64));
            let mut own = Proximal { crosses: Crosses::new(&crossed(crosses).crosses, 64, &features), ..proximal(0.0) };
            estimator.load(&tensors).unwrap();
            for row in 0..400_u32 {
                let (a, b) = (row % 2, row / 2 % 2);
                own.learn_one(Row { numbers: &[0.0; 8], slots: &[a, 2 + b] }, f64::from(a ^ b));
            }
            [(0, 0), (0, 1), (1, 0), (1, 1)]
                .map(|(a, b)| sigmoid(own.sum(Row { numbers: &[0.0; 8], slots: &[a, 2 + b] })))
        };
        assert!(probabilities(&[]).iter().all(|probability| (probability - 0.5).abs() < 0.1));
        let [equal, first, second, again] = probabilities(&[&["a", "b"]]);
        assert!(equal < 0.1 && again < 0.1 && first > 0.9 && second > 0.9, "{equal}, {first}, {second}, {again}");
    }

    #[test]
    fn a_cross_that_lacks_a_value_says_nothing() {
        let crosses = Crosses::new(
            &[vec!["b".into(), "a".into()], vec!["a".into(), "c".into()]],
            8,
            &[category("a", 2), category("b", 3), category("c", 1)],
        );
        assert_eq!(crosses.members, [[(2, 5), (0, 2)], [(0, 2), (5, 6)]]);
        let places = |slots: &[u32]| crosses.places(Row { numbers: &[], slots }).collect::<Vec<_>>();
        assert_eq!([places(&[0, 3]).len(), places(&[3, 5]).len(), places(&[1, 2, 5]).len()], [1, 0, 2]);
        assert!(places(&[0, 5])[0] >= 8 && places(&[0, 3])[0] < 8);
    }

    #[test]
    fn crosses_of_what_is_no_category_are_refused_at_their_places() {
        let number = Feature { encoder: Encoder::Raw, ..category("n", 0) };
        let refused = |crosses: &[&[&str]]| {
            let problem = crossed(crosses).check_features(&[category("country", 2), number.clone()]).unwrap_err();
            format!("{} {:?}", problem, problem.at)
        };
        let unknown = refused(&[&["country", "contry"]]);
        assert!(unknown.contains("no feature that is a category") && unknown.contains("crosses"), "{unknown}");
        assert!(refused(&[&["country", "n"]]).contains("`n` is no feature"));
        assert!(refused(&[&["country"]]).contains("two categories or more"));
    }

    #[test]
    fn two_steps_are_those_of_the_paper() {
        let mut proximal = proximal(0.0);
        let (mut z, mut n, mut w) = (0.0_f64, 0.0_f64, 0.0_f64);
        for target in [1.0, 0.0] {
            let gradient = 1.0 / (1.0 + libm::exp(-(w + w))) - target;
            let sigma = ((n + gradient * gradient).sqrt() - n.sqrt()) / 0.5;
            (z, n) = (z + gradient - sigma * w, n + gradient * gradient);
            w = -z / ((1.0 + n.sqrt()) / 0.5 + 0.1);
            proximal.learn_one(Row { numbers: &[0.0; 8], slots: &[2] }, target);
        }
        assert!((proximal.of_slots.weights[2] - w).abs() < 1e-15 && (proximal.intercept.weights[0] - w).abs() < 1e-15);
        assert_eq!(proximal.of_slots.weights[..2], [0.0; 2]);
    }

    #[test]
    fn a_weight_for_which_too_little_speaks_is_0() {
        let mut proximal = proximal(2.0);
        for row in 0..400 {
            // Slot 0 says the class, slot 1 comes rarely.
            let slots: &[u32] = if row % 200 == 7 {
                &[1]
            } else if row % 2 == 0 {
                &[0]
            } else {
                &[3]
            };
            proximal.learn_one(Row { numbers: &[0.0; 8], slots }, f64::from(u8::from(row % 2 == 0)));
        }
        let [says, rare] = [0, 1].map(|slot: usize| proximal.of_slots.weights[slot]);
        assert!(says > 0.5 && rare == 0.0, "{says}, {rare}");
    }
}
