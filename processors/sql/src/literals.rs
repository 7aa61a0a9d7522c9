//! What is written in a query, as flows understand it: numbers with an exponent and those in lists are floats, and timestamps
//! have microseconds.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
    Value, VisitMut, VisitorMut,
};

use crate::intervals::in_days;

/// The most digits of a decimal.
const MOST_DIGITS: usize = 38;

/// Brings the literals and types of a query or expression to those of flows.
pub fn in_flow_types(syntax: &mut impl VisitMut) {
    let _ = syntax.visit(&mut FlowTypes);
}

struct FlowTypes;

impl VisitorMut for FlowTypes {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(_) => as_float(expr, is_float),
            Expr::Array(list) => list.elem.iter_mut().for_each(|item| as_float(item, has_point)),
            Expr::Function(call) if takes_lists(&call.name.to_string()) => {
                if let FunctionArguments::List(list) = &mut call.args {
                    list.args.iter_mut().for_each(|argument| {
                        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(item)) = argument {
                            as_float(item, has_point);
                        }
                    });
                }
            }
            Expr::Cast { data_type, .. } => in_flow_type(data_type),
            Expr::Interval(interval) if interval.leading_field.is_none() => {
                if let Expr::Value(value) = interval.value.as_mut()
                    && let Value::SingleQuotedString(written) = &mut value.value
                    && let Some(days) = in_days(written)
                {
                    *written = days;
                }
            }
            Expr::TypedString(text) => in_flow_type(&mut text.data_type),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions of lists, which DataFusion does not give the items of, if they are decimals and those of the list floats.
fn takes_lists(function: &str) -> bool {
    let function = function.to_lowercase();
    function.starts_with("array_") || function.starts_with("list_") || function == "make_array"
}

/// Makes a number that is written like that a float.
fn as_float(expr: &mut Expr, is_written: fn(&str) -> bool) {
    match expr {
        Expr::UnaryOp { expr, .. } => as_float(expr, is_written),
        Expr::Value(value) => {
            if let Value::Number(digits, _) = &value.value
                && is_written(&digits.to_string())
            {
                let text = Expr::value(Value::SingleQuotedString(digits.to_string()));
                *expr = cast(text, DataType::Double(ExactNumberInfo::None));
            }
        }
        _ => {}
    }
}

fn has_point(digits: &str) -> bool {
    digits.contains('.')
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// A number with an exponent, or with more digits than a decimal can have.
fn is_float(digits: &str) -> bool {
    digits.contains(['e', 'E']) || digits.chars().filter(char::is_ascii_digit).count() > MOST_DIGITS
}

/// Types may be called as flows call them, but for `int8`, which has eight bytes in SQL. `timestamp` has microseconds; DataFusion's has
/// nanoseconds, which end in the year 2262.
fn in_flow_type(data_type: &mut DataType) {
    match data_type {
        DataType::Int16 => *data_type = DataType::SmallInt(None),
        DataType::Int32 => *data_type = DataType::Int(None),
        DataType::Int64 => *data_type = DataType::BigInt(None),
        DataType::UInt8 => *data_type = DataType::TinyIntUnsigned(None),
        DataType::UInt16 => *data_type = DataType::SmallIntUnsigned(None),
        DataType::UInt32 => *data_type = DataType::IntUnsigned(None),
        DataType::UInt64 => *data_type = DataType::BigIntUnsigned(None),
        DataType::Float32 => *data_type = DataType::Real,
        DataType::Float64 => *data_type = DataType::Double(ExactNumberInfo::None),
        DataType::Binary(None) => *data_type = DataType::Bytea,
        DataType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("utf8") => *data_type = DataType::Text,
        DataType::Timestamp(precision, _) if precision.is_none_or(|precision| precision > 6) => *precision = Some(6),
        DataType::Datetime(precision) if precision.is_none_or(|precision| precision > 6) => *precision = Some(6),
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => in_flow_type(item),
        DataType::Struct(fields, _) => fields.iter_mut().for_each(|field| in_flow_type(&mut field.field_type)),
        _ => {}
    }
}
