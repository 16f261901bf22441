use std::fmt;

/// How requests are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Requests at once.
    pub(crate) streams: usize,
    /// Tokens computed in a step.
    pub(crate) step: usize,
    /// Whether pages are taken from earlier requests.
    pub(crate) prefix_cache: bool,
    /// Pages of keys and values, in requests of the greatest length: one and a half cannot hold many at once.
    pub(crate) memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// For everybody at once.
    Ample,
    /// For hardly more than the longest request: sequences are preempted and computed again.
    Scarce,
}

impl Setting {
    /// One at a time, whole prompts in a step, nothing kept: what all others are compared with.
    pub(crate) const ALONE: Setting =
        Setting { streams: 1, step: 2048, prefix_cache: false, memory: Memory::Ample };
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = if self.prefix_cache { "on" } else { "off" };
        let memory = if self.memory == Memory::Scarce { ", little memory" } else { "" };
        write!(f, "{} streams, steps of {}, prefix cache {cache}{memory}", self.streams, self.step)
    }
}

/// Every number of streams with every step, the cache on and off, and little memory.
pub(crate) fn all() -> Vec<Setting> {
    let mut settings = Vec::new();
    for streams in [1, 7, 64, 128] {
        for step in [64, 256, 2048] {
            for prefix_cache in [false, true] {
                settings.push(Setting { streams, step, prefix_cache, memory: Memory::Ample });
            }
        }
    }
    settings.extend(scarce());
    settings
}

/// One of each kind.
pub(crate) fn few() -> Vec<Setting> {
    let ample = |streams, step, prefix_cache| Setting { streams, step, prefix_cache, memory: Memory::Ample };
    let mut settings = vec![ample(1, 64, true), ample(7, 64, false), ample(64, 256, true)];
    settings.extend(scarce());
    settings
}

fn scarce() -> [Setting; 2] {
    [false, true].map(|prefix_cache| Setting { streams: 16, step: 64, prefix_cache, memory: Memory::Scarce })
}
