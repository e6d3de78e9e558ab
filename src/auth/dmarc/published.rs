//! DMARC records in DNS.

use std::sync::Arc;

use super::{
    outcome::Problem,
    record::{Psd, Record},
};
use crate::{
    dns::{Dns, Name},
    mail::domain::Domain,
};

/// The record at one name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Published {
    /// No DMARC record.
    Nothing,
    /// One.
    One(Arc<Record>),
    /// Several, which are all discarded (RFC 9989 §4.10, step 2).
    Several,
}

impl Published {
    /// The `psd` of the record; `None` where there is no record.
    pub(super) fn psd(&self) -> Option<Psd> {
        match self {
            Self::One(record) => Some(record.psd),
            Self::Nothing | Self::Several => None,
        }
    }
}

/// Asks for what is published for a domain.
pub(super) async fn query(dns: &Dns, domain: &Domain) -> Result<Published, Problem> {
    // A name that is too long cannot exist.
    let Some(name) = Name::new(&format!("_dmarc.{domain}")) else { return Ok(Published::Nothing) };
    match dns.txt(&name).await {
        Ok(texts) => {
            let mut records = texts.iter().filter_map(|text| Record::parse(text));
            Ok(match (records.next(), records.next()) {
                (None, _) => Published::Nothing,
                (Some(record), None) => Published::One(Arc::new(record)),
                (Some(_), Some(_)) => Published::Several,
            })
        }
        Err(failure) if failure.is_void() => Ok(Published::Nothing),
        Err(failure) => Err(Problem::Lookup(name, failure)),
    }
}

/// Whether a domain exists (RFC 9989 §3.2.13): it does unless DNS denies the name itself. An alias
/// exists, whatever it is an alias of.
pub(super) async fn exists(dns: &Dns, domain: &Domain) -> Result<bool, Problem> {
    let name = Name::from(domain);
    dns.exists(&name).await.map_err(|failure| Problem::Lookup(name, failure))
}
