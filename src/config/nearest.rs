//! Suggestions for misspelt names.

/// The candidate nearest to `word` by edit distance, where the distance is at most a third of the word's letters, or 1. Case
/// is ignored, and `_` equals `-`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> { text.to_lowercase().replace('_', "-").chars().collect() };
    // All names are shorter; the bound keeps the quadratic cost of a very long word away.
    if word.len() > 64 {
        return None;
    }
    let word = plain(word);
    let allowed = (word.len() / 3).max(1);
    let near = candidates.into_iter().map(|candidate| (distance(&word, &plain(candidate)), candidate));
    near.filter(|(d, _)| *d <= allowed).min_by_key(|(d, _)| *d).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn misspelt_names_are_found_and_others_are_not() {
        let names = ["batch-size", "lr", "epochs", "steps"];
        for (word, expected) in [
            ("batch_size", Some("batch-size")),
            ("Batch-Sise", Some("batch-size")),
            ("lrr", Some("lr")),
            ("epoch", Some("epochs")),
            ("momentum", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }
}
