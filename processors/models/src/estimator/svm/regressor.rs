//! The estimator `svr`.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Estimator, Gives, Kind, Labels, Settings};
use super::{Svm, SvmSettings};
use crate::encode::{Feature, LARGEST_OF_32_BITS};
use crate::label::Class;

/// A number: a support vector machine over the last rows (scikit-learn's `SVR`, which is libsvm's, found by the same steps). It is the flattest curve
/// that lies within `epsilon` of as many of them as possible, measured by a kernel. It is fitted, and takes memory, as `svc` does.
///
/// Take it where `svc` is taken, for numbers. Labels should be of about the size 1: `C` and `epsilon` are in their unit, so divide large ones in an `sql` node. It
/// does not go on with a trend: far from all rows it predicts what is in the middle.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::estimator) struct Svr(SvmSettings);

impl Kind for Svr {
    const NAME: &'static str = "svr";
    const EXAMPLE: &'static str = "C = 10\nwindow = 300\nrefit = 200";
}

impl Settings for Svr {
    fn labels(&self) -> Labels {
        Labels::Numbers
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Number
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        if self.0.class_weight != BTreeMap::new() {
            return Err(Problem::new("numbers have no classes that could count more").under("class_weight"));
        }
        self.0.check(classes)
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        self.0.check_features(features)
    }

    fn largest(&self) -> f64 {
        LARGEST_OF_32_BITS
    }

    fn can_diverge(&self) -> bool {
        false
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        self.0.most_numbers(features, classes.len())
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Svm::new(&self.0, features, classes))
    }
}
