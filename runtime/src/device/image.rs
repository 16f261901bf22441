//! PTX images and which of them a GPU runs.

use std::borrow::Cow;

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

/// What stands before an instruction that chips older than 9.0 lack.
const MARK: &str = "// sm_90: ";

/// Whether a GPU of this compute capability can begin a kernel before the one ahead of it has ended.
pub(crate) fn overlaps((major, _): (i32, i32)) -> bool {
    major >= 9
}

impl Image {
    /// The text that a device of this compute capability is given. Where it has instructions that the image's own chip lacks,
    /// those that are marked in the text become instructions.
    pub fn text(&self, capability: (i32, i32)) -> Cow<'static, str> {
        if !overlaps(capability) {
            return Cow::Borrowed(self.ptx);
        }
        let text = self.ptx.replace(MARK, "");
        if self.chip != "sm_80" {
            return Cow::Owned(text);
        }
        let text = text.replacen(".version 7.0", ".version 7.8", 1);
        Cow::Owned(text.replacen(".target sm_80", ".target sm_90", 1))
    }

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
    fn marked_instructions_are_those_of_a_chip_that_has_them() {
        let ptx = ".version 7.0\n.target sm_80\n\t// sm_90: griddepcontrol.wait;\n\tret; // as it was\n";
        let image = Image { family: "norm", chip: "sm_80", ptx };
        assert_eq!(image.text((8, 9)), ptx);
        let wanted = ".version 7.8\n.target sm_90\n\tgriddepcontrol.wait;\n\tret; // as it was\n";
        assert_eq!(image.text((9, 0)), wanted);
        assert_eq!(image.text((12, 0)), wanted);
        let of_its_own = Image { chip: "sm_90a", ..image }.text((9, 0)).into_owned();
        assert_eq!(of_its_own, ptx.replace("// sm_90: ", ""));
    }

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
