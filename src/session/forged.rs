//! Incoming fields that claim to be ours.

use std::borrow::Cow;

use super::answer::Edit;
use crate::{
    config::Config,
    mail::auth_results::{self, OwnAuthservIds, arc_claims_authserv_id, claims_authserv_id},
    policy::Refusal,
};

/// Forged fields of a kind that are deleted from a message. A message with more is refused: what
/// each deletion costs an MTA grows with their number, and Postfix gives up after some ten thousand.
pub(super) const MAX_FORGED_FIELDS: usize = 100;

/// The fields of one message so far.
#[derive(Debug, Default)]
pub(super) struct Forged {
    /// Incoming Authentication-Results fields so far.
    results_seen: i32,
    /// Incoming ARC-Authentication-Results fields so far. This host adds none: one in its
    /// name is as forged as the others.
    arc_results_seen: i32,
    /// The fields that claim to be ours, as far as they are deleted: name, and number among the
    /// fields of that name.
    found: Vec<(&'static str, i32)>,
    /// Incoming fields that mark messages as ours do (`tag_header`), as far as they are deleted.
    tags: u8,
    /// What there is more of than is deleted.
    too_many: Option<Refusal>,
}

impl Forged {
    /// Looks at the next field of the header.
    pub(super) fn look_at(
        &mut self,
        name: &[u8],
        value: &[u8],
        own_ids: &OwnAuthservIds,
        tag_name: Option<&str>,
    ) {
        let name = name.trim_ascii_end();
        let (name, seen, is_forged) = if name.eq_ignore_ascii_case(auth_results::NAME.as_bytes()) {
            (auth_results::NAME, &mut self.results_seen, claims_authserv_id(value, own_ids))
        } else if name.eq_ignore_ascii_case(auth_results::ARC_NAME.as_bytes()) {
            (
                auth_results::ARC_NAME,
                &mut self.arc_results_seen,
                arc_claims_authserv_id(value, own_ids),
            )
        } else if tag_name.is_some_and(|tag| name.eq_ignore_ascii_case(tag.as_bytes())) {
            if self.tag_count() < MAX_FORGED_FIELDS {
                self.tags += 1;
            } else {
                self.too_many.get_or_insert(Refusal::ForgedTags);
            }
            return;
        } else {
            return;
        };
        *seen = seen.saturating_add(1);
        if !is_forged {
        } else if self.found.len() < MAX_FORGED_FIELDS {
            self.found.push((name, *seen));
        } else {
            self.too_many = Some(Refusal::ForgedResults);
        }
    }

    /// How many of Authentication-Results are deleted.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// How many fields that mark messages are deleted.
    pub(super) fn tag_count(&self) -> usize {
        usize::from(self.tags)
    }

    /// The refusal for what there is more of than is deleted.
    pub(super) fn too_many(&self) -> Option<Refusal> {
        self.too_many
    }

    /// The deletions, from last to first: so none of them changes the number of another.
    pub(super) fn deletions(&self, config: &Config) -> impl Iterator<Item = Edit> {
        let delete = |name, index| Edit::Delete { name, index };
        let tag = &config.tag_header;
        let tags = (1..=i32::from(self.tags))
            .rev()
            .map(move |index| delete(Cow::Owned(tag.clone()), index));
        let results = self.found.iter().rev().map(move |&(name, index)| delete(name.into(), index));
        results.chain(tags)
    }
}
