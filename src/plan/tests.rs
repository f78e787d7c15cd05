//! Which passes a plan runs.

use super::*;

fn text(plan: &Plan, choices: Choices) -> String {
    plan.resolve(choices).unwrap().text.to_string()
}

#[test]
fn every_preset_can_be_built() {
    for name in preset_names() {
        let resolved = Plan::Preset(name.to_owned()).resolve(Choices::default()).unwrap();
        assert!(!resolved.text.steps.is_empty(), "{name}");
    }
}

#[test]
fn the_seed_and_the_coder_reach_the_passes_that_know_them() {
    let plan = Plan::Passes("share, share(seed=3), pack".to_owned());
    let choices = Choices { seed: Some(7), coder: Some(Coder::Fast), ..Choices::default() };
    assert_eq!(text(&plan, choices), "share(seed=7), share(seed=3), pack(coder=fast)");
}

#[test]
fn the_dense_target_packs_nothing() {
    let choices = Choices { target: Target::Dense, ..Choices::default() };
    assert_eq!(text(&Plan::Lossless, choices), "recognise, strip, lower(target=dense)");
}

#[test]
fn the_portable_targets_quantise_for_codes_of_fixed_length() {
    let on = |target, plan: &Plan| text(plan, Choices { target, ..Choices::default() });
    assert_eq!(on(Target::Portable, &Plan::Search), "fold, recognise, quantize(scheme=fixed), strip, portable");
    let passes = Plan::Passes("fold, quantize(scheme=int8), pack(coder=fast)".to_owned());
    assert_eq!(on(Target::Portable, &passes), "fold, quantize(scheme=int8), portable");
    assert_eq!(
        on(Target::PortableInt4, &Plan::Search),
        "fold, recognise, int4, quantize(scheme=fixed), strip, portable"
    );
}

#[test]
fn lossless_folds_nothing_and_quantises_nothing() {
    let text = text(&Plan::Lossless, Choices::default());
    assert!(!text.contains("fold") && !text.contains("quantize"), "{text}");
}

#[test]
fn evidence_is_gathered_after_folding() {
    let resolved = Plan::default().resolve(Choices::default()).unwrap();
    let place = |name: &str| resolved.text.steps.iter().position(|step| step.name == name).unwrap();
    assert_eq!(resolved.gatherings(), [place("quantize")]);
    assert!(place("fold") < place("quantize"));
}

#[test]
fn evidence_is_gathered_only_for_options_that_need_it() {
    let first = |text: &str| {
        let resolved = Plan::Passes(text.to_owned()).resolve(Choices::default()).unwrap();
        resolved.gatherings().first().copied()
    };
    assert_eq!(first("fold, prune(sparsity=0.9), pack"), None);
    assert_eq!(first("fold, prune(criterion=magnitude), pack"), None);
    assert_eq!(first("fold, prune(criterion=obs), pack"), Some(1));
    assert_eq!(first("fold, prune, prune(scope=sensitivity), pack"), Some(2));
}

#[test]
fn a_rule_for_one_weight_may_ask_for_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.toml");
    let first = |rule: &str| {
        let text = format!("pipeline = \"fold, prune, pack\"\n[[rule]]\nmatch = \"fc1\"\nprune = {rule}\n");
        std::fs::write(&file, text).unwrap();
        Plan::Recipe(file.clone()).resolve(Choices::default()).unwrap().gatherings().first().copied()
    };
    assert_eq!(first("{ sparsity = 0.9 }"), None);
    assert_eq!(first("{ criterion = \"obs\" }"), Some(1));
}

#[test]
fn evidence_is_gathered_anew_where_layers_have_changed() {
    let gatherings = |text: &str| Plan::Passes(text.to_owned()).resolve(Choices::default()).unwrap().gatherings();
    assert_eq!(gatherings("fold, low-rank, strip, share, quantize, pack"), [1, 3]);
    assert_eq!(gatherings("fold, low-rank, pack"), [1]);
    assert!(gatherings("fold, pack").is_empty());
}
