//! Events are sent from the engine's thread, so a sink can move there.

use std::rc::Rc; // fails
use std::sync::Arc as Rc; // compiles

use runtime::engine::EngineHandle;
use runtime::request::{Event, Request, SubmitError};

pub fn case(engine: &EngineHandle, request: Request) -> Result<(), SubmitError> {
    let shared = Rc::new(());
    let sink = move |_: Event| {
        let _ = Rc::strong_count(&shared);
        Ok(())
    };
    engine.submit(request, Box::new(sink)) // fails: E0277
    engine.submit(request, Box::new(sink)) // compiles
}
