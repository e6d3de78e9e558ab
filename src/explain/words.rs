//! What each key and each word of a log line means.

use super::{dkim, line::LogLine};

/// What a pair means, in a sentence or two; `None` for one that is not known. The line tells what
/// the pair is about.
pub fn explain_pair(line: &LogLine, key: &str, value: &str) -> Option<String> {
    let sentence = match key {
        "identity" => identity(line, value)?.to_owned(),
        "result" => result(value)?.to_owned(),
        "action" => action(line, value)?.to_owned(),
        "reason" => reason(line, value)?.to_owned(),
        "problem" => problem(value)?,
        "cause" => cause(value)?,
        "dmarc" => dmarc(value)?.to_owned(),
        "iprev" => iprev(value)?.to_owned(),
        "spf" => format!("SPF of the sender in MAIL FROM, as DMARC counts it: {}", result(value)?),
        "policy" | "override" | "disposition" => policy(key, value)?,
        "dkim" => dkim::explain(value)?,
        "purpose" if value == "dmarc" => {
            "SPF's own rules left this identity out; it was verified for DMARC only.".into()
        }
        "dry-run" if value == "yes" => "The action was only logged, not carried out.".into(),
        "mechanism" if value == "default" => "No term of the SPF record matched the client.".into(),
        "lookups" | "void-lookups" | "deleted-authentication-results" | "deleted-tags" => {
            value.parse::<u64>().ok()?;
            count(key)?.to_owned()
        }
        "purpose" | "dry-run" => return None,
        _ => about(line, key)?.to_owned(),
    };
    Some(sentence)
}

/// Keys whose values are names, addresses or texts.
fn about(line: &LogLine, key: &str) -> Option<&'static str> {
    let has_dmarc = line.get("dmarc").is_some();
    Some(match key {
        "client-ip" => "The address of the client, as it was verified.",
        "inner-ip" => {
            "The address that the client has really: client_map has it verified as another."
        }
        "relay-ip" => {
            "The relay that handed over the message (trusted_relays); the client is the host that \
             the Received fields of the message name."
        }
        "domain" => "The domain whose SPF record was asked.",
        "envelope-from" => {
            "The sender that was verified: that of MAIL FROM, or postmaster at the HELO name where \
             MAIL FROM was empty."
        }
        "helo" => "The name that the client gave in HELO or EHLO.",
        "mechanism" => "The term of the SPF record that matched.",
        "policy-domain" if has_dmarc => "The domain whose DMARC record has the policy.",
        "policy-domain" => {
            "The domain whose SPF record has the term: the record of the sender's domain led there."
        }
        "detail" => "More about the problem; in parentheses the name servers that were asked.",
        "reply" => "The codes of the reply that the client got.",
        "recipient" => "The recipient who was refused, or how many more were.",
        "queue-id" => "The queue id of the MTA.",
        "level" => "How important the line is.",
        "message" => "What the line says.",
        "truncated" => "The line was too long: further keys are missing.",
        "client-name" => "The name of the client's address, which leads back to it.",
        "author-domain" => "The domain in From.",
        "list" => "The domain of the mailing list that the message comes from.",
        "hint" => "What to do if the message is one of your own.",
        "spf-domain" => {
            "The domain that has this SPF result. A pass helps only if it is aligned with the \
             domain in From."
        }
        "aligned-spf" => "DMARC passed with this domain, by SPF.",
        "aligned-dkim" => "DMARC passed with this domain, by its signature.",
        _ => return None,
    })
}

fn count(key: &str) -> Option<&'static str> {
    Some(match key {
        "lookups" => "So many terms of SPF records asked DNS; 10 are allowed by RFC 7208.",
        "void-lookups" => "So many of these terms found nothing in DNS.",
        "deleted-authentication-results" => {
            "So many header fields were deleted that claimed to be results of this host."
        }
        "deleted-tags" => {
            "So many header fields were deleted that looked like a mark of this host."
        }
        _ => return None,
    })
}

fn identity(line: &LogLine, value: &str) -> Option<&'static str> {
    let is_skipped = line.get("action") == Some("skip");
    Some(match (value, is_skipped) {
        ("helo", false) => "The HELO name was verified with SPF.",
        ("mailfrom", false) => "The sender in MAIL FROM was verified with SPF.",
        ("helo", true) => "The HELO name was not verified.",
        ("mailfrom", true) => "The sender in MAIL FROM was not verified.",
        _ => return None,
    })
}

