//! The estimator `sgd_classifier`.

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Estimator, Gives, Kind, Labels, Settings, Shape};
use super::{Sgd, SgdSettings};
use crate::encode::Feature;
use crate::label::Class;

/// Classes: scikit-learn's `SGDClassifier`, one weighted sum and an intercept for two classes; for more, one for
/// each class against all others. Losses without probabilities (`hinge`, the default, among them) give `score`, the
/// weighted sum, in the place of `probability`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::estimator) struct SgdClassifier(SgdSettings);

impl Kind for SgdClassifier {
    const NAME: &'static str = "sgd_classifier";
    const EXAMPLE: &'static str = "loss = \"log_loss\"\nalpha = 0.001";
    const EXPORTS: bool = true;
}

impl Settings for SgdClassifier {
    fn labels(&self) -> Labels {
        Labels::Classes
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, _classes: &[Class]) -> Gives {
        if self.0.loss(true).has_probabilities() { Gives::Probabilities } else { Gives::Scores }
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        self.0.check_classifier(classes)
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        Box::new(Sgd::new(&self.0, classes, Shape::new(features, classes)))
    }
}
