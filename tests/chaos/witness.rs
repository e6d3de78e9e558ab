//! The well-behaved MTA beside a hostile one: what it is answered must be right, in time, and of one
//! configuration.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use testkit::{
    fields::Field,
    milter_client::{Finished, MilterClient, Reply, Socket},
    signer,
};

use super::rng::Rng;

/// Zones of the witness. Each name below them has its own look-ups.
pub const ZONE: &str = r#"
    *.good.example TXT "v=spf1 ip4:192.0.2.1 -all"
    *.bad.example TXT "v=spf1 -all"
    _dmarc.good.example TXT "v=DMARC1; p=reject"
    _dmarc.strict.example TXT "v=DMARC1; p=reject"
    ed._domainkey.good.example TXT "${ed25519}"
    1.2.0.192.in-addr.arpa PTR mail.good.example
    mail.good.example A 192.0.2.1
    mail.good.example TXT "v=spf1 ip4:192.0.2.1 -all"
"#;

/// The limit of one check, `timeout_secs` of the configurations here.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time for an answer: the end of a message may take two limits (`docs/limits.md`). The
/// rest is for machines with other work.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2 * 3 + 10);

/// Messages that are remembered, so that a long test does not grow itself.
const MAX_IDS: usize = 50_000;

/// One of the configurations `a` and `b`, which every answer shows: replies, fields that are
/// written, deleted and verified, and what the MTA is asked for.
pub fn config(name: char, nameservers: &[SocketAddr]) -> String {
    let servers: Vec<String> = nameservers.iter().map(ToString::to_string).collect();
    let own = match name {
        'a' => {
            "header = Received-SPF, Authentication-Results\nverify_helo = no\nverify_dkim = yes\n\
             fail_reply_code = 550\ntemperror_reply_code = 451\ndmarc_fail_reply_code = 550\n"
        }
        _ => {
            "header = Authentication-Results\nverify_dkim = yes\nmax_dkim_signatures = 1\n\
             verify_iprev = yes\nreject_helo_results =\n\
             fail_reply_code = 553\nfail_status_code = 5.7.1\ntemperror_reply_code = 450\n\
             dmarc_fail_reply_code = 554\n"
        }
    };
    let texts = ["fail", "temperror", "permerror", "dmarc_fail"]
        .map(|kind| format!("{kind}_reply_text = generation {name}\n"))
        .concat();
    format!(
        "nameservers = {}\nhostname = {name}.example\ntimeout_secs = {}\ndns_timeout_secs = 1\n\
         verify_dmarc = yes\ndmarc_reject_action = reject\ndmarc_temperror_action = defer\n\
         delete_incoming_authentication_results = yes\n{texts}{own}",
        servers.join(", "),
        TIMEOUT.as_secs(),
    )
}

/// What the witness must put up with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Name servers that are everybody's have trouble: temperror is right, too.
    pub trouble: bool,
    /// The daemon may end: connections may break between messages.
    pub breaks: bool,
    /// It may be killed: messages under way may have no answer.
    pub cuts: bool,
}

/// What the witness saw.
#[derive(Clone, Debug, Default)]
pub struct Testimony {
    /// Messages that were answered to their end.
    pub messages: usize,
    /// Messages that were answered with a temporary refusal.
    pub deferred: usize,
    /// Sessions that the end of the daemon cut off.
    pub broken: usize,
    /// Messages of each configuration.
    pub generations: BTreeMap<char, usize>,
    pub slowest: Duration,
    /// Queue ids of messages that came to their end, not more than [`MAX_IDS`] of each thread.
    pub ids: Vec<String>,
    /// Broken promises.
    pub faults: Vec<String>,
}

impl Testimony {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.deferred += other.deferred;
        self.broken += other.broken;
        for (name, count) in other.generations {
            *self.generations.entry(name).or_default() += count;
        }
        self.slowest = self.slowest.max(other.slowest);
        self.ids.extend(other.ids);
        self.faults.extend(other.faults);
    }
}

