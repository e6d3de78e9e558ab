//! Lists of the configuration: what a look-up costs that finds nothing, and one that does, and what
//! loading and memory cost.

use std::{fmt::Write as _, io, net::Ipv4Addr};

use testkit::bench::{
    growth::Goal,
    load::Mode,
    mta::{Message, Sender},
    signer::FIELDS,
    zones,
};

use super::{
    Bench, CONNECTIONS, HOT, LINE,
    report::Row,
    subject::{Configuration, Milter, Subject, measure, micros},
    warm_up,
};

/// The domain of signatures that are not the author's.
pub(crate) const SIGNER: &str = "list.example";

/// A domain whose SPF record permits nobody.
pub(crate) const FAILING: &str = "failing.example";

/// The author's domain of messages without signatures.
pub(crate) const UNSIGNED: &str = "sender.example";

const SIZES: [usize; 5] = [10, 100, 1000, 10_000, 100_000];

/// From so many entries on they cost more than the start of the program.
const MANY: f64 = 1000.0;

/// The messages that make the daemon look into a list.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mail {
    /// Any.
    Plain,
    /// SPF fails.
    Failing,
    /// With a signature of another domain than the author's.
    Signed,
    /// With fields of results by others, one of which is malformed.
    Results,
}

/// A list.
struct List {
    /// Its parameter, and how it names its entries.
    parameter: &'static str,
    form: Form,
    /// The entry of a number, which is of nobody who sends.
    entry: fn(usize) -> String,
    /// The entry of those who do.
    hit: &'static str,
    /// What the configuration needs for the list to be looked into.
    config: &'static str,
    mode: Mode,
    mail: Mail,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    /// In the parameter itself.
    Inline,
    /// In a file that is an item of the list.
    Item,
    /// In the file that the parameter names.
    File,
}

const LISTS: [List; 14] = [
    List {
        parameter: "skip_senders",
        form: Form::Inline,
        entry: sender,
        hit: ".example",
        config: "",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "skip_senders",
        form: Form::Item,
        entry: sender,
        hit: ".example",
        config: "",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "skip_senders_file",
        form: Form::File,
        entry: sender,
        hit: ".example",
        config: "",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "exempt_recipients",
        form: Form::Item,
        entry: recipient,
        hit: "user@receiver.example",
        config: "",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "trusted_networks",
        form: Form::Item,
        entry: network,
        hit: "192.0.2.0/28",
        // Otherwise the whole connection is accepted.
        config: "trusted_authentication_results =\nheader = Authentication-Results\n",
        mode: Mode::New,
        mail: Mail::Plain,
    },
    List {
        parameter: "trusted_relays",
        form: Form::Item,
        entry: network,
        hit: "192.0.2.0/28",
        config: "",
        mode: Mode::New,
        mail: Mail::Plain,
    },
    List {
        parameter: "client_map",
        form: Form::Item,
        entry: mapping,
        hit: "192.0.2.0/28=192.0.2.11",
        config: "",
        mode: Mode::New,
        mail: Mail::Plain,
    },
    List {
        parameter: "trusted_authentication_results",
        form: Form::Item,
        entry: network,
        hit: "192.0.2.0/28",
        config: "header = Authentication-Results\n",
        mode: Mode::New,
        mail: Mail::Results,
    },
    List {
        parameter: "spf_exempt_networks",
        form: Form::Item,
        entry: network,
        hit: "192.0.2.0/28",
        config: "dry_run = yes\n",
        mode: Mode::New,
        mail: Mail::Failing,
    },
    List {
        parameter: "dmarc_exempt_networks",
        form: Form::Item,
        entry: network,
        hit: "192.0.2.0/28",
        config: "verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = tag\n",
        mode: Mode::New,
        mail: Mail::Plain,
    },
    List {
        parameter: "dmarc_exempt_dkim_domains",
        form: Form::Item,
        entry: domain,
        hit: SIGNER,
        config: "verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = tag\n",
        mode: Mode::Kept,
        mail: Mail::Signed,
    },
    List {
        parameter: "local_domains",
        form: Form::Item,
        entry: domains,
        hit: UNSIGNED,
        config: "verify_dkim = yes\nverify_dmarc = yes\nlocal_domain_action = tag\n",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "dmarc_override_file",
        form: Form::File,
        entry: policy,
        hit: "sender.example none",
        config: "verify_dkim = yes\nverify_dmarc = yes\ndmarc_reject_action = tag\n",
        mode: Mode::Kept,
        mail: Mail::Plain,
    },
    List {
        parameter: "delete_authserv_ids",
        form: Form::Item,
        entry: domains,
        hit: "mx.other.example",
        config: "",
        mode: Mode::Kept,
        mail: Mail::Results,
    },
];

