//! The cache: answers and failures, each until its time is over.

use std::{hash::Hash, time::Duration};

use moka::{Equivalent, policy::EvictionPolicy, sync::Cache as Entries};
use tokio::time::Instant;

use super::{
    answer::{Answer, Failure, RecordType},
    name::Name,
};

/// An answer that is larger is not kept, in octets. (Names are compressed on the wire: a reply of
/// 64 KiB can unfold into a megabyte.)
const MAX_SIZE: usize = 64 * 1024;

/// An answer that needs more room than this, in octets, takes the slots of several.
const SLOT: usize = 1024;

/// What was asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) record_type: RecordType,
}

/// A [`Key`] by reference; has the same hash, field by field.
#[derive(Hash)]
struct KeyRef<'a> {
    name: &'a Name,
    record_type: RecordType,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.record_type == key.record_type && *self.name == key.name
    }
}

#[derive(Clone)]
struct Entry {
    outcome: Result<Answer, Failure>,
    expires: Instant,
    slots: u32,
}

/// Keeps outcomes of look-ups. Cheap to clone; clones share the entries.
#[derive(Clone)]
pub(super) struct Cache {
    /// `None`: nothing is kept.
    entries: Option<Entries<Key, Entry>>,
    slots: usize,
}

impl Cache {
    /// A cache of so many slots; most answers take one slot each.
    pub(super) fn new(slots: usize) -> Self {
        let entries = (slots > 0).then(|| {
            Entries::builder()
                .max_capacity(u64::try_from(slots).unwrap_or(u64::MAX))
                .weigher(|_, entry: &Entry| entry.slots)
                // Expired entries must not stay because they were popular once.
                .eviction_policy(EvictionPolicy::lru())
                .build()
        });
        Self { entries, slots }
    }

    /// A cache of another size with the same entries; this one where the size is the same.
    pub(super) fn resized(&self, slots: usize) -> Self {
        if slots == self.slots {
            return self.clone();
        }
        let resized = Self::new(slots);
        if let (Some(old), Some(new)) = (&self.entries, &resized.entries) {
            let now = Instant::now();
            for (key, entry) in old.iter().filter(|(_, entry)| now < entry.expires) {
                new.insert(Key::clone(&key), entry);
            }
        }
        resized
    }

    /// What is known now.
    pub(super) fn find(
        &self,
        name: &Name,
        record_type: RecordType,
    ) -> Option<Result<Answer, Failure>> {
        let entry = self.entries.as_ref()?.get(&KeyRef { name, record_type })?;
        (Instant::now() < entry.expires).then_some(entry.outcome)
    }

    /// Keeps an outcome for so long, if it is not too large.
    pub(super) fn keep(&self, key: &Key, outcome: &Result<Answer, Failure>, ttl: Duration) {
        let Some(entries) = &self.entries else { return };
        let size = key.name.as_str().len() + outcome.as_ref().map_or(0, Answer::size);
        if ttl.is_zero() || size > MAX_SIZE {
            return;
        }
        // No more than 64 of them.
        let slots = u32::try_from(size.div_ceil(SLOT)).unwrap_or(u32::MAX);
        entries.insert(
            key.clone(),
            Entry { outcome: outcome.clone(), expires: Instant::now() + ttl, slots },
        );
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        if let Some(entries) = &self.entries {
            entries.invalidate_all();
        }
    }

    /// How many entries there are, about.
    pub(super) fn len(&self) -> u64 {
        self.entries.as_ref().map_or(0, Entries::entry_count)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Key {
        Key { name: Name::new(name).unwrap(), record_type: RecordType::A }
    }

    fn find(cache: &Cache, name: &str) -> Option<Result<Answer, Failure>> {
        cache.find(&Name::new(name).unwrap(), RecordType::A)
    }

    fn text(size: usize) -> Result<Answer, Failure> {
        Ok(Answer::Txt([vec![b'x'; size].into()].into()))
    }

    #[tokio::test(start_paused = true)]
    async fn kept_until_the_ttl_is_over() {
        let cache = Cache::new(10);
        let answer = Ok(Answer::A([Ipv4Addr::LOCALHOST].into()));
        cache.keep(&key("a.example"), &answer, TTL);
        cache.keep(&key("none.example"), &Err(Failure::NxDomain), TTL / 2);
        cache.keep(&key("zero.example"), &answer, Duration::ZERO);
        tokio::time::advance(TTL / 2 - Duration::from_millis(1)).await;
        assert_eq!(find(&cache, "a.example"), Some(answer.clone()));
        assert_eq!(find(&cache, "none.example"), Some(Err(Failure::NxDomain)));
        assert_eq!(find(&cache, "zero.example"), None);
        assert_eq!(cache.find(&key("a.example").name, RecordType::Mx), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(find(&cache, "none.example"), None);
        tokio::time::advance(TTL / 2).await;
        assert_eq!(find(&cache, "a.example"), None);
    }

    #[test]
    fn room_is_bounded() {
        let cache = Cache::new(100);
        for number in 0..1000 {
            cache.keep(&key(&format!("{number}.example")), &Err(Failure::NoData), TTL);
        }
        let entries = cache.entries.as_ref().unwrap();
        entries.run_pending_tasks();
        assert_eq!(cache.len(), 100);
        assert!(find(&cache, "999.example").is_some());
        // 40 KiB take 41 slots: the third drives the first out.
        for name in ["x.example", "y.example", "z.example"] {
            cache.keep(&key(name), &text(40 * 1024), TTL);
            entries.run_pending_tasks();
        }
        assert_eq!(
            [find(&cache, "x.example").is_some(), find(&cache, "z.example").is_some()],
            [false, true]
        );
        cache.keep(&key("huge.example"), &text(MAX_SIZE), TTL);
        assert_eq!(find(&cache, "huge.example"), None);
    }

    #[test]
    fn no_cache() {
        let cache = Cache::new(0);
        cache.keep(&key("a.example"), &Err(Failure::NoData), TTL);
        assert_eq!(find(&cache, "a.example"), None);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn another_size() {
        let cache = Cache::new(10);
        cache.keep(&key("a.example"), &Err(Failure::NoData), TTL);
        assert!(find(&cache.resized(20), "a.example").is_some());
        assert!(find(&cache.resized(10), "a.example").is_some());
        assert!(find(&cache.resized(0), "a.example").is_none());
        assert!(find(&cache.resized(0).resized(10), "a.example").is_none());
    }

    #[test]
    fn sizes_at_the_bounds() {
        for (size, slots) in [
            (SLOT - 1, Some(1)),
            (SLOT, Some(1)),
            (SLOT + 1, Some(2)),
            (MAX_SIZE - 1, Some(64)),
            (MAX_SIZE, Some(64)),
            (MAX_SIZE + 1, None),
        ] {
            let (cache, key) = (Cache::new(100), key("a.example"));
            let empty = key.name.as_str().len() + text(0).unwrap().size();
            cache.keep(&key, &text(size - empty), TTL);
            assert_eq!(
                cache.entries.as_ref().unwrap().get(&key).map(|entry| entry.slots),
                slots,
                "{size}"
            );
        }
    }
}
