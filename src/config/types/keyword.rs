//! Values that are one of a few keywords.

use super::value::{Parsed, refuse, spell_as_displayed};
use crate::mail::results::{Words, words};

words! {
    /// The answer to the MTA when the milter could not do its work on a message.
    ErrorAction {
        /// To try again later.
        Tempfail = "tempfail",
        /// To go on without it.
        Accept = "accept",
    }

    /// Where log messages go.
    LogDestination {
        /// To the syslog daemon.
        Syslog = "syslog",
        /// To standard error.
        Stderr = "stderr",
    }

    /// The form of log messages.
    LogFormat {
        /// Pairs `key=value`, and sentences.
        Text = "text",
        /// An object of JSON in each line.
        Json = "json",
    }

    /// The least important log messages that are written.
    LogLevel {
        /// Trouble that keeps the milter from its work.
        Error = "error",
        /// Trouble that an administrator should look at.
        Warn = "warn",
        /// Records of messages, and the course of the daemon.
        Info = "info",
        /// Details that help to find a fault.
        Debug = "debug",
    }

    /// A facility of syslog, in the order of the codes (RFC 5424 §6.2.1).
    SyslogFacility {
        /// The kernel.
        Kern = "kern",
        /// User programs.
        User = "user",
        /// The mail system.
        Mail = "mail",
        /// System daemons.
        Daemon = "daemon",
        /// Security and authorization.
        Auth = "auth",
        /// The syslog daemon itself.
        Syslog = "syslog",
        /// The printing system.
        Lpr = "lpr",
        /// The news system.
        News = "news",
        /// UUCP.
        Uucp = "uucp",
        /// The clock daemon.
        Cron = "cron",
        /// Security and authorization, private.
        Authpriv = "authpriv",
        /// The FTP daemon.
        Ftp = "ftp",
        /// Local use 0.
        Local0 = "local0",
        /// Local use 1.
        Local1 = "local1",
        /// Local use 2.
        Local2 = "local2",
        /// Local use 3.
        Local3 = "local3",
        /// Local use 4.
        Local4 = "local4",
        /// Local use 5.
        Local5 = "local5",
        /// Local use 6.
        Local6 = "local6",
        /// Local use 7.
        Local7 = "local7",
    }

    /// What follows from something about a message, from mild to strict.
    Action {
        /// It is recorded.
        None = "none",
        /// It is recorded, and a header field marks the message (`tag_header`).
        Tag = "tag",
        /// The MTA keeps the message back.
        Quarantine = "quarantine",
        /// The message is refused for now: the client may try again.
        Defer = "defer",
        /// The message is refused.
        Reject = "reject",
    }

    /// A policy that holds for an author domain instead of the published one.
    OwnPolicy {
        /// Nothing is asked for.
        None = "none",
        /// The message is to be treated as suspicious.
        Quarantine = "quarantine",
        /// The message is to be rejected.
        Reject = "reject",
    }

    /// The mailing lists whose messages are exempt from the actions on DMARC.
    MailingLists {
        /// None.
        No = "no",
        /// Those that authenticate themselves.
        Authenticated = "authenticated",
        /// All that say they are one.
        Yes = "yes",
    }

    /// A header field that the milter can add.
    HeaderName {
        /// RFC 7208 §9.1.
        ReceivedSpf = "Received-SPF",
        /// RFC 8601.
        AuthenticationResults = "Authentication-Results",
    }
}

spell_as_displayed!(
    ErrorAction,
    LogDestination,
    LogFormat,
    LogLevel,
    SyslogFacility,
    Action,
    MailingLists,
    OwnPolicy,
    HeaderName
);

impl SyslogFacility {
    /// The numerical code (RFC 5424 §6.2.1); 12 to 15, before `local0`, belong to no keyword here.
    pub fn code(self) -> u8 {
        let position = self as u8;
        if self < Self::Local0 { position } else { position + 4 }
    }
}

/// Reads a keyword.
pub(crate) fn keyword<T: Words>(text: &str) -> Parsed<T> {
    find(text, T::ALL, |word| word == text)
}

/// Reads an action, one of those that a parameter allows.
pub(crate) fn action(text: &str, allowed: &[Action]) -> Parsed<Action> {
    let all = Action::ALL.iter().filter(|(action, _)| allowed.contains(action));
    find(text, &all.copied().collect::<Vec<_>>(), |word| word == text)
}

/// Reads the name of a header field, in upper or lower case.
pub(crate) fn header_name(text: &str) -> Parsed<HeaderName> {
    find(text, HeaderName::ALL, |word| word.eq_ignore_ascii_case(text))
}

fn find<T: Words>(
    text: &str,
    allowed: &[(T, &'static str)],
    condition: impl Fn(&str) -> bool,
) -> Parsed<T> {
    match allowed.iter().find(|(_, word)| condition(word)) {
        Some((value, _)) => Ok(*value),
        None => {
            let words: Vec<_> = allowed.iter().map(|(_, word)| *word).collect();
            refuse(text, "is unknown", one_of(&words))
        }
    }
}

/// Joins words as a sentence does: `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).into(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_refused() {
        assert_eq!(keyword("warn"), Ok(LogLevel::Warn));
        assert_eq!(
            keyword::<LogLevel>("Warn").unwrap_err()[0].message,
            "'Warn' is unknown (expected error, warn, info or debug)"
        );
        assert_eq!(header_name("received-spf"), Ok(HeaderName::ReceivedSpf));
        assert!(LogLevel::Error < LogLevel::Debug);
        assert!(Action::Tag < Action::Quarantine && Action::Quarantine < Action::Defer);
        assert_eq!(action("tag", &[Action::None, Action::Tag]), Ok(Action::Tag));
        assert_eq!(
            action("reject", &[Action::None, Action::Tag]).unwrap_err()[0].message,
            "'reject' is unknown (expected none or tag)"
        );
    }

    #[test]
    fn facilities_have_the_codes_of_syslog() {
        for (facility, word) in SyslogFacility::ALL {
            let theirs: syslog::Facility = word.parse().unwrap();
            assert_eq!(u32::from(facility.code()) << 3, theirs as u32, "{facility}");
        }
    }
}
