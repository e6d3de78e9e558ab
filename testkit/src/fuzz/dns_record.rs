//! Records of DNS answers: what was read is written as a record that reads the same.

use std::sync::Arc;

use spf_milter::{
    dns::{
        Dns,
        recorded::{Entry, Replay},
    },
    query::RecordFile,
};

use super::{assert_printable, block_on};

pub(crate) fn check(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let file = match RecordFile::parse(&text) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.line <= text.lines().count().max(1), "{error}");
            assert_printable(&error.problem);
            return;
        }
    };
    // The configuration is not read here, and may be any text.
    let file = RecordFile { configuration: String::new(), configuration_line: 0, ..file };
    let written = file.to_string();
    assert!(written.is_ascii());
    let again = RecordFile::parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(RecordFile { configuration_line: 0, ..again }, file);
    let dns = Dns::from_replay(&Arc::new(Replay::new(file.entries.clone())));
    block_on(async {
        for Entry { name, record_type, answer, servers } in file.entries.iter() {
            assert_eq!(dns.asked(name, *record_type), *servers);
            if answer.is_some() {
                let _ = dns.lookup(name, *record_type).await;
            }
        }
    });
}
