use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

use crate::error::ApiError;

/// The API keys, as hashes: all are of one length, so that comparing one tells nothing about its own.
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    /// Lets requests pass that have a key, in `Authorization: Bearer KEY` or in `X-API-Key: KEY`; all, if there are no
    /// keys.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let has_key = self.0.is_empty() || sent(headers).any(|key| self.contains(key));
        if has_key { Ok(()) } else { Err(ApiError::Unauthorized) }
    }

    /// Takes the same time whichever key it is, and if it is none.
    fn contains(&self, key: &[u8]) -> bool {
        let sent: [u8; 32] = Sha256::digest(key).into();
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&sent)).into()
    }
}

/// The keys of a request.
fn sent(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.into_iter().chain(headers.get("x-api-key").map(|value| value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderName, HeaderValue};

    use super::*;

    fn passes(keys: &Keys, name: &'static str, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        keys.check(&headers).is_ok()
    }

    #[test]
    fn any_of_the_keys_opens_in_either_header() {
        let keys = Keys::new(&["one".to_owned(), "two".to_owned()]);
        for key in ["one", "two"] {
            assert!(passes(&keys, "authorization", &format!("Bearer {key}")));
            assert!(passes(&keys, "authorization", &format!("bearer  {key}")));
            assert!(passes(&keys, "x-api-key", key));
        }
    }

    #[test]
    fn nothing_else_does() {
        let keys = Keys::new(&["one".to_owned(), "two".to_owned()]);
        assert!(keys.check(&HeaderMap::new()).is_err());
        for (name, value) in [
            ("authorization", ""),
            ("authorization", "one"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "Basic one"),
            ("authorization", "Bearer on"),
            ("authorization", "Bearer one two"),
            ("x-api-key", ""),
            ("x-api-key", "One"),
            ("x-api-key", "Bearer one"),
            ("x-api-key", "onetwo"),
        ] {
            assert!(!passes(&keys, name, value), "{name}: {value}");
        }
    }

    #[test]
    fn without_keys_everybody_passes() {
        assert!(Keys::new(&[]).check(&HeaderMap::new()).is_ok());
    }
}
