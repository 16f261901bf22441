use std::ops::RangeInclusive;

use serde_json::{Map, Number, Value};

use crate::wire::Fault;

/// A JSON object being taken apart: each taker removes one field, notes what is wrong with it and goes on with a
/// stand-in, so that [`Fields::finish`] can name all faults at once. `null` counts as absent.
pub(crate) struct Fields {
    rest: Map<String, Value>,
    faults: Vec<Fault>,
    /// Faults beyond [`MOST_FAULTS`].
    untold: usize,
}

/// Faults that are told: a body has room for hundreds of thousands.
const MOST_FAULTS: usize = 100;

/// Numbers that a field allows, written as in its constraint.
pub(crate) struct Bounds {
    /// The least number, itself allowed unless `open`.
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Whether `min` itself is left out.
    pub(crate) open: bool,
}

impl Fields {
    /// Reads an object. What is not JSON, or no object, has no fields to go on with.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Vec<Fault>> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(rest)) => Ok(Self::of(rest)),
            Ok(other) => Err(vec![wrong_type("body", "object", &other)]),
            Err(error) => Err(vec![Fault::new("body", "valid_json", format!("not valid JSON: {error}"))]),
        }
    }

    pub(crate) fn of(rest: Map<String, Value>) -> Self {
        Self { rest, faults: Vec::new(), untold: 0 }
    }

    /// A text of 1 to `max` characters that must be there.
    pub(crate) fn text(&mut self, name: &str, max: usize) -> String {
        match self.take(name) {
            None => self.fault(Fault::new(name, "required", format!("{name} is missing"))),
            Some(Value::String(text)) => match check_length(name, &text, max) {
                Ok(()) => return text,
                Err(fault) => self.fault(fault),
            },
            Some(other) => self.fault(wrong_type(name, "string", &other)),
        }
        String::new()
    }

    /// A list of at most `most` texts of 1 to `max` characters; absent, it is empty.
    pub(crate) fn texts(&mut self, name: &str, most: usize, max: usize) -> Vec<String> {
        let values = match self.take(name) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.fault(wrong_type(name, "array", &other));
                return Vec::new();
            }
        };
        if values.len() > most {
            let message = format!("{name} has {} entries; at most {most} are allowed", values.len());
            self.fault(Fault::new(name, format!("length(0..={most})"), message));
            return Vec::new();
        }
        let check = |(index, value)| {
            let path = format!("{name}[{index}]");
            let checked = match value {
                Value::String(text) => check_length(&path, &text, max).map(|()| text),
                other => Err(wrong_type(&path, "string", &other)),
            };
            // The stand-in keeps the indices of the others right.
            checked.unwrap_or_else(|fault| {
                self.fault(fault);
                String::new()
            })
        };
        values.into_iter().enumerate().map(check).collect()
    }

    /// The same, where a single text may stand for a list of one.
    pub(crate) fn text_or_texts(&mut self, name: &str, most: usize, max: usize) -> Vec<String> {
        if let Some(value @ Value::String(_)) = self.rest.get_mut(name) {
            *value = Value::Array(vec![value.take()]);
        }
        self.texts(name, most, max)
    }

    /// Any text.
    pub(crate) fn any_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.fault(wrong_type(name, "string", &other));
                None
            }
        }
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            other => {
                self.fault(wrong_type(name, "boolean", &other));
                None
            }
        }
    }

    /// An object, to be taken apart like this one and given back to [`absorb`](Self::absorb).
    pub(crate) fn object(&mut self, name: &str) -> Option<Fields> {
        match self.take(name)? {
            Value::Object(rest) => Some(Self::of(rest)),
            other => {
                self.fault(wrong_type(name, "object", &other));
                None
            }
        }
    }

    /// Takes over the faults of an object that was at `path`.
    pub(crate) fn absorb(&mut self, path: &str, object: Fields) {
        let faults = object.finish().err().unwrap_or_default();
        let within = |fault: Fault| Fault { field: format!("{path}.{}", fault.field), ..fault };
        self.faults.extend(faults.into_iter().map(within));
    }

    /// A field that is taken only where it changes nothing; `needed` says in words what it may be.
    pub(crate) fn neutral(&mut self, name: &str, is_neutral: impl Fn(&Value) -> bool, needed: &str) {
        if self.take(name).is_some_and(|value| !is_neutral(&value)) {
            let message = format!("{name} is not supported; {needed}");
            self.fault(Fault::new(name, "unsupported", message));
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let signed = i128::from(*range.start())..=i128::from(*range.end());
        self.signed(name, signed).map(|whole| u64::try_from(whole).expect("its range was checked"))
    }

    /// A whole number within `range`, which may begin below zero.
    pub(crate) fn signed(&mut self, name: &str, range: RangeInclusive<i128>) -> Option<i128> {
        let number = self.number(name, "integer")?;
        let whole = number.as_i128().filter(|value| range.contains(value));
        if whole.is_none() {
            let (min, max) = (range.start(), range.end());
            self.out_of_range(
                name,
                number,
                format!("range({min}..={max})"),
                format!("a whole number from {min} to {max}"),
            );
        }
        whole
    }

    /// A number within `bounds`.
    pub(crate) fn real(&mut self, name: &str, bounds: Bounds) -> Option<f32> {
        let number = self.number(name, "number")?;
        let Bounds { min, max, open } = bounds;
        let inside =
            |value: f64| if open { min < value && value <= max } else { min <= value && value <= max };
        // Checked again after rounding: the least doubles above 0 are 0 as f32.
        let real = number.as_f64().filter(|&value| inside(value) && inside(f64::from(value as f32)));
        if real.is_none() {
            let (constraint, words) = if open {
                (format!("range({min:?}<..={max:?})"), format!("over {min:?} and at most {max:?}"))
            } else {
                (format!("range({min:?}..={max:?})"), format!("from {min:?} to {max:?}"))
            };
            self.out_of_range(name, number, constraint, words);
        }
        real.map(|value| value as f32)
    }

    /// Notes a fault that the caller found.
    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        } else {
            self.untold += 1;
        }
    }

    /// A text of at most `max` characters.
    pub(crate) fn text_up_to(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.any_text(name)?;
        let length = text.chars().count();
        if length > max {
            let message = format!("{name} has {length} characters; at most {max} are allowed");
            self.fault(Fault::new(name, format!("length(0..={max})"), message));
            return None;
        }
        Some(text)
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.rest.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether no fault was found so far.
    pub(crate) fn is_right(&self) -> bool {
        self.faults.is_empty()
    }

    /// All faults, those of fields that nobody took among them.
    pub(crate) fn finish(mut self) -> Result<(), Vec<Fault>> {
        for name in std::mem::take(&mut self.rest).keys() {
            self.fault(Fault::new(name, "known_field", "there is no such field"));
        }
        if self.untold > 0 {
            let message = format!("there are {} faults more than those told", self.untold);
            self.faults.push(Fault::new("body", format!("faults(..={MOST_FAULTS})"), message));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    /// Whatever is there.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name).filter(|value| !value.is_null())
    }

    fn number(&mut self, name: &str, expected: &str) -> Option<Number> {
        match self.take(name)? {
            Value::Number(number) => Some(number),
            other => {
                self.fault(wrong_type(name, expected, &other));
                None
            }
        }
    }

    fn out_of_range(&mut self, name: &str, value: Number, constraint: String, words: String) {
        let fault = Fault::new(name, constraint, format!("{name} must be {words}"));
        self.fault(Fault { value: Some(value), ..fault });
    }
}

fn check_length(path: &str, text: &str, max: usize) -> Result<(), Fault> {
    match text.chars().count() {
        0 => Err(Fault::new(path, "non_empty", format!("{path} must not be empty"))),
        length if length <= max => Ok(()),
        length => {
            let message = format!("{path} has {length} characters; at most {max} are allowed");
            Err(Fault::new(path, format!("length(1..={max})"), message))
        }
    }
}

pub(crate) fn wrong_type(path: &str, expected: &str, found: &Value) -> Fault {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Fault::new(path, format!("type({expected})"), format!("{path} must be of type {expected}, not {found}"))
}
