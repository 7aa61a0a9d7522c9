//! The estimator `svc`.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Estimator, Gives, Kind, Labels, Settings};
use super::{Svm, SvmSettings};
use crate::encode::{Feature, LARGEST_OF_32_BITS};
use crate::label::Class;

/// Two or more classes: a support vector machine over the last rows (scikit-learn's `SVC`, which is libsvm's, found by the same steps: Fan, Chen & Lin 2005).
/// The border between two classes is the one that lies farthest from the rows of both, measured by a kernel, so that it can have any smooth shape;
/// of more classes, each is set against each. Adds `score`, what speaks for the second class: 0 is the border, and 1 the margin. For more
/// classes, `scores` say how many of the others each wins against. They are no probabilities.
///
/// Take it where rows are few and dear, features are numbers, and the border is curved: nothing that learns row by row is as exact on some thousand rows. Don't take it
/// where features are many and most say nothing, or where rows change faster than it is fitted; over all rows ever, `rbf_sampler` before a linear
/// estimator comes near to it. It is fitted anew every `refit` rows, and the rows behind wait for it: the time grows with the square of the window, some
/// milliseconds for 1,000 rows of 28 numbers and 0.4 seconds for 10,000, where scikit-learn takes 0.95; by 2,079 support vectors 60,000 rows a second are predicted,
/// where it predicts 7,400. Before the first fit, at row 16, the first class is predicted. The window takes 8 bytes for each row and
/// feature, the support vectors at most as much again, and a fit as much for sorted rows and `cache_size` more.
///
/// With `kernel = { quantum = … }` rows are compared as the states that a quantum computer's circuit makes of them, computed exactly here (`QSVC` of Qiskit,
/// with its `FidelityStatevectorKernel`). That is for trying what such a computer would find: on data as it is, `rbf` is as good or better, and quicker. A row of `n` numbers has a state of
/// `2^(n + 1)` numbers; numbers are angles, so bring them to a range such as 0 to 1 first, and take them `raw`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::estimator) struct Svc(SvmSettings);

impl Kind for Svc {
    const NAME: &'static str = "svc";
    const EXAMPLE: &'static str = "C = 10\nwindow = 300\nrefit = 200";
}

impl Settings for Svc {
    fn labels(&self) -> Labels {
        Labels::Classes
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        Gives::Scores
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
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
