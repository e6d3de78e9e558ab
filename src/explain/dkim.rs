//! What the word for a signature means.

/// What the value of `dkim` means; `None` where it is not known.
pub(super) fn explain(value: &str) -> Option<String> {
    if value == "none" {
        return Some("The message has no signature.".to_owned());
    }
    // The names have no parenthesis: they are domain names.
    let (word, remarks) = match value.split_once('(') {
        Some((word, remarks)) => (word, remarks.strip_suffix(')').unwrap_or(remarks)),
        None => (value, ""),
    };
    let (signer, result) = match word.rsplit_once(':') {
        Some((signer, result)) => (Some(signer), result),
        None => (None, word),
    };
    let result = match result {
        "pass" => "is good",
        "fail" => "is not good",
        "policy" => "is not acceptable",
        "neutral" => "cannot be read",
        "temperror" => "could not be verified for now",
        "permerror" => "cannot be verified",
        _ => return None,
    };
    let signer = match signer.map(|signer| signer.split_once('/').unwrap_or((signer, "?"))) {
        Some((domain, selector)) => format!("The signature of {domain} (selector {selector})"),
        None => "A signature".to_owned(),
    };
    let sentences: Vec<&str> = remarks.split(", ").filter_map(remark).collect();
    let mut text = format!("{signer} {result}.");
    for sentence in sentences {
        text.push(' ');
        text.push_str(sentence);
    }
    Some(text)
}

/// What a reason or a comment means; `None` for one that needs no words.
fn remark(text: &str) -> Option<&'static str> {
    Some(match text {
        "header too large" => "The header of the message is too large to be verified.",
        "too many names in h= tag" => "It names too many fields.",
        "syntax error in signature" => "Its field has a syntax error.",
        "unknown signature version" => "It is of an unknown version.",
        "unknown signature algorithm" => "Its algorithm is not known.",
        "rsa-sha1 is no longer valid" => "It uses SHA-1, which counts no more (RFC 8301).",
        "unknown canonicalization" => "Its canonicalization is not known.",
        "unknown key query method" => "Its key is to be had in an unknown way.",
        "i= tag outside of d= domain" => "Its identity is not one of the domain that signs.",
        "From field not signed" => "It does not cover From.",
        "signature expires before it was made" => "It expires before it was made.",
        "signature made in the future" => "It was made in the future: a clock is wrong.",
        "signature expired" => "It has expired.",
        "l= tag larger than body" => "It covers more than the message has: a part was removed.",
        "body hash did not verify" => {
            "The body was changed after it was signed, by a mailing list, a filter or a gateway."
        }
        "signature did not verify" => {
            "The signed header fields were changed, or the key in DNS is another than that which signed."
        }
        "no key for signature" => "Its key is not in DNS.",
        "syntax error in key record" => "The record in DNS is not a key.",
        "key revoked" => "The domain has revoked the key.",
        "key not for mail" => "The key is not for mail.",
        "key for another algorithm" => "The key is for another algorithm.",
        "key not for sha256" => "The key is not for SHA-256.",
        "testing" => "The domain says that it only tests the key.",
        _ if text.starts_with("too many signatures") => {
            "The message has more signatures than are verified (max_dkim_signatures)."
        }
        _ if text.starts_with("signature without ") => "It lacks a tag that every signature has.",
        _ if text.starts_with("bad ") && text.ends_with(" tag in signature") => {
            "The value of one of its tags is wrong."
        }
        _ if text.starts_with("more ") && text.ends_with(" fields than were signed") => {
            "Header fields were added that it does not cover."
        }
        _ if text.ends_with(" body octets signed") => {
            "A part of the body is not signed: anybody on the way could have added that."
        }
        _ if text.starts_with("key look-up: ") => "DNS gave no answer about the key.",
        _ if text.starts_with("key of ") && text.ends_with(" too short") => "The key is too short.",
        _ if text.starts_with("key of ") && text.ends_with(" too long") => "The key is too long.",
        _ => return None,
    })
}
