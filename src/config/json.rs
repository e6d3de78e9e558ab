//! A configuration as JSON (`spf-milter(8)`, show-config).

use serde_json::{Map, Value, json};

use super::{
    params::{Config, parameters},
    place::{Place, Places},
};

/// The version of the form.
const SCHEMA: u32 = 1;

impl Config {
    /// Writes what differs from the defaults, or everything: for each parameter its value, in the
    /// form of the configuration file, and the place where it is set.
    pub fn show_json(&self, places: &Places, all: bool) -> String {
        let mut values = Map::new();
        for parameter in parameters().iter().filter(|parameter| all || !self.is_default(parameter))
        {
            let mut object = Map::new();
            object.insert("value".into(), (parameter.spell)(self).into());
            let place = places.find(parameter.name);
            object.insert("place".into(), place.to_string().into());
            if let Place::File(path, line) = place {
                object.insert("file".into(), path.to_string_lossy().into());
                object.insert("line".into(), line.into());
            }
            values.insert(parameter.name.into(), Value::Object(object));
        }
        format!("{}\n", json!({ "schema": SCHEMA, "parameters": values }))
    }
}
