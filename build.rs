//! Embeds the kernels' PTX: the committed images if they belong to the kernel sources, else images built now.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use cuda_builder::{Image, Origin};

fn main() {
    let folder = |name| PathBuf::from(env::var_os(name).expect("cargo sets it for build scripts"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR"), folder("OUT_DIR"));
    for input in cuda_builder::INPUTS.iter().chain([&"kernels/ptx"]) {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed={}", cuda_builder::COMPILER_VARIABLE);

    let images = match cuda_builder::images(&root) {
        Ok((images, Origin::Committed)) => images,
        Ok((images, Origin::Built)) => {
            println!(
                "cargo::warning=kernel sources have changed: embedding PTX built just now, not the committed"
            );
            images
        }
        Err(error) => fail(&error.to_string()),
    };
    println!("cargo::rustc-env=WORKER_ORCD_PTX_HASH={}", cuda_builder::digest(&images));
    if let Err(error) = write(&images, &out) {
        fail(&format!("{}: {error}", out.display()));
    }
}

/// Writes the images, and the expression that `src/images.rs` includes.
fn write(images: &[Image], out: &Path) -> io::Result<()> {
    let mut list = String::from("&[\n");
    for image in images {
        let Image { family, chip, ptx } = image;
        let file = image.file();
        fs::create_dir_all(out.join(chip))?;
        fs::write(out.join(&file), ptx)?;
        list += &format!("Image {{ family: {family:?}, chip: {chip:?}, ptx: include_str!({file:?}) }},\n");
    }
    list += "]\n";
    fs::write(out.join("images.rs"), list)
}

/// Such a line fails the build; a failing exit code would add the script's whole output to it.
fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    process::exit(0)
}
