//! Answers of gpt-oss, which are several messages in the Harmony format: `<|channel|>analysis<|message|>...<|end|>`
//! `<|start|>assistant<|channel|>final<|message|>...`. The marks are control tokens without text, so that a completion's text has
//! the messages and their headers in a row; here it is taken apart again, by the tokens that it comes with.

use std::collections::VecDeque;

use runtime::request::Chosen;

use crate::Text;

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Text of the channel `final`, and of messages without a channel.
    pub(super) content: String,
    /// Text of other channels; none where the vocabulary is not one of Harmony.
    pub(super) reasoning: Option<String>,
}

/// What divides messages.
#[derive(Debug, Clone, Copy)]
struct Marks {
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
}

/// Where text belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Content,
    Reasoning,
    /// Who speaks, to whom and in which channel: said to nobody.
    Header,
}

/// Follows a sequence of tokens.
#[derive(Debug, Clone)]
pub(super) struct Harmony {
    marks: Marks,
    place: Place,
    /// The channel that the header names, as far as it has come.
    channel: Option<Vec<u8>>,
    /// Where the characters of tokens belong whose text has not come, in order: a stop string may hold text back.
    due: VecDeque<(Place, usize)>,
}

impl Harmony {
    /// At the end of a prompt; none if the vocabulary lacks the marks.
    pub(super) fn of(text: &dyn Text, prompt: &[u32]) -> Option<Self> {
        let mark = |name: &str| match text.encode_with(name, false, true)[..] {
            [id] if text.decode(&[id]).is_empty() => Some(id),
            _ => None,
        };
        let marks = Marks {
            start: mark("<|start|>")?,
            channel: mark("<|channel|>")?,
            message: mark("<|message|>")?,
            end: mark("<|end|>")?,
        };
        let mut harmony = Self { marks, place: Place::Content, channel: None, due: VecDeque::new() };
        // What is before the last message tells nothing.
        let last = prompt.iter().rposition(|&id| id == marks.start).unwrap_or(prompt.len());
        prompt[last..].iter().for_each(|&id| harmony.follow(text, id));
        harmony.due.clear();
        Some(harmony)
    }

    /// Divides the text that has become certain with these tokens.
    pub(super) fn divide(&mut self, text: &dyn Text, certain: &str, tokens: &[Chosen]) -> Said {
        tokens.iter().for_each(|token| self.follow(text, token.id));
        let (mut content, mut reasoning) = (String::new(), String::new());
        for character in certain.chars() {
            match self.next_place() {
                Place::Content => content.push(character),
                Place::Reasoning => reasoning.push(character),
                Place::Header => {}
            }
        }
        Said { content, reasoning: Some(reasoning) }
    }

    /// Goes on by a token.
    fn follow(&mut self, text: &dyn Text, id: u32) {
        let Marks { start, channel, message, end } = self.marks;
        if id == start {
            (self.place, self.channel) = (Place::Header, None);
        } else if id == channel {
            (self.place, self.channel) = (Place::Header, Some(Vec::new()));
        } else if id == message {
            self.place = if self.is_final() { Place::Content } else { Place::Reasoning };
        } else if id == end {
            (self.place, self.channel) = (Place::Content, None);
        } else if !text.decode(&[id]).is_empty() {
            let bytes = text.bytes(id);
            // What goes on with a character of UTF-8 begins none.
            let characters = bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
            match self.due.back_mut() {
                Some((place, due)) if *place == self.place => *due += characters,
                _ => self.due.push_back((self.place, characters)),
            }
            if let (Place::Header, Some(channel)) = (self.place, &mut self.channel) {
                channel.extend(bytes);
            }
        }
    }

    /// Whether a message after this header is the answer proper. Behind the channel's name may be whom it is for.
    fn is_final(&self) -> bool {
        let name = |channel: &Vec<u8>| {
            channel.split(|&byte| byte == b' ').find(|word| !word.is_empty()) == Some(b"final")
        };
        self.channel.as_ref().is_none_or(name)
    }

