//! Stop strings: text goes out as soon as it cannot be the beginning of one.

/// Watches a completion's text for its stop strings.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

/// What became certain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// This text is part of the completion; may be empty.
    Text(String),
    /// The completion ends after this text, before this stop string.
    Stop(String, String),
}

impl StopMatcher {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Adds text. The stop string that begins first wins; of those that begin together, the first in the list.
    pub(crate) fn push(&mut self, text: &str) -> Decided {
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            let stop = stop.clone();
            self.held.truncate(at);
            return Decided::Stop(std::mem::take(&mut self.held), stop);
        }
        let certain = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(certain);
        Decided::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, when no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the text that are the beginning of some stop string.
    fn longest_beginning(&self) -> usize {
        let longest = |stop: &String| {
            let ends = stop.char_indices().map(|(i, _)| i).filter(|&i| self.held.ends_with(&stop[..i]));
            ends.max().unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when `text` comes in pieces cut after every `size` characters.
    fn run(text: &str, stops: &[&str], size: usize) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut out = String::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(size) {
            match matcher.push(&piece.iter().collect::<String>()) {
                Decided::Text(text) => out += &text,
                Decided::Stop(text, stop) => return (out + &text, Some(stop)),
            }
        }
        (out + &matcher.finish(), None)
    }

    #[test]
    fn a_stop_string_across_pieces_ends_the_text() {
        assert_eq!(run("one END two", &["END"], 2), ("one ".to_owned(), Some("END".to_owned())));
    }

    #[test]
    fn what_only_began_like_a_stop_string_comes_out() {
        assert_eq!(run("one EN two E", &["END"], 1), ("one EN two E".to_owned(), None));
    }

    #[test]
    fn text_is_not_held_back_longer_than_needed() {
        let mut matcher = StopMatcher::new(vec!["abc".to_owned()]);
        assert_eq!(matcher.push("xab"), Decided::Text("x".to_owned()));
        assert_eq!(matcher.push("d"), Decided::Text("abd".to_owned()));
    }

    proptest! {
        #[test]
        fn pieces_and_whole_agree(text in "[abé]{0,24}", stops in prop::collection::vec("[abé]{1,4}", 0..3), size in 1usize..5) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (out, stopped) = run(&text, &stops, size);
            match stopped {
                Some(stop) => {
                    let whole = out.clone() + &stop;
                    prop_assert!(text.starts_with(&whole));
                    prop_assert!(stops.iter().all(|stop| !out.contains(stop)));
                }
                None => {
                    prop_assert_eq!(&out, &text);
                    prop_assert!(stops.iter().all(|stop| !text.contains(stop)));
                }
            }
        }
    }
}
