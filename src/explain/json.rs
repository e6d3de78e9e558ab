//! Lines of the log that are objects of JSON.

use serde_json::Value;

use super::line::{NotOurs, Pair, is_cut, not_ours};

/// Reads an object: each member is a pair, or several of one key where its value is an array.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, NotOurs> {
    let object = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(not_ours("the JSON is not an object")),
        Err(error) => return Err(not_ours(&format!("the JSON cannot be read ({error})"))),
    };
    let mut pairs = Vec::new();
    for (key, value) in object {
        if key.is_empty() {
            return Err(not_ours("a key of the JSON is empty"));
        }
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(true) => "yes".to_owned(),
                Value::Bool(false) => "no".to_owned(),
                // What a newer version may write there is not known.
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            let is_cut = is_cut(&value, value.len());
            pairs.push(Pair { key: key.clone(), value, is_cut });
        }
    }
    Ok(pairs)
}
