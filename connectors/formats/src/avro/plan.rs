//! How records of one schema are read into columns: what Avro calls schema resolution, done once a schema.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use millstream_core::{ColumnType, Columns, type_name, with_article};

use super::defaults::encode;
use super::schema::{AvroSchema, Field, Logical, NamedKind, Node};
use crate::records::ScalarKind;
use crate::registered::{Differences, same};

/// How a value of a type is read into a column.
#[derive(Debug)]
pub(super) enum Step {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Enum(Arc<[String]>),
    Fixed(usize),
    /// With how many digits are behind the point, and with its size if it is a fixed.
    Decimal(i8, Option<usize>),
    /// In sixteen bytes.
    Uuid,
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp(TimeUnit),
    Array(Box<Step>),
    /// A list of keys and values.
    Map(Box<Step>),
    Record(RecordPlan),
    /// One of several, each into the same column.
    Union(Vec<Step>),
    /// The text of the value as JSON.
    Json(Node),
    /// A value of this type has no place in the column, for a reason that follows the column's name.
    Refused(String),
}

/// How the fields of a record are read.
#[derive(Debug, Default)]
pub(super) struct RecordPlan {
    pub fields: Vec<FieldPlan>,
    /// Columns that the record does not have, each with the encoded value that it gets instead.
    pub defaults: Vec<(usize, Vec<u8>, Step)>,
}

#[derive(Debug)]
pub(super) enum FieldPlan {
    Read(usize, Step),
    Skip(Node),
}

/// Plans how records are read that `writer` describes. `reader` has the defaults of fields that they lack, and their other names.
pub(super) struct Planner<'a> {
    pub writer: &'a AvroSchema,
    pub reader: Option<&'a AvroSchema>,
    pub differences: Differences,
}

impl<'a> Planner<'a> {
    pub(super) fn new(writer: &'a AvroSchema, reader: Option<&'a AvroSchema>) -> Self {
        Self { writer, reader, differences: Differences::default() }
    }

    /// How the schema's records are read into `columns`, of which only the `wanted` ones are there, in their order.
    pub(super) fn plan(&mut self, columns: &Columns, wanted: &Columns) -> Result<RecordPlan, String> {
        let all: Vec<_> = columns.0.iter().map(|(name, column)| (name.as_str(), column.clone())).collect();
        let place = |name: &str| wanted.0.iter().position(|(column, _)| column == name);
        match self.writer.fields() {
            Some(fields) => {
                let reader = self.reader.and_then(AvroSchema::fields);
                self.record(fields, reader, &all, &place, "")
            }
            None => {
                let [(name, column)] = all.as_slice() else {
                    let found = self.writer.name(&self.writer.root);
                    return Err(format!(
                        "a message is no record but one value of the type {found}, which is one column"
                    ));
                };
                let step = self.step(&self.writer.root, column, None, name)?;
                let field = match place(name) {
                    Some(place) => FieldPlan::Read(place, step),
                    None => FieldPlan::Skip(self.writer.root.clone()),
                };
                Ok(RecordPlan { fields: vec![field], defaults: Vec::new() })
            }
        }
    }

