//! Pictures of samples, with what both sides say of them.

use maud::{Markup, html};
use onnx_dcomp_engine::metrics::segmentation::ClassMap;
use onnx_dcomp_engine::{Example, Said};

use super::accuracy::{class_name, class_names};
use super::picture::{Size, difference, overlay, photograph};
use super::{Section, file_name};
use crate::report::Compilation;
use crate::report::style::shortened;

pub(super) fn section(made: &Compilation) -> Option<Section> {
    let run = made.validation.as_ref()?.runs.first()?;
    let examples = &run.illustration.as_ref()?.examples;
    let names = class_names(run);
    let is_segmentation = run.validation.segmentation.is_some();
    if examples.is_empty() && run.validation.classification.is_none() {
        return None;
    }
    let lead = match (examples.is_empty(), is_segmentation) {
        (true, _) => html! { "Both models say the same class of every sample." },
        (_, true) => {
            html! { "The samples on which both models agree least, halfway, and most, as the models see them." }
        }
        (_, false) => html! { "Samples of which the two models say different classes, as the models see them." },
    };
    let body = html! {
        @if is_segmentation {
            @for example in examples { (scene(example)) }
        } @else if !examples.is_empty() {
            div.thumbnails { @for example in examples { (thumbnail(example, names)) } }
        }
    };
    Some(Section { id: "samples", title: "Samples", lead, body })
}

/// A scene with both predictions over it.
fn scene(example: &Example) -> Markup {
    let Said::Pixels { label, original, compressed, agreement_percent } = &example.said else { return html! {} };
    let (Some(size), Some(photo)) = (Size::of(&example.picture), photograph(&example.picture)) else { return html! {} };
    let label = label.as_ref().map(|label| ClassMap {
        height: label.height,
        width: label.width,
        classes: label.classes.iter().map(|&class| u16::from(class)).collect(),
    });
    // Labels that are no class of the model are pixels that nobody counts.
    let known = original.classes.iter().chain(&compressed.classes).copied().max().unwrap_or_default();
    let mut layers = vec![("input", None)];
    layers.extend(label.map(|label| ("labels", overlay(&label, size, |class| class <= known))));
    layers.push(("original", overlay(original, size, |_| true)));
    layers.push(("compressed", overlay(compressed, size, |_| true)));
    layers.push(("where they differ", difference(original, compressed, size)));
    let name = sample_name(&example.name);
    html! {
        figure.scene style={ "--photo:url(" (photo) ");--shape:" (size.width) "/" (size.height) } {
            figcaption {
                span title=(example.name) { (name) }
                small { (format!("same class in {agreement_percent:.2} % of the pixels")) }
            }
            div.layers-of-scene {
                @for (caption, layer) in layers {
                    div {
                        div.photo role="img" aria-label={ (caption) " of " (name) } {
                            @if let Some(layer) = layer { img src=(layer) alt=""; }
                        }
                        p.note { (caption) }
                    }
                }
            }
        }
    }
}

/// A small picture with both classes below it.
fn thumbnail(example: &Example, names: &[String]) -> Markup {
    let Said::Class { label, original, compressed } = &example.said else { return html! {} };
    let Some(photo) = photograph(&example.picture) else { return html! {} };
    let is_small = example.picture.width <= 128;
    let said = |side: &str, class: usize| {
        let class_text = class_name(names, class);
        let verdict = match label {
            Some(label) if *label == class => "right",
            Some(_) => "wrong",
            None => "",
        };
        html! {
            p.said {
                span class={ "dot " (side) } {}
                span class={ "answer " (verdict) } { (shortened(&class_text, 16)) }
            }
        }
    };
    html! {
        figure.thumbnail title=(example.name) {
            img.pixelated[is_small] src=(photo) alt=(sample_name(&example.name));
            @if let Some(label) = label { p.truth { (shortened(&class_name(names, *label), 18)) } }
            (said("original", *original))
            (said("compressed", *compressed))
        }
    }
}

fn sample_name(name: &str) -> String {
    shortened(&file_name(name.as_ref()), 44)
}
