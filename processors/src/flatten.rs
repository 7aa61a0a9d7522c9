//! The processor `flatten`: structs to columns, lists to rows or texts.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, is_null, nullif, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, Kind, MAX_BATCH_BYTES, PlanContext, PortPlan, Problem, Problems, Processor, ProcessorPlan,
    ProcessorSettings, Result, Stream, Uses, require_column, type_name, widest_row,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::rows::BATCH_ROWS;

/// Makes columns of the fields of structs, rows of the items of a list, and texts of lists.
///
/// A struct `address` with the fields `city` and `street` becomes the columns `address_city` and `address_street`, where it stood; structs in
/// it as well. Where it is null, all of them are.
///
/// With `explode`, a row becomes as many as the list has items, which differ in this column alone; if items are structs, their fields
/// become columns. A row without an item stays one row, in which the column is null.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlattenSettings {
    /// The structs that become columns; all unless it is set.
    structs: Option<Vec<String>>,
    /// What stands between the names of a struct and its field.
    #[serde(default = "default_separator")]
    separator: String,
    /// How many structs in each other become columns; all of them unless it is set.
    #[schemars(range(min = 1))]
    depth: Option<usize>,
    /// The list whose items become rows.
    explode: Option<String>,
    /// With `explode`: the name of a new column with the number of the item, counted from 0.
    index: Option<String>,
    /// Lists that become texts, each with what stands between the items: `{ tags = ", " }`. Items that are null are left out.
    #[serde(default)]
    join: IndexMap<String, String>,
}

fn default_separator() -> String {
    "_".to_owned()
}

impl Kind for FlattenSettings {
    const NAME: &'static str = "flatten";
    const ALSO_CALLED: &'static [&'static str] = &["explode", "unnest", "normalize", "split_json"];
    const EXAMPLE: &'static str = r#"explode = "items"
index = "position"
join = { tags = ", " }"#;
}

impl ProcessorSettings for FlattenSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let schema = &inputs[0].schema;
        let problems = self.problems(schema);
        if !problems.is_empty() {
            return Err(problems);
        }
        let explode = self.explode.as_ref().and_then(|name| schema.index_of(name).ok());
        let joined = |(name, separator): (&String, &String)| Some((schema.index_of(name).ok()?, separator.clone()));
        let lists = Lists { explode, index: self.index.clone(), join: self.join.iter().filter_map(joined).collect() };
        let within = lists.schema(schema);
        let leaves = self.leaves(&within);
        let fields: Vec<FieldRef> = leaves.iter().map(|leaf| leaf.field.clone()).collect();
        for (place, field) in fields.iter().enumerate() {
            if fields[..place].iter().any(|other| other.name() == field.name()) {
                let problem = Problem::new(format!("there would be two columns `{}`", field.name()));
                return Err(problem.help("another `separator` or `index` tells them apart").into());
            }
        }
        let touched = self.touched(schema);
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let ports = vec![PortPlan::main(schema.clone())];
        let flatten = Flatten { lists: lists.into(), leaves: leaves.into(), schema, pending: None };
        let uses = vec![Uses::passing_on(touched)];
        Ok(ProcessorPlan { ports, uses, fails: false, build: Box::new(|| Ok(Box::new(flatten))) })
    }
}

impl FlattenSettings {
    fn problems(&self, schema: &Schema) -> Problems {
        let mut problems = Problems::new();
        for (place, name) in self.structs.iter().flatten().enumerate() {
            let is_item = self.explode.as_ref() == Some(name);
            if let Err(problem) = require_column(name, schema).and_then(|field| is_struct(field, is_item)) {
                problems.push(problem.under(place).under("structs"));
            }
        }
        if let Some(name) = &self.explode
            && let Err(problem) = require_column(name, schema).and_then(is_list)
        {
            problems.push(problem.at(["explode"]));
        }
        if self.index.is_some() && self.explode.is_none() {
            let problem = Problem::new("`index` only means something with `explode`");
            problems.push(problem.at(["index"]));
        }
        for name in self.join.keys() {
            if let Err(problem) = require_column(name, schema).and_then(is_list_of_values) {
                problems.push(problem.at(["join", name.as_str()]));
            } else if self.explode.as_ref() == Some(name) {
                let message = format!("the items of `{name}` can't become rows and a text");
                problems.push(Problem::new(message).at(["join", name.as_str()]));
            }
        }
        problems
    }

