//! A device is used by one thread at a time: it may move to another one, but not be shared.

use runtime::device::Device;

pub fn case(device: Device) {
    std::thread::scope(|scope| {
        scope.spawn(|| drop(device.name())); // fails: E0277
        scope.spawn(move || drop(device.name())); // compiles
    });
}
