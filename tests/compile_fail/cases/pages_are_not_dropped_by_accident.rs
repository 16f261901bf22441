//! Pages that nobody gives back are lost, so a program that ignores them is warned.

#![deny(unused_must_use)]

use runtime::kv_cache::{PagePool, Pages};

fn taken(pool: &mut PagePool) -> Pages {
    pool.take(2).expect("two free pages")
}

pub fn case(pool: &mut PagePool) {
    pool.take(1); // fails: unused_must_use
    taken(pool); // fails: unused_must_use
    let pages = taken(pool);
    pool.release(pages);
}
