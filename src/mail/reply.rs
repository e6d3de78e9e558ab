//! SMTP replies: code, enhanced status code and a text that is safe to send.

use std::{fmt, str::FromStr};

/// The most octets of a reply line, with code and CRLF (RFC 5321 §4.5.3.1.5).
pub const MAX_REPLY_LINE: usize = 512;

/// The most octets of a reply's text that an MTA takes from a milter, with each `%` doubled
/// (libmilter, `smfi_setreply`).
const MAX_TEXT_FOR_MTA: usize = 980;

/// A reply code that refuses something: 4yz for now, 5yz for good (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ReplyCode(u16);

/// An enhanced status code of class 4 or 5 (RFC 3463 §2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EnhancedStatusCode {
    class: u8,
    subject: u16,
    detail: u16,
}

/// The text is not a reply code or enhanced status code that refuses something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadCode;

impl ReplyCode {
    /// 451: the action was not taken, the client may try again (RFC 5321 §4.2.3).
    pub const TRY_AGAIN: Self = Self(451);

    /// 550: the action was not taken, for reasons of policy (RFC 5321 §4.2.3).
    pub const REFUSED: Self = Self(550);

    /// The first digit, 4 or 5. That of the enhanced status code must be the same (RFC 2034 §4).
    pub fn class(self) -> u8 {
        if self.is_temporary() { 4 } else { 5 }
    }

    /// The code as a number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// Whether the client may try again.
    pub fn is_temporary(self) -> bool {
        self.0 < 500
    }
}

impl FromStr for ReplyCode {
    type Err = BadCode;

    // Reply-code = %x32-35 %x30-35 %x30-39 (RFC 5321 §4.2), of which 4 and 5 refuse
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            [b'4' | b'5', b'0'..=b'5', b'0'..=b'9'] => text.parse().map(Self).map_err(|_| BadCode),
            _ => Err(BadCode),
        }
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EnhancedStatusCode {
    /// 4.7.26: several checks of authentication failed, for now (RFC 7372 §3.4).
    pub const DMARC_TEMPERROR: Self = Self { class: 4, subject: 7, detail: 26 };

    /// 5.7.1: delivery not authorized, message refused (RFC 3463 §3.8).
    pub const NOT_AUTHORIZED: Self = Self { class: 5, subject: 7, detail: 1 };

    /// The first number, 4 or 5.
    pub fn class(self) -> u8 {
        self.class
    }

    /// The same for now: the next attempt may be successful.
    pub fn for_now(self) -> Self {
        Self { class: 4, ..self }
    }
}

impl FromStr for EnhancedStatusCode {
    type Err = BadCode;

    // status-code = class "." subject "." detail, class = "2" / "4" / "5", subject = detail =
    // 1*3digit (RFC 3463 §2)
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadCode);
        };
        let class = match class {
            "4" => 4,
            "5" => 5,
            _ => return Err(BadCode),
        };
        Ok(Self { class, subject: status_number(subject)?, detail: status_number(detail)? })
    }
}

/// Reads up to three digits without leading zeros (RFC 3463 §2).
fn status_number(text: &str) -> Result<u16, BadCode> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(BadCode);
    }
    text.parse().map_err(|_| BadCode)
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply that refuses a command: one line that any SMTP client can read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    code: ReplyCode,
    status: EnhancedStatusCode,
    text: String,
}

impl Reply {
    /// Makes a reply; the text becomes one line of printable ASCII.
    ///
    /// Every character that is none, which includes line ends and what comes from DNS in other
    /// scripts, becomes `?` (RFC 7208 §6.2, §8.4), and what would not fit on the line is cut off.
    pub fn new(code: ReplyCode, status: EnhancedStatusCode, text: &str) -> Self {
        let mut room = MAX_REPLY_LINE.saturating_sub(format!("{code} {status} \r\n").len());
        let mut room_for_mta = MAX_TEXT_FOR_MTA;
        let fits = |c: &char| {
            let sizes =
                (room.checked_sub(1), room_for_mta.checked_sub(if *c == '%' { 2 } else { 1 }));
            let (Some(left), Some(left_for_mta)) = sizes else { return false };
            (room, room_for_mta) = (left, left_for_mta);
            true
        };
        let printable = |c| match c {
            ' '..='~' => c,
            '\t' => ' ',
            _ => '?',
        };
        let text = text.chars().map(printable).take_while(fits).collect();
        Self { code, status, text }
    }

