//! The DNS client against a name server on loopback.

#[path = "support/nameserver.rs"]
mod nameserver;

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use nameserver::NameServer;
use spf_milter::dns::zone::Zone;

#[test]
fn the_name_server_answers() {
    let server = NameServer::start(Zone::parse("www.example CNAME web.example\nweb.example A 192.0.2.1").unwrap());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("www.example.").unwrap(), RecordType::A));
    socket.send_to(&query.to_vec().unwrap(), server.address()).unwrap();
    let mut buffer = [0; 512];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(reply.answers[1].data, RData::A(Ipv4Addr::new(192, 0, 2, 1).into()));
    assert_eq!(server.count("www.example", spf_milter::dns::RecordType::A), 1);
}