fn domain(number: usize) -> String {
    format!("mail{number}.d{}.test", number % 100)
}

/// Domains, and subdomains of domains.
fn domains(number: usize) -> String {
    format!("{}{}", if number.is_multiple_of(2) { "" } else { "." }, domain(number))
}

fn sender(number: usize) -> String {
    format!("{}{}", ["", ".", "amy@"][number % 3], domain(number))
}

fn recipient(number: usize) -> String {
    if number.is_multiple_of(4) { format!("amy.{number}@") } else { sender(number) }
}

/// Networks of IPv4 and IPv6, of many lengths.
fn network(number: usize) -> String {
    let number = u32::try_from(number).unwrap_or_default();
    if number.is_multiple_of(2) {
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        format!("{}/{}", Ipv4Addr::from(first + number * 64), 26 + number / 2 % 7)
    } else {
        format!("2001:db8:{:x}:{:x}00::/{}", number >> 8, number & 0xff, 56 + number / 2 % 73)
    }
}

fn mapping(number: usize) -> String {
    let address = if number.is_multiple_of(2) { "192.0.2.11" } else { "2001:db8::11" };
    format!("{}={address}", network(number))
}

fn policy(number: usize) -> String {
    format!("{} {}", domains(number), ["none", "quarantine", "reject"][number % 3])
}

/// Whether this is the parameter of a list.
pub(crate) fn is_list(parameter: &str) -> bool {
    LISTS.iter().any(|list| list.parameter == parameter)
}

impl List {
    fn name(&self) -> String {
        let form = match self.form {
            Form::Inline => " in one line",
            Form::Item | Form::File => "",
        };
        format!("{}{form}", self.parameter)
    }

    /// A configuration with so many entries; the last one may be one that is hit.
    fn configuration(&self, bench: &Bench, size: usize, is_hit: bool) -> Configuration {
        let hit = is_hit.then(|| self.hit.to_owned());
        let entries = (0..size - usize::from(is_hit)).map(self.entry).chain(hit);
        let separator = if self.form == Form::Inline { ", " } else { "\n" };
        let mut text = String::new();
        for entry in entries {
            let _ = write!(text, "{}{entry}", if text.is_empty() { "" } else { separator });
        }
        let (value, file) = match self.form {
            Form::Inline => (text, String::new()),
            Form::Item => ("file:FOLDER/entries".to_owned(), text),
            Form::File => ("FOLDER/entries".to_owned(), text),
        };
        let extra = format!("{}{} = {value}\n", self.config, self.parameter);
        Configuration::new(bench.nameserver.address(), &extra, &file)
    }

    fn senders(&self) -> Vec<Sender> {
        let mut senders = zones::senders("hot", HOT);
        if self.mail == Mail::Failing {
            senders.iter_mut().for_each(|sender| sender.domain = FAILING.into());
        }
        senders
    }

