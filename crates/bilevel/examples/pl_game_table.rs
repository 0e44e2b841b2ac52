//! The implicit rows of the reference table on the PŁ game V2 (d 50, l 40), one instance after the other.
//!
//! ```text
//! cargo run --release --example pl_game_table -- 0 2 34
//! ```
//!
//! Columns: |∇F_n| and |∇φ| after 20 000 steps (60 000 in the last row), |v|. `residual-corrected` descends φ, the others F_n.

use bilevel::{
    Budget, Run, Solver,
    linear::{AnyLinear, lsmr::Lsmr},
    problems::{self, Zoo},
    solvers::{
        adapag::Adapag,
        ba::{Ba, Growth},
        galet::Galet,
        hjfbio::{Hjfbio, Projections},
        implicit::{Clip, Direction, VStart},
        lancbio::Lancbio,
        mgbio::Mgbio,
        residual_corrected::ResidualCorrected,
        soba::Soba,
        subbio::Subbio,
    },
};

fn row<S: Solver<Zoo>>(zoo: &Zoo, what: &str, steps: u64, solver: &S) {
    let budget = Budget { steps: Some(steps), ..Budget::default() };
    let report = Run::new(zoo, solver).budget(budget).start(0).expect("the settings are allowed");
    let norms = zoo.gradient_norms(&report.x, &report.y);
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2e}"));
    let extras = report.last.map(|info| info.extras).unwrap_or_default();
    let v = extras.iter().find(|(name, _)| name == "v_norm").map(|(_, value)| *value);
    println!(
        "{what:44} {:>9} {:>9} {:>9}  {:.1} s",
        number(norms.selected),
        number(norms.optimistic),
        number(v),
        report.wall.as_secs_f64()
    );
}

fn main() {
    let mut seeds: Vec<f64> = std::env::args().skip(1).filter_map(|seed| seed.parse().ok()).collect();
    if seeds.is_empty() {
        seeds = vec![0.0];
    }
    for seed in seeds {
        let zoo = problems::by_name("pl-game-v2", &[("seed".to_owned(), seed)].into())
            .expect("an instance that passes the checks");
        println!("seed {seed}");
        let step_x = 0.01;
        let linear = AnyLinear::Lsmr(Lsmr { tolerance: 1e-8, ..Lsmr::default() });
        let ba = Ba {
            step_x,
            step_y: 0.1,
            growth: Growth::Constant,
            linear,
            v_start: VStart::Warm,
            ..Ba::default()
        };
        row(&zoo, "ba T 10", 20_000, &ba);
        let mgbio = Mgbio { step_x, step_y: 0.1, mu: 0.1, smoothness: 2.0, ..Mgbio::default() };
        row(&zoo, "mgbio clip [.1, 2]", 20_000, &mgbio);
        row(&zoo, "mgbio clip [.2, 2]", 20_000, &Mgbio { mu: 0.2, ..mgbio.clone() });
        row(&zoo, "mgbio non-zero [1e-3, 2]", 20_000, &Mgbio { mu: 1e-3, clip: Clip::NonZero, ..mgbio });
        let adapag = Adapag { step_x, step_y: 0.05, mu: 0.1, smoothness: 2.0, ..Adapag::default() };
        row(&zoo, "adapag", 20_000, &adapag);
        let hjfbio = Hjfbio { step_x, ..Hjfbio::default() };
        let free = Hjfbio { projections: Some(Projections::None), ..hjfbio.clone() };
        row(&zoo, "hjfbio, no ball", 20_000, &free);
        for v_radius in [50.0, 20.0, 10.0, 5.0] {
            row(&zoo, &format!("hjfbio, r_v {v_radius}"), 20_000, &Hjfbio { v_radius, ..hjfbio.clone() });
        }
        let clipped = Hjfbio { v_radius: 10.0, hvp_radius: Some(1.0), ..hjfbio.clone() };
        row(&zoo, "hjfbio, r_v 10, r_h 1", 20_000, &clipped);
        let least = Hjfbio { direction: Direction::LeastSquares, step_v: 0.5, v_radius: 50.0, ..hjfbio };
        row(&zoo, "hjfbio least-squares, r_v 50", 20_000, &least);
        let galet = Galet { step_x, ..Galet::default() };
        row(&zoo, "galet cold", 20_000, &galet);
        row(&zoo, "galet warm", 20_000, &Galet { v_start: VStart::Warm, ..galet });
        let soba = Soba { step_x, decay: 0.0, ..Soba::default() };
        row(&zoo, "soba", 20_000, &soba);
        row(&zoo, "lancbio", 20_000, &Lancbio { step_x, max_subspace: 10, ..Lancbio::default() });
        row(&zoo, "subbio", 20_000, &Subbio { step_x, ..Subbio::default() });
        let corrected = ResidualCorrected { step_x, ..ResidualCorrected::default() };
        row(&zoo, "residual-corrected", 20_000, &corrected);
        row(&zoo, "residual-corrected", 60_000, &corrected);
    }
}
