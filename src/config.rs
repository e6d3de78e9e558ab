//! The configuration: plain values, checked once, never changed.
//!
//! `params` is the one table of parameters, `parse` is pure, text in, assignments and all errors
//! out, `load` reads the files and `check` compares values with each other. The other modules are
//! the types of values.

mod check;
mod error;
mod load;
mod meant;
mod names;
mod networks;
mod params;
mod parse;
mod reply_text;
mod skip_senders;
mod socket;
mod spf_results;
mod unlikely;
mod value;
mod words;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;

pub use self::{
    error::{ConfigError, Errors, Warning},
    load::{Loaded, Overrides, load, load_text},
    networks::Networks,
    params::{Config, DefaultValue, Parameter, parameters},
    reply_text::{ReplySegment, ReplyText},
    skip_senders::SkipSenders,
    socket::SocketSpec,
    spf_results::SpfResults,
    value::Mode,
    words::{EnforcedPolicy, ErrorAction, HeaderName, LogDestination, LogLevel, SyslogFacility},
};

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

    fn is_default(&self, parameter: &Parameter) -> bool {
        let spelt = (parameter.spell)(self);
        match parameter.default {
            DefaultValue::Mandatory => false,
            DefaultValue::Text(text) => spelt == text,
            DefaultValue::Derived { .. } => {
                let mut derived = self.clone();
                derived.derive(parameter.name);
                (parameter.same)(&derived, self)
            }
        }
    }

    /// Gives a parameter the default that follows from others; one whose default does not stays as
    /// it is.
    fn derive(&mut self, name: &str) {
        match name {
            "reject_helo_results" => self.reject_helo_results = self.reject_results,
            "trusted_authentication_results" => {
                self.trusted_authentication_results.clone_from(&self.trusted_networks)
            }
            "authserv_id" => self.authserv_id.clone_from(&self.hostname),
            "delete_incoming_authentication_results" => {
                self.delete_incoming_authentication_results =
                    self.header.contains(&HeaderName::AuthenticationResults);
            }
            _ => {}
        }
    }

    /// The names of the parameters whose values differ.
    pub fn changed(&self, other: &Self) -> Vec<&'static str> {
        self.differing(other).map(|parameter| parameter.name).collect()
    }

    /// Takes the running values of the parameters that are fixed; the names of those that differed.
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
