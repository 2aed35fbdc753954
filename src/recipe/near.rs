//! Finds the nearest valid key or word, for hints such as "did you mean".

use strsim::damerau_levenshtein;

use super::schema::KEYS;

/// Returns the valid key that the user probably meant; `None` if no key is similar.
///
/// Prefers `siblings`, the valid keys of the same table.
pub(super) fn key(key: &str, siblings: &[&str]) -> Option<String> {
    let last = last_part(key);
    if let Some(sibling) = word(last, siblings.iter().copied()) {
        return Some(sibling.to_owned());
    }
    let distance = |candidate: &str| {
        damerau_levenshtein(last, last_part(candidate)).min(damerau_levenshtein(key, candidate))
    };
    let stage = |candidate: &str| damerau_levenshtein(key, candidate);
    KEYS.iter()
        .map(|candidate| (distance(candidate), stage(candidate), candidate))
        .min()
        .filter(|(distance, _, _)| *distance <= slips(last))
        .map(|(_, _, candidate)| candidate.clone())
}

/// Returns the candidate most similar to `text`; `None` if no candidate is similar enough.
pub fn word<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (damerau_levenshtein(text, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= slips(text))
        .map(|(_, candidate)| candidate)
}

/// Returns the largest edit distance at which a word counts as similar.
fn slips(text: &str) -> usize {
    (text.chars().count() / 3).max(1)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intended_key_is_found() {
        for (wrong, siblings, meant) in [
            ("pretrain.mask_ration", ["mask_ratio", "epochs"].as_slice(), Some("mask_ratio")),
            ("finetune.mask_ratio", ["mixup", "epochs"].as_slice(), Some("pretrain.mask_ratio")),
            ("pretrain.crop_scale", ["epochs"].as_slice(), Some("pretrain.augment.crop_scale")),
            ("data_path", ["name"].as_slice(), Some("data.path")),
            ("pretrain.humidity", ["epochs"].as_slice(), None),
        ] {
            assert_eq!(key(wrong, siblings).as_deref(), meant, "{wrong}");
        }
    }
}
