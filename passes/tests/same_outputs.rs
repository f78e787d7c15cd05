//! Folded and stripped models compute what the originals do, in onnxruntime.

mod support;

use onnx_dcomp_ir::Model;
use onnx_dcomp_passes::{Fold, Strip};
use support::*;

#[test]
fn outputs_stay_the_same() {
    let folder = std::env::temp_dir().join(format!("dcomp-same-outputs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the models");
    let mut pairs = String::new();
    let mut count = 0;
    for path in fixtures().into_iter().chain(trained()) {
        let mut model = Model::open(&path).expect("a sound model");
        run(&Fold, &mut model);
        run(&Strip, &mut model);
        let rewritten = folder.join(path.file_name().expect("a file"));
        model.save(&rewritten).expect("it can be written");
        pairs += &format!("{}\t{}\n", path.display(), rewritten.display());
        count += 1;
    }
    let verdicts = same_outputs(&pairs);
    std::fs::remove_dir_all(&folder).expect("the folder can go");
    let Some(verdicts) = verdicts else {
        println!("skipped: no python3 with onnxruntime, onnx and numpy");
        return;
    };
    assert_eq!(verdicts.lines().count(), count, "{verdicts}");
    assert!(!verdicts.contains("DIFFERS"), "{verdicts}");
    assert!(verdicts.matches("\tsame").count() * 10 >= count * 9, "too few were compared:\n{verdicts}");
}
