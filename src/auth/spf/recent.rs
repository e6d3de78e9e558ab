//! The outcomes that a thread took last from those that are kept with records, to find them again with a
//! look at one place.
//!
//! The way through the cache to the record of a domain goes from one part of memory to the next. Each
//! thread remembers where it led, for a number of domains and clients that is bounded: what comes often
//! comes at once. Whoever makes others share a place with his domains makes them take the longer way,
//! and no other outcome.
//!
//! An outcome holds until the time of its answers is over. Now and then it is looked for in the cache all
//! the same: so the cache knows that the record is asked for and keeps it, and if it has lost it, the
//! check is made anew.

use std::{cell::RefCell, net::IpAddr, sync::Arc};

use tokio::time::Instant;

use super::{limits::Limits, outcome::Outcome};
use crate::mail::domain::Domain;

/// The places of a thread: pairs, of which an outcome may be in one, a power of two.
const PLACES: usize = 2048;
const PAIRS: usize = PLACES / 2;

/// How often an outcome is found before it is looked for in the cache again.
const USES: u8 = 31;

/// The most octets of a domain that is remembered; few that send mail have more.
const MAX_NAME: usize = 47;

thread_local! {
    static RECENT: RefCell<Vec<[Option<Recent>; 2]>> = const { RefCell::new(Vec::new()) };
}

/// What an outcome is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The generation of the cache ([`Dns::generation`](crate::dns::Dns::generation)).
    pub(super) generation: u64,
    pub(super) domain: &'a Domain,
    /// The canonical address of the client.
    pub(super) client: IpAddr,
    pub(super) limits: &'a Limits,
}

/// An outcome, and what it holds for, all in one place: what is looked for in memory that was not used a
/// moment ago is slow to come.
#[repr(align(64))]
#[derive(Debug)]
struct Recent {
    generation: u64,
    client: IpAddr,
    limits: [usize; 2],
    until: Instant,
    outcome: Arc<Outcome>,
    /// How often it is still found.
    uses: u8,
    /// The octets of the domain, of which there are so many.
    name: [u8; MAX_NAME],
    length: u8,
}

/// The outcome that this thread remembers, if it holds at this time and need not be looked for in the
/// cache.
pub(super) fn find(asked: &Asked<'_>, now: Instant) -> Option<Arc<Outcome>> {
    RECENT.with_borrow_mut(|pairs| {
        let mut pair = pairs.get_mut(asked.pair())?.iter_mut().flatten();
        let recent = pair.find(|recent| recent.is_for(asked))?;
        recent.uses = recent.uses.checked_sub(1)?;
        (now < recent.until).then(|| Arc::clone(&recent.outcome))
    })
}

/// Remembers an outcome that holds until then, in place of another if need be.
pub(super) fn keep(asked: &Asked<'_>, outcome: &Arc<Outcome>, until: Instant) {
    let octets = asked.domain.as_str().as_bytes();
    let mut name = [0; MAX_NAME];
    let (Some((beginning, _)), Ok(length)) =
        (name.split_at_mut_checked(octets.len()), u8::try_from(octets.len()))
    else {
        return;
    };
    beginning.copy_from_slice(octets);
    let Asked { generation, client, .. } = *asked;
    let (limits, outcome) = (asked.limits.allowed(), Arc::clone(outcome));
    let recent = Recent { generation, client, limits, until, outcome, uses: USES, name, length };
    RECENT.with_borrow_mut(|pairs| {
        if pairs.is_empty() {
            pairs.resize_with(PAIRS, Default::default);
        }
        if let Some([newest, older]) = pairs.get_mut(asked.pair()) {
            // One that is not for the same stays, in place of the older one.
            let before = newest.replace(recent).filter(|before| !before.is_for(asked));
            *older = before.or_else(|| older.take().filter(|older| !older.is_for(asked)));
        }
    });
}

impl Asked<'_> {
    /// The pair of places that the outcome may be in.
    fn pair(&self) -> usize {
        // Odd, and with bits as if by chance: those of the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |hash: u64, number: u64| (hash ^ number).wrapping_mul(FACTOR).rotate_left(29);
        let client = match self.client {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                // Both halves.
                mix((bits >> 64) as u64, bits as u64)
            }
        };
        let (words, rest) = self.domain.as_str().as_bytes().as_chunks::<8>();
        let hash = words.iter().fold(client, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let rest = rest.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        // Less than the number of pairs.
        (mix(hash, rest) % PAIRS as u64) as usize
    }
}

