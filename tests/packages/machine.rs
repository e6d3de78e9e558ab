//! A clean Debian in a folder, of the release that this machine has, from the mirror that its apt
//! uses.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use testkit::{
    process::{Process, send_signal},
    scratch::{Scratch, target_folder},
};

use super::{finish, run, say};

/// A Debian with its essential packages, apt, and nothing else; gone when dropped.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    _folder: Option<Scratch>,
}

/// Set in a process that is in a network of its own: the folder of its machine.
const INSIDE: &str = "SPF_MILTER_TEST_MACHINE";

impl Machine {
    /// Unpacks a clean Debian.
    pub fn new(purpose: &str) -> Self {
        let archive = base();
        say(&format!("unpack a clean Debian: {purpose}"));
        let folder = Scratch::new(purpose);
        run("tar", ["-C".as_ref(), folder.path().as_os_str(), "-xf".as_ref(), archive.as_os_str()]);
        // No service starts, as in the build of an image.
        folder.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
        run("chmod", ["755".as_ref(), folder.join("usr/sbin/policy-rc.d").as_os_str()]);
        fs::copy("/etc/resolv.conf", folder.join("etc/resolv.conf")).unwrap();
        Self { root: folder.path().to_owned(), _folder: Some(folder) }
    }

    /// A path of the machine, here.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The machine of a test that runs in a network of its own: see
    /// [`Machine::run_in_own_network`].
    pub fn inside() -> Option<Self> {
        let root = env::var_os(INSIDE)?;
        Some(Self { root: root.into(), _folder: None })
    }

    /// Runs a test again, which finds its machine with [`Machine::inside`]. It has a network with
    /// nothing but loopback, 192.0.2.1 and 192.0.2.7.
    pub fn run_in_own_network(&self, test: &str) {
        let script = "ip link set lo up
            for last in 1 7; do ip address add \"192.0.2.$last/24\" dev lo; done
            exec \"$@\"";
        let status = Command::new("unshare")
            .args(["--net", "--uts", "--mount", "sh", "-ec", script, "sh"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env(INSIDE, &self.root)
            .status()
            .unwrap();
        assert!(status.success(), "{test}, in a network of its own: {status}");
    }

    /// A command that runs a shell script in the machine, as root. Its processes end with it.
    pub fn shell(&self, script: &str) -> Command {
        enter(self.root(), &["sh", "-ec", script])
    }

    /// Runs a shell script in the machine; its output.
    pub fn run(&self, script: &str) -> String {
        finish(&mut self.shell(script))
    }

    /// Whether a shell script succeeds.
    pub fn is(&self, script: &str) -> bool {
        self.shell(script).output().unwrap().status.success()
    }

    /// Installs packages of Debian, or files.
    pub fn install(&self, packages: &str) -> String {
        say(&format!("apt-get install {packages}"));
        self.run(&format!(
            "apt-get -q -y -o Dpkg::Options::=--force-confold --no-install-recommends install {packages} 2>&1"
        ))
    }
}

/// A command that runs another one in a root folder, with /proc, as root.
pub fn enter(root: &Path, command: &[&str]) -> Command {
    let mut enter = Command::new("unshare");
    enter
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"])
        .arg("mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\"")
        .arg(root)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive");
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = env::var_os(name) {
            enter.env(name, value);
        }
    }
    enter
}

/// A program that [`enter`] or its like has started. It gets SIGTERM when it is dropped: it does not
/// end with `unshare` if it has changed its user.
#[derive(Debug)]
pub struct Contained(pub Process);

impl Drop for Contained {
    fn drop(&mut self) {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            send_signal(child.parse().unwrap(), "TERM");
        }
        self.0.wait();
    }
}

/// How long the archive of the clean Debian is good: then its mirror has other packages.
const GOOD_FOR: Duration = Duration::from_secs(12 * 60 * 60);

/// The archive of the clean Debian; it is made where there is none of today.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let archive = target_folder().join("packages/base.tar");
        let made = fs::metadata(&archive).and_then(|metadata| metadata.modified());
        if made.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < GOOD_FOR)) {
            return archive;
        }
        let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
        let sources = sources.iter().find(|path| Path::new(path).exists());
        let sources = sources.expect("no sources of apt in /etc/apt: which mirror is to be used?");
        let release = fs::read_to_string("/etc/os-release").unwrap();
        let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let release = release.expect("no VERSION_CODENAME in /etc/os-release: is this a Debian?");
        say(&format!("mmdebstrap {release}, from {sources}"));
        // The lists of packages stay, to install more.
        // Its name is the last thing that it gets: half an archive is none.
        let new = archive.with_extension("new.tar");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=apt", "--mode=root", "--skip=cleanup/apt/lists"]);
        finish(mmdebstrap.arg(release).arg(&new).arg(sources));
        fs::rename(new, &archive).unwrap();
        archive
    })
}
