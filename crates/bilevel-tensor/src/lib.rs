//! Trees of candle tensors as vectors of `bilevel`, and objectives by automatic differentiation.
