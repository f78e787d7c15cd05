//! Keeps the library in memory once it is loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // onnxruntime unloads operator libraries with the last session that uses them. The threads that decode payloads
    // outlive sessions, and would then run code that is gone. (macOS never unloads a library with thread-local data.)
    let is_elf = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix")
        && std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor != "apple");
    if is_elf {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
