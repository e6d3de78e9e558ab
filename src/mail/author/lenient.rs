//! The lenient reader of From header fields: the domains of all addresses that some reader might
//! see.
//!
//! Readers differ in what they know: comments, quotes, encoded words, folding. Each of these is
//! taken away or left, and in every text that results each `@` begins a domain. No reader is
//! imitated; the domains found here include those that any of them can find. The work is linear in
//! the length of the field, with a bound on the domains that are looked at.

use std::collections::HashSet;

use super::{
    encoded_word, lookalike,
    reading::{AuthorDomains, Reading},
};
use crate::mail::{domain::Domain, octets::count_work};

/// Texts that are looked at as domains. A field that has more never passes.
const MAX_TEXTS: usize = 1000;

/// Places at which a domain may begin, in all texts together: most may have the same text. A field
/// that has more never passes.
const MAX_PLACES: usize = 16_000;

/// The work at a place, in octets that could be read instead.
const PLACE_WORK: usize = 16;

/// Reads a From header field's value. `None` where no reader finds a domain in it.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    let raw = String::from_utf8_lossy(value);
    let mut texts = vec![normal(&raw)];
    for text in encoded_word::decoded(&raw) {
        let text = normal(&text);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let mut reader = Reader::default();
    // The domain that most readers show goes first: it is kept if there are too many.
    for text in &texts {
        let in_brackets = [text.rsplit_once('<'), text.split_once('<')].into_iter().flatten();
        let addresses = in_brackets.filter_map(|(_, address)| address.split_once('@'));
        let bare = [text.rsplit_once('@'), text.split_once('@')].into_iter().flatten();
        addresses.chain(bare).for_each(|(_, domain)| reader.domain(domain));
    }
    for text in &texts {
        reader.is_misleading |= text
            .split(['<', '>'])
            .any(|part| part.contains('@') && part.contains(lookalike::is_misleading));
        for view in views(text) {
            reader.view(&view);
        }
    }
    let Reader { domains, is_misleading, .. } = reader;
    (!domains.as_slice().is_empty()).then_some(Reading { domains, misleading: is_misleading })
}

/// The text with lookalikes as what they look like, unfolded, and with single spaces.
fn normal(text: &str) -> String {
    count_work(text.len());
    let mut normal = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut after_space = true;
    while let Some(c) = rest.next() {
        let c = match c {
            // A fold, whatever is left of it.
            '\r' if rest.peek() == Some(&'\n') => continue,
            '\n' if matches!(rest.peek(), Some(' ' | '\t') | None) => ' ',
            '\t' => ' ',
            c => match lookalike::ascii_of(c) {
                Some(c) => c,
                None => continue,
            },
        };
        if c != ' ' || !after_space {
            normal.push(c);
        }
        after_space = c == ' ';
    }
    normal
}

/// The text as readers see it that know comments and quotes, and as others do.
fn views(text: &str) -> Vec<String> {
    let mut views = vec![text.to_owned()];
    if text.contains('(') {
        views.push(without_comments(text, true));
        views.push(without_comments(text, false));
    }
    let mut unquoted = Vec::new();
    for view in views.iter().filter(|view| view.contains(['"', '\\'])) {
        unquoted.push(view.replace(['"', '\\'], ""));
        unquoted.push(without_strings(view));
    }
    views.append(&mut unquoted);
    views
}

/// The text without comments; quoted strings hold none for a reader that knows them.
fn without_comments(text: &str, knows_quotes: bool) -> String {
    count_work(text.len());
    let mut bare = String::with_capacity(text.len());
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if depth > 0 => _ = rest.next(),
            '\\' => {
                bare.push(c);
                bare.extend(rest.next());
            }
            '"' if knows_quotes && depth == 0 => {
                is_quoted = !is_quoted;
                bare.push(c);
            }
            '(' if !is_quoted => depth = depth.saturating_add(1),
            ')' if depth > 0 => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    bare
}

/// The text without quoted strings.
fn without_strings(text: &str) -> String {
    count_work(text.len());
    let mut bare = String::with_capacity(text.len());
    let mut is_quoted = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => _ = rest.next(),
            '"' => is_quoted = !is_quoted,
            c if !is_quoted => bare.push(c),
            _ => {}
        }
    }
    bare
}

/// Collects domains.
#[derive(Default)]
struct Reader {
    domains: AuthorDomains,
    is_misleading: bool,
    seen: HashSet<String>,
    places: usize,
}

