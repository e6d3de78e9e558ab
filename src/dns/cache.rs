//! The cache: answers and failures, each until its time is over.

use std::{
    any::Any,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{
    DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter,
    sync::{Cache as Entries, DefaultLifecycle, EntryAction, EntryResult},
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

/// The most parts of a cache, a power of two. Each has a lock of its own, and as large a share of the
/// slots.
const MAX_PARTS: usize = 8;

/// The fewest slots of a part, unless it is the only one: so many have room for large answers.
const MIN_PART: usize = 1024;

/// The share of the slots that is for entries that were asked for more than once. The others are
/// for new ones: names that come once do not drive out those that come all the time.
const POPULAR: f64 = 0.75;

/// The name and type of a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) record_type: RecordType,
}

/// As [`Key`], for a look at the cache.
struct KeyRef<'a> {
    name: &'a str,
    record_type: RecordType,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { name: self.name.as_str(), record_type: self.record_type }.hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.name.as_bytes());
        // No name ends like this: they are ASCII.
        state.write_u8(0x80 | self.record_type as u8);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.record_type == key.record_type && *self.name == *key.name.as_str()
    }
}

#[derive(Clone, Debug)]
struct Entry {
    outcome: Result<Answer, Failure>,
    expires: Instant,
    slots: u32,
}

/// The slots of an entry.
#[derive(Clone, Debug)]
struct Slots;

impl Weighter<Key, Arc<Entry>> for Slots {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.slots.into()
    }
}

/// Keeps outcomes of look-ups. Cheap to clone; clones share the entries.
#[derive(Clone)]
pub(super) struct Cache {
    /// `None`: nothing is kept.
    entries: Option<Arc<Entries<Key, Arc<Entry>, Slots>>>,
    slots: usize,
    /// A number for the content, which no other cache has.
    generation: Arc<AtomicU64>,
}

/// The next generation of a cache.
static NEXT_GENERATION: AtomicU64 = AtomicU64::new(0);

fn next_generation() -> u64 {
    NEXT_GENERATION.fetch_add(1, Ordering::Relaxed)
}

impl Cache {
    /// A cache of so many slots; most answers take one slot each.
    pub(super) fn new(slots: usize) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(u64::try_from(slots).unwrap_or(u64::MAX))
            .estimated_items_capacity(slots)
            .shards(1 << (slots / MIN_PART).clamp(1, MAX_PARTS).ilog2())
            .hot_allocation(POPULAR)
            .build();
        // All that options have to have is there.
        let entries = options.ok().filter(|_| slots > 0).map(|options| {
            let (hashes, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
            Arc::new(Entries::with_options(options, Slots, hashes, lifecycle))
        });
        Self { entries, slots, generation: Arc::new(next_generation().into()) }
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
                let outcome = entry.outcome.clone().map(Answer::without_parsed);
                resized.keep_at(&key, &outcome, entry.expires - now, now);
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
        let entry = self.entries.as_ref()?.get(key)?;
        (now < entry.expires).then(|| (entry.outcome.clone(), entry.expires))
    }

    /// What a look at the texts at a name gives; `None` where there are none at this time.
    pub(super) fn with_texts<R>(
        &self,
        name: &str,
        now: Instant,
        look: impl FnOnce(&Texts) -> Option<R>,
    ) -> Option<R> {
        let key = KeyRef { name, record_type: RecordType::Txt };
        let entry = self.entries.as_ref()?.get(&key)?;
        match &entry.outcome {
            Ok(Answer::Txt(texts)) if now < entry.expires => look(texts),
            _ => None,
        }
    }

    /// Keeps an outcome for so long, if it is not too large.
    pub(super) fn keep(&self, key: &Key, outcome: &Result<Answer, Failure>, ttl: Duration) {
        self.keep_at(key, outcome, ttl, Instant::now());
    }

