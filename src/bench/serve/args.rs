//! The arguments of `bench serve`.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use super::LoadFault;

/// Puts a running server under load, and tells how long its clients wait
///
/// Speaks OpenAI's API, so that other servers can be measured too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server: http://HOST:PORT, with or without /v1
    #[arg(long)]
    pub(super) url: BaseUrl,
    /// What is asked: completions, chat, or execute, which is this worker's own
    #[arg(long, value_enum, default_value_t = Endpoint::Completions)]
    pub(super) endpoint: Endpoint,
    /// The model's name in requests; the first of /v1/models unless given
    #[arg(long)]
    pub(super) model: Option<String>,
    /// Sent as the bearer token
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// The environment variable that has the bearer token
    #[arg(long, value_name = "NAME", conflicts_with = "api_key")]
    api_key_env: Option<String>,
    /// Requests to send
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) requests: u32,
    /// Requests on the way at any time, each followed by the next; 8 unless given. With --verify-invariance a list, 1,7,64,128
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65536))]
    concurrency: Vec<u32>,
    /// In place of --concurrency: requests begin at random moments, so many a second on average
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, conflicts_with = "concurrency")]
    pub(super) rate: Option<f64>,
    /// Words in a prompt: a number, or the least and the most
    #[arg(long, value_name = "A..B", default_value = "32..128", conflicts_with = "dataset")]
    pub(super) input_len: Range,
    /// Tokens to generate at most: a number, or the least and the most
    #[arg(long, value_name = "A..B", default_value = "16..64")]
    pub(super) output_len: Range,
    /// Words before those, the same in all prompts
    #[arg(long, value_name = "WORDS", default_value_t = 0, conflicts_with = "dataset")]
    pub(super) shared_prefix: u32,
    /// In place of made-up words: JSON lines with prompt, messages or conversations, and max_tokens if wanted
    #[arg(long, value_name = "FILE")]
    pub(super) dataset: Option<PathBuf>,
    /// What everything random is drawn from; if given, requests have seeds of their own drawn from it
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// How tokens are chosen; 0 is greedy. The server's own default unless given
    #[arg(long, value_parser = temperature)]
    pub(super) temperature: Option<f64>,
    /// Asks that no completion ends before its tokens are generated, so that lengths are those asked for
    #[arg(long)]
    pub(super) ignore_eos: bool,
    /// The share of streams that are dropped after a random number of tokens
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = share)]
    pub(super) cancel_share: f64,
    /// Requests sent before, and not counted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) warmup: u32,
    /// Seconds that a request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(super) timeout: u64,
    /// Succeeds though requests failed
    #[arg(long)]
    pub(super) allow_errors: bool,
    /// Writes all numbers to a file too; to standard output in place of the report with -
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Sends each request alone, then all again at each concurrency in random order: every answer must be the same
    #[arg(long, conflicts_with_all = ["rate", "cancel_share", "warmup"])]
    pub(super) verify_invariance: bool,
}

impl Args {
    /// The bearer token, if there is one.
    pub(super) fn key(&self) -> Result<Option<String>, LoadFault> {
        let Some(name) = &self.api_key_env else { return Ok(self.api_key.clone()) };
        std::env::var(name).map(Some).map_err(|_| LoadFault::NoKey(name.clone()))
    }

    /// How many requests are on the way at a time.
    pub(super) fn concurrency(&self) -> Result<u32, LoadFault> {
        match self.concurrency[..] {
            [] => Ok(8),
            [one] => Ok(one),
            _ => Err(LoadFault::OneConcurrency),
        }
    }

    /// The same, one after the other.
    pub(super) fn concurrencies(&self) -> Vec<u32> {
        if self.concurrency.is_empty() { vec![1, 7, 64, 128] } else { self.concurrency.clone() }
    }
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Endpoint {
    Completions,
    Chat,
    Execute,
}

impl Endpoint {
    pub(super) fn path(self) -> &'static str {
        match self {
            Endpoint::Completions => "/v1/completions",
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Execute => "/execute",
        }
    }
}

/// Where the server is, without the slash at its end and without `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl(String);

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        let problem = if !matches!(uri.scheme_str(), Some("http" | "https")) {
            "must begin with http:// or https://"
        } else if uri.host().is_none_or(str::is_empty) {
            "names no host"
        } else if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            "has a user name or password; there is --api-key-env"
        } else if uri.query().is_some() || text.contains('#') {
            "has a query or fragment, but a path is put after it"
        } else {
            let base = text.trim_end_matches('/');
            return Ok(Self(base.strip_suffix("/v1").unwrap_or(base).to_owned()));
        };
        Err(problem.to_owned())
    }
}

impl Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers from the least to the most, both among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number"));
        let range = Range { least: number(least)?, most: number(most)? };
        if range.least == 0 {
            return Err("must be over 0".to_owned());
        }
        if range.least > range.most {
            return Err("the least is over the most".to_owned());
        }
        Ok(range)
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.least, self.most)
    }
}

fn within(text: &str, fits: impl Fn(f64) -> bool, told: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&number| fits(number)).ok_or_else(|| format!("must be {told}"))
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, |rate| rate.is_finite() && rate > 0.0, "a number over 0")
}

fn temperature(text: &str) -> Result<f64, String> {
    within(text, |temperature| temperature.is_finite() && temperature >= 0.0, "a number, 0 or more")
}

fn share(text: &str) -> Result<f64, String> {
    within(text, |share| (0.0..=1.0).contains(&share), "from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_with_and_without_its_version() {
        for text in ["http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), "http://host:8000");
        }
        assert_eq!("https://host/base/v1".parse::<BaseUrl>().unwrap().to_string(), "https://host/base");
        for (text, part) in [
            ("host:8000", "http://"),
            ("ftp://host", "http://"),
            ("http://me:word@host", "--api-key-env"),
            ("http://host/?a=b", "query"),
            ("http://a b", "URL"),
        ] {
            let told = text.parse::<BaseUrl>().unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    #[test]
    fn a_range_is_one_number_or_two() {
        assert_eq!("7".parse(), Ok(Range { least: 7, most: 7 }));
        assert_eq!("7..9".parse(), Ok(Range { least: 7, most: 9 }));
        for text in ["", "..", "0", "0..3", "9..7", "a..b", "-1", "1...3"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }
}
