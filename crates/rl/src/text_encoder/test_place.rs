//! Where tests find the sentence encoder. The tests of the whole service read this file too.

use std::{env, path::PathBuf};

/// Directory in which scripts/test-tools.sh puts the encoder, beside what is built.
pub(crate) fn encoder_directory() -> PathBuf {
    let executable = env::current_exe().unwrap();
    let mut places = executable.ancestors().map(|folder| folder.join("tools/encoder"));
    places.find(|place| place.join("model.safetensors").is_file()).expect("scripts/test-tools.sh brings the encoder")
}
