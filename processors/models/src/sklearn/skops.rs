//! Files of skops: a zip with a tree of what was fitted, `schema.json`, and its arrays.
//!
//! The format is that of skops 0.16 (`skops.io`, protocol 2). What a node is of is read as a name: no class is looked up, and nothing is run.

use std::cell::Cell;
use std::io::{Cursor, Read};

use millstream_core::{Error, Result, ResultExt as _};
use serde_json::Value as Json;
use zip::ZipArchive;

use super::npy::{Array, Values};

/// The most bytes that the tree may have: it has some 170 for an attribute.
const MOST_OF_TREE: u64 = 1 << 24;

/// The most bytes that all that is read of a file may have, when it is no longer compressed.
const MOST_BYTES: u64 = 1 << 30;

/// Whether these are the first bytes of a zip.
pub(crate) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// A file.
#[derive(Debug)]
pub(super) struct Skops<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    tree: Json,
    /// How many bytes may still be read.
    left: Cell<u64>,
}

/// Something of a class, with its attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    file: &'a Skops<'a>,
    node: &'a Json,
}

impl<'a> Skops<'a> {
    /// Reads the tree of a file.
    ///
    /// # Errors
    /// If it is no zip, or has no such tree.
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let archive = ZipArchive::new(Cursor::new(bytes)).doing(|| "reading it as a zip")?;
        let mut file = Self { archive, tree: Json::Null, left: Cell::new(MOST_BYTES) };
        let tree =
            file.entry("schema.json", MOST_OF_TREE).doing(|| "it is no file of skops: reading `schema.json` in it")?;
        file.tree = serde_json::from_slice(&tree).doing(|| "reading `schema.json` in it")?;
        Ok(file)
    }

    /// What was written.
    pub fn root(&'a self) -> Result<Object<'a>> {
        Object::of(self, &self.tree)
    }

    /// The bytes of a file in it.
    fn entry(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let most = most.min(self.left.get());
        let mut archive = self.archive.clone();
        let entry = archive.by_name(name).doing(|| format!("finding `{name}`"))?;
        if entry.size() > most {
            return Err(Error::new(format!("it has {} bytes; {most} are read at most", entry.size())));
        }
        let mut bytes = Vec::new();
        entry.take(most + 1).read_to_end(&mut bytes).doing(|| format!("reading `{name}`"))?;
        // Its size may be a lie.
        if bytes.len() as u64 > most {
            return Err(Error::new(format!("it has more bytes than it says; {most} are read at most")));
        }
        self.left.set(self.left.get() - bytes.len() as u64);
        Ok(bytes)
    }

    fn array(&self, node: &Json) -> Result<Array> {
        match node["file"].as_str() {
            Some(name) if node["type"] == "numpy" => {
                Array::read(&self.entry(name, MOST_BYTES)?).doing(|| format!("reading `{name}`"))
            }
            // Of objects: texts and numbers, one by one.
            _ if node["type"] == "json" => of_objects(node),
            _ => Err(Error::new("it is no array")),
        }
    }
}

/// A list of texts, or of numbers, that stand in the tree.
fn of_objects(node: &Json) -> Result<Array> {
    let nodes = node["content"].as_array().map_or(&[][..], Vec::as_slice);
    let values: Vec<Json> = nodes.iter().map(json).collect::<Option<_>>().unwrap_or_default();
    let texts: Option<Vec<_>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
    let whole = || values.iter().map(Json::as_i64).collect::<Option<Vec<_>>>();
    let flags = || values.iter().map(Json::as_bool).collect::<Option<Vec<_>>>();
    let found = texts.map(Values::Texts).or_else(|| whole().map(Values::Whole)).or_else(|| flags().map(Values::Flags));
    match found.filter(|_| !values.is_empty()) {
        Some(found) => Ok(Array { shape: vec![values.len()], values: found }),
        None => Err(Error::new("its elements are neither texts nor whole numbers")),
    }
}

/// The value of a node that is JSON.
fn json(node: &Json) -> Option<Json> {
    if node["__loader__"] != "JsonNode" {
        return None;
    }
    serde_json::from_str(node["content"].as_str()?).ok()
}