impl Reader {
    /// Takes the domain behind each `@`.
    fn view(&mut self, text: &str) {
        for part in text.split('@').skip(1) {
            if self.domains.truncated {
                return;
            }
            self.domain(part);
        }
    }

    /// Takes the domain that a text begins with, as far as readers may take it to go.
    fn domain(&mut self, text: &str) {
        if self.places >= MAX_PLACES {
            self.domains.truncated = true;
            return;
        }
        self.places += 1;
        count_work(PLACE_WORK);
        let skipped = |c: char| " [\"'\\<(".contains(c) || lookalike::is_misleading(c);
        let text = text.trim_start_matches(skipped);
        let plain: String = text.chars().take_while(|c| is_domain_character(*c)).collect();
        count_work(plain.len());
        self.candidate(&plain);
        // RFC 5322 lets a domain have characters that DNS names of hosts do not have, and clients
        // show them.
        let atoms: String =
            text.chars().take_while(|c| is_symbol(*c) || is_domain_character(*c)).collect();
        count_work(atoms.len());
        if atoms.contains(is_symbol) {
            self.candidate(atoms.trim_matches(is_symbol));
        }
        let joined: String =
            text.chars().take_while(|c| *c == ' ' || is_domain_character(*c)).collect();
        count_work(joined.len());
        // Some take white space away only around dots (obsolete, RFC 5322 §4.4), and end a domain
        // where two words meet.
        self.candidate(&around_dots(&joined));
        // Some readers take white space within a domain away, where no display name is before it.
        let is_name = text
            .split_inclusive(['<', '>', ',', ';', ':', '@'])
            .next()
            .is_some_and(|name| name.ends_with('<'));
        if joined.trim_end().contains(' ') && !is_name {
            self.candidate(&joined.replace(' ', ""));
        }
    }

    fn candidate(&mut self, text: &str) {
        let shown: String = text.chars().filter(|c| !lookalike::is_misleading(*c)).collect();
        self.add(&shown);
        // Readers that end a domain where something odd begins.
        let odd = |c: char| !c.is_ascii() && !c.is_alphanumeric() || lookalike::is_misleading(c);
        if let Some((before, _)) = text.split_once(odd) {
            self.add(before);
        }
    }

    fn add(&mut self, text: &str) {
        if self.seen.contains(text) {
            return;
        }
        if self.seen.len() >= MAX_TEXTS {
            self.domains.truncated = true;
            return;
        }
        count_work(text.len());
        self.seen.insert(text.to_owned());
        let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
        let Some(domain) = Domain::parse(&labels.join(".")).ok().or_else(|| valid_end(&labels))
        else {
            return;
        };
        // A name of one label is not an author's domain, and one that ends in a number is an address
        // (RFC 5321 §4.1.3).
        let is_address = domain
            .labels()
            .next_back()
            .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
        if domain.is_qualified() && !is_address {
            self.domains.add(&domain);
        }
    }
}

/// The words that a text begins with, as far as there is a dot between each and the next one.
fn around_dots(text: &str) -> String {
    let mut domain = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !domain.is_empty() && !domain.ends_with('.') && !word.starts_with('.') {
            break;
        }
        domain.push_str(word);
    }
    domain
}

/// The last of the labels, as many as can be a domain together. A name that DNS cannot have is
/// shown as one below that domain.
fn valid_end(labels: &[&str]) -> Option<Domain> {
    let mut end: Option<Domain> = None;
    for label in labels.iter().rev() {
        // As A-labels, for labels that are each valid may be an error together.
        let Ok(label) = Domain::parse(label) else { break };
        let longer = end
            .as_ref()
            .map_or_else(|| Ok(label.clone()), |end| Domain::parse(&format!("{label}.{end}")));
        let Ok(longer) = longer else { break };
        end = Some(longer);
    }
    end
}

/// Whether the character is one that RFC 5322 allows in a domain and names of hosts do not have
/// (`atext`, §3.2.3).
fn is_symbol(c: char) -> bool {
    "!#$%&'*+/=?^`{|}~".contains(c)
}

fn is_domain_character(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || "-_.".contains(c) || lookalike::is_misleading(c)
    } else {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn quoted_parentheses_begin_and_end_no_comment() {
        for (text, bare) in [
            ("a(b)c", "ac"),
            ("a(b\\)c)d", "ad"),
            ("a(b(c\\)\\(d)e)f", "af"),
            ("a(b(c(\\)\\)d)e)f)g", "ag"),
            ("a\\(b)c", "a\\(b)c"),
            ("a(b\\\\)c", "ac"),
        ] {
            assert_eq!(without_comments(text, false), bare, "{text}");
        }
    }
}
