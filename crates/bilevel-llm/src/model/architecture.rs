//! What a decoder computes, its parameters apart.

use crate::recipe::ModelSizes;

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
    /// What each rotary frequency is divided by (head / 2 numbers), in models whose context was stretched.
    pub rope_factors: Option<Vec<f64>>,
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
            rope_factors: None,
        }
    }

    /// Angles per position of the rotary embedding, head / 2 of them.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        let half = self.head_size / 2;
        (0..half)
            .map(|i| {
                let plain = self.sizes.rope_base.powf(-(i as f64) / half as f64);
                self.rope_factors.as_ref().map_or(plain, |factors| plain / factors[i])
            })
            .collect()
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
