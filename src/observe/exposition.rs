//! The counts in the text format of Prometheus: every metric has its name, its type and its meaning
//! here.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{
    TextEncoder,
    proto::{MetricFamily, MetricType},
};

use super::{
    conclusion::{MessageVerdict, Reason},
    family::{Sample, Value, as_float, family, number},
    metrics::{CODES, Counts, EXEMPTIONS, Method, Metrics, Program, code_at, place_of},
    process::Process,
    reading::Reading,
};
use crate::{
    auth::{dkim::DkimResult, dmarc::DmarcResult, iprev::IprevResult},
    config::{Action, Config},
    dns,
    mail::{
        reply::ReplyCode,
        results::{SpfResult, Words},
    },
};

/// What all names begin with, but for those of the process, which are the same for all programs.
const PREFIX: &str = "spf_milter_";

/// Metrics in their order.
#[derive(Default)]
struct Exposition(Vec<MetricFamily>);

impl Metrics {
    /// All metrics in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    ///
    /// As those of [`Exposition::encode`].
    pub(super) fn text(&self) -> Result<String, String> {
        let mut exposition = Exposition::default();
        let reading = self.reading();
        let (mail, program) = (self.mail(), &*self.program);
        exposition.configuration(program, &reading);
        exposition.mail(&mail, &reading);
        exposition.times(&mail);
        exposition.dns(&reading);
        exposition.program(program, &mail, &reading);
        exposition.process(&Process::read(), read(&program.started));
        exposition.encode()
    }
}

impl Exposition {
    /// As text.
    ///
    /// # Errors
    ///
    /// The encoder refuses a metric, such as one without a value.
    fn encode(&self) -> Result<String, String> {
        let text = TextEncoder::new().encode_to_string(&self.0);
        text.map_err(|error| format!("cannot write metrics: {error}"))
    }

