//! worker-orcd
