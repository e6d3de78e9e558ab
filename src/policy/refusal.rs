//! Decisions that need a reply.

/// Why something is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The SPF result of the identity is one that is rejected.
    Spf,
    /// The DMARC policy of the author domain asks for it.
    Dmarc,
    /// DMARC had DNS trouble: the next attempt may bring a pass.
    DmarcTemperror,
    /// More fields claim to be ours than are deleted: one of them would stay.
    ForgedResults,
}