/// Threads that send messages, one after the other, until they are stopped.
pub struct Witness {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Testimony>>,
}

impl Witness {
    pub fn start(socket: &Socket, rng: &mut Rng, manner: Manner) -> Self {
        Self::start_some(2, socket, rng, manner)
    }

    pub fn start_some(count: usize, socket: &Socket, rng: &mut Rng, manner: Manner) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicUsize::new(0));
        let threads = (0..count)
            .map(|_| {
                let (socket, mut rng) = (socket.clone(), rng.fork());
                let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
                thread::spawn(move || {
                    let mut testimony = Testimony::default();
                    while !stop.load(Ordering::Relaxed) && testimony.faults.len() < 5 {
                        session(&socket, &mut rng, manner, &mut testimony);
                        rounds.fetch_add(1, Ordering::Relaxed);
                        // One processor is not for the witness alone.
                        thread::sleep(Duration::from_millis(2));
                    }
                    testimony
                })
            })
            .collect();
        Self { stop, rounds, threads }
    }

    /// Sessions so far.
    pub fn rounds(&self) -> usize {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits until as many more sessions have ended.
    pub fn wait_for(&self, more: usize) {
        let until = self.rounds() + more;
        testkit::wait_for("the witness", || {
            (self.rounds() >= until || self.threads.iter().all(JoinHandle::is_finished))
                .then_some(())
        });
    }

    /// What was seen; a broken promise is a panic.
    pub fn stop(self) -> Testimony {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Testimony::default();
        for thread in self.threads {
            all.add(thread.join().expect("the witness panicked"));
        }
        assert!(all.faults.is_empty(), "broken promises: {:#?}", all.faults);
        assert!(all.messages > 0, "the witness sent nothing");
        all
    }
}

/// One session, so that a subject is known to serve.
pub fn warm_up(socket: &Socket, rng: &mut Rng) {
    let mut testimony = Testimony::default();
    for _ in 0..8 {
        session(socket, rng, Manner::default(), &mut testimony);
    }
    assert!(testimony.faults.is_empty(), "{:#?}", testimony.faults);
}

/// Three messages on one connection, which all show the same configuration.
pub fn session(socket: &Socket, rng: &mut Rng, manner: Manner, testimony: &mut Testimony) {
    let mut seen = Seen { rng, manner, testimony, generation: None };
    match seen.play(socket) {
        Ok(()) => {}
        Err(Trouble::Io(_)) if manner.breaks => testimony.broken += 1,
        Err(Trouble::Io(error)) => testimony.faults.push(format!("lost: {error}")),
        Err(Trouble::Fault(fault)) => testimony.faults.push(fault),
    }
}

enum Trouble {
    Io(io::Error),
    Fault(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Fault(text.into()))
}

struct Seen<'a> {
    rng: &'a mut Rng,
    manner: Manner,
    testimony: &'a mut Testimony,
    generation: Option<char>,
}

