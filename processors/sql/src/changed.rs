//! Functions of DataFusion that do something else here, or something more.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::Result;
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What is done instead of calling the function.
pub trait Change: Debug + Eq + Hash + Send + Sync + 'static {
    /// Whether DataFusion's rules may simplify calls.
    const SIMPLIFIED: bool;

    /// Computes the values.
    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue>;

    /// The type of the result, and whether it can be null.
    fn returns(&self, function: &ScalarUDF, args: ReturnFieldArgs) -> Result<FieldRef> {
        function.return_field_from_args(args)
    }
}

/// A function as it was, but for the change.
pub fn changed(function: &Arc<ScalarUDF>, change: impl Change) -> Arc<ScalarUDF> {
    changed_for(function, change, function.signature().clone())
}

/// A function that takes arguments of other types, too.
pub fn changed_for(function: &Arc<ScalarUDF>, change: impl Change, signature: Signature) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Changed { function: function.clone(), change, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Changed<C> {
    function: Arc<ScalarUDF>,
    change: C,
    signature: Signature,
}

impl<C: Change> ScalarUDFImpl for Changed<C> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.change.returns(&self.function, args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.change.invoke(&self.function, args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if C::SIMPLIFIED {
            self.function.inner().simplify(args, context)
        } else {
            Ok(ExprSimplifyResult::Original(args))
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}
