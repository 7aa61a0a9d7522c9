//! The weights of HDF5 files that Keras has written.

use hdf5_pure::{AttrValue, DType, Dataset, File, Group};
use millstream_core::{Error, Result, ResultExt as _, survive};

use super::{Layer, LayerKind, Values, Weights, WeightsFile, check_count, check_shape, names};

/// The most bytes that a chunk may have, which are in memory while it is read.
const MOST_OF_A_CHUNK: u64 = 1 << 26;

/// The numbers of filters that are undone: deflate, shuffle, and the checksum.
const FILTERS: [u16; 3] = [1, 2, 3];

/// A file with weights.
pub(crate) struct KerasFile {
    file: File,
    /// The weights of each layer that has some, where their order is said; else they are found by the names of classes.
    ordered: Option<Vec<Vec<String>>>,
}

/// Whether these are the first bytes of an HDF5 file.
pub(crate) fn is_hdf5(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89HDF\r\n\x1a\n")
}

impl KerasFile {
    /// Reads a file. Nothing in it makes this panic, or take more memory than a few times the file.
    ///
    /// # Errors
    /// If it is no HDF5 file, or Keras hasn't written it.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        guarded(|| {
            let file = File::from_bytes(bytes.to_vec()).doing(reading)?;
            let root = file.root();
            for prefix in ["", "model_weights/"] {
                let group = if prefix.is_empty() { Some(root.clone()) } else { root.group("model_weights").ok() };
                if let Some(names) = group.map(|group| texts(&group, "layer_names")).transpose()?.flatten() {
                    let ordered = Some(ordered(&file, prefix, &names)?);
                    return Ok(Self { file, ordered });
                }
            }
            if root.groups().doing(reading)?.iter().any(|name| name == "layers") {
                return Ok(Self { file, ordered: None });
            }
            Err(Error::new("it has no weights as Keras writes them: neither `layer_names` nor a group `layers`"))
        })
    }

    /// How many layers have weights, where they are found by the names of classes.
    fn count_by_class(&self) -> Result<usize> {
        let layers = self.file.group("layers").doing(reading)?;
        let mut count = 0;
        for name in layers.groups().doing(reading)? {
            let layer = layers.group(&name).doing(reading)?;
            let inner = layer.groups().doing(reading)?;
            if inner.iter().any(|name| name == "vars") {
                count += usize::from(!layer.group("vars").doing(reading)?.datasets().doing(reading)?.is_empty());
            }
            if inner.iter().any(|name| name == "layers") {
                return Err(Error::new(format!("its layer `{name}` is a model of its own, which is not read")));
            }
        }
        Ok(count)
    }

    /// Where the weights of layers are, layer by layer.
    fn places(&self, layers: &[Layer]) -> Result<Vec<Vec<String>>> {
        let Some(ordered) = &self.ordered else {
            check_count(self.count_by_class()?, layers)?;
            let places = |(name, layer): (String, &Layer)| {
                (0..layer.weights.len()).map(|at| format!("layers/{name}/vars/{at}")).collect()
            };
            return Ok(names(layers).into_iter().zip(layers).map(places).collect());
        };
        check_count(ordered.len(), layers)?;
        Ok(ordered.clone())
    }
}

impl WeightsFile for KerasFile {
    fn normalises(&self) -> Result<bool> {
        let wanted = LayerKind::Normalization.weights();
        match &self.ordered {
            Some(ordered) => {
                let name = |path: &String| path.rsplit('/').next().map(|name| name.trim_end_matches(":0").to_owned());
                let first = ordered.first().map(|weights| weights.iter().filter_map(name).collect::<Vec<_>>());
                Ok(first.is_some_and(|names| names == wanted))
            }
            None => guarded(|| {
                let layers = self.file.group("layers").doing(reading)?.groups().doing(reading)?;
                Ok(layers.iter().any(|name| name == LayerKind::Normalization.name()))
            }),
        }
    }

    fn fill(&self, layers: &mut [Layer]) -> Result<()> {
        guarded(|| {
            let (places, names) = (self.places(layers)?, names(layers));
            for ((places, layer), name) in places.iter().zip(layers).zip(names) {
                let (found, wanted) = (places.len(), layer.weights.len());
                if found != wanted {
                    let names = layer.kind.weights().join(", ");
                    return Err(Error::new(format!("its layer `{name}` has {found} weights, and should have {names}")));
                }
                places.iter().zip(&mut layer.weights).try_for_each(|(place, weights)| self.fill_one(place, weights))?;
            }
            Ok(())
        })
    }
}

