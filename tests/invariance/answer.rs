use runtime::request::{Chosen, Completion, Event, StopReason};

/// All that a request's client could see, numbers by their bits.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    ids: Vec<u32>,
    logprobs: Vec<Logprobs>,
    stop_reason: Option<StopReason>,
    output_hash: [u8; 32],
}

/// Of a token: its own log-probability, then the most likely tokens with theirs.
type Logprobs = (Option<u32>, Vec<(u32, u32)>);

impl Answer {
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Takes in an event; whether it was the last.
    pub(crate) fn take(&mut self, event: Event) -> Result<bool, String> {
        match event {
            Event::Started => Ok(false),
            Event::Token { text, tokens, .. } => {
                self.text += &text;
                self.extend(tokens);
                Ok(false)
            }
            Event::End(Completion { tokens_out, stop_reason, tokens, output_hash, .. }) => {
                self.extend(tokens);
                self.stop_reason = Some(stop_reason);
                self.output_hash = output_hash;
                if tokens_out as usize != self.ids.len() {
                    return Err(format!("{tokens_out} tokens, and {} told", self.ids.len()));
                }
                Ok(true)
            }
            Event::Error(error) => Err(error.to_string()),
        }
    }

    fn extend(&mut self, tokens: Vec<Chosen>) {
        for Chosen { id, logprob, top } in tokens {
            self.ids.push(id);
            let top = top.into_iter().map(|(id, logprob)| (id, logprob.to_bits())).collect();
            self.logprobs.push((logprob.map(f32::to_bits), top));
        }
    }

    /// In words, how this differs from what was expected.
    pub(crate) fn difference(&self, expected: &Answer) -> String {
        let first = |a: &[u32], b: &[u32]| a.iter().zip(b).position(|(a, b)| a != b);
        if let Some(i) = first(&self.ids, &expected.ids) {
            return format!("token {i} is {}, alone {}", self.ids[i], expected.ids[i]);
        }
        let mut pairs = self.logprobs.iter().zip(&expected.logprobs);
        if let Some(i) = pairs.position(|(a, b)| a != b) {
            return format!(
                "the log-probabilities of token {i}: {:?}",
                (&self.logprobs[i], &expected.logprobs[i])
            );
        }
        format!("{self:?}, alone {expected:?}")
    }
}
