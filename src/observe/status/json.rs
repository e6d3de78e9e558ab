//! The status as JSON.

use serde::Serialize;

use super::values::Status;

impl Status {
    /// As JSON, with a line feed at the end.
    ///
    /// # Errors
    ///
    /// It cannot be written, which is a fault of the program; why, in words.
    pub fn to_json(&self) -> Result<String, String> {
        written(self)
    }

    /// Reads what [`Status::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

/// A value as JSON, with a line feed at the end.
fn written(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| format!("cannot write the status: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::written;

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let keys_are_no_texts = BTreeMap::from([((), 1)]);
        let error = written(&keys_are_no_texts).unwrap_err();
        assert!(error.starts_with("cannot write the status: "), "{error}");
        assert_eq!(written(&1).unwrap(), "1\n");
    }
}