impl KerasFile {
    fn fill_one(&self, place: &str, weights: &mut Weights) -> Result<()> {
        let doing = || format!("reading `{place}`");
        let dataset = self.file.dataset(place).doing(doing)?;
        let shape: Vec<usize> = dataset.shape().doing(doing)?.into_iter().map(|side| side as usize).collect();
        check_shape(place, &shape, &weights.shape)?;
        check_storage(&dataset).doing(doing)?;
        weights.values = match &weights.values {
            Values::F32(_) => Values::F32(dataset.read_f32().doing(doing)?),
            Values::F64(_) => Values::F64(dataset.read_f64().doing(doing)?),
            Values::I32(_) => Values::I32(dataset.read_i32().doing(doing)?),
        };
        // There are spaces of HDF5 without sides and without a number.
        let (found, wanted) = (weights.values.len(), weights.shape.iter().product::<usize>());
        if found == wanted {
            Ok(())
        } else {
            Err(Error::new(format!("`{place}` in it has {found} numbers, and should have {wanted}")))
        }
    }
}

/// Refuses what takes more memory than its shape says, or is no number.
fn check_storage(dataset: &Dataset) -> Result<()> {
    let (element, chunk) = (dataset.element_size().doing(reading)?, dataset.chunk_shape().doing(reading)?);
    let is_number = !matches!(
        dataset.dtype().doing(reading)?,
        DType::String
            | DType::Compound(_)
            | DType::Enum(_)
            | DType::Array(..)
            | DType::VariableLengthString
            | DType::ObjectReference
    );
    if !is_number || element > 8 {
        return Err(Error::new("its elements are no numbers of up to 64 bits"));
    }
    let of_a_chunk = chunk.unwrap_or_default().into_iter().fold(element, u64::saturating_mul);
    if of_a_chunk > MOST_OF_A_CHUNK {
        return Err(Error::new(format!("its chunks have {of_a_chunk} bytes; {MOST_OF_A_CHUNK} are the most")));
    }
    match dataset.filters().iter().find(|filter| !FILTERS.contains(filter)) {
        Some(filter) => Err(Error::new(format!("it is stored by the filter {filter}, which is not known here"))),
        None => Ok(()),
    }
}

/// The weights of layers that have some, in the order in which the layers are named.
fn ordered(file: &File, prefix: &str, names: &[String]) -> Result<Vec<Vec<String>>> {
    let mut ordered = Vec::new();
    for name in names {
        let folder = format!("{prefix}{name}");
        let weights = texts(&file.group(&folder).doing(reading)?, "weight_names")?.unwrap_or_default();
        if !weights.is_empty() {
            ordered.push(weights.iter().map(|weight| format!("{folder}/{weight}")).collect());
        }
    }
    Ok(ordered)
}

/// An attribute of texts. Keras writes one of many texts in parts: `layer_names0`, `layer_names1`, ….
fn texts(group: &Group, name: &str) -> Result<Option<Vec<String>>> {
    let mut attributes = group.attrs().doing(reading)?;
    let mut take = |name: &str| match attributes.remove(name) {
        Some(
            AttrValue::StringArray(texts)
            | AttrValue::StringArraySized { values: texts, .. }
            | AttrValue::AsciiStringArray(texts)
            | AttrValue::AsciiStringArraySized { values: texts, .. }
            | AttrValue::VarLenStringArray(texts)
            | AttrValue::VarLenAsciiStringArray(texts),
        ) => Ok(Some(texts)),
        // As numpy writes an array of none.
        Some(AttrValue::F64Array(none)) if none.is_empty() => Ok(Some(Vec::new())),
        Some(_) => Err(Error::new(format!("its attribute `{name}` is no list of texts"))),
        None => Ok(None),
    };
    if let Some(whole) = take(name)? {
        return Ok(Some(whole));
    }
    let mut parts: Option<Vec<String>> = None;
    for number in 0.. {
        let Some(part) = take(&format!("{name}{number}"))? else { break };
        parts.get_or_insert_default().extend(part);
    }
    Ok(parts)
}

fn reading() -> &'static str {
    "reading it as an HDF5 file"
}

/// What is read of a file, which the library that reads it takes for damaged if it panics.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    survive(read).unwrap_or_else(|| Err(Error::new("reading it as an HDF5 file: it is damaged")))
}
