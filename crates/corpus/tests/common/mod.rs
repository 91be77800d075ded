//! Where the public data sets are.

use std::path::{Path, PathBuf};

/// The folder of the data sets, or `None`, said aloud, where they are not at hand.
pub fn data() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("ARABLE_DATA").map_or(beside, PathBuf::from);
    if !data.join("biomed/tasks").is_dir() {
        println!("SKIPPED: no data sets in `{}`; set ARABLE_DATA to their folder", data.display());
        return None;
    }
    Some(data)
}
