//! Whether an answer depends on who else is served: each request alone, then all again in crowds.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::drive::{Driver, Pace};
use super::exchange::{End, Exchange};
use super::measure::Errors;
use super::random::Random;
use super::report;
use super::wire::Answer;

/// How many differences are shown of each crowd.
const SHOWN: usize = 10;
/// The stream of random numbers that orders are drawn from; requests have those from 0 on.
const ORDER: u64 = u64::MAX - 2;

/// What was found.
pub(super) struct Findings {
    /// Requests that had an answer alone.
    alone: usize,
    /// Tokens of those answers.
    tokens: u64,
    /// Answers that had the tokens' ids or a receipt's hash beside the text.
    exact: usize,
    errors: Errors,
    crowds: Vec<Crowd>,
}

/// All requests at one concurrency.
struct Crowd {
    concurrency: u32,
    requests: usize,
    equal: usize,
    different: Vec<Difference>,
    errors: Errors,
}

/// An answer that is another than alone.
struct Difference {
    number: usize,
    seed: u64,
    temperature: Option<f64>,
    what: What,
}

/// Where two answers differ first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The token, counted from 0.
    Token(usize),
    /// The character of the text, counted from 0.
    Character(usize),
    /// The text is the same, and the hash of the tokens is not.
    Hash,
    /// All of those are the same, and not the reason why the completion ended or its number of tokens.
    End,
}

impl What {
    /// `None` where they are equal.
    fn of(alone: &Answer, again: &Answer) -> Option<What> {
        if alone.ids != again.ids {
            return Some(What::Token(common(&alone.ids, &again.ids)));
        }
        if alone.text != again.text {
            let characters = |answer: &Answer| answer.text.chars().collect::<Vec<char>>();
            return Some(What::Character(common(&characters(alone), &characters(again))));
        }
        if alone.hash != again.hash {
            return Some(What::Hash);
        }
        let same = alone.finish == again.finish && alone.tokens_out == again.tokens_out;
        (!same).then_some(What::End)
    }

    fn to_text(self) -> String {
        match self {
            What::Token(place) => format!("differs from token {place} on"),
            What::Character(place) => format!("differs from character {place} on"),
            What::Hash => "has the same text of other tokens, by the receipt's hash".to_owned(),
            What::End => "has the same text and another end or number of tokens".to_owned(),
        }
    }

    fn to_json(self) -> Value {
        match self {
            What::Token(place) => json!({"what": "token", "position": place}),
            What::Character(place) => json!({"what": "character", "position": place}),
            What::Hash => json!({"what": "hash", "position": null}),
            What::End => json!({"what": "end", "position": null}),
        }
    }
}

/// How many items are the same from the beginning.
fn common<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Sends all requests one by one, and then at each concurrency; prints a line as each is done.
pub(super) async fn run(
    driver: &Arc<Driver>,
    requests: usize,
    concurrencies: &[u32],
    seed: u64,
    out: &mut (dyn Write + Send),
) -> io::Result<Findings> {
    let alone = driver.drive("alone", (0..requests).collect(), Pace::Closed(1)).await;
    let errors = Errors::of(alone.exchanges.iter().map(|(_, exchange)| exchange));
    let complete = |(number, exchange): (usize, Exchange)| {
        (exchange.end == End::Complete).then_some((number, exchange.answer))
    };
    let reference: BTreeMap<usize, Answer> = alone.exchanges.into_iter().filter_map(complete).collect();
    let exact = |answer: &&Answer| !answer.ids.is_empty() || answer.hash.is_some();
    let mut findings = Findings {
        alone: reference.len(),
        tokens: reference.values().map(Answer::tokens).sum(),
        exact: reference.values().filter(exact).count(),
        errors,
        crowds: Vec::new(),
    };
    write!(out, "{}", findings.head(alone.seconds))?;
    for &concurrency in concurrencies {
        let mut order: Vec<usize> = reference.keys().copied().collect();
        Random::new(seed ^ u64::from(concurrency), ORDER).shuffle(&mut order);
        let driven =
            driver.drive(&format!("{concurrency} at a time"), order, Pace::Closed(concurrency)).await;
        let mut crowd = Crowd {
            concurrency,
            requests: driven.exchanges.len(),
            equal: 0,
            different: Vec::new(),
            errors: Errors::of(driven.exchanges.iter().map(|(_, exchange)| exchange)),
        };
        for (number, exchange) in driven.exchanges {
            if exchange.end != End::Complete {
                continue;
            }
            match What::of(&reference[&number], &exchange.answer) {
                None => crowd.equal += 1,
                Some(what) => {
                    let work = driver.workload.work(number);
                    let (seed, temperature) = (work.seed, work.temperature);
                    crowd.different.push(Difference { number, seed, temperature, what });
                }
            }
        }
        write!(out, "{}", crowd.to_text(driven.seconds))?;
        findings.crowds.push(crowd);
    }
    Ok(findings)
}

