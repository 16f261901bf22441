//! PTX images and which of them a GPU runs.

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

impl Image {
    /// The best of `images` for a family on a device of this compute capability, `(9, 0)` for `sm_90`; `None` where
    /// there is no such family or the device is older than every image.
    pub fn find<'a>(images: &'a [Image], family: &str, (major, minor): (i32, i32)) -> Option<&'a Image> {
        let device = major * 10 + minor;
        images
            .iter()
            .filter(|image| image.family == family)
            .filter_map(|image| Some((fitness(image.chip, device)?, image)))
            .max_by_key(|(fitness, _)| *fitness)
            .map(|(_, image)| image)
    }
}

/// Newer is better; `None` if the device cannot run it. An image runs on later chips too, but for those of an
/// architecture-specific chip (`sm_90a`), which run on that one alone.
fn fitness(chip: &str, device: i32) -> Option<(i32, bool)> {
    let number = chip.strip_prefix("sm_")?;
    let (number, specific) = number.strip_suffix('a').map_or((number, false), |number| (number, true));
    let number: i32 = number.parse().ok()?;
    (number == device || (number < device && !specific)).then_some((number, specific))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_image_that_runs_is_chosen() {
        let images =
            ["sm_80", "sm_90a", "sm_90", "sm_100"].map(|chip| Image { family: "norm", chip, ptx: "" });
        let chosen = |capability| Image::find(&images, "norm", capability).map(|image| image.chip);
        assert_eq!(chosen((7, 5)), None);
        assert_eq!(chosen((8, 9)), Some("sm_80"));
        assert_eq!(chosen((9, 0)), Some("sm_90a"));
        assert_eq!(chosen((9, 1)), Some("sm_90"));
        assert_eq!(chosen((12, 0)), Some("sm_100"));
        assert_eq!(Image::find(&images, "rope", (9, 0)), None);
    }
}
