//! Builds every PTX image and writes `kernels/ptx/` with its manifest: `cargo run -p cuda_builder`.

use std::path::Path;
use std::process::ExitCode;

use cuda_builder::{Compiler, Error};

fn main() -> ExitCode {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = crates.and_then(Path::parent).expect("this crate lies two folders below the workspace");
    match run(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path) -> Result<(), Error> {
    let compiler = Compiler::find()?;
    println!("{compiler}");
    let images = cuda_builder::build(&compiler, root, &cuda_builder::cache_folder(root))?;
    let folder = cuda_builder::commit(&images, &compiler, root)?;
    for image in &images {
        let entries = cuda_builder::ptx::entries(&image.ptx).count();
        println!("{}: {entries} entries, {} bytes", folder.join(image.file()).display(), image.ptx.len());
    }
    Ok(())
}
