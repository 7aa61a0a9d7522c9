//! The settings of networks.

use std::collections::BTreeMap;

use millstream_core::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::checks::{ClassWeight, check_class_weight};
use super::super::quantiles::check_quantiles;
use super::super::{Estimator, Gives, Kind, Labels, Quantiles, Settings, Shape};
use super::Network;
use super::layer_settings::{LayerSettings, check_count, check_steps};
use super::optimizer_settings::{OptimizerSettings, Schedule};
use super::over_sequences::OverSequences;
use super::plan::Plan;
use super::sequences::Sequences;
use crate::encode::{Feature, LARGEST_OF_32_BITS};
use crate::label::Class;

/// Classes or a number, by the label: a network of layers, which learns a batch of rows at a time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::estimator) struct NetworkSettings {
    /// The layers between the features and the output, whose layer follows from the label: `[{ dense = 64, activation =
    /// "relu" }, { dropout = 0.1 }, { dense = 32 }]`.
    pub(super) layers: Vec<LayerSettings>,
    /// Has the layers see the last rows of whoever a row is of, a card or a sensor, each in a sequence of its own: `{ key = "card", rows = 16 }`. The
    /// layers up to the last `gru`, `lstm` or `conv1d` go over each of these rows; those behind it get what it gives for the row that is
    /// predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<SequenceSettings>,
    /// What is minimised. For classes `log_loss`, which is all there is for them; for numbers `squared_error` (the
    /// default), `absolute_error`, or `huber`, which is linear from a distance of 1 on. Numbers are learned as they
    /// are: a label of hundreds or thousands is learned sooner if an `sql` node divides it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<NetworkLoss>,
    /// Quantiles of the number to predict beside it, in ascending order: `[0.1, 0.5, 0.9]`. Predictions then have a column `quantiles` with a
    /// field for each, of which `prediction` is the one nearest to the median. What is minimised is the loss of the quantiles (*pinball*): the metric
    /// `quantile_loss` is its mean, and `coverage` the share of the labels between the outer two, which should be nearly the difference of their
    /// shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 0, max = 1)))]
    pub(super) quantiles: Vec<f64>,
    /// How the weights follow the gradient.
    #[serde(default)]
    pub(super) optimizer: OptimizerSettings,
    /// How the learning rate changes with the number of batches.
    #[serde(default)]
    pub(super) schedule: Schedule,
    /// Over how many batches the learning rate rises to what it is.
    #[serde(default)]
    pub(super) warmup: u32,
    /// Gradients that are longer, all weights together, are shortened to this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(super) clip_norm: Option<f64>,
    /// How many rows are learned at once. Every row is predicted as it comes, before it is learned; rows of an incomplete
    /// batch are kept in the model until others complete it.
    #[serde(default = "default_batch_rows")]
    #[schemars(range(min = 1, max = 1048576))]
    pub(super) batch_rows: u32,
    /// How many numbers stand for a text or boolean, learned with the rest. As `features` says, every value has a slot of
    /// its own (`one_hot`) or shares one (`hash`); a network has so many numbers for each slot.
    #[serde(default = "default_embedding")]
    #[schemars(range(min = 1, max = 4096))]
    pub(super) embedding: u32,
    /// The seed of the random numbers that the initial weights and dropout are drawn from.
    #[serde(default)]
    pub(super) seed: u64,
    /// How much the rows of a class count, by the class: `{ fraud = 20 }`. Classes that are not named count 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) class_weight: ClassWeight,
}

/// The rows that a network over sequences sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct SequenceSettings {
    /// The feature that says whose row it is: a category, which the network also learns from, as from any other. `features = { card = { hash = 1 } }`
    /// tells it nothing but whose sequence it is. Rows without a key stand alone. Without this setting all rows are one sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many rows it sees: the row that is predicted, and the ones of its key that `train` had seen before it, whether they were learned or not.
    /// Gradients go back over all of them. `predict` sees those that came before the model was published, and does not add to them.
    #[schemars(range(min = 2, max = 1024))]
    pub rows: u32,
    /// The rows of how many keys are kept. One more takes the place of the key that was seen least recently.
    #[serde(default = "default_keys")]
    #[schemars(range(min = 1, max = 16777216))]
    pub keys: u32,
}

