//! What a decoder computes, its parameters apart.

use serde::Serialize;

/// The sizes of a decoder, vocabulary apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModelSizes {
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of the SwiGLU block.
    pub ffn: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary embedding.
    pub rope_base: f64,
}

/// The kinds of decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al., arXiv 2302.13971).
    Llama,
    /// Llama with biases on queries, keys and values (Yang et al., arXiv 2407.10671).
    Qwen2,
    /// LayerNorm, learned positions, GELU by its tanh approximation, biases everywhere, a tied head (Radford et al. 2019).
    Gpt2,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Gpt2];

    /// `model_type` of Hugging Face, `general.architecture` of GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Gpt2 => "gpt2",
        }
    }
    /// The family of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }
    /// The family's class in the `transformers` library.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Gpt2 => "GPT2LMHeadModel",
        }
    }
    /// Whether norms subtract the mean and every matrix has a bias, positions are learned, and GELU takes the place of
    /// SwiGLU.
    pub(super) fn is_gpt2(self) -> bool {
        self == Self::Gpt2
    }
}

/// Everything that decides what a decoder computes, its parameters apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Kind of the blocks.
    pub family: Family,
    /// Sizes.
    pub sizes: ModelSizes,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Width of one head; width / heads in most models.
    pub head_size: usize,
    /// ε of the norms.
    pub norm_epsilon: f64,
    /// Whether the head is the embedding's matrix.
    pub is_head_tied: bool,
    /// How the rotary frequencies were changed to stretch the context.
    pub rope: RopeScaling,
}

impl Architecture {
    /// The decoder that the command trains from scratch: Llama with a tied head.
    pub fn llama(sizes: ModelSizes, vocabulary: usize) -> Self {
        Self {
            family: Family::Llama,
            sizes,
            vocabulary,
            head_size: sizes.width / sizes.heads,
            norm_epsilon: 1e-5,
            is_head_tied: true,
            rope: RopeScaling::None,
        }
    }

    /// Whether a decoder can be made of these numbers: what is wrong, what was found, and what is allowed.
    ///
    /// # Errors
    /// When a size is zero, absurdly large, or does not fit another.
    pub fn check(&self) -> Result<(), (&'static str, String, String)> {
        let s = &self.sizes;
        // ten times what the largest published models have
        for (field, value, most) in [
            ("layers", s.layers, 2_000),
            ("width", s.width, 1 << 18),
            ("heads", s.heads, 1 << 12),
            ("ffn", s.ffn, 1 << 20),
            ("context", s.context, 1 << 27),
            ("vocabulary", self.vocabulary, 1 << 23),
            ("head_size", self.head_size, 1 << 13),
        ] {
            if !(1..=most).contains(&value) {
                return Err((field, value.to_string(), format!("1 to {most} are allowed")));
            }
        }
        if s.kv_heads == 0 || !s.heads.is_multiple_of(s.kv_heads) {
            let found = format!("{} heads on {} key and value heads", s.heads, s.kv_heads);
            return Err(("kv_heads or heads", found, "key and value heads must divide the heads".into()));
        }
        if !self.head_size.is_multiple_of(2) {
            return Err(("head_size", self.head_size.to_string(), "it must be even".into()));
        }
        if self.family.is_gpt2() && (s.heads != s.kv_heads || s.heads * self.head_size != s.width) {
            let found = format!("{} heads of {} in a width of {}", s.heads, self.head_size, s.width);
            return Err(("heads", found, "the heads of GPT-2 must make up its width".into()));
        }
        for (field, value) in [("norm_epsilon", self.norm_epsilon), ("rope_base", s.rope_base)] {
            if !(value.is_finite() && value > 0.0) {
                return Err((field, value.to_string(), "it must be positive".into()));
            }
        }
        if !self.rope.is_sound(self.head_size) {
            let allowed =
                format!("positive numbers, {} of them where each frequency has one", self.head_size / 2);
            return Err(("rope", format!("{:?}", self.rope), allowed));
        }
        Ok(())
    }

