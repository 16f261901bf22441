//! The kernels' PTX, embedded by the build script.

/// The kernels of one family, compiled for one chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// The source file of `kernels/src` that the kernels are in, without its extension.
    pub family: &'static str,
    /// The chip the image was built for, such as `sm_80`.
    pub chip: &'static str,
    /// The PTX text.
    pub ptx: &'static str,
}

/// Every embedded image, sorted by chip and family.
pub static IMAGES: &[Image] = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// SHA-256 over all of [`IMAGES`]: programs with equal hashes launch equal kernels.
pub const PTX_HASH: &str = env!("WORKER_ORCD_PTX_HASH");

/// The best image of a family for a device of this compute capability, `(9, 0)` for `sm_90`; `None` where there is
/// no such family or the device is older than every image.
pub fn find(family: &str, capability: (u32, u32)) -> Option<&'static Image> {
    best(IMAGES.iter().filter(|image| image.family == family), capability)
}

fn best<'a>(images: impl Iterator<Item = &'a Image>, (major, minor): (u32, u32)) -> Option<&'a Image> {
    let device = major * 10 + minor;
    images
        .filter_map(|image| Some((fitness(image.chip, device)?, image)))
        .max_by_key(|(fitness, _)| *fitness)
        .map(|(_, image)| image)
}

/// Newer is better; `None` if the device cannot run it. An image runs on later chips too, but for those of an
/// architecture-specific chip (`sm_90a`), which run on that one alone.
fn fitness(chip: &str, device: u32) -> Option<(u32, bool)> {
    let number = chip.strip_prefix("sm_")?;
    let (number, specific) = number.strip_suffix('a').map_or((number, false), |number| (number, true));
    let number: u32 = number.parse().ok()?;
    (number == device || (number < device && !specific)).then_some((number, specific))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_image_that_runs_is_chosen() {
        let images =
            ["sm_80", "sm_90a", "sm_90", "sm_100"].map(|chip| Image { family: "norm", chip, ptx: "" });
        let chosen = |capability| best(images.iter(), capability).map(|image| image.chip);
        assert_eq!(chosen((7, 5)), None);
        assert_eq!(chosen((8, 9)), Some("sm_80"));
        assert_eq!(chosen((9, 0)), Some("sm_90a"));
        assert_eq!(chosen((9, 1)), Some("sm_90"));
        assert_eq!(chosen((12, 0)), Some("sm_100"));
    }

    #[test]
    fn every_family_runs_on_an_h100() {
        for image in IMAGES {
            let found = find(image.family, (9, 0)).map(|found| found.family);
            assert_eq!(found, Some(image.family));
        }
    }
}
