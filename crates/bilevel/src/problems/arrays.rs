//! The data of an instance, so that the same instance can be stated in other software.

/// One array of an instance's data, by name; those of one level begin with `upper_` or `lower_`.
#[derive(Clone, Debug, PartialEq)]
pub struct DataArray {
    /// Its name.
    pub name: String,
    /// Its lengths, outermost first.
    pub shape: Vec<usize>,
    /// Its entries, the last index fastest.
    pub entries: Vec<f64>,
}

impl DataArray {
    /// An array of this shape.
    ///
    /// # Panics
    /// Another number of entries than the shape has.
    pub fn new(name: impl Into<String>, shape: &[usize], entries: impl Into<Vec<f64>>) -> Self {
        let (name, entries) = (name.into(), entries.into());
        assert_eq!(shape.iter().product::<usize>(), entries.len(), "{name}: entries of shape {shape:?}");
        Self { name, shape: shape.to_vec(), entries }
    }
}