    /// Angles per position of the rotary embedding, head / 2 of them.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        let half = self.head_size / 2;
        (0..half).map(|i| self.rope.apply(i, self.sizes.rope_base.powf(-(i as f64) / half as f64))).collect()
    }

    /// Width of the queries of all heads.
    pub(super) fn query_width(&self) -> usize {
        self.sizes.heads * self.head_size
    }
    /// Width of the keys of all heads, and of the values.
    pub(super) fn key_width(&self) -> usize {
        self.sizes.kv_heads * self.head_size
    }
    /// Width of queries, keys and values side by side.
    pub(super) fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.key_width()
    }
}

/// How the rotary frequencies of a model with a stretched context differ from base^(−2i/head).
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency is divided by this factor (Chen et al., arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies are divided by a factor, high ones stay, those between are blended by their wavelength
    /// (Llama 3.1; Grattafiori et al., arXiv 2407.21783).
    Llama3 {
        /// The factor of low frequencies.
        factor: f64,
        /// Context before stretching over this: the wavelength above which the factor holds.
        low_frequency_factor: f64,
        /// Context before stretching over this: the wavelength below which nothing changes.
        high_frequency_factor: f64,
        /// Context before stretching.
        original_context: f64,
    },
    /// What each frequency is divided by, head / 2 numbers.
    Divisors(Vec<f64>),
}

impl RopeScaling {
    /// The scaled frequency of number `i`.
    fn apply(&self, i: usize, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
                let turns = original_context * frequency / std::f64::consts::TAU;
                let kept = (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
                let kept = kept.clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
            Self::Divisors(divisors) => frequency / divisors[i],
        }
    }

    /// Whether the numbers make sense for heads of this size.
    fn is_sound(&self, head_size: usize) -> bool {
        let positive = |value: &f64| value.is_finite() && *value > 0.0;
        match self {
            Self::None => true,
            Self::Linear { factor } => positive(factor),
            Self::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
                [factor, low_frequency_factor, high_frequency_factor, original_context]
                    .into_iter()
                    .all(positive)
                    && high_frequency_factor > low_frequency_factor
            }
            Self::Divisors(divisors) => divisors.len() == head_size / 2 && divisors.iter().all(positive),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: ModelSizes =
        ModelSizes { layers: 1, width: 8, heads: 2, kv_heads: 1, ffn: 4, context: 16, rope_base: 10_000.0 };

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Architecture), expected: &str| {
            let mut a = Architecture::llama(SIZES, 5);
            change(&mut a);
            let (field, found, _) = a.check().unwrap_err();
            assert_eq!(field, expected, "{found}");
        };
        assert_eq!(Architecture::llama(SIZES, 5).check(), Ok(()));
        refused(&|a| a.sizes.layers = 0, "layers");
        refused(&|a| a.sizes.layers = usize::MAX, "layers");
        refused(&|a| a.sizes.width = 1 << 40, "width");
        refused(&|a| a.vocabulary = 0, "vocabulary");
        refused(&|a| a.sizes.kv_heads = 4, "kv_heads or heads");
        refused(&|a| a.sizes.kv_heads = 0, "kv_heads or heads");
        refused(&|a| a.head_size = 3, "head_size");
        refused(&|a| a.norm_epsilon = f64::NAN, "norm_epsilon");
        refused(&|a| a.sizes.rope_base = 0.0, "rope_base");
        refused(&|a| a.rope = RopeScaling::Divisors(vec![1.0; 3]), "rope");
        refused(&|a| a.family = Family::Gpt2, "heads");
    }

    #[test]
    fn llama_3_scaling_divides_slow_turns_and_keeps_fast_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 8192.0,
        };
        let of_turns = |turns: f64| turns * std::f64::consts::TAU / 8192.0;
        for (turns, kept) in [(0.5, 0.0), (1.0, 0.0), (2.5, 0.5), (4.0, 1.0), (100.0, 1.0)] {
            let ratio = scaling.apply(0, of_turns(turns)) / of_turns(turns);
            assert!((ratio - (kept + (1.0 - kept) / 8.0)).abs() < 1e-14, "{turns}: {ratio}");
        }
    }
}
