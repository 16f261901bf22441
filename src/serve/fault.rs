//! What is wrong with a command line: everything, not the first thing.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::code::Code;

/// An argument that cannot be used.
#[derive(Debug)]
pub struct Fault {
    /// What the log says beside the text.
    pub(super) code: Code,
    /// Which argument, what is wrong, and what would be right.
    pub(super) text: String,
}

/// All that is wrong with a command line; at least one fault.
#[derive(Debug)]
pub struct Faults(pub(super) Vec<Fault>);

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "; " }, fault.text)?;
        }
        f.write_str("; see worker-orcd serve --help")
    }
}

impl Faults {
    /// Notes a fault.
    pub(super) fn note(&mut self, code: Code, text: String) {
        self.0.push(Fault { code, text });
    }

    /// The value of an argument, if it was given and is right.
    pub(super) fn value<T: FromStr<Err: Display>>(
        &mut self,
        code: Code,
        name: &str,
        text: Option<&str>,
    ) -> Option<T> {
        let text = text?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.note(code, format!("{name} {text:?}: {why}"));
                None
            }
        }
    }

    /// A whole number within `range`; if it is not, the fault is noted and the least is given.
    pub(super) fn number(&mut self, name: &str, text: &str, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = (*range.start(), *range.end());
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let why = format!("must be a whole number from {least} to {most}");
                self.note(Code::InvalidArgument, format!("{name} {text:?}: {why}"));
                least
            }
        }
    }
}
