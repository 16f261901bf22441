//! Text to token ids and back, from a GGUF's own metadata.
