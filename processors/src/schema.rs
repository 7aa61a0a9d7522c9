//! The processor `schema`: other names, types and orders of columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Scalar, UInt32Array, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_null, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use indexmap::IndexMap;
use millstream_core::{
    Batch, Collector, ColumnType, Columns, Kind, PlanContext, PortPlan, PortTime, Problem, Problems, Processor,
    ProcessorPlan, ProcessorSettings, Result, Step, Stream, Uses, known_names, require_column, type_name,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::convert::Conversion;
use crate::literal::{self, Literal};
use crate::refused::Refused;

/// Renames columns, casts them, fills them, leaves them out and orders them, in this order: first they get their new names, by which all
/// other settings call them.
///
/// A value that has no place in its new type fails its row, as does one that would lose something on the way, such as the digits behind
/// the point of 1.5 as an integer; texts are read as CSV reads them. So does null in a column that may not be null and has no default.
///
/// With `columns`, the columns that leave are all declared, and `drift` says what happens when others arrive than these: when the flow is
/// checked, which is when the columns of a flow are known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaSettings {
    /// New names by the old ones: `{ ts = "at" }`.
    #[serde(default)]
    rename: IndexMap<String, String>,
    /// The columns that stay, in this order; all unless it is set.
    select: Option<Vec<String>>,
    /// The columns that are left out.
    #[serde(default)]
    drop: Vec<String>,
    /// New types: `{ amount = "decimal(12,2)", at = "timestamp(ms)?" }`. Without `?`, a null fails its row.
    cast: Option<Columns>,
    /// What stands in the place of null: `{ country = "AT", amount = 0 }`.
    #[serde(default)]
    default: IndexMap<String, Literal>,
    /// The columns that come first, in this order. The others follow in theirs.
    #[serde(default)]
    order: Vec<String>,
    /// The columns that leave, in this order, with their types. Instead of `select`, `drop`, `cast` and `order`.
    columns: Option<Columns>,
    /// With `columns`: what happens when others arrive. `fail`: the flow is refused. `coerce`: columns of other types are cast, those that
    /// are missing are their default, or null if they may be, and those that are not declared are left out. `evolve`: the same,
    /// but columns that are not declared follow behind the others.
    #[serde(default)]
    drift: Drift,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Drift {
    #[default]
    Fail,
    Coerce,
    Evolve,
}

impl Kind for SchemaSettings {
    const NAME: &'static str = "schema";
    const ALSO_CALLED: &'static [&'static str] = &["rename", "cast", "select", "project", "alter", "convert"];
    const EXAMPLE: &'static str = r#"rename = { ts = "at" }
cast = { at = "timestamp(ms)", amount = "decimal(12,2)" }
default = { country = "AT" }
drop = ["debug"]"#;
}

impl ProcessorSettings for SchemaSettings {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let stream = &inputs[0];
        let arriving = self.renamed(&stream.schema)?;
        let made = match &self.columns {
            Some(columns) => self.declared(columns, &arriving),
            None => self.chosen(&arriving),
        }?;
        let fields: Vec<Field> = made.iter().map(|column| column.field.clone()).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, stream.schema.metadata().clone()));
        let ports = vec![PortPlan::main(schema.clone()).with_event_time(self.event_time(stream, &made))];
        let uses = vec![self.uses()];
        let node = ChangeSchema { columns: made.into(), schema };
        Ok(ProcessorPlan { ports, uses, fails: true, build: Box::new(|| Ok(Box::new(node))) })
    }
}

