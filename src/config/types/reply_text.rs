//! Texts of replies: macro-strings of SPF with a few macros of our own.

use std::fmt;

use viaspf::record::ExplainString;

use super::value::{Parsed, ValueError, ValueErrors, quote, spell_as_displayed};

/// The text of a reply: an explain-string (RFC 7208 §7.1) in which macros of our own may stand.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyText {
    text: String,
    segments: Vec<ReplySegment>,
}

/// A part of a [`ReplyText`].
#[derive(Clone, Debug, PartialEq)]
pub enum ReplySegment {
    /// Text and macros of RFC 7208 §7.2.
    Explain(ExplainString),
    /// `%{exp}`: the explanation that the sender's domain published.
    Exp,
    /// `%{reason}`: why there was an error.
    Reason,
    /// `%{author_domain}`: the domain in From.
    AuthorDomain,
    /// `%{identity}`: the HELO name, marked as such, or the sender.
    Identity,
}

impl ReplyText {
    /// The parts, to be expanded and joined with nothing between them.
    pub fn segments(&self) -> &[ReplySegment] {
        &self.segments
    }
}

impl fmt::Display for ReplyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

spell_as_displayed!(ReplyText: FREE_TEXT);

/// Reads a text without macros of our own but `%{identity}`, which may stand in all texts.
pub(crate) fn plain(text: &str) -> Parsed<ReplyText> {
    reply_text(text, None)
}

/// Reads a text in which `%{exp}` may stand.
pub(crate) fn with_exp(text: &str) -> Parsed<ReplyText> {
    reply_text(text, Some(&ReplySegment::Exp))
}

/// Reads a text in which `%{reason}` may stand.
pub(crate) fn with_reason(text: &str) -> Parsed<ReplyText> {
    reply_text(text, Some(&ReplySegment::Reason))
}

/// Reads a text in which `%{author_domain}` may stand.
pub(crate) fn with_author_domain(text: &str) -> Parsed<ReplyText> {
    reply_text(text, Some(&ReplySegment::AuthorDomain))
}

/// The macros of our own.
static OWN_MACROS: [(&str, ReplySegment); 4] = [
    ("%{exp}", ReplySegment::Exp),
    ("%{reason}", ReplySegment::Reason),
    ("%{author_domain}", ReplySegment::AuthorDomain),
    ("%{identity}", ReplySegment::Identity),
];

// explain-string   = *( macro-string / SP )
// macro-string     = *( macro-expand / macro-literal )
// macro-expand     = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
// macro-literal    = %x21-24 / %x26-7E
// (RFC 7208 §7.1)
//
// Our own macros are cut out first; what is between them is read by the parser that reads published
// explanations.
fn reply_text(text: &str, allowed: Option<&ReplySegment>) -> Parsed<ReplyText> {
    let mut segments = Vec::new();
    let mut errors = ValueErrors::new();
    let mut explain = String::new();
    let mut rest = text;
    loop {
        let offset = text.len() - rest.len();
        if let Some((name, segment, behind)) = own_macro(rest) {
            if !is_allowed(segment, allowed) {
                errors.push(ValueError {
                    offset,
                    message: format!("{name} cannot be used here (expected {})", expected(allowed)),
                });
            } else if segments.contains(segment) {
                errors.push(ValueError {
                    offset,
                    message: format!("{name} is used twice (expected once)"),
                });
            }
            end_explain(&mut explain, &mut segments, &mut errors);
            segments.push(segment.clone());
            rest = behind;
            continue;
        }
        let mut chars = rest.chars();
        let Some(first) = chars.next() else { break };
        rest = match first {
            '%' => match read_macro(chars.as_str()) {
                Ok((whole, behind)) => {
                    explain.push_str(&whole);
                    behind
                }
                Err((message, behind)) => {
                    errors.push(ValueError {
                        offset,
                        message: format!("{message} (expected {})", expected(allowed)),
                    });
                    behind
                }
            },
            ' '..='~' => {
                explain.push(first);
                chars.as_str()
            }
            _ => {
                let message =
                    format!("{} in a reply (expected printable ASCII)", quote(&first.to_string()));
                errors.push(ValueError { offset, message });
                chars.as_str()
            }
        };
    }
    end_explain(&mut explain, &mut segments, &mut errors);
    if errors.is_empty() { Ok(ReplyText { text: text.into(), segments }) } else { Err(errors) }
}

