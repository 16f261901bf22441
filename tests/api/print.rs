//! Tokens as rustfmt would set them on one line, whatever the compiler's version.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// The text of something parsed, without the comments in it.
pub(crate) fn text(tokens: impl ToTokens) -> String {
    let mut line = Line::default();
    line.stream(without_docs(tokens.into_token_stream()));
    line.text.trim_end().to_owned()
}

/// What stands between spaces.
const SPACED: [&str; 4] = ["->", "=>", "=", "+"];
/// Words that a parenthesis does not touch.
const WORDS: [&str; 7] = ["as", "const", "dyn", "impl", "in", "mut", "where"];

#[derive(Default)]
struct Line {
    text: String,
}

impl Line {
    fn stream(&mut self, stream: TokenStream) {
        let mut operator = String::new();
        for token in stream {
            match token {
                TokenTree::Punct(punct) => {
                    operator.push(punct.as_char());
                    let quote = punct.as_char() == '\'';
                    // Angle brackets are one each; only arrows and `>=`-like operators hold one in company.
                    let more =
                        punct.spacing() == Spacing::Joint && !matches!(punct.as_char(), '<' | '>' | ',');
                    if quote || !more {
                        self.operator(&std::mem::take(&mut operator));
                    }
                }
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
                TokenTree::Group(group) => self.group(group.delimiter(), group.stream()),
            }
        }
    }

    fn word(&mut self, word: &str) {
        if self
            .text
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | ')' | ']' | '}' | '"'))
        {
            self.text.push(' ');
        }
        self.text += word;
    }

    fn operator(&mut self, operator: &str) {
        let ends_with = |end: &[char]| self.text.ends_with(end);
        match operator {
            "," | ":" | ";" => self.text += &format!("{operator} "),
            "&" | "*" | "#" | "\'" => {
                if !self.text.is_empty() && !ends_with(&[' ', '(', '[', '<', '&', '*']) {
                    self.text.push(' ');
                }
                self.text += operator;
            }
            _ if SPACED.contains(&operator) => {
                let space = if self.text.is_empty() || self.text.ends_with(' ') { "" } else { " " };
                self.text += &format!("{space}{operator} ");
            }
            _ => self.text += operator,
        }
    }

    fn group(&mut self, delimiter: Delimiter, stream: TokenStream) {
        let (open, close) = match delimiter {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Brace => ("{ ", " }"),
            Delimiter::None => ("", ""),
        };
        let word = self.text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let apart = match delimiter {
            Delimiter::Brace => !self.text.ends_with(' '),
            Delimiter::Bracket => !word.is_empty(),
            _ => WORDS.contains(&word),
        };
        if apart {
            self.text.push(' ');
        }
        self.text += open;
        self.stream(stream);
        self.text.truncate(self.text.trim_end_matches([' ', ',']).len());
        self.text += close;
    }
}

/// Tokens without the comments among them, in macros too.
fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in tokens {
        let TokenTree::Group(group) = token else {
            kept.push(token);
            continue;
        };
        let is_doc =
            group.delimiter() == Delimiter::Bracket && group.stream().to_string().starts_with("doc =");
        if is_doc {
            kept.pop();
        } else {
            kept.push(Group::new(group.delimiter(), without_docs(group.stream())).into());
        }
    }
    kept.into_iter().collect()
}
