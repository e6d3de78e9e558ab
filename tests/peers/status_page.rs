//! The status page in a browser: it shows the figures, breaks no rule of its own, and fits on a
//! phone.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::{Command, Output},
};

use spf_milter::dns::zone::Zone;
use testkit::{
    daemon::Daemon,
    milter_client::{Socket, Stream},
    nameserver::NameServer,
    scratch::Scratch,
};

/// Runs Chromium without a window, with a home of its own, and without any host but this one.
fn chromium(folder: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ])
        .args(["--enable-logging=stderr", "--hide-scrollbars", "--allow-file-access-from-files"])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .args(arguments)
        .env("HOME", folder.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A daemon that has something to show, and the address of its page.
fn daemon(nameserver: &NameServer) -> (Daemon, String) {
    let daemon = Daemon::start(&format!(
        "nameservers = {}\nhostname = mx.example.org\nmetrics_socket = inet:127.0.0.1:0\n\
         status_refusals = 20\n",
        nameserver.address()
    ));
    let label = "x".repeat(63);
    let long = format!("{label}.{label}.{label}.bad.example");
    for (domain, client) in [
        ("good.example", "192.0.2.1"),
        ("good.example", "192.0.2.1"),
        ("bad.example", "2001:db8:1234:5678:9abc:def0:1234:5678"),
        (&long, "198.51.100.7"),
        ("soft.example", "203.0.113.9"),
    ] {
        let mut client = {
            let mut connection = daemon.client();
            let address = std::net::SocketAddr::new(client.parse().unwrap(), 25000);
            connection.connect("mail.example", Some(address)).unwrap();
            connection
        };
        client.helo("localhost").unwrap();
        let reply = client.mail(format!("<amy@{domain}>")).unwrap();
        if reply == testkit::milter_client::Reply::Continue {
            client.message(&[], b"hello\r\n").unwrap();
        }
        let _ = client.quit();
    }
    assert!(!daemon.reload("nonsense\n"));
    let Socket::Inet(address) = daemon.metrics[0] else { panic!("not TCP") };
    (daemon, format!("http://{address}/"))
}

const ZONE: &str = r#"
    good.example TXT "v=spf1 ip4:192.0.2.1 -all"
    bad.example TXT "v=spf1 -all"
    *.bad.example TXT "v=spf1 -all"
    soft.example TXT "v=spf1 ~all"
"#;

fn nameserver() -> NameServer {
    let zone = ZONE.replace("*.bad", &format!("{0}.{0}.{0}.bad", "x".repeat(63)));
    NameServer::start(Zone::parse(&zone).unwrap())
}

#[test]
#[ignore = "needs Chromium: make test"]
fn a_browser_shows_the_figures_without_a_complaint() {
    let (folder, nameserver) = (Scratch::new("page"), nameserver());
    let (_daemon, address) = daemon(&nameserver);
    let output = chromium(&folder, &["--dump-dom", &address]);
    let page = String::from_utf8(output.stdout).unwrap();
    for figure in ["the former configuration is in force", ">3</p>", "spf_mailfrom", "198.51.100.7"]
    {
        assert!(page.contains(figure), "{figure}: {page}");
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = complaints.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    // In both sizes, for people to look at.
    if let Some(kept) = std::env::var_os("SCREENSHOTS") {
        for (name, size) in [("wide", "1280,1200"), ("narrow", "500,1800")] {
            for (look, dark) in [("light", "0"), ("dark", "1")] {
                let path = folder.join(format!("{name}-{look}.png"));
                chromium(
                    &folder,
                    &[
                        &format!("--screenshot={}", path.display()),
                        &format!("--window-size={size}"),
                        &format!(
                            "--blink-settings=preferredColorScheme={}",
                            if dark == "1" { 0 } else { 1 }
                        ),
                        &address,
                    ],
                );
                let kept = std::path::Path::new(&kept).join(path.file_name().unwrap());
                fs::copy(&path, kept).unwrap();
            }
        }
    }
}

#[test]
#[ignore = "needs Chromium: make test"]
fn the_page_fits_on_a_phone() {
    let (folder, nameserver) = (Scratch::new("page"), nameserver());
    let (daemon, _) = daemon(&nameserver);
    let mut stream = Stream::connect(&daemon.metrics[0]).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, page) = answer.split_once("\r\n\r\n").unwrap();
    // A window of a browser without a screen has a least width; a frame has any.
    let page = page.replace('&', "&amp;").replace('"', "&quot;");
    let frames: String = [320, 390, 800, 1280]
        .iter()
        .map(|width| {
            format!(
                "<iframe width={width} height=3000 style=\"border:0\" srcdoc=\"{page}\"></iframe>"
            )
        })
        .collect();
    let script = "addEventListener('load', () => { for (const frame of document.querySelectorAll('iframe')) { \
                  const root = frame.contentDocument.documentElement; \
                  document.body.append(`width ${frame.width} needs ${root.scrollWidth} of ${root.clientWidth}\\n`); } })";
    let harness = folder
        .write("frames.html", format!("<!DOCTYPE html><body>{frames}<script>{script}</script>"));
    let output = chromium(&folder, &["--dump-dom", &format!("file://{}", harness.display())]);
    let measured = String::from_utf8(output.stdout).unwrap();
    for width in [320, 390, 800, 1280] {
        assert!(
            measured.contains(&format!("width {width} needs {width} of {width}")),
            "{}",
            measured.rsplit("</script>").next().unwrap()
        );
    }
}
