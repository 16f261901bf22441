//! An engine that reported its failure has given its queue away.

use runtime::engine::JobQueue;

pub fn case(queue: JobQueue) {
    queue.publish_pages(0); // compiles
    queue.fail("a fault".to_owned());
    queue.publish_pages(0); // fails: E0382
}
