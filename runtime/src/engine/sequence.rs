//! A job in the engine: its tokens, its text so far.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernels::sample::Choice;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use crate::engine::adjust::Adjustments;
use crate::engine::sampler::Row;
use crate::engine::stop::{Decided, StopMatcher};
use crate::engine::{Job, JobKey};
use crate::request::{Chosen, Completion, Event, EventSink, Sampling, StopReason};
use crate::tokenizer::{Detokenizer, Tokenizer};

/// A job that waits or is being computed.
pub(crate) struct Sequence {
    pub(crate) key: JobKey,
    pub(crate) deadline: Instant,
    sampling: Sampling,
    /// Prompt and generated tokens.
    tokens: Vec<u32>,
    prompt: usize,
    max_tokens: usize,
    /// Until so many are generated, nothing but `max_tokens` ends the sequence.
    min_tokens: usize,
    ignore_eos: bool,
    logprobs: Option<u32>,
    adjustments: Adjustments,
    /// Of the current token: the request's random numbers are its own.
    random: Pcg64,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// Chosen since the last event.
    unsent: Vec<Chosen>,
    /// Token events sent.
    sent: u32,
    first_token: Option<Instant>,
}

impl Sequence {
    /// Of a job, whose sink is given back.
    pub(crate) fn new(job: Job, max_tokens: usize, tokenizer: &Arc<Tokenizer>) -> (Self, Box<dyn EventSink>) {
        let Job { request, sink, deadline } = job;
        let random = Pcg64::seed_from_u64(request.sampling.seed);
        // Of a sequence that ignores them they are tokens like any other.
        let withheld = request.min_tokens > 0 && !request.ignore_eos;
        let forbidden = if withheld { tokenizer.ends() } else { &[] };
        let adjustments = Adjustments::new(&request.sampling, &request.prompt, forbidden);
        let sequence = Self {
            key: JobKey { client: request.client, id: request.job_id },
            deadline,
            sampling: request.sampling,
            prompt: request.prompt.len(),
            tokens: request.prompt,
            max_tokens,
            min_tokens: request.min_tokens as usize,
            ignore_eos: request.ignore_eos,
            logprobs: request.logprobs,
            adjustments,
            random,
            detokenizer: Detokenizer::new(tokenizer.clone()),
            stop: StopMatcher::new(request.stop),
            unsent: Vec::new(),
            sent: 0,
            first_token: None,
        };
        (sequence, sink)
    }

    /// Prompt and generated tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How the next token is chosen.
    pub(crate) fn choice(&mut self) -> Choice {
        let Sampling { temperature, top_p, top_k, min_p, .. } = self.sampling;
        Choice { random: self.random.next_u64(), temperature, top_p, min_p, top_k }
    }

    /// What the next token is chosen with; `choice` is [`choice`](Self::choice)'s.
    pub(crate) fn row(&self, choice: Choice) -> Row<'_> {
        let adjustments = Some(&self.adjustments).filter(|adjustments| !adjustments.entries().is_empty());
        Row { choice, adjustments, logprobs: self.logprobs }
    }

    /// Takes in the token that was chosen: what text became certain, and why the completion is whole if it is.
    pub(crate) fn accept(
        &mut self,
        chosen: Chosen,
        tokenizer: &Tokenizer,
    ) -> (Option<Event>, Option<StopReason>) {
        let id = chosen.id;
        self.first_token.get_or_insert_with(Instant::now);
        if tokenizer.is_end(id) && !self.ignore_eos {
            return (None, Some(StopReason::EndOfSequence));
        }
        self.tokens.push(id);
        self.unsent.push(chosen);
        self.adjustments.push(id);
        let text = self.detokenizer.push(id);
        if self.generated() == self.min_tokens {
            self.adjustments.allow();
        }
        // Before that no text is looked at, and none is held back.
        let decided =
            if self.generated() < self.min_tokens { Decided::Text(text) } else { self.stop.push(&text) };
        let (mut text, stopped) = match decided {
            Decided::Text(text) => (text, None),
            Decided::Stop(text, stop) => (text, Some(StopReason::StopSequence(stop))),
        };
        let full = self.generated() == self.max_tokens;
        let ended = stopped.or(full.then_some(StopReason::MaxTokens));
        if ended == Some(StopReason::MaxTokens) {
            // With the last token's own text, so that no job has more texts than tokens, and an end of sequence.
            text += &self.rest();
        }
        (self.tell(text), ended)
    }

    /// The text that was held back, when no token follows.
    fn rest(&mut self) -> String {
        let tail = match self.stop.push(&self.detokenizer.finish()) {
            Decided::Text(text) | Decided::Stop(text, _) => text,
        };
        tail + &self.stop.finish()
    }

    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// The event of a text, if there is any.
    fn tell(&mut self, text: String) -> Option<Event> {
        if text.is_empty() {
            return None;
        }
        self.sent += 1;
        let tokens = std::mem::take(&mut self.unsent);
        Some(Event::Token { index: self.sent - 1, text, tokens })
    }

    /// The text that is still held back, then the end.
    pub(crate) fn end(mut self, reason: StopReason) -> (Option<Event>, Event) {
        let rest = match reason {
            StopReason::StopSequence(_) => String::new(),
            StopReason::MaxTokens | StopReason::EndOfSequence => self.rest(),
        };
        let rest = self.tell(rest);
        let ids: Vec<u8> = self.tokens[self.prompt..].iter().flat_map(|id| id.to_le_bytes()).collect();
        let completion = Completion {
            tokens_in: self.prompt as u32,
            tokens_out: self.generated() as u32,
            decode_time: self.first_token.map_or(Duration::ZERO, |first| first.elapsed()),
            stop_reason: reason,
            tokens: std::mem::take(&mut self.unsent),
            output_hash: *blake3::hash(&ids).as_bytes(),
        };
        (rest, Event::End(completion))
    }
}