/// What a network minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NetworkLoss {
    /// Of the probabilities of classes.
    LogLoss,
    /// Half the square of the distance.
    SquaredError,
    /// The distance.
    AbsoluteError,
    /// Half the square of the distance up to 1, linear from there on.
    Huber,
    /// That of quantiles, which their setting chooses.
    #[serde(skip)]
    Quantiles,
}

fn default_batch_rows() -> u32 {
    64
}

fn default_embedding() -> u32 {
    8
}

fn default_keys() -> u32 {
    10_000
}

/// The most layers, rows of a batch, and numbers for a category.
const MOST_LAYERS: usize = 1000;
const MOST_BATCH_ROWS: u32 = 1 << 20;
const MOST_EMBEDDING: u32 = 1 << 12;
const MOST_KEYS: u32 = 1 << 24;

impl Kind for NetworkSettings {
    const NAME: &'static str = "network";
    const EXAMPLE: &'static str = r#"layers = [{ dense = 16, activation = "tanh" }, { dropout = 0.1 }, { dense = 8 }]
optimizer = { type = "adam", learning_rate = 0.01 }
batch_rows = 30"#;
    const EXPORTS: bool = true;
}

impl Settings for NetworkSettings {
    fn labels(&self) -> Labels {
        Labels::Any
    }

    fn takes_weights(&self) -> bool {
        true
    }

    fn gives(&self, classes: &[Class]) -> Gives {
        match classes {
            [] if self.quantiles.is_empty() => Gives::Number,
            [] => Gives::Quantiles(Quantiles::of(&self.quantiles)),
            _ => Gives::Probabilities,
        }
    }

    fn check(&self, classes: &[Class]) -> Result<(), Problem> {
        self.check_sizes()?;
        self.check_learning()?;
        self.check_label(classes)
    }

    /// The weights are numbers of 32 bits.
    fn largest(&self) -> f64 {
        LARGEST_OF_32_BITS
    }

    fn most_numbers(&self, features: &[Feature], classes: &[Class]) -> u64 {
        let Shape { numbers, slots, .. } = Shape::new(features, classes);
        let (categories, embedding) = (features.len() - numbers, self.embedding as usize);
        let outputs = classes.len().max(self.quantiles.len()).max(1);
        let plan = Plan::new(self, numbers + categories * embedding, outputs);
        let of_a_batch = (plan.numbers_of_a_row() as u64).saturating_mul(u64::from(self.batch_rows));
        let of_sequences = self.sequence.as_ref().map_or(0, |sequence| {
            let rows = u64::from(sequence.keys).saturating_mul(u64::from(sequence.rows) - 1);
            rows.saturating_mul(numbers.max(categories) as u64).max(2 * u64::from(sequence.keys))
        });
        (slots as u64).saturating_mul(embedding as u64).max(plan.size() as u64).max(of_a_batch).max(of_sequences)
    }

    fn check_features(&self, features: &[Feature]) -> Result<(), Problem> {
        let Some(key) = self.sequence.as_ref().and_then(|sequence| sequence.key.as_ref()) else { return Ok(()) };
        let problem = match features.iter().find(|feature| feature.name == *key) {
            None => Problem::new(format!("the key `{key}` is none of the features")).help("add it to `features`"),
            Some(feature) if feature.encoder.is_number() => {
                let problem = format!("the key `{key}` is read as a number, and should be a category");
                Problem::new(problem).help(format!("say `{key} = {{ hash = 1 }}` in `features`"))
            }
            Some(_) => return Ok(()),
        };
        Err(problem.under("key").under("sequence"))
    }

    fn supports_devices(&self) -> bool {
        self.sequence.is_none()
    }

    fn follows_from_one_row(&self) -> bool {
        self.sequence.is_none()
    }

    fn build(&self, features: &[Feature], classes: &[Class]) -> Box<dyn Estimator> {
        let shape = Shape::new(features, classes);
        let categories = features.iter().filter(|feature| !feature.encoder.is_number());
        let slots = categories.clone().map(|category| category.encoder.slots());
        let network = Network::new(self, slots, shape).weighing(classes);
        let Some(sequence) = &self.sequence else { return Box::new(network) };
        let is_key = |name: &String| categories.clone().position(|category| category.name == *name);
        let key = sequence.key.as_ref().and_then(is_key);
        let sequences = Sequences::new(sequence, key, shape.numbers, categories.count());
        Box::new(OverSequences { network, sequences })
    }
}