impl Seen<'_> {
    fn play(&mut self, socket: &Socket) -> Result<(), Trouble> {
        let begun = Instant::now();
        let mut client = MilterClient::connect_to(socket)?;
        client.gathers = self.rng.once_in(2);
        client.connect("mail.good.example", Some("192.0.2.1:25000".parse().unwrap()))?;
        client.helo("mail.good.example")?;
        self.in_time("the begin of a session", begun)?;
        let first = self.rng.below(3);
        for kind in 0..3 {
            match (first + kind) % 3 {
                0 => self.refused(&mut client)?,
                1 => self.good(&mut client)?,
                _ => self.strict(&mut client)?,
            }
        }
        client.quit()?;
        Ok(())
    }

    fn in_time(&mut self, what: &str, begun: Instant) -> Result<(), Trouble> {
        let took = begun.elapsed();
        self.testimony.slowest = self.testimony.slowest.max(took);
        if took > ANSWER_LIMIT { fault(format!("{what} took {took:?}")) } else { Ok(()) }
    }

    /// All answers of a session are those of one configuration.
    fn is_of(&mut self, name: char, what: &str) -> Result<(), Trouble> {
        match self.generation.replace(name) {
            Some(former) if former != name => {
                fault(format!("a mixture of {former} and {name} in {what}"))
            }
            _ => Ok(()),
        }
    }

    fn ended(&mut self, id: Option<String>) {
        self.testimony.messages += 1;
        if self.testimony.ids.len() < MAX_IDS {
            self.testimony.ids.extend(id);
        }
        let name = self.generation.unwrap_or('?');
        *self.testimony.generations.entry(name).or_default() += 1;
    }

    /// A reply of this configuration with one of these codes.
    fn reply(&mut self, reply: &Reply, kind: &str, codes: [&str; 2]) -> Result<(), Trouble> {
        if let Reply::Code(text) = reply {
            for (name, code) in ['a', 'b'].into_iter().zip(codes) {
                if text.starts_with(code) && text.ends_with(&format!(" generation {name}")) {
                    return self.is_of(name, kind);
                }
            }
            let deferral = [("451 4.7.24 generation a", 'a'), ("450 4.7.24 generation b", 'b')];
            let of = deferral.iter().find(|(deferral, _)| text == deferral).map(|(_, name)| *name);
            let of_dmarc = text == "451 4.7.26 DMARC validation error";
            if self.manner.trouble && (of.is_some() || of_dmarc) {
                self.testimony.deferred += 1;
                return of.map_or(Ok(()), |name| self.is_of(name, kind));
            }
        }
        fault(format!("{kind}: answered {reply:?}"))
    }

    /// A sender whom SPF refuses: no answer lets it through.
    fn refused(&mut self, client: &mut MilterClient) -> Result<(), Trouble> {
        let begun = Instant::now();
        let reply = client.mail(format!("<amy@{:x}.bad.example>", self.rng.next()))?;
        self.in_time("a refusal", begun)?;
        self.reply(&reply, "a sender with SPF fail", ["550 5.7.23 ", "553 5.7.1 "])?;
        client.abort()?;
        self.ended(None);
        Ok(())
    }

    /// A message whose author asks for its rejection.
    fn strict(&mut self, client: &mut MilterClient) -> Result<(), Trouble> {
        let begun = Instant::now();
        let id = self.begin(client);
        let mail = client.mail(format!("<amy@{:x}.good.example>", self.rng.next()))?;
        self.in_time("MAIL FROM", begun)?;
        if mail != Reply::Continue {
            self.reply(&mail, "a good sender", ["-", "-"])?;
            client.abort()?;
            self.ended(None);
            return Ok(());
        }
        let begun = Instant::now();
        let from = Field::new("From", " The boss <boss@strict.example>");
        let end = client.message(&[from], &self.body());
        let end = self.under_way(end)?;
        self.in_time("the end of a message", begun)?;
        let codes = ["550 5.7.26 ", "554 5.7.26 "];
        self.reply(&end.reply, "a message with DMARC fail", codes)?;
        self.ended(Some(id));
        Ok(())
    }

    /// A message whose sender was answered comes to its end.
    fn under_way(&self, end: io::Result<Finished>) -> Result<Finished, Trouble> {
        match end {
            Err(error) if !self.manner.cuts => fault(format!("a message was cut off: {error}")),
            end => Ok(end?),
        }
    }

    fn begin(&mut self, client: &mut MilterClient) -> String {
        let id = format!("W{:016x}", self.rng.next());
        client.macros.insert("i".into(), id.clone());
        id
    }

    fn body(&mut self) -> Vec<u8> {
        let lines = [1, 20, 2000][self.rng.below(3)];
        b"a line of the body, and no more\r\n".repeat(1 + self.rng.below(lines))
    }

    /// A message that passes all, and has fields in the names of both configurations.
    fn good(&mut self, client: &mut MilterClient) -> Result<(), Trouble> {
        let begun = Instant::now();
        let id = self.begin(client);
        let domain = format!("{:x}.good.example", self.rng.next());
        let mail = client.mail(format!("<amy@{domain}>"))?;
        self.in_time("MAIL FROM", begun)?;
        if mail != Reply::Continue {
            self.reply(&mail, "a good sender", ["-", "-"])?;
            client.abort()?;
            self.ended(None);
            return Ok(());
        }
        let mut body = self.body();
        let mut fields = vec![
            Field::new("From", format!(" Amy <amy@{domain}>")),
            Field::new("Subject", " hello"),
        ];
        let signature = signer::sign("d=good.example s=ed", &fields, &body);
        let is_changed = self.rng.once_in(3);
        if is_changed {
            body[0] ^= 1;
        }
        // Of which one configuration verifies one, and the other both.
        fields.insert(0, Field::new("DKIM-Signature", signature.clone()));
        fields.insert(0, Field::new("DKIM-Signature", signature));
        for host in ["a.example", "b.example"] {
            fields.insert(
                0,
                Field::new("Authentication-Results", format!(" {host}; dmarc=pass (forged)")),
            );
        }
        let begun = Instant::now();
        let end = client.message(&fields, &body);
        let end = self.under_way(end)?;
        self.in_time("the end of a message", begun)?;
        if end.reply == Reply::Continue {
            self.good_fields(&end, is_changed)?;
        } else {
            self.reply(&end.reply, "a good message", ["-", "-"])?;
        }
        self.ended(Some(id));
        Ok(())
    }

    fn good_fields(&mut self, end: &Finished, is_changed: bool) -> Result<(), Trouble> {
        let fields: Vec<String> = end.fields.iter().map(Field::unfolded).collect();
        let forged = "dmarc=pass (forged)";
        let results: Vec<&String> =
            fields.iter().filter(|field| field.starts_with("Authentication-Results:")).collect();
        let [ours, theirs] = results.as_slice() else {
            return fault(format!("not two Authentication-Results: {fields:#?}"));
        };
        let words: Vec<&str> = ours.split_ascii_whitespace().collect();
        let name = match words[1] {
            "a.example;" => 'a',
            "b.example;" => 'b',
            _ => return fault(format!("of no configuration: {ours}")),
        };
        self.is_of(name, "the fields of a message")?;
        // The forged field in our own name is gone, and the other one is there.
        let other = if name == 'a' { "b.example" } else { "a.example" };
        if ours.contains(forged) || !theirs.contains(&format!("{other}; {forged}")) {
            return fault(format!("forged fields: {fields:#?}"));
        }
        let has_received_spf = fields.iter().any(|field| field.starts_with("Received-SPF: pass "));
        let result = |method: &str| {
            let (_, rest) = ours.split_once(&format!(" {method}="))?;
            rest.split([' ', ';']).next()
        };
        let dkim = if is_changed { "fail" } else { "pass" };
        let wanted: [(&str, Option<&str>); 4] = match name {
            'a' => [
                ("spf", Some("pass")),
                ("dkim", Some(dkim)),
                ("dmarc", Some("pass")),
                ("iprev", None),
            ],
            _ => [
                ("spf", Some("pass")),
                ("dkim", Some(dkim)),
                ("dmarc", Some("pass")),
                ("iprev", Some("pass")),
            ],
        };
        for (method, wanted) in wanted {
            let found = result(method);
            let unknown = self.manner.trouble && wanted.is_some() && found == Some("temperror");
            if found != wanted && !unknown {
                return fault(format!("{method} is {found:?}, not {wanted:?}: {ours}"));
            }
        }
        let signatures = ours.matches(" dkim=").count();
        let policies = ours.matches(" dkim=policy ").count();
        if (signatures, policies) != (2, usize::from(name == 'b')) {
            return fault(format!("signatures with configuration {name}: {ours}"));
        }
        if has_received_spf != (name == 'a') {
            return fault(format!("Received-SPF with configuration {name}: {fields:#?}"));
        }
        Ok(())
    }
}
