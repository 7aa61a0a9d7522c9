//! The node `predict`: predictions of a model that is trained elsewhere.

mod held;
mod registered;

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{BooleanArray, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{
    Batch, ByteSize, Collector, Epoch, Error, Kind, Parts, PlanContext, PortPlan, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Snapshot, State, Stream, Uses, known_names, type_name,
};
use millstream_models::device::{self, DeviceSettings, OpenDevice};
use millstream_models::registry::{ModelReference, ModelRegistry, Selector};
use millstream_models::{Feature, Model, Signature, sha256};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{append, with_columns, with_predictions};
use crate::pieces::Pieces;
use crate::version;
use held::Held;
use registered::Registered;

/// Adds the predictions of a model to the rows that pass, and learns nothing.
///
/// `model = "fraud"` is the model that a `train` node of the same flow trains: new versions arrive at barriers, and
/// predict the rows behind. `fraud@champion`, `fraud@latest` and `fraud/3` are read from the registry when the flow
/// starts; a flow that is resumed keeps the version that it had, also if the alias was moved since. `--reset` of
/// the node takes the version that the alias points at now, and loses no row.
///
/// The new columns are those of `train`: `prediction` and, for classes, `probability` (of the positive one of two
/// classes, else of the predicted one) and, for more than two, `probabilities`; or `score` and `scores`; or `quantiles` behind a number; or those of an estimator without a label. A row that lacks a
/// feature leaves by the port `failed`, unless the model was trained with `missing = "mean"`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictSettings {
    /// The model: `NAME` of one that this flow trains, or `NAME@champion`, `NAME@latest`, `NAME/3` from the registry.
    model: String,
    /// What happens to rows before the first version arrives from the flow's `train` node. By default their predictions
    /// are null (`"null"`); but where the only version comes at the end of the flow, they wait for it (`"hold"`), and are
    /// predicted by what it has learned, though it came to be known later.
    before_first: Option<BeforeFirst>,
    /// How many bytes of rows `before_first = "hold"` keeps at most.
    #[serde(default = "default_hold_bytes")]
    #[schemars(extend("default" = "64MiB"))]
    hold_bytes: ByteSize,
    /// Above which probability (or score) the positive of two classes is predicted, if it is another than in training.
    threshold: Option<f64>,
    /// Whether a column `model_version` says by which version each row is predicted: `fraud/3` if it is from the registry;
    /// `fraud#` and the first 12 digits of its SHA-256, as `millstream models list` shows them, if it is from the same flow,
    /// where rows are predicted before the version gets its number.
    #[serde(default)]
    model_version: bool,
    /// A prefix of the names of the new columns.
    #[serde(default, rename = "as")]
    prefix: String,
    /// Where a network is computed: `cpu`, `cuda:0`, or `auto`, which is the first CUDA device that works, else the CPU.
    #[serde(default)]
    device: DeviceSettings,
}

/// What happens to rows before there is a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BeforeFirst {
    /// Their predictions are null.
    Null,
    /// They wait for the first version.
    Hold,
    /// They leave by the port `failed`.
    Fail,
}

impl BeforeFirst {
    /// Without waiting, a model that comes at the end would predict nothing at all.
    fn usual(versions: Option<&Stream>) -> Self {
        if versions.is_some_and(|versions| version::is_only_at_the_end(&versions.schema)) {
            Self::Hold
        } else {
            Self::Null
        }
    }
}

fn default_hold_bytes() -> ByteSize {
    ByteSize(64 << 20)
}

impl Kind for PredictSettings {
    const NAME: &'static str = "predict";
    const ALSO_CALLED: &'static [&'static str] = &["score", "infer", "apply"];
    const EXAMPLE: &'static str = r#"model = "fraud@champion""#;
    const FREE_SETTINGS: &'static [&'static str] = &["device", "hold_bytes"];
}

const ROWS_PORT: usize = 0;