    /// Where the next character belongs.
    fn next_place(&mut self) -> Place {
        while let Some((place, due)) = self.due.front_mut() {
            if *due > 0 {
                *due -= 1;
                return *place;
            }
            self.due.pop_front();
        }
        self.place
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runtime::chat_template::Chat;

    use super::*;

    const MARKS: [&str; 5] = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>"];
    const START: u32 = 256;
    const CHANNEL: u32 = 257;
    const MESSAGE: u32 = 258;
    const END: u32 = 259;
    const CONSTRAIN: u32 = 260;

    /// A token is a byte, or a mark.
    struct Bytes;

    impl Text for Bytes {
        fn encode_with(&self, text: &str, _: bool, _: bool) -> Vec<u32> {
            match MARKS.iter().position(|mark| *mark == text) {
                Some(mark) => vec![START + mark as u32],
                None => text.bytes().map(u32::from).collect(),
            }
        }

        fn bytes(&self, id: u32) -> Vec<u8> {
            u8::try_from(id).map_or_else(|_| MARKS[(id - START) as usize].into(), |byte| vec![byte])
        }

        fn decode(&self, ids: &[u32]) -> String {
            let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }

        fn apply_chat_template(&self, _: Chat<'_>) -> Result<String, String> {
            Err(String::new())
        }
    }

    fn ids(text: &str) -> Vec<u32> {
        Bytes.encode_with(text, false, true)
    }

    fn chosen(ids: &[u32]) -> Vec<Chosen> {
        ids.iter().map(|&id| Chosen { id, logprob: None, top: Vec::new() }).collect()
    }

    fn said(content: &str, reasoning: &str) -> Said {
        Said { content: content.to_owned(), reasoning: Some(reasoning.to_owned()) }
    }

    /// What is said by tokens behind a prompt, with all their text.
    fn divided(prompt: &[u32], tokens: &[&[u32]]) -> Said {
        let tokens = tokens.concat();
        let mut harmony = Harmony::of(&Bytes, prompt).expect("the marks");
        harmony.divide(&Bytes, &Bytes.decode(&tokens), &chosen(&tokens))
    }

    #[test]
    fn the_channel_final_is_the_content_and_others_are_thoughts() {
        let prompt = [&[START][..], &ids("assistant")].concat();
        let header = |channel| [&[CHANNEL][..], &ids(channel), &[MESSAGE]].concat();
        let next = [&[END, START][..], &ids("assistant")].concat();
        let both = [&header("analysis")[..], &ids("Hm."), &next, &header("final"), &ids("Hé!")];
        assert_eq!(divided(&prompt, &both), said("Hé!", "Hm."));
        let call = [
            &[CHANNEL][..],
            &ids("commentary to=final "),
            &[CONSTRAIN],
            &ids("json"),
            &[MESSAGE],
            &ids("{}"),
        ];
        assert_eq!(divided(&prompt, &call), said("", "{}"));
        assert_eq!(divided(&prompt, &[&header("final json"), &ids("{}")]), said("{}", ""));
        assert_eq!(divided(&prompt, &[&[MESSAGE], &ids("plain")]), said("plain", ""));
    }

    #[test]
    fn the_prompt_says_where_an_answer_begins() {
        let open =
            [&[START][..], &ids("assistant"), &[CHANNEL], &ids("analysis"), &[MESSAGE], &ids("So")].concat();
        assert_eq!(divided(&open, &[&ids(" on")]), said("", " on"));
        // Of a template that knows no marks.
        assert_eq!(divided(&ids("user: hello"), &[&ids("plain")]), said("plain", ""));
    }

    #[test]
    fn a_vocabulary_without_the_marks_has_no_channels() {
        struct Plain;
        impl Text for Plain {
            fn encode_with(&self, text: &str, _: bool, _: bool) -> Vec<u32> {
                text.bytes().map(u32::from).collect()
            }
            fn bytes(&self, id: u32) -> Vec<u8> {
                Bytes.bytes(id)
            }
            fn decode(&self, ids: &[u32]) -> String {
                Bytes.decode(ids)
            }
            fn apply_chat_template(&self, _: Chat<'_>) -> Result<String, String> {
                Err(String::new())
            }
        }
        assert!(Harmony::of(&Plain, &[]).is_none());
    }

    proptest! {
        /// However tokens are cut into events, and however far the text is behind them.
        #[test]
        fn every_text_comes_to_its_place_once(
            messages in prop::collection::vec((prop::option::of("(analysis|final|commentary to=f)"), "[aé字 ]{0,6}"), 0..5),
            cuts in prop::collection::vec((1usize..9, 0usize..5), 1..60),
        ) {
            let (mut tokens, mut expected) = (Vec::new(), said("", ""));
            for (i, (channel, text)) in messages.iter().enumerate() {
                if i > 0 {
                    tokens.extend([&[END, START][..], &ids("assistant")].concat());
                }
                if let Some(channel) = channel {
                    tokens.push(CHANNEL);
                    tokens.extend(ids(channel));
                }
                tokens.push(MESSAGE);
                tokens.extend(ids(text));
                match channel.as_deref() {
                    None | Some("final") => expected.content += text,
                    Some(_) => expected.reasoning.get_or_insert_default().push_str(text),
                }
            }
            let mut harmony = Harmony::of(&Bytes, &[&[START][..], &ids("assistant")].concat()).expect("the marks");
            let (mut got, mut rest, mut at, mut told) = (said("", ""), &tokens[..], 0, 0);
            for (count, behind) in cuts.into_iter().chain([(usize::MAX, 0)]) {
                let (now, later) = rest.split_at(count.min(rest.len()));
                (rest, at) = (later, at + now.len());
                // Whole characters of what has come, some of them held back.
                let bytes: Vec<u8> = tokens[..at].iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                let valid = match std::str::from_utf8(&bytes) {
                    Ok(text) => text,
                    Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid so far"),
                };
                let until = valid.chars().count().saturating_sub(behind).max(told);
                let certain: String = valid.chars().skip(told).take(until - told).collect();
                told = until;
                let Said { content, reasoning } = harmony.divide(&Bytes, &certain, &chosen(now));
                got.content += &content;
                got.reasoning.get_or_insert_default().push_str(&reasoning.unwrap_or_default());
            }
            prop_assert_eq!(got, expected);
        }
    }
}