impl Recent {
    fn is_for(&self, asked: &Asked<'_>) -> bool {
        let name = self.name.split_at_checked(self.length.into()).map(|(name, _)| name);
        name == Some(asked.domain.as_str().as_bytes())
            && self.client == asked.client
            && self.generation == asked.generation
            && self.limits == asked.limits.allowed()
    }
}

/// Forgets all, as another thread would not know it.
#[cfg(test)]
pub(super) fn forget() {
    RECENT.take();
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        net::{Ipv4Addr, Ipv6Addr},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::mail::results::SpfResult;

    /// No cache has these generations.
    const OWN: u64 = u64::MAX - 3;

    fn any_client() -> impl Strategy<Value = IpAddr> {
        let few = (0_u32..4).prop_map(|number| Ipv4Addr::from_bits(number).into());
        let odd = (0_u128..4).prop_map(|number| IpAddr::from((number << 100 | 1).to_be_bytes()));
        prop_oneof![3 => few, 1 => odd]
    }

    proptest! {
        /// The slow twin forgets nothing that holds. A thread may, where two share a place.
        #[test]
        fn outcomes_are_those_of_the_slow_twin(
            steps in prop::collection::vec(
                (any::<bool>(), OWN..OWN + 3, "[ab]{1,2}|[a-c]{45,49}", any_client(), 9_usize..11, 0_u64..9),
                1..200,
            ),
        ) {
            forget();
            let (begin, mut twin) = (Instant::now(), HashMap::new());
            for (number, (keeps, generation, name, client, max_lookups, seconds)) in steps.into_iter().enumerate() {
                let domain = Domain::parse(&name).unwrap();
                let limits = Limits { max_lookups, ..Limits::default() };
                let asked = Asked { generation, domain: &domain, client, limits: &limits };
                let key = (generation, domain.clone(), client, max_lookups);
                let time = begin + Duration::from_secs(seconds);
                if keeps {
                    let mut outcome = Outcome::without_record(SpfResult::Pass, None);
                    outcome.lookups = number;
                    let outcome = Arc::new(outcome);
                    keep(&asked, &outcome, time);
                    let is_short = name.len() <= MAX_NAME;
                    prop_assert_eq!(find(&asked, begin), (seconds > 0 && is_short).then(|| Arc::clone(&outcome)));
                    if is_short {
                        twin.insert(key, (outcome, time));
                    }
                } else if let Some(outcome) = find(&asked, time) {
                    let known = twin.get(&key).filter(|(_, until)| time < *until);
                    prop_assert_eq!(Some(&outcome), known.map(|(outcome, _)| outcome));
                }
            }
        }
    }

    /// What is found often is looked for in the cache in between.
    #[test]
    fn outcomes_are_found_so_often() {
        forget();
        let (domain, limits, now) =
            (Domain::parse("a.example").unwrap(), Limits::default(), Instant::now());
        let client = Ipv4Addr::LOCALHOST.into();
        let asked = Asked { generation: OWN, domain: &domain, client, limits: &limits };
        let outcome = Arc::new(Outcome::without_record(SpfResult::Pass, None));
        for _ in 0..2 {
            keep(&asked, &outcome, now + Duration::from_secs(1));
            for _ in 0..USES {
                assert_eq!(find(&asked, now), Some(Arc::clone(&outcome)));
            }
            assert_eq!((find(&asked, now), find(&asked, now)), (None, None));
        }
    }

    /// Names and clients as they come do not share a few places.
    #[test]
    fn places_are_spread() {
        let limits = &Limits::default();
        for (names, clients) in [(1_000, 1), (1, 1_000), (100, 10)] {
            let mut taken = [HashSet::new(), HashSet::new()];
            for (name, client) in (0..names).flat_map(|name| (0..clients).map(move |it| (name, it)))
            {
                let domain = &Domain::parse(&format!("out{name}.example.com")).unwrap();
                let addresses = [
                    Ipv4Addr::from_bits(0xc000_0200 + client).into(),
                    Ipv6Addr::from_bits((0x2001_0db8_0000 + u128::from(client)) << 80).into(),
                ];
                for (client, taken) in addresses.into_iter().zip(&mut taken) {
                    taken.insert(Asked { generation: 1, domain, client, limits }.pair());
                }
            }
            // By chance it would be about 639 of them.
            for taken in taken {
                assert!(taken.len() > 575, "{names} names, {clients} clients: {}", taken.len());
            }
        }
    }
}
