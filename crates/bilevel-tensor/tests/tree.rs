//! Trees of tensors as vectors: the axioms, the files, the serde form.

use bilevel::vector::Vector;
use bilevel_tensor::{TensorError, TensorTree};
use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

fn tensor(values: &[f64], shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Two tensors, 12 entries; "b" comes first though it is given last.
fn tree(values: &[f64], dtype: DType) -> TensorTree {
    TensorTree::new(vec![
        ("w".into(), tensor(&values[2..12], &[2, 5], dtype)),
        ("b".into(), tensor(&values[..2], &[2], dtype)),
    ])
    .unwrap()
}

fn entries() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1e3..1e3, 12)
}

proptest! {
    #[test]
    fn algebra_is_that_of_lists_of_numbers(
        u in entries(), v in entries(), a in -10.0..10.0, single in any::<bool>()
    ) {
        let (dtype, eps) =
            if single { (DType::F32, f64::from(f32::EPSILON)) } else { (DType::F64, f64::EPSILON) };
        let (u, v) = (tree(&u, dtype), tree(&v, dtype));
        let (lu, lv) = (u.coordinates(), v.coordinates());
        // 12 products in f64, each below 1e6
        prop_assert!((u.dot(&v) - lu.dot(&lv)).abs() <= 12.0 * 12.0 * 1e6 * f64::EPSILON);
        prop_assert_eq!(u.dot(&v).to_bits(), v.dot(&u).to_bits());
        // entries of the sum are below 1.1e4 and rounded once to the storage
        prop_assert!(
            u.plus(a, &v).coordinates().iter().zip(lu.plus(a, &lv)).all(|(s, w)| (s - w).abs() <= 1.1e4 * eps)
        );
        prop_assert!(
            u.scaled(a).coordinates().iter().zip(lu.scaled(a)).all(|(s, w)| (s - w).abs() <= 1e4 * eps)
        );
        prop_assert_eq!(u.with_coordinates(&lv).coordinates(), lv);
        prop_assert_eq!(u.plus(-1.0, &u).norm(), 0.0);
        prop_assert_eq!(u.zeros_like().norm(), 0.0);
        prop_assert_eq!((u.dim(), u.zeros_like().dim()), (12, 12));
    }

    #[test]
    fn bytes_and_json_are_exact(u in entries(), single in any::<bool>()) {
        let dtype = if single { DType::F32 } else { DType::F64 };
        let u = tree(&u, dtype);
        let json = serde_json::to_string(&u).unwrap();
        for back in [TensorTree::from_bytes(&u.to_bytes().unwrap()).unwrap(), serde_json::from_str(&json).unwrap()] {
            back.expect_like(&u).unwrap();
            prop_assert_eq!(back.coordinates(), u.coordinates());
            prop_assert_eq!(back.to_bytes().unwrap(), u.to_bytes().unwrap());
        }
    }
}

#[test]
fn what_is_not_a_number_survives_json_and_is_not_finite() {
    let mut values = [0.5; 12];
    (values[0], values[3], values[4]) = (f64::NAN, f64::INFINITY, -0.0);
    let u = tree(&values, DType::F32);
    let back: TensorTree = serde_json::from_str(&serde_json::to_string(&u).unwrap()).unwrap();
    let bits = |u: &TensorTree| u.coordinates().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&u));
    assert!(!u.is_finite());
}

#[test]
fn json_that_was_cut_or_changed_is_refused() {
    let json = serde_json::to_string(&tree(&[1.0; 12], DType::F32)).unwrap();
    let cut = format!("{}\"}}", &json[..json.len() - 12]);
    assert!(serde_json::from_str::<TensorTree>(&cut).is_err());
    let changed = json.replacen(':', ":0,\"extra\":", 1);
    assert!(serde_json::from_str::<TensorTree>(&changed).is_err());
}

#[test]
fn names_are_sorted_and_used_once() {
    let u = tree(&[1.0; 12], DType::F64);
    assert_eq!(u.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "w"]);
    assert!(u.get("b").is_some() && u.get("c").is_none());
    let twice = vec![("a".into(), tensor(&[1.0], &[1], DType::F64)); 2];
    assert!(matches!(TensorTree::new(twice), Err(TensorError::DuplicateName { name }) if name == "a"));
}

#[test]
fn only_real_storage_is_accepted() {
    let ids = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
    let error = TensorTree::new(vec![("ids".into(), ids)]).unwrap_err();
    assert!(
        matches!(&error, TensorError::UnsupportedDType { name, dtype } if name == "ids" && dtype == "u32")
    );
}

