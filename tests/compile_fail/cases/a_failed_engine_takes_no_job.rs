//! An engine that reported its failure has given its queue away.

use runtime::engine::JobQueue;

pub fn case(queue: JobQueue) {
    queue.resident(); // compiles
    queue.fail("a fault".to_owned());
    queue.resident(); // fails: E0382
}
