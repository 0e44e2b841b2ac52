//! `config.json`: what a checkpoint says of its architecture.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    model::{Architecture, Family, ModelSizes, RopeScaling},
    pretrained::PretrainedError,
};

/// The file's entries, with its path for messages.
struct Config<'a> {
    path: &'a Path,
    entries: &'a Map<String, Value>,
}

impl<'a> Config<'a> {
    fn broken(&self, field: &str, found: impl Into<String>, remedy: &str) -> PretrainedError {
        PretrainedError::Broken {
            path: self.path.into(),
            place: format!("field {field}"),
            found: found.into(),
            remedy: remedy.into(),
        }
    }
    fn unsupported(&self, what: impl Into<String>, remedy: &str) -> PretrainedError {
        PretrainedError::Unsupported { path: self.path.into(), what: what.into(), remedy: remedy.into() }
    }

    /// An entry that may be missing or null.
    fn optional<T>(
        &self,
        field: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, PretrainedError> {
        match self.entries.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| {
                self.broken(
                    field,
                    format!("{value}, which is of the wrong kind"),
                    "correct it, or fetch the file again",
                )
            }),
        }
    }
    fn required<T>(&self, field: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, PretrainedError> {
        self.optional(field, read)?
            .ok_or_else(|| self.broken(field, "missing", "the file is incomplete: fetch it again"))
    }

    /// Refuses settings that would change what the model computes.
    fn expect(&self, field: &str, allowed: &[Value]) -> Result<(), PretrainedError> {
        match self.entries.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(value) => {
                let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
                Err(self.unsupported(
                    format!("{field} = {value}"),
                    &format!("{} is computed: use another model", allowed.join(" or ")),
                ))
            }
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// The architecture of a configuration.
pub(super) fn architecture(path: &Path, config: &Value) -> Result<Architecture, PretrainedError> {
    let empty = Map::new();
    let Some(entries) = config.as_object() else {
        let config = Config { path, entries: &empty };
        return Err(config.broken("(all)", "no object of fields", "give the config.json of a model"));
    };
    let config = Config { path, entries };
    let name = config.required("model_type", Value::as_str)?;
    let Some(family) = Family::of_name(name) else {
        return Err(config.unsupported(format!("the architecture {name}"), "llama, qwen2 and gpt2 are read"));
    };
    if config.entries.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err(config.unsupported(
            "a quantised folder",
            "use the model in float32, bfloat16 or float16, or its GGUF file",
        ));
    }
    let architecture = match family {
        Family::Gpt2 => gpt2(&config)?,
        Family::Llama | Family::Qwen2 => llama(&config, family)?,
    };
    architecture.check().map_err(|(field, found, remedy)| config.broken(field, found, &remedy))?;
    Ok(architecture)
}

fn llama(config: &Config, family: Family) -> Result<Architecture, PretrainedError> {
    config.expect("hidden_act", &["silu".into()])?;
    config.expect("mlp_bias", &[false.into()])?;
    config.expect("use_sliding_window", &[false.into()])?;
    config.expect("pretraining_tp", &[1.into()])?;
    if family == Family::Llama {
        config.expect("attention_bias", &[false.into()])?;
    }
    let width = config.required("hidden_size", size)?;
    let heads = config.required("num_attention_heads", size)?;
    // newer files gather what has to do with rotary embeddings in one object
    let parameters = config.optional("rope_parameters", Value::as_object)?;
    let scaling = match parameters {
        Some(parameters) => Some(parameters),
        None => config.optional("rope_scaling", Value::as_object)?,
    };
    let base = parameters.and_then(|p| p.get("rope_theta")).and_then(Value::as_f64);
    let base = match base {
        Some(base) => base,
        None => config.optional("rope_theta", Value::as_f64)?.unwrap_or(10_000.0),
    };
    Ok(Architecture {
        family,
        sizes: ModelSizes {
            layers: config.required("num_hidden_layers", size)?,
            width,
            heads,
            kv_heads: config.optional("num_key_value_heads", size)?.unwrap_or(heads),
            ffn: config.required("intermediate_size", size)?,
            context: config.required("max_position_embeddings", size)?,
            rope_base: base,
        },
        vocabulary: config.required("vocab_size", size)?,
        head_size: config.optional("head_dim", size)?.unwrap_or(width / heads.max(1)),
        norm_epsilon: config.required("rms_norm_eps", Value::as_f64)?,
        is_head_tied: config.optional("tie_word_embeddings", Value::as_bool)?.unwrap_or(false),
        rope: scaling.map_or(Ok(RopeScaling::None), |scaling| rope_scaling(config, scaling))?,
    })
}

fn rope_scaling(config: &Config, scaling: &Map<String, Value>) -> Result<RopeScaling, PretrainedError> {
    let inner = Config { path: config.path, entries: scaling };
    let kind = match inner.optional("rope_type", Value::as_str)? {
        Some(kind) => kind,
        None => inner.optional("type", Value::as_str)?.unwrap_or("default"),
    };
    let number = |field| inner.required(field, Value::as_f64);
    Ok(match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_frequency_factor: number("low_freq_factor")?,
            high_frequency_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")?,
        },
        other => {
            return Err(config.unsupported(
                format!("rotary scaling of type {other}"),
                "default, linear and llama3 are computed: use another model",
            ));
        }
    })
}

