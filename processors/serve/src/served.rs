//! A version of a model that answers requests: its columns, its outputs, and how rows are made of what was sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use millstream_core::{ColumnType, Error, Result as CoreResult, ResultExt as _, known_names};
use millstream_models::profile::{FeatureProfile, InputFigures, Observed};
use millstream_models::registry::{ModelCard, Resolved};
use millstream_models::{Encoder, Feature, Label, Model, prediction_fields};
use tokio::time::Instant;

use crate::batcher::{BatchLimits, Batcher, Predict};
use crate::datatype::Datatype;
use crate::exact::exact;
use crate::refusal::Refusal;
use crate::request_log::{Ids, RequestLog};
use crate::statistics::Figures;
use crate::tensor::Tensor;

/// A version of a model that answers requests. It never changes.
#[derive(Debug)]
pub struct Served {
    /// The model's name.
    pub model: String,
    /// The number of the version.
    pub version: u64,
    /// What is known about it.
    pub card: ModelCard,
    /// What it has done.
    pub figures: Figures,
    /// What it answers with, in their order.
    pub outputs: Vec<Output>,
    /// The columns that rows have before they are predicted.
    schema: SchemaRef,
    batcher: Arc<Batcher<Loaded>>,
}

/// A tensor that predictions are answered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub datatype: Datatype,
    /// What each of the values of a row is of, if it has several: the classes.
    pub labels: Vec<String>,
}

impl Output {
    fn new(field: &Field) -> Self {
        let name = field.name().clone();
        match field.data_type() {
            DataType::Struct(classes) => {
                let labels = classes.iter().map(|class| class.name().clone()).collect();
                Self { name, datatype: Datatype::Fp64, labels }
            }
            other => Self { name, datatype: Datatype::of(other), labels: Vec::new() },
        }
    }

    /// The shape of its tensors, where any number of rows is -1.
    pub fn shape(&self) -> Vec<i64> {
        if self.labels.is_empty() { vec![-1] } else { vec![-1, self.labels.len() as i64] }
    }

    /// The tensor of a column of predictions.
    fn tensor(&self, column: &ArrayRef) -> CoreResult<Tensor> {
        let rows = column.len();
        let (shape, values) = match column.as_struct_opt() {
            Some(classes) => (vec![rows, self.labels.len()], side_by_side(classes.columns(), rows)),
            None => {
                let values = exact(column, &self.datatype.column()).map_err(Error::new);
                (vec![rows], values.doing(|| format!("answering with `{}`", self.name))?)
            }
        };
        Ok(Tensor { name: self.name.clone(), shape, datatype: self.datatype, values })
    }
}

/// The values of columns, row by row.
fn side_by_side(columns: &[ArrayRef], rows: usize) -> ArrayRef {
    let columns: Vec<_> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let values = (0..rows).flat_map(|row| columns.iter().map(move |column| column.value(row)));
    Arc::new(Float64Array::from_iter_values(values))
}

/// A model, as a batcher asks it.
#[derive(Debug)]
struct Loaded {
    model: Model,
    /// What it was asked of late, if it is known what it has learned.
    observed: Option<Mutex<Observed>>,
}

impl Loaded {
    fn new(model: Model, profile: Vec<FeatureProfile>) -> Self {
        let observed = Observed::new(&model, profile).map(Mutex::new);
        Self { model, observed }
    }
}

impl Predict for Loaded {
    fn predict(&self, rows: &RecordBatch) -> CoreResult<Vec<ArrayRef>> {
        if let Some(observed) = &self.observed {
            observed.lock().unwrap_or_else(PoisonError::into_inner).add(&self.model, rows)?;
        }
        self.model.predict_batch(rows)?.columns(self.model.signature())
    }
}

impl Served {
    /// A version that was read.
    ///
    /// # Errors
    /// If it is damaged, or has a feature of a type that is not known.
    pub fn new(model: &str, resolved: Resolved, limits: BatchLimits) -> CoreResult<Self> {
        let Resolved { version, bytes, card } = resolved;
        let profile = card.profile.clone();
        let loading = || format!("loading `{model}/{version}`");
        let loaded = Model::load(&bytes).doing(loading)?;
        loaded.prepare().doing(loading)?;
        let signature = loaded.signature();
        let fields = signature.features.iter().map(read_as).collect::<CoreResult<Vec<_>>>()?;
        let outputs = prediction_fields(signature, "", false).iter().map(Output::new).collect();
        Ok(Self {
            model: model.to_owned(),
            version,
            card,
            figures: Figures::default(),
            outputs,
            schema: Arc::new(Schema::new(fields)),
            batcher: Arc::new(Batcher::new(Loaded::new(loaded, profile), limits)),
        })
    }

