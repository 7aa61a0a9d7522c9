//! The processors of this crate keep to what all do.

use std::fmt::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field};
use millstream_core::{Collector, NodeTypes, PlanContext, ProcessorSettings};
use millstream_models::registry::ModelRegistry;
use millstream_testkit::{Given, Sample, batch, check_processors, context, drive, parse, stages, stream, table};

use crate::TrainSettings;

/// The model of the flow, which the samples of `predict` follow, and which is in the registry.
const MODEL: &str = "model = 'm'\nestimator = { type = 'logistic_regression' }\nfeatures = ['n', 'k']\nlabel = 'y'";

const SAMPLES: &[Sample] = &[
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'logistic_regression' }\nfeatures = ['n', 'k']\nlabel = 'y'\n\
                   publish = { rows = 50 }",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'linear_regression' }\nfeatures = ['n', 'k']\nlabel = 'w'\n\
                   missing = 'mean'\nlearn_when = 'y'",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'network', layers = [{ dense = 3, activation = 'tanh' }] }\nfeatures = ['n', 'w']\n\
                   label = 'k'\nclasses = ['key0', 'key1', 'key2']\nas = 'my_'\npublish = { rows = 30 }",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'k_means', clusters = 3, decay = 0.9 }\nfeatures = ['n', 'k']\n\
                   missing = 'mean'\npublish = { rows = 40 }\nlearn_when = 'z'",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'lin_ucb' }\nfeatures = ['n']\nlabel = 'y'\nreward = 'w'\npublish = { rows = 40 }",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'voting', estimators = [{ type = 'hoeffding_tree' }, { type = 'k_neighbors_classifier', window = 20 }] }\n\
                   features = ['n', 'k']\nlabel = 'y'\npublish = { rows = 50 }",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'adaptive_random_forest_regressor', n_models = 3 }\nfeatures = ['v', 'k']\nlabel = 'n'\nweight = 'w'\n\
                   missing = 'mean'",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'svc', window = 20, refit = 10 }\nfeatures = ['n', 'k']\nlabel = 'y'\npublish = { rows = 30 }",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'rbf_sampler', n_components = 10, estimator = { type = 'logistic_regression' } }\n\
                   features = ['n', 'k']\nlabel = 'y'\nweight = 'w'\nmissing = 'mean'",
    },
    Sample {
        node: "train",
        settings: "model = 'm'\nestimator = { type = 'hoeffding_adaptive_tree' }\nfeatures = ['n', 'k']\nlabel = 'y'\n\
                   calibration = { type = 'isotonic', window = 20, every = 5 }\npublish = { rows = 30 }",
    },
    Sample { node: "predict", settings: "model = 'm'" },
    Sample { node: "predict", settings: "model = 'm'\nbefore_first = 'hold'\nmodel_version = true" },
    Sample { node: "predict", settings: "model = 'm'\nbefore_first = 'fail'\nthreshold = 0.2" },
    Sample { node: "predict", settings: "model = 'm@champion'\nas = 'my_'" },
    Sample { node: "evaluate", settings: "label = 'y'\nprediction = 'z'\nprobability = 'w'" },
    Sample { node: "evaluate", settings: "label = 'k'\nprediction = 'k'" },
    Sample { node: "evaluate", settings: "label = 'n'\nprediction = 'v'" },
    Sample { node: "drift", settings: "columns = ['w', 'v']\ndetector = { type = 'kswin', window = 20, sample = 5 }" },
    Sample {
        node: "drift",
        settings: "error = { label = 'y', prediction = 'z' }\ndetector = { type = 'ddm', min_rows = 5 }",
    },
    Sample { node: "decide", settings: "scores = 'shares'\npolicy = { type = 'squarecb' }\nseed = 5" },
    Sample { node: "decide", settings: "scores = 'shares'\nas = 'my_'" },
    Sample {
        node: "evaluate_policy",
        settings: "reward = 'v'\naction = 'k'\npropensity = 'w'\npolicy = 'shares'\nworth = 'shares'",
    },
];

