//! Messages that relays hand over: who their client is, their Received fields say.

use std::{net::Ipv4Addr, sync::Arc};

use tokio::time::Instant;

use super::{
    context::Context,
    recorder::Recorder,
    senders::{Helo, Sender, cut},
};
use crate::{
    mail::{
        envelope::ReversePath,
        received::{Outcome, Walk},
    },
    policy::{self, Exemption},
};

/// A message of a relay whose client is not known yet.
#[derive(Debug)]
pub(super) struct Relayed {
    walk: Walk,
    reverse_path: Vec<u8>,
}

impl Relayed {
    /// Begins a message of a relay: the client of the one before is no longer that of the session.
    pub(super) fn new(reverse_path: &[u8], context: &mut Context, recorder: &mut Recorder) -> Self {
        context.client = Ipv4Addr::UNSPECIFIED.into();
        context.mapped_helo = None;
        (recorder.client, recorder.inner, recorder.helo) = (None, None, None);
        Self { walk: Walk::new(true), reverse_path: reverse_path.to_vec() }
    }

    /// Looks at the next field of the header of a message that may be one of a relay; the answer is
    /// whether it is, and its client is certain by now.
    pub(super) fn look_at(
        message: &mut Option<Box<Self>>,
        context: &Context,
        name: &[u8],
        value: &[u8],
    ) -> bool {
        let Some(message) = message else { return false };
        if name.trim_ascii_end().eq_ignore_ascii_case(b"Received") {
            message.walk.read(value, |address| policy::is_inside(context.config(), address));
        }
        message.walk.is_over()
    }

    /// Begins to verify the client that the header names, from here on that of the session.
    ///
    /// # Errors
    ///
    /// Nothing of the message is verified.
    pub(super) fn begin(
        self,
        context: &mut Context,
        recorder: &mut Recorder,
    ) -> Result<(Option<Helo>, Sender), Exemption> {
        let path = ReversePath::parse(&self.reverse_path);
        let client = match self.walk.finish() {
            Outcome::Client(client) => client,
            Outcome::Authenticated => return Err(Exemption::AuthenticatedAtRelay),
            unknown => {
                let reason = Exemption::UnknownClient(unknown.as_str());
                return Ok((None, Sender::of_unknown_client(context, path, reason, recorder)));
            }
        };
        context.client = client.address;
        recorder.inner = context.map_client();
        recorder.client = Some(context.client);
        let helo = context.mapped_helo.clone().or(client.helo.map(Arc::from));
        let now = Instant::now();
        let helo = helo.map(|name| Helo::begin(context, now, cut(&name), recorder));
        recorder.helo = helo.as_ref().map(|helo| helo.name.clone());
        let sender = Sender::begin(context, now, path, helo.as_ref());
        Ok((helo, sender))
    }
}
