use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

use super::TokenizerError;

/// Splits text into words; merges never cross their borders.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    rules: &'static Rules,
    /// Pattern 0 is the rules' own, pattern 1 a run of white space.
    pattern: Regex,
}

/// How one family of models splits.
#[derive(Debug)]
struct Rules {
    /// `tokenizer.ggml.pre`
    names: &'static [&'static str],
    /// The words, alternatives tried in order. White space that none of them takes is split by [`PreTokenizer::split`].
    words: &'static str,
    /// Digits are cut out before anything else, so that white space before one goes on to its end.
    digits_first: bool,
    /// A word that is a token is that token, however its bytes would merge.
    whole_words: bool,
    /// Texts begin with the beginning-of-sequence token unless the metadata say otherwise.
    adds_bos: bool,
}

// The rules and their names follow llama.cpp (src/llama-vocab.cpp), which follows each model's tokenizer.json.
const FAMILIES: [Rules; 4] = [
    Rules {
        names: &["gpt-2", "mpt"],
        words: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+",
        digits_first: false,
        whole_words: false,
        adds_bos: false,
    },
    Rules {
        names: &["smollm", "starcoder", "refact", "command-r"],
        words: r"'s|'t|'re|'ve|'m|'ll|'d|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+",
        digits_first: true,
        whole_words: false,
        adds_bos: false,
    },
    Rules {
        names: &["llama-bpe", "llama3", "llama-v3"],
        words: r"(?i-u:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        digits_first: false,
        whole_words: true,
        adds_bos: true,
    },
    Rules {
        names: &["qwen2"],
        words: r"(?i-u:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        digits_first: false,
        whole_words: false,
        adds_bos: false,
    },
];

/// The names of all that are supported, for messages.
pub(super) fn known() -> String {
    FAMILIES.iter().flat_map(|rules| rules.names).copied().collect::<Vec<_>>().join(", ")
}

impl PreTokenizer {
    pub(super) fn named(name: &str) -> Result<PreTokenizer, TokenizerError> {
        let rules = FAMILIES.iter().find(|rules| rules.names.contains(&name));
        let rules = rules.ok_or_else(|| TokenizerError::PreTokenizer(name.to_owned()))?;
        let pattern = Regex::new_many(&[rules.words, r"\s+"]).expect("the patterns of the table are valid");
        Ok(PreTokenizer { rules, pattern })
    }

    pub(super) fn prefers_whole_words(&self) -> bool {
        self.rules.whole_words
    }

    pub(super) fn adds_bos(&self) -> bool {
        self.rules.adds_bos
    }

    /// The words, in order; joined they are `text`. Takes time in proportion to its length.
    pub(super) fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let (word, tail) = rest.split_at(self.word_end(rest)?);
            rest = tail;
            Some(word)
        })
    }

    /// Where the first word of `text` ends; `None` in an empty text.
    fn word_end(&self, text: &str) -> Option<usize> {
        let first = text.chars().next()?;
        let Some(found) = self.pattern.search(&Input::new(text).anchored(Anchored::Yes)) else {
            return Some(first.len_utf8());
        };
        if found.pattern().as_usize() == 0 {
            return Some(found.end());
        }
        // The families' expressions end in `\s+(?!\S)|\s+`: white space leaves its last character to the word that
        // follows. Said here, the pattern needs no lookahead, and searching it stays linear.
        let (space, tail) = text.split_at(found.end());
        let keeps_all = tail.chars().next().is_none_or(|next| self.rules.digits_first && next.is_numeric());
        let last = space.char_indices().next_back().map_or(0, |(at, _)| at);
        Some(if keeps_all || last == 0 { space.len() } else { last })
    }
}

#[cfg(test)]
mod tests {
    use fancy_regex::Regex;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::PreTokenizer;

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// The published expressions, one after the other, each within the pieces that the one before has made.
    fn published(steps: &[Regex], text: &str) -> Vec<String> {
        let Some((step, rest)) = steps.split_first() else { return vec![text.to_owned()] };
        let mut words = Vec::new();
        let mut at = 0;
        for found in step.find_iter(text).map(Result::unwrap) {
            for piece in
                [&text[at..found.start()], found.as_str()].into_iter().filter(|piece| !piece.is_empty())
            {
                words.extend(published(rest, piece));
            }
            at = found.end();
        }
        if at < text.len() {
            words.extend(published(rest, &text[at..]));
        }
        words
    }

    #[test]
    fn every_family_splits_as_its_published_expressions() {
        let families: [(&str, &[&str]); 4] = [
            ("gpt-2", &[GPT2]),
            ("smollm", &[r"\p{N}", GPT2]),
            ("llama-bpe", &[LLAMA3]),
            ("qwen2", &[QWEN2]),
        ];
        let character = prop_oneof![
            1 => any::<char>(),
            6 => prop::sample::select(" \n\r\t\u{a0}'12²Ⅷ.,-sStTrReEvVlLmMdDéſ字👩\u{301}".chars().collect::<Vec<_>>()),
        ];
        let text = prop::collection::vec(character, 0..40).prop_map(String::from_iter);
        for (name, steps) in families {
            let pre = PreTokenizer::named(name).unwrap();
            let steps: Vec<Regex> = steps.iter().map(|step| Regex::new(step).unwrap()).collect();
            let config = Config { cases: 4000, failure_persistence: None, ..Config::default() };
            let same = |text: String| {
                prop_assert_eq!(pre.split(&text).collect::<Vec<_>>(), published(&steps, &text), "{}", name);
                Ok(())
            };
            TestRunner::new(config).run(&text, same).unwrap();
        }
    }

    #[track_caller]
    fn check(name: &str, text: &str, words: &[&str]) {
        let pre = PreTokenizer::named(name).unwrap();
        assert_eq!(pre.split(text).collect::<Vec<_>>(), words, "{name}");
    }

    #[test]
    fn gpt2_keeps_digits_together_and_contractions_in_lower_case() {
        check("gpt-2", "I'll pay 1234, O'LL", &["I", "'ll", " pay", " 1234", ",", " O", "'", "LL"]);
    }

    #[test]
    fn smollm_takes_each_digit_alone_with_the_space_before_it_apart() {
        check("smollm", "a  12 ²x", &["a", "  ", "1", "2", " ", "²", "x"]);
    }

    #[test]
    fn llama_takes_digits_by_threes_and_contractions_in_any_case() {
        check("llama-bpe", "I'LL pay 12345", &["I", "'LL", " pay", " ", "123", "45"]);
        check("llama-bpe", "it'ſ", &["it", "'ſ"]);
    }

    #[test]
    fn qwen2_takes_each_digit_alone() {
        check("qwen2", "pay 123", &["pay", " ", "1", "2", "3"]);
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_next_word_but_not_at_the_end() {
        for name in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
            check(name, "a   b  ", &["a", "  ", " b", "  "]);
        }
        // Any character may lead a word in the later families, only a space in the earlier.
        check("gpt-2", "\t\u{a0}b", &["\t", "\u{a0}", "b"]);
        check("qwen2", "\t\u{a0}b", &["\t", "\u{a0}b"]);
    }

    #[test]
    fn newlines_stay_together_in_llama_and_qwen_only() {
        check("gpt-2", "a\n\nb", &["a", "\n", "\n", "b"]);
        check("llama-bpe", "a.\n\n  b", &["a", ".\n\n", " ", " b"]);
        check("qwen2", "a \n \n b", &["a", " \n \n", " b"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = PreTokenizer::named("no-such").unwrap_err().to_string();
        assert!(error.contains("\"no-such\"") && error.contains("smollm"), "{error}");
    }
}
