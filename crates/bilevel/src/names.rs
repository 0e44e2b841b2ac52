//! Names that a user may have misspelt: solvers, problems, settings.

use crate::error::ConfigError;

/// The candidate that is reached with the fewest changes of a letter, capitals not minded; `None` without candidates.
///
/// ```
/// assert_eq!(bilevel::names::nearest("hgms", ["bome", "hg-ms"]), Some("hg-ms"));
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates.into_iter().min_by_key(|candidate| changes(&word, &candidate.to_lowercase()))
}

/// The error of a name that is none of `known`, with the nearest of `candidates` (of all names and aliases).
pub fn unknown<'a>(
    field: &str,
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    known: &[&str],
) -> ConfigError {
    let guess = nearest(word, candidates).map_or_else(String::new, |it| format!("did you mean {it}? "));
    ConfigError::new(field, word, format!("{guess}known are {}", known.join(", ")))
}

/// Levenshtein distance, row by row.
fn changes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The word that a deserialiser did not know and those that it does, from its message, which quotes them in this order;
/// `None` for another message.
pub fn unknown_word(message: &str) -> Option<(&str, Vec<&str>)> {
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// A deserialiser's message, with the nearest match added where it complains of an unknown field or word.
pub fn explain(message: &str) -> String {
    let message = message.replace('\n', " ");
    let Some((unknown, known)) = unknown_word(&message) else { return message };
    let Some(nearest) = nearest(unknown, known.iter().copied()) else { return message };
    let what = if message.starts_with("unknown field") { "key" } else { "word" };
    format!("unknown {what} `{unknown}`; did you mean `{nearest}`? Known here: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_letters() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("steps", "stpes", 2), ("torus", "taurus", 2), ("lanc", "lands", 2)]
        {
            assert_eq!((changes(a, b), changes(b, a)), (expected, expected), "{a} {b}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn only_unknown_words_get_a_guess() {
        assert_eq!(
            explain("unknown field `stpes`, expected `steps` or `seconds`"),
            "unknown key `stpes`; did you mean `steps`? Known here: steps, seconds"
        );
        assert_eq!(explain("invalid type:\nmap"), "invalid type: map");
        assert_eq!(
            explain("unknown field `a`, there are no fields"),
            "unknown field `a`, there are no fields"
        );
    }
}
