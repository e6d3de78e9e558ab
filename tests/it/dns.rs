//! The DNS client against name servers on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hickory_resolver::proto::op::{Message, ResponseCode};
use spf_milter::dns::{Answer, Dns, Failure, Mx, Name, RecordType, Settings, zone::Zone};
use testkit::PATIENCE;
use testkit::nameserver::{Behaviour, NameServer, closed_port};
use tokio::time;

const ZONE: &str = r#"
    example.com A 192.0.2.1
    example.com AAAA 2001:db8::1
    example.com MX 10 mx.example.com
    example.com MX 20 mx2.example.com
    example.com TXT "v=spf1 " "-all"
    www.example.com CNAME web.example.com
    web.example.com CNAME example.com
    dangling.example.com CNAME nowhere.example.com
    null.example.com MX 0 .
    192.0.2.1 PTR mail.example.com
    servfail.example.com * !servfail
    refused.example.com * !refused
    silent.example.com * !timeout
"#;

const HASTE: Duration = Duration::from_secs(1);

fn zone() -> Arc<Zone> {
    Arc::new(Zone::parse(ZONE).unwrap())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address() -> Answer {
    Answer::A([Ipv4Addr::new(192, 0, 2, 1)].into())
}

/// Long time-outs where none is expected: the machine may be busy.
fn settings(servers: &[SocketAddr]) -> Settings {
    Settings {
        nameservers: Some(servers.to_vec()),
        timeout: Duration::from_secs(20),
        ..Settings::default()
    }
}

/// Where a time-out is expected.
fn hasty(servers: &[SocketAddr]) -> Settings {
    Settings { timeout: HASTE, ..settings(servers) }
}

async fn look_up(dns: &Dns, host: &str) -> Result<Answer, Failure> {
    dns.lookup(&name(host), RecordType::A).await
}

/// Lets time pass for the client only.
async fn pass(duration: Duration) {
    time::pause();
    time::advance(duration).await;
    time::resume();
}

/// Waits for something that comes about on another thread or task.
async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "it never happens");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn records_of_every_type() {
    let server = NameServer::start(zone());
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(
        dns.lookup(&name("example.com"), RecordType::Aaaa).await,
        Ok(Answer::Aaaa(["2001:db8::1".parse().unwrap()].into()))
    );
    let mx = |preference, exchange| Mx { preference, exchange };
    assert_eq!(
        dns.lookup(&name("example.com"), RecordType::Mx).await,
        Ok(Answer::Mx(
            [mx(10, Some(name("mx.example.com"))), mx(20, Some(name("mx2.example.com")))].into()
        ))
    );
    assert_eq!(
        dns.lookup(&name("null.example.com"), RecordType::Mx).await,
        Ok(Answer::Mx([mx(0, None)].into()))
    );
    assert_eq!(*dns.txt(&name("example.com")).await.unwrap(), [Box::from(*b"v=spf1 -all")]);
    let address = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(*dns.ptr(address).await.unwrap(), [name("mail.example.com")]);
    assert!(server.log().iter().all(|query| query.edns && !query.tcp));
}

#[tokio::test]
async fn aliases() {
    let server = NameServer::start(zone());
    server.behave("web.example.com", Behaviour { only_aliases: true, ..Behaviour::default() });
    server.behave("example.com", Behaviour { stray_records: true, ..Behaviour::default() });
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(look_up(&dns, "www.example.com").await, Ok(address()));
    // Where the target is left out, it is asked for.
    assert_eq!(look_up(&dns, "web.example.com").await, Ok(address()));
    assert_eq!(look_up(&dns, "dangling.example.com").await, Err(Failure::NxDomain));
    // Records of other names are not taken for those asked for.
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(*dns.txt(&name("example.com")).await.unwrap(), [Box::from(*b"v=spf1 -all")]);
    assert_eq!(server.total(), 6);
}

#[tokio::test]
async fn aliases_without_end() {
    let zone = (0..20)
        .map(|number| format!("n{number}.example CNAME n{}.example\n", number + 1))
        .collect::<String>();
    let zone = zone
        + "n20.example A 192.0.2.1\nround.example CNAME about.example\nabout.example CNAME round.example\n";
    let server = NameServer::start(Zone::parse(&zone).unwrap());
    server.behave("*", Behaviour { first_alias_only: true, ..Behaviour::default() });
    let dns = Dns::new(&settings(&[server.address()]));
    for (host, questions, expected) in [
        ("n20.example", 1, Ok(address())),
        ("n19.example", 2, Ok(address())),
        ("n13.example", 8, Ok(address())),
        ("n12.example", 8, Err(Failure::Rcode("SERVFAIL"))),
        ("round.example", 8, Err(Failure::Rcode("SERVFAIL"))),
    ] {
        server.clear();
        assert_eq!(look_up(&dns, host).await, expected, "{host}");
        assert_eq!(server.total(), questions, "{host}");
    }
}