    /// The reply code.
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code.
    pub fn status(&self) -> EnhancedStatusCode {
        self.status
    }

    /// The text after the codes, as the client shall see it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text for the milter protocol, where the MTA takes `%` for the beginning of a format and
    /// `%%` for `%`.
    ///
    /// It may be longer than a reply line, up to 980 octets; the reply that the MTA makes of it is
    /// not.
    pub fn text_for_mta(&self) -> String {
        self.text.replace('%', "%%")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.status, self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    #[test]
    fn reply_codes() {
        for good in ["421", "450", "500", "550", "559"] {
            assert_eq!(good.parse::<ReplyCode>().unwrap().to_string(), good);
        }
        for bad in
            ["", "250", "354", "560", "599", "600", "55", "5500", "+55", "4xx", "0550", "５50"]
        {
            assert_eq!(bad.parse::<ReplyCode>(), Err(BadCode), "{bad}");
        }
        assert_eq!("451".parse::<ReplyCode>().unwrap().class(), 4);
        assert_eq!("550".parse::<ReplyCode>().unwrap().class(), 5);
    }

    #[test]
    fn enhanced_status_codes() {
        for good in ["4.0.0", "5.7.1", "5.7.23", "5.999.999"] {
            assert_eq!(good.parse::<EnhancedStatusCode>().unwrap().to_string(), good);
        }
        for bad in [
            "", "5", "5.7", "5.7.", "5.7.1.1", "2.0.0", "5.07.1", "5.7.1000", "5.+7.1", "5. 7.1",
            "55.7.1",
        ] {
            assert_eq!(bad.parse::<EnhancedStatusCode>(), Err(BadCode), "{bad}");
        }
        assert_eq!("4.7.24".parse::<EnhancedStatusCode>().unwrap().class(), 4);
    }

    fn reply(text: &str) -> Reply {
        Reply::new("550".parse().unwrap(), "5.7.23".parse().unwrap(), text)
    }

    #[test]
    fn text_is_one_safe_line() {
        assert_eq!(reply("100% sure").to_string(), "550 5.7.23 100% sure");
        assert_eq!(reply("100% sure").text_for_mta(), "100%% sure");
        assert_eq!(reply("a\r\n250 ok\tb\u{0}\u{7f}ü").text(), "a??250 ok b???");
        assert_eq!(reply("").to_string(), "550 5.7.23 ");
        assert_eq!(reply(&"ü%".repeat(600)).to_string().len() + 2, MAX_REPLY_LINE);
        // One octet less than, as many as, and one more than a line has, and than an MTA takes with
        // each `%` doubled.
        for (length, kept) in [(498, 498), (499, 499), (500, 499), (1000, 499)] {
            assert_eq!(reply(&"x".repeat(length)).text().len(), kept, "{length}");
        }
        for (length, kept) in [(489, 489), (490, 490), (491, 490), (1000, 490)] {
            assert_eq!(reply(&"%".repeat(length)).text().len(), kept, "{length}");
        }
        assert_eq!(reply(&"%".repeat(491)).text_for_mta().len(), MAX_TEXT_FOR_MTA);
        assert_eq!(
            reply(&("x".to_owned() + &"%".repeat(491))).text_for_mta().len(),
            MAX_TEXT_FOR_MTA - 1
        );
    }

    proptest! {
        #[test]
        fn any_text_fits_a_reply_line(text in "(\\PC|%|[\\x00-\\x1f]){0,1200}") {
            let reply = reply(&text);
            let line = reply.to_string();
            assert!(line.len() + 2 <= MAX_REPLY_LINE);
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)));
            assert_eq!(reply.text_for_mta().replace("%%", "%"), reply.text());
            assert!(reply.text_for_mta().len() <= MAX_TEXT_FOR_MTA);
        }
    }
}
