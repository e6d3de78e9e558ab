//! The configuration: it is read or has errors; what it says is what is shown of it.

use std::path::Path;

use spf_milter::config::{Loaded, Overrides, load_text};

pub(crate) fn check(octets: &[u8]) {
    // Would have other files read.
    if octets.windows(5).any(|window| {
        window.eq_ignore_ascii_case(b"_file") || window.eq_ignore_ascii_case(b"file:")
    }) {
        return;
    }
    let load = |text: &[u8]| load_text(text, Path::new("fuzzed"), &Overrides::default());
    match load(octets) {
        Ok(Loaded { config, warnings, .. }) => {
            warnings.iter().for_each(|warning| super::assert_printable(&warning.to_string()));
            for all in [true, false] {
                let shown = config.show(all);
                assert!(
                    shown.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()),
                    "{shown:?}"
                );
                let again = load(shown.as_bytes())
                    .unwrap_or_else(|errors| panic!("{errors}\nof what is shown:\n{shown}"));
                assert_eq!(config.changed(&again.config), [""; 0], "{shown}");
                assert_eq!(again.config.show(all), shown);
            }
            assert!(config.changed(&config).is_empty());
        }
        Err(errors) => {
            let text = errors.to_string();
            assert!(
                !text.is_empty()
                    && text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()),
                "{text:?}"
            );
        }
    }
}
