//! A form of a weight to bytes and back: entropy coders, container, checksum