    fn configuration(&mut self, program: &Program, reading: &Reading) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.add(
            "build_info",
            "The version of the program; always 1.",
            MetricType::GAUGE,
            [(version, Value::Number(1.0))],
        );
        self.gauge(
            "config_generation",
            "How often the configuration was put in force anew since the start.",
            reading.generation,
        );
        self.counters(
            "config_reloads_total",
            "Reloads of the configuration, by outcome. After a failure the former one stays in force.",
            "outcome",
            [
                ("success", read(&program.reloads)),
                ("failure", read(&program.failed_reloads)),
            ],
        );
        let has_failed = program.has_reload_failed.load(Ordering::Relaxed);
        self.gauge(
            "config_last_reload_success",
            "Whether the last reload succeeded; 1 if there was none.",
            u64::from(!has_failed),
        );
        self.gauge(
            "config_last_reload_timestamp_seconds",
            "When the configuration in force was loaded, in seconds since 1970.",
            read(&program.loaded),
        );
    }

    fn mail(&mut self, counts: &Counts, reading: &Reading) {
        self.counters(
            "messages_total",
            "Messages that were received to their end, by what the MTA was told. What was refused at HELO, MAIL FROM or RCPT TO \
             is not among them: it is in replies_total only.",
            "verdict",
            labelled::<MessageVerdict>(counts.verdicts.read()),
        );
        let expected = expected_replies(reading.config.as_deref());
        let mut replies = Vec::new();
        for ((reason, word), counts) in Reason::ALL.iter().zip(&counts.replies) {
            for (place, count) in counts.read().into_iter().enumerate() {
                if count > 0 || expected.contains(&(*reason, place)) {
                    let labels =
                        vec![("code", code_at(place).to_string()), ("reason", (*word).to_owned())];
                    replies.push((labels, number(count)));
                }
            }
        }
        self.add(
            "replies_total",
            "Replies that refused something, by code and reason: of a client at HELO, of a sender at MAIL FROM, of each recipient at \
             RCPT TO, and of a message at its end; the last of these are in messages_total too, as defer or reject.",
            MetricType::COUNTER,
            replies,
        );
        let mut results = Vec::new();
        let mut add = |method: Method, counts: Vec<(&'static str, u64)>| {
            results.extend(counts.into_iter().map(|(result, count)| {
                let method = method.as_str().to_owned();
                (vec![("method", method), ("result", result.to_owned())], number(count))
            }));
        };
        add(Method::SpfHelo, labelled::<SpfResult>(counts.spf_helo.read()).collect());
        add(Method::SpfMailfrom, labelled::<SpfResult>(counts.spf_mailfrom.read()).collect());
        add(Method::Dkim, labelled::<DkimResult>(counts.dkim.read()).collect());
        add(Method::Dmarc, labelled::<DmarcResult>(counts.dmarc.read()).collect());
        add(Method::Iprev, labelled::<IprevResult>(counts.iprev.read()).collect());
        self.add(
            "results_total",
            "Results, by method. Each DKIM signature counts; a message without any counts as none.",
            MetricType::COUNTER,
            results,
        );
        self.counters(
            "exemptions_total",
            "How often something was not verified, or a result had no consequence, by reason, in the words of the log.",
            "reason",
            EXEMPTIONS.iter().map(|exemption| exemption.as_str()).zip(counts.exemptions.read()),
        );
        self.counters(
            "not_enforced_total",
            "Messages that would have been refused, kept back or marked, or more strictly so, but for dry_run, an exemption, or an \
             action that is none. One message can count for several policies.",
            "policy",
            labelled::<Reason>(counts.not_enforced.read())
                .filter(|(word, _)| *word != Reason::Internal.as_str()),
        );
    }

    fn times(&mut self, counts: &Counts) {
        let stages = Method::ALL.iter().zip(&counts.stages).map(|((_, word), histogram)| {
            (vec![("stage", (*word).to_owned())], Value::Distribution(histogram.read()))
        });
        self.add(
            "stage_seconds",
            "How long SPF and iprev took, and how long the end of a message waited for DKIM and DMARC.",
            MetricType::HISTOGRAM,
            stages,
        );
        self.add(
            "message_seconds",
            "From MAIL FROM until the end of a message was answered, what the client took included.",
            MetricType::HISTOGRAM,
            [(Vec::new(), Value::Distribution(counts.messages.read()))],
        );
    }

    fn dns(&mut self, reading: &Reading) {
        let dns = &reading.dns;
        let mut lookups = Vec::new();
        for ((_, word), outcomes) in dns::RecordType::ALL.iter().zip(dns.lookups) {
            // Not what the log says before a name.
            let word = word.split(' ').next().unwrap_or_default();
            for ((_, outcome), count) in dns::LookupOutcome::ALL.iter().zip(outcomes) {
                let labels = vec![("type", word.to_owned()), ("outcome", (*outcome).to_owned())];
                lookups.push((labels, number(count)));
            }
        }
        self.add(
            "dns_lookups_total",
            "Look-ups for which name servers were asked, by record type and outcome.",
            MetricType::COUNTER,
            lookups,
        );
        self.add(
            "dns_seconds",
            "How long the look-ups of dns_lookups_total took.",
            MetricType::HISTOGRAM,
            [(Vec::new(), Value::Distribution(dns.seconds.clone()))],
        );
        self.counter(
            "dns_cache_hits_total",
            "Look-ups that were answered from the cache.",
            dns.hits,
        );
        self.counter(
            "dns_cache_misses_total",
            "Look-ups that the cache could not answer.",
            dns.misses,
        );
        self.gauge("dns_cache_entries", "Answers in the cache.", dns.entries);
        self.gauge(
            "dns_cache_limit",
            "Answers that the cache can have (dns_cache_size); fewer where they are large.",
            reading.config.as_ref().map_or(0, |config| widened(config.dns_cache_size)),
        );
        self.counter(
            "dns_coalesced_total",
            "Look-ups that waited for an equal one under way; part of dns_cache_misses_total.",
            dns.coalesced,
        );
        self.counters(
            "dns_prefetch_total",
            "Look-ups of SPF that were begun before their turn, by whether their turn came.",
            "used",
            [("yes", dns.prefetches_used), ("no", dns.prefetches_unused)],
        );
        let servers = reading.servers.iter().map(|(server, is_up)| {
            (vec![("server", server.to_string())], number(u64::from(*is_up)))
        });
        self.add(
            "dns_server_up",
            "Whether a name server answered when it was asked last.",
            MetricType::GAUGE,
            servers,
        );
    }

    fn program(&mut self, program: &Program, mail: &Counts, reading: &Reading) {
        self.gauge(
            "connections",
            "Connections of MTAs that are served.",
            widened(reading.connections),
        );
        self.gauge(
            "connections_limit",
            "Connections that are served at a time (max_connections, or fewer where descriptors are few).",
            widened(reading.connections_limit),
        );
        self.gauge(
            "connections_waiting",
            "Connections that were accepted and wait to be served. More wait with the system.",
            widened(reading.connections_waiting),
        );
        let ended = read(&mail.ended);
        self.gauge(
            "messages_in_flight",
            "Messages between MAIL FROM and their end.",
            read(&mail.begun).saturating_sub(ended),
        );
        self.counter(
            "panics_total",
            "Internal errors that ended the work on something; the log has them.",
            read(&program.panics),
        );
        self.counter(
            "log_lines_dropped_total",
            "Log lines that were lost, because whoever takes them was too slow or not there.",
            reading.log_lines_dropped,
        );
    }

    fn process(&mut self, process: &Process, started: u64) {
        let mut add = |name: &str, help: &str, kind, value: Option<f64>| {
            self.0.extend(value.map(|value| {
                family(name.to_owned(), help, kind, [(Vec::new(), Value::Number(value))])
            }));
        };
        let count = |value: Option<u64>| value.map(as_float);
        add(
            "process_cpu_seconds_total",
            "Time of processors, in seconds.",
            MetricType::COUNTER,
            Some(process.cpu.as_secs_f64()),
        );
        add(
            "process_resident_memory_bytes",
            "Resident memory, in octets.",
            MetricType::GAUGE,
            count(process.resident),
        );
        add(
            "process_open_fds",
            "Descriptors that are open.",
            MetricType::GAUGE,
            count(process.open_descriptors),
        );
        add(
            "process_max_fds",
            "Descriptors that may be open.",
            MetricType::GAUGE,
            count(process.max_descriptors),
        );
        add("process_threads", "Threads.", MetricType::GAUGE, count(process.threads));
        add(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            MetricType::GAUGE,
            Some(as_float(started)),
        );
    }

    //--- Forms ---

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, MetricType::GAUGE, [(Vec::new(), number(value))]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, MetricType::COUNTER, [(Vec::new(), number(value))]);
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let values =
            values.into_iter().map(|(word, count)| (vec![(label, word.to_owned())], number(count)));
        self.add(name, help, MetricType::COUNTER, values);
    }

    /// Adds a metric, unless it has no value.
    fn add(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let family = family(format!("{PREFIX}{name}"), help, kind, samples);
        self.0.extend(Some(family).filter(|family| !family.get_metric().is_empty()));
    }
}

