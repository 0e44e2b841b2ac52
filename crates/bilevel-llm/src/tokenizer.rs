//! Text to tokens: bytes, a byte-level BPE trained on the sources, or a `tokenizer.json`.

use tokenizers::{
    AddedToken, Tokenizer as Inner,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    pre_tokenizers::byte_level::ByteLevel,
};

use crate::{error::ReweightError, recipe::TokenizerSpec};

/// Stands before every example.
pub const BEGIN: &str = "<|begin|>";
/// Stands after every example.
pub const END: &str = "<|end|>";

/// A tokenizer with its two special tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    is_bytes: bool,
    begin: Option<u32>,
    end: u32,
    is_begin_written: bool,
}

fn failed(detail: impl std::fmt::Display, remedy: &str) -> ReweightError {
    ReweightError::Tokenizer { detail: detail.to_string(), remedy: remedy.to_owned() }
}

/// Reads a `tokenizer.json`; what is wrong with it, in words.
///
/// The library that defines the form panics on some files that do not keep to it: on broken JSON inside a decoder, for one.
/// Files come from elsewhere, so that a panic of its is an error here.
pub(crate) fn parse(bytes: &[u8]) -> Result<Inner, String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|e| format!("no JSON ({e})"))?;
    std::panic::catch_unwind(|| Inner::from_bytes(bytes).map_err(|e| e.to_string()))
        .unwrap_or_else(|_| Err("the tokenizers library fails on it without a word".to_owned()))
}

impl Tokenizer {
    /// The tokenizer of a recipe; `texts` are read only to train a BPE.
    pub fn new<T: AsRef<str> + Send>(
        spec: &TokenizerSpec,
        texts: impl Iterator<Item = T> + Send,
    ) -> Result<Self, ReweightError> {
        match spec {
            TokenizerSpec::Bytes => Self::bytes(),
            TokenizerSpec::Bpe { vocabulary } => Self::train(*vocabulary, texts),
            TokenizerSpec::File { path } => {
                let bytes = std::fs::read(path).map_err(|e| e.to_string());
                let inner = bytes.and_then(|bytes| parse(&bytes)).map_err(|e| {
                    failed(
                        format!("{}: {e}", path.display()),
                        "give a tokenizer.json as the tokenizers library writes it",
                    )
                })?;
                Self::with_specials(inner, false)
            }
        }
    }

    /// Byte b is token b; the same as the BPE without merges that is written to `tokenizer.json`.
    fn bytes() -> Result<Self, ReweightError> {
        let vocabulary: [(String, u32); 256] =
            std::array::from_fn(|b| (byte_letter(b as u8).to_string(), b as u32));
        let bpe = BPE::builder()
            .vocab_and_merges(vocabulary, Vec::new())
            .build()
            .map_err(|e| failed(e, "report this: the byte vocabulary is fixed"))?;
        Self::with_specials(byte_level(bpe), true)
    }

