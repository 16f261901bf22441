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

/// What stands before an instruction that chips older than 9.0 lack.
const MARK: &str = "// sm_90: ";

/// An asynchronous copy, and the same that has the L2 cache fetch the whole line of 128 bytes: 1 to 4 % more tokens/s of an H200.
const COPY: &str = "cp.async.cg.shared.global ";
const COPY_OF_LINES: &str = "cp.async.cg.shared.global.L2::128B ";

/// How a kernel begins; what all kernels share stands before the first.
const ENTRY: &str = ".visible .entry ";
/// How it ends.
const END: &str = "\n}\n";

/// Whether a GPU of this compute capability can begin a kernel before the one ahead of it has ended.
pub(crate) fn overlaps((major, _): (i32, i32)) -> bool {
    major >= 9
}

impl Image {
    /// The text of one kernel, which uses nothing of the others', as a device of this compute capability is given it; `None` if
    /// the image has no such kernel. Where the device has instructions that the image's own chip lacks, those that are marked in
    /// the text become instructions, and copies fetch lines.
    pub fn kernel(&self, name: &str, capability: (i32, i32)) -> Option<String> {
        let head = &self.ptx[..self.ptx.find(ENTRY)?];
        let at = self.ptx.find(&format!("{ENTRY}{name}("))?;
        let entry = &self.ptx[at..];
        let entry = &entry[..entry.find(END)? + END.len()];
        if !overlaps(capability) {
            return Some([head, entry].concat());
        }
        let entry = entry.replace(MARK, "").replace(COPY, COPY_OF_LINES);
        if self.chip != "sm_80" {
            return Some([head, &entry].concat());
        }
        let head = head.replacen(".version 7.0", ".version 7.8", 1);
        let head = head.replacen(".target sm_80", ".target sm_90", 1);
        Some(head + &entry)
    }

    /// The kernels' names, in the text's order.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.ptx.split(ENTRY).skip(1).filter_map(|entry| Some(entry.split_once('(')?.0))
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

    const PTX: &str = "\
.version 7.0
.target sm_80

.extern .shared .b8 all[];
.visible .entry norm__f32(
\t.param .b64 x
)
{
\t// sm_90: griddepcontrol.wait;
\tcp.async.cg.shared.global [%rd1], [%rd2], 16, 16;
\tret; // as it was
}
\t// .globl norm__f32_2
.visible .entry norm__f32_2(
)
{
\tret;
}
";

    #[test]
    fn a_kernel_is_what_all_share_and_its_own() {
        let image = Image { family: "norm", chip: "sm_80", ptx: PTX };
        assert_eq!(image.kernels().collect::<Vec<_>>(), ["norm__f32", "norm__f32_2"]);
        let (shared, kernels) = PTX.split_at(PTX.find(".visible").unwrap());
        let (first, second) = kernels.split_once("\t// .globl norm__f32_2\n").unwrap();
        assert_eq!(image.kernel("norm__f32", (8, 9)), Some(format!("{shared}{first}")));
        assert_eq!(image.kernel("norm__f32_2", (8, 9)), Some(format!("{shared}{second}")));
        assert_eq!(image.kernel("norm", (8, 9)), None);
        assert_eq!(Image { ptx: "", ..image }.kernel("norm", (8, 9)), None);
    }

    #[test]
    fn instructions_are_those_of_a_chip_that_has_them() {
        let image = Image { family: "norm", chip: "sm_80", ptx: PTX };
        let kernel = |image: Image, capability| image.kernel("norm__f32", capability).unwrap();
        let old = kernel(image, (8, 9));
        assert!(old.contains("\n\t// sm_90: griddepcontrol.wait;\n"), "{old}");
        let marked = old.replace("// sm_90: ", "").replace(".global [", ".global.L2::128B [");
        let wanted = marked.replace("7.0", "7.8").replace("sm_80", "sm_90");
        assert_eq!(kernel(image, (9, 0)), wanted);
        assert_eq!(kernel(image, (12, 0)), wanted);
        assert_eq!(kernel(Image { chip: "sm_90a", ..image }, (9, 0)), marked);
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
