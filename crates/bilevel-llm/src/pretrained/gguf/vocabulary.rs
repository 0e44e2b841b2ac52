//! The tokenizer and the chat template inside a GGUF file.

use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer as Inner,
    models::bpe::{BPE, Vocab},
    normalizers::unicode::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{
    GgufFile, Value,
    model::{size, text, texts},
};
use crate::{
    pretrained::{ChatTemplate, PretrainedError},
    tokenizer::Tokenizer,
};

/// How a model cuts text before it merges bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The pattern of GPT-2.
    Gpt2,
    /// Every digit for itself, then the pattern of GPT-2.
    Digits,
    /// The pattern of Qwen2: every digit for itself, letters with one sign before them, line breaks apart. Text is brought to
    /// normal form C first.
    Qwen2,
    /// The pattern of Llama 3: as Qwen2's with up to three digits together; a piece that is a token is not built by merges.
    Llama3,
}

/// The common pattern of Qwen2 and Llama 3, with how many digits stay together.
fn pattern(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

impl Cut {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "gpt2" | "phi-2" => Self::Gpt2,
            "smollm" => Self::Digits,
            "qwen2" | "deepseek-r1-qwen" => Self::Qwen2,
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            _ => return None,
        })
    }

    fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let split = |digits| -> tokenizers::Result<PreTokenizerWrapper> {
            let pattern = SplitPattern::Regex(pattern(digits));
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into())
        };
        match self {
            Self::Gpt2 => Ok(ByteLevel::new(false, true, true).into()),
            Self::Digits => {
                let parts = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
                Ok(Sequence::new(parts).into())
            }
            Self::Qwen2 => split(""),
            Self::Llama3 => split("{1,3}"),
        }
    }
}

/// Kinds of token that are never built by merges, by the specification's numbers.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

impl GgufFile {
    fn refused(&self, detail: impl Into<String>, remedy: &str) -> PretrainedError {
        PretrainedError::Tokenizer { path: self.path.clone(), detail: detail.into(), remedy: remedy.into() }
    }

    /// The tokenizer of the file.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, PretrainedError> {
        const FOLDER: &str = "use the Hugging Face folder of the model";
        const DAMAGED: &str = "the file is damaged or was converted badly: fetch it again";
        let model = self.required("tokenizer.ggml.model", text)?;
        if model != "gpt2" {
            return Err(
                self.refused(format!("a vocabulary of kind {model}, where byte-level BPE is read"), FOLDER)
            );
        }
        let cut = self.required("tokenizer.ggml.pre", text)?;
        let Some(cut) = Cut::of_name(cut) else {
            let detail =
                format!("the way {cut:?} to cut text, where gpt-2, smollm, qwen2 and llama-bpe are known");
            return Err(self.refused(detail, FOLDER));
        };
        let tokens = self.required("tokenizer.ggml.tokens", texts)?;
        let mut vocabulary = Vocab::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(other) = vocabulary.insert(token.clone(), id as u32) {
                return Err(
                    self.refused(format!("the text {token:?} is token {other} and token {id}"), DAMAGED)
                );
            }
        }
        let merges = self.required("tokenizer.ggml.merges", texts)?.iter().map(|merge| {
            let (left, right) = merge
                .split_once(' ')
                .ok_or_else(|| self.refused(format!("the merge {merge:?} has no two parts"), DAMAGED))?;
            Ok((left.to_owned(), right.to_owned()))
        });
        let merges = merges.collect::<Result<Vec<_>, PretrainedError>>()?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(cut == Cut::Llama3)
            .build()
            .map_err(|e| self.refused(e.to_string(), DAMAGED))?;
        let mut inner = Inner::new(bpe);
        let pre_tokenizer = cut.pre_tokenizer().map_err(|e| self.refused(e.to_string(), FOLDER))?;
        inner.with_pre_tokenizer(Some(pre_tokenizer));
        inner.with_decoder(Some(ByteLevel::new(false, true, true)));
        if cut == Cut::Qwen2 {
            inner.with_normalizer(Some(NormalizerWrapper::NFC(NFC)));
        }
        let kinds = self.optional("tokenizer.ggml.token_type", integers)?.unwrap_or_default();
        let (mut control, mut defined) = (Vec::new(), Vec::new());
        for (token, kind) in tokens.iter().zip(kinds) {
            match *kind {
                CONTROL => control.push(AddedToken::from(token.clone(), true).normalized(false)),
                USER_DEFINED => defined.push(AddedToken::from(token.clone(), false).normalized(false)),
                _ => {}
            }
        }
        inner.add_special_tokens(&control);
        inner.add_tokens(&defined);
        let special = |key: &str| -> Result<Option<u32>, PretrainedError> {
            let Some(id) = self.optional(key, size)? else { return Ok(None) };
            if id >= tokens.len() {
                return Err(
                    self.refused(format!("{key} is {id} and there are {} tokens", tokens.len()), DAMAGED)
                );
            }
            Ok(Some(id as u32))
        };
        let end = special("tokenizer.ggml.eos_token_id")?;
        let begin = special("tokenizer.ggml.bos_token_id")?;
        let Some(end) = end.or(begin) else {
            return Err(self.refused("no token ends a sequence (tokenizer.ggml.eos_token_id)", FOLDER));
        };
        let is_begin_written = self.optional("tokenizer.ggml.add_bos_token", bool_of)?.unwrap_or(false);
        Ok(Tokenizer::pretrained(inner, begin, end, is_begin_written))
    }

    /// The chat template of the file.
    pub(crate) fn chat_template(
        &self,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ChatTemplate>, PretrainedError> {
        let Some(source) = self.optional("tokenizer.chat_template", text)? else { return Ok(None) };
        Ok(Some(ChatTemplate {
            source: source.to_owned(),
            begin: tokenizer.begin_token().and_then(|id| tokenizer.text_of(id)),
            end: tokenizer.text_of(tokenizer.end()),
        }))
    }
}

fn integers(value: &Value) -> Option<&[i64]> {
    if let Value::Integers(list) = value { Some(list) } else { None }
}
fn bool_of(value: &Value) -> Option<bool> {
    if let Value::Bool(value) = value { Some(*value) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(cut: Cut, text: &str) -> Vec<String> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        let mut string = PreTokenizedString::from(text);
        cut.pre_tokenizer().unwrap().pre_tokenize(&mut string).unwrap();
        let splits = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (from, to), _)| text[from..to].to_owned()).collect()
    }

    #[test]
    fn text_is_cut_as_each_model_cuts_it() {
        let text = "It's 12345 ok\n\n x";
        let expected = [
            (Cut::Gpt2, &["It", "'s", " 12345", " ok", "\n\n", " x"][..]),
            (Cut::Digits, &["It", "'s", " ", "1", "2", "3", "4", "5", " ok", "\n\n", " x"]),
            (Cut::Qwen2, &["It", "'s", " ", "1", "2", "3", "4", "5", " ok", "\n\n", " x"]),
            (Cut::Llama3, &["It", "'s", " ", "123", "45", " ok", "\n\n", " x"]),
        ];
        for (cut, expected) in expected {
            assert_eq!(pieces(cut, text), expected, "{cut:?}");
        }
        // a sign stays with the letters after it, an accent with its letter
        assert_eq!(pieces(Cut::Qwen2, "f(x) DON'T"), ["f", "(x", ")", " DON", "'T"]);
        assert_eq!(pieces(Cut::Gpt2, "f(x) DON'T"), ["f", "(", "x", ")", " DON", "'", "T"]);
    }
}
