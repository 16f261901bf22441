//! What a request may ask of sampling, end to end on a loaded model: bias, penalties, least lengths, log-probabilities.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use libtest_mimic::Failed;
use runtime::request::{Chosen, Completion, Disconnected, Event, Request, Sampling, StopReason};
use runtime::worker::{DeviceChoice, LoadOptions, Worker};
use worker_orcd::cache;
use worker_orcd::images::IMAGES;

use crate::case::{Case, Subject};
use crate::common::{data, golden};
use crate::trace::final_logits;

/// A fixture as it is served.
struct Served(Worker);

/// What a request led to.
#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    tokens: Vec<Chosen>,
    reason: StopReason,
    count: u32,
}

impl Served {
    fn load(case: &Case) -> Result<Self, Failed> {
        let Subject::Fixture(name) = case.subject else { return Err("only fixtures are files".into()) };
        let options = LoadOptions {
            path: data(&format!("{name}.gguf")),
            quant: None,
            name: name.to_owned(),
            device: case.device,
            numerics: Some(case.numerics),
            images: IMAGES,
            image_cache: cache::images(),
            kv_bytes: Some(1 << 20),
            step_tokens: None,
            prefix_cache: false,
            max_batch: Some(8),
            queue_depth: 64,
            timeout: Duration::from_secs(60),
            residency_interval: Duration::from_secs(60),
        };
        Ok(Self(Worker::load(options, |_| ())?))
    }

    fn submit(&self, request: Request) -> Result<Receiver<Event>, Failed> {
        let (sender, events) = channel();
        let sink = move |event: Event| sender.send(event).map_err(|_| Disconnected);
        self.0.engine.submit(request, Box::new(sink))?;
        Ok(events)
    }

    fn complete(&self, request: Request) -> Result<Told, Failed> {
        told(&self.submit(request)?)
    }

    /// The one token that this text is.
    fn token(&self, text: &str) -> Result<u32, Failed> {
        let ids = self.0.tokenizer.encode_with(text, PLAIN);
        match ids[..] {
            [id] => Ok(id),
            _ => Err(format!("{text:?} is {ids:?}").into()),
        }
    }

    fn stop(self) {
        self.0.stop(Duration::ZERO);
    }
}

const PLAIN: runtime::tokenizer::Options =
    runtime::tokenizer::Options { add_special: false, parse_special: false };

fn told(events: &Receiver<Event>) -> Result<Told, Failed> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match events.recv_timeout(Duration::from_secs(60))? {
            Event::Started => {}
            Event::Token { text: more, tokens: chosen, .. } => {
                text += &more;
                tokens.extend(chosen);
            }
            Event::End(Completion { tokens: chosen, stop_reason, tokens_out, .. }) => {
                tokens.extend(chosen);
                return Ok(Told { text, tokens, reason: stop_reason, count: tokens_out });
            }
            Event::Error(error) => return Err(error.into()),
        }
    }
}

/// The most likely tokens after a prompt.
fn request(job_id: &str, prompt: &[u32], max_tokens: u32) -> Request {
    Request {
        job_id: job_id.to_owned(),
        prompt: prompt.to_vec(),
        max_tokens: Some(max_tokens),
        ..Request::default()
    }
}

fn ids(told: &Told) -> Vec<u32> {
    told.tokens.iter().map(|chosen| chosen.id).collect()
}

/// `ln p` of each token by these logits.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&logit| (logit as f64 - most).exp()).sum();
    logits.iter().map(|&logit| logit as f64 - most - sum.ln()).collect()
}

