//! The contents, which others have.

/// What there is to see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Page {
    /// `/metrics`, in the text format of Prometheus.
    Metrics,
    /// `/`, as HTML.
    Status,
    /// `/`, as JSON.
    StatusJson,
}

/// Whether the program can work, or the reason why it cannot, in one line.
pub(crate) type Health = Result<(), String>;

/// Where the contents come from. Nothing of it may take long: one thread serves all requests.
pub(crate) trait Site: Send + Sync + 'static {
    /// The hash of the style of the status page, as Content-Security-Policy spells it.
    const STYLE: &'static str;
    /// The content of a page.
    ///
    /// # Errors
    ///
    /// A fault of the program, which has been logged; what it is, in one line.
    fn page(&self, page: Page) -> Result<String, String>;
    /// Whether a domain name without a port is one of this host's own. (The status is not shown
    /// under any other: see `hosts`.)
    fn is_own_name(&self, name: &str) -> bool;
    /// Whether the milter serves the MTA (`/-/healthy`).
    fn is_healthy(&self) -> impl Future<Output = Health> + Send;
    /// Whether it also has the answers of name servers (`/-/ready`).
    fn is_ready(&self) -> impl Future<Output = Health> + Send;
}
