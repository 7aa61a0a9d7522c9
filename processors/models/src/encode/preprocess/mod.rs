//! What features go through before they are encoded: scales, numbers of categories, times and texts, and what stands for missing values.
//!
//! What comes out are features again, of those kinds that [`Encoders`](super::Encoders) know. A row is made by what was known before it, and then learned, so
//! that neither its values nor its target are in it; models without such features don't come by here.

mod category;
mod column;
mod number;
mod quantiles;
mod text;
mod time;

use arrow::array::{Array, Float64Array, StringArray, StringBuilder};
use millstream_core::{Error, Result};

use super::{Encoder, Feature, Missing, Rows, element_type};
use crate::estimator::Takes;
use crate::onnx::{ElementType, Graph, Value};
use crate::tensors::Tensors;
use category::{Frequency, Target};
use column::{Column, Source};
use number::Number;
use text::Text;
use time::Time;

/// What all features go through, in their order; nothing where all go on as they are.
#[derive(Clone, Debug)]
pub(crate) struct Preprocessing {
    parts: Vec<Part>,
    /// What comes out.
    features: Vec<Feature>,
}

/// What one feature goes through.
#[derive(Clone, Debug)]
struct Part {
    feature: Feature,
    /// Where a missing category is that of the row before: the last one.
    last: Option<Last>,
    /// What makes numbers of it; it goes on as it is where nothing does.
    column: Option<Box<dyn Column>>,
    /// How those numbers are encoded.
    behind: Encoder,
}

/// The last value of a column of categories; none if there was none.
#[derive(Clone, Debug, Default)]
struct Last(Option<String>);

/// The columns that come out.
#[derive(Default)]
struct Out {
    numbers: Vec<Float64Array>,
    texts: Vec<StringArray>,
}

impl Preprocessing {
    /// What has learned nothing, of these features; `missing` is what holds where a feature says nothing of its own. The label has so many classes, or is a number if
    /// it has none, and the estimator takes such numbers.
    pub fn new(features: &[Feature], missing: Missing, classes: usize, takes: Takes) -> Self {
        let parts: Vec<Part> = features.iter().map(|feature| Part::new(feature, missing, classes, takes)).collect();
        if parts.iter().all(Part::is_nothing) {
            return Self { parts: Vec::new(), features: features.to_vec() };
        }
        let features = parts.iter().flat_map(Part::features).collect();
        Self { parts, features }
    }

    /// The features that come out, which encoders and estimators see.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Whether all features go on as they are.
    pub fn is_nothing(&self) -> bool {
        self.parts.is_empty()
    }

    /// Rows as encoders take them, each made before it is learned. Learned are those that have a target. `None` if they are taken as they are.
    pub fn step(&mut self, rows: &Rows, target: impl Fn(usize) -> Option<f64>) -> Option<Rows> {
        if self.is_nothing() {
            return None;
        }
        let targets: Vec<_> = (0..rows.count()).map(target).collect();
        let (mut out, mut sources) = (Out::default(), Sources::of(rows));
        for Part { feature, last, column, .. } in &mut self.parts {
            let source = sources.next(feature);
            let filled = last.as_mut().and_then(|last| last.fill(source, |row| targets[row].is_some()));
            let taken = filled.as_ref().map_or(source, Source::Texts);
            match column {
                Some(column) => out.numbers.extend(column.step(taken, &targets)),
                None => out.pass_on(taken),
            }
            out.add_indicator(feature, source);
        }
        Some(Rows::new(rows.count(), out.numbers, out.texts))
    }

    /// Rows as encoders take them, by what was learned so far. `None` if they are taken as they are.
    pub fn apply(&self, rows: &Rows) -> Option<Rows> {
        if self.is_nothing() {
            return None;
        }
        let (mut out, mut sources) = (Out::default(), Sources::of(rows));
        for Part { feature, last, column, .. } in &self.parts {
            let source = sources.next(feature);
            let filled = last.clone().and_then(|mut last| last.fill(source, |_| false));
            let taken = filled.as_ref().map_or(source, Source::Texts);
            match column {
                Some(column) => out.numbers.extend(column.apply(taken, rows.count())),
                None => out.pass_on(taken),
            }
            out.add_indicator(feature, source);
        }
        Some(Rows::new(rows.count(), out.numbers, out.texts))
    }

    /// Writes what was learned.
    pub fn save(&self, tensors: &mut Tensors) {
        for Part { feature, last, column, .. } in &self.parts {
            last.iter().for_each(|last| last.save(&feature.name, tensors));
            column.iter().for_each(|column| column.save(&feature.name, tensors));
        }
    }

    /// Reads what was learned.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        for Part { feature, last, column, .. } in &mut self.parts {
            last.iter_mut().try_for_each(|last| last.load(&feature.name, tensors))?;
            column.iter_mut().try_for_each(|column| column.load(&feature.name, tensors))?;
        }
        Ok(())
    }

    /// Adds to a graph an input for each feature, and what becomes of them: a column for each feature that comes out.
    ///
    /// # Errors
    /// If ONNX has no operators for it.
    pub fn to_onnx(&self, features: &[Feature], graph: &mut Graph) -> Result<Vec<Value>> {
        if self.is_nothing() {
            return Ok(features.iter().map(|feature| graph.input(&feature.name, element_type(feature))).collect());
        }
        let mut values = Vec::new();
        for Part { feature, column, .. } in &self.parts {
            // A tensor of texts has no gaps that would have to be filled.
            let input = graph.input(&feature.name, element_type(feature));
            match column {
                Some(column) => values.extend(column.to_onnx(feature, &input, graph)?),
                None => values.push(input.clone()),
            }
            if feature.indicator {
                values.push(indicator_to_onnx(feature, &input, graph)?);
            }
        }
        Ok(values)
    }
}

