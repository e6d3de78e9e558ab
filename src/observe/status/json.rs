//! The status as JSON.

use super::values::Status;

impl Status {
    /// As JSON, with a line feed at the end.
    pub fn to_json(&self) -> String {
        // It cannot fail: keys are texts, and numbers finite.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
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
