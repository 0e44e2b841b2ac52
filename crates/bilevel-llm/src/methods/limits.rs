//! How large a weight may be: `reweight.cap` and `reweight.max_epochs`.

use bilevel::ConfigError;

use crate::recipe::Recipe;

/// Largest weight of each of the sources with these numbers of tokens; `None` when the recipe sets no bound.
///
/// With weight p_i, training on the whole budget by sampling makes p_i B/(c n_i) passes over source i of n_i tokens, where B is the budget
/// and c what a training token costs; so p_i ≤ e c n_i/B for at most e passes.
pub fn limits(recipe: &Recipe, tokens: &[u64]) -> Option<Vec<f64>> {
    let spec = &recipe.reweight;
    if spec.cap.is_none() && spec.max_epochs.is_none() {
        return None;
    }
    Some(at_epochs(recipe, tokens, spec.max_epochs))
}

fn at_epochs(recipe: &Recipe, tokens: &[u64], epochs: Option<f64>) -> Vec<f64> {
    let cap = recipe.reweight.cap.unwrap_or(1.0);
    let trained = recipe.run.budget as f64 / recipe.ledger.training;
    let of = |&n: &u64| epochs.map_or(cap, |epochs| cap.min(epochs * n as f64 / trained));
    tokens.iter().map(of).collect()
}

/// Refuses a bound on passes under which no weights sum to one.
///
/// # Errors
/// With the least bound that the sources allow.
pub fn require_room(recipe: &Recipe, tokens: &[u64]) -> Result<(), ConfigError> {
    let Some(epochs) = recipe.reweight.max_epochs else { return Ok(()) };
    let room = |epochs: f64| at_epochs(recipe, tokens, Some(epochs)).iter().sum::<f64>();
    if room(epochs) >= 1.0 {
        return Ok(());
    }
    // the room grows with the bound, and a cap of at least 1/K leaves enough of it in the end
    let (mut low, mut high) = (epochs, 2.0 * epochs);
    while room(high) < 1.0 - 1e-12 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if room(middle) < 1.0 { low = middle } else { high = middle }
    }
    // rounded up, so that the number which is named will do
    let needed = (high * 1000.0).ceil() / 1000.0;
    Err(ConfigError::new(
        "reweight.max_epochs",
        epochs,
        format!(
            "all sources together do not fill the budget with so few passes; at least {needed}, a smaller run.budget, or more data"
        ),
    ))
}

/// The weights nearest to p (in relative entropy) of which none is above its limit: what is cut off goes to the others in proportion.
/// Sources without weight get a share, by their limits, only when all others are full.
pub fn within(mut p: Vec<f64>, limits: Option<&[f64]>) -> Vec<f64> {
    let Some(limits) = limits else { return p };
    let mut is_full = vec![false; p.len()];
    // each pass fills at least one more source
    while let Some(i) = (0..p.len()).find(|&i| !is_full[i] && p[i] > limits[i]) {
        is_full[i] = true;
        p[i] = limits[i];
        let sum = |of: &[f64], full: bool| -> f64 {
            of.iter().zip(&is_full).filter(|(_, f)| **f == full).map(|(a, _)| a).sum()
        };
        let room = (1.0 - sum(limits, true)).max(0.0);
        let (rest, limit) = (sum(&p, false), sum(limits, false));
        for (i, p) in p.iter_mut().enumerate().filter(|(i, _)| !is_full[*i]) {
            *p = if rest > 0.0 { *p * room / rest } else { limits[i] * room / limit.max(f64::MIN_POSITIVE) };
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14)
    }

    #[test]
    fn what_is_cut_off_goes_to_the_others_in_proportion() {
        let p = vec![0.6, 0.3, 0.1];
        assert_eq!(within(p.clone(), None), p);
        assert_eq!(within(p.clone(), Some(&[0.6, 0.5, 0.5])), p);
        // 0.1 is left to 3 : 1
        assert!(near(&within(p.clone(), Some(&[0.5, 1.0, 1.0])), &[0.5, 0.375, 0.125]));
        // the second overflows by what it gets from the first
        assert!(near(&within(p.clone(), Some(&[0.5, 0.35, 1.0])), &[0.5, 0.35, 0.15]));
        // one source takes all, and has to give to others that have nothing
        assert!(near(&within(vec![1.0, 0.0, 0.0], Some(&[0.4, 0.9, 0.3])), &[0.4, 0.45, 0.15]));
        assert!(near(&within(p, Some(&[1.0 / 3.0; 3])), &[1.0 / 3.0; 3]));
    }
}
