//! The metrics socket: what it serves, to whom, and that nobody who asks there costs mail anything.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::Value;
use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::{Daemon, program},
    milter_client::{MilterClient, Reply, Socket, Stream},
    nameserver::{Behaviour, NameServer},
    scratch::Scratch,
    wait_for,
};

const ZONE: &str = r#"
    good.example TXT "v=spf1 ip4:192.0.2.1 -all"
    bad.example TXT "v=spf1 -all"
    silent.example TXT "v=spf1 -all"
"#;

/// A daemon with a metrics socket, and its name server.
struct Scene {
    nameserver: NameServer,
    daemon: Daemon,
}

/// An answer over HTTP.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Scene {
    fn new(config: &str) -> Self {
        let nameserver = NameServer::start(Zone::parse(ZONE).unwrap());
        let daemon = Daemon::start(&Self::config(&nameserver, config));
        Self { nameserver, daemon }
    }

    fn config(nameserver: &NameServer, config: &str) -> String {
        let others = [
            ("metrics_socket", "inet:127.0.0.1:0"),
            ("verify_helo", "no"),
            ("dns_timeout_secs", "1"),
            ("hostname", "mx.example.org"),
        ];
        let mut text = format!("nameservers = {}\n{config}\n", nameserver.address());
        for (name, value) in others.into_iter().filter(|(name, _)| !config.contains(name)) {
            text += &format!("{name} = {value}\n");
        }
        text
    }

    fn socket(&self) -> &Socket {
        &self.daemon.metrics[0]
    }

    fn connect(&self) -> Stream {
        Stream::connect(self.socket()).unwrap()
    }

    /// Sends octets, and reads all that comes.
    fn send(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect();
        // The other side may have answered and closed before it has read everything.
        let _ = stream.write_all(request.as_ref());
        read_to_end(&mut stream)
    }

    fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        read(&self.send(request))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn status(&self) -> Value {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n";
        serde_json::from_str(&self.ask(request).body).unwrap()
    }

    /// A session with a sender of each kind, each of which is answered as it should be.
    fn mail(&self) {
        let mut client = self.daemon.client();
        client.connect("mail.example", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
        client.helo("mail.example").unwrap();
        refuse(&mut client);
        accept(&mut client);
        client.quit().unwrap();
    }
}

fn refuse(client: &mut MilterClient) {
    let reply = client.mail("<amy@bad.example>").unwrap();
    assert!(matches!(&reply, Reply::Code(text) if text.starts_with("550 5.7.23 ")), "{reply:?}");
    client.abort().unwrap();
}

fn accept(client: &mut MilterClient) {
    assert_eq!(client.mail("<amy@good.example>").unwrap(), Reply::Continue);
    let finished = client.message(&[], b"hello\r\n").unwrap();
    assert!(finished.fields[0].unfolded().starts_with("Received-SPF: pass "), "{finished:?}");
}

/// Everything up to the end; that the other side reset the connection is an end as well.
fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("no end: {error}"),
    }
    all
}

