//! What a condition can be for rows of whose columns no more is known than their bounds, so that rows need not be read of which none meets it.
//!
//! It is taken apart as far as it compares columns with constants, by AND, OR and NOT. Each comparison is computed for the bounds by the same
//! expression as for rows: one that is true of small values is true of none if it is not of the least. Of all else nothing is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::cast::as_boolean_array;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr, split_conjunction};
use millstream_core::{Bounds, survive};

use crate::rewrite::COMPARISONS;
use crate::unnamed::makes_canonical;

/// Lists that have more values are not looked into.
const MAX_LIST: usize = 256;

/// Functions that give a value for whatever they are given.
const NEVER_FAIL: &[&str] =
    &["btrim", "character_length", "ends_with", "lower", "ltrim", "rtrim", "starts_with", "upper"];

/// A condition, taken apart: what AND joins, in order.
#[derive(Debug)]
pub struct Outlook(Vec<Part>);

/// A part of a condition.
#[derive(Debug)]
enum Part {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// A column is null.
    IsNull(String),
    Compared(Comparison),
    Constant(Option<bool>),
    /// Anything else, and whether it may fail.
    Unknown(bool),
}

/// A column that is compared with a constant: it is not above one, or not below one, or neither, as far as these are there.
#[derive(Debug)]
struct Comparison {
    column: String,
    schema: SchemaRef,
    /// True of every value that is smaller than one of which it is true.
    falling: Option<Arc<dyn PhysicalExpr>>,
    /// True of every value that is larger than one of which it is true.
    rising: Option<Arc<dyn PhysicalExpr>>,
    /// Whether the values are brought into another type, which may fail.
    is_cast: bool,
}

/// What a part can be.
#[derive(Clone, Copy)]
struct Possible {
    truth: bool,
    falsehood: bool,
    failure: bool,
}

impl Outlook {
    /// A condition over rows of a schema. The columns of this name are known by their bounds.
    pub fn new(condition: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, columns: &BTreeSet<String>) -> Self {
        let takes_apart = TakesApart { schema, columns };
        Self(split_conjunction(condition).into_iter().map(|part| takes_apart.part(part)).collect())
    }

    /// Whether there may be a row for which the condition is true or fails. A part is computed for those only for which the parts before it are
    /// true.
    pub fn may_match(&self, bounds: &dyn Fn(&str) -> Bounds) -> bool {
        for part in &self.0 {
            let possible = part.possible(bounds);
            if possible.failure {
                return true;
            }
            if !possible.truth {
                return false;
            }
        }
        true
    }
}

impl Part {
    fn possible(&self, bounds: &dyn Fn(&str) -> Bounds) -> Possible {
        let each = |parts: &[Self]| parts.iter().map(|part| part.possible(bounds)).collect::<Vec<_>>();
        match self {
            Self::And(parts) => {
                let parts = each(parts);
                Possible {
                    truth: parts.iter().all(|part| part.truth),
                    falsehood: parts.iter().any(|part| part.falsehood),
                    failure: parts.iter().any(|part| part.failure),
                }
            }
            Self::Or(parts) => {
                let parts = each(parts);
                Possible {
                    truth: parts.iter().any(|part| part.truth),
                    falsehood: parts.iter().all(|part| part.falsehood),
                    failure: parts.iter().any(|part| part.failure),
                }
            }
            Self::Not(part) => {
                let Possible { truth, falsehood, failure } = part.possible(bounds);
                Possible { truth: falsehood, falsehood: truth, failure }
            }
            Self::IsNull(column) => {
                let Bounds { has_nulls, has_values, .. } = bounds(column);
                Possible { truth: has_nulls, falsehood: has_values, failure: false }
            }
            Self::Compared(comparison) => comparison.possible(&bounds(&comparison.column)),
            Self::Constant(value) => {
                Possible { truth: *value == Some(true), falsehood: *value == Some(false), failure: false }
            }
            Self::Unknown(failure) => Possible { truth: true, falsehood: true, failure: *failure },
        }
    }
}