/// Log-probabilities are those of the reference's logits, and stay so where sampling changes these.
pub(crate) fn logprobs(case: &Case) -> Result<(), Failed> {
    let served = Served::load(case)?;
    let near = |what: &str, got: f32, want: f64| -> Result<(), Failed> {
        if (got as f64 - want).abs() <= 1e-4 {
            Ok(())
        } else {
            Err(format!("{what}: {got}, not {want}").into())
        }
    };
    let golden = golden(&case.subject.to_string())?;
    for prompt in golden["prompts"].as_array().ok_or("no prompts")? {
        let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone())?;
        let steps: Vec<f64> = serde_json::from_value(prompt["logprobs"].clone())?;
        let want = log_softmax(&final_logits(prompt));
        let plain = Request { logprobs: Some(20), ..request("plain", &ids, steps.len() as u32) };
        let plain = served.complete(plain)?;
        for (i, (chosen, &want)) in plain.tokens.iter().zip(&steps).enumerate() {
            near(&format!("step {i}"), chosen.logprob.ok_or("no log-probability")?, want)?;
            assert_eq!(Some(chosen.top[0].1), chosen.logprob, "greedy takes the most likely");
        }
        assert_eq!(plain.tokens.len(), steps.len());

        let first = &plain.tokens[0];
        assert_eq!(first.top.len(), 20);
        assert!(first.top.is_sorted_by(|a, b| a.1 > b.1 || a.1 == b.1 && a.0 < b.0), "{:?}", first.top);
        for &(id, logprob) in &first.top {
            near(&format!("token {id}"), logprob, want[id as usize])?;
        }
        let least = first.top[19].1 as f64 - 1e-4;
        let told = |id: usize| first.top.iter().any(|&(told, _)| told as usize == id);
        assert!((0..want.len()).all(|id| told(id) || want[id] <= least + 2e-4), "one more likely is missing");
        let whole: f64 = first.top.iter().map(|&(_, logprob)| (logprob as f64).exp()).sum();
        let rest: f64 = (0..want.len()).filter(|&id| !told(id)).map(|id| want[id].exp()).sum();
        near("the whole", (whole + rest) as f32, 1.0)?;

        // An unlikely token by force: its own log-probability is told, and the others are what they were.
        let unlikely = (0..want.len()).min_by(|&a, &b| want[a].total_cmp(&want[b])).ok_or("no token")?;
        let mut forced = Request { logprobs: Some(3), ..request("forced", &ids, 1) };
        forced.sampling.logit_bias = vec![(unlikely as u32, 100.0), (first.id, -100.0)];
        forced.sampling.repetition_penalty = 1.7;
        let forced = served.complete(forced)?;
        assert_eq!(forced.tokens[0].id as usize, unlikely);
        near("the forced", forced.tokens[0].logprob.ok_or("none")?, want[unlikely])?;
        assert_eq!(forced.tokens[0].top, first.top[..3]);
    }
    let none = served.complete(Request { logprobs: Some(0), ..request("none", &[1], 1) })?;
    assert!(none.tokens[0].logprob.is_some() && none.tokens[0].top.is_empty());
    let off = served.complete(request("off", &[1], 1))?;
    assert!(off.tokens[0].logprob.is_none());
    served.stop();
    Ok(())
}

/// Which tokens bias and penalties lead to.
pub(crate) fn penalties(case: &Case) -> Result<(), Failed> {
    const STEPS: u32 = 24;
    let served = Served::load(case)?;
    let x = served.token("k")?;
    let run = |sampling: Sampling| {
        let request = Request { sampling, ..request("run", &[5, x, x, 9], STEPS) };
        Ok::<_, Failed>(ids(&served.complete(request)?))
    };
    let biased = |penalties: Sampling| run(Sampling { logit_bias: vec![(x, 100.0)], ..penalties });
    let times = |ids: &[u32]| ids.iter().filter(|&&id| id == x).count();

    assert_eq!(times(&biased(Sampling::GREEDY)?), STEPS as usize, "a bias as large decides");
    // The penalties of the output alone leave the first token, although the prompt has it.
    let presence = biased(Sampling { presence_penalty: 200.0, ..Sampling::GREEDY })?;
    assert!(presence[0] == x && times(&presence) == 1, "{presence:?}");
    let distinct: std::collections::HashSet<&u32> = presence.iter().collect();
    assert_eq!(distinct.len(), presence.len(), "none comes twice: {presence:?}");
    // 100, 60, 20 and a logit against others' of about 10.
    let frequency = biased(Sampling { frequency_penalty: 40.0, ..Sampling::GREEDY })?;
    assert!(frequency[..2] == [x, x] && (2..=3).contains(&times(&frequency)), "{frequency:?}");
    // This one looks at the prompt as well, and at what the bias has made of the logit.
    let repetition = biased(Sampling { repetition_penalty: 1e4, ..Sampling::GREEDY })?;
    assert_ne!(repetition[0], x, "{repetition:?}");
    let elsewhere = Request {
        sampling: Sampling { repetition_penalty: 1e4, logit_bias: vec![(x, 100.0)], ..Sampling::GREEDY },
        ..request("elsewhere", &[5, 9], 3)
    };
    let elsewhere = ids(&served.complete(elsewhere)?);
    assert!(elsewhere[0] == x && times(&elsewhere) == 1, "{elsewhere:?}");

    // What the two penalties lead to, step by step, by the told log-probabilities.
    let (presence_penalty, frequency_penalty) = (1.3f32, 0.6f32);
    let sampling = Sampling { presence_penalty, frequency_penalty, ..Sampling::GREEDY };
    let told = served.complete(Request { sampling, logprobs: Some(20), ..request("both", &[5, 9], 40) })?;
    let mut differs = 0;
    for (step, chosen) in told.tokens.iter().enumerate() {
        let output = &told.tokens[..step];
        let score = |&(id, logprob): &(u32, f32)| {
            let count = output.iter().filter(|chosen| chosen.id == id).count() as f32;
            logprob - if count > 0.0 { presence_penalty } else { 0.0 } - count * frequency_penalty
        };
        let best = chosen.top.iter().max_by(|a, b| score(a).total_cmp(&score(b))).ok_or("none")?;
        assert_eq!(chosen.id, best.0, "step {step}");
        assert!(score(best) > chosen.top[19].1, "nothing beyond the told tokens matters");
        differs += usize::from(chosen.id != chosen.top[0].0);
    }
    assert!(differs > 3, "the penalties matter: {differs}");
    served.stop();
    Ok(())
}

