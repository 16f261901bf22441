use runtime::tokenizer::{Options, Tokenizer};

/// Words, numbers, spaces, letters of several bytes, marks, and what looks like special tokens.
const TEXT: &str =
    "Then 1234 x\u{e9}\u{301}  <s></s><|im_start|>\r\n\t'll \u{1f469}\u{200d}\u{1f680} \u{4e2d}\u{6587}\0";

/// Encodes and decodes, whatever the vocabulary.
pub fn use_tokenizer(tokenizer: &Tokenizer) {
    let vocab = tokenizer.vocab_size() as u32;
    for options in [(true, true), (false, true), (true, false), (false, false)] {
        let options = Options { add_special: options.0, parse_special: options.1 };
        let ids = tokenizer.encode_with(TEXT, options);
        assert!(ids.iter().all(|&id| id < vocab), "{ids:?} of {vocab}");
        tokenizer.decode_string(&ids);
    }
    let all: Vec<u32> = (0..vocab.min(1000)).chain([vocab, u32::MAX]).collect();
    tokenizer.decode(&all);
    for id in all {
        assert!(id < vocab || tokenizer.piece(id).is_none());
        tokenizer.is_end(id);
    }
    assert!(tokenizer.ends().iter().all(|&id| id < vocab));
}
