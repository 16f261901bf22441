use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
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
    /// keys. Says whose key it is, counted from 1; 0 if there are no keys.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<u32, ApiError> {
        if self.0.is_empty() {
            return Ok(0);
        }
        match sent(headers).map(|key| self.owner(key)).find(|&owner| owner > 0) {
            Some(owner) => Ok(owner),
            None => Err(ApiError::Unauthorized),
        }
    }

    /// The key's place, counted from 1; 0 if it is none. Takes the same time in any case.
    fn owner(&self, key: &[u8]) -> u32 {
        let sent: [u8; 32] = Sha256::digest(key).into();
        let places = (1..).zip(&self.0);
        places.fold(0, |owner, (place, key)| u32::conditional_select(&owner, &place, key.ct_eq(&sent)))
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

    /// Whose the key in this header is.
    fn owner(keys: &Keys, name: &'static str, value: &str) -> Option<u32> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        keys.check(&headers).ok()
    }

    #[test]
    fn any_of_the_keys_opens_in_either_header_and_says_whose_it_is() {
        let keys = Keys::new(&["one".to_owned(), "two".to_owned()]);
        for (key, place) in [("one", Some(1)), ("two", Some(2))] {
            assert_eq!(owner(&keys, "authorization", &format!("Bearer {key}")), place);
            assert_eq!(owner(&keys, "authorization", &format!("bearer  {key}")), place);
            assert_eq!(owner(&keys, "x-api-key", key), place);
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
            assert_eq!(owner(&keys, name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn without_keys_everybody_passes_and_is_nobody() {
        assert_eq!(Keys::new(&[]).check(&HeaderMap::new()).ok(), Some(0));
    }
}
