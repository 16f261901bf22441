//! Events out of the bytes of a `text/event-stream`, whichever way they were cut on their way.

/// What an event may have in bytes, and a line too.
const MOST: usize = 1 << 20;

/// Collects bytes until they are an event.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// What has come of the line.
    line: Vec<u8>,
    /// The last byte was a carriage return, which a line feed may follow.
    returned: bool,
    begun: bool,
    event: Event,
    /// The event has a line of data.
    any: bool,
}

/// An event with data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Empty where the server names none.
    pub(super) name: String,
    pub(super) data: String,
}

/// Why no more events can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SseFault {
    #[error("an event of over 1 MiB")]
    TooLong,
    #[error("bytes that are no UTF-8")]
    NoText,
}

impl Events {
    /// Takes bytes; the events that are whole by them go to `with` while it returns `true`.
    pub(super) fn take(&mut self, bytes: &[u8], mut with: impl FnMut(Event) -> bool) -> Result<(), SseFault> {
        for &byte in bytes {
            let feed_of_a_return = self.returned && byte == b'\n';
            self.returned = byte == b'\r';
            if feed_of_a_return {
                continue;
            }
            if byte != b'\n' && byte != b'\r' {
                if self.line.len() + self.event.data.len() >= MOST {
                    return Err(SseFault::TooLong);
                }
                self.line.push(byte);
            } else if let Some(event) = self.end_of_line()?
                && !with(event)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The event that the line ends.
    fn end_of_line(&mut self) -> Result<Option<Event>, SseFault> {
        let line = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&line).map_err(|_| SseFault::NoText)?;
        if !self.begun {
            // A byte order mark.
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
            self.begun = true;
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.any).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.any {
                    self.event.data.push('\n');
                }
                self.any = true;
                self.event.data += value;
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment, whose field is empty, or one that does not concern us.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Result<Vec<(String, String)>, SseFault> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for chunk in chunks {
            events.take(chunk, |event| {
                found.push((event.name, event.data));
                true
            })?;
        }
        Ok(found)
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    const STREAM: &str = "\u{feff}: hello\n\nevent: token\ndata: {\"t\": \"é🦀\"}\n\r\nevent:end\rdata:a\rdata: b\r\r\
                          id: 7\nretry: 1\n\ndata\n\nnothing: x\r\n\r\ndata:  two spaces\r\n\r\n\
                          event: more\r\ndata: 1\r\ndata: 2\r\n\r\ndata: unfinished\n";

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        let expected = vec![
            event("token", "{\"t\": \"é🦀\"}"),
            event("end", "a\nb"),
            event("", ""),
            event("", " two spaces"),
            event("more", "1\n2"),
        ];
        let bytes = STREAM.as_bytes();
        assert_eq!(all(&[bytes]).unwrap(), expected);
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(all(&chunks).unwrap(), expected, "cut at {first} and {second}");
            }
        }
        assert_eq!(all(&bytes.chunks(1).collect::<Vec<_>>()).unwrap(), expected);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let chunk = [b'x'; 4096];
        for beginning in ["data: ", ": ", "", "event: "] {
            let mut events = Events::default();
            events.take(beginning.as_bytes(), |_| true).unwrap();
            let refused = (0..1000).find_map(|n| Some((n, events.take(&chunk, |_| true).err()?)));
            let (n, fault) = refused.expect("4 MB of a line were taken");
            assert!(fault == SseFault::TooLong && (254..=256).contains(&n), "{beginning}: {n}");
        }
        // In many lines too, which need not have anything in them.
        let mut events = Events::default();
        let refused = (0..4000).find_map(|_| events.take(&b"data:\n".repeat(1024), |_| true).err());
        assert_eq!(refused, Some(SseFault::TooLong));
        let mut events = Events::default();
        events.take(&b"data: a\n\n".repeat(1 << 19), |_| true).expect("many events have no bound");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(all(&[b"data: \xff\n\n"]), Err(SseFault::NoText));
        assert_eq!(all(&[b"data: \xc3", b"\n\n"]), Err(SseFault::NoText));
    }

    #[test]
    fn whoever_has_enough_gets_no_more() {
        let mut taken = 0;
        Events::default()
            .take(b"data: a\n\ndata: b\n\ndata: c\n\n", |_| {
                taken += 1;
                taken < 2
            })
            .unwrap();
        assert_eq!(taken, 2);
    }
}