#[tokio::test]
async fn every_kind_of_failure() {
    let server = NameServer::start(zone());
    let notimp = Behaviour { rcode: Some(ResponseCode::NotImp), ..Behaviour::default() };
    server.behave("notimp.example.com", notimp);
    server.behave(
        "odd.example.com",
        Behaviour { rcode: Some(ResponseCode::Unknown(12)), ..Behaviour::default() },
    );
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(look_up(&dns, "none.example.com").await, Err(Failure::NxDomain));
    assert_eq!(look_up(&dns, "mail.example.com").await, Err(Failure::NxDomain));
    assert_eq!(look_up(&dns, "com").await, Err(Failure::NoData));
    assert_eq!(look_up(&dns, "servfail.example.com").await, Err(Failure::Rcode("SERVFAIL")));
    assert_eq!(look_up(&dns, "refused.example.com").await, Err(Failure::Rcode("REFUSED")));
    assert_eq!(look_up(&dns, "notimp.example.com").await, Err(Failure::Rcode("NOTIMP")));
    assert_eq!(look_up(&dns, "odd.example.com").await, Err(Failure::Rcode("unknown RCODE")));
    // An error is not asked for again.
    assert_eq!(server.count("servfail.example.com", RecordType::A), 1);

    let hasty = Dns::new(&hasty(&[server.address()]));
    assert_eq!(look_up(&hasty, "silent.example.com").await, Err(Failure::Timeout));
    assert_eq!(hasty.statistics().timeouts, 2, "two attempts");
    // It is the name that is silent, not the server.
    assert_eq!(look_up(&hasty, "example.com").await, Ok(address()));

    let nobody = Dns::new(&settings(&[closed_port()]));
    assert_eq!(look_up(&nobody, "example.com").await, Err(Failure::Network));
    assert_eq!(nobody.statistics().errors, 2);
}

#[tokio::test]
async fn existence() {
    let server = NameServer::start(zone());
    let dns = Dns::new(&settings(&[server.address()]));
    for (host, exists) in [
        ("example.com", true),
        ("com", true),
        ("www.example.com", true),
        // The last name of the chain is what does not exist.
        ("dangling.example.com", true),
        ("nowhere.example.com", false),
    ] {
        assert_eq!(dns.exists(&name(host)).await, Ok(exists), "{host}");
        assert_eq!(dns.exists(&name(host)).await, Ok(exists), "{host}");
        // It is known then, and mixed up with no look-up of addresses.
        assert_eq!(server.count(host, RecordType::A), 1, "{host}");
    }
    assert!(server.log().iter().all(|query| query.dnssec_ok && query.compact_ok));
    assert_eq!(look_up(&dns, "dangling.example.com").await, Err(Failure::NxDomain));
    assert!(!server.log().last().unwrap().dnssec_ok);
    assert_eq!(dns.exists(&name("servfail.example.com")).await, Err(Failure::Rcode("SERVFAIL")));
}

#[tokio::test]
async fn existence_with_compact_denial() {
    for compact_ok in [false, true] {
        let server = NameServer::start(zone());
        server.behave("*", Behaviour { compact_denial: true, compact_ok, ..Behaviour::default() });
        let dns = Dns::new(&settings(&[server.address()]));
        assert_eq!(look_up(&dns, "nowhere.example.com").await, Err(Failure::NoData));
        for (host, exists) in [
            ("example.com", true),
            ("com", true),
            ("dangling.example.com", true),
            ("nowhere.example.com", false),
        ] {
            assert_eq!(dns.exists(&name(host)).await, Ok(exists), "{host} {compact_ok}");
        }
    }
}

#[tokio::test]
async fn names_that_the_library_would_answer_itself() {
    let server = NameServer::start(
        Zone::parse("localhost TXT here\nx.invalid A 192.0.2.1\n127.0.0.1 PTR me.example").unwrap(),
    );
    let dns = Dns::new(&settings(&[server.address()]));
    assert!(dns.txt(&name("localhost")).await.is_ok());
    assert_eq!(look_up(&dns, "localhost").await, Err(Failure::NoData));
    assert_eq!(look_up(&dns, "x.invalid").await, Ok(address()));
    assert_eq!(*dns.ptr(Ipv4Addr::LOCALHOST.into()).await.unwrap(), [name("me.example")]);
    assert_eq!(look_up(&dns, "x.onion").await, Err(Failure::NxDomain));
    assert_eq!(server.total(), 5);
}

