//! The macros of an MTA, as far as they matter here.

use indymilter::message::command::CommandKind;
use smallvec::SmallVec;

/// The stages that macros are defined for, by the commands that begin them, in the order of SMTP.
const STAGES: &[u8] = b"CHMRTNE";

/// A macro that matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Macro {
    /// `j`: the name of the host of the MTA.
    Host,
    /// `i`: the queue id of the message.
    QueueId,
    /// `{auth_authen}`: the name that the client authenticated with.
    Authenticated,
}

impl Macro {
    /// Names of one letter are sent with braces and without.
    fn of_name(name: &[u8]) -> Option<Self> {
        match name {
            b"j" | b"{j}" => Some(Self::Host),
            b"i" | b"{i}" => Some(Self::QueueId),
            b"{auth_authen}" => Some(Self::Authenticated),
            _ => None,
        }
    }
}

/// The macros that are defined now.
#[derive(Debug, Default)]
pub(super) struct Macros {
    /// Hardly ever more than the name of the host, the queue id of two stages and a name that was
    /// authenticated.
    definitions: SmallVec<[Definition; 4]>,
}

#[derive(Debug)]
struct Definition {
    /// Its index in [`STAGES`].
    stage: u8,
    name: Macro,
    /// Queue ids are shorter, and most names of hosts are.
    value: SmallVec<[u8; 24]>,
}

impl Macros {
    /// Takes the content of a packet that defines macros: all those of its stage, which may be
    /// none.
    ///
    /// ```text
    /// content = stage *( name NUL value NUL )
    /// ```
    pub(super) fn define(&mut self, content: &[u8]) {
        let Some((&command, definitions)) = content.split_first() else { return };
        let Some(stage) = position(command) else { return };
        self.definitions.retain(|definition| definition.stage != stage);
        let mut texts = definitions
            .split_inclusive(|&octet| octet == 0)
            .filter_map(|text| text.strip_suffix(&[0]));
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            // Of a name that is there twice the first counts.
            if let Some(name) = Macro::of_name(name)
                && !self
                    .definitions
                    .iter()
                    .any(|definition| definition.stage == stage && definition.name == name)
            {
                let value = SmallVec::from_slice(value);
                self.definitions.push(Definition { stage, name, value });
            }
        }
    }

    /// A command comes. One that begins a stage ends the macros of later ones, which belong to what
    /// came before; one that begins another session, or the conversation, ends all.
    pub(super) fn begin(&mut self, command: CommandKind) {
        match command {
            CommandKind::QuitNc | CommandKind::OptNeg => self.definitions.clear(),
            CommandKind::ConnInfo | CommandKind::Helo | CommandKind::Mail | CommandKind::Rcpt => {
                let stage = position(command.into());
                self.definitions.retain(|definition| Some(definition.stage) <= stage);
            }
            _ => {}
        }
    }

    /// The value of a macro, from the latest stage that has one.
    pub(super) fn get(&self, name: Macro) -> Option<&[u8]> {
        let named = self.definitions.iter().filter(|definition| definition.name == name);
        named.max_by_key(|definition| definition.stage).map(|definition| &*definition.value)
    }
}