    fn keep_at(&self, key: &Key, outcome: &Result<Answer, Failure>, ttl: Duration, now: Instant) {
        let Some(entries) = &self.entries else { return };
        if let Some(slots) = slots(key, outcome, 0).filter(|_| !ttl.is_zero()) {
            let (outcome, expires) = (outcome.clone(), now + ttl);
            entries.insert(key.clone(), Entry { outcome, expires, slots }.into());
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
        let largest = largest(entries);
        let mut larger = None;
        let taken = entries.entry(&key, Some(Duration::ZERO), |_, entry| {
            let Entry { outcome: Ok(Answer::Txt(kept)), expires, slots: former } = &**entry else {
                return EntryAction::Retain(false);
            };
            if !kept.is_same(texts) {
                return EntryAction::Retain(false);
            }
            let outcome = Ok(Answer::Txt(kept.clone().with_parsed(parsed)));
            match slots(&key, &outcome, size).filter(|slots| u64::from(*slots) <= largest) {
                Some(slots) if slots == *former => {
                    *entry = Entry { outcome, expires: *expires, slots }.into();
                    EntryAction::Retain(true)
                }
                // Taken out and put back, so that others make room for what it takes more. For that
                // moment it is not found.
                Some(slots) => {
                    larger = Some(Entry { outcome, expires: *expires, slots }.into());
                    EntryAction::ReplaceWithGuard
                }
                None => EntryAction::Retain(false),
            }
        });
        match (taken, larger) {
            (EntryResult::Retained(is_kept), _) => is_kept,
            // Another answer may have come meanwhile.
            (EntryResult::Replaced(place, _), Some(larger)) => {
                let is_kept = place.insert(larger).is_ok();
                // It was asked for before, and is no new name.
                let _ = entries.get(&key);
                is_kept
            }
            _ => false,
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        if let Some(entries) = &self.entries {
            entries.clear();
            self.generation.store(next_generation(), Ordering::Release);
        }
    }

    /// A number for the content: another one once all of it was forgotten. `None` where nothing is kept.
    pub(super) fn generation(&self) -> Option<u64> {
        self.entries.as_ref().map(|_| self.generation.load(Ordering::Acquire))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u64 {
        let entries = self.entries.as_ref().map_or(0, |entries| entries.len());
        u64::try_from(entries).unwrap_or(u64::MAX)
    }
}

/// The most slots of an entry: what does not fit into the share of entries that are asked for again is
/// not kept at all.
fn largest(entries: &Entries<Key, Arc<Entry>, Slots>) -> u64 {
    // As the cache reckons it.
    (entries.shard_capacity() as f64 * POPULAR) as u64
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

    /// How many slots all entries take.
    fn weight(&self) -> u64 {
        self.entries.as_ref().map_or(0, |entries| entries.weight())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv4Addr};

    use proptest::{collection::vec, prelude::*};

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
        assert_eq!((cache.len(), cache.weight()), (100, 100));
        assert!(find(&cache, "999.example").is_some());
        // 40 KiB take 41 slots: the third drives the first out.
        for name in ["x.example", "y.example", "z.example"] {
            cache.keep(&key(name), &text(40 * 1024), TTL);
            assert!(find(&cache, name).is_some() && cache.weight() <= 100);
        }
        assert_eq!(find(&cache, "x.example"), None);
        cache.keep(&key("huge.example"), &text(MAX_SIZE), TTL);
        assert_eq!(find(&cache, "huge.example"), None);
    }

    /// A value that does not fit in takes nothing else out.
    #[test]
    fn small_caches_keep_answers_without_what_was_parsed() {
        let (cache, name) = (Cache::new(10), Name::new("a.example").unwrap());
        let (key, texts) = (
            Key { name: name.clone(), record_type: RecordType::Txt },
            Texts::from([b"x".as_slice().into()]),
        );
        cache.keep(&key, &Ok(Answer::Txt(texts.clone())), TTL);
        for (size, is_kept) in [(7 * SLOT - 200, true), (8 * SLOT, false), (SLOT, true)] {
            assert_eq!(cache.keep_parsed(&name, &texts, Arc::new(size), size), is_kept, "{size}");
            let Some(Ok(Answer::Txt(found))) = cache.find(&key) else { panic!("{size} is lost") };
            assert_eq!(found.parsed::<usize>().map(|parsed| *parsed == size), Some(is_kept));
            assert!(cache.weight() <= 10);
        }
    }

    /// An entry whose value is kept goes on as one that was asked for.
    #[test]
    fn what_was_parsed_makes_no_new_name_of_it() {
        let (cache, name) = (Cache::new(100), Name::new("a.example").unwrap());
        for number in 0..80 {
            cache.keep(&key(&format!("{number}.before")), &Err(Failure::NoData), TTL);
        }
        let (key_of_texts, texts) = (
            Key { name: name.clone(), record_type: RecordType::Txt },
            Texts::from([b"x".as_slice().into()]),
        );
        cache.keep(&key_of_texts, &Ok(Answer::Txt(texts.clone())), TTL);
        assert!(cache.find(&key_of_texts).is_some());
        assert!(cache.keep_parsed(&name, &texts, Arc::new(1), 2 * SLOT));
        for number in 0..400 {
            cache.keep(&key(&format!("{number}.example")), &Err(Failure::NoData), TTL);
        }
        assert!(cache.find(&key_of_texts).is_some());
    }

    /// Whoever has names of his own asked for once does not drive out those of everybody else.
    #[test]
    fn names_that_come_once_drive_out_no_others() {
        for slots in [100, 4096] {
            let cache = Cache::new(slots);
            let popular: Vec<_> =
                (0..slots / 4).map(|number| format!("{number}.popular")).collect();
            let answer = Err(Failure::NoData);
            for name in &popular {
                cache.keep(&key(name), &answer, TTL);
            }
            for number in 0..20 * slots {
                cache.keep(&key(&format!("{number}.example")), &answer, TTL);
                let name = &popular[number % popular.len()];
                assert!(find(&cache, name).is_some(), "{name} after {number} others");
            }
        }
    }

    #[test]
    fn no_cache() {
        let cache = Cache::new(0);
        cache.keep(&key("a.example"), &Err(Failure::NoData), TTL);
        assert_eq!(find(&cache, "a.example"), None);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn each_generation_has_a_number_of_its_own() {
        let (cache, other) = (Cache::new(10), Cache::new(10));
        let before = cache.generation();
        assert!(before.is_some() && cache.clone().generation() == before);
        assert!(other.generation() != before && cache.resized(20).generation() != before);
        assert_eq!(cache.resized(10).generation(), before);
        cache.clone().clear();
        assert!(cache.generation() != before && cache.generation() != other.generation());
        assert_eq!(Cache::new(0).generation(), None);
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
            for places in [100, 1024, 2047, 2048, 3072, 5120, 16384] {
                let (cache, key) = (Cache::new(places), key("a.example"));
                let empty = key.name.as_str().len() + text(0).unwrap().size();
                cache.keep(&key, &text(size - empty), TTL);
                assert_eq!(cache.places(&key), slots, "{size} in {places}");
                let share = cache.entries.as_ref().unwrap().shard_capacity();
                assert!(share >= 1024 || share == 100, "{share} of {places}");
            }
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

    /// What is done to a cache, or asked of it.
    #[derive(Clone, Debug)]
    enum Step {
        Keep { name: u8, size: usize, ttl: u64 },
        Parse { name: u8, size: usize },
        Wait(u64),
        Resize(usize),
        Clear,
    }

    /// The slots of a part that all names of the test have room in, each with the largest size.
    const ROOMY: usize = 2 * 40 * 64;

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![0_usize..200, 200..MAX_PARTS * ROOMY, MAX_PARTS * ROOMY..100_000]
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = 0_u8..40;
        prop_oneof![
            8 => (name.clone(), prop_oneof![3 => 0_usize..900, 1 => 0_usize..70_000], 0_u64..20)
                .prop_map(|(name, size, ttl)| Step::Keep { name, size, ttl }),
            4 => (name, prop_oneof![0_usize..2000, 0_usize..70_000])
                .prop_map(|(name, size)| Step::Parse { name, size }),
            2 => (0_u64..10).prop_map(Step::Wait),
            1 => sizes().prop_map(Step::Resize),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        /// The slow twin forgets nothing before its time. The cache may, where it has to make room;
        /// it never has more than fits in, and never something else.
        #[test]
        fn knows_what_the_slow_twin_knows(slots in sizes(), steps in vec(step(), 0..200)) {
            let (mut now, mut slots) = (Instant::now(), slots);
            let mut cache = Cache::new(slots);
            // The texts of each name, the number parsed from them, and when their time is over.
            let mut twin: HashMap<u8, (Texts, Option<usize>, Instant)> = HashMap::new();
            let key = |name: u8| Key { record_type: RecordType::Txt, ..key(&format!("{name}.example")) };
            // Whether there was room for all since the twin was empty.
            let mut is_roomy = slots >= MAX_PARTS * ROOMY;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Keep { name, size, ttl } => {
                        let texts = Texts::from([vec![b'x'; size].into()]);
                        let outcome = Ok(Answer::Txt(texts.clone()));
                        cache.keep_at(&key(name), &outcome, Duration::from_secs(ttl), now);
                        if ttl > 0 && super::slots(&key(name), &outcome, 0).is_some() {
                            twin.insert(name, (texts, None, now + Duration::from_secs(ttl)));
                        }
                    }
                    Step::Parse { name, size } => {
                        let (key, value) = (key(name), Arc::new(number));
                        let known = twin.get_mut(&name);
                        let other = Texts::from([b"other".as_slice().into()]);
                        let texts = known.as_ref().map_or(&other, |(texts, ..)| texts).clone();
                        let is_kept = cache.keep_parsed(&key.name, &texts, value, size);
                        match known {
                            Some((_, parsed, _)) if is_kept => *parsed = Some(number),
                            Some(_) => {}
                            None => prop_assert!(!is_kept, "{name} has no texts"),
                        }
                    }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Resize(other) => {
                        // What was parsed stays behind, unless the cache is the same.
                        if other != slots {
                            twin.values_mut().for_each(|(_, parsed, _)| *parsed = None);
                        }
                        (cache, slots) = (cache.resized(other), other);
                        is_roomy &= slots >= MAX_PARTS * ROOMY;
                    }
                    Step::Clear => {
                        cache.clear();
                        twin.clear();
                        is_roomy = slots >= MAX_PARTS * ROOMY;
                    }
                }
                // The parts of a cache may have a slot more than their share.
                prop_assert!(cache.weight() <= u64::try_from(slots + MAX_PARTS).unwrap());
                for name in 0..40 {
                    let found = cache.find_at(&key(name), now);
                    let known = twin.get(&name).filter(|(.., expires)| now < *expires);
                    match (found, known) {
                        (Some((Ok(Answer::Txt(found)), until)), Some((texts, parsed, expires))) => {
                            prop_assert!(found.is_same(texts) && until == *expires);
                            let found = found.parsed::<usize>().map(|number| *number);
                            prop_assert!(found.is_none() || found == *parsed);
                        }
                        (None, None) => {}
                        (None, Some(_)) => prop_assert!(!is_roomy, "{name} is lost"),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
        }
    }
}
