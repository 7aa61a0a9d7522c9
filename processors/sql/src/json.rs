//! `json_get` and `json_get_text`, also written `->` and `->>`: a part of a text that is JSON.

use std::sync::{Arc, LazyLock};

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{DFSchema, Result, exec_datafusion_err, plan_err};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_sql::sqlparser::ast::BinaryOperator;
use serde_json::Value;

/// The functions of JSON.
pub fn functions() -> [Arc<ScalarUDF>; 2] {
    FUNCTIONS.clone()
}

static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
    [false, true].map(|as_text| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(JsonGet { as_text, signature }))
    })
});

/// Turns `->` and `->>` into calls.
#[derive(Debug)]
pub struct JsonPlanner;

impl ExprPlanner for JsonPlanner {
    fn plan_binary_op(&self, get: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let [as_json, as_text] = functions();
        Ok(match get.op {
            BinaryOperator::Arrow => PlannerResult::Planned(as_json.call(vec![get.left, get.right])),
            BinaryOperator::LongArrow => PlannerResult::Planned(as_text.call(vec![get.left, get.right])),
            _ => PlannerResult::Original(get),
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonGet {
    /// Whether a string comes without quotes, and JSON's null as null.
    as_text: bool,
    signature: Signature,
}

impl ScalarUDFImpl for JsonGet {
    fn name(&self) -> &str {
        if self.as_text { "json_get_text" } else { "json_get" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [text, path @ ..] = types else { return plan_err!("`{}` needs a text and keys", self.name()) };
        let is_key = |key: &DataType| key.is_integer() || key.is_string() || key.is_null();
        if !(text.is_string() || text.is_null()) || path.is_empty() || !path.iter().all(is_key) {
            return plan_err!("`{0}` takes a text, and keys or places: `{0}(text, 'items', 0)`", self.name());
        }
        let key = |key: &DataType| if key.is_integer() { DataType::Int64 } else { DataType::Utf8 };
        Ok(std::iter::once(DataType::Utf8).chain(path.iter().map(key)).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.iter().map(|argument| argument.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let (texts, path) = (cast(&given[0], &DataType::Utf8)?, &given[1..]);
        let texts = texts.as_string::<i32>();
        let get = |row: usize| if texts.is_valid(row) { self.get(texts.value(row), path, row) } else { Ok(None) };
        Ok(ColumnarValue::Array(Arc::new((0..texts.len()).map(get).collect::<Result<StringArray>>()?)))
    }
}

impl JsonGet {
    fn get(&self, text: &str, path: &[ArrayRef], row: usize) -> Result<Option<String>> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| exec_datafusion_err!("this is no JSON: {error}"))?;
        let mut part = Some(&value);
        for key in path {
            part = part.and_then(|part| step(part, key, row));
        }
        Ok(match part {
            Some(Value::String(text)) if self.as_text => Some(text.clone()),
            Some(Value::Null) if self.as_text => None,
            part => part.map(Value::to_string),
        })
    }
}

/// One key, or one place of an array, counted from its end if it is negative.
fn step<'a>(value: &'a Value, key: &ArrayRef, row: usize) -> Option<&'a Value> {
    match (value, key.data_type()) {
        (Value::Object(fields), DataType::Utf8) if key.is_valid(row) => fields.get(key.as_string::<i32>().value(row)),
        (Value::Array(items), DataType::Int64) if key.is_valid(row) => {
            let place = key.as_primitive::<Int64Type>().value(row);
            let place = if place < 0 { place + items.len() as i64 } else { place };
            items.get(usize::try_from(place).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

    #[test]
    fn parts_of_json_are_found() {
        let rows = table(
            r#"t:utf8? k:utf8
            {"a":{"b":[1,"x",null]},"c":1.5} c
            null a
            [7] a"#,
        );
        let query = "SELECT t -> 'a' AS a, t -> 'a' -> 'b' ->> 1 AS x, t ->> k AS k, json_get(t, 'a', 'b', -1) AS last,
                            json_get_text(t, 'a', 'b', -1) AS none, (t ->> 'c') = '1.5' AS c, json_get(t, 0) AS seven FROM input";
        let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
        let driven = drive(&settings, &[("from", rows)], 2);
        let lines: Vec<String> = driven.text("main").lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines[1], "null null null null null null null");
        assert_eq!(lines[2], "null null null null null null 7");
        assert!(lines[0].contains(" x 1.5 ") && lines[0].ends_with(" null null true null"), "{}", lines[0]);
    }

    #[test]
    fn what_is_no_json_fails_its_row() {
        let rows = table("t:utf8\n {\n {}");
        let settings: SqlSettings = parse("query = \"SELECT t ->> 'a' AS a FROM input\"");
        let driven = drive(&settings, &[("from", rows)], 2);
        assert_eq!(driven.failed.len(), 1);
        assert!(driven.failed[0].error.contains("this is no JSON"), "{}", driven.failed[0].error);
    }
}
