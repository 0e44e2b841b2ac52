//! The architecture that a GGUF file declares, and its parameters.

use super::{Format, GgufFile, Value};
use crate::{
    model::{Architecture, Decoder, Family, ModelSizes, NamedTensor, RopeScaling},
    pretrained::{PretrainedError, tensors},
};

/// Divisors of the rotary frequencies, in files whose context was stretched.
const ROPE_FACTORS: &str = "rope_freqs.weight";

impl GgufFile {
    fn broken(&self, key: &str, found: impl Into<String>, remedy: &str) -> PretrainedError {
        PretrainedError::Broken {
            path: self.path.clone(),
            place: format!("key {key}"),
            found: found.into(),
            remedy: remedy.into(),
        }
    }
    fn unsupported(&self, what: impl Into<String>, remedy: &str) -> PretrainedError {
        PretrainedError::Unsupported { path: self.path.clone(), what: what.into(), remedy: remedy.into() }
    }

    /// The value of a key that must be there, as `read` takes it.
    pub(super) fn required<'a, T>(
        &'a self,
        key: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, PretrainedError> {
        self.optional(key, read)?.ok_or_else(|| {
            self.broken(key, "missing", "the file is incomplete: fetch it again, or convert it anew")
        })
    }

    /// The value of a key that may be there.
    pub(super) fn optional<'a, T>(
        &'a self,
        key: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PretrainedError> {
        let Some(value) = self.header.metadata.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            self.broken(
                key,
                format!("{}, which is of the wrong kind or out of range", value.kind()),
                "the file was written by another convention: convert it anew",
            )
        })
    }

    /// The decoder that the file declares, its tensors held against the table.
    pub(crate) fn decoder(&mut self) -> Result<Decoder, PretrainedError> {
        let name = self.required("general.architecture", text)?;
        let Some(family) = Family::of_name(name) else {
            return Err(
                self.unsupported(format!("the architecture {name}"), "llama, qwen2 and gpt2 are read")
            );
        };
        let key = |part: &str| format!("{}.{part}", family.name());
        let width = self.required(&key("embedding_length"), size)?;
        let heads = self.required(&key("attention.head_count"), size)?;
        if self.optional(&key("expert_count"), size)?.is_some_and(|n| n > 0) {
            return Err(self.unsupported("a mixture of experts", "use a dense model"));
        }
        let head_size =
            self.optional(&key("attention.key_length"), size)?.unwrap_or_else(|| width / heads.max(1));
        let turned = self.optional(&key("rope.dimension_count"), size)?.unwrap_or(head_size);
        if turned != head_size {
            let what = format!("a rotary embedding of {turned} of the {head_size} numbers of a head");
            return Err(self.unsupported(what, "use a model that turns whole heads"));
        }
        let kind = self.optional(&key("rope.scaling.type"), text)?.unwrap_or("none");
        if !["none", ""].contains(&kind) {
            return Err(self.unsupported(
                format!("rotary scaling of type {kind}"),
                "use the Hugging Face folder of the model, or a file without scaling",
            ));
        }
        let epsilon = if family == Family::Gpt2 {
            "attention.layer_norm_epsilon"
        } else {
            "attention.layer_norm_rms_epsilon"
        };
        let norm_epsilon = self.required(&key(epsilon), float)?;
        let architecture = Architecture {
            family,
            sizes: ModelSizes {
                layers: self.required(&key("block_count"), size)?,
                width,
                heads,
                kv_heads: self.optional(&key("attention.head_count_kv"), size)?.unwrap_or(heads),
                ffn: self.required(&key("feed_forward_length"), size)?,
                context: self.required(&key("context_length"), size)?,
                rope_base: single(self.optional(&key("rope.freq_base"), float)?.unwrap_or(10_000.0)),
            },
            vocabulary: self.required("tokenizer.ggml.tokens", texts)?.len(),
            head_size,
            norm_epsilon: single(norm_epsilon),
            is_head_tied: !self.header.tensors.contains_key("output.weight"),
            rope: self.rope_factors()?,
        };
        architecture.check().map_err(|(field, found, remedy)| {
            self.broken(&format!("the sizes of the model: {field}"), found, &remedy)
        })?;
        let decoder = Decoder::of(architecture);
        let expected = decoder.tensors().into_iter().map(|t| (file_name(family, &t.name), file_shape(&t)));
        let found = self.header.tensors.iter().map(|(name, t)| (name.clone(), t.shape.clone()));
        let found = found.filter(|(name, _)| name != ROPE_FACTORS);
        tensors::compare(&self.path, &expected.collect(), &found.collect())?;
        Ok(decoder)
    }

    fn rope_factors(&mut self) -> Result<RopeScaling, PretrainedError> {
        let Some(tensor) = self.header.tensors.get(ROPE_FACTORS) else { return Ok(RopeScaling::None) };
        if tensor.format != Format::F32 || tensor.shape.len() != 1 || tensor.shape[0] > 1 << 16 {
            let what =
                format!("the tensor {ROPE_FACTORS} of shape {:?} in {:?}", tensor.shape, tensor.format);
            return Err(self.unsupported(what, "it must be a list in F32: convert the file anew"));
        }
        let mut factors = vec![0.0; tensor.shape[0]];
        self.read(ROPE_FACTORS, &mut factors)?;
        Ok(RopeScaling::Divisors(factors.into_iter().map(f64::from).collect()))
    }

    /// All parameters as the decoder has them.
    pub(crate) fn parameters(&mut self, decoder: &Decoder) -> Result<Vec<f32>, PretrainedError> {
        let a = &decoder.architecture;
        let mut y = vec![0.0; decoder.parameters()];
        for tensor in decoder.tensors() {
            let out = &mut y[tensor.range.clone()];
            self.read(&file_name(a.family, &tensor.name), out)?;
            let is_interleaved =
                ["q_proj.weight", "k_proj.weight"].iter().any(|end| tensor.name.ends_with(end));
            if a.family == Family::Llama && is_interleaved {
                part_pairs(out, a.head_size, a.sizes.width);
            }
        }
        Ok(y)
    }
}