    /// What it predicts from, in the order of the features.
    pub fn features(&self) -> &[Feature] {
        &self.model().signature().features
    }

    /// How what it was asked of late differs from what it has learned, by feature. Empty where that is not known.
    pub fn inputs(&self) -> Vec<InputFigures> {
        let Loaded { model, observed } = self.batcher.predictor();
        let observed = observed.iter().map(|observed| observed.lock().unwrap_or_else(PoisonError::into_inner));
        observed.flat_map(|observed| observed.figures(model)).collect()
    }

    /// The type of tensors of a feature.
    pub fn datatype(&self, feature: &Feature) -> Datatype {
        // Times are asked for as numbers: seconds since 1970.
        if feature.encoder == Encoder::Time {
            return Datatype::Fp64;
        }
        let trained_on = ColumnType::parse(&feature.type_name).map(|column| Datatype::of(&column.data_type));
        trained_on.unwrap_or(Datatype::Fp64)
    }

    /// Whether all features may come in one matrix, since they are all numbers, or all texts: the type of its values.
    pub fn matrix(&self) -> Option<Datatype> {
        let texts = self.schema.fields().iter().filter(|field| *field.data_type() == DataType::Utf8).count();
        match texts {
            0 => Some(Datatype::Fp64),
            all if all == self.schema.fields().len() => Some(Datatype::Bytes),
            _ => None,
        }
    }

