//! What features go through before they are encoded: scales, and what stands for missing values.
//!
//! What comes out are features again, of those kinds that [`Encoders`](super::Encoders) know. A row is made by what was known before it, and then learned, so
//! that neither its values nor its target are in it; models without such features don't come by here.

mod column;
mod number;
mod quantiles;

use arrow::array::{Array, Float64Array, StringArray, StringBuilder};
use millstream_core::{Error, Result};

use super::{Encoder, Feature, Missing, Rows, element_type};
use crate::onnx::{ElementType, Graph, Value};
use crate::tensors::Tensors;
use column::{Column, Source};
use number::Number;

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
    becomes: Becomes,
}

/// What a column becomes.
#[derive(Clone, Debug)]
enum Becomes {
    Itself,
    Numbers(Box<dyn Column>),
    /// Categories, where a missing value is that of the row before: the last one.
    Filled(Option<String>),
}

/// The columns that come out.
#[derive(Default)]
struct Out {
    numbers: Vec<Float64Array>,
    texts: Vec<StringArray>,
}

impl Preprocessing {
    /// What has learned nothing, of these features; `missing` is what holds where a feature says nothing of its own.
    pub fn new(features: &[Feature], missing: Missing) -> Self {
        let parts: Vec<Part> = features.iter().map(|feature| Part::new(feature, missing)).collect();
        let goes_on = |part: &Part| matches!(part.becomes, Becomes::Itself) && !part.feature.indicator;
        if parts.iter().all(goes_on) {
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
        for part in &mut self.parts {
            let source = sources.next(&part.feature);
            match &mut part.becomes {
                Becomes::Numbers(column) => out.numbers.extend(column.step(source, &targets)),
                Becomes::Filled(last) => {
                    out.texts.push(filled(source, last, |row| targets[row].is_some()));
                }
                Becomes::Itself => out.pass_on(source),
            }
            out.add_indicator(&part.feature, source);
        }
        Some(Rows::new(rows.count(), out.numbers, out.texts))
    }

    /// Rows as encoders take them, by what was learned so far. `None` if they are taken as they are.
    pub fn apply(&self, rows: &Rows) -> Option<Rows> {
        if self.is_nothing() {
            return None;
        }
        let (mut out, mut sources) = (Out::default(), Sources::of(rows));
        for part in &self.parts {
            let source = sources.next(&part.feature);
            match &part.becomes {
                Becomes::Numbers(column) => out.numbers.extend(column.apply(source, rows.count())),
                Becomes::Filled(last) => out.texts.push(filled(source, &mut last.clone(), |_| false)),
                Becomes::Itself => out.pass_on(source),
            }
            out.add_indicator(&part.feature, source);
        }
        Some(Rows::new(rows.count(), out.numbers, out.texts))
    }

    /// Writes what was learned.
    pub fn save(&self, tensors: &mut Tensors) {
        for Part { feature, becomes } in &self.parts {
            match becomes {
                Becomes::Numbers(column) => column.save(&feature.name, tensors),
                Becomes::Filled(last) => {
                    tensors.put_u8(&last_name(feature), last.as_deref().unwrap_or_default().as_bytes());
                    tensors.put_u64(&known_name(feature), &[last.is_some().into()]);
                }
                Becomes::Itself => {}
            }
        }
    }

    /// Reads what was learned.
    pub fn load(&mut self, tensors: &Tensors) -> Result<()> {
        for Part { feature, becomes } in &mut self.parts {
            match becomes {
                Becomes::Numbers(column) => column.load(&feature.name, tensors)?,
                Becomes::Filled(last) => {
                    let text = std::str::from_utf8(tensors.u8s(&last_name(feature))?);
                    let text = text.map_err(|_| Error::new(format!("the last `{}` is damaged", feature.name)))?;
                    *last = (tensors.u64s(&known_name(feature))? == [1]).then(|| text.to_owned());
                }
                Becomes::Itself => {}
            }
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
        for Part { feature, becomes } in &self.parts {
            let input = graph.input(&feature.name, element_type(feature));
            match becomes {
                Becomes::Numbers(column) => values.extend(column.to_onnx(feature, &input, graph)?),
                // A tensor of texts has no gaps.
                Becomes::Filled(_) | Becomes::Itself => values.push(input.clone()),
            }
            if feature.indicator {
                values.push(indicator_to_onnx(feature, &input, graph)?);
            }
        }
        Ok(values)
    }
}

impl Part {
    fn new(feature: &Feature, of_all: Missing) -> Self {
        let missing = feature.missing_or(of_all);
        // The mean is what the encoders fill in by themselves, where that holds for all.
        let is_filled = match missing {
            Missing::Fail => false,
            Missing::Mean => of_all != Missing::Mean,
            Missing::Median | Missing::Previous | Missing::Constant(_) => true,
        };
        let becomes = match feature.encoder {
            Encoder::OneHot(_) | Encoder::Hash(_) if missing == Missing::Previous => Becomes::Filled(None),
            Encoder::OneHot(_) | Encoder::Hash(_) => Becomes::Itself,
            encoder if encoder.is_plain() && !is_filled => Becomes::Itself,
            encoder => Becomes::Numbers(Box::new(Number::new(encoder, missing))),
        };
        Self { feature: feature.clone(), becomes }
    }

    /// The features that it becomes.
    fn features(&self) -> Vec<Feature> {
        let Feature { name, encoder, .. } = &self.feature;
        let mut features = match &self.becomes {
            Becomes::Itself | Becomes::Filled(_) => vec![self.feature.clone()],
            Becomes::Numbers(column) => {
                let behind = if encoder.is_plain() { *encoder } else { Encoder::Raw };
                let name = |at: usize| if column.width() == 1 { name.clone() } else { format!("{name} {at}") };
                (0..column.width()).map(|at| Feature::new(name(at), "float64", behind)).collect()
            }
        };
        if self.feature.indicator {
            features.push(Feature::new(format!("{name} is missing"), "float64", Encoder::Raw));
        }
        features
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

/// Texts without gaps, as long as there was one before.
fn filled(source: Source<'_>, last: &mut Option<String>, is_learned: impl Fn(usize) -> bool) -> StringArray {
    let Source::Texts(texts) = source else { return StringArray::new_null(0) };
    let mut filled = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for (row, text) in texts.iter().enumerate() {
        filled.append_option(text.or(last.as_deref()));
        if let Some(text) = text.filter(|_| is_learned(row)) {
            last.get_or_insert_default().replace_range(.., text);
        }
    }
    filled.finish()
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

fn last_name(feature: &Feature) -> String {
    format!("preprocess.last.{}", feature.name)
}

fn known_name(feature: &Feature) -> String {
    format!("preprocess.known.{}", feature.name)
}
