//! The cache: answers and failures, each until its time is over.

use std::{any::Any, sync::Arc, time::Duration};

use moka::{
    Entry as Kept,
    ops::compute::{CompResult, Op},
    policy::EvictionPolicy,
    sync::Cache as Entries,
};
use tokio::time::Instant;

use super::{
    answer::{Answer, Failure, RecordType},
    name::Name,
    texts::Texts,
};

/// The most octets of an answer that is kept. (Names are compressed on the wire: a reply of
/// 64 KiB can unfold into a megabyte.)
const MAX_SIZE: usize = 64 * 1024;

/// The octets of a slot; a larger answer takes several.
const SLOT: usize = 1024;

/// The name and type of a question.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) record_type: RecordType,
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
        if let Some(old) = &self.entries {
            let now = Instant::now();
            for (key, entry) in old.iter().filter(|(_, entry)| now < entry.expires) {
                // What was parsed stays with the old cache, where it may go on to grow, and to count.
                resized.keep(&key, &entry.outcome.map(Answer::without_parsed), entry.expires - now);
            }
        }
        resized
    }

    /// The outcome that is known now.
    pub(super) fn find(&self, key: &Key) -> Option<Result<Answer, Failure>> {
        self.find_at(key, Instant::now()).map(|(outcome, _)| outcome)
    }

    /// The outcome that is known at a time, and when its time is over.
    pub(super) fn find_at(
        &self,
        key: &Key,
        now: Instant,
    ) -> Option<(Result<Answer, Failure>, Instant)> {
        let Entry { outcome, expires, .. } = self.entries.as_ref()?.get(key)?;
        (now < expires).then_some((outcome, expires))
    }

    /// Keeps an outcome for so long, if it is not too large.
    pub(super) fn keep(&self, key: &Key, outcome: &Result<Answer, Failure>, ttl: Duration) {
        let Some(entries) = &self.entries else { return };
        if let Some(slots) = slots(key, outcome, 0).filter(|_| !ttl.is_zero()) {
            let (outcome, expires) = (outcome.clone(), Instant::now() + ttl);
            entries.insert(key.clone(), Entry { outcome, expires, slots });
        }
    }

    /// Keeps a value that was parsed from texts with them, if they are still there and both
    /// together are not too large; whether it is kept now.
    pub(super) fn keep_parsed(
        &self,
        name: &Name,
        texts: &Texts,
        parsed: Arc<dyn Any + Send + Sync>,
        size: usize,
    ) -> bool {
        let Some(entries) = &self.entries else { return false };
        let key = Key { name: name.clone(), record_type: RecordType::Txt };
        let result =
            entries.entry_by_ref(&key).and_compute_with(|kept| match kept.map(Kept::into_value) {
                Some(Entry { outcome: Ok(Answer::Txt(kept)), expires, .. })
                    if kept.is_same(texts) =>
                {
                    let outcome = Ok(Answer::Txt(kept.with_parsed(parsed)));
                    slots(&key, &outcome, size)
                        .map_or(Op::Nop, |slots| Op::Put(Entry { outcome, expires, slots }))
                }
                _ => Op::Nop,
            });
        matches!(result, CompResult::ReplacedWith(_))
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

/// How many slots an outcome takes with a value parsed from it, of so many octets: 64 at most.
/// `None` where it is too large.
fn slots(key: &Key, outcome: &Result<Answer, Failure>, parsed: usize) -> Option<u32> {
    let size = key.name.as_str().len() + outcome.as_ref().map_or(0, Answer::size) + parsed;
    if size > MAX_SIZE { None } else { u32::try_from(size.div_ceil(SLOT)).ok() }
}

#[cfg(test)]
impl Cache {
    /// How many slots an entry takes.
    pub(super) fn places(&self, key: &Key) -> Option<u32> {
        self.entries.as_ref()?.get(key).map(|entry| entry.slots)
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
        cache.find(&key(name))
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
        assert_eq!(cache.find(&Key { record_type: RecordType::Mx, ..key("a.example") }), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(find(&cache, "none.example"), None);
        tokio::time::advance(TTL / 2).await;
        assert_eq!(find(&cache, "a.example"), None);
    }

    #[test]
    fn size_is_bounded() {
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
    #[test]
    fn parsed_records_are_kept_with_the_texts() {
        let (cache, name) = (Cache::new(100), Name::new("a.example").unwrap());
        let key = Key { name: name.clone(), record_type: RecordType::Txt };
        let answer = |size: usize| Texts::from([vec![b'x'; size].into()]);
        let kept = || match cache.find(&key) {
            Some(Ok(Answer::Txt(texts))) => texts.parsed::<usize>().map(|parsed| *parsed),
            other => panic!("{other:?}"),
        };
        let slots = || cache.entries.as_ref().unwrap().get(&key).unwrap().slots;
        let texts = answer(0);
        let empty = name.as_str().len() + Answer::Txt(texts.clone()).size();
        cache.keep(&key, &Ok(Answer::Txt(texts.clone())), TTL);
        assert_eq!((kept(), slots()), (None, 1));
        // It counts, up to the size of an entry.
        for (size, known, taken) in [
            (SLOT - empty, Some(1), 1),
            (SLOT - empty + 1, Some(2), 2),
            (MAX_SIZE - empty, Some(3), 64),
            (MAX_SIZE - empty + 1, Some(3), 64),
        ] {
            cache.keep_parsed(&name, &texts, Arc::new(kept().map_or(1, |known| known + 1)), size);
            assert_eq!((kept(), slots()), (known, taken), "{size}");
        }
        assert!(
            matches!(cache.find(&key), Some(Ok(Answer::Txt(texts))) if texts.parsed::<u8>().is_none())
        );
        // Equal texts of another answer are others.
        cache.keep_parsed(&name, &answer(0), Arc::new(9_usize), 1);
        assert_eq!(kept(), Some(3));
        cache.keep(&key, &Ok(Answer::Txt(answer(0))), TTL);
        cache.keep_parsed(&name, &texts, Arc::new(9_usize), 1);
        assert_eq!((kept(), slots()), (None, 1));
        // Nor is there anything to keep it with where there are none.
        let other = Name::new("b.example").unwrap();
        cache.keep_parsed(&other, &texts, Arc::new(9_usize), 1);
        assert_eq!(cache.find(&Key { name: other, ..key }), None);
    }
}
