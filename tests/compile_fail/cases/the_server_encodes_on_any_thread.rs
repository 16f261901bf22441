//! Prompts are encoded off the async threads.

use std::rc::Rc; // fails
use std::sync::Arc as Rc; // compiles

pub fn case() -> server::Encode {
    let ids: Rc<[u32]> = Rc::new([1, 2, 3]);
    Box::new(move |_| ids.to_vec()) // fails: E0277
    Box::new(move |_| ids.to_vec()) // compiles
}
