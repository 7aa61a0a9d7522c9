//! Files of skops, whole and damaged. More estimators, on more rows, are compared in `tests/sklearn`.

use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use millstream_testkit::Hostile;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::label::Class;
use crate::{Import, Missing, Model};

/// Files by name; `make_sklearn_fixtures.py` says what is in them.
const FILES: [(&str, &[u8]); 7] = [
    ("logistic", include_bytes!("../../tests/data/sklearn/logistic.skops")),
    ("vectors", include_bytes!("../../tests/data/sklearn/vectors.skops")),
    ("clusters", include_bytes!("../../tests/data/sklearn/clusters.skops")),
    ("network", include_bytes!("../../tests/data/sklearn/network.skops")),
    ("ridge", include_bytes!("../../tests/data/sklearn/ridge.skops")),
    ("neighbours", include_bytes!("../../tests/data/sklearn/neighbours.skops")),
    ("forest", include_bytes!("../../tests/data/sklearn/forest.skops")),
];

#[derive(Deserialize)]
struct Expected {
    rows: Vec<[f64; 4]>,
    predictions: Json,
}

fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn import(file: &[u8]) -> Result<Model, String> {
    Model::import(file, &Import::default()).map_err(|error| error.to_string())
}

fn predict(model: &Model, rows: &[[f64; 4]]) -> Vec<Vec<f64>> {
    let features = model.signature().features.iter().enumerate();
    let column = |at: usize| Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()) as ArrayRef;
    let columns = features.map(|(at, feature)| (feature.name.clone(), column(at)));
    let predictions = model.predict_batch(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    (0..rows.len()).map(|row| predictions.row(row).to_vec()).collect()
}

#[test]
fn models_predict_what_they_did_in_scikit_learn() {
    let expected: HashMap<String, Expected> =
        serde_json::from_str(include_str!("../../tests/data/sklearn/expected.json")).unwrap();
    for (name, file) in FILES.into_iter().filter(|(name, _)| *name != "forest") {
        let model = import(file).unwrap();
        let Expected { rows, predictions } = &expected[name];
        for (found, expected) in predict(&model, rows).into_iter().zip(predictions.as_array().unwrap()) {
            let mut expected = match expected {
                Json::Array(numbers) => numbers.iter().map(|number| number.as_f64().unwrap()).collect(),
                number => vec![number.as_f64().unwrap()],
            };
            if name == "clusters" {
                // The distances from all centres.
                let nearest = (0..3).min_by(|one, other| expected[*one].total_cmp(&expected[*other])).unwrap();
                expected = vec![nearest as f64, expected[nearest]];
            }
            let off = |(found, expected): (&f64, &f64)| (found - expected).abs() / expected.abs().max(1.0);
            let worst = found.iter().zip(&expected).map(off).fold(0.0, f64::max);
            assert!(found.len() == expected.len() && worst < 1e-6, "{name}: {found:?} {expected:?}");
        }
        let again = Model::load(&model.save().unwrap()).unwrap();
        assert_eq!(predict(&again, rows), predict(&model, rows), "{name}");
    }
}

#[test]
fn features_and_classes_are_those_that_it_was_fitted_to() {
    let logistic = import(file("logistic")).unwrap();
    let names: Vec<_> = logistic.signature().features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["sepal_length", "sepal_width", "petal_length", "petal_width"]);
    assert_eq!(
        logistic.signature().classes(),
        ["setosa", "versicolor", "virginica"].map(|name| Class::Text(name.into()))
    );
    let ridge = import(file("ridge")).unwrap();
    assert_eq!(ridge.signature().features[3].name, "x3");
    assert!(import(file("clusters")).unwrap().signature().label.is_none());
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let said = Import {
        features: texts(&["a", "b", "c", "d"]),
        label: Some("species".to_owned()),
        classes: texts(&["x", "y", "z"]),
        ..Import::default()
    };
    let named = Model::import(file("vectors"), &said).unwrap();
    assert_eq!((named.signature().features[0].name.as_str(), named.signature().missing), ("a", Missing::Fail));
    let label = named.signature().label.as_ref().unwrap();
    assert_eq!((label.column.as_str(), &label.classes[2]), ("species", &Class::Text("z".to_owned())));
    let refused = |said: &Import, name| Model::import(file(name), said).unwrap_err().to_string();
    let few = Import { features: texts(&["a"]), ..Import::default() };
    assert_eq!(refused(&few, "vectors"), "1 features are named, and it was fitted to 4");
    let two = Import { classes: texts(&["a", "b"]), ..Import::default() };
    assert_eq!(refused(&two, "vectors"), "2 classes are said, and it has 3");
    assert_eq!(refused(&two, "ridge"), "it predicts a number; leave the classes out");
    assert!(refused(&two, "clusters").starts_with("it finds clusters"));
    let estimator = Some(serde_json::from_value(json!({ "type": "linear_regression" })).unwrap());
    assert!(refused(&Import { estimator, ..Import::default() }, "ridge").ends_with("leave the estimator out"));
}

