//! The cost of HG-MS follows the dimension k of the solution set, not the dimension d of the lower variable.
//!
//! The lower solutions of the zoo's torus are k circles in d dimensions, with 2ᵏ local minimisers of f on them. Each run
//! starts in the wrong half of every circle, applies the Hessian only as products, explores, and ends at the minimiser
//! of F; the table shows its oracle calls of all kinds.
//!
//! ```text
//! cargo run --release --example torus            k up to 3, d up to 2,000
//! cargo run --release --example torus -- 4 10000
//! ```

use bilevel::{
    Budget, Run,
    problems::{Zoo, torus::Torus},
    selection::geometry::Factorise,
    solvers::hg_ms::HgMs,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let max_k: usize = arguments.next().map_or(Ok(3), |k| k.parse())?;
    let max_d: usize = arguments.next().map_or(Ok(2_000), |d| d.parse())?;

    let mut solver = HgMs::default();
    solver.rank.factorise = Factorise::MatrixFree;

    println!("  k       d  steps  oracle calls  true |dF| at the end  status");
    for k in 1..=max_k {
        for d in [20, 200, 2_000, 10_000].into_iter().filter(|&d| d <= max_d) {
            // the padding adds ½|W x|², which grows with d; so does the anchor, to keep F equally well conditioned
            let torus = Torus::square_quadratic(k, d - 2 * k);
            let x = vec![0.5; k];
            let start: Vec<f64> = torus.branch(&x, &vec![1.0; k]).point.iter().map(|y| y + 0.05).collect();
            let problem = Zoo::new(torus).anchored(3.0 + d as f64, vec![1.0; k]);
            let report = Run::new(&problem, &solver).budget(Budget::steps(100)).start_from(x, start, 5)?;
            let known =
                problem.known(&report.x).and_then(|known| known.gradient).ok_or("the run ended on a kink")?;
            let slope = known.iter().map(|g| g * g).sum::<f64>().sqrt();
            println!(
                "{k:>3} {d:>7} {:>6} {:>13} {slope:>21.1e}  {}",
                report.steps,
                report.counts.calls(),
                report.status.name()
            );
        }
    }
    Ok(())
}
