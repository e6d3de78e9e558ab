//! Names under which the status is shown.
//!
//! A page of a stranger may have a name that leads to this host, and the browser that shows it lets
//! it read what this host answers under that name (DNS rebinding). The request has the name in Host.

use std::net::IpAddr;

use hyper::{
    Request,
    header::{HOST, HeaderValue},
    http::uri::Authority,
};

/// Whether a request is made under a name that a stranger may have, in Host or in the target. (RFC
/// 9112 §3.2.2: the target counts where both are given.) Programs may leave the name out; browsers
/// never do.
pub(super) fn is_foreign<B>(request: &Request<B>, is_own: impl Fn(&str) -> bool) -> bool {
    let is_foreign = |authority: &Authority| is_foreign_name(authority.host(), &is_own);
    let is_foreign_field = |value: &HeaderValue| {
        !value.is_empty()
            && Authority::try_from(value.as_bytes()).map_or(true, |host| is_foreign(&host))
    };
    request.uri().authority().is_some_and(is_foreign)
        || request.headers().get_all(HOST).iter().any(is_foreign_field)
}

/// Addresses belong to nobody who could have them lead elsewhere, nor do names without a dot, such as
/// those of containers, and the names below `localhost` (RFC 6761 §6.3).
fn is_foreign_name(host: &str, is_own: impl Fn(&str) -> bool) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let is_harmless = address.parse::<IpAddr>().is_ok()
        || !host.contains(['.', ':'])
        || host.ends_with(".localhost");
    !is_harmless && !is_own(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_names_are_told_apart() {
        for (host, expected) in [
            ("localhost", false),
            ("LOCALHOST:9108", false),
            ("x.localhost", false),
            ("127.0.0.1:9108", false),
            ("203.0.113.7", false),
            ("[::1]", false),
            ("[2001:db8::1]:9108", false),
            ("spf-milter:9108", false),
            ("mx.example.org", false),
            ("MX.Example.ORG.:9108", false),
            ("", false),
            ("evil.example", true),
            ("evil.example:9108", true),
            ("mx.example.org.evil.example", true),
            ("evil.mx.example.org", true),
            ("localhost.evil.example", true),
            ("localhost@evil.example", true),
            ("127.0.0.1.evil.example", true),
            ("evil.example, localhost", true),
            ("::1", true),
            ("a b", true),
        ] {
            let request = Request::builder().header(HOST, host).body(()).unwrap();
            assert_eq!(is_foreign(&request, |name| name == "mx.example.org"), expected, "{host}");
        }
    }

    #[test]
    fn all_names_of_a_request_count() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            is_foreign(&request.body(()).unwrap(), |_| false)
        };
        assert!(!of("/", &[]));
        assert!(!of("http://localhost/", &["127.0.0.1"]));
        assert!(of("http://evil.example/", &["localhost"]));
        assert!(of("http://localhost/", &["evil.example"]));
        assert!(of("/", &["localhost", "evil.example"]));
    }
}