    fn train<T: AsRef<str> + Send>(
        vocabulary: usize,
        texts: impl Iterator<Item = T> + Send,
    ) -> Result<Self, ReweightError> {
        let mut inner = byte_level(BPE::default());
        let special = |s: &str| AddedToken::from(s, true);
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .vocab_size(vocabulary)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(vec![special(BEGIN), special(END)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        inner
            .train(&mut trainer, texts)
            .map_err(|e| failed(e, "look at the sources' text, or use kind = \"bytes\""))?;
        Self::with_specials(inner, false)
    }

    fn with_specials(mut inner: Inner, is_bytes: bool) -> Result<Self, ReweightError> {
        let special = |s: &str| AddedToken::from(s, true);
        inner.add_special_tokens(&[special(BEGIN), special(END)]);
        let id = |inner: &Inner, s: &str| {
            inner.token_to_id(s).ok_or_else(|| failed(format!("{s} has no id"), "use another tokenizer"))
        };
        // names of special tokens that stand in data are text
        inner.set_encode_special_tokens(true);
        let (begin, end) = (id(&inner, BEGIN)?, id(&inner, END)?);
        Ok(Self { inner, is_bytes, begin: Some(begin), end, is_begin_written: true })
    }

    /// The tokenizer of a model that others trained. `is_begin_written` says whether the model wants its first token in front
    /// of every text.
    pub fn pretrained(inner: Inner, begin: Option<u32>, end: u32, is_begin_written: bool) -> Self {
        Self { inner, is_bytes: false, begin, end, is_begin_written }
    }

    /// The same for texts that others wrote: where the name of a special token stands in a text it is read as text, not as
    /// that token.
    #[must_use]
    pub fn for_data(mut self) -> Self {
        self.inner.set_encode_special_tokens(true);
        self
    }

    /// Tokens of the vocabulary, special tokens included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |&top| top as usize + 1)
    }
    /// The token before every example; the last token where the model has no first one.
    pub fn begin(&self) -> u32 {
        self.begin.unwrap_or(self.end)
    }
    /// The token that begins a text, where the model has one.
    pub fn begin_token(&self) -> Option<u32> {
        self.begin
    }
    /// Whether the model wants its first token in front of every text.
    pub fn is_begin_written(&self) -> bool {
        self.is_begin_written
    }
    /// What stands in front of every text: the first token, where the model wants it.
    pub fn prefix(&self) -> Vec<u32> {
        self.begin.filter(|_| self.is_begin_written).into_iter().collect()
    }
    /// Names and numbers of all special tokens, long names first, so that none hides one that it begins with.
    pub fn specials(&self) -> Vec<(String, u32)> {
        let added = self.inner.get_added_tokens_decoder();
        let mut all: Vec<(String, u32)> = added
            .iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content.clone(), *id))
            .collect();
        all.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        all
    }
    /// The text of a token as the vocabulary has it.
    pub fn text_of(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }
    /// The token after every example.
    pub fn end(&self) -> u32 {
        self.end
    }
    /// Tokens of a text, without special tokens in front of it or after it. The tokenizer of a checkpoint reads the names of
    /// special tokens as these, unless it is [`Tokenizer::for_data`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ReweightError> {
        if self.is_bytes {
            return Ok(text.bytes().map(u32::from).collect());
        }
        let encoding = self.inner.encode_fast(text, false).map_err(|e| failed(e, "look at this text"))?;
        Ok(encoding.get_ids().to_vec())
    }
    /// Text of tokens, special tokens left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ReweightError> {
        self.inner.decode(tokens, true).map_err(|e| failed(e, "look at these tokens"))
    }
    /// The tokenizer as `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, ReweightError> {
        self.inner.to_string(true).map_err(|e| failed(e, "this tokenizer cannot be written"))
    }
}

fn byte_level(model: BPE) -> Inner {
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    inner
}

/// The letter that byte-level tokenizers write for a byte: itself when it is printable, else the next free letter
/// from U+0100.
pub(crate) fn byte_letter(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + before).expect("U+0100 to U+0143 are letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_tokens_and_the_written_tokenizer_agrees() {
        let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap();
        let text = "3 × 4 = 12\n\tcafé 😀";
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens, text.bytes().map(u32::from).collect::<Vec<_>>());
        assert_eq!((tokenizer.vocabulary(), tokenizer.begin(), tokenizer.end()), (258, 256, 257));
        let written: Inner = tokenizer.to_json().unwrap().parse().unwrap();
        assert_eq!(written.encode(text, false).unwrap().get_ids(), tokens);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }

    #[test]
    fn a_trained_bpe_is_a_function_of_its_text_and_reads_every_byte() {
        let texts = ["the cat sat on the mat", "the dog sat on the log", "3 + 4 = 7"];
        let spec = TokenizerSpec::Bpe { vocabulary: 280 };
        let one = Tokenizer::new(&spec, texts.iter().copied()).unwrap();
        let two = Tokenizer::new(&spec, texts.iter().copied()).unwrap();
        assert_eq!(one.to_json().unwrap(), two.to_json().unwrap());
        // merges end when no pair is left that occurs twice
        assert!((259..=280).contains(&one.vocabulary()), "{}", one.vocabulary());
        assert!(one.encode("the cat").unwrap().len() < 7);
        let strange = "ünseen 😀\u{0}";
        assert_eq!(one.decode(&one.encode(strange).unwrap()).unwrap(), strange);
    }

    #[test]
    fn names_of_special_tokens_in_data_are_text() {
        for spec in [TokenizerSpec::Bytes, TokenizerSpec::Bpe { vocabulary: 280 }] {
            let tokenizer = Tokenizer::new(&spec, ["the cat sat"].iter().copied()).unwrap();
            let tokens = tokenizer.encode("a <|end|> b").unwrap();
            assert!(!tokens.contains(&tokenizer.end()) && tokens.len() > 5, "{tokens:?}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), "a <|end|> b");
        }
        let inner = |t: Tokenizer| t.inner;
        let mut plain = inner(Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap());
        plain.set_encode_special_tokens(false);
        let pretrained = Tokenizer::pretrained(plain, None, 257, false);
        assert!(pretrained.encode("a<|end|>").unwrap().contains(&257));
        assert!(!pretrained.for_data().encode("a<|end|>").unwrap().contains(&257));
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        let error = Tokenizer::new(&TokenizerSpec::File { path }, std::iter::empty::<&str>())
            .unwrap_err()
            .to_string();
        assert!(error.contains("tokenizer.json") && error.contains("tokenizers library"), "{error}");
    }
}
