//! The steps of the `Dockerfile`, carried out without an engine: each stage is a clean Debian, the
//! toolchain of this machine stands for the image that has Rust.

use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use testkit::{daemon::unit_environment, process::Process, root, wait_for};

use super::{
    copy_tree, finish,
    machine::{Contained, Machine},
    say,
};

/// An instruction, and what stands behind it.
type Step = (String, String);

/// The steps of the file.
fn steps() -> Vec<Step> {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap().replace("\\\n", " ");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line}")))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// The arguments of an instruction in the form of a JSON list.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// An image: a folder, and what a container of it does.
#[derive(Default)]
struct Image {
    name: String,
    machine: Option<Machine>,
    folder: String,
    user: String,
    environment: Vec<(String, String)>,
    entry: Vec<String>,
    health: Vec<String>,
    port: String,
}

impl Image {
    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap()
    }
}

fn begin(rest: &str) -> Image {
    let (base, name) = rest.split_once(" AS ").unwrap_or((rest, ""));
    let machine = Machine::new(if name.is_empty() { "image" } else { name });
    match base {
        "debian:bookworm-slim" => {}
        // What the image has, by its documentation.
        "rust:1-slim-bookworm" => {
            machine.install("gcc libc6-dev ca-certificates");
            // The toolchain is mounted when it is used.
            for folder in ["/usr/local/cargo", "/usr/local/rustup"] {
                fs::create_dir_all(machine.path(folder)).unwrap();
            }
        }
        other => panic!("FROM {other}: no stand-in is known"),
    }
    Image {
        name: name.to_owned(),
        machine: Some(machine),
        folder: "/".to_owned(),
        ..Image::default()
    }
}

