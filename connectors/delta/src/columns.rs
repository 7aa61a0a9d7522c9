//! The columns of a table: what those of a flow are there, and whether a table has the same.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Schema, TimeUnit};
use delta_kernel::engine::arrow_conversion::TryFromArrow as _;
use delta_kernel::expressions::Scalar;
use delta_kernel::schema::{DataType, SchemaRef, StructField, StructType};
use delta_kernel::{KernelError, KernelResult};
use millstream_connectors::value_in_name;
use millstream_core::{Problem, type_name};

/// Letters that the names of columns can't have.
const NOT_IN_NAMES: &str = " ,;{}()\n\t=";

/// The columns of a table for rows of these columns, divided by some of them.
///
/// # Errors
/// If there can be no such table.
pub fn of_table(schema: &Schema, partition: &[String]) -> Result<SchemaRef, Problem> {
    let columns = schema.fields().iter().map(|field| of_field(field, partition.contains(field.name())));
    let columns = StructType::try_new(columns.collect::<Result<Vec<_>, _>>()?);
    // Two names that only differ in capital and small letters are one.
    columns.map(Arc::new).map_err(|error| Problem::new(error.to_string()).at(["from"]))
}

fn of_field(field: &Field, is_partition: bool) -> Result<StructField, Problem> {
    let (name, is) = (field.name(), type_name(field.data_type()));
    if name.contains(|letter: char| NOT_IN_NAMES.contains(letter)) {
        let problem = Problem::new(format!("a table of Delta Lake can't have a column `{name}`")).at(["from"]);
        return Err(problem.help("give it a name without blanks and any of `,;{}()=`, with `AS` in a node `sql`"));
    }
    let wrong = |help: &str| {
        let problem = Problem::new(format!("`{name}` is {is}, which tables of Delta Lake don't have")).at(["from"]);
        Err(problem.help(help.to_owned()))
    };
    if field.data_type().is_unsigned_integer() {
        return wrong("cast it to `BIGINT`, or to `DECIMAL(20, 0)`");
    }
    let known = has(field.data_type()).then(|| DataType::try_from_arrow(field.data_type()));
    let Some(Ok(data_type)) = known else { return wrong("cast it to another type, or leave it out") };
    // In the name of a folder, an empty text is a missing one.
    let is_nullable = field.is_nullable() || is_partition && data_type == DataType::STRING;
    Ok(StructField::new(name, data_type, is_nullable))
}

/// Whether tables have such a type.
fn has(data_type: &ArrowType) -> bool {
    match data_type {
        ArrowType::Boolean | ArrowType::Float32 | ArrowType::Float64 | ArrowType::Date32 => true,
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => true,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => true,
        ArrowType::Decimal128(..) | ArrowType::Timestamp(TimeUnit::Microsecond, Some(_)) => true,
        ArrowType::List(item) | ArrowType::LargeList(item) => has(item.data_type()),
        ArrowType::Struct(fields) => fields.iter().all(|field| has(field.data_type())),
        other => other.is_signed_integer(),
    }
}

/// What keeps rows of these columns out of a table, if anything does.
pub fn difference(columns: &StructType, table: &StructType) -> Option<String> {
    let wrong = |column: &StructField| {
        let name = column.name();
        let Some(there) = table.field(name) else {
            return Some(format!("it has no column `{name}`"));
        };
        if !fits(column.data_type(), there.data_type()) {
            let (is, is_there) = (column.data_type(), there.data_type());
            return Some(format!("its column `{name}` is {is_there}, and that of the flow is {is}"));
        }
        let may_be_null = column.is_nullable() && !there.is_nullable();
        may_be_null.then(|| format!("its column `{name}` is never null, and that of the flow may be"))
    };
    let missing = || table.fields().find(|column| columns.field(column.name()).is_none());
    let unknown = |column: &StructField| format!("the flow does not have its column `{}`", column.name());
    columns.fields().find_map(wrong).or_else(|| missing().map(unknown))
}

/// Whether each value of a type is one of another.
fn fits(data_type: &DataType, there: &DataType) -> bool {
    match (data_type, there) {
        (DataType::Array(items), DataType::Array(there)) => {
            fits(items.element_type(), there.element_type()) && (there.contains_null() || !items.contains_null())
        }
        (DataType::Struct(fields), DataType::Struct(there)) => {
            let is_same = |(field, there): (&StructField, &StructField)| {
                let may_be_null = there.is_nullable() || !field.is_nullable();
                field.name() == there.name() && may_be_null && fits(field.data_type(), there.data_type())
            };
            fields.num_fields() == there.num_fields() && fields.fields().zip(there.fields()).all(is_same)
        }
        _ => data_type == there,
    }
}

/// The values by which the rows of a file are divided, by its name: `country=DE/day=2026-01-31/NAME`.
pub fn values_of(columns: &StructType, partition: &[String], file: &str) -> KernelResult<HashMap<String, Scalar>> {
    let value = |(name, folder): (&String, &str)| {
        let column = columns.field(name).map(StructField::data_type);
        let Some(DataType::Primitive(data_type)) = column else {
            return Err(KernelError::generic(format!("`{name}` can't be part of the name of a folder")));
        };
        let text = folder.split_once('=').and_then(|(_, text)| value_in_name(text));
        Ok((name.clone(), data_type.parse_scalar(&text.unwrap_or_default())?))
    };
    partition.iter().zip(file.split('/')).map(value).collect()
}
