//! Small nodes to test the engine with.

mod ask;
mod count;
mod events;
mod expression;
mod hold;
mod known;
mod learning;
mod memory;
mod opened;
mod passing;
mod publish;
mod uneven;
mod wait;

use std::sync::{Arc, LazyLock};

use arrow::array::cast::AsArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use millstream_core::*;

pub use ask::{Ask, service};
pub use learning::{MODELS, lineages};
pub use memory::{committed_text, memory, memory_text, set_down};
pub use opened::opened;
pub use publish::published;

/// All kinds of this folder. Made once: their schemas take a while.
pub fn registry() -> &'static NodeTypes {
    static REGISTRY: LazyLock<NodeTypes> = LazyLock::new(|| {
        let mut registry = NodeTypes::default();
        registry.input::<count::Count>().input::<events::Events>();
        registry.processor::<passing::Add>().processor::<passing::Parity>().processor::<passing::Trouble>();
        registry
            .processor::<passing::Repeat>()
            .processor::<passing::After>()
            .processor::<passing::Merge>()
            .processor::<passing::Barriers>();
        registry.processor::<learning::Teach>().processor::<learning::Obey>();
        registry.processor::<learning::Batched>().processor::<learning::Dice>();
        registry.processor::<uneven::Uneven>().processor::<ask::Ask>();
        registry.processor::<hold::Hold>().processor::<publish::Publish>().processor::<wait::Wait>();
        registry.input::<known::Known>();
        registry.output::<memory::Memory>();
        registry.dead_letters::<memory::Memory>(memory::dead_letters);
        registry.expressions(expression::LANGUAGE);
        registry
    });
    &REGISTRY
}

/// Forgets what a flow has written and published under its name.
pub fn forget(flow: &str) {
    let is_other = |place: &str| place.split('/').next() != Some(flow);
    memory::retain(is_other);
    publish::retain(is_other);
    learning::retain(is_other);
    ask::retain(is_other);
    opened::retain(is_other);
}

/// A schema of whole numbers.
fn numbers(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Int64, false);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

fn batch_of(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(numbers(&["n"]), vec![column]).unwrap()
}

fn values(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// The same rows with other numbers.
fn with_values(rows: &RecordBatch, values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let columns = std::iter::once(numbers).chain(rows.columns().iter().skip(1).cloned()).collect();
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// Numbers and event times, where the rows have any.
fn pairs(rows: &RecordBatch) -> Vec<(i64, EventTime)> {
    let times = rows.columns().get(1).map(|column| column.as_primitive::<TimestampMicrosecondType>().values().to_vec());
    let times = times.unwrap_or_else(|| vec![0; rows.num_rows()]);
    values(rows).into_iter().zip(times).collect()
}

/// Rows of numbers, and of event times, where the schema has any.
fn rows_of(schema: &SchemaRef, pairs: &[(i64, EventTime)]) -> RecordBatch {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(n, _)| *n))),
            _ => {
                let times = TimestampMicrosecondArray::from_iter_values(pairs.iter().map(|(_, at)| *at));
                Arc::new(times.with_timezone("UTC"))
            }
        }
    };
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect()).unwrap()
}

/// A snapshot of one value.
fn kept(value: &(impl serde::Serialize + ?Sized)) -> Result<Snapshot> {
    let mut parts = Parts::default();
    parts.put("value", value)?;
    Ok(Snapshot::of(parts))
}

fn one_port(inputs: &[Stream], processor: impl Processor + 'static) -> ProcessorPlan {
    ProcessorPlan {
        ports: vec![PortPlan::main(inputs[0].schema.clone())],
        uses: inputs.iter().map(|_| Uses::passing_on(["n"])).collect(),
        fails: true,
        build: Box::new(move || Ok(Box::new(processor))),
    }
}
