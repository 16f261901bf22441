//! The whole engine on a made-up model, under what clients do: whatever happens, each gets what it would get alone.

mod fake;
mod fuzz;
mod office;
mod promises;
