//! Lists whose entries stand in files.

use std::path::PathBuf;

use super::{mistakes::usual, *};

/// A folder of files that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("spf-milter-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load_with(&format!("{SOCKET}{text}"), &Overrides::default()).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_list_of_networks_domains_or_addresses_takes_files() {
    let folder = Folder::new("every-list");
    // Lists of words have no files, and neither has the list of sockets.
    let words =
        ["socket", "definitive_helo_results", "reject_results", "reject_helo_results", "header"];
    let mut count = 0;
    for parameter in parameters() {
        let (name, value) = (parameter.name, usual(parameter.name));
        let is_list = value.contains(", ") || name == "socket";
        assert_eq!(parameter.takes_files, is_list && !words.contains(&name), "{name}");
        if !parameter.takes_files {
            continue;
        }
        count += 1;
        let (first, rest) = value.split_once(", ").unwrap();
        let written = config(&format!("{name} = {value}\n"));
        let file = folder.write(name, &rest.replace(", ", "\n"));
        let both = config(&format!("{name} = {first}, file:{file}\n"));
        assert!((parameter.same)(&both, &written), "{name}");
        assert_eq!((parameter.spell)(&both), format!("{first}, file:{file}"));
        folder.write(name, &value.replace(", ", "\n"));
        let in_file = config(&format!("{name} = file:{file}\n"));
        assert!((parameter.same)(&in_file, &written), "{name}");
        let found = errors(&format!("{name} = file:{file}.not\n"));
        assert!(found[0].contains(&format!(": {name}: {file}.not: No such file")), "{found:?}");
        folder.write(name, "..\n");
        let found = errors(&format!("{name} = file:{file}\n"));
        assert!(found[0].starts_with(&format!("{file}:1:1: {name}: ")), "{found:?}");
    }
    assert_eq!(count, 12);
}

#[test]
fn odd_lines_are_reported_where_they_are() {
    let folder = Folder::new("odd-lines");
    let networks = folder.write("networks", "# all\n0.0.0.0/0\n10.0.0.0/8\n\t10.1.2.3/16\n");
    let map = folder.write("map", "10.0.0.0/8=192.0.2.1\n10.0.0.0/8=192.0.2.2\n10.1.2.3/9=::1\n");
    let servers = folder.write("servers", "192.0.2.1\n::1:53\n");
    for (name, file, expected) in [
        (
            "trusted_relays",
            &networks,
            vec![
                (2, 1, "0.0.0.0/0 has every IPv4 client in it"),
                (4, 2, "10.1.2.3/16 means all of 10.1.0.0/16"),
            ],
        ),
        (
            "client_map",
            &map,
            vec![
                (2, 1, "10.0.0.0/8=192.0.2.2 is for a network that is in the list already"),
                (3, 1, "10.1.2.3/9=::1 means all of 10.0.0.0/9"),
            ],
        ),
        (
            "nameservers",
            &servers,
            vec![(2, 1, "::1:53 is an address without a port (for port 53, write [::1]:53)")],
        ),
    ] {
        let expected: Vec<String> = expected
            .into_iter()
            .map(|(line, column, said)| format!("{file}:{line}:{column}: {name}: {said}"))
            .collect();
        let header = "header = Authentication-Results\n";
        assert_eq!(warnings(&format!("{header}{name} = file:{file}\n")), expected);
    }
    // Programs write such files: many odd lines are counted.
    let lines: String = (0..30).map(|n| format!("10.{n}.0.1/16\n")).collect();
    let many = folder.write("many", &lines);
    let found = warnings(&format!("spf_exempt_networks = file:{many}\n"));
    assert_eq!(found.len(), 21);
    assert_eq!(found[20], format!("{many}: spf_exempt_networks: 10 more lines are hardly meant"));
    let line = lines.trim_end().replace('\n', ", ");
    let found = warnings(&format!("spf_exempt_networks = {line}\n"));
    assert_eq!(found.len(), 21);
    assert!(found[19].ends_with("10.19.0.1/16 means all of 10.19.0.0/16"), "{found:?}");
    assert!(found[20].ends_with(":23: spf_exempt_networks: 10 more entries are hardly meant"));
    // The place of each is found without a look at all that comes before it.
    let lines: Vec<String> =
        (0..20_000).map(|n| format!("10.{}.{}.1/24", n / 250, n % 250)).collect();
    assert_eq!(warnings(&format!("spf_exempt_networks = {}\n", lines.join(","))).len(), 21);
    let bad = format!("spf_exempt_networks = x{}\n", lines.join("x,x"));
    assert_eq!(errors(&bad).len(), 100);
    // What is usual is no oddity.
    let usual = folder.write("usual", "10.0.0.1\n10.0.0.1\n10.0.0.1/32\nloopback\n");
    assert_eq!(warnings(&format!("spf_exempt_networks = 10.0.0.1, file:{usual}\n")), [""; 0]);
    let empty = folder.write("empty", "# none yet\n");
    let found = warnings(&format!("nameservers = file:{empty}\n"));
    assert!(found[0].ends_with("names no name server: those of /etc/resolv.conf are asked"));
}