/// When a completion may end.
pub(crate) fn ends(case: &Case) -> Result<(), Failed> {
    let served = Served::load(case)?;
    let tokenizer = &served.0.tokenizer;
    let bias: Vec<(u32, f32)> = tokenizer.ends().iter().map(|&id| (id, 100.0)).collect();
    assert!(!bias.is_empty());
    let sampling = Sampling { logit_bias: bias, ..Sampling::GREEDY };
    let base = Request { sampling, ..request("ends", &[5, 9], 10) };
    let now = served.complete(base.clone())?;
    assert_eq!((now.reason, now.count, now.tokens), (StopReason::EndOfSequence, 0, vec![]));
    for penalty in [1.0, 1.2] {
        let mut later = Request { min_tokens: 4, logprobs: Some(1), ..base.clone() };
        later.sampling.repetition_penalty = penalty;
        let later = served.complete(later)?;
        assert_eq!((&later.reason, later.count), (&StopReason::EndOfSequence, 4));
        assert!(ids(&later).iter().all(|&id| !tokenizer.is_end(id)), "{later:?}");
    }
    for min_tokens in [0, 3] {
        let never = served.complete(Request { ignore_eos: true, min_tokens, ..base.clone() })?;
        assert_eq!((&never.reason, never.count, never.text.as_str()), (&StopReason::MaxTokens, 10, ""));
        assert!(ids(&never).iter().all(|&id| tokenizer.is_end(id)), "{never:?}");
    }

    let k = served.token("k")?;
    let sampling = Sampling { logit_bias: vec![(k, 100.0)], ..Sampling::GREEDY };
    let stop = vec!["kkk".to_owned()];
    let base = Request { sampling, stop: stop.clone(), ..request("stops", &[5, 9], 10) };
    for (min_tokens, count, text) in [(0, 3, ""), (1, 3, ""), (2, 4, "k"), (5, 7, "kkkk"), (8, 10, "kkkkkkk")]
    {
        let told = served.complete(Request { min_tokens, ..base.clone() })?;
        assert_eq!(told.reason, StopReason::StopSequence(stop[0].clone()), "{min_tokens}");
        assert_eq!((told.count, told.text.as_str()), (count, text), "{min_tokens}");
    }
    let full = served.complete(Request { min_tokens: 10, ..base.clone() })?;
    assert_eq!((full.reason, full.text), (StopReason::MaxTokens, "k".repeat(10)));
    served.stop();
    Ok(())
}

/// Requests of every kind.
fn mixture() -> Vec<Request> {
    let free = Sampling { temperature: 1.1, seed: 3, ..Sampling::GREEDY };
    let base = |name: &str, sampling: &Sampling| Request {
        ignore_eos: true,
        sampling: sampling.clone(),
        ..request(name, &[5, 9, 7, 300], 30)
    };
    let with = |sampling: Sampling| base("", &sampling);
    let penalised =
        Sampling { presence_penalty: 0.5, frequency_penalty: 0.2, repetition_penalty: 1.2, ..free.clone() };
    let biased =
        Sampling { logit_bias: vec![(9, 3.0), (20, -1.0), (4_000_000, 5.0)], seed: 4, ..free.clone() };
    let mut requests = vec![
        base("", &Sampling::GREEDY),
        with(free.clone()),
        Request { logprobs: Some(2), ..with(free.clone()) },
        with(penalised.clone()),
        Request { logprobs: Some(20), ..with(penalised) },
        Request { min_tokens: 20, ignore_eos: false, logprobs: Some(0), ..with(biased.clone()) },
        with(Sampling { top_k: 5, top_p: 0.9, ..biased }),
        Request { logprobs: Some(5), ..base("", &Sampling::GREEDY) },
    ];
    for (i, request) in requests.iter_mut().enumerate() {
        request.job_id = format!("job {i}");
    }
    requests
}

/// A request's tokens and log-probabilities are its own, whatever the others in its batch ask for; on a GPU they are the
/// CPU's.
pub(crate) fn company(case: &Case) -> Result<(), Failed> {
    let served = Served::load(case)?;
    let mut alone = Vec::new();
    for request in mixture() {
        alone.push(served.complete(request)?);
    }
    assert_eq!(ids(&alone[1]), ids(&alone[2]), "log-probabilities change nothing");
    assert_eq!(ids(&alone[3]), ids(&alone[4]), "nor beside penalties");
    assert_eq!(ids(&alone[0]), ids(&alone[7]));
    assert!(ids(&alone[1]) != ids(&alone[3]) && ids(&alone[1]) != ids(&alone[0]), "the rest does");
    for shift in [0, 3] {
        let mut requests = mixture();
        requests.rotate_left(shift);
        let events: Vec<_> = requests.into_iter().map(|request| served.submit(request)).collect();
        for (i, events) in events.into_iter().enumerate() {
            let i = (i + shift) % alone.len();
            assert_eq!(told(&events?)?, alone[i], "request {i} among others");
        }
    }
    served.stop();
    if !case.is_cpu() {
        let cpu = Served::load(&Case { device: DeviceChoice::Cpu, ..case.clone() })?;
        for (i, request) in mixture().into_iter().enumerate() {
            assert_eq!(cpu.complete(request)?, alone[i], "request {i} on the CPU");
        }
        cpu.stop();
    }
    Ok(())
}
