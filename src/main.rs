//! The command line of onnx-dcomp.

fn main() -> std::process::ExitCode {
    onnx_dcomp::cli::run()
}