/// The results of SPF.
fn result(value: &str) -> Option<&'static str> {
    Some(match value {
        "none" => "the domain has no SPF record that could be used.",
        "neutral" => "the domain says nothing about this client.",
        "pass" => "the domain permits this client.",
        "fail" => "the domain does not permit this client.",
        "softfail" => "the domain probably does not permit this client.",
        "temperror" => "DNS had trouble that may go away.",
        "permerror" => "the SPF record of the domain cannot be evaluated.",
        _ => return None,
    })
}

fn dmarc(value: &str) -> Option<&'static str> {
    Some(match value {
        "none" => "No DMARC policy applies to the domain in From.",
        "pass" => "DMARC passed: the domain in From is authenticated by SPF or DKIM.",
        "fail" => "DMARC failed: neither SPF nor a signature authenticates the domain in From.",
        "temperror" => "DMARC has no result, because DNS had trouble that may go away.",
        "permerror" => "The message has no author domain that DMARC could verify.",
        _ => return None,
    })
}

fn iprev(value: &str) -> Option<&'static str> {
    Some(match value {
        "pass" => "A name of the client's address has this address.",
        "fail" => "The client's address has names; none of them has this address.",
        "temperror" => "The names of the client's address could not be looked up for now.",
        "permerror" => "The client's address has no name.",
        _ => return None,
    })
}

fn action(line: &LogLine, value: &str) -> Option<&'static str> {
    let is_identity = line.get("identity").is_some();
    Some(match value {
        "accept" if is_identity => "This result refused nothing.",
        "accept" => "The message went on.",
        "reject" => "The client was refused for good, with a reply of 5xx.",
        "tempfail" => "The client was refused for now, with a reply of 4xx: it may try again.",
        "tag" => "The message went on, and a header field marks it (tag_header).",
        "quarantine" => "The MTA was asked to keep the message back.",
        "skip" => "This identity was left out.",
        "exempt" => "Nothing was verified.",
        "fail" => "The work on the message could not be done; error_action says what followed.",
        _ => return None,
    })
}

/// The policies and dispositions of DMARC.
fn policy(key: &str, value: &str) -> Option<String> {
    let wanted = match value {
        "none" => "do nothing",
        "quarantine" => "keep the message back",
        "reject" => "refuse the message",
        _ => return None,
    };
    Some(match (key, value) {
        ("policy", _) => {
            format!("Where DMARC fails, the domain in From asks receivers to {wanted}.")
        }
        ("override", _) => {
            format!("A policy of this site holds instead of the published one: to {wanted}.")
        }
        (_, "none") => "Neither SPF nor DMARC kept the message back or refused it.".to_owned(),
        (_, "quarantine") => "The decision was to keep the message back.".to_owned(),
        _ => "The decision was to refuse the message.".to_owned(),
    })
}

/// The cause of an action, and the action.
fn cause(value: &str) -> Option<String> {
    let (cause, action) = value.split_once(':')?;
    let cause = match cause {
        "spf" => "SPF refused the sender, and that was put off until the end of the message",
        "dmarc" => "DMARC failed",
        "dmarc-temperror" => "DMARC had DNS trouble",
        "local-domain" => {
            "the domain in From is one of this site, and nothing authenticates the message"
        }
        "malformed-author" => "there is no From that can be read, or several",
        "unauthenticated" => "neither SPF nor a signature passed",
        "iprev" => "the client's name does not lead back to it, or it has none",
        "too-many-authentication-results" => "too many fields claimed to be results of this host",
        "too-many-tags" => "too many fields looked like a mark of this host",
        _ => return None,
    };
    let action = match action {
        "tag" => "a mark in the header",
        "quarantine" => "keeping the message back",
        "defer" => "a refusal for now",
        "reject" => "a refusal",
        _ => return None,
    };
    Some(format!("This called for {action}: {cause}. The strictest action is carried out."))
}

