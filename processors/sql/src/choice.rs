//! `CASE WHEN … THEN a ELSE b END` where both results are columns or constants, which nothing has to be filtered for.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Datum, RecordBatch};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Schema};
use datafusion_common::Result;
use datafusion_common::cast::as_boolean_array;
use datafusion_common::tree_node::Transformed;
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CaseExpr, Column, Literal};

/// The expression, as a [`Choice`] if it is one.
pub fn as_choice(expr: Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Ok(if parts(&expr).is_some() { Transformed::yes(Arc::new(Choice { case: expr })) } else { Transformed::no(expr) })
}

/// A `CASE` with one condition, of which both results are there already. DataFusion filters the batch for each of them, since a
/// result may fail for the rows that ask for the other one; these can't fail.
#[derive(Debug, Eq)]
struct Choice {
    case: Arc<dyn PhysicalExpr>,
}

/// The condition and both results, if these are columns, or a column and a constant: of two constants, DataFusion makes a column
/// in a faster way.
fn parts(case: &Arc<dyn PhysicalExpr>) -> Option<[&Arc<dyn PhysicalExpr>; 3]> {
    let case = case.downcast_ref::<CaseExpr>()?;
    let (None, [(when, then)], Some(otherwise)) = (case.expr(), case.when_then_expr(), case.else_expr()) else {
        return None;
    };
    let is_column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().is_some();
    let is_constant = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Literal>().is_some();
    let is_choice = is_column(then) && (is_column(otherwise) || is_constant(otherwise))
        || is_constant(then) && is_column(otherwise);
    is_choice.then_some([when, then, otherwise])
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        self.case.eq(&other.case)
    }
}

impl Hash for Choice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.case.hash(state);
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.case.fmt(f)
    }
}

impl PhysicalExpr for Choice {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.case.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.case.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let Some([when, then, otherwise]) = parts(&self.case) else { return self.case.evaluate(batch) };
        let [then, otherwise] = [datum(then.evaluate(batch)?)?, datum(otherwise.evaluate(batch)?)?];
        if then.get().0.data_type() != otherwise.get().0.data_type() {
            return self.case.evaluate(batch);
        }
        let mask = when.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(zip(as_boolean_array(&mask)?, then.as_ref(), otherwise.as_ref())?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.case.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(as_choice(self.case.clone().with_new_children(children)?)?.data)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.case.fmt_sql(f)
    }
}

fn datum(value: ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(values) => Box::new(values),
        ColumnarValue::Scalar(value) => Box::new(value.to_scalar()?),
    })
}

#[cfg(test)]
mod tests {
    use millstream_testkit::{drive, parse, table};

    use crate::sql::SqlSettings;

    #[test]
    fn columns_and_constants_are_chosen_row_by_row() {
        let rows = table("n:int64? t:utf8? u:utf8\n 1 a x\n 7 null y\n null c z\n 9 d w");
        let query = "SELECT CASE WHEN n > 5 THEN t ELSE u END AS a, CASE WHEN n > 5 THEN 'many' ELSE t END AS b,
             CASE WHEN n > 5 THEN n ELSE 0 END AS c, CASE WHEN n > 5 THEN u ELSE NULL END AS d FROM input WHERE u <> 'v'";
        let settings: SqlSettings = parse(&format!("query = '''{query}'''"));
        for batch_rows in [1, 8192] {
            let driven = drive(&settings, &[("from", rows.clone())], batch_rows);
            let expected = "a:utf8? b:utf8? c:int64? d:utf8?\nx a 0 null\nnull many 7 y\nz c 0 null\nd many 9 w\n";
            assert_eq!(driven.text("main"), expected);
        }
    }
}
