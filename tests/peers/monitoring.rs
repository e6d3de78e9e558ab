//! Prometheus' own tool reads the metrics, and the alerts and queries that come with the program.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::{Value, json};
use spf_milter::{
    config::LogLevel,
    dns::{Server, zone::Zone},
    log::Log,
    observe::{Observer, Reading},
};
use testkit::{
    daemon::Daemon,
    fields::Field,
    milter_client::{Reply, Socket},
    nameserver::NameServer,
    process::Process,
    scratch::Scratch,
    wait_for,
};

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
    let output = promtool(&["check", "metrics"], &observer.metrics_text().unwrap());
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

/// Serves a text to everybody who asks; the address.
fn serve(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let length = text.len();
            let _ = write!(stream.get_mut(), "{head}Content-Length: {length}\r\n\r\n{text}");
        }
    });
    address
}

/// Asks Prometheus over HTTP; null while it is not ready.
fn ask(address: &str, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_default()
}

/// A Prometheus that asks one target ten times a second.
struct Prometheus {
    process: Process,
    address: String,
    _folder: Scratch,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let folder = Scratch::new("prometheus");
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/prometheus-alerts.yml");
        let config = json!({
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms", "evaluation_interval": "100ms"},
            "rule_files": [alerts],
            "scrape_configs": [{
                "job_name": "spf-milter",
                "static_configs": [{"targets": [target]}],
            }],
        });
        let config = folder.write("prometheus.yml", config.to_string());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0");
        let process = Process::start(&mut command);
        let listens = process.log.find(|line| line.contains("\"Listening on\"")).unwrap();
        let address = listens.split("address=").nth(1).unwrap().split(' ').next().unwrap();
        Self { address: address.to_owned(), process, _folder: folder }
    }

    /// The first value that a query has.
    fn query(&self, query: &str) -> Option<String> {
        let query: String = query.bytes().map(|octet| format!("%{octet:02x}")).collect();
        let answer = ask(&self.address, &format!("/api/v1/query?query={query}"));
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    }
}

/// A real Prometheus takes each sample as it is, and evaluates the alerts.
#[test]
#[ignore = "needs prometheus: make test"]
fn prometheus_reads_each_sample() {
    let observer = Observer::new(Log::keep(LogLevel::Error));
    observer.metrics().read_from(|| Reading {
        servers: vec![(Server("192.0.2.1:53".parse().unwrap()), true)],
        ..Reading::default()
    });
    observer.metrics().reloaded(false);
    let text = observer.metrics_text().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    let prometheus = Prometheus::start(&serve(text));
    let query = |query| prometheus.query(query);
    // Until it has asked, and found what is wrong here; it says when a scrape fails, too.
    while query("ALERTS{alertname=\"SpfMilterReloadFailed\"}").is_none() {
        assert_ne!(
            query("up").as_deref(),
            Some("0"),
            "{}",
            prometheus.process.log.lines().join("\n")
        );
        thread::yield_now();
    }
    assert_eq!(query("scrape_samples_scraped"), Some(samples.to_string()));
    let sum = query("sum(spf_milter_config_reloads_total{outcome=\"failure\"})");
    assert_eq!(sum.as_deref(), Some("1"));
    let rules = ask(&prometheus.address, "/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 8);
    for rule in rules {
        assert_ne!(rule["health"], "err", "{rule}");
    }
}

/// A real Prometheus asks the daemon while mail comes over several connections, and has counted all of
/// it at the end.
#[test]
#[ignore = "needs prometheus: make test"]
fn prometheus_asks_the_daemon_under_load() {
    const CONNECTIONS: usize = 4;
    const MESSAGES: usize = 500;
    let zone = "good.example TXT \"v=spf1 ip4:192.0.2.1 -all\"\nbad.example TXT \"v=spf1 -all\"\n";
    let nameserver = NameServer::start(Zone::parse(zone).unwrap());
    let daemon = Daemon::start(&format!(
        "nameservers = {}\nmetrics_socket = inet:127.0.0.1:0\nverify_helo = no\nhostname = mx.example.org\n",
        nameserver.address()
    ));
    let Socket::Inet(target) = &daemon.metrics[0] else { panic!("no TCP socket") };
    let prometheus = Prometheus::start(&target.to_string());
    let query = |query: &str| prometheus.query(query);
    let scraped = || query("count_over_time(up[1h])").map_or(0, |count| count.parse().unwrap());
    // It has begun to ask before mail comes.
    wait_for("the first sample", || (scraped() > 0).then_some(()));
    let before: usize = scraped();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = daemon.client();
                client.connect("client.example", Some(([192, 0, 2, 1], 25).into())).unwrap();
                client.helo("client.example").unwrap();
                let fields = [Field::new("Subject", " x")];
                for _ in 0..MESSAGES {
                    let refused = client.mail("<a@bad.example>").unwrap();
                    assert!(matches!(refused, Reply::Code(_)), "{refused:?}");
                    assert_eq!(client.mail("<a@good.example>").unwrap(), Reply::Continue);
                    client.rcpt("<b@example.org>").unwrap();
                    assert_eq!(client.message(&fields, b"x\r\n").unwrap().reply, Reply::Continue);
                }
            });
        }
        // Mail does not end before it has asked some times more.
        wait_for("samples under load", || (scraped() > before + 2).then_some(()));
    });
    let all = (CONNECTIONS * MESSAGES).to_string();
    let has_all = |expression: &str| query(expression).filter(|value| *value == all);
    wait_for("all messages", || has_all("spf_milter_messages_total{verdict=\"accept\"}"));
    wait_for("all replies", || has_all("sum(spf_milter_replies_total{reason=\"spf_mailfrom\"})"));
    assert_eq!(query("sum(spf_milter_messages_total)"), Some(all));
    // Each time that it asked it got an answer.
    assert_eq!(query("min_over_time(up[1h])").as_deref(), Some("1"));
}