fn read(octets: &[u8]) -> Answer {
    let text = String::from_utf8(octets.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[test]
fn each_path_is_served() {
    let scene = Scene::new("");
    scene.mail();
    for (path, content_type, word) in [
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "spf_milter_messages_total{verdict=\"accept\"} 1\n",
        ),
        ("/-/healthy", "text/plain", "ok\n"),
        ("/-/ready", "text/plain", "ok\n"),
        ("/", "text/html", "<p class=total>1</p>"),
    ] {
        let answer = scene.get(path);
        assert_eq!(answer.code, 200, "{path}");
        assert!(answer.body.contains(word), "{path}: {}", answer.body);
        let Answer { head, .. } = &answer;
        assert!(head.contains(&format!("content-type: {content_type}")), "{head}");
        assert!(head.contains(&format!("content-length: {}", answer.body.len())), "{head}");
        assert!(
            head.contains("cache-control: no-store") && head.contains("connection: close"),
            "{head}"
        );
        assert!(
            head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"),
            "{head}"
        );
        let old = scene.ask(format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(old.code, 200, "{path}");
        let only_head = scene.ask(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!((only_head.code, only_head.body.as_str()), (200, ""), "{path}");
        assert!(only_head.head.contains("content-length: "), "{}", only_head.head);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "X"] {
            let answer = scene
                .ask(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(answer.code, 405, "{method} {path}");
            assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
        }
    }
    for path in
        ["/metric", "/metrics/", "/-/health", "//", "/../etc/passwd", "/%2e", "*", "http://x/y"]
    {
        assert_eq!(scene.get(path).code, 404, "{path}");
    }
    // Several requests at once: the first is answered, and the connection ends.
    let request = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let answers = scene.send(request.repeat(3));
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 ").count(), 1);
    assert_eq!(read(&answers).body, "ok\n");
}

#[test]
fn the_status_has_what_happened() {
    let scene = Scene::new("status_refusals = 2\n");
    for _ in 0..3 {
        scene.mail();
    }
    let status = scene.status();
    let messages = &status["messages"];
    assert_eq!(messages["total"], 3);
    assert_eq!(messages["verdicts"]["accept"], 3);
    assert_eq!(messages["refused"]["spf_mailfrom"], 3);
    assert_eq!(messages["methods"][0]["method"], "spf_mailfrom");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["configuration"]["generation"], 0);
    assert_eq!(status["configuration"]["failed"], Value::Null);
    assert_eq!(status["connections"]["limit"], 1000);
    assert_eq!(status["dns"]["servers"][0]["address"], scene.nameserver.address().to_string());
    assert_eq!(status["dns"]["servers"][0]["answers"], true);
    let refusals = status["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 2);
    for refusal in refusals {
        assert_eq!(refusal["reply"], 550);
        assert_eq!(refusal["reason"], "spf_mailfrom");
        assert_eq!(refusal["domain"], "bad.example");
        assert_eq!(refusal["client"], "192.0.2.1");
    }
    // A reload that fails, one that keeps fewer, and one that keeps none.
    assert!(!scene.daemon.reload("nonsense"));
    let failed = &scene.status()["configuration"]["failed"]["error"];
    assert!(failed.as_str().unwrap().contains("no '='"), "{failed}");
    assert!(scene.get("/").body.contains("<li>the reload of "));
    let config = |lines: &str| Scene::config(&scene.nameserver, lines);
    for (kept, generation) in [(1, 1), (0, 2)] {
        assert!(scene.daemon.reload(&config(&format!("status_refusals = {kept}\n"))));
        let status = scene.status();
        assert_eq!(status["refusals"].as_array().unwrap().len(), kept);
        assert_eq!(status["configuration"]["generation"], generation);
        assert_eq!(status["configuration"]["failed"], Value::Null);
    }
    scene.mail();
    assert!(scene.status()["refusals"].as_array().unwrap().is_empty());
    assert_eq!(scene.status()["messages"]["total"], 4);
}

#[test]
fn names_of_strangers_are_harmless_everywhere() {
    let scene = Scene::new(
        "status_refusals = 50\nreject_results = fail, permerror, temperror\nverify_helo = yes\n",
    );
    let nasty =
        ["<script>alert(1)</script>", "\"'><img src=x>", "\u{1b}[31m", "\\\"}]", "a\u{202e}b"];
    for name in nasty {
        let mut client = scene.daemon.client();
        client.connect("mail.example", Some("192.0.2.9:25000".parse().unwrap())).unwrap();
        let _ = client.helo(format!("{name}.bad.example")).unwrap();
        let _ = client.mail(format!("<\"{name}\"@bad.example>")).unwrap();
        let _ = client.quit();
    }
    assert!(!scene.status()["refusals"].as_array().unwrap().is_empty());
    for body in [scene.get("/").body, scene.status().to_string()] {
        assert!(body.bytes().all(|octet| matches!(octet, b'\n' | b' '..=b'~')), "{body}");
    }
    let page = scene.get("/").body;
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
}

#[test]
fn silent_name_servers_are_no_reason_to_restart() {
    let scene = Scene::new("timeout_secs = 600\n");
    // Nothing was looked up: it is not known that anything is wrong.
    scene.nameserver.behave("silent.example", Behaviour { drop: true, ..Behaviour::default() });
    assert_eq!(scene.get("/-/ready").code, 200);
    let mut client = scene.daemon.client();
    client.connect("mail.example", Some("192.0.2.1:25000".parse().unwrap())).unwrap();
    client.helo("mail.example").unwrap();
    let reply = client.mail("<amy@silent.example>").unwrap();
    assert!(matches!(&reply, Reply::Code(text) if text.starts_with("451 ")), "{reply:?}");
    let answer = scene.get("/-/ready");
    assert_eq!((answer.code, answer.body.as_str()), (503, "no name server answers\n"));
    assert_eq!(scene.get("/-/healthy").code, 200);
    assert_eq!(scene.status()["dns"]["servers"][0]["answers"], false);
    assert!(scene.get("/").body.contains("no name server answers"));
    // One answer is enough.
    client.abort().unwrap();
    accept(&mut client);
    assert_eq!(scene.get("/-/ready").code, 200);
}

#[test]
fn requests_are_bounded() {
    let scene = Scene::new("");
    let of_length = |length: usize| {
        let (start, end) = ("GET /-/healthy HTTP/1.1\r\nHost: x\r\nX-Fill: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(length - start.len() - end.len()))
    };
    for (length, code) in [(8191, 200), (8192, 200), (20_000, 431)] {
        assert_eq!(scene.ask(of_length(length)).code, code, "{length}");
    }
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(length));
    assert_eq!(scene.ask(line(8000)).code, 404);
    assert!(matches!(scene.ask(line(100_000)).code, 414 | 431));
    let fields =
        |count: usize| format!("GET /-/healthy HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(scene.ask(fields(100)).code, 200);
    assert_eq!(scene.ask(fields(101)).code, 431);
    // Without an end: it is not read for ever.
    let mut endless = scene.connect();
    let chunk = [b'x'; 4096];
    let mut written = 0;
    while endless.write_all(&chunk).is_ok() && written < 64 << 20 {
        written += chunk.len();
    }
    assert!(written < 64 << 20);
    assert_eq!(scene.get("/-/healthy").code, 200);
}

#[test]
fn garbage_is_answered_or_not_but_never_harmful() {
    let scene = Scene::new("");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 60, failure_persistence: None, ..Config::default() },
        rng,
    );
    let request = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "(GET|HEAD|POST|PRI|\\x16\\x03) ?[ -~]{0,20} ?(HTTP/[0-9.]{1,3})?(\r\n|\n)([A-Za-z-]{0,8}:? ?[ -~]{0,20}\r?\n){0,4}(\r\n)?"
            .prop_map(String::into_bytes),
        Just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz".to_vec()),
    ];
    runner
        .run(&request, |request| {
            let mut stream = scene.connect();
            stream.write_all(&request).unwrap();
            // What it waits for does not come.
            let _ = stream.finish_writing();
            let answer = read_to_end(&mut stream);
            prop_assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", answer);
            Ok(())
        })
        .unwrap();
    assert_eq!(scene.get("/-/healthy").code, 200);
    scene.mail();
}

#[test]
fn slow_clients_keep_nobody_out() {
    let scene = Scene::new("");
    let before = scene.daemon.descriptors();
    // Some say nothing, some begin, some ask and never read.
    let mut slow: Vec<Stream> = (0..60)
        .map(|number| {
            let mut stream = scene.connect();
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"GET /met").unwrap(),
                _ => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
            }
            stream
        })
        .collect();
    assert_eq!(scene.get("/-/healthy").code, 200);
    assert!(scene.get("/metrics").body.len() > 1000);
    // Of 60 connections 16 are left at most, and one that is just being accepted.
    assert!(scene.daemon.descriptors() <= before + 17);
    // An octet now and then is not enough to stay.
    let mut first = slow.swap_remove(0);
    let _ = first.write_all(b"G");
    assert!(read_to_end(&mut first).is_empty());
    // Each is closed in the end, without any further octet.
    for mut stream in slow {
        read_to_end(&mut stream);
    }
}

