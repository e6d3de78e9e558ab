//! The status as a value.

use serde::{Deserialize, Serialize};

use super::shown::{Counts, Shown};

/// The status of the program. Its fields are those of the JSON object (`spf-milter(8)`, STATUS).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of the program.
    pub version: Shown,
    /// The local time of this status; times are as `2026-11-27T09:30:00+01:00` (RFC 3339).
    pub time: Shown,
    /// When the program was started.
    pub started: Shown,
    /// Seconds since then.
    pub uptime_secs: u64,
    /// What needs attention, in sentences.
    pub warnings: Vec<Shown>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The sockets of the MTA.
    pub sockets: Vec<Shown>,
    /// The connections of the MTA.
    pub connections: Connections,
    /// The name servers and look-ups.
    pub dns: Dns,
    /// What became of messages today.
    pub messages: Messages,
    /// How many refusals are kept (`status_refusals`).
    pub status_refusals: usize,
    /// The last refusals, from the newest to the oldest.
    pub refusals: Vec<Refusal>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The path of its file.
    pub file: Shown,
    /// How often a configuration was put in force before.
    pub generation: u64,
    /// When it was put in force.
    pub loaded: Shown,
    /// Whether nothing is refused and no message is changed.
    pub dry_run: bool,
    /// The last reload, where it failed.
    pub failed: Option<FailedReload>,
}

/// A reload that failed; the configuration stayed as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedReload {
    /// When.
    pub time: Shown,
    /// Why: the first error.
    pub error: Shown,
}

/// The connections of the MTA.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Connections that are served.
    pub served: usize,
    /// Connections that may be served at the same time.
    pub limit: usize,
}

/// The name servers and look-ups, since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// The name servers that are asked now.
    pub servers: Vec<NameServer>,
    /// Look-ups that the cache answered.
    pub hits: u64,
    /// Look-ups that it could not answer.
    pub misses: u64,
    /// Questions to name servers.
    pub queries: u64,
    /// Questions that had no answer in time.
    pub timeouts: u64,
    /// Questions that had an error for an answer.
    pub errors: u64,
}

/// A name server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameServer {
    /// Its address; the port where it is not 53.
    pub address: Shown,
    /// Whether it answered when it was last asked; null: it was not asked yet.
    pub answers: Option<bool>,
    /// Seconds since its last answer; null: it never answered.
    pub answered_secs: Option<u64>,
}

/// What became of messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// Since when: midnight, local time, or the start.
    pub since: Shown,
    /// Messages that were received to their end.
    pub total: u64,
    /// These by verdict.
    pub verdicts: Counts,
    /// Refusals by reason, also those before a message came.
    pub refused: Counts,
    /// By reason, what would have been refused, kept back or marked, but for a dry run, an exemption,
    /// or an action that is none.
    pub not_enforced: Counts,
    /// How long the methods took, where they were used.
    pub methods: Vec<Method>,
}

/// How long a method took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Method {
    /// Its name.
    pub method: Shown,
    /// How often it was used.
    pub count: u64,
    /// Milliseconds within which half of them were done; null: longer than any that is counted.
    pub p50_ms: Option<f64>,
    /// Milliseconds within which 99 of 100 were done.
    pub p99_ms: Option<f64>,
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// When.
    pub time: Shown,
    /// The code of the reply.
    pub reply: u16,
    /// Why.
    pub reason: Shown,
    /// The domain in From, or that of SPF.
    pub domain: Shown,
    /// The address of the client.
    pub client: Shown,
    /// The queue id.
    pub queue_id: Shown,
}
