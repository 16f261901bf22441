//! A case's memory on a device: outputs full of poison, between guards.

use std::mem::MaybeUninit;

use cuda_std::{In, Out, Value};
use runtime::device::{Buffer, Device, Purpose};

use super::expect::bytes_of;

/// Values before and after an output that nobody may touch.
const GUARD: usize = 256;
/// What fills guards and fresh outputs: a tiny negative f32, an id far outside of every vocabulary.
const POISON: u8 = 0xa5;

/// The memory of one launch.
pub(crate) struct Stage<'d> {
    device: &'d Device,
    /// Kept for as long as the launch may read them.
    inputs: Vec<Box<dyn std::any::Any>>,
    outputs: Vec<Box<dyn Output + 'd>>,
}

impl<'d> Stage<'d> {
    /// No memory yet.
    pub(crate) fn new(device: &'d Device) -> Self {
        Self { device, inputs: Vec::new(), outputs: Vec::new() }
    }

    /// Memory that the kernel reads.
    pub(crate) fn input<V: Value>(&mut self, values: &[V]) -> In<V> {
        let len = values.len().max(1);
        let mut buffer = self.device.alloc(Purpose::Inputs, len).expect("memory for an input");
        self.device.upload(&mut buffer, 0, values).expect("upload of an input");
        // SAFETY: lives as long as the stage, which the kernel's runs do not outlive; nobody writes to it again.
        let view = unsafe { buffer.view(0, values.len()) };
        self.inputs.push(Box::new(buffer));
        view
    }

    /// Memory that the kernel reads, where there is any.
    pub(crate) fn optional<V: Value>(&mut self, values: Option<&[V]>) -> In<V> {
        match values {
            Some(values) => self.input(values),
            // SAFETY: no index is below 0.
            None => unsafe { In::new(std::ptr::dangling(), 0) },
        }
    }

    /// In place of an output that a kernel does not have.
    pub(crate) fn nothing<V: Value>(&self) -> Out<V> {
        // SAFETY: no index is below 0.
        unsafe { Out::new(std::ptr::dangling_mut(), 0) }
    }

    /// Memory that the kernel must fill.
    pub(crate) fn output<V: Value>(&mut self, len: usize) -> Out<V> {
        self.guarded(&vec![poison(); len], Kind::Filled)
    }

    /// Memory that the kernel finds so and changes in part.
    pub(crate) fn in_out<V: Value>(&mut self, values: &[V]) -> Out<V> {
        self.guarded(values, Kind::Changed)
    }

    /// Memory for the kernel's own use, no output.
    pub(crate) fn workspace<V: Value>(&mut self, len: usize) -> Out<V> {
        self.guarded(&vec![poison(); len], Kind::Workspace)
    }

    fn guarded<V: Value>(&mut self, values: &[V], kind: Kind) -> Out<V> {
        let len = values.len();
        let mut buffer =
            self.device.alloc(Purpose::Activations, len + 2 * GUARD).expect("memory for an output");
        let guard = [poison(); GUARD];
        for (at, part) in [(0, &guard[..]), (GUARD, values), (GUARD + len, &guard[..])] {
            self.device.upload(&mut buffer, at, part).expect("upload of an output");
        }
        // SAFETY: lives as long as the stage; one launch at a time uses it.
        let view = unsafe { buffer.view_mut(GUARD, len) };
        self.outputs.push(Box::new(Guarded { device: self.device, buffer, kind }));
        view
    }

    /// The bytes of every output in the order in which they were asked for, workspaces left out; or what is wrong
    /// with what surrounds them.
    pub(crate) fn results(&self) -> Result<Vec<Vec<u8>>, String> {
        self.outputs.iter().filter_map(|output| output.read().transpose()).collect()
    }
}

/// What a kernel owes a piece of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Filled,
    Changed,
    Workspace,
}

struct Guarded<'d, V> {
    device: &'d Device,
    buffer: Buffer<V>,
    kind: Kind,
}

trait Output {
    /// The bytes between the guards; none of a workspace.
    fn read(&self) -> Result<Option<Vec<u8>>, String>;
}

impl<V: Value> Output for Guarded<'_, V> {
    fn read(&self) -> Result<Option<Vec<u8>>, String> {
        let values =
            self.device.download(&self.buffer, 0, self.buffer.len()).map_err(|error| error.to_string())?;
        let (size, guard) = (size_of::<V>(), GUARD * size_of::<V>());
        let bytes = bytes_of(&values);
        let inner = &bytes[guard..bytes.len() - guard];
        for (side, bytes) in [("before", &bytes[..guard]), ("after", &bytes[bytes.len() - guard..])] {
            if bytes.iter().any(|&byte| byte != POISON) {
                return Err(format!("written {side} an output of {} values", inner.len() / size));
            }
        }
        let poisoned = |value: &[u8]| value.iter().all(|&byte| byte == POISON);
        if self.kind == Kind::Filled && inner.chunks(size).any(poisoned) {
            let left = inner.chunks(size).filter(|value| poisoned(value)).count();
            return Err(format!("{left} of {} values were not written", inner.len() / size));
        }
        Ok((self.kind != Kind::Workspace).then(|| inner.to_vec()))
    }
}

fn poison<V: Value>() -> V {
    let mut value = MaybeUninit::<V>::uninit();
    // SAFETY: all bytes are written, and any bytes are a `Value`.
    unsafe {
        value.as_mut_ptr().cast::<u8>().write_bytes(POISON, size_of::<V>());
        value.assume_init()
    }
}