/// RUN, with the toolchain of this machine where the image has Rust.
fn run_step(image: &Image, script: &str) {
    let machine = image.machine();
    let home = env::var("HOME").unwrap();
    let folder =
        |name: &str, default: &str| env::var(name).unwrap_or_else(|_| format!("{home}/{default}"));
    let mounts = if machine.path("/usr/local/cargo").exists() {
        format!(
            "mount --bind '{}' '{root}/usr/local/cargo'; mount --bind '{}' '{root}/usr/local/rustup';",
            folder("CARGO_HOME", ".cargo"),
            folder("RUSTUP_HOME", ".rustup"),
            root = machine.root().display(),
        )
    } else {
        String::new()
    };
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"])
        .arg(format!("{mounts} mount -t proc proc \"$0/proc\"; exec chroot \"$0\" sh -ec \"$1\""))
        .arg(machine.root())
        .arg(format!("cd '{}'; {script}", image.folder))
        .env_clear()
        .env(
            "PATH",
            "/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("CARGO_HOME", "/usr/local/cargo")
        .env("RUSTUP_HOME", "/usr/local/rustup")
        .env("HOME", "/root");
    for name in ["http_proxy", "https_proxy", "no_proxy", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    finish(&mut command);
}

fn copy_step(images: &[Image], image: &Image, rest: &str) {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words[..] {
        [".", "."] => copy_tree(&image.machine().path(&image.folder)),
        [from, source, destination] if from.starts_with("--from=") => {
            let name = &from["--from=".len()..];
            let from = images.iter().find(|image| image.name == name);
            let from = from.unwrap_or_else(|| panic!("COPY {rest}: no stage {name}"));
            place(&from.machine().path(source), &image.machine().path(destination));
        }
        [source, destination] => {
            place(&root().join(source), &image.machine().path(destination));
        }
        _ => panic!("COPY {rest}: not known here"),
    }
}

fn place(source: &Path, destination: &Path) {
    fs::create_dir_all(destination.parent().unwrap()).unwrap();
    fs::copy(source, destination).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
}

/// Carries out the steps; the last image.
fn build() -> Image {
    let mut images: Vec<Image> = Vec::new();
    for (name, rest) in steps() {
        say(&format!("{name} {rest}"));
        if name == "FROM" {
            images.push(begin(&rest));
            continue;
        }
        let mut image = images.pop().expect("a step before FROM");
        match name.as_str() {
            "WORKDIR" => {
                fs::create_dir_all(image.machine().path(&rest)).unwrap();
                image.folder = rest;
            }
            "COPY" => copy_step(&images, &image, &rest),
            "RUN" => run_step(&image, &rest),
            "USER" => image.user = rest,
            "ENV" => {
                let (name, value) = rest.split_once('=').unwrap();
                image.environment.push((name.to_owned(), value.to_owned()));
            }
            "EXPOSE" => image.port = rest,
            "ENTRYPOINT" => image.entry = list(&rest),
            "HEALTHCHECK" => image.health = list(rest.split_once(" CMD ").unwrap().1),
            _ => panic!("{name}: not known here"),
        }
        images.push(image);
    }
    images.pop().unwrap()
}

/// What a container of the image runs as.
type Surroundings = (String, Vec<(String, String)>);

/// A command in a container of the image: its user and environment, no rights, a root that cannot be
/// written.
fn contain(machine: &Machine, (user, environment): &Surroundings, command: &[String]) -> Command {
    // "setpriv" of the image: without rights there is no chroot.
    let script = "mount --bind \"$0\" \"$0\"; mount -t proc proc \"$0/proc\"
        mount -o remount,bind,ro \"$0\"
        exec chroot \"$0\" /usr/bin/setpriv --reuid=\"${1%:*}\" --regid=\"${1#*:}\" --clear-groups \
            --bounding-set=-all --no-new-privs -- \"${@:2}\"";
    let mut contain = Command::new("unshare");
    contain.args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", script]);
    contain.arg(machine.root()).arg(user).args(command);
    contain.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    contain.envs(environment.iter().map(|(name, value)| (name, value)));
    contain
}

/// The name under which the test starts itself again.
const BUILDS: &str = "container::the_dockerfile_makes_an_image_that_serves";

/// Where the second start finds what the first one has read of the file.
const CONTAINER: &str = "/tmp/container.json";

#[test]
#[ignore = "needs root, Debian's mirror and the packages: make test-packages"]
fn the_dockerfile_makes_an_image_that_serves() {
    if let Some(machine) = Machine::inside() {
        return serve(&machine);
    }
    let image = build();
    assert_eq!(image.port, "8890");
    assert_eq!(image.environment, unit_environment(), "ENV, and the unit");
    let container = serde_json::json!([[image.user, image.environment], image.entry, image.health]);
    fs::write(image.machine().path(CONTAINER), container.to_string()).unwrap();
    image.machine().run_in_own_network(BUILDS);
}

fn serve(machine: &Machine) {
    let text = fs::read_to_string(machine.path(CONTAINER)).unwrap();
    let (surroundings, entry, health): (Surroundings, Vec<String>, Vec<String>) =
        serde_json::from_str(&text).unwrap();
    let (user, environment) = &surroundings;
    assert!(!user.is_empty() && !user.starts_with('0') && user != "root", "USER {user}");
    say(&format!("start {entry:?} as {user}"));
    let writes: Vec<String> = ["touch", "/tmp/file"].map(str::to_owned).into();
    let output = contain(machine, &surroundings, &writes).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("Read-only file system"), "the root can be written: {errors}");
    let who: Vec<String> = ["id", "-u"].map(str::to_owned).into();
    assert_eq!(
        finish(&mut contain(machine, &surroundings, &who)).trim(),
        user.split(':').next().unwrap()
    );
    for (name, value) in environment {
        let print: Vec<String> = ["printenv", name].map(str::to_owned).into();
        assert_eq!(finish(&mut contain(machine, &surroundings, &print)).trim(), value);
    }

    let mut milter = Contained(Process::start(&mut contain(machine, &surroundings, &entry)));
    let mut stream = wait_for("the port of the container", || {
        assert!(milter.0.ended().is_none(), "it ended:\n{}", milter.0.log.to_end());
        TcpStream::connect("127.0.0.1:8890").ok()
    });
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // SMFIC_OPTNEG: version 6, all actions, all protocol steps.
    let negotiation =
        [&[0, 0, 0, 13, b'O', 0, 0, 0, 6][..], &[0, 0, 1, 0xff], &[0, 0x1f, 0xff, 0xff]];
    stream.write_all(&negotiation.concat()).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4], b'O', "{answer:?}");
    // The log is on standard error.
    wait_for("a line of the log", || milter.0.log.find(|line| line.contains("dry_run")));

    say(&format!("HEALTHCHECK: {health:?}"));
    wait_for("the container to be healthy", || {
        let output = contain(machine, &surroundings, &health).output().unwrap();
        output.status.success().then_some(())
    });
}
