//! Admission of a made-up cuBLAS's algorithms, and products by those admitted.

use cuda_std::Bf16;
use libtest_mimic::Failed;
use runtime::device::{Buffer, Device, DeviceError, Image, Purpose};
use runtime::gemm::{Gemm, Input, Product};

static IMAGES: &[Image] = &[
    Image {
        family: "compare",
        chip: "sm_80",
        ptx: ".visible .entry compare__draw(\n)\n{\n}\n.visible .entry compare__count(\n)\n{\n}\n",
    },
    Image {
        family: "matmul",
        chip: "sm_80",
        ptx: ".visible .entry matmul__f16(\n)\n{\n}\n.visible .entry matmul__bf16(\n)\n{\n}\n",
    },
];

const MOST_ROWS: usize = 100;
const N: usize = 33;
const K: usize = 40;

/// Random bf16 values whose sums depend on their order.
fn floats(len: usize, seed: u32) -> Vec<u16> {
    let value = |i: usize| {
        let random = (i as u32 + seed).wrapping_mul(0x9e37_79b9).rotate_left(9).wrapping_mul(0x85eb_ca6b);
        Bf16::from_f32((random >> 8) as f32 - 8e6 + (random % 17) as f32 * 1e-3).0
    };
    (0..len).map(value).collect()
}

/// The f32 chain over k, as the made-up driver's `matmul` sums too.
fn chain(w: &[u16], x: &[u16], k: usize) -> Vec<f32> {
    let value = |&bits: &u16| Bf16(bits).to_f32();
    let product = |x: &[u16], w: &[u16]| w.iter().zip(x).fold(0.0, |sum, (w, x)| sum + value(w) * value(x));
    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| product(x, w))).collect()
}

pub(crate) fn products() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let mut gemm = Gemm::new(&device)?.ok_or("no cuBLAS")?;
    let before = device.usage();
    gemm.admit(&device, Input::Bf16, N, K, MOST_ROWS)?;
    // Once more, for fewer rows: already there.
    gemm.admit(&device, Input::Bf16, N, K, 50)?;
    // Shapes for which none is offered, and none is right.
    gemm.admit(&device, Input::Bf16, N, 48, MOST_ROWS)?;
    gemm.admit(&device, Input::Bf16, N, 56, MOST_ROWS)?;
    gemm.report();
    assert_eq!(device.usage(), before, "the trials' memory is free");

    let bucket = |rows, k| gemm.bucket(Input::Bf16, N, k, rows);
    // 64 rows take longer than 96.
    let buckets = [1, 16, 17, 48, 49, 65, 97, 100].map(|rows| bucket(rows, K));
    assert_eq!(buckets, [16, 16, 32, 48, 96, 96, 100, 100].map(Some));
    assert_eq!((bucket(101, K), bucket(1, 48), bucket(1, 56)), (None, None, None));
    assert_eq!(gemm.bucket(Input::F16, N, K, 1), None);

    let (w, x) = (floats(N * K, 1), floats(MOST_ROWS * K, 2));
    let want = chain(&w, &x, K);
    let upload = |values: &[u16]| -> Result<Buffer<u16>, DeviceError> {
        let mut buffer = device.alloc(Purpose::Weights, values.len())?;
        device.upload(&mut buffer, 0, values)?;
        Ok(buffer)
    };
    let (w, x) = (upload(&w)?, upload(&x)?);
    let mut y = device.alloc::<f32>(Purpose::Activations, MOST_ROWS * N)?;
    for (rows, computed) in [(1, 16), (20, 32), (100, 100)] {
        device.fill(&mut y, 0, MOST_ROWS * N, 0xff)?;
        // SAFETY: whole buffers, used in this order alone.
        let product = unsafe {
            let (w, x, y) = (w.view(0, w.len()), x.view(0, x.len()), y.view_mut(0, y.len()));
            Product { input: Input::Bf16, w, x, y, n: N, k: K, rows }
        };
        // SAFETY: as above.
        assert!(unsafe { gemm.run(&device, &product)? });
        let got = device.download(&y, 0, MOST_ROWS * N)?;
        assert!(got[..computed * N] == want[..computed * N], "{rows} rows");
        assert!(got[computed * N..].iter().all(|y| y.is_nan()), "written behind the bucket of {rows} rows");
        // SAFETY: as above.
        let refused = unsafe { gemm.run(&device, &Product { k: 56, ..product })? };
        assert!(!refused, "nothing is admitted for this shape");
        let capture = device.capture(|| {
            // SAFETY: as above.
            unsafe { gemm.run(&device, &product).map(|done| assert!(done)) }
        });
        capture?;
    }
    Ok(())
}

pub(crate) fn products_asked(log: &[&str]) -> Result<(), Failed> {
    let by: Vec<&str> = log.iter().filter_map(|line| line.strip_prefix("multiplied by ")).collect();
    assert!(by.iter().all(|line| !line.starts_with("10,")), "one that splits K was tried");
    for wrong in ["11,", "12,"] {
        let runs = by.iter().filter(|line| line.starts_with(wrong)).count();
        assert_eq!(runs, 12, "each wrong one is tried once a bucket, for two shapes");
    }
    // After admission the fast one runs, and is what a capture records.
    let rows = ["16", "16", "32", "32", "100", "100"].map(|rows| format!("15, {rows} rows"));
    assert_eq!(by[by.len() - 6..], rows);
    assert_eq!(log.last(), Some(&"context released"), "nothing is left");
    assert!(log.contains(&"cublas destroyed"));
    Ok(())
}

pub(crate) fn without_cublas() -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    assert!(Gemm::new(&device)?.is_none());
    assert_eq!(device.usage().total(), 0);
    Ok(())
}
