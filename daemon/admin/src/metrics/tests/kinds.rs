//! The smallest nodes: three numbers, and what forgets them.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// The kinds of this file.
pub fn registry() -> &'static NodeTypes {
    static REGISTRY: LazyLock<NodeTypes> = LazyLock::new(|| {
        let mut registry = NodeTypes::default();
        registry.input::<Three>();
        registry.output::<Forget>();
        registry
    });
    &REGISTRY
}

/// Three numbers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Three {}

impl Kind for Three {
    const NAME: &'static str = "three";
    const EXAMPLE: &'static str = "";
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl InputSettings for Three {
    fn plan(&self, _: &PlanContext) -> Result<InputPlan, Problems> {
        Ok(InputPlan::new(schema(), || Ok(Counting)))
    }
}

struct Counting;

#[async_trait]
impl Input for Counting {
    async fn next(&mut self, out: &mut Collector) -> Result<Progress> {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        out.push(0, Batch::new(RecordBatch::try_new(schema(), vec![numbers])?, Origin::new("three", "", 0, 3)));
        Ok(Progress::End)
    }

    fn restore(&mut self, _: &Positions, _: &State) -> Result<()> {
        Ok(())
    }
}

/// Forgets rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {}

impl Kind for Forget {
    const NAME: &'static str = "forget";
    const EXAMPLE: &'static str = "";
}

impl OutputSettings for Forget {
    fn plan(&self, _: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        Ok(OutputPlan {
            writes: None,
            uses: Uses::only(["n"]),
            delivery: Delivery::ExactlyOnce,
            exclusive: None,
            place: None,
            takes_other_columns: false,
            fails: false,
            build: Box::new(|| Ok(Box::new(Forgetting))),
        })
    }
}

struct Forgetting;

#[async_trait]
impl Output for Forgetting {
    async fn write(&mut self, _: Batch, _: &mut Collector) -> Result<()> {
        Ok(())
    }
}
