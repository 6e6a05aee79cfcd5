//! Writes the built-in policy's file and its SHA-256 into `assets/policies`, as they stand in the tree.
//!
//! `cargo run --example builtin_policy`; when nothing of the recipe has changed, `git status` shows nothing after it.

use std::{error::Error, fs, io::Write, path::Path};

use am_rl::{BUILTIN_NAME, builtin_weights};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/policies");
    let weights = builtin_weights()?;
    let digest = hex::encode(Sha256::digest(&weights));
    fs::write(folder.join(BUILTIN_NAME).with_extension("safetensors"), &weights)?;
    fs::write(folder.join(BUILTIN_NAME).with_extension("sha256"), format!("{digest}\n"))?;
    writeln!(std::io::stdout(), "{digest}  {BUILTIN_NAME}.safetensors, {} bytes", weights.len())?;
    Ok(())
}
