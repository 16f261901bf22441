//! The kernels' PTX, embedded by the build script.

use runtime::device::Image;

/// Every embedded image, sorted by chip and family.
pub static IMAGES: &[Image] = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// SHA-256 over all of [`IMAGES`]: programs with equal hashes launch equal kernels.
pub const PTX_HASH: &str = env!("WORKER_ORCD_PTX_HASH");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_runs_on_an_h100() {
        for image in IMAGES {
            let found = Image::find(IMAGES, image.family, (9, 0)).map(|found| found.family);
            assert_eq!(found, Some(image.family));
        }
    }

    /// The driver is given one kernel at a time.
    #[test]
    fn kernels_use_nothing_of_each_other() {
        for image in IMAGES {
            let (mut left, head) = (image.ptx, image.ptx.split(".visible .entry ").next().unwrap());
            for name in image.kernels() {
                let kernel = image.kernel(name, (8, 0)).unwrap();
                let own = kernel.strip_prefix(head).unwrap();
                let (between, rest) = left.split_once(own).unwrap();
                let between = between.strip_prefix(head).unwrap_or(between);
                assert!(between.lines().all(|line| line.trim_start().starts_with("//")), "{between}");
                let calls = own.lines().any(|line| line.trim_start().starts_with("call"));
                assert!(!calls, "{name} calls something");
                left = rest;
            }
            assert_eq!(left.trim(), "", "after the last of {}", image.family);
        }
    }
}