impl Comparison {
    fn possible(&self, bounds: &Bounds) -> Possible {
        if !bounds.has_values {
            return Possible { truth: false, falsehood: false, failure: false };
        }
        let [least, greatest] =
            [&bounds.least, &bounds.greatest].map(|bound| bound.as_ref().map(|bound| self.at(bound)));
        let is_known = [&least, &greatest].iter().all(|bound| matches!(bound, Some((Some(_), Some(_)))));
        let (falls, rises) =
            (|at: &Option<_>| at.and_then(|(falling, _)| falling), |at: &Option<_>| at.and_then(|(_, rising)| rising));
        let nan = bounds.has_nan.then(|| nan(self.schema.field(0).data_type()).map(|nan| self.at(&nan))).flatten();
        let of_nan = nan.map(|(falling, rising)| falling.zip(rising).map(|(falling, rising)| falling && rising));
        let nan_may_be = |value: bool| of_nan.is_some_and(|of_nan| of_nan.is_none_or(|of_nan| of_nan == value));
        let may_be_true = falls(&least) != Some(false) && rises(&greatest) != Some(false);
        let is_true = falls(&greatest) == Some(true) && rises(&least) == Some(true);
        Possible {
            truth: may_be_true || nan_may_be(true),
            falsehood: !is_true || nan_may_be(false),
            failure: self.is_cast && !is_known,
        }
    }

    /// Whether it falls below, and rises above, at a value. None where that can't be told.
    fn at(&self, value: &ArrayRef) -> (Option<bool>, Option<bool>) {
        let holds = |side: &Option<Arc<dyn PhysicalExpr>>| {
            let Some(side) = side else { return Some(true) };
            let row = RecordBatch::try_new(self.schema.clone(), vec![value.clone()]).ok()?;
            let value = survive(|| side.evaluate(&row).and_then(|value| value.into_array(1)))?.ok()?;
            let value = as_boolean_array(&value).ok()?;
            (value.len() == 1 && value.is_valid(0)).then(|| value.value(0))
        };
        (holds(&self.falling), holds(&self.rising))
    }
}

/// NaN of a type, if it has one.
fn nan(data_type: &DataType) -> Option<ArrayRef> {
    match data_type {
        DataType::Float32 => Some(Arc::new(Float32Array::from(vec![f32::NAN]))),
        DataType::Float64 => Some(Arc::new(Float64Array::from(vec![f64::NAN]))),
        _ => None,
    }
}

/// Takes conditions over rows of a schema apart.
struct TakesApart<'a> {
    schema: &'a SchemaRef,
    columns: &'a BTreeSet<String>,
}

/// A column as it is compared.
struct Compared<'a> {
    column: &'a Column,
    is_cast: bool,
}