    /// What is known about it besides its columns.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let mut properties = vec![
            ("version", self.version.to_string()),
            ("estimator", self.card.estimator.name().to_owned()),
            ("rows", self.card.rows.to_string()),
            ("created", self.card.created.clone()),
        ];
        if let Some(datatype) = self.matrix() {
            let shape = format!("{datatype} of shape [-1, {}]", self.features().len());
            properties.push(("matrix", format!("one tensor of another name, {shape}, is taken for all inputs")));
        }
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Which of the outputs is asked for at a place of a request.
    ///
    /// # Errors
    /// If there is no such output.
    pub fn output(&self, name: &str, place: &str) -> Result<usize, Refusal> {
        let at = self.outputs.iter().position(|output| output.name == *name);
        at.ok_or_else(|| {
            let known = known_names(name, self.outputs.iter().map(|output| output.name.as_str()));
            Refusal::wrong(format!("`{place}.name`: the model has no output `{name}`; {known}"))
        })
    }

    /// Answers a request: rows are made of it, predicted, and written. All that takes part is this version. Where there is a log, the rows have ids,
    /// which are durable before they are written.
    ///
    /// # Errors
    /// If the request is wrong, or can't be answered now.
    pub async fn answer<T>(
        &self,
        log: Option<&RequestLog>,
        read: impl FnOnce(&Self) -> Result<RecordBatch, Refusal>,
        write: impl FnOnce(&Self, Vec<Tensor>, Option<Ids>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let begun = Instant::now();
        let answered = self.answer_timed(begun, log, read, write).await;
        match &answered {
            Ok(_) => {
                self.figures.success.add(begun.elapsed());
                self.figures.answered_now();
            }
            Err(_) => self.figures.fail.add(begun.elapsed()),
        }
        answered
    }

    async fn answer_timed<T>(
        &self,
        begun: Instant,
        log: Option<&RequestLog>,
        read: impl FnOnce(&Self) -> Result<RecordBatch, Refusal>,
        write: impl FnOnce(&Self, Vec<Tensor>, Option<Ids>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let rows = read(self)?;
        self.check(&rows)?;
        self.figures.input.add(begun.elapsed());
        let count = rows.num_rows();
        let logged = log.filter(|_| count > 0).map(|log| (log, rows.clone()));
        let batched = self.batcher.predict(rows).await?;
        self.figures.queue.add(batched.waited);
        self.figures.infer.add(batched.took);
        self.figures.predicted(count);
        let ids = match logged {
            Some((log, rows)) => self.log(log, &rows, &batched.columns).await,
            None => None,
        };
        let begun = Instant::now();
        let tensors = self.outputs.iter().zip(&batched.columns).map(|(output, column)| output.tensor(column));
        let tensors = tensors.collect::<CoreResult<Vec<_>>>().map_err(|error| Refusal::internal(&error))?;
        let written = write(self, tensors, ids)?;
        self.figures.output.add(begun.elapsed());
        Ok(written)
    }

    /// Writes rows that it has predicted into the log. What can't be written is answered all the same, without ids: predictions don't wait for who reads the log.
    async fn log(&self, log: &RequestLog, rows: &RecordBatch, predicted: &[ArrayRef]) -> Option<Ids> {
        let logged = log.predicted(self, rows, predicted).await;
        self.figures.logged(rows.num_rows(), logged.is_ok());
        logged.inspect_err(|error| tracing::warn!("predictions are answered without ids: {error}")).ok()
    }

    /// What it learns from, if it learns from a label, and the largest number that it can learn.
    pub(crate) fn label(&self) -> Option<(&Label, f64)> {
        let signature = self.model().signature();
        signature.label.as_ref().map(|label| (label, signature.largest()))
    }

    /// Predicts rows that another version has answered, and counts for how many it says something else.
    pub(crate) async fn compare(&self, rows: RecordBatch, predicted: &ArrayRef) {
        let count = rows.num_rows();
        match self.count_same(rows, predicted).await {
            Ok(same) => self.figures.compared(same, count - same),
            Err(_) => self.figures.not_compared(count),
        }
    }

    async fn count_same(&self, rows: RecordBatch, predicted: &ArrayRef) -> Result<usize, Refusal> {
        let wrong = |error: String| Refusal::wrong(error);
        if rows.schema() != self.schema {
            return Err(wrong("it has other features".to_owned()));
        }
        self.check(&rows)?;
        let columns = self.batcher.predict(rows).await?.columns;
        let own = self.outputs.iter().zip(&columns).map(|(output, column)| output.tensor(column)).next();
        let own =
            own.ok_or_else(|| wrong("it predicts nothing".to_owned()))?.map_err(|error| Refusal::internal(&error))?;
        let same = not_distinct(&own.values, predicted).map_err(|error| wrong(error.to_string()))?;
        Ok(same.true_count())
    }

    /// Refuses rows that lack a feature which the model can't do without.
    fn check(&self, rows: &RecordBatch) -> Result<(), Refusal> {
        let input = self.model().read_unlabelled(rows).map_err(|error| Refusal::wrong(error.to_string()))?;
        let Some(row) = input.refused().and_then(|refused| refused.iter().position(|refused| refused == Some(true)))
        else {
            return Ok(());
        };
        let why = self.model().why_refused(rows, row).unwrap_or_else(|error| error.to_string());
        Err(Refusal::wrong(format!("row {row} can't be predicted: {why}")))
    }

    /// The rows of tensors: one for each feature by its name, or one matrix of all of them.
    ///
    /// # Errors
    /// If one is missing, unknown, of another type, or of other length than the others.
    pub fn rows_of_tensors(&self, tensors: Vec<Tensor>) -> Result<RecordBatch, Refusal> {
        if let [matrix] = &tensors[..]
            && self.feature(&matrix.name).is_none()
        {
            return self.rows_of_matrix(matrix);
        }
        let unknown = tensors.iter().enumerate().find(|(_, tensor)| self.feature(&tensor.name).is_none());
        if let Some((at, Tensor { name, .. })) = unknown {
            let known = known_names(name, self.features().iter().map(|feature| feature.name.as_str()));
            let message = format!("`inputs[{at}].name`: model `{}` has no feature `{name}`; {known}", self.model);
            return Err(Refusal::wrong(message));
        }
        let rows = tensors.first().map_or(0, Tensor::rows);
        let mut columns = Vec::with_capacity(self.features().len());
        for (feature, field) in self.features().iter().zip(self.schema.fields()) {
            let mut named = tensors.iter().filter(|tensor| tensor.name == feature.name);
            let (Some(tensor), None) = (named.next(), named.next()) else {
                let times = tensors.iter().filter(|tensor| tensor.name == feature.name).count();
                let message = format!("`inputs` has {times} tensors `{}`, and should have one", feature.name);
                return Err(Refusal::wrong(message));
            };
            if !matches!(tensor.shape[..], [_] | [_, 1]) {
                let Tensor { name, shape, .. } = tensor;
                let message =
                    format!("input `{name}` has the shape {shape:?}, and should have [{rows}] or [{rows}, 1]");
                return Err(Refusal::wrong(message));
            }
            if tensor.values.len() != rows {
                let (name, found) = (&tensor.name, tensor.values.len());
                let first = tensors.first().map_or("", |tensor| &tensor.name);
                let message = format!("input `{name}` has {found} rows, and `{first}` has {rows}");
                return Err(Refusal::wrong(message));
            }
            columns.push(as_field(&tensor.values, field, &format!("input `{}`", tensor.name))?);
        }
        self.rows(columns, rows)
    }

    /// The rows of a matrix whose columns are the features, in their order.
    fn rows_of_matrix(&self, matrix: &Tensor) -> Result<RecordBatch, Refusal> {
        let Tensor { name, shape, datatype, values } = matrix;
        let width = self.features().len();
        let &[rows, columns] = &shape[..] else {
            let known = known_names(name, self.features().iter().map(|feature| feature.name.as_str()));
            return Err(Refusal::wrong(format!(
                "input `{name}` of shape {shape:?} is neither a feature ({known}) nor a matrix of all features: [rows, {width}]"
            )));
        };
        if columns != width {
            let model = &self.model;
            let message = format!("input `{name}` has {columns} columns, and model `{model}` has {width} features");
            return Err(Refusal::wrong(message));
        }
        let taken: Result<Vec<_>, _> = self
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let values = column_of(values, *datatype, at, width, rows)?;
                as_field(&values, field, &format!("column {at} of input `{name}`, feature `{}`,", field.name()))
            })
            .collect();
        self.rows(taken?, rows)
    }

    /// The rows of columns of JSON, in the order of the features.
    ///
    /// # Errors
    /// If one is of another type.
    pub fn rows_of_columns(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch, Refusal> {
        let fields = self.schema.fields();
        let columns = columns
            .iter()
            .zip(fields)
            .map(|(column, field)| as_field(column, field, &format!("feature `{}`", field.name())));
        self.rows(columns.collect::<Result<_, _>>()?, rows)
    }

    fn rows(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Refusal> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        batch.map_err(|error| Refusal::wrong(error.to_string()))
    }

    fn feature(&self, name: &str) -> Option<&Feature> {
        self.features().iter().find(|feature| feature.name == name)
    }

    fn model(&self) -> &Model {
        &self.batcher.predictor().model
    }
}

