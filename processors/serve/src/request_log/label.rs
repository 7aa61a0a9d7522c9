//! Labels that are sent: whether a model could learn them.

use millstream_models::{Class, Label};
use serde_json::Value;
use twox_hash::XxHash3_64;

/// Checks that a model could learn a label, and says what would be right if not.
pub fn check(label: &Label, value: &Value) -> Result<(), String> {
    let (column, type_name) = (column(label), &label.type_name);
    if label.reward.is_some() || label.classes.is_empty() {
        let wrong = || format!("`{value}` is no number, as `{column}` is");
        return value.as_f64().is_some_and(f64::is_finite).then_some(()).ok_or_else(wrong);
    }
    let class = serde_json::from_value::<Class>(value.clone()).ok();
    if class.is_some_and(|class| label.classes.contains(&class)) {
        return Ok(());
    }
    let classes: Vec<_> = label.classes.iter().filter_map(|class| serde_json::to_string(class).ok()).collect();
    Err(format!("`{value}` is none of the classes of `{column}` ({type_name}): {}", classes.join(", ")))
}

/// The column that labels come in: what actions were worth, where these are what is predicted.
pub fn column(label: &Label) -> &str {
    label.reward.as_deref().unwrap_or(&label.column)
}

/// What a label is known by.
pub fn fingerprint(value: &Value) -> u64 {
    XxHash3_64::oneshot(value.to_string().as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_model_can_not_learn_is_refused_in_words() {
        let of = |type_name: &str, classes: Value, reward: Option<&str>| -> Label {
            serde_json::from_value(json!({ "column": "y", "type": type_name, "classes": classes, "reward": reward }))
                .unwrap()
        };
        let fraud = of("boolean", json!([false, true]), None);
        assert!(check(&fraud, &json!(true)).is_ok());
        assert_eq!(
            check(&fraud, &json!("yes")).unwrap_err(),
            "`\"yes\"` is none of the classes of `y` (boolean): false, true"
        );
        let kind = of("utf8", json!(["a", "b"]), None);
        assert!(
            check(&kind, &json!("a")).is_ok()
                && check(&kind, &json!("c")).is_err()
                && check(&kind, &json!(null)).is_err()
        );
        let amount = of("float64", json!([]), None);
        assert!(check(&amount, &json!(1)).is_ok() && check(&amount, &json!("1")).is_err());
        let offer = of("utf8", json!(["a", "b"]), Some("worth"));
        assert_eq!(column(&offer), "worth");
        assert!(check(&offer, &json!(0.5)).is_ok() && check(&offer, &json!("a")).is_err());
    }
}