    /// `place` says which of the columns are read, and where they are.
    fn record(
        &mut self,
        fields: &[Field],
        reader: Option<&[Field]>,
        columns: &[(&str, ColumnType)],
        place: &dyn Fn(&str) -> Option<usize>,
        path: &str,
    ) -> Result<RecordPlan, String> {
        let of_reader = |name: &str| reader.into_iter().flatten().find(|field| field.name == name);
        let mut plan = RecordPlan::default();
        let mut found = vec![false; columns.len()];
        for field in fields {
            let is_column = |(name, _): &(&str, ColumnType)| {
                *name == field.name || of_reader(name).is_some_and(|reader| reader.aliases.contains(&field.name))
            };
            let exact = columns.iter().position(|(name, _)| *name == field.name);
            let column = exact.or_else(|| columns.iter().position(is_column)).filter(|index| !found[*index]);
            let path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let Some(index) = column else {
                self.differences.unknown.push(path(&field.name));
                plan.fields.push(FieldPlan::Skip(field.node.clone()));
                continue;
            };
            found[index] = true;
            let (name, column) = &columns[index];
            let own = self.writer.column_of(&field.node);
            if !same(&own, column) {
                self.differences.others.push(path(name));
            }
            let reader = of_reader(name).map(|field| &field.node);
            let step = self.step(&field.node, column, reader, &path(name))?;
            plan.fields.push(match place(name) {
                Some(place) => FieldPlan::Read(place, step),
                None => FieldPlan::Skip(field.node.clone()),
            });
        }
        for ((name, column), _) in columns.iter().zip(&found).filter(|(_, found)| !**found) {
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            let default = of_reader(name).and_then(|field| Some((&field.node, field.default.as_ref()?)));
            if let (Some((node, value)), Some(reader), Some(place)) = (default, self.reader, place(name)) {
                let bytes = encode(reader, node, value).map_err(|error| format!("the default of `{path}`: {error}"))?;
                let step = Planner::new(reader, None).step(node, column, None, &path)?;
                plan.defaults.push((place, bytes, step));
            } else if default.is_none() && !column.nullable {
                return Err(format!("column `{path}` is missing, and may not be null"));
            }
            self.differences.missing.push(path);
        }
        Ok(plan)
    }

    /// How a value of a type is read into a column. `path` is what the column is called.
    fn step(&mut self, node: &Node, column: &ColumnType, reader: Option<&Node>, path: &str) -> Result<Step, String> {
        let reader = self.reader.zip(reader);
        let step = self.step_of(node, column, reader.and_then(|(_, node)| without_null(node)), path)?;
        match step {
            Some(step) => Ok(step),
            None => {
                let (found, wanted) = (self.writer.name(node), type_name(&column.data_type));
                Err(format!("column `{path}` is {wanted}, and messages have the type {found}, which can't become that"))
            }
        }
    }

    fn step_of(
        &mut self,
        node: &Node,
        column: &ColumnType,
        reader: Option<&Node>,
        path: &str,
    ) -> Result<Option<Step>, String> {
        if let Node::Union(branches) = node {
            return self.union(branches, column, reader, path).map(Some);
        }
        if *node == Node::Null {
            return Ok(Some(Step::Null));
        }
        let is_text = column.data_type == DataType::Utf8;
        if column.is_json || is_text && self.is_nested(node) {
            return Ok(Some(Step::Json(node.clone())));
        }
        let (kind, step) = match node {
            Node::Boolean => (ScalarKind::Boolean, Step::Boolean),
            Node::Int => (ScalarKind::Integer, Step::Int),
            Node::Long => (ScalarKind::Integer, Step::Long),
            Node::Float => (ScalarKind::Float, Step::Float),
            Node::Double => (ScalarKind::Float, Step::Double),
            Node::Bytes => (ScalarKind::Bytes, Step::Bytes),
            Node::String => (ScalarKind::Text, Step::String),
            Node::Logical(logical, of) => self.logical(*logical, of),
            Node::Array(item) => return self.array(item, column, reader, path),
            Node::Map(value) => return self.map(value, column, reader, path),
            Node::Named(index) => match &self.writer.named(*index).kind {
                NamedKind::Enum(symbols) => (ScalarKind::Text, Step::Enum(symbols.clone())),
                NamedKind::Fixed(size) => (ScalarKind::Bytes, Step::Fixed(*size)),
                NamedKind::Record(fields) => return self.structure(fields, column, reader, path),
            },
            Node::Null | Node::Union(_) => return Ok(None),
        };
        Ok(kind.fits(column).then_some(step))
    }

    /// Whether values have parts.
    fn is_nested(&self, node: &Node) -> bool {
        matches!(node, Node::Array(_) | Node::Map(_)) || self.writer.record(node).is_some()
    }