#[tokio::test]
async fn tcp_after_truncation() {
    let text: Vec<u8> =
        (0..60_000).map(|number: u32| b'a' + u8::try_from(number % 26).unwrap()).collect();
    let mut zone = Zone::new();
    zone.add_txt("large.example", &text);
    zone.add_txt("small.example", b"x");
    zone.add_txt("mute.example", b"x");
    let server = NameServer::start(zone);
    let truncate = Behaviour { truncate: true, ..Behaviour::default() };
    server.behave("small.example", truncate.clone());
    server.behave("mute.example", Behaviour { drop_tcp: true, ..truncate });
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(*dns.txt(&name("large.example")).await.unwrap(), [text.into()]);
    assert_eq!(*dns.txt(&name("small.example")).await.unwrap(), [Box::from(*b"x")]);
    let tcp: Vec<_> = server.log().iter().map(|query| query.tcp).collect();
    assert_eq!(tcp, [false, true, false, true]);
    let hasty = Dns::new(&hasty(&[server.address()]));
    assert_eq!(hasty.txt(&name("mute.example")).await, Err(Failure::Timeout));
}

#[tokio::test]
async fn truncation_where_tcp_is_refused() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dns = Dns::new(&Settings { attempts: 1, ..settings(&[socket.local_addr().unwrap()]) });
    let server = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        let mut reply = Message::from_vec(&buffer[..length]).unwrap().into_response();
        reply.metadata.truncation = true;
        socket.send_to(&reply.to_vec().unwrap(), client).unwrap();
    });
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::Network));
    server.join().unwrap();
}

#[tokio::test]
async fn failover() {
    let good = NameServer::start(zone());
    let silent = NameServer::start(zone());
    silent.behave("*", Behaviour { drop: true, ..Behaviour::default() });
    for bad in [silent.address(), closed_port()] {
        let dns = Dns::new(&hasty(&[bad, good.address()]));
        for host in ["example.com", "www.example.com", "web.example.com"] {
            assert_eq!(look_up(&dns, host).await, Ok(address()));
        }
        // Only the first look-up asks the server that is down.
        let statistics = dns.statistics();
        assert_eq!([statistics.queries, statistics.timeouts + statistics.errors], [4, 1]);
        // After a while one look-up tries it again.
        pass(Duration::from_secs(31)).await;
        assert_eq!(look_up(&dns, "none.example.com").await, Err(Failure::NxDomain));
        assert_eq!(look_up(&dns, "no.example.com").await, Err(Failure::NxDomain));
        assert_eq!(dns.statistics().queries, 7);
    }
    let lame = NameServer::start(zone());
    lame.behave("*", Behaviour { rcode: Some(ResponseCode::ServFail), ..Behaviour::default() });
    let dns = Dns::new(&settings(&[lame.address(), good.address()]));
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(look_up(&dns, "none.example.com").await, Err(Failure::NxDomain));
    assert_eq!(lame.total(), 2);
    // SERVFAIL says more than silence.
    let dns = Dns::new(&Settings { attempts: 3, ..hasty(&[lame.address(), silent.address()]) });
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::Rcode("SERVFAIL")));
    assert_eq!(lame.total(), 3);
}

#[tokio::test]
async fn a_server_that_starts_later() {
    let address = closed_port();
    let dns = Dns::new(&settings(&[address]));
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::Network));
    let _server = NameServer::start_on(address, zone()).unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(look_up(&dns, "example.com").await, Ok(self::address()));
}

