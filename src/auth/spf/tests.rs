//! Cases of RFC 7208 and of real reports, against zones in memory.

mod bounds;
mod explanations;
mod kept;
mod limits;
mod macros;
mod mechanisms;
mod prefetching;
mod properties;
mod records;
mod tracing;

use std::{future::Future, sync::Arc, time::Duration};

use super::{Limits, Outcome, ProblemKind, Query, Trace, check as check_query};
use crate::{
    dns::{Dns, Name, zone::Zone},
    mail::results::SpfResult::{
        self, Fail, Neutral, None as NoResult, Pass, Permerror, Softfail, Temperror,
    },
};

/// Runs with a clock that stands still while there is something to do, and jumps when there is not.
fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// A question with the parts that a test cares about.
#[derive(Clone)]
struct Asked<'a> {
    client: &'a str,
    sender: &'a str,
    helo: &'a str,
    limits: Limits,
}

impl<'a> Asked<'a> {
    fn new(client: &'a str, sender: &'a str) -> Self {
        Self { client, sender, helo: "mail.example.org", limits: Limits::default() }
    }

    fn query(&self) -> Query<'a> {
        let (local_part, domain) = self.sender.rsplit_once('@').unwrap_or(("", self.sender));
        Query {
            client: self.client.parse().unwrap(),
            domain: domain.into(),
            local_part,
            helo: self.helo,
            receiver: "receiver.example",
            timestamp: 1_700_000_000,
        }
    }

    fn of(&self, zone: &Arc<Zone>) -> Outcome {
        run(check_query(&Dns::from_zone(Arc::clone(zone)), &self.query(), &self.limits, None))
    }
}

fn zone(text: &str) -> Arc<Zone> {
    Arc::new(Zone::parse(text).unwrap())
}

/// The outcome for `user@example.com` from a client.
fn check_from(client: &str, text: &str) -> Outcome {
    Asked::new(client, "user@example.com").of(&zone(text))
}

/// The outcome for `user@example.com` from 192.0.2.1.
fn check(text: &str) -> Outcome {
    check_from("192.0.2.1", text)
}

/// The outcome for a record of example.com, with the rest of the zone.
fn check_record(record: &str, rest: &str) -> Outcome {
    check(&format!("example.com TXT \"{record}\"\n{rest}"))
}

fn problem(outcome: &Outcome) -> Option<ProblemKind> {
    outcome.problem.as_ref().map(|problem| problem.kind)
}

/// The result and why, for the tables of the tests.
fn result_and_problem(outcome: &Outcome) -> (SpfResult, Option<ProblemKind>) {
    (outcome.result, problem(outcome))
}
