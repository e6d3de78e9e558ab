//! Texts and counts that are shown.

use std::fmt::{self, Write as _};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// The longest text that is shown, in octets; a longer one is cut.
const MAX_SHOWN: usize = 512;

/// A text in which strangers may have had a say: one line of printable ASCII, in which nothing is a
/// command for a terminal, and not longer than anyone would read. Who writes it as HTML escapes it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Shown(String);

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        const CUT: &str = "...";
        let mut shown = String::with_capacity(text.len().min(MAX_SHOWN));
        for c in text.chars() {
            if matches!(c, ' '..='~') {
                shown.push(c);
            } else {
                // Writing to a `String` cannot fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            if shown.len() > MAX_SHOWN {
                shown.truncate(MAX_SHOWN - CUT.len());
                shown.push_str(CUT);
                break;
            }
        }
        Self(shown)
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl Shown {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The most counts that are read.
const MAX_COUNTS: usize = 100;

/// Counts with their names, in their order: an object in JSON.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts(pub Vec<(Shown, u64)>);

impl Counts {
    /// Those that are not 0.
    pub fn some(&self) -> impl Iterator<Item = (&Shown, u64)> {
        self.0.iter().map(|(name, count)| (name, *count)).filter(|(_, count)| *count > 0)
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (name.as_str(), count)))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                while let Some(count) = map.next_entry::<Shown, u64>()? {
                    if counts.len() < MAX_COUNTS {
                        counts.push(count);
                    }
                }
                Ok(Counts(counts))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