#[test]
fn thousands_of_connections_cost_mail_nothing() {
    let scene = Scene::new("");
    scene.mail();
    let before = scene.daemon.descriptors();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Those that do not fit into the backlog wait for the end of others.
                let _streams: Vec<_> = (0..500)
                    .filter_map(|number| {
                        let mut stream = Stream::connect(scene.socket()).ok()?;
                        let request: &[u8] =
                            if number % 2 == 0 { b"GET / HTTP/1.1\r\n" } else { b"" };
                        let _ = stream.write_all(request);
                        Some(stream)
                    })
                    .collect();
                wait_for("the end of mail", || is_over.load(Ordering::Relaxed).then_some(()));
            });
        }
        for _ in 0..100 {
            scene.mail();
            assert!(scene.daemon.descriptors() <= before + 17 + 2);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // Those who ask get their turn again.
    let answer = scene.get("/metrics");
    assert!(answer.body.contains("spf_milter_messages_total{verdict=\"accept\"} 101\n"));
}

#[test]
fn reloads_and_the_end_do_not_disturb_who_asks() {
    let scene = Scene::new("");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                for path in ["/", "/metrics", "/-/healthy", "/-/ready"] {
                    assert_eq!(scene.get(path).code, 200, "{path}");
                    count += 1;
                }
            }
            count
        });
        for round in 0..20 {
            let lines = format!("max_connections = {}\nstatus_refusals = {round}\n", 10 + round);
            assert!(scene.daemon.reload(&Scene::config(&scene.nameserver, &lines)));
            scene.mail();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
    assert_eq!(scene.status()["configuration"]["generation"], 20);
    // Somebody is connected when it ends.
    let mut idle = scene.connect();
    let socket = scene.socket().clone();
    let (status, log) = scene.daemon.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!log.contains("internal error"), "{log}");
    read_to_end(&mut idle);
    assert!(Stream::connect(&socket).is_err());
}

