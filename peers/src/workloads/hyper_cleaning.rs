//! Hyper-cleaning as benchmark_bilevel states it: 20,000 training and 5,000 validation images of 784 pixels, ten classes.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use serde_json::json;

use super::{case, command};
use crate::workload::{Variant, Workload};

/// The least ratio that is aimed at.
const AIM: f64 = 5.0;

/// The workload, on the files of MNIST in a folder or on images that are made.
pub fn workload(data: Option<&Path>) -> Result<Workload> {
    let constants = json!({"classes": 10, "ridge": 0.2});
    let none = json!({});
    let indices = Variant::both(["JAX, f64", "JAX, f32"], "indices", &none);
    let blocks = Variant::both(["JAX, blocks, f64", "JAX, blocks, f32"], "blocks", &none);
    let gathered = [indices.clone(), blocks].concat();
    let images = if data.is_some() { "images of MNIST" } else { "made images" };
    let constant = json!({"step_x": 0.01, "step_y": 0.01, "step_v": 0.01});
    Ok(Workload {
        name: "hyper-cleaning",
        title: format!(
            "hyper-cleaning of 20,000 {images} of 784 pixels by 5,000, half of the labels drawn again, ridge 0.2, batches of 64"
        ),
        problem: bilevel_data::by_name("hyper-cleaning-benchmark")?.build(&BTreeMap::new(), data)?,
        constants,
        cases: vec![
            case("soba", constant.clone(), 128, 64, &gathered, Some(AIM)),
            case("saba", constant, 128, 64, &indices, Some(AIM)),
            case("f2sa", none, 16, 64, &gathered, Some(AIM)),
        ],
        implicit: Vec::new(),
        command: Some(command("hyper-cleaning-benchmark", data)),
    })
}