impl ProcessorSettings for PredictSettings {
    fn plan(&self, context: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let input = &inputs[0];
        let reference = ModelReference::parse(&self.model).map_err(|error| self.problem(&error))?;
        let (signature, registered, model) = match inputs.get(1) {
            Some(versions) => (version::signature(&versions.schema).map_err(|error| self.problem(&error))?, None, None),
            None => {
                let (registered, model) = self.registered(&reference, context)?;
                (model.signature().clone(), Some(registered), Some(model))
            }
        };
        let model_name = registered.as_ref().map_or_else(|| reference.to_string(), Registered::name);
        check_features(&model_name, &signature, input)?;
        signature.check_device(self.device)?;
        signature.clone().with_threshold(self.threshold)?;
        let version =
            self.model_version.then(|| Field::new(format!("{}model_version", self.prefix), DataType::Utf8, true));
        let schema = with_predictions(&input.schema, &signature, &self.prefix, true)?;
        let schema = with_columns(&schema, version.into_iter().collect())?;
        let features = signature.features.iter().map(|feature| feature.name.clone());
        let mut uses = vec![Uses::passing_on(features)];
        uses.extend(inputs.get(1).map(|_| Uses::all()));
        let name = reference.model.as_str();
        let model =
            model.zip(registered.as_ref()).map(|(model, registered)| Version::of_registry(name, registered, model));
        let mut predictor = Predictor {
            name: reference.model.clone(),
            signature,
            registered,
            model,
            arrived: None,
            threshold: self.threshold,
            says_version: self.model_version,
            before_first: self.before_first.unwrap_or_else(|| BeforeFirst::usual(inputs.get(1))),
            hold_bytes: self.hold_bytes,
            held: Held::default(),
            pieces: Pieces::default(),
            input: input.schema.clone(),
            schema: schema.clone(),
            device: OpenDevice::Cpu,
        };
        let device = self.device;
        let build = Box::new(move || {
            predictor.device = device::open(device)?;
            predictor.model = predictor.model.map(|version| version.computed_on(&predictor.device)).transpose()?;
            Ok(Box::new(predictor) as Box<dyn Processor>)
        });
        Ok(ProcessorPlan { ports: vec![PortPlan::main(schema)], uses, fails: true, build })
    }

    fn follows_model(&self) -> Option<&str> {
        let trained_here = !self.model.contains(['@', '/']);
        trained_here.then_some(self.model.as_str())
    }
}

impl PredictSettings {
    fn problem(&self, error: &Error) -> Problem {
        Problem::new(error.to_string()).under("model")
    }

    fn registered(&self, reference: &ModelReference, context: &PlanContext) -> Result<(Registered, Model), Problem> {
        let name = &reference.model;
        if reference.selector == Selector::Any {
            let help = format!("`{name}@champion` or `{name}/3` is one from the registry");
            return Err(Problem::new(format!("no node of this flow trains a model `{name}`"))
                .help(help)
                .under("model"));
        }
        let read = || {
            let store = millstream_store::open(&context.registry, &context.work_folder)?;
            let kept = context.kept.has(VERSION).then(|| context.kept.get(VERSION)).transpose()?;
            Registered::find(ModelRegistry::open(store, &context.registry), reference.clone(), kept)
        };
        read().map_err(|error| self.problem(&error))
    }
}