#[test]
fn a_unix_socket_is_as_those_of_the_mta() {
    let folder = Scratch::new("metrics");
    let path = folder.join("m");
    let config = format!("metrics_socket = unix:{}\nsocket_mode = 0620\n", path.display());
    // A stale one is replaced.
    drop(UnixListener::bind(&path).unwrap());
    let scene = Scene::new(&config);
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o620);
    assert_eq!(scene.get("/-/healthy").body, "ok\n");
    // One that is in use is not.
    let failure = Daemon::try_start(&config).expect_err("the daemon started");
    assert_eq!(failure.status.code(), Some(71));
    assert!(failure.output.contains("another process listens on it"), "{}", failure.output);
    assert_eq!(scene.get("/-/healthy").body, "ok\n");
    // It is read at the start only.
    let mark = scene.daemon.log().mark();
    assert!(scene.daemon.reload(&Scene::config(&scene.nameserver, "metrics_socket =\n")));
    let line = scene.daemon.log().find_after(mark, |line| line.contains("metrics_socket"));
    assert!(line.unwrap().contains("only read at start"));
    assert_eq!(scene.get("/-/healthy").body, "ok\n");
    assert_eq!(scene.daemon.stop().0.code(), Some(0));
    assert!(!path.exists());
    // A port that another process has, and a socket of the MTA.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let failure = Daemon::try_start(&format!("metrics_socket = inet:{taken}\n"));
    assert!(failure.expect_err("started").output.contains("Address already in use"));
    let both = format!("socket = unix:{0}\nmetrics_socket = local:{0}\n", path.display());
    let failure = Daemon::try_start(&both).expect_err("the daemon started");
    assert!(failure.output.contains("is also in socket"), "{}", failure.output);
}