impl NetworkSettings {
    fn check_sizes(&self) -> Result<(), Problem> {
        if self.layers.len() > MOST_LAYERS {
            let problem = format!("there are {} layers; {MOST_LAYERS} are the most", self.layers.len());
            return Err(Problem::new(problem).under("layers"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check().map_err(|problem| problem.under(index).under("layers"))?;
        }
        self.check_sequence()?;
        check_count("batch_rows", self.batch_rows, MOST_BATCH_ROWS)?;
        check_count("embedding", self.embedding, MOST_EMBEDDING)
    }

    fn check_sequence(&self) -> Result<(), Problem> {
        let over_rows = self.layers.iter().position(LayerSettings::goes_over_rows);
        match (&self.sequence, over_rows) {
            (None, None) => Ok(()),
            (Some(sequence), Some(_)) => {
                let checked = check_steps(sequence.rows).and_then(|()| check_count("keys", sequence.keys, MOST_KEYS));
                checked.map_err(|problem| problem.under("sequence"))
            }
            (None, Some(index)) => {
                let problem = Problem::new("this layer goes over the rows of a sequence, and there is none");
                let help = "add `sequence = { key = \"FEATURE\", rows = 16 }` to the estimator";
                Err(problem.help(help).under(index).under("layers"))
            }
            (Some(_), None) => {
                let problem = Problem::new("no layer goes over the rows of the sequence");
                Err(problem.help("add one, such as `{ gru = 16 }`").under("sequence"))
            }
        }
    }

    fn check_learning(&self) -> Result<(), Problem> {
        self.optimizer.check().map_err(|problem| problem.under("optimizer"))?;
        self.schedule.check().map_err(|problem| problem.under("schedule"))?;
        if let Some(norm) = self.clip_norm.filter(|norm| !norm.is_finite() || *norm <= 0.0) {
            let problem = format!("`clip_norm` is {norm}, and should be a number above 0, such as 1.0");
            return Err(Problem::new(problem).under("clip_norm"));
        }
        Ok(())
    }

    fn check_label(&self, classes: &[Class]) -> Result<(), Problem> {
        if classes.is_empty() && !self.class_weight.is_empty() {
            let problem = "the label is a number, which has no classes";
            return Err(Problem::new(problem).help("list its values in `classes`").under("class_weight"));
        }
        check_class_weight(&self.class_weight, classes)?;
        self.check_quantiles(classes)?;
        match (self.loss, !classes.is_empty()) {
            (Some(NetworkLoss::LogLoss), false) => {
                let problem = "the loss `log_loss` is of classes, and the label is a number";
                let help = "list the label's values in `classes`, or use `squared_error`, `absolute_error` or `huber`";
                Err(Problem::new(problem).help(help).under("loss"))
            }
            (Some(loss), true) if loss != NetworkLoss::LogLoss => {
                let problem = "the label has classes, whose loss is `log_loss`";
                Err(Problem::new(problem).help("leave `loss` out").under("loss"))
            }
            _ => Ok(()),
        }
    }

    fn check_quantiles(&self, classes: &[Class]) -> Result<(), Problem> {
        if self.quantiles.is_empty() {
            return Ok(());
        }
        if !classes.is_empty() {
            let problem = Problem::new("quantiles are of numbers, and the label has classes");
            return Err(problem.help("leave `quantiles` out").under("quantiles"));
        }
        if self.loss.is_some() {
            let problem = Problem::new("`quantiles` say what is minimised, and so does `loss`");
            return Err(problem.help("leave one of them out").under("loss"));
        }
        check_quantiles(&self.quantiles)
    }

    pub(super) fn loss(&self, of_classes: bool) -> NetworkLoss {
        let usual = match (of_classes, self.quantiles.is_empty()) {
            (true, _) => NetworkLoss::LogLoss,
            (false, true) => NetworkLoss::SquaredError,
            (false, false) => NetworkLoss::Quantiles,
        };
        self.loss.unwrap_or(usual)
    }
}