#[test]
fn what_no_estimator_predicts_the_same_as_is_refused_by_its_name() {
    let forest = import(file("forest")).unwrap_err();
    assert!(forest.starts_with("it has a `sklearn.ensemble._forest.RandomForestClassifier`"), "{forest}");
    assert!(forest.contains("skl2onnx") && forest.contains("LogisticRegression, "), "{forest}");
    let elsewhere = changed("ridge", |tree| tree["__module__"] = json!("mine.linear_model"));
    assert!(import(&elsewhere).unwrap_err().starts_with("it has a `mine.linear_model.Ridge`"));
    let scaler = changed("logistic", |tree| steps(tree)[0]["content"][1]["__class__"] = json!("PolynomialFeatures"));
    assert!(
        import(&scaler).unwrap_err().starts_with("its pipeline has a `sklearn.preprocessing._data.PolynomialFeatures`")
    );
    let function = changed("ridge", |tree| tree["__loader__"] = json!("FunctionNode"));
    assert!(import(&function).unwrap_err().contains("where an estimator should be"));
    let unfitted = changed("ridge", |tree| _ = tree["content"]["content"].as_object_mut().unwrap().remove("coef_"));
    assert_eq!(import(&unfitted).unwrap_err(), "the `Ridge` in it has no `coef_`; fit it before it is written");
    let pickle = import(b"\x80\x04\x95\x10\x00").unwrap_err();
    assert!(pickle.contains("it is a pickle") && pickle.contains("skops.io.dump"), "{pickle}");
}

/// The tree of a pipeline has its steps there.
fn steps(tree: &mut Json) -> &mut Json {
    &mut tree["content"]["content"]["steps"]["content"]
}

#[test]
fn attributes_that_do_not_fit_are_refused() {
    let array = |numbers: &[f64], shape: &str| {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let length = (header.len() as u16).to_le_bytes();
        let elements: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &elements].concat()
    };
    let with = |coefficients: Vec<u8>| {
        import(&made(
            "ridge",
            |name, bytes| if name == coefficients_of("ridge") { coefficients.clone() } else { bytes },
        ))
    };
    assert!(with(array(&[1.0, 2.0, 3.0, 4.0], "(4,)")).is_ok());
    let wider = with(array(&[1.0; 5], "(5,)")).unwrap_err();
    assert_eq!(wider, "`coef_` of the `Ridge` in it is of the shape [1, 5], not [1, 4]");
    assert!(with(array(&[1.0; 8], "(2, 4)")).unwrap_err().contains("predicts 2 numbers"));
    assert!(with(array(&[1.0, f64::NAN, 3.0, 4.0], "(4,)")).unwrap_err().contains("not finite"));
    assert!(with(array(&[1.0; 3], "(4,)")).unwrap_err().contains("24 bytes for the shape [4]"));
    assert!(with(b"rubbish".to_vec()).unwrap_err().contains("no file of numpy"));
}

/// The name of the array of coefficients.
fn coefficients_of(name: &str) -> String {
    tree_of(file(name))["content"]["content"]["coef_"]["file"].as_str().unwrap().to_owned()
}

fn tree_of(bytes: &[u8]) -> Json {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    serde_json::from_reader(archive.by_name("schema.json").unwrap()).unwrap()
}

/// A file with other bytes in its entries.
fn made(name: &str, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    packed(name, CompressionMethod::Deflated, change)
}

fn packed(name: &str, method: CompressionMethod, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(file(name))).unwrap();
    let mut made = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for index in 0..archive.len() {
        let mut bytes = Vec::new();
        let mut entry = archive.by_index(index).unwrap();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        let name = entry.name().unwrap().into_owned();
        made.start_file(&name, options).unwrap();
        made.write_all(&change(&name, bytes)).unwrap();
    }
    made.finish().unwrap().into_inner()
}

/// A file with another tree.
fn changed(name: &str, change: impl Fn(&mut Json)) -> Vec<u8> {
    made(name, |entry, bytes| match entry {
        "schema.json" => {
            let mut tree = serde_json::from_slice(&bytes).unwrap();
            change(&mut tree);
            tree.to_string().into_bytes()
        }
        _ => bytes,
    })
}

#[test]
fn what_would_take_too_much_memory_is_refused() {
    let in_tree = |tree: Vec<u8>| {
        import(&made("ridge", |name, bytes| if name == "schema.json" { tree.clone() } else { bytes })).unwrap_err()
    };
    let bomb = in_tree(vec![b' '; (1 << 24) + 1]);
    assert!(bomb.contains("16777217 bytes; 16777216 are read at most"), "{bomb}");
    let deep = in_tree([b"[".repeat(100_000), b"]".repeat(100_000)].concat());
    assert!(deep.contains("recursion limit"), "{deep}");
    assert!(import(b"PK\x03\x04 and no zip").unwrap_err().contains("as a zip"));
    // A size that is a lie: the entry says that it is small.
    let mut lie = made("ridge", |name, bytes| if name == "schema.json" { vec![b' '; (1 << 24) + 9] } else { bytes });
    let size = ((1_u32 << 24) + 9).to_le_bytes();
    let places: Vec<_> = (0..lie.len() - 4).filter(|at| lie[*at..at + 4] == size).collect();
    places.iter().for_each(|at| lie[*at..at + 4].copy_from_slice(&7_u32.to_le_bytes()));
    assert!(!places.is_empty() && import(&lie).is_err());
}

#[test]
fn hostile_files_are_refused_or_read() {
    Hostile::new(FILES.map(|(_, file)| file)).attack(|file| {
        _ = import(file);
    });
    // Damages behind the compression.
    let stored = FILES.map(|(name, _)| packed(name, CompressionMethod::Stored, |_, bytes| bytes));
    Hostile::new(stored).attack(|file| {
        _ = import(file);
    });
    for (name, _) in FILES {
        let entries = ZipArchive::new(Cursor::new(file(name))).unwrap().len();
        Hostile::new([tree_of(file(name)).to_string()]).among(entries).attack(|tree| {
            _ = import(&made(name, |entry, bytes| if entry == "schema.json" { tree.to_vec() } else { bytes }));
        });
    }
}
