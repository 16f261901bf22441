//! Nobody makes up the number of a page.

use runtime::kv_cache::Pages;

pub fn case() -> Pages {
    Pages(vec![7]) // fails: E0423
    Pages::default() // compiles
}