    /// The columns that are made of these.
    fn leaves(&self, schema: &Schema) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let is_wanted = self.structs.as_ref().is_none_or(|names| names.contains(field.name()));
            let depth = if is_wanted { self.depth.unwrap_or(usize::MAX) } else { 0 };
            add_leaves(vec![place], field.clone(), depth, &self.separator, &mut leaves);
        }
        leaves
    }

    /// The columns that don't stay as they are.
    fn touched(&self, schema: &Schema) -> Vec<String> {
        let structs = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::Struct(_)));
        let structs = structs.map(|field| field.name().clone());
        structs.chain(self.explode.clone()).chain(self.join.keys().cloned()).collect()
    }
}

fn is_struct(field: &Field, is_item: bool) -> Result<(), Problem> {
    match field.data_type() {
        DataType::Struct(_) => Ok(()),
        DataType::List(item) if is_item && matches!(item.data_type(), DataType::Struct(_)) => Ok(()),
        other => Err(Problem::new(format!("`{}` is {}, not a struct", field.name(), type_name(other)))),
    }
}

fn is_list(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(_) => Ok(()),
        other => Err(Problem::new(format!("`{}` is {}, not a list", field.name(), type_name(other)))),
    }
}

fn is_list_of_values(field: &Field) -> Result<(), Problem> {
    match field.data_type() {
        DataType::List(item) if !item.data_type().is_nested() && *item.data_type() != DataType::Binary => Ok(()),
        other => {
            let problem = Problem::new(format!("`{}` is {}, whose items are no text", field.name(), type_name(other)));
            Err(problem.help("take a list of single values"))
        }
    }
}

/// A column that leaves: where it lies among the columns and in structs.
#[derive(Clone, Debug)]
struct Leaf {
    path: Vec<usize>,
    field: FieldRef,
}

fn add_leaves(path: Vec<usize>, field: FieldRef, depth: usize, separator: &str, leaves: &mut Vec<Leaf>) {
    let DataType::Struct(inner) = field.data_type() else { return leaves.push(Leaf { path, field }) };
    if depth == 0 {
        return leaves.push(Leaf { path, field: field.clone() });
    }
    for (place, child) in inner.iter().enumerate() {
        let name = format!("{}{separator}{}", field.name(), child.name());
        let is_nullable = field.is_nullable() || child.is_nullable();
        let child = child.as_ref().clone().with_name(name).with_nullable(is_nullable);
        let path = path.iter().copied().chain([place]).collect();
        add_leaves(path, child.into(), depth - 1, separator, leaves);
    }
}

impl Leaf {
    /// The column among those in which it lies.
    fn of(&self, columns: &[ArrayRef]) -> Result<ArrayRef> {
        let (first, inner) = self.path.split_first().map_or((0, &[][..]), |(first, inner)| (*first, inner));
        let mut column = columns[first].clone();
        for place in inner {
            let child = column.as_struct().column(*place).clone();
            column = if column.null_count() == 0 { child } else { nullif(&child, &is_null(&column)?)? };
        }
        Ok(column)
    }
}

/// What becomes of lists.
#[derive(Debug)]
struct Lists {
    /// The list whose items become rows.
    explode: Option<usize>,
    index: Option<String>,
    /// The lists that become texts.
    join: Vec<(usize, String)>,
}

impl Lists {
    /// The columns in which lists are what they become. The number of an item is behind it.
    fn schema(&self, schema: &Schema) -> Schema {
        let mut fields = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            match field.data_type() {
                DataType::List(item) if self.explode == Some(place) => {
                    fields.push(Arc::new(Field::new(field.name(), item.data_type().clone(), true)));
                    fields.extend(self.index.iter().map(|name| Arc::new(Field::new(name, DataType::Int64, true))));
                }
                DataType::List(_) if self.join.iter().any(|(list, _)| *list == place) => {
                    fields.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)));
                }
                _ => fields.push(field.clone()),
            }
        }
        Schema::new(fields)
    }

    fn with_texts(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut columns = rows.columns().to_vec();
        for (place, separator) in &self.join {
            columns[*place] = joined(columns[*place].as_list(), separator)?;
        }
        Ok(columns)
    }
}

