//! The Hugging Face hub: `hf-hub` knows the addresses, `HF_ENDPOINT` changes them.

use std::time::Duration;
use std::{env, fs};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use ureq::Agent;
use ureq::http::Response;

use super::part::{FetchError, Part};

/// Without a network the next source should have its turn soon.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// A hub or a line that stands still for so long has failed.
const TO_ANSWER: Duration = Duration::from_secs(30);

/// A hub, as the user's environment has it.
pub(super) struct Hub {
    api: Api,
    agent: Agent,
    token: Option<String>,
}

impl Hub {
    /// The user's.
    pub(super) fn of_user() -> Result<Self, ApiError> {
        let token = token();
        let api = ApiBuilder::from_env().with_token(token.clone()).build()?;
        let agent = Agent::config_builder()
            .timeout_resolve(Some(TO_CONNECT))
            .timeout_connect(Some(TO_CONNECT))
            .timeout_recv_response(Some(TO_ANSWER))
            .timeout_per_read(Some(TO_ANSWER))
            .build()
            .into();
        Ok(Self { api, agent, token })
    }

    /// Whether requests carry a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// What the hub says of a repository, as JSON: its commit, its files with their sizes and hashes.
    pub(super) fn describe(&self, repository: &str) -> Result<String, Box<ureq::Error>> {
        let request = self.repository(repository, "main").info_request().query("blobs", "true");
        let request = request
            .config()
            .timeout_resolve(Some(TO_CONNECT))
            .timeout_connect(Some(TO_CONNECT))
            .timeout_recv_response(Some(TO_ANSWER))
            .timeout_recv_body(Some(TO_ANSWER))
            .build();
        Ok(request.call()?.into_body().read_to_string()?)
    }

    /// A file's bytes from `start` on, if the hub gives parts, else all.
    pub(super) fn open(
        &self,
        repository: &str,
        revision: &str,
        file: &str,
        start: u64,
    ) -> Result<Response<ureq::Body>, Box<ureq::Error>> {
        let mut request = self.agent.get(self.repository(repository, revision).url(file));
        // Where the hub sends on to another host, the token stays behind.
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        Ok(request.call()?)
    }

    fn repository(&self, repository: &str, revision: &str) -> ApiRepo {
        self.api.repo(Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned()))
    }
}

/// Writes a file of a public repository into `part`.
pub(super) fn fetch(repository: &str, revision: &str, file: &str, part: &mut Part) -> Result<(), FetchError> {
    let hub = Hub::of_user().map_err(Box::new)?;
    part.copy(hub.open(repository, revision, file, 0)?.into_body().into_reader())
}

/// The user's token, from where the hub's own programs take it.
fn token() -> Option<String> {
    let named = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let token = named("HF_TOKEN")
        .or_else(|| named("HUGGING_FACE_HUB_TOKEN"))
        .or_else(|| fs::read_to_string(named("HF_TOKEN_PATH")?).ok())
        .or_else(|| Cache::from_env().token())?;
    let token = token.trim();
    // No header holds others.
    token
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
        .then(|| token.to_owned())
        .filter(|token| !token.is_empty())
}
