//! The ready callback: tells somebody once that this worker serves.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use ureq::Agent;
use ureq::http::Uri;

/// Where the callback goes, below the address that the user gave.
const PATH: &str = "/v2/internal/workers/ready";
/// What one attempt may take.
const TO_ANSWER: Duration = Duration::from_secs(2);
/// How long is waited before each further attempt.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Who is told: an `http` or `https` address, without the slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallbackUrl(String);

/// What is told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ready {
    pub(super) worker_id: String,
    pub(super) model_ref: String,
    pub(super) vram_bytes: u64,
    /// Where clients reach the server.
    pub(super) uri: String,
    /// `vram-only` on a GPU; on the CPU the model is in the host's memory, and this says `host`.
    pub(super) memory_architecture: &'static str,
    pub(super) capabilities: &'static [&'static str],
}

impl FromStr for CallbackUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        let problem = if !matches!(uri.scheme_str(), Some("http" | "https")) {
            "must begin with http:// or https://"
        } else if uri.host().is_none_or(str::is_empty) {
            "names no host"
        } else if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            "has a user name or password, which would be logged"
        } else if uri.query().is_some() || text.contains('#') {
            "has a query or fragment, but a path is put after it"
        } else {
            return Ok(Self(text.trim_end_matches('/').to_owned()));
        };
        Err(problem.to_owned())
    }
}

impl Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PATH}", self.0)
    }
}

impl CallbackUrl {
    /// Tells that the worker is ready, again after growing pauses until somebody answers with a status of success.
    ///
    /// # Errors
    /// What the last attempt came to.
    pub(super) async fn tell(&self, ready: &Ready) -> Result<(), String> {
        let mut pauses = PAUSES.into_iter();
        for attempt in 1.. {
            let (url, body) = (self.to_string(), serde_json::to_string(ready).expect("texts and numbers"));
            let answer = tokio::task::spawn_blocking(move || post(&url, &body)).await;
            let problem = match answer.unwrap_or_else(|_| Err("the attempt panicked".to_owned())) {
                Ok(status) => {
                    tracing::info!(event = "ready_callback", attempt, status, url = %self, "told");
                    return Ok(());
                }
                Err(problem) => problem,
            };
            tracing::warn!(event = "ready_callback", attempt, url = %self, "not told: {problem}");
            match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(problem),
            }
        }
        unreachable!("the pauses come to an end")
    }

    /// The address at which the server that listens on `address` can be reached from where the callback goes: `address`
    /// itself, unless that is a wildcard; then the address that this machine uses towards there.
    pub(super) async fn reached_at(&self, address: SocketAddr) -> SocketAddr {
        if !address.ip().is_unspecified() {
            return address;
        }
        // A name may take long to resolve, and meanwhile the server has to answer.
        let url = self.clone();
        let own = tokio::task::spawn_blocking(move || url.own_address()).await;
        SocketAddr::new(own.ok().flatten().unwrap_or(address.ip()), address.port())
    }

    fn own_address(&self) -> Option<IpAddr> {
        let uri: Uri = self.0.parse().ok()?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = uri.host()?.trim_matches(['[', ']']);
        (host, port).to_socket_addrs().ok()?.find_map(|target| {
            let any: IpAddr =
                if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            // Connecting a datagram socket sends nothing; it only chooses the way.
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(target).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
    }
}

/// One attempt: the status of success, or what came instead.
fn post(url: &str, body: &str) -> Result<u16, String> {
    let config =
        Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(TO_ANSWER));
    let agent: Agent = config.max_redirects(0).max_redirects_will_error(false).build().into();
    let answer = agent.post(url).content_type("application/json").send(body);
    let status = answer.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(status.as_u16()) } else { Err(format!("the answer was {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_without_the_slash_at_its_end() {
        for text in ["http://pool:9000", "http://pool:9000/"] {
            let url: CallbackUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "http://pool:9000/v2/internal/workers/ready");
        }
        let url: CallbackUrl = "https://pool/base/".parse().unwrap();
        assert_eq!(url.to_string(), "https://pool/base/v2/internal/workers/ready");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_named() {
        for (text, part) in [
            ("pool:9000", "http://"),
            ("ftp://pool", "http://"),
            ("/ready", "http://"),
            ("", "URL"),
            ("http://", "URL"),
            ("http://a b", "URL"),
            ("http://me:word@pool", "password"),
            ("http://pool/?key=1", "query"),
            ("http://pool/#top", "fragment"),
        ] {
            let told = text.parse::<CallbackUrl>().unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    #[tokio::test]
    async fn a_wildcard_becomes_the_address_that_is_used_towards_the_callback() {
        let url: CallbackUrl = "http://127.0.0.1:9".parse().unwrap();
        for (address, reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "127.0.0.1:80"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(url.reached_at(address.parse().unwrap()).await.to_string(), reached);
        }
    }
}