#[tokio::test]
async fn every_server_is_asked_before_an_error_is_one() {
    let good = NameServer::start(zone());
    let lame: Vec<_> = (0..3).map(|_| NameServer::start(zone())).collect();
    for server in &lame {
        server
            .behave("*", Behaviour { rcode: Some(ResponseCode::Refused), ..Behaviour::default() });
    }
    let mut servers: Vec<_> = lame.iter().map(NameServer::address).collect();
    let dns = Dns::new(&Settings { attempts: 1, ..settings(&servers) });
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::Rcode("REFUSED")));
    assert_eq!(dns.asked(&name("example.com"), RecordType::A), servers);
    assert!(dns.asked(&name("www.example.com"), RecordType::A).is_empty());
    servers.push(good.address());
    let dns = Dns::new(&Settings { attempts: 1, ..settings(&servers) });
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(lame.iter().map(NameServer::total).collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    for cache_size in [0, 100] {
        let server = NameServer::start(zone());
        server.behave(
            "example.com",
            Behaviour { latency: Duration::from_millis(20), ..Behaviour::default() },
        );
        let dns = Dns::new(&Settings { cache_size, ..settings(&[server.address()]) });
        let outcomes = join_all((0..100).map(|_| look_up(&dns, "example.com"))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(address())));
        let statistics = dns.statistics();
        assert_eq!(
            [statistics.queries, statistics.misses, statistics.coalesced, statistics.in_flight],
            [1, 100, 99, 0]
        );
        assert_eq!(server.count("example.com", RecordType::A), 1);
        // Later it is known, or asked again.
        assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
        assert_eq!(dns.statistics().queries, if cache_size == 0 { 2 } else { 1 });
    }
}

#[tokio::test]
async fn nobody_waits_nobody_asks() {
    let server = NameServer::start(zone());
    server.behave("*", Behaviour { drop: true, ..Behaviour::default() });
    let dns = Dns::new(&settings(&[server.address()]));
    let waiters: Vec<_> = (0..10)
        .map(|number| {
            let dns = dns.clone();
            tokio::spawn(async move { look_up(&dns, &format!("{}.example.com", number % 2)).await })
        })
        .collect();
    until(|| server.total() >= 2 && dns.statistics().coalesced == 8).await;
    assert_eq!(dns.statistics().in_flight, 2);
    for (number, waiter) in waiters.into_iter().enumerate() {
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        let left = match number {
            ..8 => 2,
            8 => 1,
            _ => 0,
        };
        assert_eq!(dns.statistics().in_flight, left, "after {number}");
    }
}

#[tokio::test]
async fn the_first_asker_may_leave() {
    let server = NameServer::start(zone());
    server.behave("example.com", Behaviour { drop: true, ..Behaviour::default() });
    let dns = Dns::new(&settings(&[server.address()]));
    let ask = || {
        let dns = dns.clone();
        tokio::spawn(async move { look_up(&dns, "example.com").await })
    };
    let first = ask();
    until(|| dns.statistics().in_flight == 1).await;
    let second = ask();
    until(|| dns.statistics().coalesced == 1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // A retransmission is answered.
    server.behave("example.com", Behaviour::default());
    assert_eq!(second.await.unwrap(), Ok(address()));
    let statistics = dns.statistics();
    assert_eq!([statistics.misses, statistics.coalesced, statistics.in_flight], [2, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn comings_and_goings_leave_nothing_behind() {
    let server = NameServer::start(zone());
    let dns = Dns::new(&Settings { cache_size: 0, ..settings(&[server.address()]) });
    for round in 0..200 {
        let waiters: Vec<_> = (0..32)
            .map(|number| {
                let dns = dns.clone();
                tokio::spawn(async move { look_up(&dns, &format!("{}.example", number % 4)).await })
            })
            .collect();
        for (number, waiter) in waiters.iter().enumerate() {
            if (number + round) % 3 != 0 {
                waiter.abort();
            }
        }
        for (number, waiter) in waiters.into_iter().enumerate() {
            match waiter.await {
                Ok(outcome) => assert_eq!(outcome, Err(Failure::NxDomain)),
                Err(error) => assert!(error.is_cancelled() && (number + round) % 3 != 0, "{error}"),
            }
        }
        assert_eq!(dns.statistics().in_flight, 0);
    }
    let statistics = dns.statistics();
    assert!(statistics.queries + statistics.coalesced <= statistics.misses, "{statistics:?}");
    assert!(statistics.coalesced > 0);
}

/// As the daemon has it: one client, threads with a runtime each.
#[test]
fn several_runtimes_share_a_client() {
    let server = NameServer::start(zone());
    // Over TCP as well: the connection belongs to one of the runtimes.
    server.behave("example.com", Behaviour { truncate: true, ..Behaviour::default() });
    let dns = Dns::new(&Settings { cache_size: 0, ..settings(&[server.address()]) });
    // As the daemon's, no runtime ends before the others: the connection would end with it.
    let end = tokio::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..50 {
                        assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
                        assert_eq!(look_up(&dns, "none.example").await, Err(Failure::NxDomain));
                    }
                    end.wait().await;
                });
            });
        }
    });
    let statistics = dns.statistics();
    assert_eq!((statistics.misses, statistics.in_flight), (400, 0));
}

