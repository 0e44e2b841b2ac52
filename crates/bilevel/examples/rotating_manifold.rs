//! A hypergradient where the set of lower solutions turns with x, against its closed form.
//!
//! g = ½|A(x) y − b|² has an affine set of minimisers that turns with x. Two lawful hypergradients exist: that of the
//! point of S(x) nearest to the target (the optimistic selection), and that of the point where a landing from the start
//! stays (the selected one). Each is right for its own rule and wrong for the other.
//!
//! ```text
//! cargo run --release --example rotating_manifold            5 equations in 10 unknowns, 3 upper variables
//! cargo run --release --example rotating_manifold -- large   200 × 1,000, 20 upper variables
//! ```

use bilevel::{
    Oracles, Vector,
    problems::{Formulas, Zoo, rotating_manifold::RotatingManifold},
    rng::Stream,
    solvers::hg_ms::{Exploration, HgMs, Target},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = 1;
    let build = match std::env::args().nth(1).as_deref() {
        None | Some("small") => RotatingManifold::small,
        Some("large") => RotatingManifold::large,
        Some(other) => return Err(format!("size {other} is not known: give small or large").into()),
    };
    let closed_form = build(seed);
    let x = closed_form.default_x();
    let start = closed_form.start_y(&x, seed);
    let optimistic = closed_form.known(&x).ok_or("A(x) has no full row rank here")?;
    let optimistic_gradient = optimistic.gradient.ok_or("F is smooth wherever A(x) has full row rank")?;
    let problem = Zoo::new(build(seed));

    for target in [Target::Optimistic, Target::Selected] {
        let settings = HgMs { target, ..HgMs::default() };
        let oracles = Oracles::new(&problem);
        let mut stream = Stream::new(seed, 0);
        let found = settings.evaluate(
            &oracles,
            &x,
            std::slice::from_ref(&start),
            Exploration::None,
            &mut stream,
            None,
        )?;
        let (Some(value), Some(gradient), Some(y)) = (found.value(), found.gradient(), found.selection())
        else {
            return Err(format!("no hypergradient was found\n{}", found.certificate).into());
        };
        let (expected_value, expected) = match target {
            Target::Selected => {
                let kept = closed_form.selected(&x, y).ok_or("A(x) has no full row rank here")?;
                (kept.value, kept.gradient)
            }
            _ => (optimistic.value, optimistic_gradient.clone()),
        };
        println!("{target:?} selection");
        println!("  F                    {value:.12}   closed form {expected_value:.12}");
        println!("  relative error of ∇F {:.3e}", gradient.distance(&expected) / expected.norm());
        println!(
            "  against the optimistic closed form {:.3e}",
            gradient.distance(&optimistic_gradient) / optimistic_gradient.norm()
        );
        println!("  oracle calls         {}", oracles.counts().calls());
        println!("{}", found.certificate);
    }
    Ok(())
}