    fn logical(&self, logical: Logical, node: &Node) -> (ScalarKind, Step) {
        let fixed = match node {
            Node::Named(index) => match self.writer.named(*index).kind {
                NamedKind::Fixed(size) => Some(size),
                _ => None,
            },
            _ => None,
        };
        match logical {
            Logical::Decimal(_, scale) => (ScalarKind::Decimal, Step::Decimal(scale, fixed)),
            Logical::Uuid if fixed.is_some() => (ScalarKind::Text, Step::Uuid),
            Logical::Uuid => (ScalarKind::Text, Step::String),
            Logical::Date => (ScalarKind::Date, Step::Date),
            Logical::Time(TimeUnit::Millisecond) => (ScalarKind::Time, Step::TimeMillis),
            Logical::Time(_) => (ScalarKind::Time, Step::TimeMicros),
            Logical::Timestamp(unit) => (ScalarKind::Timestamp, Step::Timestamp(unit)),
        }
    }

    fn union(
        &mut self,
        branches: &[Node],
        column: &ColumnType,
        reader: Option<&Node>,
        path: &str,
    ) -> Result<Step, String> {
        let mut fits = false;
        let mut steps = Vec::with_capacity(branches.len());
        for branch in branches {
            let step = self.step_of(branch, column, reader, path)?;
            fits |= step.is_some();
            steps.push(step.unwrap_or_else(|| {
                let (found, wanted) = (self.writer.name(branch), type_name(&column.data_type));
                Step::Refused(format!(": a value of the type {found} is not {}", with_article(&wanted)))
            }));
        }
        if !fits && !branches.is_empty() {
            let wanted = type_name(&column.data_type);
            let found = self.writer.name(&Node::Union(branches.to_vec()));
            return Err(format!("column `{path}` is {wanted}, and messages have the type {found}"));
        }
        Ok(Step::Union(steps))
    }

    fn array(
        &mut self,
        item: &Node,
        column: &ColumnType,
        reader: Option<&Node>,
        path: &str,
    ) -> Result<Option<Step>, String> {
        let DataType::List(field) = &column.data_type else { return Ok(None) };
        let reader = match reader {
            Some(Node::Array(item)) => Some(&**item),
            _ => None,
        };
        let column = ColumnType::new(field.data_type().clone(), field.is_nullable());
        Ok(Some(Step::Array(Box::new(self.step(item, &column, reader, &format!("{path}[]"))?))))
    }

    fn map(
        &mut self,
        value: &Node,
        column: &ColumnType,
        reader: Option<&Node>,
        path: &str,
    ) -> Result<Option<Step>, String> {
        let DataType::List(field) = &column.data_type else { return Ok(None) };
        let DataType::Struct(fields) = field.data_type() else { return Ok(None) };
        let [key, field] = &**fields else { return Ok(None) };
        if *key.data_type() != DataType::Utf8 {
            return Ok(None);
        }
        let reader = match reader {
            Some(Node::Map(value)) => Some(&**value),
            _ => None,
        };
        let column = ColumnType::new(field.data_type().clone(), field.is_nullable());
        Ok(Some(Step::Map(Box::new(self.step(value, &column, reader, &format!("{path}[].{}", field.name()))?))))
    }

    fn structure(
        &mut self,
        fields: &[Field],
        column: &ColumnType,
        reader: Option<&Node>,
        path: &str,
    ) -> Result<Option<Step>, String> {
        let DataType::Struct(wanted) = &column.data_type else { return Ok(None) };
        let columns: Vec<_> = wanted
            .iter()
            .map(|field| (field.name().as_str(), ColumnType::new(field.data_type().clone(), field.is_nullable())))
            .collect();
        let place = |name: &str| wanted.iter().position(|field| field.name() == name);
        let reader = self.reader.zip(reader).and_then(|(schema, node)| schema.record(node));
        self.record(fields, reader, &columns, &place, path).map(|plan| Some(Step::Record(plan)))
    }
}

/// The type of a union of null and one other, or the type itself.
fn without_null(node: &Node) -> Option<&Node> {
    match node {
        Node::Union(branches) => {
            let mut others = branches.iter().filter(|branch| **branch != Node::Null);
            others.next().filter(|_| others.next().is_none())
        }
        other => Some(other),
    }
}
