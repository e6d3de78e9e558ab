//! Responses: which page a request gets, and in what form.

use hyper::{
    Method, Request, Response, StatusCode,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
        HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    hosts::is_foreign,
    site::{Health, Page, Site},
};

/// The types of the contents.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Who may have the answer in a page of theirs.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The answer to who asks for the status under a name that may be a stranger's.
const OTHER_NAME: &str = "the status is not shown under this name: use an address, localhost, or the \
                          name in hostname or metrics_socket\n";

/// Nothing of a page comes from elsewhere, runs, or is shown within a page of others; its own style
/// is named by its hash.
fn policy<S: Site>() -> HeaderValue {
    let style = S::STYLE;
    let policy = format!(
        "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    // A hash has no characters that a field cannot have.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Answers a request.
pub(super) async fn respond<S: Site>(request: &Request<impl Sized>, site: &S) -> Response<String> {
    #[cfg(all(feature = "testing", debug_assertions))]
    crate::internal_error::panic_where_asked("page", request.uri().path().as_bytes());
    let is_permitted = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match request.uri().path() {
        "/" | "/metrics" | "/-/healthy" | "/-/ready" if !is_permitted => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/metrics" => page(site, Page::Metrics, METRICS),
        "/-/healthy" => health(site.is_healthy().await),
        "/-/ready" => health(site.is_ready().await),
        "/" if is_foreign(request, |name| site.is_own_name(name)) => {
            plain(StatusCode::MISDIRECTED_REQUEST, OTHER_NAME.into())
        }
        "/" => {
            let mut response = match wants_json(request) {
                true => page(site, Page::StatusJson, JSON),
                false => page(site, Page::Status, HTML),
            };
            response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            response
        }
        _ => {
            plain(StatusCode::NOT_FOUND, "there are /, /metrics, /-/healthy and /-/ready\n".into())
        }
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, policy::<S>());
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether JSON is asked for by name: a browser asks for HTML and anything else.
fn wants_json<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = values.flat_map(|value| value.split(','));
    ranges.any(|range| {
        range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(JSON))
    })
}

fn page(site: &impl Site, page: Page, content_type: &'static str) -> Response<String> {
    match site.page(page) {
        Ok(content) => typed(StatusCode::OK, content, content_type),
        Err(reason) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
    }
}

fn health(health: Health) -> Response<String> {
    match health {
        Ok(()) => plain(StatusCode::OK, "ok\n".into()),
        Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    typed(status, text, TEXT)
}

fn typed(status: StatusCode, content: String, content_type: &'static str) -> Response<String> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use hyper::header::HOST;

    use super::*;

    /// A site that has no name servers; if it is broken, only its HTML is left.
    #[derive(Default)]
    struct Small {
        is_broken: bool,
    }

    impl Site for Small {
        const STYLE: &'static str = "sha256-AAAA";

        fn page(&self, page: Page) -> Result<String, String> {
            match page {
                Page::StatusJson if self.is_broken => Err("cannot write the status".into()),
                Page::Metrics if self.is_broken => Err("cannot write metrics".into()),
                page => Ok(format!("{page:?}")),
            }
        }

        fn is_own_name(&self, name: &str) -> bool {
            name == "mx.example.org"
        }

        async fn is_healthy(&self) -> Health {
            Ok(())
        }

        async fn is_ready(&self) -> Health {
            Err("name servers are silent".into())
        }
    }

    async fn ask(method: Method, path: &str, accept: &[&str]) -> (u16, String, String) {
        let mut request = Request::builder().method(method).uri(path);
        for accept in accept {
            request = request.header(ACCEPT, *accept);
        }
        let response = respond(&request.body(()).unwrap(), &Small::default()).await;
        let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-AAAA'; "), "{policy}");
        assert_eq!(response.headers().contains_key(ALLOW), response.status() == 405);
        (response.status().as_u16(), content_type, response.into_body())
    }

    #[tokio::test]
    async fn each_path_has_its_page() {
        for (path, status, content_type, content) in [
            ("/", 200, HTML, "Status"),
            ("/?x=y", 200, HTML, "Status"),
            ("/metrics", 200, METRICS, "Metrics"),
            ("/-/healthy", 200, TEXT, "ok\n"),
            ("/-/ready", 503, TEXT, "name servers are silent\n"),
            ("/metrics/", 404, TEXT, "there are /, /metrics, /-/healthy and /-/ready\n"),
            ("//", 404, TEXT, "there are /, /metrics, /-/healthy and /-/ready\n"),
            ("/METRICS", 404, TEXT, "there are /, /metrics, /-/healthy and /-/ready\n"),
        ] {
            let expected = (status, content_type.to_owned(), content.to_owned());
            assert_eq!(ask(Method::GET, path, &[]).await, expected, "{path}");
            assert_eq!(ask(Method::HEAD, path, &[]).await.0, status, "{path}");
            let other = if status == 404 { 404 } else { 405 };
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                assert_eq!(ask(method, path, &[]).await.0, other, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn json_is_asked_for_by_name() {
        const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, content_type) in [
            (&["application/json"][..], JSON),
            (&["text/plain", "text/x, Application/JSON ;q=0.5"], JSON),
            (&[BROWSER], HTML),
            (&["*/*"], HTML),
            (&["application/json-seq"], HTML),
        ] {
            assert_eq!(ask(Method::GET, "/", accept).await.1, content_type, "{accept:?}");
        }
    }

    #[tokio::test]
    async fn a_page_that_cannot_be_written_is_an_error() {
        let site = Small { is_broken: true };
        for (path, accept, status, content) in [
            ("/metrics", "*/*", 500, "cannot write metrics\n"),
            ("/", JSON, 500, "cannot write the status\n"),
            ("/", "*/*", 200, "Status"),
        ] {
            let request = Request::builder().uri(path).header(ACCEPT, accept).body(()).unwrap();
            let response = respond(&request, &site).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.into_body(), content, "{path}");
        }
    }

    #[tokio::test]
    async fn the_status_is_not_for_names_of_strangers() {
        for (path, host, status) in [
            ("/", "mx.example.org:9108", 200),
            ("/", "localhost", 200),
            ("/", "evil.example", 421),
            ("/metrics", "evil.example", 200),
            ("/-/healthy", "evil.example", 200),
        ] {
            let request = Request::builder().uri(path).header(HOST, host).body(()).unwrap();
            let response = respond(&request, &Small::default()).await;
            assert_eq!(response.status(), status, "{path} {host}");
            assert_eq!(response.headers()[RESOURCE_POLICY], "same-origin");
            assert!(!response.headers().contains_key("access-control-allow-origin"));
        }
    }
}