impl<'a> Object<'a> {
    fn of(file: &'a Skops<'a>, node: &'a Json) -> Result<Self> {
        if node["__loader__"] == "ObjectNode" && node["content"]["content"].is_object() {
            return Ok(Self { file, node });
        }
        let (module, class) = (node["__module__"].as_str(), node["__class__"].as_str());
        match module.zip(class) {
            Some((module, class)) => {
                Err(Error::new(format!("it has a `{module}.{class}` where an estimator should be")))
            }
            None => Err(Error::new("it has nothing where an estimator should be")),
        }
    }

    /// The class, if it is one of scikit-learn's; else nothing.
    pub fn class(&self) -> &'a str {
        let is_known = |module: &str| module == "sklearn" || module.starts_with("sklearn.");
        match (self.node["__module__"].as_str(), self.node["__class__"].as_str()) {
            (Some(module), Some(class)) if is_known(module) => class,
            _ => "",
        }
    }

    /// The class with its module.
    pub fn full_name(&self) -> String {
        let part = |name: &str| self.node[name].as_str().unwrap_or_default();
        format!("{}.{}", part("__module__"), part("__class__"))
    }

    /// The node of an attribute.
    fn find(&self, name: &str) -> Option<&'a Json> {
        self.node["content"]["content"].get(name)
    }

    fn attribute(&self, name: &str) -> Result<&'a Json> {
        let none = || Error::new(format!("the `{}` in it has no `{name}`; fit it before it is written", self.class()));
        self.find(name).ok_or_else(none)
    }

    /// Whether there is an attribute.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A setting: null, a number, a text or a flag. Null if there is none.
    pub fn setting(&self, name: &str) -> Json {
        self.find(name).and_then(json).unwrap_or_default()
    }

    /// A number, as a setting or as an array of one.
    pub fn number(&self, name: &str) -> Result<f64> {
        if let Some(number) = self.setting(name).as_f64() {
            return Ok(number);
        }
        match self.array(name)?.numbers()?[..] {
            [number] => Ok(number),
            _ => Err(Error::new(format!("`{name}` of the `{}` in it is no number", self.class()))),
        }
    }

    /// An array.
    pub fn array(&self, name: &str) -> Result<Array> {
        let doing = || format!("reading `{name}` of the `{}` in it", self.class());
        self.file.array(self.attribute(name)?).doing(doing)
    }

    /// The numbers of an array of this shape.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let array = self.array(name)?;
        self.shaped(name, array, shape)
    }

    /// The numbers of a matrix of so many columns, and how many rows it has. A vector is one row.
    pub fn matrix(&self, name: &str, columns: usize) -> Result<(usize, Vec<f64>)> {
        let mut array = self.array(name)?;
        if let [length] = array.shape[..] {
            array.shape = vec![1, length];
        }
        let rows = array.shape.first().copied().unwrap_or_default();
        Ok((rows, self.shaped(name, array, &[rows, columns])?))
    }

    /// A list of arrays.
    pub fn arrays(&self, name: &str) -> Result<Vec<Array>> {
        let nodes = self.attribute(name)?["content"].as_array().map_or(&[][..], Vec::as_slice);
        nodes.iter().map(|node| self.file.array(node).doing(|| format!("reading `{name}` in it"))).collect()
    }

    fn shaped(&self, name: &str, array: Array, shape: &[usize]) -> Result<Vec<f64>> {
        let class = self.class();
        if array.shape != shape {
            let found = array.shape;
            return Err(Error::new(format!(
                "`{name}` of the `{class}` in it is of the shape {found:?}, not {shape:?}"
            )));
        }
        let numbers = array.numbers().doing(|| format!("reading `{name}` of the `{class}` in it"))?;
        if numbers.iter().all(|number| number.is_finite()) {
            return Ok(numbers);
        }
        Err(Error::new(format!("`{name}` of the `{class}` in it has numbers that are not finite")))
    }

    /// What an attribute is.
    pub fn object(&self, name: &str) -> Result<Object<'a>> {
        Self::of(self.file, self.attribute(name)?)
    }

    /// The steps of a pipeline, without those that pass rows on as they are.
    pub fn steps(&self) -> Result<Vec<Object<'a>>> {
        let nodes = self.attribute("steps")?["content"].as_array().map_or(&[][..], Vec::as_slice);
        let of_pair = |pair: &'a Json| &pair["content"][1];
        let passes = |node: &&Json| matches!(json(node), Some(value) if value.is_null() || value == "passthrough");
        nodes.iter().map(of_pair).filter(|node| !passes(node)).map(|node| Self::of(self.file, node)).collect()
    }
}
