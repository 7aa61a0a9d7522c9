//! The settings of support vector machines, with the names and defaults of scikit-learn.

use std::collections::BTreeMap;

use millstream_core::{ByteSize, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Shape;
use super::super::checks::{ClassWeight, check_class_weight, check_from_to, check_not_negative, check_positive};
use super::super::quantum::FeatureMap;
use super::kernel::{Kernel, KernelKind};
use crate::encode::Feature;
use crate::label::Class;

/// How support vector machines are learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct SvmSettings {
    /// How much a row on the wrong side counts, against a simple border: less is simpler.
    #[serde(rename = "C", default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub c: f64,
    /// How alike two rows `x` and `y` are: `linear` is `x·y`, `rbf` is `exp(-gamma |x - y|²)`, `poly` is `(gamma x·y + coef0) ^ degree`, `sigmoid` is
    /// `tanh(gamma x·y + coef0)`, and `{ quantum = { map = "zz" } }` is how alike the states of qubits are that a circuit makes of both.
    #[serde(default)]
    pub kernel: KernelKind,
    /// The `gamma` of kernels: a number, `scale` (one by the number of features, each category counting as many as it has slots, and by the variance of the
    /// window's numbers), or `auto` (one by the number of features).
    #[serde(default)]
    pub gamma: Gamma,
    /// The exponent of `poly`.
    #[serde(default = "degree")]
    #[schemars(range(min = 0, max = 32))]
    pub degree: u32,
    /// What `poly` and `sigmoid` add.
    #[serde(default)]
    pub coef0: f64,
    /// How far numbers may be off for nothing: only `svr` has it.
    #[serde(default = "epsilon")]
    #[schemars(range(min = 0))]
    pub epsilon: f64,
    /// How exactly the minimum is found.
    #[serde(default = "tol")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub tol: f64,
    /// The most steps of a fit. One that needs more ends with what it has.
    #[serde(default = "max_iter")]
    #[schemars(range(min = 1))]
    pub max_iter: u64,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1. Only `svc` has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub class_weight: ClassWeight,
    /// How many rows are fitted to: the last ones.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 100000))]
    pub window: u32,
    /// After how many rows it is fitted anew, the flow waiting for it. Before there are so many, it is fitted whenever there are twice as many rows as the
    /// last time, from 16 on.
    #[serde(default = "refit")]
    #[schemars(range(min = 1))]
    pub refit: u32,
    /// How much memory a fit takes at most for lines of the kernel's matrix, but for two of them: what has no place there is computed again. It
    /// only says how long a fit takes.
    #[serde(default = "cache_size")]
    pub cache_size: ByteSize,
}

fn one() -> f64 {
    1.0
}

fn degree() -> u32 {
    3
}

fn epsilon() -> f64 {
    0.1
}

fn tol() -> f64 {
    1e-3
}

fn max_iter() -> u64 {
    10_000_000
}

fn window() -> u32 {
    1000
}

fn refit() -> u32 {
    1000
}

fn cache_size() -> ByteSize {
    ByteSize(200 << 20)
}

/// A number, or how it follows from the rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Gamma {
    /// By a rule.
    By(GammaRule),
    /// This.
    Number(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GammaRule {
    Scale,
    Auto,
}

impl Default for Gamma {
    fn default() -> Self {
        Self::By(GammaRule::Scale)
    }
}

const MOST_ROWS: u32 = 100_000;

impl SvmSettings {
    pub fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        check_positive(&[("C", self.c), ("tol", self.tol)])?;
        check_not_negative(&[("epsilon", self.epsilon)])?;
        check_from_to(&[
            ("degree", self.degree.into(), 0.0, 32.0),
            ("coef0", self.coef0, -1e9, 1e9),
            ("window", self.window.into(), 1.0, MOST_ROWS.into()),
            ("refit", self.refit.into(), 1.0, f64::from(u32::MAX)),
            ("max_iter", self.max_iter as f64, 1.0, f64::MAX),
        ])?;
        if let Gamma::Number(gamma) = self.gamma {
            check_positive(&[("gamma", gamma)])?;
        }
        if let KernelKind::Quantum(map) = &self.kernel {
            map.check().map_err(|problem| problem.under("quantum").under("kernel"))?;
        }
        check_class_weight(&self.class_weight, classes)
    }

    pub fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        match self.kernel {
            KernelKind::Quantum(_) => FeatureMap::check_features(features),
            _ => Ok(()),
        }
    }

    /// The largest part of the state: what rows have of numbers, or are for other classes.
    pub fn most_numbers(&self, features: &[Feature], classes: usize) -> u64 {
        let of_row = match &self.kernel {
            KernelKind::Quantum(map) => map.numbers(Shape::new(features, &[]).numbers),
            _ => features.len(),
        };
        let pairs = (classes as u64).saturating_mul(classes as u64) / 2;
        u64::from(self.window).saturating_mul(of_row.max(classes).max(1) as u64).max(pairs)
    }

    /// The kernel, where the rule for `gamma` said this.
    pub fn kernel(&self, gamma: f64) -> Kernel {
        Kernel { kind: self.kernel.clone(), gamma, degree: self.degree, coef0: self.coef0 }
    }

    /// Whether it is fitted behind so many rows.
    #[inline(always)]
    pub fn is_due(&self, rows: u64) -> bool {
        let refit = u64::from(self.refit);
        rows.is_multiple_of(refit) || (rows < refit && rows >= 16 && rows.is_power_of_two())
    }
}
