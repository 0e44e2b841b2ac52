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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{Formulas, Sum, Zoo, quadratics, rotating_manifold::RotatingManifold};

    fn named<'a>(arrays: &'a [DataArray], name: &str) -> &'a DataArray {
        arrays.iter().find(|array| array.name == name).unwrap()
    }

    #[test]
    fn the_rotating_manifold_can_be_stated_again_from_its_arrays() {
        let form = RotatingManifold::small(3);
        let arrays = form.arrays();
        let (x, y) = (form.default_x(), form.start_y(&[], 3));
        let (base, turns) = (named(&arrays, "base"), named(&arrays, "turns"));
        assert_eq!((&base.shape[..], &turns.shape[..]), (&[5, 10][..], &[3, 5, 10][..]));
        let mut g = 0.0;
        for row in 0..5 {
            let entry = |j: usize| {
                let at = row * 10 + j;
                base.entries[at] + (0..3).map(|k| x[k] * turns.entries[k * 50 + at]).sum::<f64>()
            };
            let sum: f64 = (0..10).map(|j| entry(j) * y[j]).sum();
            g += 0.5 * (sum - named(&arrays, "labels").entries[row]).powi(2);
        }
        // sums of ten products of numbers of order one
        assert!((g - form.g(&x, &y)).abs() < 1e-13 * (1.0 + g));
    }

    #[test]
    fn quadratics_tell_every_factor_of_every_term() {
        let sizes = quadratics::Sizes {
            m: 2,
            d: 3,
            upper: 8,
            lower: 12,
            mu: 0.5,
            smoothness: 1.0,
            cross: 0.1,
            seed: 0,
        };
        let zoo = Zoo::new(Sum(quadratics::Quadratics::new(sizes).unwrap()));
        let arrays = zoo.formulas().arrays();
        assert_eq!(arrays.len(), 12);
        // at x = 0, y = 0 the gradients are the means of a_i and b_i
        let mean = |name: &str, columns: usize| -> Vec<f64> {
            let array = named(&arrays, name);
            let rows = array.shape[0] as f64;
            (0..columns).map(|j| array.entries.iter().skip(j).step_by(columns).sum::<f64>() / rows).collect()
        };
        let near = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13);
        let (x, y) = (vec![0.0; 2], vec![0.0; 3]);
        assert!(near(zoo.formulas().f_grad_y(&x, &y), mean("upper_a", 3)));
        assert!(near(zoo.formulas().g_grad_x(&x, &y), mean("lower_b", 2)));
    }

    #[test]
    #[should_panic(expected = "entries of shape [2, 2]")]
    fn another_number_of_entries_is_a_bug() {
        DataArray::new("a", &[2, 2], vec![1.0]);
    }
}
