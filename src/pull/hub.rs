//! The Hugging Face hub: `hf-hub` knows the address, `HF_ENDPOINT` changes it.

use std::time::Duration;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Repo, RepoType};
use ureq::Agent;

use super::part::{FetchError, Part};

/// Without a network the next source should have its turn soon.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// A hub or a line that stands still for so long has failed.
const TO_ANSWER: Duration = Duration::from_secs(30);

/// Writes a repository's file into `part`.
pub(super) fn fetch(repository: &str, revision: &str, file: &str, part: &mut Part) -> Result<(), FetchError> {
    let hub = ApiBuilder::from_env().build().map_err(Box::new)?;
    let repository = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
    let url = hub.repo(repository).url(file);
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(TO_CONNECT))
        .timeout_connect(Some(TO_CONNECT))
        .timeout_recv_response(Some(TO_ANSWER))
        .timeout_per_read(Some(TO_ANSWER))
        .build()
        .into();
    let body = agent.get(&url).call().map_err(Box::new)?.into_body();
    part.copy(body.into_reader())
}
