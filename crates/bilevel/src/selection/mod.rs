//! Choosing the point of S(x) at which to differentiate.