#[tokio::test]
async fn kept_by_ttl() {
    let server = NameServer::start(zone());
    let with = |ttl, soa| Behaviour { ttl, soa, ..Behaviour::default() };
    server.behave("example.com", with(60, None));
    server.behave("www.example.com", with(0, None));
    server.behave("web.example.com", with(u32::MAX >> 1, None));
    server.behave("ttl.none.example", with(0, Some((30, 3600))));
    server.behave("minimum.none.example", with(0, Some((3600, 30))));
    server.behave("nosoa.none.example", with(0, None));
    server.behave("forever.none.example", with(0, Some((1 << 30, 1 << 30))));
    let dns = Dns::new(&settings(&[server.address()]));
    // Name, and the seconds it is kept.
    let cases = [
        ("example.com", 60),
        ("www.example.com", 0),
        ("web.example.com", 86400),
        ("ttl.none.example", 30),
        ("minimum.none.example", 30),
        ("nosoa.none.example", 10),
        ("forever.none.example", 10800),
        ("servfail.example.com", 1),
    ];
    for (host, kept) in cases {
        let first = look_up(&dns, host).await;
        if kept > 0 {
            pass(Duration::from_secs(kept) - Duration::from_millis(500)).await;
            assert_eq!(look_up(&dns, host).await, first);
            assert_eq!(server.count(host, RecordType::A), 1, "{host} before");
            pass(Duration::from_millis(500)).await;
        }
        assert_eq!(look_up(&dns, host).await, first);
        assert_eq!(server.count(host, RecordType::A), 2, "{host} after");
    }
}