impl SchemaSettings {
    /// The columns that arrive, under their new names.
    fn renamed(&self, schema: &Schema) -> Result<Schema, Problems> {
        let mut problems = Problems::new();
        for name in self.rename.keys() {
            if let Err(problem) = require_column(name, schema) {
                problems.push(problem.at([Step::from("rename"), Step::Name(name.clone())]));
            }
        }
        let new_name = |field: &Field| self.rename.get(field.name()).unwrap_or(field.name()).clone();
        let fields: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone().with_name(new_name(field))).collect();
        for (old, new) in self.rename.iter().filter(|(old, _)| schema.index_of(old).is_ok()) {
            if fields.iter().filter(|field| field.name() == new).count() > 1 {
                let problem = Problem::new(format!("there would be two columns `{new}`"));
                problems.push(problem.at(["rename", old.as_str()]));
            }
        }
        if problems.is_empty() { Ok(Schema::new(fields)) } else { Err(problems) }
    }

    /// The columns that leave, by the settings that change some of them.
    fn chosen(&self, arriving: &Schema) -> Result<Vec<Made>, Problems> {
        let mut problems = Problems::new();
        if self.drift != Drift::Fail {
            let problem = Problem::new("`drift` only means something with `columns`");
            problems.push(problem.at(["drift"]));
        }
        let mut check = |setting: &'static str, names: &[String]| {
            for (place, name) in names.iter().enumerate() {
                let twice = || Problem::new(format!("`{name}` is there twice"));
                let found = require_column(name, arriving).map(|_| ());
                if let Err(problem) =
                    found.and_then(|()| if names[..place].contains(name) { Err(twice()) } else { Ok(()) })
                {
                    problems.push(problem.under(place).under(setting));
                }
            }
        };
        check("select", self.select.as_deref().unwrap_or_default());
        check("drop", &self.drop);
        check("order", &self.order);
        let mut names: Vec<&String> = match &self.select {
            Some(names) => names.iter().collect(),
            None => arriving.fields().iter().map(|field| field.name()).collect(),
        };
        names.retain(|name| !self.drop.contains(name));
        names.sort_by_key(|name| self.order.iter().position(|first| first == *name).unwrap_or(usize::MAX));
        let casts = self.cast.as_ref().map_or(&[][..], |columns| &columns.0);
        let others =
            casts.iter().map(|(name, _)| ("cast", name)).chain(self.default.keys().map(|name| ("default", name)));
        for (setting, name) in others.chain(self.order.iter().map(|name| ("order", name))) {
            if !names.contains(&name) && (setting != "order" || arriving.index_of(name).is_ok()) {
                let help = known_names(name, names.iter().map(|name| name.as_str()));
                let problem = Problem::no_column(name).help(help);
                problems.push(problem.at([Step::from(setting), Step::Name(name.clone())]));
            }
        }
        let mut made = Vec::new();
        for name in names {
            let to = casts.iter().find(|(cast, _)| cast == name).map(|(_, to)| to);
            let column = arriving.index_of(name).map_err(|error| Problem::new(error.to_string()));
            match column.and_then(|column| self.make(column, arriving.field(column), to, "cast")) {
                Ok(column) => made.push(column),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(made) } else { Err(problems) }
    }

    /// The columns that leave, as they are declared.
    fn declared(&self, columns: &Columns, arriving: &Schema) -> Result<Vec<Made>, Problems> {
        let mut problems = Problems::new();
        let superfluous = [
            ("select", self.select.is_some()),
            ("drop", !self.drop.is_empty()),
            ("cast", self.cast.is_some()),
            ("order", !self.order.is_empty()),
        ];
        for (setting, _) in superfluous.into_iter().filter(|(_, is_set)| *is_set) {
            problems.push(
                Problem::new(format!("`columns` says all that `{setting}` does"))
                    .help("leave one of them out")
                    .at([setting]),
            );
        }
        for name in self.default.keys().filter(|name| columns.0.iter().all(|(known, _)| known != *name)) {
            let problem = Problem::new(format!("there is no column `{name}`"));
            let help = known_names(name, columns.0.iter().map(|(name, _)| name.as_str()));
            problems.push(problem.help(help).at([Step::from("default"), Step::Name(name.clone())]));
        }
        let mut made = Vec::new();
        for (name, to) in &columns.0 {
            match self.expected(name, to, arriving) {
                Ok(column) => made.push(column),
                Err(problem) => problems.push(problem),
            }
        }
        let is_declared = |name: &String| columns.0.iter().any(|(known, _)| known == name);
        for (place, field) in arriving.fields().iter().enumerate().filter(|(_, field)| !is_declared(field.name())) {
            match self.drift {
                Drift::Fail => {
                    let problem = Problem::new(format!("there is a column `{}`, which is not declared", field.name()));
                    problems.push(
                        problem.help("`drift = \"coerce\"` leaves it out, and `evolve` passes it on").at(["columns"]),
                    );
                }
                Drift::Coerce => {}
                Drift::Evolve => made.push(Made::passing(place, field)),
            }
        }
        if problems.is_empty() { Ok(made) } else { Err(problems) }
    }

    /// A declared column.
    fn expected(&self, name: &String, to: &ColumnType, arriving: &Schema) -> Result<Made, Problem> {
        let at = |problem: Problem| problem.at(["columns", name.as_str()]);
        let help = "`drift = \"coerce\"` brings columns into what is declared";
        match arriving.index_of(name).ok().map(|column| (column, arriving.field(column))) {
            Some((_, field)) if self.drift == Drift::Fail && *field.data_type() != to.data_type => {
                let (is, wanted) = (type_name(field.data_type()), type_name(&to.data_type));
                Err(at(Problem::new(format!("`{name}` arrives as {is}, not as {wanted}")).help(help)))
            }
            Some((column, field)) => self.make(column, field, Some(to), "columns"),
            None if self.drift == Drift::Fail => Err(at(Problem::no_column(name).help(help))),
            None => {
                let default = self.default_of(&to.field(name))?;
                if default.is_none() && !to.nullable {
                    let message = format!("there is no column `{name}`, which may not be null");
                    let problem = Problem { message, ..Problem::no_column(name) };
                    return Err(at(problem.help("give it a default, or let it be null (`?`)")));
                }
                let field = to.field(name).with_nullable(default.is_none());
                Ok(Made { source: None, conversion: None, default, field })
            }
        }
    }

    /// A column that is made of one that arrives, in another type if one is given; by which setting.
    fn make(&self, source: usize, field: &Field, to: Option<&ColumnType>, setting: &str) -> Result<Made, Problem> {
        let at = |problem: Problem| problem.at([setting, field.name().as_str()]);
        let conversion = to.map(|to| Conversion::new(field, to)).transpose().map_err(at)?.flatten();
        let made = to.map_or_else(|| field.clone(), |to| to.field(field.name()));
        let default = self.default_of(&made)?;
        let field = if default.is_some() { made.with_nullable(false) } else { made };
        Ok(Made { source: Some(source), conversion, default, field })
    }

    fn default_of(&self, field: &Field) -> Result<Option<ArrayRef>, Problem> {
        let value = self.default.get(field.name()).map(|value| literal::values([value], field));
        value.transpose().map_err(|problem| problem.at(["default", field.name().as_str()]))
    }

    /// Which column of those that leave has the event time.
    fn event_time(&self, stream: &Stream, made: &[Made]) -> PortTime {
        let Some(old) = &stream.event_time else { return PortTime::Inherited };
        let of_time = |column: &&Made| column.source.is_some_and(|source| stream.schema.field(source).name() == old);
        match made.iter().find(of_time) {
            None => PortTime::None,
            Some(column) if column.conversion.is_some() && column.field.name() == old => PortTime::Recomputed,
            Some(column) if column.field.name() != old => PortTime::Column(column.field.name().clone()),
            Some(_) => PortTime::Inherited,
        }
    }

    /// The columns that are needed: those that settings name, and of those that only pass the ones that others need.
    fn uses(&self) -> Uses {
        let old = |new: &String| self.rename.iter().find(|(_, name)| *name == new).map_or(new, |(old, _)| old).clone();
        let casts = self.cast.iter().chain(&self.columns).flat_map(|columns| &columns.0).map(|(name, _)| name);
        let selected = self.select.iter().flatten().chain(&self.drop).chain(&self.order);
        let named: Vec<String> = casts.chain(self.default.keys()).chain(selected).map(old).collect();
        let named = named.into_iter().chain(self.rename.keys().cloned());
        let passes_on = if self.columns.is_some() { self.drift == Drift::Evolve } else { self.select.is_none() };
        if passes_on { Uses::passing_on(named) } else { Uses::only(named) }
    }
}

