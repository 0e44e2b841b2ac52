//! HG-MS on a 784-256-10 network that interpolates 500 images of Fashion-MNIST, without factorising its Hessian.
//!
//! ```text
//! cargo run --release -p bilevel-tensor --example network -- [IMAGES] [f64|f32] [VALIDATION WEIGHT] [OUTPUT SCALE]
//! ```
//!
//! Without arguments: 500 images, f64, no validation loss, outputs times 10. What to expect is in `experiments/network.md`.

use std::time::Instant;

use bilevel::{
    Objective, Oracles, Problem, Sample,
    rng::Stream,
    selection::{
        geometry::{Factorise, Rank},
        land::Land,
        refine::Refine,
    },
    solvers::hg_ms::{Exploration, HgMs},
    vector::Vector,
};
use bilevel_tensor::{
    Images, Network, NetworkSettings, TensorTree,
    images::{ImagesError, Part},
};
use candle_core::DType;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count: usize = arguments.first().map_or(Ok(500), |a| a.parse())?;
    let dtype = if arguments.get(1).is_some_and(|a| a == "f32") { DType::F32 } else { DType::F64 };
    let weight: f64 = arguments.get(2).map_or(Ok(0.0), |a| a.parse())?;

    let output_scale: f64 = arguments.get(3).map_or(Ok(10.0), |a| a.parse())?;

    let (training, validation) = match Images::fashion_mnist(Part::Train, None) {
        Ok(images) => (images.take(count), Images::fashion_mnist(Part::Test, None)?.take(count)),
        Err(absent @ ImagesError::Absent { .. }) => {
            println!("{absent}. Going on with synthetic images of the same shape.");
            let images = Images::synthetic(2 * count, 28, 0);
            (images.clone().take(count), images.skip(count))
        }
        Err(other) => return Err(other.into()),
    };
    let settings = NetworkSettings { dtype, validation: weight, output_scale, ..NetworkSettings::default() };
    // three labels in ten are wrong: the codes have something to correct
    let network = Network::new(&training.with_label_noise(0.3, 0), &validation, settings)?;
    let (x, y) = network.start(0);
    println!(
        "dim x = {}, dim y = {}, dim S(x) = {} if the outputs are independent",
        x.dim(),
        y.dim(),
        network.kernel_dim()
    );

    // f32 knows ∇_y g to about 1e-7 of the residual's scale, f64 to 1e-16
    let (tol_land, tol_solve, tol_refine) =
        if dtype == DType::F64 { (1e-9, 1e-11, 1e-6) } else { (1e-6, 1e-5, 1e-4) };
    let solver = HgMs {
        land: Land { tol: tol_land, ..Land::default() },
        refine: Refine { tol: tol_refine, ..Refine::default() },
        rank: Rank { factorise: Factorise::MatrixFree, tol_solve, probes: 1, ..Rank::default() },
        ..HgMs::default()
    };
    let clock = Instant::now();
    let landed = network.interpolate(&x, &y, if dtype == DType::F64 { 1e-20 } else { 1e-11 }, 60)?;
    println!(
        "interpolated to g = {:.2e} in {:.1} s",
        network.lower().value(&x, &landed, Sample::Full)?,
        clock.elapsed().as_secs_f64()
    );
    let evaluate = |x: &TensorTree, seed: &TensorTree| {
        let (clock, oracles) = (Instant::now(), Oracles::new(&network));
        let found = solver.evaluate(
            &oracles,
            x,
            std::slice::from_ref(seed),
            Exploration::None,
            &mut Stream::new(0, 0),
            None,
        );
        found.map(|found| (found, oracles.counts(), clock.elapsed().as_secs_f64()))
    };
    let (found, counts, seconds) = evaluate(&x, &landed)?;
    println!("{seconds:.1} s, {counts:?}");
    print!("{}", found.certificate);
    let (Some(value), Some(gradient), Some(selection)) = (found.value(), found.gradient(), found.selection())
    else {
        return Err("no point of S(x) was reached".into());
    };
    let point = &found.branches[0].point;
    println!("F = {value:.9}, |∇F| = {:.6e}", gradient.norm());
    println!("|∇_y g| = {:.2e}, |P∇_y f| = {:.2e}", point.g_y.norm(), point.tangent.norm());
    println!(
        "g = {:.2e}, c = {:.2e}, ‖H‖ = {:.2e}",
        network.lower().value(&x, selection, Sample::Full)?,
        point.geometry.range_min,
        point.geometry.norm
    );
    println!(
        "validation accuracy {:.3} at y0, {:.3} at the selection",
        network.accuracy(&y)?,
        network.accuracy(selection)?
    );

    let direction = gradient.scaled(1.0 / gradient.norm());
    let h = if dtype == DType::F64 { 1e-3 } else { 2e-2 };
    let mut values = [0.0; 2];
    for (value, sign) in values.iter_mut().zip([1.0, -1.0]) {
        let (found, _, seconds) = evaluate(&x.plus(sign * h, &direction), selection)?;
        *value = found.value().ok_or("no point of S(x) was reached beside x")?;
        println!("F at x {}h: {:.9} ({seconds:.1} s)", if sign > 0.0 { '+' } else { '-' }, *value);
    }
    let difference = (values[0] - values[1]) / (2.0 * h);
    println!(
        "along ∇F/|∇F|: hypergradient {:.6e}, difference of F re-solved {difference:.6e}, relative error {:.1e}",
        gradient.norm(),
        (difference / gradient.norm() - 1.0).abs()
    );
    if let Some(peak) = peak_memory() {
        // reverse mode through K steps of gradient descent keeps y and the activations of every step
        let bytes = dtype.size_in_bytes();
        let step = (y.dim() + 2 * count * settings.hidden + 2 * count * 10) * bytes;
        println!(
            "peak memory {:.0} MB; an unrolled run keeps {:.1} MB a step, {:.0} MB for 1,000 steps",
            peak / 1e6,
            step as f64 / 1e6,
            step as f64 / 1e3
        );
    }
    Ok(())
}

/// Largest resident size so far in bytes, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}