/// Ends the explain-string before a macro of our own, or before the end. Its parts were found to be
/// good one by one.
fn end_explain(explain: &mut String, segments: &mut Vec<ReplySegment>, errors: &mut ValueErrors) {
    match std::mem::take(explain).parse::<ExplainString>() {
        Ok(part) if part.segments.is_empty() => {}
        Ok(part) => segments.push(ReplySegment::Explain(part)),
        Err(_) => errors.push(ValueError {
            offset: 0,
            message: format!("no macro-string (expected {})", expected(None)),
        }),
    }
}

/// A macro of our own at the beginning, and the text behind it.
fn own_macro(text: &str) -> Option<(&'static str, &'static ReplySegment, &str)> {
    OWN_MACROS
        .iter()
        .find_map(|(name, segment)| text.strip_prefix(name).map(|behind| (*name, segment, behind)))
}

/// The macro whose `%` stands before this text, and what is behind it; or what is wrong with it,
/// and the text to go on with.
fn read_macro(after: &str) -> Result<(String, &str), (String, &str)> {
    for escaped in ['%', '_', '-'] {
        if let Some(behind) = after.strip_prefix(escaped) {
            return Ok((format!("%{escaped}"), behind));
        }
    }
    let Some(inside) = after.strip_prefix('{') else {
        return Err(("'%' begins no macro".into(), after));
    };
    let Some((inside, behind)) = inside.split_once('}') else {
        return Err(("'%{' without '}'".into(), ""));
    };
    let whole = format!("%{{{inside}}}");
    match whole.parse::<ExplainString>() {
        Ok(_) => Ok((whole, behind)),
        Err(_) => Err((format!("{} is not a macro", quote(&whole)), behind)),
    }
}

/// The macros that a text may contain.
fn expected(allowed: Option<&ReplySegment>) -> String {
    let own = OWN_MACROS.iter().filter(|(_, segment)| is_allowed(segment, allowed));
    let own: String = own.map(|(name, _)| format!(", {name} once")).collect();
    format!("%% for '%', or a macro of RFC 7208 such as %{{o}}{own}")
}

/// Whether a macro of our own may stand in a text for which one is allowed.
fn is_allowed(segment: &ReplySegment, allowed: Option<&ReplySegment>) -> bool {
    *segment == ReplySegment::Identity || allowed == Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_our_macros() {
        let text = with_exp("%{o} explains: %{exp}!").unwrap();
        assert_eq!(
            text.segments(),
            [
                ReplySegment::Explain("%{o} explains: ".parse().unwrap()),
                ReplySegment::Exp,
                ReplySegment::Explain("!".parse().unwrap()),
            ]
        );
        assert_eq!(text.to_string(), "%{o} explains: %{exp}!");
        assert_eq!(with_reason("%{reason}").unwrap().segments(), [ReplySegment::Reason]);
        assert_eq!(plain("").unwrap().segments(), []);
        assert_eq!(
            with_exp("%%{exp}").unwrap().segments(),
            [ReplySegment::Explain("%%{exp}".parse().unwrap())]
        );
        assert_eq!(with_exp("%%%{exp}").unwrap().segments().len(), 2);
    }

    #[test]
    fn all_macros_of_spf_are_accepted() {
        for good in [
            "%{s} %{l} %{o} %{d} %{i} %{p} %{h} %{c} %{r} %{t} %{v}",
            "%{S} %{d1r.-+,/_=} %- %_ %{d128}",
            "a  b",
            "\"a\" = # \\ { }",
            "100%% sure",
        ] {
            assert_eq!(plain(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn errors_have_places() {
        for (text, offset) in [
            ("100% sure", 3),
            ("a%{x}", 1),
            ("%{D0}", 0),
            ("%{d999}", 0),
            ("%{EXP}", 0),
            ("%{ d}", 0),
            ("a %{d", 2),
            ("b\u{fc}cher", 1),
            ("a\tb", 1),
            ("x %{exp}", 2),
            ("%{reason}", 0),
            ("%{author_domain}", 0),
        ] {
            let errors = plain(text).unwrap_err();
            assert_eq!((errors.len(), errors[0].offset), (1, offset), "{text}: {errors:?}");
        }
        assert_eq!(with_exp("%{exp} %{exp}").unwrap_err()[0].offset, 7);
        assert_eq!(with_exp("%{exp} %{reason} % %{exp1r}").unwrap_err().len(), 3);
        assert!(with_reason("%{reason} %{reason}").is_err());
        assert!(with_author_domain("%{author_domain} of %{o}").is_ok());
        for read in [plain, with_exp, with_reason, with_author_domain] {
            assert_eq!(read("%{identity}").unwrap().segments(), [ReplySegment::Identity]);
            assert_eq!(read("%{identity} %{identity}").unwrap_err()[0].offset, 12);
        }
        assert!(with_author_domain("%{author_domain} %{author_domain}").is_err());
    }
}
