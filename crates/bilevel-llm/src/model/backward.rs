//! The backward pass, down to the lowest trained block.

use super::{
    Batch, Decoder, Weights,
    kernels::{
        Engine, NormCache, Real, add_column_sums, gelu_derivative, layer_norm_backward, linear_backward,
        rms_norm_backward, sigmoid,
    },
    layout::{Affine, Block, Norm},
    workspace::{Workspace, sized},
};

impl Decoder {
    /// The lowest block through which the derivative must go; the number of blocks when it goes through none.
    pub(super) fn lowest_trained<T: Real>(&self, y: Weights<T>) -> usize {
        let places = &self.places;
        let is_input_trained = y.place(&places.embedding).is_some()
            || places.positions.as_ref().is_some_and(|positions| y.place(positions).is_some());
        if is_input_trained {
            return 0;
        }
        let is_trained = |b: &Block| {
            [&b.attention_norm, &b.ffn_norm].iter().any(|norm| norm.places().any(|r| y.is_trained(r)))
                || [&b.qkv, &b.output, &b.up, &b.down].iter().any(|map| map.places().any(|r| y.is_trained(r)))
        };
        places.blocks.iter().position(is_trained).unwrap_or(places.blocks.len())
    }

    /// The number of blocks through which the derivative goes, each of which keeps its intermediate values.
    pub fn kept_blocks<T: Real>(&self, y: Weights<T>) -> usize {
        self.places.blocks.len() - self.lowest_trained(y)
    }

    /// Adds the gradient of all but the head to `g`, given the derivative in the head's input and the caches of the forward pass.
    pub(super) fn backward<T: Real>(
        &self,
        y: Weights<T>,
        batch: &Batch,
        d_head_input: Vec<T>,
        g: &mut [T],
        w: &mut Workspace<T>,
    ) {
        let a = &self.architecture;
        let (width, ffn, n) = (a.sizes.width, a.sizes.ffn, batch.tokens.len());
        let (places, engine) = (&self.places, &w.engine);
        let mut dx = vec![T::zero(); n * width];
        let mut d_packed = vec![T::zero(); d_head_input.len()];
        normalise_backward(y, &places.final_norm, &w.packed, &w.packed_norm, &d_head_input, &mut d_packed, g);
        for (d, &row) in d_packed.chunks_exact(width).zip(&batch.rows) {
            let at = row as usize * width;
            dx[at..at + width].copy_from_slice(d);
        }
        drop((d_head_input, d_packed));
        let mut d_normed = vec![T::zero(); n * width];
        let mut d_activated = vec![T::zero(); n * ffn];
        let mut d_heads = vec![T::zero(); n * a.query_width()];
        let mut d_qkv = vec![T::zero(); n * a.qkv_width()];
        let lowest = self.lowest_trained(y);
        for (block, kept) in places.blocks.iter().zip(&w.layers).skip(lowest).rev() {
            let c = if w.recompute {
                w.residual.clone_from(&kept.input);
                // the values of the way forward, to the bit
                self.fill_block(y, block, batch, (&mut w.passing, &w.rotary, &mut w.residual), engine);
                &w.passing
            } else {
                kept
            };
            apply_backward(y, &block.down, (&c.activated, &dx), &mut d_activated, g, engine);
            let mut d_up = vec![T::zero(); n * block.up.outputs];
            if a.family.is_gpt2() {
                for ((d, &da), &u) in d_up.iter_mut().zip(&d_activated).zip(&c.up) {
                    *d = da * gelu_derivative(u);
                }
            } else {
                swiglu_backward(ffn, &d_activated, &c.up, &mut d_up);
            }
            apply_backward(y, &block.up, (&c.middle_normed, &d_up), &mut d_normed, g, engine);
            normalise_backward(y, &block.ffn_norm, &c.middle, &c.middle_norm, &d_normed, &mut dx, g);

            apply_backward(y, &block.output, (&c.heads, &dx), &mut d_heads, g, engine);
            d_qkv.fill(T::zero());
            self.attend_backward(batch, c, &d_heads, &mut d_qkv, engine.threads);
            self.turn(&mut d_qkv, batch.positions(), &w.rotary, -T::one());
            apply_backward(y, &block.qkv, (&c.normed, &d_qkv), &mut d_normed, g, engine);
            normalise_backward(y, &block.attention_norm, &c.input, &c.input_norm, &d_normed, &mut dx, g);
        }
        if let Some(place) = y.place(&places.embedding) {
            let de = &mut g[place];
            for (d, &token) in dx.chunks_exact(width).zip(&batch.tokens) {
                add(&mut de[token as usize * width..], d);
            }
        }
        if let Some(place) = places.positions.as_ref().and_then(|positions| y.place(positions)) {
            let dp = &mut g[place];
            for (d, t) in dx.chunks_exact(width).zip(batch.positions()) {
                add(&mut dp[t * width..], d);
            }
        }
    }
}

