//! Steps of a pipeline that bring numbers to about one size: together they are one standardisation.

use millstream_core::{Error, Result};
use serde_json::Value as Json;

use super::skops::Object;
use crate::layers::{Layer, LayerKind, Weights};

/// What becomes of each number `x`: `(x - mean) / deviation`.
#[derive(Debug, PartialEq)]
pub(crate) struct Scaling {
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// Of how many rows that is known.
    rows: f64,
}

/// What one step makes of a number: it is multiplied, and then something is added.
struct Line {
    factors: Vec<f64>,
    summands: Vec<f64>,
}

impl Scaling {
    /// That of these steps together; none if there are none.
    ///
    /// # Errors
    /// If one of them does something else.
    pub(super) fn of(steps: &[Object<'_>], features: usize) -> Result<Option<Self>> {
        let mut all = Line { factors: vec![1.0; features], summands: vec![0.0; features] };
        let mut rows = 1.0_f64;
        for step in steps {
            let line = Line::of(step, features)?;
            for (at, (factor, summand)) in line.factors.iter().zip(&line.summands).enumerate() {
                all.factors[at] *= factor;
                all.summands[at] = all.summands[at] * factor + summand;
            }
            rows = rows.max(step.number("n_samples_seen_").unwrap_or(1.0));
        }
        let Line { factors, summands } = all;
        if !factors.iter().all(|factor| *factor > 0.0 && factor.is_finite()) {
            return Err(Error::new("its scalers multiply by numbers that are not above 0"));
        }
        let mean = factors.iter().zip(&summands).map(|(factor, summand)| -summand / factor).collect();
        let variance = factors.iter().map(|factor| 1.0 / (factor * factor)).collect();
        Ok((!steps.is_empty()).then_some(Self { mean, variance, rows }))
    }

    /// The same as a layer.
    pub fn layer(&self) -> Layer {
        let shape = [self.mean.len()];
        let (mean, variance) = (self.mean.clone(), self.variance.clone());
        let weights = [
            Weights::new(&shape, mean),
            Weights::new(&shape, variance),
            Weights::new(&[], vec![self.rows.min(i32::MAX.into()) as i32]),
        ];
        Layer::new(LayerKind::Normalization, weights)
    }
}

impl Line {
    fn of(step: &Object<'_>, features: usize) -> Result<Self> {
        let is_on = |name: &str| step.setting(name) != Json::Bool(false);
        let numbers = |name: &str| step.numbers(name, &[features]);
        let ones = || Ok(vec![1.0; features]);
        let zeros = || Ok(vec![0.0; features]);
        let (centre, scale) = match step.class() {
            "StandardScaler" => (
                if is_on("with_mean") { numbers("mean_") } else { zeros() }?,
                if is_on("with_std") { numbers("scale_") } else { ones() }?,
            ),
            "RobustScaler" => (
                if is_on("with_centering") { numbers("center_") } else { zeros() }?,
                if is_on("with_scaling") { numbers("scale_") } else { ones() }?,
            ),
            "MaxAbsScaler" if !is_clipped(step) => (zeros()?, numbers("scale_")?),
            "MinMaxScaler" if !is_clipped(step) => {
                return Ok(Self { factors: numbers("scale_")?, summands: numbers("min_")? });
            }
            _ => return Err(unknown(step)),
        };
        let factors: Vec<f64> = scale.iter().map(|scale| 1.0 / scale).collect();
        let summands = centre.iter().zip(&factors).map(|(centre, factor)| -centre * factor).collect();
        Ok(Self { factors, summands })
    }
}

/// Whether numbers outside of the range that was seen are brought into it.
fn is_clipped(step: &Object<'_>) -> bool {
    step.setting("clip") == Json::Bool(true)
}

fn unknown(step: &Object<'_>) -> Error {
    let name = step.full_name();
    let clipped = if is_clipped(step) { " that clips" } else { "" };
    Error::new(format!(
        "its pipeline has a `{name}`{clipped}, which has no like here; write the pipeline as ONNX by skl2onnx, and import that. Taken over are \
         StandardScaler, RobustScaler, MaxAbsScaler and MinMaxScaler"
    ))
}
