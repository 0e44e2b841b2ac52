//! Where each matrix stands in the flat list of parameters, and what it is called in files.

use std::ops::Range;

use super::{Architecture, Family};

/// An affine map: outputs × inputs, row-major, then perhaps the outputs' bias.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
    pub inputs: usize,
    pub outputs: usize,
}

/// A norm: RMSNorm without bias, LayerNorm with one.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub weight: Range<usize>,
    pub bias: Option<Range<usize>>,
}

impl Affine {
    /// Places of weight and bias.
    pub fn places(&self) -> impl Iterator<Item = &Range<usize>> {
        [&self.weight].into_iter().chain(&self.bias)
    }
}
impl Norm {
    /// Places of weight and bias.
    pub fn places(&self) -> impl Iterator<Item = &Range<usize>> {
        [&self.weight].into_iter().chain(&self.bias)
    }
}

/// One block of the decoder.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub attention_norm: Norm,
    /// Rows of queries, keys, values.
    pub qkv: Affine,
    pub output: Affine,
    pub ffn_norm: Norm,
    /// Rows of gates, then ups; ups alone without SwiGLU.
    pub up: Affine,
    pub down: Affine,
}

/// Places of all parameters.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub embedding: Range<usize>,
    /// Learned positions, context × width.
    pub positions: Option<Range<usize>>,
    pub blocks: Vec<Block>,
    pub final_norm: Norm,
    /// vocabulary × width; the embedding's place where the head is tied.
    pub head: Range<usize>,
    pub parameters: usize,
}

/// A named part of the parameters, for files.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name in the Hugging Face layout.
    pub name: String,
    /// Shape in the Hugging Face layout.
    pub shape: Vec<usize>,
    /// Place in the flat list.
    pub range: Range<usize>,
    /// Whether the file has the matrix as inputs × outputs; the flat list has it as outputs × inputs.
    pub is_transposed: bool,
}

impl Places {
    pub fn new(a: &Architecture) -> Self {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            at - n..at
        };
        let (width, ffn, is_gpt2) = (a.sizes.width, a.sizes.ffn, a.family.is_gpt2());
        let embedding = take(a.vocabulary * width);
        let positions = is_gpt2.then(|| take(a.sizes.context * width));
        let norm = |take: &mut dyn FnMut(usize) -> Range<usize>| Norm {
            weight: take(width),
            bias: is_gpt2.then(|| take(width)),
        };
        let affine = |take: &mut dyn FnMut(usize) -> Range<usize>, inputs, outputs, has_bias: bool| Affine {
            weight: take(inputs * outputs),
            bias: has_bias.then(|| take(outputs)),
            inputs,
            outputs,
        };
        let blocks = (0..a.sizes.layers)
            .map(|_| Block {
                attention_norm: norm(&mut take),
                qkv: affine(&mut take, width, a.qkv_width(), a.family != Family::Llama),
                output: affine(&mut take, a.query_width(), width, is_gpt2),
                ffn_norm: norm(&mut take),
                up: affine(&mut take, width, if is_gpt2 { ffn } else { 2 * ffn }, is_gpt2),
                down: affine(&mut take, ffn, width, is_gpt2),
            })
            .collect();
        let final_norm = norm(&mut take);
        let head = if a.is_head_tied { embedding.clone() } else { take(a.vocabulary * width) };
        Self { embedding, positions, blocks, final_norm, head, parameters: at }
    }

    /// Every norm.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.blocks.iter().flat_map(|b| [&b.attention_norm, &b.ffn_norm]).chain([&self.final_norm])
    }

    /// Every tensor with its Hugging Face name, in the order of the flat list; stacked matrices are separate tensors
    /// where the layout has them so.
    pub fn tensors(&self, a: &Architecture) -> Vec<NamedTensor> {
        let mut list = Tensors(Vec::new());
        if a.family.is_gpt2() {
            self.gpt2_tensors(a, &mut list);
        } else {
            self.llama_tensors(a, &mut list);
        }
        if !a.is_head_tied {
            list.add("lm_head.weight".into(), &[a.vocabulary, a.sizes.width], self.head.start);
        }
        list.0
    }

    fn llama_tensors(&self, a: &Architecture, list: &mut Tensors) {
        let s = &a.sizes;
        let (q, kv) = (a.query_width(), a.key_width());
        list.add("model.embed_tokens.weight".into(), &[a.vocabulary, s.width], self.embedding.start);
        for (i, b) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let parts = [("q", 0, q), ("k", q, kv), ("v", q + kv, kv)];
            list.add(name("input_layernorm.weight"), &[s.width], b.attention_norm.weight.start);
            for (part, row, rows) in parts {
                let at = b.qkv.weight.start + row * s.width;
                list.add(name(&format!("self_attn.{part}_proj.weight")), &[rows, s.width], at);
            }
            if let Some(bias) = &b.qkv.bias {
                for (part, row, rows) in parts {
                    list.add(name(&format!("self_attn.{part}_proj.bias")), &[rows], bias.start + row);
                }
            }
            let up = b.up.weight.start;
            list.add(name("self_attn.o_proj.weight"), &[s.width, q], b.output.weight.start);
            list.add(name("post_attention_layernorm.weight"), &[s.width], b.ffn_norm.weight.start);
            list.add(name("mlp.gate_proj.weight"), &[s.ffn, s.width], up);
            list.add(name("mlp.up_proj.weight"), &[s.ffn, s.width], up + s.ffn * s.width);
            list.add(name("mlp.down_proj.weight"), &[s.width, s.ffn], b.down.weight.start);
        }
        list.add("model.norm.weight".into(), &[s.width], self.final_norm.weight.start);
    }

    fn gpt2_tensors(&self, a: &Architecture, list: &mut Tensors) {
        let width = a.sizes.width;
        list.add("transformer.wte.weight".into(), &[a.vocabulary, width], self.embedding.start);
        if let Some(positions) = &self.positions {
            list.add("transformer.wpe.weight".into(), &[a.sizes.context, width], positions.start);
        }
        for (i, b) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("transformer.h.{i}.{part}");
            list.norm(&name("ln_1"), &b.attention_norm);
            list.conv1d(&name("attn.c_attn"), &b.qkv);
            list.conv1d(&name("attn.c_proj"), &b.output);
            list.norm(&name("ln_2"), &b.ffn_norm);
            list.conv1d(&name("mlp.c_fc"), &b.up);
            list.conv1d(&name("mlp.c_proj"), &b.down);
        }
        list.norm("transformer.ln_f", &self.final_norm);
    }
}

struct Tensors(Vec<NamedTensor>);

impl Tensors {
    fn add(&mut self, name: String, shape: &[usize], start: usize) {
        let n: usize = shape.iter().product();
        let range = start..start + n;
        self.0.push(NamedTensor { name, shape: shape.to_vec(), range, is_transposed: false });
    }
    fn vector(&mut self, name: String, range: &Range<usize>) {
        self.add(name, &[range.len()], range.start);
    }
    fn norm(&mut self, name: &str, norm: &Norm) {
        self.vector(format!("{name}.weight"), &norm.weight);
        if let Some(bias) = &norm.bias {
            self.vector(format!("{name}.bias"), bias);
        }
    }
    /// The layer that GPT-2 keeps as inputs × outputs.
    fn conv1d(&mut self, name: &str, map: &Affine) {
        self.0.push(NamedTensor {
            name: format!("{name}.weight"),
            shape: vec![map.inputs, map.outputs],
            range: map.weight.clone(),
            is_transposed: true,
        });
        if let Some(bias) = &map.bias {
            self.vector(format!("{name}.bias"), bias);
        }
    }
}
