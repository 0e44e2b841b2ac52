//! Final answers in texts, and when two of them are the same.

use crate::recipe::AnswerForm;

/// The final answer of a text, as it is written: what stands after `####` on its line, or in the last `\boxed{…}` (or
/// `\fbox{…}`, or `\boxed` and a word). `None` when there is none, or the braces do not close.
pub fn extract(form: AnswerForm, text: &str) -> Option<&str> {
    let answer = match form {
        AnswerForm::Gsm8k => text.split_once("####")?.1.lines().next()?,
        AnswerForm::Boxed => {
            let boxed = ["\\boxed", "\\fbox"].iter().filter_map(|b| Some(text.rfind(b)? + b.len())).max()?;
            let rest = text[boxed..].trim_start();
            match rest.strip_prefix('{') {
                Some(inside) => &inside[..closing(inside)?],
                None => rest.split(|c: char| c.is_whitespace() || c == '$').next()?,
            }
        }
    };
    Some(answer.trim()).filter(|answer| !answer.is_empty())
}

/// Whether a text that is being written holds its whole final answer, so that nothing that follows could change it.
pub fn is_complete(form: AnswerForm, text: &str) -> bool {
    match form {
        AnswerForm::Gsm8k => {
            text.split_once("####").is_some_and(|(_, rest)| rest.trim_start().contains('\n'))
        }
        AnswerForm::Boxed => text.rsplit_once("\\boxed").is_some_and(|(_, rest)| {
            rest.trim_start().strip_prefix('{').is_some_and(|inside| closing(inside).is_some())
        }),
    }
}

/// Where the brace closes that was open before the text; escaped braces do not count.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether two answers are the same after [`normalise`].
pub fn agree(form: AnswerForm, one: &str, other: &str) -> bool {
    normalise(form, one) == normalise(form, other)
}

/// An answer in a form of its own: numbers (integers, decimals, fractions; without separators of thousands, currency and
/// percent signs) as a fraction in lowest terms, everything else as text without what LaTeX only sets in place. Of a
/// GSM8K answer that begins with a number, the number: `18 dollars` is 18.
pub fn normalise(form: AnswerForm, answer: &str) -> String {
    let text = plain(answer);
    if let Some(number) = number(&text) {
        return number;
    }
    if form == AnswerForm::Gsm8k {
        let is_part = |c: char| c.is_ascii_digit() || "+-.,/".contains(c);
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        if let Some(number) = number(text[..end].trim_end_matches(['.', ',', '/', '-', '+'])) {
            return number;
        }
    }
    text
}

/// The text without white space, signs of currency and percent, and what LaTeX only sets in place; fractions as
/// `\frac{a}{b}`.
fn plain(answer: &str) -> String {
    let mut text = answer.replace('−', "-");
    // longer ones first; the last of each pair stands in its place
    for (from, to) in [
        ("\\left", ""),
        ("\\right", ""),
        ("\\displaystyle", ""),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("{,}", ","),
        ("\\,", ""),
        ("\\!", ""),
        ("\\;", ""),
        ("\\:", ""),
        ("\\ ", ""),
        ("\\(", ""),
        ("\\)", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
        ("\\%", ""),
    ] {
        text = text.replace(from, to);
    }
    text.retain(|c| !c.is_whitespace() && !"$%€£°".contains(c));
    for wrapper in ["\\text{", "\\mathrm{", "\\textbf{", "\\mbox{"] {
        // a unit after the answer goes, an answer that is a word stays
        while let Some(at) = text.rfind(wrapper) {
            let inside = at + wrapper.len();
            let Some(end) = closing(&text[inside..]) else { break };
            let is_unit = at > 0 && inside + end + 1 == text.len();
            let kept = if is_unit { String::new() } else { text[inside..inside + end].to_owned() };
            text.replace_range(at..=inside + end, &kept);
        }
    }
    // \frac12 is \frac{1}{2}
    let mut rest = 0;
    while let Some(at) = text[rest..].find("\\frac").map(|at| rest + at + "\\frac".len()) {
        let digits: Vec<char> = text[at..].chars().take(2).collect();
        if let [a, b] = digits[..]
            && a.is_ascii_digit()
            && b.is_ascii_digit()
        {
            text.replace_range(at..at + 2, &format!("{{{a}}}{{{b}}}"));
        }
        rest = at;
    }
    // `x = 5` is 5
    if let Some((name, value)) = text.split_once('=')
        && name.len() == 1
        && name.chars().all(|c| c.is_ascii_alphabetic())
    {
        text = value.to_owned();
    }
    text.trim_end_matches('.').to_owned()
}

/// A number as a fraction in lowest terms; `None` when the text is no number, or too long for one.
fn number(text: &str) -> Option<String> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (above, below) = if let Some(rest) = text.strip_prefix("\\frac{") {
        let end = closing(rest)?;
        let below = rest[end + 1..].strip_prefix('{')?.strip_suffix('}')?;
        (decimal(&rest[..end])?, decimal(below)?)
    } else if let Some((above, below)) = text.split_once('/') {
        (decimal(above)?, decimal(below)?)
    } else {
        (decimal(text)?, (1, 1))
    };
    // (a/b) / (c/d) = ad / bc
    let (n, d) = (above.0.checked_mul(below.1)?, above.1.checked_mul(below.0)?);
    if d == 0 {
        return None;
    }
    let divisor = gcd(n, d);
    let (n, d) = (n / divisor, d / divisor);
    let sign = if is_negative && n > 0 { "-" } else { "" };
    Some(if d == 1 { format!("{sign}{n}") } else { format!("{sign}{n}/{d}") })
}

