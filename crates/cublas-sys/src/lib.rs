//! cublas-sys
