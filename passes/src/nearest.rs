//! The name that somebody probably meant.

/// The candidate most like `name`, where one is alike enough to be worth suggesting.
///
/// Letter case is ignored. Of equally good candidates the first wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this share of letters in common a suggestion confuses more than it helps.
    const ALIKE: f64 = 0.5;
    let wanted = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let score = strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase());
        if score >= ALIKE && best.is_none_or(|(other, _)| score > other) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown name: the nearest one, and all that are allowed.
pub(crate) fn hint(nearest: Option<&str>, allowed: &[String]) -> String {
    let mut text = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    if allowed.is_empty() {
        text.push_str(" (there are none)");
    } else {
        text.push_str(&format!(" (known: {})", allowed.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_spelling_is_found_and_far_ones_are_not_suggested() {
        let names = ["fold", "prune", "share", "quantize"];
        assert_eq!(nearest("prun", names), Some("prune"));
        assert_eq!(nearest("Quantise", names), Some("quantize"));
        assert_eq!(nearest("fodl", names), Some("fold"));
        assert_eq!(nearest("zzzz", names), None);
    }

    #[test]
    fn equally_good_candidates_are_decided_by_their_order() {
        assert_eq!(nearest("ab", ["ac", "ad"]), Some("ac"));
    }
}
