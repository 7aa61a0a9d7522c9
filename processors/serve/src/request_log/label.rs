//! Labels that are sent: whether a model could learn them.

use millstream_models::encode::is_usable;
use millstream_models::{Class, Label};
use serde_json::Value;
use twox_hash::XxHash3_64;

/// The value as it is compared with others: whole numbers are whole, however they were written.
pub fn plain(value: Value) -> Value {
    /// Behind it there are numbers between which there is none of 64 bits.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let whole = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0 && number.abs() < EXACT);
    whole.map_or(value, |number| Value::from(number as i64))
}

/// Checks that a model could learn a label, where `largest` is the largest number that it learns, and says what would be right if not.
pub fn check(label: &Label, largest: f64, value: &Value) -> Result<(), String> {
    let (column, type_name) = (column(label), &label.type_name);
    if label.reward.is_some() || label.classes.is_empty() {
        let number = value.as_f64().ok_or_else(|| format!("`{value}` is no number, as `{column}` is"))?;
        let wrong =
            || format!("`{value}` is too large to be learned as `{column}`: numbers are learned up to {largest:e}");
        return is_usable(number, largest).then_some(()).ok_or_else(wrong);
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

    fn check(label: &Label, value: &Value) -> Result<(), String> {
        super::check(label, 1e150, &plain(value.clone()))
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| plain(serde_json::from_str(text).unwrap()));
            one == other && fingerprint(&one) == fingerprint(&other)
        };
        assert!(same("3", "3.0") && same("0.0", "-0.0") && same("70", "7e1") && same("0.7", "7e-1"));
        assert!(!same("3", "3.1") && !same("9007199254740993", "9007199254740992") && !same("1", "true"));
    }

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
        assert_eq!(
            check(&amount, &json!(1e200)).unwrap_err(),
            "`1e+200` is too large to be learned as `y`: numbers are learned up to 1e150"
        );
        let kind = of("int64", json!([0, 1, 2]), None);
        assert!(check(&kind, &json!(1.0)).is_ok() && check(&kind, &json!(1.5)).is_err());
        let offer = of("utf8", json!(["a", "b"]), Some("worth"));
        assert_eq!(column(&offer), "worth");
        assert!(check(&offer, &json!(0.5)).is_ok() && check(&offer, &json!("a")).is_err());
    }
}