#[test]
fn a_tree_does_not_follow_the_variable_it_was_made_of() {
    let var = Var::from_tensor(&tensor(&[1.0, 2.0], &[2], DType::F64)).unwrap();
    let u = TensorTree::new(vec![("a".into(), var.as_tensor().clone())]).unwrap();
    let vars = u.to_vars().unwrap();
    for v in [&var, &vars[0].1] {
        v.set(&tensor(&[5.0, 5.0], &[2], DType::F64)).unwrap();
    }
    assert_eq!(u.coordinates(), [1.0, 2.0]);
}

#[test]
fn a_transposed_view_keeps_its_entries() {
    let view = tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2], DType::F32).t().unwrap();
    let u = TensorTree::new(vec![("a".into(), view)]).unwrap();
    assert_eq!(u.coordinates(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(TensorTree::from_bytes(&u.to_bytes().unwrap()).unwrap().coordinates(), u.coordinates());
}

#[test]
#[should_panic(expected = "sum of trees of different shape: tensor \"a\" is missing")]
fn a_sum_of_different_shapes_panics_with_the_difference() {
    let mut u = TensorTree::new(vec![("a".into(), tensor(&[1.0], &[1], DType::F64))]).unwrap();
    u.axpy(1.0, &TensorTree::new(vec![("b".into(), tensor(&[1.0], &[1], DType::F64))]).unwrap());
}

#[test]
fn a_file_is_read_back_and_checked_against_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("y.safetensors");
    let u = tree(&[0.1; 12], DType::F32);
    u.save(&path).unwrap();
    u.scaled(2.0).save(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    assert_eq!(TensorTree::load_like(&path, &u).unwrap().coordinates(), u.scaled(2.0).coordinates());

    let of = |entries: &[(&str, &[usize], DType)]| {
        let make =
            |&(n, s, d): &(&str, &[usize], DType)| (n.to_owned(), Tensor::zeros(s, d, &Device::Cpu).unwrap());
        TensorTree::new(entries.iter().map(make).collect()).unwrap()
    };
    let refused = |template: &TensorTree| match TensorTree::load_like(&path, template).unwrap_err() {
        TensorError::File { path: named, source } => {
            assert_eq!(named, path);
            *source
        }
        other => panic!("{other}"),
    };
    let (b, w): ((_, &[usize], _), (_, &[usize], _)) = (("b", &[2], DType::F32), ("w", &[2, 5], DType::F32));
    assert!(matches!(refused(&of(&[b])), TensorError::Unexpected { name } if name == "w"));
    assert!(matches!(refused(&of(&[b, w, ("z", &[3], DType::F32)])),
        TensorError::Missing { name, shape } if name == "z" && shape == [3]));
    assert!(matches!(refused(&of(&[b, ("w", &[5, 2], DType::F32)])),
        TensorError::WrongShape { name, expected, found } if name == "w" && expected == [5, 2] && found == [2, 5]));
    assert!(matches!(refused(&of(&[("b", &[2], DType::F64), w])),
        TensorError::WrongDType { name, expected: DType::F64, found: DType::F32 } if name == "b"));
}

#[test]
fn a_file_cut_anywhere_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("y.safetensors");
    let bytes = tree(&[0.1; 12], DType::F32).to_bytes().unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = TensorTree::load(&path).unwrap_err();
        assert!(
            matches!(&error, TensorError::File { source, .. } if matches!(**source, TensorError::Damaged { .. })),
            "{length} of {} bytes: {error}",
            bytes.len()
        );
        assert!(error.to_string().contains("y.safetensors"));
    }
}

#[test]
fn a_path_that_cannot_be_written_or_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent").join("y.safetensors");
    let u = tree(&[0.1; 12], DType::F32);
    for error in [u.save(&path).unwrap_err(), TensorTree::load(&path).unwrap_err()] {
        assert!(matches!(&error, TensorError::Io { path: named, .. } if *named == path), "{error}");
    }
}

#[test]
fn small_terms_are_not_lost_in_a_sum_of_single_precision() {
    // in f32, 2^24 + 1 = 2^24; the products are accumulated in f64
    let mut values = vec![1.0; 1 << 12];
    values[0] = 4096.0;
    let u = TensorTree::new(vec![("a".into(), tensor(&values, &[1 << 12], DType::F32))]).unwrap();
    assert_eq!(u.dot(&u), 4096.0 * 4096.0 + 4095.0);
    assert_eq!(u.to_dtype(DType::F64).unwrap().dot(&u.to_dtype(DType::F64).unwrap()), u.dot(&u));
}
