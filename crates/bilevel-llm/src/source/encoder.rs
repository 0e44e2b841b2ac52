//! Records to tokens: piece by piece, or as the conversation that a model's chat template writes.

use super::{Piece, Record};
use crate::{
    error::ReweightError,
    pretrained::{ChatTemplate, Message, PretrainedError},
    tokenizer::Tokenizer,
};

/// Bytes of a text that are tokenised, for each token of the context; what lies beyond would be cut off anyway.
const BYTES_PER_TOKEN: usize = 64;
/// Signs that Unicode keeps free of any meaning, for marking names of special tokens in texts.
const NONCHARACTERS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// What makes tokens of records.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
}

impl<'a> From<&'a Tokenizer> for Encoder<'a> {
    fn from(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, template: None }
    }
}

/// An example before it is cut to the context.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Encoded {
    pub tokens: Vec<u32>,
    /// Which tokens are under the loss.
    pub learned: Vec<bool>,
    /// Tokens in front of the record, which stay when its prompt is cut.
    pub first: usize,
}

impl Encoded {
    fn push(&mut self, tokens: &[u32], is_learned: bool) {
        self.tokens.extend_from_slice(tokens);
        self.learned.resize(self.tokens.len(), is_learned);
    }
}

impl<'a> Encoder<'a> {
    /// An encoder of texts and, where there is a template, of conversations.
    pub fn new(tokenizer: &'a Tokenizer, template: Option<&'a ChatTemplate>) -> Self {
        Self { tokenizer, template }
    }

    /// The tokens of a record whose pieces have roles as the template writes them, of any other record piece by piece. In front
    /// stands what the tokenizer puts in front of every text, unless the template has written it; at the end the token that
    /// ends a text, unless the template has ended the last answer with it.
    ///
    /// # Errors
    /// When the tokenizer or the template fails, or the template has no place for the answers.
    pub(super) fn encode(&self, record: &Record, context: usize) -> Result<Encoded, ReweightError> {
        if record.iter().any(|piece| piece.role.is_some()) {
            let absent = || PretrainedError::Template {
                detail: "the model has none".into(),
                remedy: "leave chat out, or give a checkpoint that has one".into(),
            };
            return self.conversation(record, self.template.ok_or_else(absent)?);
        }
        let is_text = record.iter().all(|p| p.is_learned);
        let mut out = self.begun();
        for piece in record {
            // running text is used whole, in windows; of everything else only what fits
            let limit = if is_text { usize::MAX } else { BYTES_PER_TOKEN * (context + 1) };
            let text = if piece.is_learned { head(&piece.text, limit) } else { tail(&piece.text, limit) };
            out.push(&self.tokenizer.encode(text)?, piece.is_learned);
        }
        out.push(&[self.tokenizer.end()], record.last().is_some_and(|p| p.is_learned));
        Ok(out)
    }

    fn begun(&self) -> Encoded {
        let mut out = Encoded::default();
        out.push(&self.tokenizer.prefix(), false);
        out.first = out.tokens.len();
        out
    }

    /// A conversation up to its last answer. An answer is what the template writes after the place where it would let the model
    /// answer; the loss is on it up to the token that ends a text. Names of special tokens count as these where the template
    /// writes them, and as text where a message has them.
    fn conversation(&self, record: &Record, template: &ChatTemplate) -> Result<Encoded, ReweightError> {
        let specials = self.tokenizer.specials();
        let end = record.iter().rposition(|piece| piece.is_learned).map_or(0, |last| last + 1);
        let record = &record[..end];
        let mark = NONCHARACTERS.into_iter().find(|&c| record.iter().all(|piece| !piece.text.contains(c)));
        let mark = mark.unwrap_or('\u{fdd0}');
        let messages: Vec<Message> = record
            .iter()
            .map(|piece| {
                let role = piece.role.as_deref().unwrap_or("user");
                Message::new(role, &marked(&piece.text, &specials, mark))
            })
            .collect();
        let whole = template.render(&messages, false)?;
        let mut out = Encoded::default();
        let mut at = 0;
        for (i, _) in record.iter().enumerate().filter(|(_, piece)| piece.is_learned) {
            let (before, through) =
                (template.render(&messages[..i], true)?, template.render(&messages[..=i], false)?);
            if !(whole.starts_with(&before)
                && whole.starts_with(&through)
                && at <= before.len()
                && before.len() < through.len())
            {
                return Err(PretrainedError::Template {
                    detail: format!(
                        "what it writes up to message {} is not the beginning of the whole conversation",
                        i + 1
                    ),
                    remedy: "the answers cannot be told from the rest: leave chat out for these data".into(),
                }
                .into());
            }
            let encode = |text: &str| self.encode_marked(text, &specials, mark);
            out.push(&encode(&whole[at..before.len()])?, false);
            let answer = encode(&whole[before.len()..through.len()])?;
            let length = answer.iter().position(|&token| token == self.tokenizer.end());
            let (answer, rest) = answer.split_at(length.map_or(answer.len(), |last| last + 1));
            out.push(answer, true);
            out.push(rest, false);
            at = through.len();
        }
        // what stands behind the last answer asks nothing
        let kept = out.learned.iter().rposition(|&l| l).map_or(0, |last| last + 1);
        out.tokens.truncate(kept);
        out.learned.truncate(kept);
        if out.tokens.last() != Some(&self.tokenizer.end()) {
            out.push(&[self.tokenizer.end()], true);
        }
        let prefix = self.begun();
        if out.tokens.starts_with(&prefix.tokens) {
            return Ok(Encoded { first: prefix.first, ..out });
        }
        let mut all = prefix;
        all.tokens.extend(out.tokens);
        all.learned.extend(out.learned);
        Ok(all)
    }

