//! The status as a page of HTML, which has all that it needs, runs nothing, and refreshes itself.

use std::fmt::{self, Display, Write as _};

use super::{
    shown::Counts,
    text::{clock, duration, milliseconds, time},
    values::Status,
};

/// The style. [`STYLE_HASH`] is made from it.
const STYLE: &str = include_str!("status.css");

/// The SHA-256 hash of the style, as Content-Security-Policy spells it.
pub const STYLE_HASH: &str = "sha256-mOqkNZDhBMPDW6Cvt/Eg4tMFOJes5uTzHM+PQaJLdNQ=";

/// Writes HTML: tags are ours, and everything else is escaped.
struct Page(String);

/// Text that is escaped as it is written: it cannot end an element or a value of an attribute.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Page {
    /// Adds tags.
    fn tags(&mut self, tags: &'static str) {
        self.0.push_str(tags);
    }

    /// Adds a text.
    fn text(&mut self, text: impl Display) {
        // Writing to a `String` cannot fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
    }

    /// Adds an element with a text.
    fn element(&mut self, start: &'static str, text: impl Display, end: &'static str) {
        self.tags(start);
        self.text(text);
        self.tags(end);
    }

    /// Adds a row of a list of terms.
    fn row(&mut self, term: impl Display, text: impl Display) {
        self.element("<dt>", term, "</dt>");
        self.element("<dd>", text, "</dd>\n");
    }

    /// Adds a card of counts, or what to say where there are none.
    fn counts(&mut self, heading: &'static str, note: &'static str, counts: &Counts) {
        self.element("<section>\n<h2>", heading, "</h2>\n");
        self.element("<p class=note>", note, "</p>\n");
        if counts.some().next().is_none() {
            self.tags("<p>None.</p>\n");
        } else {
            self.tags("<dl class=counts>\n");
            counts.some().for_each(|(name, count)| self.row(name, count));
            self.tags("</dl>\n");
        }
        self.tags("</section>\n");
    }
}

/// The class of a verdict, for its colour.
fn class_of(verdict: &str) -> &'static str {
    match verdict {
        "accept" => "accept",
        "tag" => "tag",
        "quarantine" => "quarantine",
        "defer" => "defer",
        "reject" => "reject",
        _ => "other",
    }
}

impl Status {
    /// The status as a page of HTML.
    pub fn to_html(&self) -> String {
        let mut page = Page(String::with_capacity(16 * 1024));
        page.tags(
            "<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=refresh content=10>\n\
             <meta name=color-scheme content=\"light dark\">\n\
             <link rel=icon href=\"data:,\">\n<title>spf-milter</title>\n<style>",
        );
        page.tags(STYLE);
        page.tags("</style>\n</head>\n<body>\n<header>\n<h1>spf-milter ");
        page.element("<small>", &self.version, "</small></h1>\n");
        let (uptime, started) = (duration(self.uptime_secs), time(self.started.as_str()));
        page.element(
            "<p>has been running for ",
            format_args!("{uptime}, since {started}"),
            "</p>\n",
        );
        page.tags("</header>\n<main>\n");
        if !self.warnings.is_empty() {
            page.tags("<ul class=warnings>\n");
            for warning in &self.warnings {
                page.element("<li>", warning, "</li>\n");
            }
            page.tags("</ul>\n");
        }
        self.write_messages(&mut page);
        page.counts(
            "Refused",
            "Also before a message came, at HELO or MAIL FROM.",
            &self.messages.refused,
        );
        page.counts(
            "Not enforced",
            "Would have been refused, kept back or marked, but for a dry run, an exemption, or the action none.",
            &self.messages.not_enforced,
        );
        self.write_dns(&mut page);
        self.write_service(&mut page);
        self.write_methods(&mut page);
        self.write_refusals(&mut page);
        page.tags("</main>\n<footer>\n");
        page.element(
            "<p>As of ",
            time(self.time.as_str()),
            ". This page loads itself again every 10 seconds.</p>\n",
        );
        page.tags("</footer>\n</body>\n</html>\n");
        page.0
    }

