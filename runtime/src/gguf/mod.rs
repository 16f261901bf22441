//! Reads GGUF files and trusts nothing in them.