    fn message(&self, bench: &Bench) -> Message {
        let plain = Message::plain();
        match self.mail {
            Mail::Plain | Mail::Failing => plain,
            Mail::Signed => {
                let body = LINE.repeat(20).into_bytes();
                let value = bench.keys[1].sign_as(SIGNER, &body, 0).value;
                let fields = FIELDS.iter().map(|(name, value)| (*name, format!(" {value}")));
                let fields = [("DKIM-Signature", value)].into_iter().chain(fields);
                let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect();
                Message { fields, body }
            }
            Mail::Results => {
                let name = "Authentication-Results";
                let malformed = " mx.other.example; spf pass (sender is known";
                let good = " mx.other.example; spf=pass smtp.mailfrom=news@sender.example";
                let results = [good, malformed].map(|value| (name.to_owned(), value.to_owned()));
                let fields = results.into_iter().chain(plain.fields).collect();
                Message { fields, body: plain.body }
            }
        }
    }
}

/// The figures of a list, for each size.
#[derive(Default)]
struct Figures {
    misses: Vec<f64>,
    hits: Vec<f64>,
    loading: Vec<f64>,
    memory: Vec<f64>,
}

impl List {
    fn measure(&self, bench: &Bench) -> io::Result<Figures> {
        let (senders, message) = (self.senders(), self.message(bench));
        let mut figures = Figures::default();
        let mut milters: [Vec<Milter>; 2] = Default::default();
        for size in SIZES {
            for (is_hit, milters) in [false, true].into_iter().zip(&mut milters) {
                let configuration = self.configuration(bench, size, is_hit);
                if !is_hit {
                    figures.loading.push(configuration.loading()?.as_secs_f64() * 1e3);
                }
                let milter = configuration.start()?;
                warm_up(&milter, &senders, &message)?;
                if !is_hit {
                    figures.memory.push(milter.resident()? / 1024.0);
                }
                milters.push(milter);
            }
        }
        let subjects = milters.iter().flatten().map(|milter| Subject {
            milter,
            mode: self.mode,
            connections: CONNECTIONS,
            senders: &senders,
            message: &message,
        });
        let subjects: Vec<_> = subjects.collect();
        // There are many of them.
        let runs = measure(&subjects, bench.time / 4)?;
        let (misses, hits) = runs.split_at(SIZES.len());
        figures.misses.extend(misses.iter().map(|run| micros(run.cpu)));
        figures.hits.extend(hits.iter().map(|run| micros(run.cpu)));
        Ok(figures)
    }
}

impl Bench {
    /// Entries of lists.
    pub(crate) fn lists(&mut self) -> io::Result<()> {
        let mut all = Vec::new();
        let is_wanted = |list: &&List| {
            self.lists.is_empty() || self.lists.iter().any(|name| name == list.parameter)
        };
        for list in LISTS.iter().filter(is_wanted) {
            all.push((list.name(), list.measure(self)?));
        }
        let sizes = SIZES.map(|size| size as f64);
        type Costs = fn(&Figures) -> &[f64];
        let tables: [(&str, &str, &str, Costs, Row<'_>); 4] = [
            (
                "Entries of a list, CPU us/msg of messages that hit none",
                "growth-misses",
                "misses in",
                |figures| &figures.misses,
                Row::new("", Goal::Constant),
            ),
            (
                "Entries of a list, CPU us/msg of messages that hit one",
                "growth-hits",
                "hits in",
                |figures| &figures.hits,
                Row::new("", Goal::Constant),
            ),
            (
                "Entries of a list, CPU time in ms to load the configuration",
                "growth-loading",
                "loading",
                |figures| &figures.loading,
                Row { from: MANY, ..Row::new("", Goal::Linear) },
            ),
            (
                "Entries of a list, resident memory of the daemon in KiB",
                "growth-memory",
                "memory of",
                |figures| &figures.memory,
                Row::new("", Goal::Linear),
            ),
        ];
        for (title, file, what, costs, row) in tables {
            let table = &mut self.report.table(title, "entries", &sizes);
            for (name, figures) in &all {
                let name = format!("{what} {name}");
                let row = Row { name: &name, ..row };
                table.row_with(row, costs(figures).iter().copied());
            }
            table.draw(file)?;
        }
        Ok(())
    }
}
