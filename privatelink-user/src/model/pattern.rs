//! Patterns with wildcards: in filters of the AWS API, and in a service's lists of consumers.

/// Whether `text` is what `pattern` says: `*` stands for any text, `?` for one character, a backslash makes the next
/// character plain.
pub fn matches(pattern: &str, text: &str) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Part {
        Any,
        One,
        Plain(char),
    }
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        parts.push(match c {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Plain(characters.next().unwrap_or('\\')),
            plain => Part::Plain(plain),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // Greedy with one point of return: the last star.
    let (mut part, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Any) => {
                back = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (part, at) = (part + 1, at + 1),
            Some(Part::Plain(c)) if text.get(at) == Some(c) => (part, at) = (part + 1, at + 1),
            Some(Part::Plain(_)) | None => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (part, at) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    parts.get(part..).unwrap_or_default().iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards_match_as_documented() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*a*b*", "xxaxxbxx", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