#[tokio::test]
async fn a_silent_name_is_silent_for_a_second() {
    let server = NameServer::start(zone());
    let dns = Dns::new(&Settings { attempts: 1, ..hasty(&[server.address()]) });
    for queries in [1, 1, 2] {
        assert_eq!(look_up(&dns, "silent.example.com").await, Err(Failure::Timeout));
        assert_eq!(dns.statistics().queries, queries);
        pass(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn names_reach_the_wire_as_they_are() {
    let odd = [
        "a b.example",
        "\"a\".example",
        "a\\.example",
        "\\065\\.example",
        "*.example",
        "@.example",
        "a\tb\u{7f}.example",
    ];
    let server = NameServer::start(Zone::new());
    let dns = Dns::new(&settings(&[server.address()]));
    for text in odd {
        assert_eq!(look_up(&dns, text).await, Err(Failure::NxDomain));
    }
    let mut seen: Vec<_> = server.log().into_iter().map(|query| query.name).collect();
    seen.dedup();
    assert_eq!(seen, odd);
}

#[tokio::test]
async fn forged_replies_are_ignored() {
    let server = NameServer::start(zone());
    let forgery = Some(Arc::new(
        Zone::parse("example.com A 203.0.113.66\nwww.example.com A 203.0.113.66").unwrap(),
    ));
    server.behave(
        "example.com",
        Behaviour { wrong_id: true, forgery: forgery.clone(), ..Behaviour::default() },
    );
    server.behave(
        "www.example.com",
        Behaviour { wrong_question: true, forgery, ..Behaviour::default() },
    );
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(look_up(&dns, "www.example.com").await, Ok(address()));
    // A message over TCP with another question is not an answer.
    let over_tcp = Behaviour { wrong_question: true, truncate: true, ..Behaviour::default() };
    server.behave("web.example.com", over_tcp);
    assert_eq!(look_up(&dns, "web.example.com").await, Err(Failure::Malformed));
}

#[tokio::test]
async fn servers_without_edns() {
    for rcode in [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADVERS] {
        for bare_errors in [false, true] {
            let server = NameServer::start(zone());
            // Only a header has no room for the upper half of BADVERS.
            if bare_errors && rcode == ResponseCode::BADVERS {
                continue;
            }
            server.behave(
                "*",
                Behaviour { rcode_to_edns: Some(rcode), bare_errors, ..Behaviour::default() },
            );
            let dns = Dns::new(&settings(&[server.address()]));
            assert_eq!(look_up(&dns, "example.com").await, Ok(address()), "{rcode} {bare_errors}");
            let edns: Vec<_> = server.log().iter().map(|query| query.edns).collect();
            assert_eq!(edns, [true, false], "{rcode} {bare_errors}");
            assert_eq!(dns.statistics().queries, 1);
        }
    }
}

#[tokio::test]
async fn errors_without_a_question() {
    let server = NameServer::start(zone());
    server.behave(
        "*",
        Behaviour { rcode: Some(ResponseCode::Refused), bare_errors: true, ..Behaviour::default() },
    );
    let dns = Dns::new(&settings(&[server.address()]));
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::Rcode("REFUSED")));
}

#[tokio::test]
async fn texts_without_strings() {
    let zone =
        Zone::parse("two.example TXT \"v=spf1 -all\"\ntwo.example TXT \"\"\none.example TXT \"\"")
            .unwrap();
    let server = NameServer::start(zone);
    server.behave("*", Behaviour { texts_without_strings: true, ..Behaviour::default() });
    for truncate in [false, true] {
        server.behave(
            "*",
            Behaviour { texts_without_strings: true, truncate, ..Behaviour::default() },
        );
        let dns = Dns::new(&settings(&[server.address()]));
        assert_eq!(*dns.txt(&name("two.example")).await.unwrap(), [Box::from(*b"v=spf1 -all")]);
        assert_eq!(dns.txt(&name("one.example")).await, Err(Failure::NoData));
    }
    assert!(server.log().iter().any(|query| query.tcp));
}

#[tokio::test]
async fn long_answers_over_tcp() {
    let line =
        |n: usize, number: usize| format!("long{n}.example TXT \"{number}{}\"\n", "x".repeat(100));
    let text = |n: usize| (0..=10 * n).map(|number| line(n, number)).collect::<String>();
    let server = NameServer::start(Zone::parse(&(0..40).map(text).collect::<String>()).unwrap());
    let dns = Dns::new(&Settings { cache_size: 0, ..settings(&[server.address()]) });
    let (dns, expected): (_, Vec<usize>) = (&dns, (0..40).map(|n| 10 * n + 1).collect());
    let lookup =
        |n: usize| async move { dns.txt(&name(&format!("long{n}.example"))).await.unwrap().len() };
    // All at once over the connection, then one after the other.
    assert_eq!(join_all((0..40).map(lookup)).await, expected);
    for (n, expected) in expected.into_iter().enumerate() {
        assert_eq!(lookup(n).await, expected);
    }
    assert!(server.log().iter().filter(|query| query.tcp).count() > 70);
}

#[tokio::test]
async fn other_settings() {
    let (one, two) = (NameServer::start(zone()), NameServer::start(Zone::new()));
    let before = settings(&[one.address(), two.address()]);
    let dns = Dns::new(&before);
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    let same = Settings {
        nameservers: Some(vec![two.address(), one.address()]),
        attempts: 1,
        cache_size: 50,
        ..before.clone()
    };
    let dns = dns.reconfigured(&same);
    assert_eq!(look_up(&dns, "example.com").await, Ok(address()));
    assert_eq!(dns.statistics().hits, 1);
    let dns = dns.reconfigured(&Settings { nameservers: Some(vec![two.address()]), ..before });
    assert_eq!(look_up(&dns, "example.com").await, Err(Failure::NxDomain));
    assert_eq!([one.total(), two.total()], [1, 1]);
    assert_eq!(dns.statistics().queries, 2);
}

/// `cargo test --release --test it dns -- --ignored --nocapture` prints what look-ups cost.
#[tokio::test]
#[ignore = "measures"]
async fn cost() {
    let server = NameServer::start(zone());
    let dns = Dns::new(&settings(&[server.address()]));
    let host = name("example.com");
    let count = 1_000_000_u32;
    for record_type in [RecordType::A, RecordType::Txt] {
        dns.lookup(&host, record_type).await.unwrap();
        let start = Instant::now();
        for _ in 0..count {
            dns.lookup(&host, record_type).await.unwrap();
        }
        println!("hot {record_type:?}: {:?}", start.elapsed() / count);
    }
    let dns = Dns::new(&Settings { cache_size: 0, ..settings(&[server.address()]) });
    for concurrent in [1, 16, 64] {
        let count = 20_000_u32;
        let start = Instant::now();
        for batch in 0..count / concurrent {
            join_all((0..concurrent).map(|number| {
                let (dns, host) = (&dns, format!("{batch}-{number}.example"));
                async move { look_up(dns, &host).await.unwrap_err() }
            }))
            .await;
        }
        println!("cold, {concurrent} at once: {:?}", start.elapsed() / count);
    }
}
