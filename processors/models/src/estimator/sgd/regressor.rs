//! The estimator `sgd_regressor`.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Estimator, Gives, Kind, Labels, Settings, Shape};
use super::{Sgd, SgdSettings};
use crate::encode::Feature;
use crate::label::Class;

/// A number: scikit-learn's `SGDRegressor`, a weighted sum and an intercept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::estimator) struct SgdRegressor(SgdSettings);

impl Kind for SgdRegressor {
    const NAME: &'static str = "sgd_regressor";
    const EXAMPLE: &'static str = "eta0 = 0.05\naverage = 100";
    const EXPORTS: bool = true;
}

impl Settings for SgdRegressor {
    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, _classes: &[Class]) -> Result<(), Problem> {
        self.0.check_regressor()
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Sgd::new(&self.0, classes, Shape::new(features, classes)))
    }
}