impl TakesApart<'_> {
    fn part(&self, condition: &Arc<dyn PhysicalExpr>) -> Part {
        self.known(condition).unwrap_or_else(|| Part::Unknown(!never_fails(condition)))
    }

    fn known(&self, condition: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        if let Some(literal) = condition.downcast_ref::<Literal>() {
            return match literal.value() {
                ScalarValue::Boolean(value) => Some(Part::Constant(*value)),
                value => value.is_null().then_some(Part::Constant(None)),
            };
        }
        if let Some(not) = condition.downcast_ref::<NotExpr>() {
            return Some(Part::Not(Box::new(self.part(not.arg()))));
        }
        if let Some(null) = condition.downcast_ref::<IsNullExpr>() {
            return self.is_null(null.arg());
        }
        if let Some(set) = condition.downcast_ref::<IsNotNullExpr>() {
            return Some(Part::Not(Box::new(self.is_null(set.arg())?)));
        }
        if let Some(list) = condition.downcast_ref::<InListExpr>() {
            return self.in_list(list);
        }
        if let Some(binary) = condition.downcast_ref::<BinaryExpr>() {
            return self.binary(binary);
        }
        // A column of booleans, of which false is the smaller one.
        let compared =
            self.column(condition).filter(|compared| self.type_of(compared.column) == Some(DataType::Boolean))?;
        self.comparison(&compared, None, Some(condition.clone()))
    }

    fn is_null(&self, value: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        let Compared { column, is_cast } = self.column(value)?;
        (!is_cast).then(|| Part::IsNull(column.name().to_owned()))
    }

    fn in_list(&self, list: &InListExpr) -> Option<Part> {
        if list.len() > MAX_LIST {
            return None;
        }
        let equal = |value: &Arc<dyn PhysicalExpr>| self.compared(list.expr(), Operator::Eq, value);
        let any = Part::Or(list.list().iter().map(equal).collect::<Option<_>>()?);
        Some(if list.negated() { Part::Not(Box::new(any)) } else { any })
    }

    fn binary(&self, binary: &BinaryExpr) -> Option<Part> {
        let (left, right) = (binary.left(), binary.right());
        match binary.op() {
            Operator::And => Some(Part::And(vec![self.part(left), self.part(right)])),
            Operator::Or => Some(Part::Or(vec![self.part(left), self.part(right)])),
            op if right.downcast_ref::<Literal>().is_some() => self.compared(left, *op, right),
            op => self.compared(right, op.swap()?, left),
        }
    }

    /// A column on the left of a constant.
    fn compared(&self, value: &Arc<dyn PhysicalExpr>, op: Operator, constant: &Arc<dyn PhysicalExpr>) -> Option<Part> {
        let compared = self.column(value)?;
        if constant.downcast_ref::<Literal>()?.value().is_null() {
            // A comparison with null is null, whatever the value; a cast of that may fail nevertheless.
            let is_distinct = matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
            let is_null = !compared.is_cast && !is_distinct && COMPARISONS.contains(&op);
            return is_null.then_some(Part::Constant(None));
        }
        let by = |op: Operator| {
            Some(Arc::new(BinaryExpr::new(value.clone(), op, constant.clone())) as Arc<dyn PhysicalExpr>)
        };
        match op {
            Operator::Lt | Operator::LtEq => self.comparison(&compared, by(op), None),
            Operator::Gt | Operator::GtEq => self.comparison(&compared, None, by(op)),
            Operator::Eq => self.comparison(&compared, by(Operator::LtEq), by(Operator::GtEq)),
            Operator::NotEq => Some(Part::Not(Box::new(self.compared(value, Operator::Eq, constant)?))),
            _ => None,
        }
    }

    fn comparison(
        &self,
        compared: &Compared<'_>,
        falling: Option<Arc<dyn PhysicalExpr>>,
        rising: Option<Arc<dyn PhysicalExpr>>,
    ) -> Option<Part> {
        let (name, data_type) = (compared.column.name(), self.type_of(compared.column)?);
        let alone = |side: Option<Arc<dyn PhysicalExpr>>| side.map(of_one_column).transpose().ok();
        Some(Part::Compared(Comparison {
            column: name.to_owned(),
            schema: Arc::new(Schema::new(vec![Field::new(name, data_type, true)])),
            falling: alone(falling)?,
            rising: alone(rising)?,
            is_cast: compared.is_cast,
        }))
    }

    /// The column that a value is of, if a larger one of it makes a value that is as large or larger.
    fn column<'e>(&self, value: &'e Arc<dyn PhysicalExpr>) -> Option<Compared<'e>> {
        if let Some(column) = value.downcast_ref::<Column>() {
            return self.columns.contains(column.name()).then_some(Compared { column, is_cast: false });
        }
        if let Some(call) = value.downcast_ref::<ScalarFunctionExpr>() {
            return if makes_canonical(call.fun()) { self.column(call.args().first()?) } else { None };
        }
        let cast = value.downcast_ref::<CastExpr>()?;
        let from = cast.expr().data_type(self.schema).ok()?;
        let inner = self.column(cast.expr())?;
        keeps_order(&from, cast.cast_type()).then_some(Compared { is_cast: true, ..inner })
    }

    fn type_of(&self, column: &Column) -> Option<DataType> {
        self.schema.fields().get(column.index()).map(|field| field.data_type().clone())
    }
}

/// The expression over rows that have no other column.
fn of_one_column(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform_up(|expr| {
        let column = expr.downcast_ref::<Column>().map(|column| Column::new(column.name(), 0));
        Ok(match column {
            Some(column) => Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    })?;
    Ok(moved.data)
}

/// Whether a cast of a larger value gives one that is as large or larger.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Float32 | DataType::Float64, DataType::Float64) => true,
        (DataType::Decimal128(..), to) => is_exact(to) || *to == DataType::Float64,
        (from, DataType::Float64) => from.is_integer(),
        (from, to) if from.is_integer() => is_exact(to),
        (DataType::Date32, DataType::Timestamp(..)) => true,
        // A time zone could put the clock back.
        (DataType::Timestamp(_, zone), DataType::Timestamp(..) | DataType::Date32) => {
            zone.as_deref().is_none_or(|zone| zone == "UTC")
        }
        _ => false,
    }
}

fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// Whether an expression gives a value for every row.
fn never_fails(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let is_harmless = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        COMPARISONS.contains(binary.op()) || binary.op().is_logic_operator()
    } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        makes_canonical(call.fun()) || NEVER_FAIL.contains(&call.name())
    } else {
        let expr = expr.as_ref();
        expr.downcast_ref::<Column>().is_some()
            || expr.downcast_ref::<Literal>().is_some()
            || expr.downcast_ref::<NotExpr>().is_some()
            || expr.downcast_ref::<IsNullExpr>().is_some()
            || expr.downcast_ref::<IsNotNullExpr>().is_some()
            || expr.downcast_ref::<InListExpr>().is_some()
            || expr.downcast_ref::<LikeExpr>().is_some()
    };
    is_harmless && expr.children().into_iter().all(never_fails)
}