/// The items of each list as one text.
fn joined(lists: &ListArray, separator: &str) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let items = cast_with_options(lists.values(), &DataType::Utf8, &options)?;
    let items: &StringArray = items.as_string();
    let mut texts = StringBuilder::with_capacity(lists.len(), items.values().len());
    for (row, span) in lists.value_offsets().windows(2).enumerate() {
        if lists.is_null(row) {
            texts.append_null();
            continue;
        }
        let there = (span[0] as usize..span[1] as usize).filter(|item| items.is_valid(*item));
        for (number, item) in there.enumerate() {
            // Writing to it can't fail.
            let _ = texts.write_str(if number > 0 { separator } else { "" });
            let _ = texts.write_str(items.value(item));
        }
        texts.append_value("");
    }
    Ok(Arc::new(texts.finish()))
}

struct Flatten {
    lists: Arc<Lists>,
    leaves: Arc<[Leaf]>,
    schema: SchemaRef,
    /// The rows of a batch that have not left.
    pending: Option<Exploding>,
}

/// A batch whose items become rows, piece by piece.
struct Exploding {
    batch: Batch,
    /// The columns but the list.
    others: Vec<ArrayRef>,
    /// Where the list was among them.
    list: usize,
    items: ArrayRef,
    /// The row, the item and its number of each row that leaves.
    places: VecDeque<(u32, Option<u32>, Option<i64>)>,
    /// How many rows leave at once.
    piece: usize,
}

impl Exploding {
    fn new(batch: Batch, mut columns: Vec<ArrayRef>, place: usize) -> Self {
        let column = columns.remove(place);
        let list: &ListArray = column.as_list();
        let mut places = VecDeque::with_capacity(batch.len());
        for (row, span) in (0..).zip(list.value_offsets().windows(2)) {
            if list.is_null(row as usize) || span[0] == span[1] {
                places.push_back((row, None, None));
            } else {
                places.extend((span[0]..span[1]).map(|item| (row, Some(item as u32), Some(i64::from(item - span[0])))));
            }
        }
        let items = list.values().clone();
        let widest = widest_row(columns.iter().chain([&items]));
        let piece = (MAX_BATCH_BYTES / widest.max(1)).clamp(1, BATCH_ROWS);
        Self { batch, others: columns, list: place, items, places, piece }
    }

    /// The columns of the rows that leave next, and how many these are.
    fn next(&mut self, has_index: bool) -> Result<(Vec<ArrayRef>, usize)> {
        let count = self.piece.min(self.places.len());
        let (mut rows, mut items, mut numbers) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        for (row, item, number) in self.places.drain(..count) {
            rows.push(row);
            items.push(item);
            numbers.push(number);
        }
        let rows = UInt32Array::from(rows);
        let mut columns = self.others.iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        if has_index {
            columns.insert(self.list, Arc::new(Int64Array::from(numbers)));
        }
        columns.insert(self.list, take(&self.items, &UInt32Array::from(items), None)?);
        Ok((columns, count))
    }
}

impl Flatten {
    /// Sends on rows whose lists are what they become.
    fn push(&self, batch: &Batch, columns: &[ArrayRef], count: usize, out: &mut Collector) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns = self.leaves.iter().map(|leaf| leaf.of(columns)).collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    /// Sends on the next piece of the rows that are made of a batch, if there is one.
    fn push_piece(&mut self, out: &mut Collector) -> Result<bool> {
        let Some(mut pending) = self.pending.take() else { return Ok(false) };
        let (columns, count) = pending.next(self.lists.index.is_some())?;
        self.push(&pending.batch, &columns, count, out)?;
        self.pending = Some(pending).filter(|pending| !pending.places.is_empty());
        Ok(true)
    }
}