fn reason(line: &LogLine, value: &str) -> Option<&'static str> {
    Some(match value {
        // Exemptions.
        "no-address" if line.get("relay-ip").is_some() => {
            "A Received field of the relay's message has no address of the client."
        }
        "no-address" => "The client has no address.",
        "local-submission" => "The message comes from this host itself, not by SMTP.",
        "trusted-network" => "The client is in trusted_networks.",
        "authenticated" => "The client authenticated (trust_authenticated_senders).",
        "authenticated-at-relay" => "The client authenticated at the relay.",
        "no-domain-name" => "The HELO name is not a domain name that can be verified.",
        "skip-senders" => "The identity is in skip_senders.",
        "relayed" => "A relay had accepted the message already: relay_action says what follows.",
        "put-off" => {
            "The client would be refused, but that was put off until the end of the message, for DMARC may pass \
             (defer_spf_rejection): the line of the message has what came of it."
        }
        "spf-exempt-network" => "The client would be refused, but it is in spf_exempt_networks.",
        "exempt-recipient" => {
            "The recipients are in exempt_recipients, for whom nothing is refused."
        }
        "exempt-network" => "The client is in dmarc_exempt_networks.",
        "exempt-dkim-domain" => "A domain in dmarc_exempt_dkim_domains has signed the message.",
        "mailing-list" => "The message is of a mailing list (dmarc_exempt_mailing_lists).",
        "not-enforced" => {
            "The configured action on this policy neither keeps messages back nor refuses them."
        }
        // Received fields that do not name the client of a relay.
        "chain-ends" => "The Received fields end with a relay: no client is named.",
        "other-protocol" => "The relay did not get the message by SMTP.",
        "too-many-fields" => "The message has too many Received fields.",
        "too-long" => "A Received field of the relay's message is too long.",
        "control-character" => "A Received field of the relay's message has a control character.",
        "backslash" => "A Received field of the relay's message has a backslash.",
        "parentheses" => "The parentheses in a Received field of the relay's message do not match.",
        "no-from" => "A Received field of the relay's message does not begin with from.",
        "no-by" => "A Received field of the relay's message has no by.",
        "two-by" => "A Received field of the relay's message has two by.",
        "words" => {
            "A Received field of the relay's message has unexpected words between from and by."
        }
        "two-addresses" => {
            "A Received field of the relay's message has two addresses of the client."
        }
        "unknown-form" => "A Received field of the relay's message has an unknown form.",
        "link-local" => "A Received field of the relay's message has a link-local address.",
        // Failures.
        "message-not-changed" => "The MTA does not let milters make this change.",
        "internal-error" => "The program has an error; the line before this one has more.",
        "too-many-authentication-results" => {
            "The message had more fields in the name of this host than are deleted: an attack or a loop."
        }
        "too-many-tags" => "The message had more fields like tag_header than are deleted.",
        // What the action is for.
        "spf_helo" => "SPF of the HELO name called for the action.",
        "spf_mailfrom" => "SPF of the sender in MAIL FROM called for the action.",
        "dmarc" => "A failure of DMARC called for the action.",
        "dmarc_temperror" => "DNS trouble of DMARC called for the action.",
        "local_domain" => {
            "The domain in From is one of this site, and nothing authenticates the message."
        }
        "unauthenticated" => "Neither SPF nor a signature passed.",
        "iprev" => "The client's name does not lead back to it, or it has none.",
        "malformed_author" => "There is no From that can be read, or several.",
        "forged_results" => "Too many fields claimed to be of this host.",
        "internal" => "The program has an error, or the MTA does not permit what it should.",
        _ => return None,
    })
}

/// The problems of SPF, and those of DMARC.
fn problem(value: &str) -> Option<String> {
    let known = match value {
        "no domain to verify" => "The sender has no domain that could have an SPF record.",
        "invalid SPF record found" => "An SPF record has a syntax error.",
        "more than one SPF record found" => "A domain has several SPF records; one is allowed.",
        "no SPF record found at included domain" => {
            "The SPF record names a domain that has no SPF record."
        }
        "lookup limit exceeded" => "The SPF record needs more DNS look-ups than are allowed.",
        "void lookup limit exceeded" => {
            "Too many terms of the SPF record name something that does not exist."
        }
        "DNS lookup failed" => "A name server gave an error, or could not be reached.",
        "DNS lookup timed out" => "A name server did not answer in time.",
        "no From field" => "The message has no From field.",
        "several From fields" => "The message has several From fields; one is allowed.",
        "several author domains" => "From has addresses of several domains.",
        "misleading characters in From" => {
            "An address in From has characters that make it look like another one."
        }
        "group without members in From" => "From names no author.",
        "no DMARC record" => "Neither the domain in From nor its organization has a DMARC record.",
        _ => "",
    };
    if !known.is_empty() {
        return Some(known.to_owned());
    }
    let sentence = if value.starts_with("malformed From: ") {
        "The From field cannot be read."
    } else if value.starts_with("several DMARC records of ") {
        "A domain has several DMARC records; one is allowed."
    } else if value.starts_with("unusable DMARC record of ") {
        "The DMARC record has no policy that can be used."
    } else if value.starts_with("temporary error of ") {
        "SPF or a signature that could authenticate the domain in From had DNS trouble."
    } else if value.contains(": ") {
        "This name could not be looked up in DNS."
    } else {
        return None;
    };
    Some(sentence.to_owned())
}