    /// Tokens of what a template wrote: names of special tokens are these, unless a mark is in them.
    fn encode_marked(
        &self,
        text: &str,
        specials: &[(String, u32)],
        mark: char,
    ) -> Result<Vec<u32>, ReweightError> {
        let mut tokens = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some((name, id)) = specials.iter().find(|(name, _)| rest.starts_with(name)) {
                tokens.extend(self.tokenizer.encode(&plain)?);
                plain.clear();
                tokens.push(*id);
                rest = &rest[name.len()..];
                continue;
            }
            if next != mark {
                plain.push(next);
            }
            rest = &rest[next.len_utf8()..];
        }
        tokens.extend(self.tokenizer.encode(&plain)?);
        Ok(tokens)
    }
}

/// The text with a mark inside each name of a special token.
fn marked(text: &str, specials: &[(String, u32)], mark: char) -> String {
    let mut out = text.to_owned();
    for (name, _) in specials {
        let mut letters = name.chars();
        let Some(first) = letters.next() else { continue };
        out = out.replace(name, &format!("{first}{mark}{}", letters.as_str()));
    }
    out
}

/// The first bytes of a text, at a letter's end.
fn head(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
/// The last bytes of a text, at a letter's start.
fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len() - limit.min(text.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

impl Piece {
    /// A piece without a role.
    pub fn new(text: impl Into<String>, is_learned: bool) -> Self {
        Self { text: text.into(), is_learned, role: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TokenizerSpec;

    const CHATML: &str = "{% for m in messages %}{% if loop.first and m.role != 'system' %}{{ '<|begin|>system\\nBe brief.<|end|>\\n' }}{% endif %}{{ '<|begin|>' + m.role + '\\n' + m.content.strip() + '<|end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant\\n' }}{% endif %}";

    fn bytes() -> Tokenizer {
        Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap()
    }
    fn template(source: &str) -> ChatTemplate {
        ChatTemplate { source: source.into(), begin: None, end: None }
    }
    fn says(role: &str, text: &str) -> Piece {
        Piece { text: text.into(), is_learned: role == "assistant", role: Some(role.into()) }
    }
    /// Text of tokens, with `<` and `>` for the two special ones, and brackets around what is learned.
    fn shown(encoded: &Encoded) -> String {
        let mut text = String::new();
        let mut was = false;
        for (&token, &is) in encoded.tokens.iter().zip(&encoded.learned) {
            if is != was {
                text.push(if is { '[' } else { ']' });
            }
            was = is;
            text.push(match token {
                256 => '⟨',
                257 => '⟩',
                byte => char::from(byte as u8),
            });
        }
        text
    }

    #[test]
    fn a_conversation_is_written_by_the_template_and_its_answers_are_learned() {
        let (tokenizer, template) = (bytes(), template(CHATML));
        let encoder = Encoder::new(&tokenizer, Some(&template));
        let record = vec![
            says("user", "Hi"),
            says("assistant", " Yes? "),
            says("user", "Bye"),
            says("assistant", "Bye."),
            says("user", "Still there?"),
        ];
        let encoded = encoder.encode(&record, 100).unwrap();
        assert_eq!(
            shown(&encoded),
            "⟨system\nBe brief.⟩\n⟨user\nHi⟩\n⟨assistant\n[Yes?⟩]\n⟨user\nBye⟩\n⟨assistant\n[Bye.⟩"
        );
        // the template begins with the token that stands in front of every text
        assert_eq!(encoded.first, 1);
        let pair = vec![says("system", "S"), says("user", "Q"), says("assistant", "A")];
        let encoded = encoder.encode(&pair, 100).unwrap();
        assert_eq!(shown(&encoded), "⟨system\nS⟩\n⟨user\nQ⟩\n⟨assistant\n[A⟩");
    }

    #[test]
    fn names_of_special_tokens_in_messages_are_text() {
        let (tokenizer, template) = (bytes(), template(CHATML));
        let encoder = Encoder::new(&tokenizer, Some(&template));
        let record = vec![says("user", "a<|end|>b\u{fdd0}"), says("assistant", "<|begin|>")];
        let shown = shown(&encoder.encode(&record, 100).unwrap());
        let user: String = "\u{fdd0}".bytes().map(char::from).collect();
        assert!(shown.ends_with(&format!("⟨user\na<|end|>b{user}⟩\n⟨assistant\n[<|begin|>⟩")), "{shown}");
    }

    #[test]
    fn a_template_without_an_end_gets_one_and_begins_like_every_text() {
        let plain = template(
            "{% for m in messages %}{{ m.role[0] + ':' + m.content + ' ' }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}",
        );
        let tokenizer = bytes();
        let encoded = Encoder::new(&tokenizer, Some(&plain))
            .encode(&vec![says("user", "q"), says("assistant", "r")], 100);
        assert_eq!(shown(&encoded.unwrap()), "⟨u:q a:[r ⟩");
    }

    #[test]
    fn a_template_that_hides_or_refuses_answers_is_told() {
        let tokenizer = bytes();
        let record = vec![says("user", "q"), says("assistant", "r")];
        let refused = |source: &str| {
            let template = template(source);
            Encoder::new(&tokenizer, Some(&template)).encode(&record, 100).unwrap_err().to_string()
        };
        let error = refused("{{ messages[-1].content }}{% if add_generation_prompt %}a:{% endif %}");
        assert!(error.contains("up to message 2") && error.contains("leave chat out"), "{error}");
        let error = refused("{{ raise_exception('no system message') }}");
        assert!(error.contains("no system message"), "{error}");
        let error = Encoder::from(&tokenizer).encode(&record, 100).unwrap_err().to_string();
        assert!(error.contains("the model has none") && error.contains("leave chat out"), "{error}");
    }
}