/// Rows that are up to 7 seconds out of order, some of which can't be learned.
fn rows() -> RecordBatch {
    let mut text = "at:timestamp k:utf8? v:float64? n:int64? w:float64? y:boolean? z:boolean?".to_owned();
    for row in 0..250 {
        let second = row / 5 + row * 37 % 8;
        let key = if row % 11 == 0 { "null".to_owned() } else { format!("key{}", row * 31 % 4) };
        let value = ["NaN", "-0.0", "null", "0.1", "1e300"][row % 5];
        let label = ["true", "false", "true", "null"][row * 7 % 4];
        let (minute, second, number, share) = (second / 60, second % 60, row * 7 % 13, row % 10);
        write!(
            text,
            "\n 1970-01-01T00:{minute:02}:{second:02}Z {key} {value} {number} 0.{share} {label} {}",
            row % 3 == 0
        )
        .unwrap();
    }
    let rows = table(&text);
    // How probable each of two actions is.
    let share = |row: usize| (row % 11 != 5).then(|| (row % 10) as f64 / 10.0);
    let numbers = |of: &dyn Fn(f64) -> f64| -> ArrayRef {
        Arc::new((0..rows.num_rows()).map(|row| share(row).map(of)).collect::<Float64Array>())
    };
    let fields = ["key0", "key1"].map(|name| Field::new(name, DataType::Float64, true)).to_vec();
    let columns = vec![numbers(&|share| share), numbers(&|share| 1.0 - share)];
    let scores = StructArray::try_new(fields.into(), columns, None).unwrap();
    let names: Vec<_> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns = names.into_iter().zip(rows.columns().to_vec());
    RecordBatch::try_from_iter(columns.chain([("shares".to_owned(), Arc::new(scores) as ArrayRef)])).unwrap()
}

fn registry(folder: &Path) -> ModelRegistry {
    ModelRegistry::open(millstream_store::open("models", folder).unwrap(), "models")
}

/// The versions of all models, and what their aliases stand for.
fn published(folder: &Path) -> Vec<String> {
    let registry = registry(folder);
    let of_model = |model: &String| {
        let version = |version: u64| {
            let card = registry.card(model, version).unwrap();
            format!("{model}/{version}: {} rows, {}", card.rows, card.sha256)
        };
        let mut lines: Vec<_> = registry.versions(model).unwrap().into_iter().map(version).collect();
        lines.push(format!("{:?}", registry.aliases(model).unwrap()));
        lines
    };
    registry.models().unwrap().iter().flat_map(of_model).collect()
}

/// Trains the model, and puts it into a registry.
fn publish(context: &PlanContext) {
    let settings: TrainSettings = parse(MODEL);
    let mut trainer = (settings.plan(context, &[stream("from", rows().schema())]).unwrap().build)().unwrap();
    let (mut committer, mut out) = (trainer.committer().unwrap(), Collector::new(2));
    trainer.process(0, batch(rows()), &mut out).unwrap();
    while trainer.more(&mut out).unwrap() {}
    trainer.finish(&mut out).unwrap();
    let stages = stages([trainer.snapshot().unwrap().staged.into_state().unwrap()]);
    let committed = pin!(committer.commit(&stages[0])).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(committed, Poll::Ready(Ok(()))), "{committed:?}");
}

#[test]
fn every_processor_keeps_to_what_all_do() {
    let mut types = NodeTypes::default();
    crate::register(&mut types);
    let folder = tempfile::tempdir().unwrap();
    let context = PlanContext { work_folder: folder.path().into(), ..context() };
    publish(&context);
    let model =
        drive(&parse::<TrainSettings>(MODEL), &[("from", rows())], 8192).ports.remove("model").unwrap().remove(0);
    check_processors(&types, SAMPLES, &Given { context, published: Some(published), ..Given::new(rows(), model) });
}
