//! File descriptors: how many may be open, and what they are for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::dns::MAX_QUERIES;

/// Descriptors for other things than connections and look-ups: the log, files.
const SPARE_DESCRIPTORS: usize = 32;

/// Descriptors of a thread, besides two for each socket, which are the socket and a connection that
/// waits for its turn.
const DESCRIPTORS_OF_A_THREAD: usize = 4;

/// Descriptors of a question to a name server: one for UDP or for TCP, and one to spare.
const DESCRIPTORS_OF_A_QUERY: usize = 2;

/// How many descriptors may be open; `None` where there is no limit.
///
/// Look-ups have a share that connections cannot take: without any, each message would be deferred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Descriptors(Option<usize>);

impl Descriptors {
    /// Raises the limit as far as the system lets us.
    pub(super) fn raise_limit() -> Self {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Self(None) };
        let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        Self(usize::try_from(if is_raised { hard } else { soft }).ok())
    }

    /// How many questions to name servers there are descriptors for.
    pub(super) fn queries(self) -> usize {
        self.0
            .map_or(MAX_QUERIES, |limit| (limit / 4 / DESCRIPTORS_OF_A_QUERY).clamp(1, MAX_QUERIES))
    }

    /// How many connections there are descriptors for, where so many are for monitoring.
    pub(super) fn connections(self, threads: usize, sockets: usize, monitoring: usize) -> usize {
        let in_use = SPARE_DESCRIPTORS
            + monitoring
            + self.queries() * DESCRIPTORS_OF_A_QUERY
            + threads * (DESCRIPTORS_OF_A_THREAD + 2 * sockets);
        self.0.map_or(usize::MAX, |limit| limit.saturating_sub(in_use).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out() {
        let share = |limit| {
            let descriptors = Descriptors(limit);
            (descriptors.connections(2, 3, 0), descriptors.queries())
        };
        for limit in [0, 3, 40, 100, 256, 1024, 4096, 16384, 1 << 20] {
            let (connections, queries) = share(Some(limit));
            assert!(connections >= 1 && (1..=MAX_QUERIES).contains(&queries));
            if limit >= 100 {
                let in_use =
                    connections + queries * DESCRIPTORS_OF_A_QUERY + SPARE_DESCRIPTORS + 20;
                assert!(in_use <= limit, "{limit}");
            }
        }
        assert_eq!(share(Some(1024)), (716, 128));
        assert_eq!(share(Some(16384)), (15308, 512));
        assert_eq!(share(None), (usize::MAX, 512));
        assert_eq!(Descriptors(Some(1024)).connections(2, 3, 25), 691);
    }
}
