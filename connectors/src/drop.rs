//! The output `drop`.

use async_trait::async_trait;
use millstream_core::{
    Batch, Collector, Delivery, Kind, Output, OutputPlan, OutputSettings, PlanContext, Problems, Result, Stream, Uses,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Forgets rows. They are counted as those of any node are.
///
/// It asks for no columns, so inputs need not read them: a flow that ends here measures what the nodes before it cost.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropOutput {}

impl Kind for DropOutput {
    const NAME: &'static str = "drop";
    const ALSO_CALLED: &'static [&'static str] = &["null", "blackhole", "discard"];
    const EXAMPLE: &'static str = "";
}

impl OutputSettings for DropOutput {
    fn plan(&self, _: &PlanContext, _: &Stream) -> Result<OutputPlan, Problems> {
        let build = Box::new(|| Ok(Box::new(Forget) as Box<dyn Output>));
        Ok(OutputPlan {
            writes: None,
            uses: Uses::only::<String>([]),
            delivery: Delivery::ExactlyOnce,
            exclusive: None,
            answers: None,
            place: None,
            takes_other_columns: true,
            fails: false,
            build,
        })
    }
}

struct Forget;

#[async_trait]
impl Output for Forget {
    async fn write(&mut self, _: Batch, _: &mut Collector) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{batch, context, stream, table};

    use super::*;

    #[tokio::test]
    async fn it_needs_no_column_and_takes_every_row() {
        let rows = table("a:int64\n1\n2");
        let plan = DropOutput {}.plan(&context(), &stream("from", rows.schema())).unwrap();
        assert_eq!(plan.uses, Uses::only::<String>([]));
        let mut output = (plan.build)().unwrap();
        output.write(batch(rows), &mut Collector::new(0)).await.unwrap();
    }
}
