//! An engine that reported its failure has given its queue away.

use runtime::engine::JobQueue;

pub fn case(queue: JobQueue) {
    queue.begun("a"); // compiles
    queue.fail("a fault".to_owned());
    queue.begun("a"); // fails: E0382
}