/// A column that leaves.
#[derive(Clone, Debug)]
struct Made {
    /// The column that it is made of, if it was there.
    source: Option<usize>,
    conversion: Option<Conversion>,
    /// What stands in the place of null.
    default: Option<ArrayRef>,
    field: Field,
}

impl Made {
    fn passing(source: usize, field: &Field) -> Self {
        Self { source: Some(source), conversion: None, default: None, field: field.clone() }
    }

    fn of(&self, batch: &Batch, refused: &mut Refused) -> Result<ArrayRef> {
        let repeated = |value: &ArrayRef| take(value, &UInt32Array::from(vec![0; batch.len()]), None);
        let Some(source) = self.source else {
            return Ok(match &self.default {
                Some(value) => repeated(value)?,
                None => new_null_array(self.field.data_type(), batch.len()),
            });
        };
        let mut column = batch.rows.column(source).clone();
        let is_filled = self.default.is_some() && column.null_count() > 0;
        let empty = is_filled.then(|| is_null(&column)).transpose()?;
        if let Some(conversion) = &self.conversion {
            column = conversion.apply(&column, refused)?;
        }
        if let (Some(empty), Some(value)) = (empty, &self.default) {
            column = zip(&empty, &Scalar::new(value.clone()), &column)?;
        }
        if !self.field.is_nullable() {
            refused.add_nulls(&column, || format!("column `{}` is null", self.field.name()));
        }
        Ok(column)
    }
}

