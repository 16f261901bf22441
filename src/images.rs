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
}