/// A decimal without a sign as a fraction. Commas stand between groups of three digits, or it is none.
fn decimal(text: &str) -> Option<(u128, u128)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let groups: Vec<&str> = whole.split(',').collect();
    if groups.len() > 1
        && (groups[0].is_empty() || groups[0].len() > 3 || groups[1..].iter().any(|g| g.len() != 3))
    {
        return None;
    }
    let digits = groups.concat() + part;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, 10_u128.checked_pow(part.len() as u32)?))
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnswerForm::{Boxed, Gsm8k};

    #[test]
    fn answers_are_found_in_both_forms() {
        for (form, text, answer) in [
            (Gsm8k, "3 + 4 = <<3+4=7>>7\n#### 7", Some("7")),
            (Gsm8k, "#### $1,234.50\nQuestion: next #### 5", Some("$1,234.50")),
            (Gsm8k, "####   -3 ", Some("-3")),
            (Gsm8k, "#### \n7", None),
            (Gsm8k, "The answer is 7.", None),
            (Gsm8k, "", None),
            (Boxed, "so $x = \\boxed{5}$.", Some("5")),
            (Boxed, "\\boxed{\\frac{1}{2}} or \\boxed{\\{1, 2\\}}", Some("\\{1, 2\\}")),
            (Boxed, "\\boxed{\\frac{a}{b^{2}}} is it", Some("\\frac{a}{b^{2}}")),
            (Boxed, "\\boxed {x}", Some("x")),
            (Boxed, "\\boxed 12$ more", Some("12")),
            (Boxed, "\\fbox{3}", Some("3")),
            (Boxed, "\\boxed{3} then \\boxed{\\text{cut", None),
            (Boxed, "\\boxed{}", None),
            (Boxed, "#### 5", None),
            (Boxed, "\\boxed", None),
        ] {
            assert_eq!(extract(form, text), answer, "{text}");
        }
    }

    #[test]
    fn an_answer_that_is_being_written_is_whole_when_nothing_could_be_added() {
        for (form, text, is_whole) in [
            (Gsm8k, "#### 1", false),
            (Gsm8k, "####\n", false),
            (Gsm8k, "#### 12\n", true),
            (Gsm8k, "12\n", false),
            (Boxed, "\\boxed{\\frac{1}{2}", false),
            (Boxed, "\\boxed{\\frac{1}{2}}", true),
            (Boxed, "\\boxed", false),
            (Boxed, "\\boxed 1", false),
        ] {
            assert_eq!(is_complete(form, text), is_whole, "{text}");
        }
    }

    #[test]
    fn numbers_have_one_form() {
        for (answer, normal) in [
            ("18", "18"),
            ("018", "18"),
            ("+18", "18"),
            ("18.", "18"),
            ("18.00", "18"),
            (" 18 ", "18"),
            ("$18", "18"),
            ("\\$18", "18"),
            ("18%", "18"),
            ("18\\%", "18"),
            ("£1,234", "1234"),
            ("1,234,567.0", "1234567"),
            ("1{,}234", "1234"),
            ("1\\,234", "1234"),
            ("-0", "0"),
            ("-3.50", "-7/2"),
            ("−3.5", "-7/2"),
            (".5", "1/2"),
            ("0.5", "1/2"),
            ("1/2", "1/2"),
            ("2/4", "1/2"),
            ("\\frac{1}{2}", "1/2"),
            ("\\frac12", "1/2"),
            ("\\dfrac{-1}{2}", "\\frac{-1}{2}"),
            ("-\\tfrac{3}{6}", "-1/2"),
            ("0.333", "333/1000"),
            ("6/3", "2"),
            ("90^\\circ", "90"),
            ("90^{\\circ}", "90"),
            ("5\\text{ cm}", "5"),
            ("5 \\mathrm{kg}", "5"),
            ("x=5", "5"),
            ("$x = 5$", "5"),
            ("\\left( 5 \\right)", "(5)"),
            ("1/0", "1/0"),
            ("1.2.3", "1.2.3"),
            ("", ""),
        ] {
            assert_eq!(normalise(Boxed, answer), normal, "{answer}");
        }
    }

    #[test]
    fn texts_differ_where_their_meaning_does() {
        for (one, other, is_same) in [
            ("\\text{Monday}", "Monday", true),
            ("\\left(3, \\frac{1}{2}\\right)", "(3,\\frac12)", true),
            ("1,23", "123", false),
            ("12,34", "1234", false),
            ("1,2,3", "123", false),
            ("x^2", "x^{2}", false),
            ("5", "-5", false),
            ("1/3", "0.333", false),
            ("\\sqrt{2}", "\\sqrt{3}", false),
            ("A", "B", false),
        ] {
            assert_eq!(agree(Boxed, one, other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn a_number_may_be_followed_by_words_in_the_form_of_gsm8k_only() {
        for (answer, normal) in [
            ("18 dollars", "18"),
            ("$1,200 a year.", "1200"),
            ("3.5 hours", "7/2"),
            ("-4 degrees", "-4"),
            ("7, she said", "7"),
            ("12-", "12"),
            ("eighteen", "eighteen"),
        ] {
            assert_eq!(normalise(Gsm8k, answer), normal, "{answer}");
        }
        assert_eq!(normalise(Boxed, "18dollars"), "18dollars");
        assert_eq!(normalise(Boxed, "3x"), "3x");
    }

    #[test]
    fn numbers_too_long_to_compute_with_stay_texts() {
        let long = "9".repeat(60);
        assert_eq!(normalise(Boxed, &long), long);
        assert_eq!(normalise(Boxed, &format!("0.{long}")), format!("0.{long}"));
    }
}
