//! Another estimator over the numbers of a row and their products, so that a line bends.
//!
//! scikit-learn's `PolynomialFeatures` of degree 2, without the 1.

use millstream_core::{Problem, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapped::{AT_ONCE, Map, Mapped, components};
use super::settings::an_estimator;
use super::{Estimator, EstimatorSettings, Gives, Kind, Labels, Settings, Shape};
use crate::encode::{Feature, Scratch};
use crate::label::Class;

/// What another estimator predicts, which learns from the numbers of a row and from their products, each with each (scikit-learn's `PolynomialFeatures` of degree 2; River's
/// `PolynomialExtender`). A linear estimator then follows what two features do together: an area from two lengths, an amount that means something else at night.
///
/// Take it for a few numbers, whose products mean something: of `n` there are `n (n + 1) / 2` more. Where there are more, or borders bend in other ways, `rbf_sampler` and
/// trees are better. Categories have no products: encode them by `target` or `frequency`, or cross them by `ftrl`. Products of numbers that are not standardised can be very large.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolynomialFeatures {
    /// What learns from the numbers and their products, as `estimator` has it: `{ type = "linear_regression" }`.
    #[schemars(schema_with = "an_estimator")]
    estimator: EstimatorSettings,
    /// Whether squares are left out.
    #[serde(default)]
    interaction_only: bool,
}

/// The most numbers and products.
const MOST_COMPONENTS: usize = 1 << 16;

impl Kind for PolynomialFeatures {
    const NAME: &'static str = "polynomial_features";
    const EXAMPLE: &'static str = "estimator = { type = \"softmax_regression\", learning_rate = 0.1 }";
}

impl PolynomialFeatures {
    /// How many numbers and products there are.
    fn count(&self, features: &[Feature]) -> usize {
        let numbers = Shape::new(features, &[]).numbers;
        let squares = if self.interaction_only { 0 } else { numbers };
        numbers.saturating_add(numbers.saturating_mul(numbers.saturating_sub(1)) / 2).saturating_add(squares)
    }

    fn components(&self, features: &[Feature]) -> Vec<Feature> {
        components(self.count(features) as u32)
    }
}

impl Settings for PolynomialFeatures {
    fn labels(&self) -> Labels {
        self.estimator.labels()
    }

    fn takes_weights(&self) -> bool {
        self.estimator.takes_weights()
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        self.estimator.gives(classes)
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        let name = self.estimator.name();
        let fits = self.estimator.labels().check(name, classes).map_err(Problem::new);
        fits.and_then(|()| self.estimator.settings().check(classes)).map_err(|problem| problem.under("estimator"))
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        if let Some(category) = features.iter().find(|feature| !feature.encoder.is_number()) {
            let problem = format!("`{}` is a category, which has no products", category.name);
            return Err(Problem::new(problem).help("encode it by `target` or `frequency`"));
        }
        let count = self.count(features);
        if count > MOST_COMPONENTS {
            let problem = format!("{} numbers have {count} products and themselves", features.len());
            return Err(Problem::new(format!("{problem}; {MOST_COMPONENTS} are the most")));
        }
        let fits = self.estimator.settings().check_features(&self.components(features));
        fits.map_err(|problem| problem.under("estimator"))
    }

    fn largest(&self) -> f64 {
        // The products of numbers that are learned from as they are have to be usable, too.
        self.estimator.settings().largest().sqrt()
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        self.estimator.settings().most_numbers(&self.components(features), classes)
    }

    fn can_diverge(&self) -> bool {
        self.estimator.settings().can_diverge()
    }

    fn supports_devices(&self) -> bool {
        self.estimator.settings().supports_devices()
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let numbers = Shape::new(features, &[]).numbers;
        let products = Products { numbers, from: usize::from(self.interaction_only), count: self.count(features) };
        Box::new(Mapped::new(products, &self.components(features), &self.estimator, classes))
    }
}

/// The numbers of a row, and the product of each with each behind it.
#[derive(Clone, Debug)]
struct Products {
    numbers: usize,
    /// 1 if a number is not multiplied by itself, else 0.
    from: usize,
    count: usize,
}

impl Map for Products {
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn stride(&self) -> usize {
        self.count.next_multiple_of(AT_ONCE)
    }

    #[inline(always)]
    fn components(&self, row: &Scratch, into: &mut [f64]) {
        let numbers = &row.numbers[..self.numbers];
        let (own, mut rest) = into.split_at_mut(self.numbers);
        own.copy_from_slice(numbers);
        for (at, number) in numbers.iter().enumerate() {
            let others = &numbers[(at + self.from).min(self.numbers)..];
            let (products, behind) = rest.split_at_mut(others.len());
            products.iter_mut().zip(others).for_each(|(product, other)| *product = number * other);
            rest = behind;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::Encoder;
    use crate::vector::padded;

    fn products(interaction_only: bool, numbers: &[f64]) -> Vec<f64> {
        let estimator = serde_json::json!({ "type": "linear_regression" });
        let table = serde_json::json!({ "estimator": estimator, "interaction_only": interaction_only });
        let settings: PolynomialFeatures = serde_json::from_value(table).unwrap();
        let features = vec![Feature::new("x", "float64", Encoder::Raw); numbers.len()];
        let count = settings.count(&features);
        let products = Products { numbers: numbers.len(), from: usize::from(interaction_only), count };
        let mut row = Scratch { numbers: numbers.to_vec(), slots: Vec::new() };
        row.numbers.resize(padded(numbers.len()), 0.0);
        let mut into = vec![0.0; products.stride()];
        products.components(&row, &mut into);
        into.truncate(count);
        into
    }

    /// `PolynomialFeatures(2, include_bias=False).fit_transform([[2, 3, 5]])`, and with `interaction_only=True`.
    #[test]
    fn products_are_those_of_scikit_learn() {
        assert_eq!(products(false, &[2.0, 3.0, 5.0]), [2.0, 3.0, 5.0, 4.0, 6.0, 10.0, 9.0, 15.0, 25.0]);
        assert_eq!(products(true, &[2.0, 3.0, 5.0]), [2.0, 3.0, 5.0, 6.0, 10.0, 15.0]);
        assert_eq!((products(false, &[3.0]), products(true, &[3.0])), (vec![3.0, 9.0], vec![3.0]));
    }

    #[test]
    fn categories_and_too_many_numbers_are_refused() {
        let table = serde_json::json!({ "estimator": { "type": "linear_regression" } });
        let settings: PolynomialFeatures = serde_json::from_value(table).unwrap();
        let refused = |features: &[Feature]| settings.check_features(features).unwrap_err().message;
        assert!(refused(&[Feature::new("c", "utf8", Encoder::OneHot(4))]).contains("`c` is a category"));
        let many = vec![Feature::new("x", "float64", Encoder::Raw); 400];
        assert!(refused(&many).contains("65536 are the most"));
        assert!(settings.check_features(&many[..300]).is_ok());
    }
}