/// Undoes the order of rows in which the Llama files have queries and keys: the two numbers that the rotary embedding turns
/// together stand side by side in them, and half a head apart in the Hugging Face layout.
fn part_pairs(matrix: &mut [f32], head_size: usize, inputs: usize) {
    for head in matrix.chunks_exact_mut(head_size * inputs) {
        let old = head.to_vec();
        for (row, old) in old.chunks_exact(inputs).enumerate() {
            let to = (row % 2) * head_size / 2 + row / 2;
            head[to * inputs..(to + 1) * inputs].copy_from_slice(old);
        }
    }
}

/// The file's name of a tensor of the Hugging Face layout.
fn file_name(family: Family, name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let prefix = if family == Family::Gpt2 { "transformer.h." } else { "model.layers." };
    if let Some((layer, part)) = stem.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
        let part = match part {
            "input_layernorm" | "ln_1" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "attn.c_attn" => "attn_qkv",
            "self_attn.o_proj" | "attn.c_proj" => "attn_output",
            "post_attention_layernorm" | "ln_2" => "ffn_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.c_fc" => "ffn_up",
            "mlp.down_proj" | "mlp.c_proj" => "ffn_down",
            other => other,
        };
        return format!("blk.{layer}.{part}.{end}");
    }
    let stem = match stem {
        "model.embed_tokens" | "transformer.wte" => "token_embd",
        "transformer.wpe" => "position_embd",
        "model.norm" | "transformer.ln_f" => "output_norm",
        "lm_head" => "output",
        other => other,
    };
    format!("{stem}.{end}")
}

/// The file has every matrix as outputs × inputs.
fn file_shape(tensor: &NamedTensor) -> Vec<usize> {
    let mut shape = tensor.shape.clone();
    if tensor.is_transposed {
        shape.reverse();
    }
    shape
}

/// The file's numbers are f32: 0.00001 was rounded on the way in. The shortest decimal that rounds to the same f32 is what was
/// meant.
fn single(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}
pub(super) fn texts(value: &Value) -> Option<&[String]> {
    if let Value::Texts(texts) = value { Some(texts) } else { None }
}
pub(super) fn size(value: &Value) -> Option<usize> {
    if let Value::Integer(n) = value { usize::try_from(*n).ok() } else { None }
}
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Integer(value) => Some(*value as f64),
        _ => None,
    }
}
