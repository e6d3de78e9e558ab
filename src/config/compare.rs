//! Configurations compared: with the defaults, and with the one in force.

use super::params::{Config, DefaultValue, Parameter, parameters};

impl Config {
    /// Writes a configuration file that says the same: what differs from the defaults, or
    /// everything.
    pub fn show(&self, all: bool) -> String {
        let mut text = String::new();
        let mut group = "";
        for parameter in parameters() {
            if !all && self.is_default(parameter) {
                continue;
            }
            if group != parameter.group {
                group = parameter.group;
                let space = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{space}# {group}\n"));
            }
            let line = format!("{} = {}", parameter.name, (parameter.spell)(self));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The value of a parameter of this name, in the form of the configuration file.
    pub fn value_of(&self, name: &str) -> Option<String> {
        Parameter::find(name).map(|parameter| (parameter.spell)(self))
    }

    pub(super) fn is_default(&self, parameter: &Parameter) -> bool {
        match parameter.default {
            DefaultValue::Mandatory => false,
            DefaultValue::Text(text) => (parameter.spell)(self) == text,
            DefaultValue::Derived { .. } => {
                let mut derived = self.clone();
                derived.derive(parameter.name);
                (parameter.same)(&derived, self)
            }
        }
    }

    /// The names of the parameters whose values differ.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        self.differing(other).map(|parameter| parameter.name).collect()
    }

    /// Takes the running values of the parameters that are fixed, and returns the names of the
    /// parameters that differed.
    pub fn keep_fixed(&mut self, running: &Self) -> Vec<&'static str> {
        let fixed: Vec<_> = self.differing(running).filter(|parameter| parameter.fixed).collect();
        for parameter in &fixed {
            (parameter.copy)(self, running);
        }
        fixed.into_iter().map(|parameter| parameter.name).collect()
    }

    fn differing<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'static Parameter> + use<'a> {
        parameters().iter().filter(|parameter| !match parameter.name {
            // One field holds the entries of both.
            "skip_senders" => self.skip_senders.same_list(&other.skip_senders),
            "skip_senders_file" => {
                self.skip_senders_file == other.skip_senders_file
                    && self.skip_senders.same_file(&other.skip_senders)
            }
            _ => (parameter.same)(self, other),
        })
    }
}
