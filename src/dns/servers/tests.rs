//! A resolv.conf that comes, goes and changes.

use std::{fs, io::Write as _, path::Path, process};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;
use crate::dns::Server;

/// A file of one's own, deleted when dropped, and a listener that keeps its events.
struct Conf {
    path: PathBuf,
    events: Arc<Mutex<Vec<String>>>,
}

impl Conf {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spf-milter-{name}-{}", process::id()));
        let _ = fs::remove_file(&path);
        Self { path, events: Arc::default() }
    }

    fn write(&self, text: &str) {
        // As programs do that care for those who read it.
        let other = self.path.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(other, &self.path).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings { resolv_conf: self.path.clone(), ..Settings::default() }
    }

    fn servers(&self) -> Arc<Servers> {
        let events = Arc::clone(&self.events);
        let listener = Listener::new(move |event| {
            events.lock().unwrap().push(match event {
                Event::Servers { servers, .. } => format!("servers {}", Server::list(servers)),
                Event::NoServers { reason, servers, .. } => {
                    format!("none: {reason}; {}", Server::list(servers))
                }
                Event::BadLines { number, text, .. } => format!("bad {number} {text}"),
                Event::Hangs { .. } => "hangs".into(),
                Event::Silent { .. } => "silent".into(),
            });
        });
        Servers::new(&self.settings(), listener)
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

/// A file on which its reader panics is one that cannot be read, and is looked at again.
#[tokio::test]
async fn a_panic_of_the_reader_is_survived() {
    let folder = std::env::temp_dir().join(format!("spf-milter-reader-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let conf = Conf { path: folder.join("panics"), events: Arc::default() };
    let servers = conf.servers();
    assert_eq!(conf.events(), ["none: internal error; 127.0.0.1"]);
    assert!(!servers.file.as_ref().unwrap().lock().is_being_read);
    let mut was_read = servers.file.as_ref().unwrap().was_read.subscribe();
    assert!(servers.begin(servers.file.as_ref().unwrap(), Duration::ZERO, None));
    was_read.changed().await.unwrap();
    drop(conf);
    fs::remove_dir(folder).unwrap();
}

impl Drop for Conf {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn asked(list: &List) -> String {
    Server::list(&list.addresses())
}

/// Looks at the file however long ago that was done, and waits until it was read.
async fn look(servers: &Arc<Servers>) {
    servers.look(Duration::ZERO, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn missing_at_the_start() {
    let conf = Conf::new("missing");
    let servers = conf.servers();
    assert_eq!(asked(&servers.list()), "127.0.0.1");
    look(&servers).await;
    assert_eq!(conf.events(), ["none: No such file or directory; 127.0.0.1"]);
    conf.write("");
    look(&servers).await;
    assert_eq!(conf.events(), ["none: it has no nameserver line; 127.0.0.1"]);
    conf.write("nameserver foo\n");
    look(&servers).await;
    assert_eq!(conf.events(), ["bad 1 foo", "none: it has no nameserver line; 127.0.0.1"]);
    let before = servers.list();
    conf.write("nameserver 192.0.2.1\n");
    // The servers that failed are no longer the ones to ask.
    let list = loop {
        if let Some(list) = servers.others(&before).await {
            break list;
        }
    };
    assert_eq!(
        (asked(&list), conf.events()),
        ("192.0.2.1".into(), vec!["servers 192.0.2.1".into()])
    );
    assert!(servers.others(&list).await.is_none());
    // Even if it is what was asked without being named.
    let conf = Conf::new("local");
    let servers = conf.servers();
    conf.write("nameserver 127.0.0.1\n");
    look(&servers).await;
    assert_eq!(conf.events(), ["none: No such file or directory; 127.0.0.1", "servers 127.0.0.1"]);
    assert_eq!(servers.list().generation, 0);
}

#[tokio::test]
async fn replaced_later() {
    let conf = Conf::new("replaced");
    conf.write("nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
    let servers = conf.servers();
    assert_eq!(conf.events(), ["servers 192.0.2.1, 192.0.2.2"]);
    // Something else in it changes.
    conf.write("# by DHCP\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n");
    look(&servers).await;
    assert_eq!((conf.events(), servers.list().generation), (vec![], 1));
    conf.write("nameserver 192.0.2.2\nnameserver 192.0.2.1\n");
    look(&servers).await;
    assert_eq!(
        (asked(&servers.list()), conf.events()),
        ("192.0.2.2, 192.0.2.1".into(), vec!["servers 192.0.2.2, 192.0.2.1".into()])
    );
    // A moment without it, and one in which it is being written.
    fs::remove_file(&conf.path).unwrap();
    look(&servers).await;
    conf.write("");
    look(&servers).await;
    assert_eq!(asked(&servers.list()), "192.0.2.2, 192.0.2.1");
    assert_eq!(
        conf.events(),
        [
            "none: No such file or directory; 192.0.2.2, 192.0.2.1",
            "none: it has no nameserver line; 192.0.2.2, 192.0.2.1"
        ]
    );
    conf.write("nameserver 192.0.2.2\nnameserver 192.0.2.1\n");
    look(&servers).await;
    assert_eq!(
        (conf.events(), servers.list().generation),
        (vec!["servers 192.0.2.2, 192.0.2.1".into()], 2)
    );
}

#[tokio::test(start_paused = true)]
async fn looked_at_once_a_second() {
    let conf = Conf::new("seconds");
    conf.write("nameserver 192.0.2.1\n");
    let servers = conf.servers();
    let file = servers.file.as_ref().unwrap();
    let looked_at = || file.lock().looked_at.unwrap();
    let start = looked_at();
    // By the end of this the clock stands where it was.
    let now = Instant::now();
    for (after, looks) in [(0, false), (999, false), (1001, true), (1500, false), (2002, true)] {
        let time = now + Duration::from_millis(after);
        tokio::time::advance(time.saturating_duration_since(Instant::now())).await;
        let before = looked_at();
        assert_eq!(servers.begin(file, INTERVAL, None), looks, "{after}");
        assert_eq!(looked_at() != before, looks, "{after}");
        // The thread has an end; it is not what is looked at here.
        while file.lock().is_being_read {
            thread::yield_now();
        }
    }
    assert!(looked_at() > start);
    // One tick less than the interval, and the interval; the same where all servers fail.
    for interval in [INTERVAL, INTERVAL_OF_TROUBLE] {
        for (since, looks) in [(interval - Duration::from_millis(1), false), (interval, true)] {
            file.lock().looked_at = Instant::now().checked_sub(since);
            assert_eq!(servers.begin(file, interval, None), looks, "{since:?}");
            while file.lock().is_being_read {
                thread::yield_now();
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_hangs_holds_nobody_up() {
    let conf = Conf::new("pipe");
    conf.write("nameserver 192.0.2.1\n");
    let servers = conf.servers();
    conf.events();
    fs::remove_file(&conf.path).unwrap();
    mkfifo(&conf.path, Mode::from_bits_truncate(0o600)).unwrap();
    let file = servers.file.as_ref().unwrap();
    assert!(servers.begin(file, Duration::ZERO, None));
    // There is one thread that waits, and no more.
    for _ in 0..3 {
        assert!(!servers.begin(file, Duration::ZERO, None));
        assert!(servers.others(&*servers.current().await).await.is_none());
    }
    assert!(conf.events().is_empty());
    file.lock().looked_at = Instant::now().checked_sub(HANGS);
    for _ in 0..3 {
        assert_eq!(asked(&*servers.current().await), "192.0.2.1");
    }
    assert_eq!(conf.events(), ["hangs"]);
    // Somebody writes to it at last.
    let mut was_read = file.was_read.subscribe();
    write_to(&conf.path, "nameserver 192.0.2.2\n");
    was_read.changed().await.unwrap();
    assert_eq!(
        (asked(&servers.list()), conf.events()),
        ("192.0.2.2".into(), vec!["servers 192.0.2.2".into()])
    );
}

fn write_to(path: &Path, text: &str) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn other_settings() {
    let conf = Conf::new("settings");
    conf.write("nameserver 192.0.2.1\n");
    let servers = conf.servers();
    conf.events();
    // The same file is read again at once.
    conf.write("nameserver 192.0.2.2\n");
    let same = servers.reconfigured(&conf.settings());
    assert!(Arc::ptr_eq(&same, &servers));
    assert_eq!(conf.events(), ["servers 192.0.2.2"]);
    let configured =
        Settings { nameservers: Some(vec!["192.0.2.3:5353".parse().unwrap()]), ..conf.settings() };
    let configured = servers.reconfigured(&configured);
    assert_eq!(conf.events(), ["servers 192.0.2.3:5353"]);
    conf.write("nameserver 192.0.2.4\n");
    assert_eq!(asked(&*configured.current().await), "192.0.2.3:5353");
    let none = Settings { nameservers: Some(Vec::new()), ..conf.settings() };
    assert_eq!(asked(&configured.reconfigured(&none).list()), "192.0.2.4");
    let slower = Settings { timeout: Duration::from_secs(9), ..conf.settings() };
    assert!(!Arc::ptr_eq(&servers.reconfigured(&slower), &servers));
}
