//! Requests of all kinds, the same at every run.

use std::cmp::Reverse;

use libtest_mimic::Failed;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use runtime::request::{Request, Sampling};

use crate::Subject;
use crate::answer::Answer;
use crate::crowd::Crowd;
use crate::setting::{Memory, Setting};

/// A source of small numbers.
struct Numbers(Pcg64);

impl Numbers {
    /// From `from` to `to`, both included.
    fn within(&mut self, from: usize, to: usize) -> usize {
        from + (self.0.next_u64() % (to - from + 1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.within(1, n) == 1
    }

    fn tokens(&mut self, count: usize, vocab: usize) -> Vec<u32> {
        (0..count).map(|_| self.within(0, vocab - 1) as u32).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0, from.len() - 1)]
    }
}

/// First requests and, made of their answers, a third as many that follow up; with the answers of all, each alone.
pub(crate) fn with_answers(subject: &Subject, alone: &Crowd) -> Result<(Vec<Request>, Vec<Answer>), Failed> {
    let vocab = alone.vocab();
    let mut numbers = Numbers(Pcg64::seed_from_u64(5));
    let beginnings: Vec<Vec<u32>> =
        [1, 40, 64, 100].map(|len| len.min(subject.prompt / 2)).map(|len| numbers.tokens(len, vocab)).into();
    let mut requests: Vec<Request> = Vec::new();
    for i in 0..subject.requests {
        let mut prompt =
            if numbers.one_in(3) { beginnings[i % beginnings.len()].clone() } else { Vec::new() };
        // Most are short, some have the greatest length.
        let most = if numbers.one_in(6) { subject.prompt } else { 24.min(subject.prompt) };
        let more = numbers.within(1, (most - prompt.len().min(most - 1)).max(1));
        prompt.extend(numbers.tokens(more, vocab));
        // And some say a lot after a word: they take many pages that nobody knew of when they began.
        let is_talk = i % 5 == 4;
        if is_talk {
            prompt.truncate(4);
        }
        let mut request = request(i, prompt, subject.answer, vocab, &mut numbers);
        if is_talk {
            (request.max_tokens, request.ignore_eos) = (Some(subject.talk as u32), true);
        }
        requests.push(request);
    }
    let mut answers = alone.serve(&numbered(&requests), 1)?;
    let mut follow: Vec<Request> = Vec::new();
    for i in 0..subject.requests / 3 {
        let mut prompt = requests[i].prompt.clone();
        prompt.extend(&answers[i].ids()[..answers[i].tokens().min(subject.answer)]);
        prompt.extend(numbers.tokens(5, vocab));
        follow.push(request(subject.requests + i, prompt, subject.answer, vocab, &mut numbers));
    }
    answers.extend(alone.serve(&numbered(&follow), 1)?);
    requests.extend(follow);
    Ok((requests, answers))
}

fn request(i: usize, prompt: Vec<u32>, most: usize, vocab: usize, numbers: &mut Numbers) -> Request {
    let greedy = numbers.one_in(3);
    let mut sampling = Sampling { seed: numbers.0.next_u64(), ..Sampling::GREEDY };
    if !greedy {
        sampling.temperature = numbers.pick(&[0.3, 0.8, 1.0, 1.7]);
        sampling.top_k = numbers.pick(&[0, 0, 5, 40]);
        sampling.top_p = numbers.pick(&[1.0, 1.0, 0.9, 0.5]);
        sampling.min_p = numbers.pick(&[0.0, 0.0, 0.05]);
    }
    if numbers.one_in(3) {
        sampling.repetition_penalty = numbers.pick(&[0.9, 1.1, 1.3]);
        sampling.presence_penalty = numbers.pick(&[0.0, 0.5, -0.5]);
        sampling.frequency_penalty = numbers.pick(&[0.0, 0.7]);
    }
    if numbers.one_in(5) {
        let ids = numbers.tokens(3, vocab);
        sampling.logit_bias = ids.into_iter().zip([5.0, -3.0, 1.5]).collect();
        sampling.logit_bias.sort_by_key(|&(id, _)| id);
        sampling.logit_bias.dedup_by_key(|&mut (id, _)| id);
    }
    Request {
        job_id: i.to_string(),
        prompt,
        max_tokens: Some(numbers.within(1, most) as u32),
        min_tokens: numbers.pick(&[0, 0, 3]),
        ignore_eos: numbers.one_in(4),
        logprobs: numbers.pick(&[None, Some(0), Some(5), Some(20)]),
        sampling,
        ..Request::default()
    }
}

/// In order, with their numbers.
fn numbered(requests: &[Request]) -> Vec<(usize, Request)> {
    requests.iter().cloned().enumerate().collect()
}

/// In an order of the setting's own.
pub(crate) fn shuffled(requests: &[Request], setting: Setting) -> Vec<(usize, Request)> {
    let seed = (setting.streams * 4096 + setting.step) as u64 * 2 + u64::from(setting.prefix_cache);
    let mut numbers = Numbers(Pcg64::seed_from_u64(seed));
    let mut list = numbered(requests);
    for i in (1..list.len()).rev() {
        list.swap(i, numbers.within(0, i));
    }
    if setting.memory == Memory::Scarce {
        // Those that begin small and grow, all at once.
        list.sort_by_key(|(_, request)| Reverse(request.max_tokens));
    }
    list
}
