//! Cost of a whole HG-MS run on the torus, in oracle calls: it follows the dimension k of S(x), not the dimension d of y.
//!
//! `cargo bench -p bilevel --bench torus_cost` prints the table and writes the plot to `experiments/torus_cost.svg`;
//! with `-- --smoke` only the smallest rows are run. Every run must end in the right branch.

use bilevel::{
    Oracles, Solver, Status, Vector,
    problems::{Zoo, torus::Torus},
    selection::geometry::Factorise,
    solvers::hg_ms::{HgMs, HgMsState},
};
use plotters::prelude::*;

/// How a run ended, the true |∇F| there, and what it cost.
struct Outcome {
    k: usize,
    d: usize,
    status: Status,
    gradient: f64,
    steps: u64,
    calls: u64,
    walks: u32,
}

/// From the all-wrong branch, 0.05 off S(x), without factorising anything.
fn run(k: usize, d: usize) -> Outcome {
    // the weight of the anchor grows with the padding, whose part of F is ½|W x|²
    let problem = Zoo::new(Torus::square_quadratic(k, d - 2 * k)).anchored(3.0 + d as f64, vec![1.0; k]);
    let mut solver = HgMs::default();
    solver.rank.factorise = Factorise::MatrixFree;
    let oracles = Oracles::new(&problem);
    let y = (0..d).map(|j| if j < 2 * k && j % 2 == 0 { 1.05_f64.sqrt() + 0.05 } else { 0.05 }).collect();
    let mut state = HgMsState::new(vec![0.5; k], vec![y], 5);
    let mut steps = 0;
    let status = loop {
        steps += 1;
        let info = solver.step(&oracles, &mut state).expect("the zoo's oracles do not fail");
        if let Some(end) = info.end {
            break end;
        }
    };
    let gradient = problem.known(&state.x).and_then(|known| known.gradient).map_or(f64::NAN, |g| g.norm());
    let walks = solver.explore.walks(k as f64, true);
    Outcome { k, d, status, gradient, steps, calls: oracles.counts().calls(), walks }
}

fn draw(rows: &[Outcome], path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (720, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = rows.iter().map(|row| row.calls).max().unwrap_or(1) as f64;
    let lowest = rows.iter().map(|row| row.calls).min().unwrap_or(1) as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption("HG-MS on the torus: oracle calls of a whole run", ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d((10.0..20_000.0).log_scale(), (0.5 * lowest..2.0 * highest).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("dimension d of y")
        .y_desc("oracle calls to |∇F| ≤ 1e-6")
        .light_line_style(WHITE)
        .draw()?;
    // Okabe and Ito's palette, told apart by every kind of colour vision
    let palette =
        [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
    for (k, colour) in (1..=4).zip(palette) {
        let points: Vec<(f64, f64)> =
            rows.iter().filter(|row| row.k == k).map(|row| (row.d as f64, row.calls as f64)).collect();
        let Some(&last) = points.last() else { continue };
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, colour.filled())))?;
        chart.draw_series(std::iter::once(Text::new(
            format!("k = {k}"),
            (last.0 * 1.12, last.1 * 1.08),
            ("sans-serif", 14).into_font().color(&colour),
        )))?;
    }
    root.present()?;
    Ok(())
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let dims: &[usize] = if smoke { &[20, 200] } else { &[20, 100, 1_000, 10_000] };
    let largest_k = if smoke { 2 } else { 4 };
    let mut rows = vec![];
    println!("{:>2} {:>6} {:>6} {:>6} {:>9}  {:>9}  end", "k", "d", "walks", "steps", "calls", "true |dF|");
    for k in 1..=largest_k {
        for &d in dims {
            let row = run(k, d);
            println!(
                "{:>2} {:>6} {:>6} {:>6} {:>9}  {:>9.1e}  {}",
                row.k, row.d, row.walks, row.steps, row.calls, row.gradient, row.status
            );
            assert_eq!(row.status, Status::Converged);
            assert!(row.gradient < 1e-4, "a wrong branch");
            rows.push(row);
        }
    }
    if !smoke {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        std::fs::create_dir_all(&folder).expect("the folder of experiments");
        draw(&rows, &folder.join("torus_cost.svg")).expect("the plot is written");
    }
}
