//! The public DKIM suites, when the environment variable CORPUS names their directory.

#[path = "support/corpus.rs"]
mod corpus;

#[test]
fn every_zone_of_the_suites_can_be_read() {
    let Some(directory) = corpus::directory() else { return };
    let mut sets: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    sets.sort();
    for set in sets.iter().filter_map(|name| name.to_str()).filter(|set| directory.join(set).join("cases.json").exists()) {
        for case in corpus::cases(&directory, set) {
            case.zone();
            case.message();
        }
    }
}