impl Part {
    fn new(feature: &Feature, of_all: Missing, classes: usize, takes: Takes) -> Self {
        let missing = feature.missing_or(of_all);
        // The mean is what the encoders fill in by themselves, where that holds for all.
        let is_filled = match missing {
            Missing::Fail => false,
            Missing::Mean => of_all != Missing::Mean,
            Missing::Median | Missing::Previous | Missing::Constant(_) => true,
        };
        let column: Option<Box<dyn Column>> = match feature.encoder {
            Encoder::OneHot(_) | Encoder::Hash(_) => None,
            Encoder::Raw | Encoder::Standardise if !is_filled => None,
            Encoder::Frequency(most) => Some(Box::new(Frequency::new(most))),
            Encoder::Target(settings) => Some(Box::new(Target::new(settings, classes, takes == Takes::Dense))),
            Encoder::Time => Some(Box::new(Time)),
            Encoder::Text(settings) => Some(Box::new(Text::new(settings))),
            encoder => Some(Box::new(Number::new(encoder, missing))),
        };
        let behind = if feature.encoder == Encoder::Standardise { Encoder::Standardise } else { Encoder::Raw };
        let is_category = !feature.encoder.is_number();
        let last = (is_category && missing == Missing::Previous).then(Last::default);
        Self { feature: feature.clone(), last, column, behind }
    }

    /// Whether the feature goes on as it is.
    fn is_nothing(&self) -> bool {
        self.column.is_none() && self.last.is_none() && !self.feature.indicator
    }

    /// The features that it becomes.
    fn features(&self) -> Vec<Feature> {
        let name = &self.feature.name;
        let mut features = match &self.column {
            None => vec![self.feature.clone()],
            Some(column) => {
                let name = |at: usize| if column.width() == 1 { name.clone() } else { format!("{name} {at}") };
                (0..column.width()).map(|at| Feature::new(name(at), "float64", self.behind)).collect()
            }
        };
        if self.feature.indicator {
            features.push(Feature::new(format!("{name} is missing"), "float64", Encoder::Raw));
        }
        features
    }
}

impl Last {
    /// Texts without gaps, as long as there was one before. `None` of numbers.
    fn fill(&mut self, source: Source<'_>, is_learned: impl Fn(usize) -> bool) -> Option<StringArray> {
        let Source::Texts(texts) = source else { return None };
        let mut filled = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
        let mut last = self.0.as_deref();
        for (row, text) in texts.iter().enumerate() {
            filled.append_option(text.or(last));
            last = text.filter(|_| is_learned(row)).or(last);
        }
        self.0 = last.map(str::to_owned);
        Some(filled.finish())
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        tensors.put_u8(&format!("preprocess.last.{feature}"), self.0.as_deref().unwrap_or_default().as_bytes());
        tensors.put_u64(&format!("preprocess.known.{feature}"), &[self.0.is_some().into()]);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        let text = std::str::from_utf8(tensors.u8s(&format!("preprocess.last.{feature}"))?);
        let text = text.map_err(|_| Error::new(format!("the last `{feature}` is damaged")))?;
        self.0 = (tensors.u64s(&format!("preprocess.known.{feature}"))? == [1]).then(|| text.to_owned());
        Ok(())
    }
}

/// The columns of rows, feature by feature.
struct Sources<'a> {
    numbers: std::slice::Iter<'a, Float64Array>,
    texts: std::slice::Iter<'a, StringArray>,
}

impl<'a> Sources<'a> {
    fn of(rows: &'a Rows) -> Self {
        Self { numbers: rows.numbers().iter(), texts: rows.texts().iter() }
    }

    fn next(&mut self, feature: &Feature) -> Source<'a> {
        let source = if feature.encoder.is_number() {
            self.numbers.next().map(Source::Numbers)
        } else {
            self.texts.next().map(Source::Texts)
        };
        source.expect("rows were read with these features")
    }
}

impl Out {
    fn pass_on(&mut self, source: Source<'_>) {
        match source {
            Source::Numbers(numbers) => self.numbers.push(numbers.clone()),
            Source::Texts(texts) => self.texts.push(texts.clone()),
        }
    }

    fn add_indicator(&mut self, feature: &Feature, source: Source<'_>) {
        if !feature.indicator {
            return;
        }
        let rows = match source {
            Source::Numbers(numbers) => numbers.len(),
            Source::Texts(texts) => texts.len(),
        };
        let one = |row: usize| if source.is_missing(row) { 1.0 } else { 0.0 };
        self.numbers.push(Float64Array::from_iter_values((0..rows).map(one)));
    }
}

fn indicator_to_onnx(feature: &Feature, input: &Value, graph: &mut Graph) -> Result<Value> {
    if !feature.encoder.is_number() {
        let problem = format!("feature `{}` has an `indicator`, and a tensor of texts has no gaps", feature.name);
        return Err(Error::new(format!("{problem}; leave it out to write the model as ONNX")));
    }
    let number = graph.cast(input, ElementType::Double);
    let is_missing = graph.add("IsNaN", &[&number]);
    Ok(graph.cast(&is_missing, ElementType::Double))
}