/// Adds a row to the beginning of a list.
fn add<T: Real>(to: &mut [T], row: &[T]) {
    for (a, &d) in to.iter_mut().zip(row) {
        *a += d;
    }
}

/// The derivative of g·σ(g)·u, with silu'(g) = σ + g σ (1 − σ).
fn swiglu_backward<T: Real>(ffn: usize, d_activated: &[T], gate_up: &[T], d_gate_up: &mut [T]) {
    let rows = d_activated.chunks_exact(ffn).zip(gate_up.chunks_exact(2 * ffn));
    for ((da, gu), dgu) in rows.zip(d_gate_up.chunks_exact_mut(2 * ffn)) {
        let ((gate, up), (d_gate, d_up)) = (gu.split_at(ffn), dgu.split_at_mut(ffn));
        for ((((&da, &a), &u), dg), du) in da.iter().zip(gate).zip(up).zip(d_gate).zip(d_up) {
            let sg = sigmoid(a);
            *dg = da * u * sg * (T::one() + a * (T::one() - sg));
            *du = da * a * sg;
        }
    }
}

/// dx ← dy W; adds the derivatives in the trained ones of weight and bias to `g`.
fn apply_backward<T: Real>(
    y: Weights<T>,
    map: &Affine,
    (x, dy): (&[T], &[T]),
    dx: &mut [T],
    g: &mut [T],
    engine: &Engine,
) {
    let dw = y.place(&map.weight).map(|place| &mut g[place]);
    let shape = (x.len() / map.inputs, map.inputs, map.outputs);
    let mut room = Vec::new();
    let weight = y.get(&map.weight, &mut room);
    linear_backward(engine, (x, weight, dy), Some((&mut *dx, T::zero())), dw, shape);
    if let Some((adapters, list)) = y.adapters() {
        adapters.apply_backward(&map.weight, list, (x, dy), dx, g, engine);
    }
    if let Some(place) = map.bias.as_ref().and_then(|bias| y.place(bias)) {
        add_column_sums(dy, &mut g[place]);
    }
}

/// Adds to `dx`, and the derivatives in the trained ones of weight and bias to `g`.
fn normalise_backward<T: Real>(
    y: Weights<T>,
    norm: &Norm,
    x: &[T],
    cache: &NormCache<T>,
    dy: &[T],
    dx: &mut [T],
    g: &mut [T],
) {
    let mut room = Vec::new();
    let weight = y.get(&norm.weight, &mut room);
    let width = weight.len();
    let mut unused = Vec::new();
    match &norm.bias {
        None => {
            let dw = match y.place(&norm.weight) {
                Some(place) => &mut g[place],
                None => sized(&mut unused, width),
            };
            rms_norm_backward(x, weight, cache, dy, dx, dw);
        }
        Some(bias) => {
            let (dw, db) = sized(&mut unused, 2 * width).split_at_mut(width);
            layer_norm_backward(x, weight, cache, dy, dx, (dw, db));
            for (range, d) in [(&norm.weight, dw), (bias, db)] {
                if let Some(place) = y.place(range) {
                    add(&mut g[place], d);
                }
            }
        }
    }
}
