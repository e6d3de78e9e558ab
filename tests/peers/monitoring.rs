//! Prometheus' own tool reads the metrics, and the alerts and queries that come with the program.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use spf_milter::{
    config::LogLevel,
    dns::Server,
    log::Log,
    observe::{Observer, Reading},
};
use testkit::scratch::Scratch;

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut promtool = Command::new("promtool")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there");
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    promtool.wait_with_output().unwrap()
}

fn assert_good(output: &Output) {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{texts:?}");
}

#[test]
#[ignore = "needs promtool: make test"]
fn alerts_fire_when_they_should() {
    assert_good(&promtool(&["check", "rules", "etc/prometheus-alerts.yml"], ""));
    assert_good(&promtool(&["test", "rules", "tests/monitoring/alerts.yml"], ""));
}

#[test]
#[ignore = "needs promtool: make test"]
fn metrics_are_as_prometheus_wants_them() {
    let observer = Observer::new(Log::keep(LogLevel::Error));
    observer.metrics().read_from(|| Reading {
        servers: vec![(Server("[2001:db8::1]:5353".parse().unwrap()), false)],
        ..Reading::default()
    });
    let output = promtool(&["check", "metrics"], &observer.metrics_text());
    assert_good(&output);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    // It does look.
    assert!(!promtool(&["check", "metrics"], "# TYPE a counter\na 1\n").status.success());
}

#[test]
#[ignore = "needs promtool: make test"]
fn the_queries_of_the_dashboard_are_queries() {
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(number, target)| {
            // What Grafana puts in.
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
            json!({"record": format!("query:{number}"), "expr": query})
        })
        .collect();
    assert!(rules.len() > 30);
    let folder = Scratch::new("promtool");
    // What is JSON is YAML.
    let path = folder
        .write("rules.yml", json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string());
    assert_good(&promtool(&["check", "rules", path.to_str().unwrap()], ""));
}