impl Processor for Flatten {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let columns = self.lists.with_texts(&batch.rows)?;
        let Some(list) = self.lists.explode else { return self.push(&batch, &columns, batch.len(), out) };
        self.pending = Some(Exploding::new(batch, columns, list));
        self.push_piece(out)?;
        Ok(())
    }

    fn more(&mut self, out: &mut Collector) -> Result<bool> {
        self.push_piece(out)
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        let (lists, leaves, schema) = (self.lists.clone(), self.leaves.clone(), self.schema.clone());
        Some(Box::new(Self { lists, leaves, schema, pending: None }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::StringArray;
    use millstream_testkit::{context, drive, parse, stream};

    use super::*;
    use crate::parse::ParseSettings;

    /// Rows of these columns, by JSON objects.
    fn rows(columns: &str, lines: &str) -> RecordBatch {
        let settings: ParseSettings = parse(&format!("column = 'json'\nformat = 'json'\nschema = {{ {columns} }}"));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(lines.lines().map(|line| Some(line.trim()))));
        let driven = drive(&settings, &[("from", RecordBatch::try_from_iter([("json", texts)]).unwrap())], 8192);
        assert!(driven.failed.is_empty(), "{:?}", driven.failed);
        driven.ports["main"][0].clone()
    }

    fn flattened(settings: &str, rows: &RecordBatch) -> String {
        let settings: FlattenSettings = parse(settings);
        let whole = drive(&settings, &[("from", rows.clone())], 8192).text("main");
        for batch_rows in [1, 2] {
            assert_eq!(drive(&settings, &[("from", rows.clone())], batch_rows).text("main"), whole);
        }
        whole
    }

    fn people() -> RecordBatch {
        let columns = "id = 'int64', at = '{ city = utf8, geo = { x = float64, y = float64? }? }?'";
        let lines = r#"{"id":1,"at":{"city":"Wien","geo":{"x":1.5,"y":2}}}
                       {"id":2,"at":{"city":"Graz"}}
                       {"id":3}"#;
        rows(columns, lines)
    }

    #[test]
    fn structs_become_columns() {
        let expected = "id:int64 at_city:utf8? at_geo_x:float64? at_geo_y:float64?\n1 Wien 1.5 2.0\n2 Graz null null\n3 null null null\n";
        assert_eq!(flattened("", &people()), expected);
        let first = flattened("depth = 1\nseparator = '.'", &people());
        assert!(first.starts_with("id:int64 at.city:utf8? at.geo:{ x = float64, y = float64? }?\n"), "{first}");
        assert!(flattened("structs = []", &people()).starts_with("id:int64 at:{"));
    }

    #[test]
    fn items_become_rows() {
        let columns = "id = 'int64', items = 'list<{ sku = utf8, n = int64? }>?', tags = 'list<utf8?>?'";
        let lines = r#"{"id":1,"items":[{"sku":"a","n":1},{"sku":"b"}],"tags":["x",null,"y"]}
                       {"id":2,"items":[],"tags":[]}
                       {"id":3}"#;
        let exploded = flattened("explode = 'items'\nindex = 'number'\njoin = { tags = '; ' }", &rows(columns, lines));
        let expected = "id:int64 items_sku:utf8? items_n:int64? number:int64? tags:utf8?\n\
                        1 a 1 0 \"x; y\"\n1 b null 1 \"x; y\"\n2 null null null \"\"\n3 null null null null\n";
        assert_eq!(exploded, expected);
    }

    #[test]
    fn very_many_items_leave_in_pieces() {
        let items = (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let rows = rows("id = 'int64', n = 'list<int64>'", &format!("{{\"id\":1,\"n\":[{items}]}}"));
        let driven = drive(&parse::<FlattenSettings>("explode = 'n'"), &[("from", rows)], 8192);
        assert_eq!(driven.ports["main"].iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
        assert!(driven.largest <= BATCH_ROWS, "{} at once", driven.largest);
    }

    #[test]
    fn what_cannot_be_is_found_while_it_is_planned() {
        let columns = "id = 'int64', at = '{ x = int64 }', at_x = 'int64', l = 'list<int64>'";
        let streams = [stream("from", rows(columns, r#"{"id":1,"at":{"x":1},"at_x":1,"l":[]}"#).schema())];
        let problem = |settings: &str| {
            let problems = parse::<FlattenSettings>(settings).plan(&context(), &streams).unwrap_err();
            problems[0].message.clone()
        };
        assert_eq!(problem(""), "there would be two columns `at_x`");
        assert_eq!(problem("structs = ['id']"), "`id` is int64, not a struct");
        assert_eq!(problem("explode = 'at_x'"), "`at_x` is int64, not a list");
        assert_eq!(problem("index = 'n'"), "`index` only means something with `explode`");
        assert_eq!(problem("join = { id = ',' }"), "`id` is int64, whose items are no text");
        assert_eq!(problem("explode = 'l'\njoin = { l = ',' }"), "the items of `l` can't become rows and a text");
    }
}