    /// What became of messages, with a bar of shares.
    fn write_messages(&self, page: &mut Page) {
        let messages = &self.messages;
        page.tags("<section class=wide>\n<h2>Messages</h2>\n");
        page.element("<p class=note>Since ", time(messages.since.as_str()), ".</p>\n");
        page.element("<p class=total>", messages.total, "</p>\n");
        let total =
            messages.verdicts.some().fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
        if total == 0 {
            page.tags("</section>\n");
            return;
        }
        page.tags(
            "<svg class=bar viewBox=\"0 0 1000 10\" preserveAspectRatio=none role=presentation>\n",
        );
        let mut before = 0;
        for (name, count) in messages.verdicts.some() {
            let place = |count: u64| u128::from(count) * 1000 / u128::from(total);
            let (left, right) = (place(before), place(before.saturating_add(count)));
            before = before.saturating_add(count);
            page.element("<rect y=0 height=10 class=", class_of(name.as_str()), "");
            page.element(" x=", left, "");
            // A share that is too small to be seen is seen all the same.
            page.element(" width=", right.saturating_sub(left).max(3), " />\n");
        }
        page.tags("</svg>\n<dl class=\"counts legend\">\n");
        for (name, count) in messages.verdicts.some() {
            page.element("<div><dt class=", class_of(name.as_str()), ">");
            page.element("", name, "</dt>");
            page.element("<dd>", count, "</dd></div>\n");
        }
        page.tags("</dl>\n</section>\n");
    }

    fn write_dns(&self, page: &mut Page) {
        page.tags("<section>\n<h2>Name servers</h2>\n<ul class=servers>\n");
        for server in &self.dns.servers {
            page.tags(match server.answers {
                Some(true) => "<li class=good>",
                Some(false) => "<li class=bad>",
                None => "<li>",
            });
            page.element("<b>", &server.address, "</b> ");
            page.text(server.words());
            page.tags("</li>\n");
        }
        page.element("</ul>\n<p class=note>Look-ups: ", self.dns.words(), ".</p>\n</section>\n");
    }

    fn write_service(&self, page: &mut Page) {
        let (configuration, connections) = (&self.configuration, &self.connections);
        page.tags("<section class=double>\n<h2>Service</h2>\n<dl class=facts>\n");
        page.row("connections", format_args!("{} of {}", connections.served, connections.limit));
        for socket in &self.sockets {
            page.row("socket", socket);
        }
        page.row("configuration", &configuration.file);
        let loaded = clock(configuration.loaded.as_str());
        page.row(
            "in force since",
            format_args!("{loaded}, generation {}", configuration.generation),
        );
        page.tags("</dl>\n</section>\n");
    }

    fn write_methods(&self, page: &mut Page) {
        if self.messages.methods.is_empty() {
            return;
        }
        page.tags(
            "<section>\n<h2>Time</h2>\n<p class=note>Within this time so many of the checks were done.</p>\n<table>\n<tr><th><th>checks<th>50 %<th>99 %</tr>\n",
        );
        for method in &self.messages.methods {
            page.element("<tr><td>", &method.method, "");
            page.element("<td>", method.count, "");
            page.element("<td>", milliseconds(method.p50_ms), "");
            page.element("<td>", milliseconds(method.p99_ms), "</tr>\n");
        }
        page.tags("</table>\n</section>\n");
    }

    fn write_refusals(&self, page: &mut Page) {
        if self.status_refusals == 0 {
            return;
        }
        page.tags("<section class=wide>\n<h2>Last refusals</h2>\n");
        if self.refusals.is_empty() {
            page.tags("<p>None.</p>\n</section>\n");
            return;
        }
        page.tags("<ul class=refusals>\n");
        for refusal in &self.refusals {
            page.element("<li><time>", clock(refusal.time.as_str()), "</time> ");
            page.tags(if refusal.reply < 500 { "<b class=defer>" } else { "<b class=reject>" });
            page.element("", refusal.reply, " ");
            page.element("", &refusal.reason, "</b> ");
            page.element("<span>", &refusal.domain, "</span> ");
            page.element("<span>", &refusal.client, "</span> ");
            page.element("<span class=note>", &refusal.queue_id, "</span></li>\n");
        }
        page.tags("</ul>\n</section>\n");
    }
}