fn gpt2(config: &Config) -> Result<Architecture, PretrainedError> {
    config.expect("activation_function", &["gelu_new".into(), "gelu_pytorch_tanh".into()])?;
    config.expect("scale_attn_weights", &[true.into()])?;
    config.expect("scale_attn_by_inverse_layer_idx", &[false.into()])?;
    config.expect("add_cross_attention", &[false.into()])?;
    let width = config.required("n_embd", size)?;
    let heads = config.required("n_head", size)?;
    Ok(Architecture {
        family: Family::Gpt2,
        sizes: ModelSizes {
            layers: config.required("n_layer", size)?,
            width,
            heads,
            kv_heads: heads,
            ffn: config.optional("n_inner", size)?.unwrap_or(width.saturating_mul(4)),
            context: config.required("n_positions", size)?,
            rope_base: 10_000.0,
        },
        vocabulary: config.required("vocab_size", size)?,
        head_size: width / heads.max(1),
        norm_epsilon: config.optional("layer_norm_epsilon", Value::as_f64)?.unwrap_or(1e-5),
        is_head_tied: config.optional("tie_word_embeddings", Value::as_bool)?.unwrap_or(true),
        rope: RopeScaling::None,
    })
}

/// The configuration of an architecture; `None` for divisors of rotary frequencies, for which the layout has no words.
pub(super) fn write(a: &Architecture) -> Option<Map<String, Value>> {
    let s = &a.sizes;
    let rope_scaling = match &a.rope {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => serde_json::json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
            serde_json::json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_frequency_factor,
                "high_freq_factor": high_frequency_factor,
                "original_max_position_embeddings": *original_context as u64,
            })
        }
        RopeScaling::Divisors(_) => return None,
    };
    let config = if a.family == Family::Gpt2 {
        serde_json::json!({
            "n_embd": s.width,
            "n_inner": s.ffn,
            "n_layer": s.layers,
            "n_head": s.heads,
            "n_positions": s.context,
            "n_ctx": s.context,
            "layer_norm_epsilon": a.norm_epsilon,
            "activation_function": "gelu_new",
        })
    } else {
        let mut config = serde_json::json!({
            "hidden_size": s.width,
            "intermediate_size": s.ffn,
            "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads,
            "num_key_value_heads": s.kv_heads,
            "head_dim": a.head_size,
            "max_position_embeddings": s.context,
            "rms_norm_eps": a.norm_epsilon,
            "rope_theta": s.rope_base,
            "rope_scaling": rope_scaling,
            "hidden_act": "silu",
        });
        if a.family == Family::Llama {
            config["attention_bias"] = false.into();
            config["mlp_bias"] = false.into();
        } else {
            config["use_sliding_window"] = false.into();
        }
        config
    };
    let Value::Object(mut config) = config else { return None };
    config.insert("architectures".into(), [a.family.class()].as_slice().into());
    config.insert("model_type".into(), a.family.name().into());
    config.insert("vocab_size".into(), a.vocabulary.into());
    config.insert("tie_word_embeddings".into(), a.is_head_tied.into());
    config.insert("torch_dtype".into(), "float32".into());
    Some(config)
}
