//! Files as shared buffers, without a copy.
//!
//! Mapping is what lets a model of half a gigabyte open in microseconds. It is the one place outside the runtime that
//! needs `unsafe`: the map's bytes change where another program writes into the file meanwhile.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// The bytes of the file at `path`, mapped; dropping the last slice of them unmaps the file.
///
/// # Errors
/// Where the file cannot be opened or mapped, or is not a regular file.
pub fn map(path: &Path) -> io::Result<Bytes> {
    // Asked before opening: opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    let file = File::open(path)?;
    // SAFETY: the map is private to this process and read-only, and nothing relies on its bytes staying the same for
    // memory safety: every length and offset is checked against the map's own size, and each value is read once into
    // a type for which all bit patterns are valid. Files that we write are new ones that replace the old by renaming,
    // so that our own output never changes a map. A foreign program that shortens the file can end this process by a
    // signal, as with every program that maps files.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
