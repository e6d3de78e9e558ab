//! The dashboard, the alerts and the table in `docs/monitoring.md`, held against the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use spf_milter::{
    config::LogLevel,
    dns::Server,
    log::Log,
    observe::{Observer, Reading},
};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A metric: its type, and its labels with their values.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The metrics of the program, by their names.
fn metrics() -> BTreeMap<String, Metric> {
    let observer = Observer::new(Log::keep(LogLevel::Error));
    observer.metrics().read_from(|| Reading {
        servers: vec![(Server("192.0.2.1:53".parse().unwrap()), true)],
        ..Reading::default()
    });
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let text = observer.metrics_text().unwrap();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let metric = Metric { kind: kind.into(), ..Metric::default() };
            assert!(metrics.insert(name.into(), metric).is_none(), "{name} comes twice");
        } else if !line.starts_with('#') {
            let (name, labels) =
                line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), ""));
            let metric = metrics.get_mut(base(name)).expect("samples come after their type");
            for (label, value) in pairs(labels.split('}').next().unwrap()) {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    metrics
}

/// The name of a metric that has such a sample.
fn base(name: &str) -> &str {
    let of_histogram = ["_bucket", "_sum", "_count"];
    let ends = of_histogram.iter().filter_map(|end| name.strip_suffix(end));
    ends.into_iter().find(|base| base.ends_with("_seconds")).unwrap_or(name)
}

/// Labels with their values: `a="x",b=~"y|z"`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').unwrap();
        let values = value.trim_start_matches('~').trim_matches(['"', '`']);
        found.extend(
            values.split('|').map(|value| (label.trim_end_matches('!').into(), value.into())),
        );
    }
    found
}

/// What is wrong with a query: names, labels and values that there are not.
fn faults(query: &str, metrics: &BTreeMap<String, Metric>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut labels: BTreeSet<String> = ["instance", "job"].map(str::to_owned).into();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = query;
    while let Some(start) = rest.find(is_word) {
        let (word, after) = rest[start..]
            .split_at(rest[start..].find(|c| !is_word(c)).unwrap_or(rest.len() - start));
        rest = after;
        if !(word.starts_with("spf_milter_") || word.starts_with("process_")) {
            continue;
        }
        let Some(metric) = metrics.get(base(word)) else {
            faults.push(format!("there is no metric {word}"));
            continue;
        };
        let is_histogram = metric.kind == "histogram";
        if is_histogram != (base(word) != word) {
            faults.push(format!("{word} is a {}", metric.kind));
        }
        labels.extend(metric.labels.keys().cloned());
        if let Some(matchers) = after.strip_prefix('{') {
            for (label, value) in pairs(matchers.split('}').next().unwrap()) {
                match metric.labels.get(&label) {
                    _ if label == "instance" || label == "job" => {}
                    None => faults.push(format!("{word} has no label {label}")),
                    Some(values) if !values.contains(&value) => {
                        faults.push(format!("{label} of {word} is never {value}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    for by in query.split(" by (").skip(1) {
        let wanted = by.split(')').next().unwrap().split(',').map(str::trim);
        faults.extend(
            wanted
                .filter(|label| !labels.contains(*label))
                .map(|label| format!("no label {label}")),
        );
    }
    faults
}

/// The queries of the dashboard.
fn of_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("etc/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// The queries of the alerts.
fn of_alerts() -> Vec<String> {
    let alerts = read("etc/prometheus-alerts.yml");
    let expressions = alerts.split("        expr: ").skip(1);
    expressions
        .map(|rest| {
            rest.split("\n        for: ")
                .next()
                .unwrap()
                .split("\n        labels:")
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn queries_ask_for_what_there_is() {
    let metrics = metrics();
    let (dashboard, alerts) = (of_dashboard(), of_alerts());
    assert!(dashboard.len() > 30 && alerts.len() > 8);
    for query in dashboard.iter().chain(&alerts) {
        let faults = faults(query, &metrics);
        assert!(faults.is_empty(), "{query}: {faults:?}");
    }
    for wrong in [
        "spf_milter_message_total",
        "spf_milter_message_seconds",
        "rate(spf_milter_messages_total_bucket[5m])",
        "spf_milter_messages_total{reason=\"dmarc\"}",
        "spf_milter_messages_total{verdict=~`defer|refuse`}",
        "sum by (verdict) (spf_milter_replies_total)",
    ] {
        assert!(!faults(wrong, &metrics).is_empty(), "{wrong}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<String> = of_dashboard()
        .iter()
        .flat_map(|query| {
            query
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map(|word| base(word).to_owned())
        })
        .collect();
    let missing: Vec<_> = metrics().into_keys().filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_document_has_every_metric() {
    let page = read("docs/monitoring.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeMap<String, Vec<String>> = rows
        .filter_map(|row| row.split_once("` |"))
        .map(|(name, rest)| {
            (name.to_owned(), rest.split('|').map(|cell| cell.trim().to_owned()).collect())
        })
        .collect();
    for (name, metric) in metrics() {
        let [kind, labels, ..] = documented
            .get(&name)
            .unwrap_or_else(|| panic!("docs/monitoring.md has no {name}"))
            .as_slice()
        else {
            panic!("{name} has too few cells");
        };
        assert_eq!(*kind, metric.kind, "{name}");
        let expected: BTreeSet<String> =
            metric.labels.into_keys().filter(|label| label != "le").collect();
        let labels: BTreeSet<String> =
            labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(labels, expected, "{name}");
    }
}

#[test]
fn the_document_has_every_alert() {
    let page = read("docs/monitoring.md");
    let alerts = read("etc/prometheus-alerts.yml");
    let tests = read("tests/monitoring/alerts.yml");
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 8);
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
        let count = tests.matches(&format!("alertname: {name}\n        exp_alerts:")).count();
        assert!(count > 0, "no test lets {name} fire");
    }
}

/// A stranger chooses none of them, so that their number is bounded.
#[test]
fn labels_are_few() {
    let metrics = metrics();
    let known = [
        "code", "le", "method", "outcome", "policy", "reason", "result", "server", "stage", "type",
        "used", "verdict", "version",
    ];
    let labels: BTreeSet<&str> =
        metrics.values().flat_map(|metric| metric.labels.keys().map(String::as_str)).collect();
    assert_eq!(labels, known.into());
    for (name, metric) in &metrics {
        let is_total = name.ends_with("_total");
        assert_eq!(is_total, metric.kind == "counter", "{name}");
        assert!(name.starts_with("spf_milter_") || name.starts_with("process_"), "{name}");
    }
}
