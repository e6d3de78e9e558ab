//! Lists whose entries stand in the configuration or, line by line, in files that it names.

use std::{collections::HashSet, fmt, ops::Deref, path::PathBuf, sync::Arc};

use super::{
    file::path,
    suggestion::explain,
    value::{Parsed, Spell, items, list_with, quote, refuse_comment, refuse_quotes, wrong},
};

/// Before the path of a file of entries.
const FILE: &str = "file:";

/// Entries in tables, so that a look-up costs the same however many there are.
pub(crate) trait Entries: Clone + fmt::Debug + Default + PartialEq {
    /// One entry.
    type Entry: Spell;

    /// Whether one that is there twice in different spellings is an error, and not only odd.
    const REFUSES_OTHER_SPELLINGS: bool;

    /// Reads an entry.
    fn read(text: &str) -> Parsed<Self::Entry>;

    /// What is the same in entries of which only one may be there.
    fn key(entry: &Self::Entry) -> String {
        entry.spell()
    }

    /// What is hardly meant about an entry that is no error, as the rest of a sentence.
    fn oddity(_text: &str, _entry: &Self::Entry) -> Option<String> {
        None
    }

    /// What is hardly meant about a line of a file that is there already, if it is not usual.
    const REPEATED: Option<&'static str> = None;

    /// Adds an entry, unless it is there already: then the answer is `false`.
    fn insert(&mut self, entry: &Self::Entry) -> bool;
}

/// A list of entries. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Listed<E> {
    /// As it may stand in a configuration file, with the names of files.
    spelling: String,
    /// All entries, those of files too.
    entries: Arc<E>,
}

/// Lists are the same if they have the same entries, wherever these stand.
impl<E: PartialEq> PartialEq for Listed<E> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<E> Deref for Listed<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.entries
    }
}

impl<E> Listed<E> {
    /// All entries, shared.
    pub(crate) fn shared(&self) -> Arc<E> {
        Arc::clone(&self.entries)
    }
}

impl<E: Entries> Spell for Listed<E> {
    const LIST: bool = true;
    const FILES: bool = true;

    fn spell(&self) -> String {
        self.spelling.clone()
    }

    fn add_line(&mut self, line: &str) -> Parsed<Option<String>> {
        let entry = read_line::<E>(line)?;
        // The list has no other owner while it is read, so that nothing is cloned.
        let is_new = Arc::make_mut(&mut self.entries).insert(&entry);
        let repeated = || E::REPEATED.filter(|_| !is_new).map(str::to_owned);
        let oddity = E::oddity(line, &entry).or_else(repeated);
        Ok(oddity.map(|oddity| format!("{line} {oddity}")))
    }
}

/// Finds what is hardly meant in the entries of a list that [`listed`] reads: positions, and
/// sentences.
pub(crate) fn oddities<E: Entries>(text: &str) -> impl Iterator<Item = (usize, String)> {
    items(text).filter_map(|(offset, item)| {
        // An entry that cannot be read is an error already.
        let entry = E::read(item).ok()?;
        Some((offset, format!("{item} {}", E::oddity(item, &entry)?)))
    })
}

/// The path of a file of entries, where the item of a list is one.
pub(crate) fn file_of(item: &str) -> Option<&str> {
    item.strip_prefix(FILE)
}

/// An item of a list.
enum Item<T> {
    Entry(T),
    File(PathBuf),
}

/// Reads a list. The files that it names are not read: their lines are added with
/// [`Spell::add_line`].
pub(crate) fn listed<E: Entries>(text: &str) -> Parsed<Listed<E>> {
    let mut seen = HashSet::new();
    let items = list_with(text, item::<E>, |_, (key, _)| !seen.insert(key.clone()))?;
    let (mut entries, mut spellings) = (E::default(), Vec::new());
    for (_, item) in items {
        match item {
            Item::Entry(entry) if !entries.insert(&entry) => {}
            Item::Entry(entry) => spellings.push(entry.spell()),
            Item::File(path) => spellings.push(format!("{FILE}{}", path.display())),
        }
    }
    Ok(Listed { spelling: spellings.join(", "), entries: Arc::new(entries) })
}

/// Reads an item, and the text by which it is found to be there twice.
fn item<E: Entries>(text: &str) -> Parsed<(String, Item<E::Entry>)> {
    let Some(file) = file_of(text) else {
        let entry = E::read(text)?;
        let key = if E::REFUSES_OTHER_SPELLINGS { E::key(&entry) } else { text.to_owned() };
        return Ok((key, Item::Entry(entry)));
    };
    if file.is_empty() || file.starts_with(char::is_whitespace) {
        return wrong(format!("{} names no file (expected {FILE}PATH)", quote(text)));
    }
    Ok((text.to_owned(), Item::File(path(file)?)))
}

/// Reads a line of a file of entries: one entry, and nothing behind it.
pub(crate) fn read_line<E: Entries>(text: &str) -> Parsed<E::Entry> {
    refuse_comment(text, |guess| E::read(guess).is_ok())?;
    refuse_quotes(text, false, |guess| E::read(guess).is_ok())?;
    E::read(text).map_err(|mut errors| {
        for error in &mut errors {
            let several = text
                .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
                .filter(|part| !part.is_empty());
            if several.clone().count() > 1 && several.clone().all(|part| E::read(part).is_ok()) {
                error.message.push_str(", one in each line");
            } else {
                explain(&mut error.message, text, false, |guess| E::read(guess).is_ok());
            }
        }
        errors
    })
}

#[cfg(test)]
mod tests {
    use super::{super::networks::Networks, *};

    fn networks(text: &str) -> Parsed<Networks> {
        listed(text)
    }

    #[test]
    fn files_are_named_and_spelt() {
        let mut list = networks("10.0.0.1, file:/etc/a, file:b").unwrap();
        assert_eq!(list.spell(), "10.0.0.1, file:/etc/a, file:b");
        let address = "192.0.2.1".parse().unwrap();
        assert!(!list.contains(address));
        let before = list.clone();
        list.add_line("192.0.2.0/24").unwrap();
        assert!(list.contains(address) && !before.contains(address) && list != before);
        assert_eq!(list.spell(), before.spell());
        for bad in ["file:", "file: /etc/a", "file:\"a\"", "file:/etc/a, file:/etc/a", "File:a"] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_entries() {
        let mut list = Networks::default();
        assert_eq!(list.add_line("10.0.0.1"), Ok(None));
        assert_eq!(list.add_line("10.0.0.1"), Ok(None));
        let odd = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(list.add_line("10.1.2.3/8"), odd("10.1.2.3/8 means all of 10.0.0.0/8"));
        assert_eq!(list.add_line("::/0"), odd("::/0 has every IPv6 client in it"));
        for bad in ["10.0.0.1 # ours", "\"10.0.0.1\"", "file:/etc/a", "10.0.0.1, 10.0.0.2", ""] {
            assert!(list.add_line(bad).is_err(), "{bad}");
        }
        let errors = list.add_line("10.0.0.1 10.0.0.2").unwrap_err();
        assert!(errors[0].message.ends_with("), one in each line"), "{errors:?}");
    }
}