struct ChangeSchema {
    columns: Arc<[Made]>,
    schema: SchemaRef,
}

impl Processor for ChangeSchema {
    fn process(&mut self, _: usize, batch: Batch, out: &mut Collector) -> Result<()> {
        let mut refused = Refused::default();
        let columns = self.columns.iter().map(|column| column.of(&batch, &mut refused)).collect::<Result<Vec<_>>>()?;
        let rows = refused.sift(&batch, &self.schema, columns, out)?;
        out.push(0, batch.with_rows(rows));
        Ok(())
    }

    fn lane(&self) -> Option<Box<dyn Processor>> {
        Some(Box::new(Self { columns: self.columns.clone(), schema: self.schema.clone() }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use millstream_testkit::{context, drive, parse, stream, table};

    use super::*;

    fn changed(settings: &str, rows: &str) -> (String, Vec<String>) {
        let settings: SchemaSettings = parse(settings);
        let rows = table(rows);
        let whole = drive(&settings, &[("from", rows.clone())], 8192);
        assert_eq!(drive(&settings, &[("from", rows)], 1).text("main"), whole.text("main"));
        (whole.text("main"), whole.failed.into_iter().map(|row| row.error).collect())
    }

    #[test]
    fn columns_are_renamed_ordered_and_left_out() {
        let rows = "a:int64 b:utf8 c:int64? d:int64\n 1 x null 2";
        assert_eq!(
            changed("rename = { a = 'b', b = 'a' }\ndrop = ['d']\norder = ['c']", rows).0,
            "c:int64? b:int64 a:utf8\nnull 1 x\n"
        );
        assert_eq!(changed("select = ['d', 'a']", rows).0, "d:int64 a:int64\n2 1\n");
    }

    #[test]
    fn values_that_have_no_place_in_a_type_fail_their_row() {
        let rows = "t:utf8? f:float64 n:int64?\n 7 1.0 1600000000000\n x 1.0 1\n 8 1.5 1\n null 2.0 null\n 300 2.0 2";
        let (text, failed) =
            changed("cast = { t = 'int8', f = 'int64', n = 'timestamp(ms)?' }\ndefault = { t = 9 }", rows);
        assert_eq!(text, "t:int8 f:int64 n:timestamp?\n7 1 2020-09-13T12:26:40Z\n9 2 null\n");
        assert_eq!(
            failed,
            [
                "column `t`: `x` is not an `int8`",
                "column `f`: `1.5` is not an `int64`",
                "column `t`: `300` is not an `int8`"
            ]
        );
        let (text, failed) = changed("cast = { t = 'int64' }", "t:utf8?\n 1\n null");
        assert_eq!((text.as_str(), failed), ("t:int64\n1\n", vec!["column `t` is null".to_owned()]));
    }

    #[test]
    fn numbers_and_times_are_cast() {
        let rows = "i:int64 f:float64 d:decimal(6,2) b:boolean day:date\n 1 0.5 1.20 true 2026-01-31";
        let settings = "cast = { i = 'utf8', f = 'decimal(4,1)', d = 'decimal(6,1)', b = 'int8', day = 'timestamp' }";
        assert_eq!(
            changed(settings, rows).0,
            "i:utf8 f:decimal(4,1) d:decimal(6,1) b:int8 day:timestamp\n1 0.5 1.2 1 2026-01-31T00:00:00Z\n"
        );
        let (_, failed) = changed("cast = { d = 'decimal(6,1)' }", "d:decimal(6,2)\n 1.25");
        assert_eq!(failed, ["column `d`: `1.25` is not a `decimal(6,1)`"]);
    }

    #[test]
    fn declared_columns_are_what_leaves() {
        let rows = "id:utf8 more:int64 n:int64?\n 1 5 2\n x 5 null";
        let declared = "columns = { n = 'int64', id = 'int64', new = 'utf8?', country = 'utf8' }\ndefault = { country = 'AT', n = 0 }\n";
        let (text, failed) = changed(&format!("{declared}drift = 'coerce'"), rows);
        assert_eq!(text, "n:int64 id:int64 new:utf8? country:utf8\n2 1 null AT\n");
        assert_eq!(failed, ["column `id`: `x` is not an `int64`"]);
        let (text, _) = changed(&format!("{declared}drift = 'evolve'"), rows);
        assert_eq!(text, "n:int64 id:int64 new:utf8? country:utf8 more:int64\n2 1 null AT 5\n");
        let same = "columns = { n = 'int64?', id = 'utf8', more = 'int64' }";
        assert_eq!(changed(same, rows).0, "n:int64? id:utf8 more:int64\n2 1 5\nnull x 5\n");
    }

    #[test]
    fn what_cannot_be_is_found_while_it_is_planned() {
        let streams = [stream("from", table("a:int64 b:utf8 t:timestamp\n").schema())];
        let problem = |settings: &str| {
            let problems = parse::<SchemaSettings>(settings).plan(&context(), &streams).unwrap_err();
            problems[0].message.clone()
        };
        assert_eq!(problem("rename = { a = 'b' }"), "there would be two columns `b`");
        assert_eq!(problem("rename = { x = 'y' }"), "there is no column `x`");
        assert_eq!(problem("drop = ['a', 'a']"), "`a` is there twice");
        assert_eq!(problem("drop = ['a']\ncast = { a = 'utf8' }"), "there is no column `a`");
        assert_eq!(problem("cast = { a = 'timestamp' }"), "`a` is int64, which may count anything");
        assert_eq!(problem("cast = { t = 'int64' }"), "timestamp can't become int64");
        assert_eq!(problem("default = { a = 'x' }"), "`x` is not an `int64`, as `a` is");
        assert_eq!(problem("drift = 'coerce'"), "`drift` only means something with `columns`");
        let columns = "columns = { a = 'int32', c = 'utf8' }";
        assert_eq!(problem(columns), "`a` arrives as int64, not as int32");
        assert_eq!(problem(&format!("{columns}\ndrift = 'coerce'")), "there is no column `c`, which may not be null");
        assert_eq!(problem("columns = { a = 'int64', b = 'utf8' }"), "there is a column `t`, which is not declared");
        assert_eq!(problem(&format!("{columns}\ndrop = ['b']")), "`columns` says all that `drop` does");
    }
}