/// The column that a feature is read from: numbers as floats, as the model reads them, and categories as they were in training.
fn read_as(feature: &Feature) -> CoreResult<Field> {
    let trained_on = ColumnType::parse(&feature.type_name).map_err(Error::new);
    let trained_on = trained_on.doing(|| format!("looking for the type of feature `{}`", feature.name))?.data_type;
    let data_type = if feature.encoder.is_number() { DataType::Float64 } else { trained_on };
    Ok(Field::new(&feature.name, data_type, true))
}

fn as_field(column: &ArrayRef, field: &Field, what: &str) -> Result<ArrayRef, Refusal> {
    exact(column, field.data_type()).map_err(|why| Refusal::wrong(format!("{what} can't be used: {why}")))
}

/// A column of a matrix.
fn column_of(values: &ArrayRef, datatype: Datatype, at: usize, width: usize, rows: usize) -> Result<ArrayRef, Refusal> {
    if datatype == Datatype::Bytes {
        let texts = values.as_string::<i32>();
        let column =
            (0..rows).map(|row| Some(row * width + at).filter(|at| texts.is_valid(*at)).map(|at| texts.value(at)));
        return Ok(Arc::new(column.collect::<arrow::array::StringArray>()));
    }
    let numbers = exact(values, &DataType::Float64).map_err(Refusal::wrong)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    if numbers.null_count() == 0 {
        let column = numbers.values().iter().skip(at).step_by(width.max(1)).copied();
        return Ok(Arc::new(Float64Array::from_iter_values(column)));
    }
    let column =
        (0..rows).map(|row| Some(row * width + at).filter(|at| numbers.is_valid(*at)).map(|at| numbers.value(at)));
    Ok(Arc::new(column.collect::<Float64Array>()))
}