//--- spf-milter status ---

fn status(file: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["-c", file, "status"]).args(arguments).env("NO_COLOR", "").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_command_asks_the_daemon() {
    let folder = Scratch::new("status");
    let path = folder.join("m");
    let scene =
        Scene::new(&format!("metrics_socket = unix:{}\nstatus_refusals = 3\n", path.display()));
    scene.mail();
    let file = scene.daemon.folder().join("spf-milter.conf");
    let file = file.to_str().unwrap();
    let asked = |arguments: &[&str]| {
        let output = status(file, arguments);
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let (code, shown) = asked(&[]);
    assert_eq!(code, 0);
    assert!(
        shown.starts_with(&format!(
            "spf-milter {} has been running for ",
            env!("CARGO_PKG_VERSION")
        ))
    );
    assert!(shown.contains("550 spf_mailfrom") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains(&format!("Configuration  {file}, generation 0, since ")), "{shown}");
    let (code, json) = asked(&["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["messages"]["total"]), (0, &Value::from(1)));
    assert_eq!(asked(&["--health"]), (0, "ok\n".into()));
    assert_eq!(asked(&["--ready"]), (0, "ok\n".into()));
    // It answers whatever the file has become: that is when somebody asks.
    let broken = format!("metrics_socket = unix:{}\nnonsense\n", path.display());
    let broken = folder.write("broken.conf", broken);
    assert_eq!(status(broken.to_str().unwrap(), &["--health"]).status.code(), Some(0));
    let option = format!("unix:{}", path.display());
    let there = status("/nonexistent", &["--health", "--metrics-socket", &option]);
    assert_eq!(there.status.code(), Some(0));
    scene.nameserver.behave("silent.example", Behaviour { drop: true, ..Behaviour::default() });
    drop(scene);
    // Killed: its socket is still there.
    for arguments in [["--health"], ["--ready"]] {
        let output = status(broken.to_str().unwrap(), &arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stdout).lines().count(), 1, "{}", text(&output.stdout));
    }
    let output = status(broken.to_str().unwrap(), &[]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("the milter does not run"), "{}", text(&output.stderr));
}

#[test]
fn the_command_explains_what_is_missing() {
    let folder = Scratch::new("status");
    let told = |config: &str, arguments: &[&str], code: i32, words: &str| {
        let file = folder.write("c", config);
        let output = status(file.to_str().unwrap(), arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(words), "{errors}");
        assert!(output.stdout.is_empty());
    };
    let none = "socket = inet:127.0.0.1:0\n";
    told(none, &[], 78, "add a line such as 'metrics_socket = unix:/run/spf-milter/metrics.sock'");
    told(
        "metrics_socket = nonsense\n",
        &[],
        78,
        "c:1:18: metrics_socket: 'nonsense' is not a socket",
    );
    told("metrics_socket = fd:metrics\n", &[], 78, "--metrics-socket");
    told("metrics_socket = inet:127.0.0.1:0\n", &[], 78, "--metrics-socket");
    told(
        none,
        &["--metrics-socket", "nonsense"],
        64,
        "--metrics-socket: 'nonsense' is not a socket",
    );
    told(none, &["--metrics-socket", "unix:/nonexistent/m"], 69, "No such file");
    told(none, &["--json", "--health"], 64, "cannot be used with");
    told(none, &["--ready", "--health"], 64, "cannot be used with");
    // A milter's other socket does not speak HTTP.
    let scene = Scene::new("");
    let Socket::Inet(milter) = scene.daemon.sockets[0] else { panic!("not TCP") };
    told(none, &["--metrics-socket", &format!("inet:{milter}")], 76, "does not answer as a milter");
}