/// Whether the rows have what the model was trained on.
fn check_features(model: &str, signature: &Signature, input: &Stream) -> Result<(), Problems> {
    let problem = |feature: &Feature| {
        let trained = format!("model `{}` was trained on `{}` ({})", model, feature.name, feature.type_name);
        let Ok(field) = input.schema.field_with_name(&feature.name) else {
            let problem = Problem::new(format!("{trained}, which the rows from `{}` don't have", input.node));
            return Some(problem.help(known_names(&feature.name, column_names(&input.schema))).under("model"));
        };
        let odd = !feature.accepts(field.data_type());
        let problem =
            || format!("{trained}, which in the rows from `{}` is {}", input.node, type_name(field.data_type()));
        odd.then(|| Problem::new(problem()).help("cast it in an `sql` node").under("model"))
    };
    let problems: Problems = signature.features.iter().filter_map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn column_names(schema: &Schema) -> impl Iterator<Item = &str> + Clone {
    schema.fields().iter().map(|field| field.name().as_str())
}

struct Predictor {
    /// The model's name.
    name: String,
    signature: Signature,
    /// Where the model comes from, if not from this flow.
    registered: Option<Registered>,
    /// The version in use.
    model: Option<Version>,
    /// A version that takes effect at the next barrier.
    arrived: Option<Version>,
    /// Above which number the positive of two classes is predicted, if not by the model's own rule.
    threshold: Option<f64>,
    /// Whether rows say by which version they are predicted.
    says_version: bool,
    before_first: BeforeFirst,
    hold_bytes: ByteSize,
    /// Rows that wait for the first version.
    held: Held,
    /// Rows that are handed on, piece by piece.
    pieces: Pieces,
    /// The columns that come in, and those that go out.
    input: SchemaRef,
    schema: SchemaRef,
    /// Where networks are computed.
    device: OpenDevice,
}

impl Processor for Predictor {
    fn process(&mut self, port: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        if port != ROWS_PORT {
            let arrived = version::last(&batch.rows)?.map(|bytes| Version::of_flow(&self.name, bytes)).transpose()?;
            self.arrived = arrived.or(self.arrived.take());
            return Ok(());
        }
        if self.model.is_none() && self.before_first == BeforeFirst::Hold {
            return self.hold(batch);
        }
        self.pieces.add([batch]);
        self.hand_on(out).map(|_| ())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        self.hand_on(out)
    }

    fn barrier(&mut self, _epoch: Epoch, _out: &mut Collector) -> Result<()> {
        self.take_arrived()
    }

    // Nothing happens when the model's port ends: whether rows of the same epoch come before or after that differs from
    // run to run, so its last version waits for the next barrier, too.

    fn finish(&mut self, _out: &mut Collector) -> Result<()> {
        self.take_arrived()?;
        // Where no version ever came, they are refused.
        self.pieces.add(self.held.take());
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut state = Parts::default();
        match &self.registered {
            Some(registered) => state.put(VERSION, &registered.version)?,
            None => {
                state.put(VERSIONS, &(self.model.is_some(), self.arrived.is_some()))?;
                keep(MODEL, self.model.as_ref(), &mut state);
                keep(ARRIVED, self.arrived.as_ref(), &mut state);
                self.held.keep(&self.input, &mut state)?;
            }
        }
        Ok(Snapshot::of(state))
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        match &mut self.registered {
            Some(registered) => {
                if let Some(model) = registered.go_on_with(state.get(VERSION)?, &self.signature, &self.input)? {
                    let version = Version::of_registry(&self.name, registered, model);
                    self.model = Some(version.computed_on(&self.device)?);
                }
            }
            None => {
                let (has_model, has_arrived): (bool, bool) = state.get(VERSIONS)?;
                self.model = has_model.then(|| self.kept(MODEL, state)).transpose()?;
                self.arrived = has_arrived.then(|| self.kept(ARRIVED, state)).transpose()?;
                self.held = Held::restore(&self.input, state)?;
            }
        }
        Ok(())
    }
}

/// The parts of the state: the number of a version of the registry; or the files of versions of this flow's model, and which of
/// them there are, so that one that is lost is noticed.
const VERSION: &str = "version";
const VERSIONS: &str = "versions";
const MODEL: &str = "model";
const ARRIVED: &str = "arrived";

fn keep(name: &str, version: Option<&Version>, parts: &mut Parts) {
    if let Some(model) = version.map(|version| version.model.clone()) {
        parts.put_bytes_later(name, move || model.save());
    }
}

/// A version of the model.
struct Version {
    /// What rows say that are predicted by it.
    name: String,
    /// Shared with snapshots, since it never changes.
    model: Arc<Model>,
}

impl Version {
    fn of_registry(model_name: &str, registered: &Registered, model: Model) -> Self {
        Self { name: format!("{model_name}/{}", registered.version), model: Arc::new(model) }
    }

    /// Of a file that the flow has made.
    fn of_flow(model_name: &str, bytes: &[u8]) -> Result<Self> {
        Ok(Self { name: version_name(model_name, bytes), model: Arc::new(Model::load(bytes)?) })
    }

    fn computed_on(self, device: &OpenDevice) -> Result<Self> {
        let mut model = Arc::unwrap_or_clone(self.model);
        model.compute_on(device)?;
        model.prepare()?;
        Ok(Self { model: Arc::new(model), ..self })
    }
}

fn version_name(model_name: &str, bytes: &[u8]) -> String {
    format!("{model_name}#{}", &sha256(bytes)[..12])
}

impl Predictor {
    /// Uses the version that arrived from now on, first of all for the rows that waited for it.
    fn take_arrived(&mut self) -> Result<()> {
        let Some(version) = self.arrived.take() else { return Ok(()) };
        self.model = Some(version.computed_on(&self.device)?);
        self.pieces.add(self.held.take());
        Ok(())
    }

    /// Hands on the next piece. False if there was none.
    fn hand_on(&mut self, out: &mut Collector) -> Result<bool> {
        let Some(batch) = self.pieces.next(&self.signature) else { return Ok(false) };
        match (&self.model, self.before_first) {
            (Some(version), _) => self.predict(version, &batch, out)?,
            (None, BeforeFirst::Null) => self.pass_without(&batch, out)?,
            (None, BeforeFirst::Hold | BeforeFirst::Fail) => self.refuse(&batch, out)?,
        }
        Ok(true)
    }

    fn predict(&self, version: &Version, batch: &Batch, out: &mut Collector) -> Result<()> {
        let model = &version.model;
        let mut input = model.read_unlabelled(&batch.rows)?;
        let mut rows = batch.rows.clone();
        if let Some(refused) = input.refused() {
            let why = |row| model.why_refused(&batch.rows, row).unwrap_or_else(|error| error.to_string());
            rows = out.fail_rows(batch, refused, why)?;
            input = model.read_unlabelled(&rows)?;
        }
        let predictions = model.predict(&input)?.deciding_by(self.threshold);
        let mut columns = predictions.columns(model.signature())?;
        if self.says_version {
            columns.push(Arc::new(StringArray::from_iter_values(repeat_n(&version.name, rows.num_rows()))));
        }
        out.push(0, batch.with_rows(append(&rows, columns, &self.schema)?));
        Ok(())
    }

    fn pass_without(&self, batch: &Batch, out: &mut Collector) -> Result<()> {
        let added = &self.schema.fields()[batch.rows.num_columns()..];
        let nulls = added.iter().map(|field| new_null_array(field.data_type(), batch.len())).collect();
        out.push(0, batch.with_rows(append(&batch.rows, nulls, &self.schema)?));
        Ok(())
    }

    /// A version that was kept in the state.
    fn kept(&self, name: &str, state: &State) -> Result<Version> {
        let bytes = state.bytes(name)?;
        let model = Arc::new(Model::load_like(&self.signature, bytes)?);
        let version = Version { name: version_name(&self.name, bytes), model };
        version.computed_on(&self.device)
    }

    fn hold(&mut self, batch: Batch) -> Result<()> {
        self.held.add(batch);
        if self.held.bytes() > self.hold_bytes.0 {
            return Err(Error::new(format!(
                "more than {} of rows wait for the first version of model `{}`; let it be published sooner, raise \
                 `hold_bytes`, or set `before_first = \"null\"`",
                self.hold_bytes, self.name
            )));
        }
        Ok(())
    }

    fn refuse(&self, batch: &Batch, out: &mut Collector) -> Result<()> {
        let all = BooleanArray::from(vec![true; batch.len()]);
        out.fail_rows(batch, &all, |_| format!("there is no version of model `{}` yet", self.name))?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