/// Counts with the words that they are of.
fn labelled<T: Words>(
    counts: impl IntoIterator<Item = u64>,
) -> impl Iterator<Item = (&'static str, u64)> {
    T::ALL.iter().map(|(_, word)| *word).zip(counts)
}

/// The replies that a configuration can give, which are there from the start.
fn expected_replies(config: Option<&Config>) -> Vec<(Reason, usize)> {
    let (refused, later) = (ReplyCode::REFUSED, ReplyCode::TRY_AGAIN);
    let mut expected = vec![
        (Reason::DmarcTemperror, later),
        (Reason::ForgedResults, refused),
        (Reason::Internal, later),
    ];
    if let Some(config) = config {
        let of_action = |action, code| if action == Action::Defer { later } else { code };
        for reason in [Reason::SpfHelo, Reason::SpfMailfrom] {
            expected.extend(
                [
                    config.fail_reply_code,
                    config.softfail_reply_code,
                    config.temperror_reply_code,
                    config.permerror_reply_code,
                ]
                .map(|code| (reason, code)),
            );
        }
        expected.extend([
            (Reason::Dmarc, config.dmarc_fail_reply_code),
            (Reason::LocalDomain, config.local_domain_reply_code),
            (Reason::MalformedAuthor, config.malformed_author_reply_code),
            (
                Reason::Unauthenticated,
                of_action(config.unauthenticated_action, config.unauthenticated_reply_code),
            ),
            (Reason::Iprev, of_action(config.iprev_fail_action, config.iprev_fail_reply_code)),
        ]);
    }
    let places = expected.into_iter().map(|(reason, code)| (reason, place_of(code)));
    places.filter(|(_, place)| *place < CODES).collect()
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn widened(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_cannot_be_written_is_an_error() {
        let empty = family("spf_milter_x".into(), "x", MetricType::GAUGE, []);
        let error = Exposition(vec![empty]).encode().unwrap_err();
        assert!(error.starts_with("cannot write metrics: "), "{error}");
        assert_eq!(Exposition::default().encode().unwrap(), "");
    }
}