/// The index of a command in [`STAGES`].
fn position(command: u8) -> Option<u8> {
    (0..).zip(STAGES).find(|(_, stage)| **stage == command).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn values(macros: &Macros) -> [Option<&str>; 3] {
        [Macro::Host, Macro::QueueId, Macro::Authenticated]
            .map(|name| macros.get(name).map(|value| str::from_utf8(value).unwrap()))
    }

    #[test]
    fn definitions() {
        let mut macros = Macros::default();
        macros.define(b"C{daemon_name}\0smtpd\0j\0mx.example\0v\0Postfix\0");
        macros.define(b"M{i}\0A1\0{auth_authen}\0user\0i\0A2\0");
        assert_eq!(values(&macros), [Some("mx.example"), Some("A1"), Some("user")]);
        macros.define(b"Ei\0B1\0");
        assert_eq!(values(&macros), [Some("mx.example"), Some("B1"), Some("user")]);
        // Another message, of another client, for which the MTA has nothing to define.
        macros.define(b"M");
        macros.begin(CommandKind::Mail);
        assert_eq!(values(&macros), [Some("mx.example"), None, None]);
        macros.define(b"C{j}\0mx2.example\0");
        assert_eq!(values(&macros), [Some("mx2.example"), None, None]);
    }

    proptest! {
        /// The slow twin has a value for each stage and macro. More definitions and longer values come than
        /// there is room for without further memory.
        #[test]
        fn values_are_those_of_the_slow_twin(
            packets in prop::collection::vec(
                (0..STAGES.len(), any::<bool>(), prop::collection::vec((0..4_usize, "[a-z]{0,50}"), 0..5)),
                1..40,
            ),
        ) {
            const NAMES: [(&str, Option<Macro>); 4] = [
                ("j", Some(Macro::Host)),
                ("i", Some(Macro::QueueId)),
                ("{auth_authen}", Some(Macro::Authenticated)),
                ("v", None),
            ];
            let (mut macros, mut twin) = (Macros::default(), BTreeMap::new());
            for (stage, begins, values) in packets {
                let command = STAGES[stage];
                let mut content = vec![command];
                twin.retain(|(of, _), _| *of != stage);
                for (name, value) in values {
                    let (text, known) = NAMES[name];
                    content.extend([text.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
                    if known.is_some() {
                        twin.entry((stage, name)).or_insert(value);
                    }
                }
                macros.define(&content);
                if begins {
                    macros.begin(CommandKind::try_from(command).unwrap());
                    // Commands from DATA on end no stage.
                    if b"CHMR".contains(&command) {
                        twin.retain(|(of, _), _| *of <= stage);
                    }
                }
                for (name, (_, known)) in NAMES.iter().enumerate() {
                    let Some(known) = known else { continue };
                    let latest = twin.iter().rfind(|((_, of), _)| *of == name);
                    let found = macros.get(*known);
                    prop_assert_eq!(found, latest.map(|(_, value)| value.as_bytes()));
                }
            }
        }
    }

    #[test]
    fn stages_end_with_earlier_ones() {
        let mut macros = Macros::default();
        for stage in STAGES {
            macros.define(&[&[*stage], b"i\0".as_slice(), &[*stage], b"\0"].concat());
        }
        let mut left = Vec::new();
        for command in b"RMHC" {
            macros.begin(CommandKind::try_from(*command).unwrap());
            left.push(macros.get(Macro::QueueId).unwrap().to_vec());
        }
        assert_eq!(left, [b"R", b"M", b"H", b"C"]);
        // Other commands belong to the stage that they come in.
        for command in b"TLNBEAUQ" {
            macros.begin(CommandKind::try_from(*command).unwrap());
        }
        assert_eq!(macros.get(Macro::QueueId), Some(b"C".as_slice()));
        macros.begin(CommandKind::QuitNc);
        assert_eq!(macros.get(Macro::QueueId), None);
    }

    #[test]
    fn odd_packets() {
        for odd in [
            b"".as_slice(),
            b"X",
            b"Xi\0x\0",
            b"Mi",
            b"Mi\0",
            b"Mi\0x",
            b"M\0\0",
            b"Mj\0",
            b"M\0i\0x\0",
            b"M\xff\0\xff\0",
        ] {
            let mut macros = Macros::default();
            macros.define(odd);
            assert_eq!(values(&macros), [None; 3], "{odd:?}");
        }
        let mut macros = Macros::default();
        macros.define(b"M{auth_authen}\0\0i\0x\0{auth_authen}\0y\0z");
        assert_eq!(values(&macros), [None, Some("x"), Some("")]);
    }
}