impl Findings {
    pub(super) fn different(&self) -> usize {
        self.crowds.iter().map(|crowd| crowd.different.len()).sum()
    }

    /// The failures of each pass, and its requests.
    pub(super) fn errors(&self) -> impl Iterator<Item = (&Errors, usize)> {
        let alone = (&self.errors, self.alone + self.errors.count());
        std::iter::once(alone).chain(self.crowds.iter().map(|crowd| (&crowd.errors, crowd.requests)))
    }

    /// Whether there is a crowd without a single comparison, or nothing in what was compared.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens == 0 || self.crowds.iter().any(|crowd| crowd.equal + crowd.different.len() == 0)
    }

    fn head(&self, seconds: f64) -> String {
        format!(
            "alone       {} answers of {} tokens in {seconds:.2} s; {} with the tokens' ids or a receipt's hash, the \
             others with their text\n{}\n{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}\n",
            self.alone,
            self.tokens,
            self.exact,
            report::errors_to_text(&self.errors),
            "at a time",
            "requests",
            "equal",
            "different",
            "errors",
            "seconds"
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let crowd = |crowd: &Crowd| {
            let difference = |one: &Difference| {
                let mut value = one.what.to_json();
                value["request"] = json!(one.number);
                value["seed"] = json!(one.seed);
                value["temperature"] = json!(one.temperature);
                value
            };
            json!({
                "concurrency": crowd.concurrency,
                "requests": crowd.requests,
                "equal": crowd.equal,
                "different": crowd.different.len(),
                "errors": report::errors_to_json(&crowd.errors),
                "differences": crowd.different.iter().map(difference).collect::<Vec<_>>(),
            })
        };
        json!({
            "alone": {
                "answers": self.alone,
                "tokens": self.tokens,
                "with_ids_or_hash": self.exact,
                "errors": report::errors_to_json(&self.errors),
            },
            "crowds": self.crowds.iter().map(crowd).collect::<Vec<_>>(),
        })
    }
}

impl Crowd {
    fn to_text(&self, seconds: f64) -> String {
        let mut text = format!(
            "{:>11}{:>11}{:>11}{:>11}{:>11}{seconds:>11.2}\n{}",
            self.concurrency,
            self.requests,
            self.equal,
            self.different.len(),
            self.errors.count(),
            report::errors_to_text(&self.errors),
        );
        for Difference { number, seed, temperature, what } in self.different.iter().take(SHOWN) {
            let choice = match temperature {
                Some(0.0) => "greedy".to_owned(),
                _ => format!("seed {seed}"),
            };
            text += &format!("different   request {number} ({choice}) {}\n", what.to_text());
        }
        let hidden = self.different.len().saturating_sub(SHOWN);
        if hidden > 0 {
            text += &format!("different   and {hidden} more\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, ids: &[u64], hash: Option<&str>) -> Answer {
        Answer {
            text: text.to_owned(),
            ids: ids.to_vec(),
            hash: hash.map(str::to_owned),
            finish: Some("length".to_owned()),
            ..Answer::default()
        }
    }

    #[test]
    fn answers_are_equal_only_if_all_that_is_known_of_them_is() {
        let alone = answer("für", &[1, 2, 3], Some("00"));
        assert_eq!(What::of(&alone, &alone), None);
        // How the text was cut is no part of the answer.
        assert_eq!(What::of(&alone, &Answer { chunks: 9, ..alone.clone() }), None);
        for (again, what) in [
            (answer("füx", &[1, 2, 4], Some("01")), What::Token(2)),
            (answer("für", &[1, 2], Some("00")), What::Token(2)),
            (answer("für", &[], Some("00")), What::Token(0)),
            (answer("füx", &[1, 2, 3], Some("00")), What::Character(2)),
            (answer("für ", &[1, 2, 3], Some("00")), What::Character(3)),
            (answer("für", &[1, 2, 3], Some("01")), What::Hash),
            (answer("für", &[1, 2, 3], None), What::Hash),
            (Answer { finish: Some("stop".to_owned()), ..alone.clone() }, What::End),
            (Answer { tokens_out: Some(4), ..alone.clone() }, What::End),
        ] {
            assert_eq!(What::of(&alone, &again), Some(what));
            assert_eq!(What::of(&again, &alone), Some(what));
        }
    }
}
