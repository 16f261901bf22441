//! That a file which is cut short while it is open is an error, and costs no memory.

use std::fs::File;

use libtest_mimic::Failed;
use runtime::batch::BatchLimits;
use runtime::device::{Device, DeviceError, Purpose};
use runtime::gguf::Gguf;
use runtime::model::{Model, ModelError, Plan};
use runtime::numerics::Numerics;
use tempfile::TempDir;
use worker_orcd::images::IMAGES;

use crate::common::data;

/// More than the two buffers that large uploads pass through, and no whole number of them.
const MANY: usize = 70 << 20;

pub(crate) fn an_upload_of_many_parts() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let mut buffer = device.alloc::<u8>(Purpose::Weights, MANY + 3)?;
    let value = |i: usize| (i % 251) as u8;
    for len in [1, 1000, (1 << 20) + 1, MANY] {
        let fill = |at: usize, into: &mut [u8]| {
            into.iter_mut().enumerate().for_each(|(i, byte)| *byte = value(at + i));
            Ok::<(), DeviceError>(())
        };
        device.fill(&mut buffer, 0, MANY + 3, 255)?;
        device.upload_with(&mut buffer, 2, len, &fill)?;
        let got = device.download(&buffer, 0, MANY + 3)?;
        let right = |i: usize| if (2..2 + len).contains(&i) { value(i - 2) } else { 255 };
        assert_eq!((0..MANY + 3).find(|&i| got[i] != right(i)), None, "of {len} bytes");
    }
    // In the last of its parts.
    let fill = |at: usize, into: &mut [u8]| match (at..at + into.len()).contains(&(MANY - 1)) {
        true => Err(DeviceError::NoBytes { purpose: Purpose::Inputs }),
        false => Ok(()),
    };
    let failed = device.upload_with(&mut buffer, 0, MANY, &fill);
    assert!(matches!(failed, Err(DeviceError::NoBytes { purpose: Purpose::Inputs })), "{failed:?}");
    Ok(())
}

pub(crate) fn a_file_cut_short() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let folder = TempDir::new()?;
    let path = folder.path().join("model.gguf");
    let limits = BatchLimits { tokens: 64, sequences: 2, context: 64 };
    let plan = Plan { numerics: Numerics::F32, limits, pages: 8 };
    std::fs::copy(data("llama-f32.gguf"), &path)?;
    let whole = std::fs::metadata(&path)?.len();
    // Before the first byte is asked for, and when some have come.
    for after in [0, 50_000] {
        std::fs::copy(data("llama-f32.gguf"), &path)?;
        let gguf = Gguf::open(&path)?;
        let cut = || File::options().write(true).open(&path).and_then(|file| file.set_len(whole / 2));
        if after == 0 {
            cut()?;
        }
        let mut told = 0;
        let loaded = Model::load(&device, &gguf, plan, &mut |done, _| {
            told = done;
            if done >= after {
                cut().expect("the file is there");
            }
        });
        let Err(ModelError::File(error)) = loaded else { return Err("the file was not missed".into()) };
        let text = error.to_string();
        let now = format!("now it has {}", whole / 2);
        assert!(
            ["tensor \"", "when the file was opened", &now].iter().all(|part| text.contains(part)),
            "{text}"
        );
        assert!(told >= after, "{told}");
        assert_eq!(device.usage().total(), 0);
    }
    Ok(())
}
