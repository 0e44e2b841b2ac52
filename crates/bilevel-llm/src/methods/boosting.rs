//! Regression trees, boosted by least squares.

/// A point and its value.
pub type Seen = (Vec<f64>, f64);

/// How trees are grown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Trees at most.
    pub trees: usize,
    /// Share of a tree's prediction that is added (the learning rate), in (0, 1].
    pub rate: f64,
    /// Leaves of a tree at most.
    pub leaves: usize,
    /// Points in a leaf at least.
    pub least: usize,
    /// Trees in a row that may fail to lower the error on the points that judge; then growth ends.
    pub patience: usize,
}

/// f(p) = m + rate · Σ_t T_t(p) with the mean m of the values and regression trees T_t, each grown on what those before it leave of
/// the values: gradient boosting of the squared error (Friedman, doi 10.1214/aos/1013203451, algorithm 2).
///
/// A tree is grown leaf by leaf, always where a split lowers the squared error most, as in `LightGBM`; the value of a leaf is the mean of
/// its points. Where that differs: thresholds are looked for between all neighbouring points instead of between at most 255 bins, and
/// no tree at all is kept where none lowers the error on the points that judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Boosted {
    mean: f64,
    rate: f64,
    trees: Vec<Tree>,
}

impl Boosted {
    /// Fits the points of `train`, and keeps as many trees as have the least squared error on those of `judges`; all of them without
    /// judges. The same points in the same order give the same bits.
    ///
    /// # Panics
    /// When there is nothing to fit.
    pub fn fit(train: &[Seen], judges: &[Seen], growth: Growth) -> Self {
        assert!(!train.is_empty(), "a regression wants points");
        let mean = train.iter().map(|(_, value)| value).sum::<f64>() / train.len() as f64;
        let mut fitted = Self { mean, rate: growth.rate, trees: Vec::new() };
        let rows = sorted(train);
        let mut left: Vec<f64> = train.iter().map(|(_, value)| value - mean).collect();
        let mut judged: Vec<f64> = judges.iter().map(|(_, value)| value - mean).collect();
        let squares = |left: &[f64]| left.iter().map(|r| r * r).sum::<f64>();
        let (mut best, mut least) = (0, squares(&judged));
        while fitted.trees.len() < growth.trees {
            let tree = Tree::grow(train, rows.clone(), &left, growth);
            for (points, left) in [(train, &mut left), (judges, &mut judged)] {
                for ((point, _), left) in points.iter().zip(left) {
                    *left -= growth.rate * tree.at(point);
                }
            }
            fitted.trees.push(tree);
            let error = squares(&judged);
            if judges.is_empty() || error < least {
                (best, least) = (fitted.trees.len(), error);
            } else if fitted.trees.len() - best >= growth.patience {
                break;
            }
        }
        fitted.trees.truncate(best);
        fitted
    }

    /// The prediction at a point.
    pub fn at(&self, point: &[f64]) -> f64 {
        self.mean + self.rate * self.trees.iter().map(|tree| tree.at(point)).sum::<f64>()
    }
}

/// The points in ascending order of each coordinate, by number.
fn sorted(points: &[Seen]) -> Vec<Vec<usize>> {
    (0..points[0].0.len())
        .map(|i| {
            let mut rows: Vec<usize> = (0..points.len()).collect();
            rows.sort_by(|&a, &b| points[a].0[i].total_cmp(&points[b].0[i]));
            rows
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// The mean of its points.
    Leaf(f64),
    /// Two other nodes: for points whose coordinate is at most the threshold, and for those above.
    Split { coordinate: usize, threshold: f64, below: usize, above: usize },
}

/// Nodes, of which the first is the root.
#[derive(Clone, Debug, PartialEq)]
struct Tree(Vec<Node>);

/// A leaf that may be split.
struct Open {
    node: usize,
    /// Its points in ascending order of each coordinate.
    rows: Vec<Vec<usize>>,
    split: Option<Split>,
}

/// The best split of a leaf.
#[derive(Clone, Copy)]
struct Split {
    /// By how much it lowers the sum of squares.
    gain: f64,
    coordinate: usize,
    threshold: f64,
}

impl Tree {
    fn grow(points: &[Seen], rows: Vec<Vec<usize>>, left: &[f64], growth: Growth) -> Self {
        let mean = |rows: &[usize]| rows.iter().map(|&row| left[row]).sum::<f64>() / rows.len() as f64;
        let open = |node: usize, rows: Vec<Vec<usize>>| {
            let split = best_split(points, &rows, left, growth.least);
            Open { node, rows, split }
        };
        let mut nodes = vec![Node::Leaf(mean(&rows[0]))];
        let mut leaves = vec![open(0, rows)];
        while leaves.len() < growth.leaves {
            let gain = |leaf: &Open| leaf.split.map_or(0.0, |split| split.gain);
            // the first of equal ones
            let (mut at, mut most) = (0, 0.0);
            for (i, leaf) in leaves.iter().enumerate() {
                if gain(leaf) > most {
                    (at, most) = (i, gain(leaf));
                }
            }
            let Some(Split { coordinate, threshold, .. }) = leaves[at].split else { break };
            let Open { node, rows, .. } = leaves.swap_remove(at);
            let (below, above): (Vec<Vec<usize>>, Vec<Vec<usize>>) = rows
                .into_iter()
                .map(|rows| rows.into_iter().partition(|&row| points[row].0[coordinate] <= threshold))
                .unzip();
            nodes[node] = Node::Split { coordinate, threshold, below: nodes.len(), above: nodes.len() + 1 };
            for rows in [below, above] {
                nodes.push(Node::Leaf(mean(&rows[0])));
                leaves.push(open(nodes.len() - 1, rows));
            }
        }
        Self(nodes)
    }

    fn at(&self, point: &[f64]) -> f64 {
        let mut node = 0;
        loop {
            match self.0[node] {
                Node::Leaf(value) => return value,
                Node::Split { coordinate, threshold, below, above } => {
                    node = if point[coordinate] <= threshold { below } else { above };
                }
            }
        }
    }
}

/// The split of a leaf that lowers the sum of squares most, the first of equal ones: with sums s, s_b, s_a and numbers n, n_b, n_a of
/// the points in all, below and above, by s_b²/n_b + s_a²/n_a − s²/n. None where no split leaves enough points on both sides and
/// lowers it by more than rounding does.
fn best_split(points: &[Seen], rows: &[Vec<usize>], left: &[f64], least: usize) -> Option<Split> {
    let n = rows[0].len();
    let sum: f64 = rows[0].iter().map(|&row| left[row]).sum();
    let squares: f64 = rows[0].iter().map(|&row| left[row] * left[row]).sum();
    let mut best: Option<Split> = None;
    let mut most = n as f64 * f64::EPSILON * squares;
    for (coordinate, rows) in rows.iter().enumerate() {
        let mut below = 0.0;
        for (count, pair) in (1..).zip(rows.windows(2)) {
            below += left[pair[0]];
            let (low, high) = (points[pair[0]].0[coordinate], points[pair[1]].0[coordinate]);
            if count < least || n - count < least || low >= high {
                continue;
            }
            let above = sum - below;
            let gain =
                below * below / count as f64 + above * above / (n - count) as f64 - sum * sum / n as f64;
            if gain > most {
                most = gain;
                let middle = f64::midpoint(low, high);
                // the middle of neighbouring numbers may be the higher one
                let threshold = if middle < high { middle } else { low };
                best = Some(Split { gain, coordinate, threshold });
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use bilevel::rng::Stream;

    use super::*;

    const ONE: Growth = Growth { trees: 1, rate: 1.0, leaves: 31, least: 1, patience: 3 };

    fn points(count: usize, mut value: impl FnMut(&[f64]) -> f64) -> Vec<Seen> {
        let mut stream = Stream::new(1, 0);
        (0..count)
            .map(|_| {
                let p = vec![stream.uniform(), stream.uniform()];
                let value = value(&p);
                (p, value)
            })
            .collect()
    }

    #[test]
    fn a_tree_with_known_thresholds_is_found() {
        let grid: Vec<Seen> = (0..8)
            .flat_map(|i| (0..8).map(move |j| (f64::from(i), f64::from(j))))
            .map(|(a, b)| {
                let value = match (a > 4.5, b > 1.5) {
                    (false, _) => 10.0,
                    (true, false) => -2.0,
                    (true, true) => 1.0,
                };
                (vec![a, b], value)
            })
            .collect();
        let fitted = Boosted::fit(&grid, &[], ONE);
        let [tree] = &fitted.trees[..] else { panic!("{fitted:?}") };
        let splits: Vec<(usize, f64)> = tree
            .0
            .iter()
            .filter_map(|node| match *node {
                Node::Split { coordinate, threshold, .. } => Some((coordinate, threshold)),
                Node::Leaf(_) => None,
            })
            .collect();
        // three values need two splits, and no rounding makes more of them
        assert_eq!(splits, [(0, 4.5), (1, 1.5)]);
        for (p, value) in &grid {
            assert!((fitted.at(p) - value).abs() < 1e-13, "{p:?}");
        }
        assert!((fitted.at(&[100.0, 1.0]) + 2.0).abs() < 1e-13);
    }

    /// All trees of a step function have the same two leaves, so that each takes the same share of what is left.
    #[test]
    fn boosting_approaches_the_means_geometrically() {
        let seen = points(40, |p| if p[1] > 0.6 { 3.0 } else { -1.0 });
        let mean = seen.iter().map(|(_, value)| value).sum::<f64>() / 40.0;
        for trees in [1, 7, 200] {
            let fitted = Boosted::fit(&seen, &[], Growth { trees, rate: 0.1, leaves: 2, ..ONE });
            let left = 0.9_f64.powf(trees as f64);
            for (p, value) in &seen {
                // 200 sums of terms below 4
                assert!((fitted.at(p) - (value - left * (value - mean))).abs() < 1e-12, "{trees}");
            }
        }
    }

    #[test]
    fn leaves_are_bounded_in_size_and_number() {
        let seen = points(60, |p| (7.0 * p[0]).sin() + p[1]);
        for (leaves, least) in [(31, 20), (31, 7), (4, 1), (1, 1)] {
            let fitted = Boosted::fit(&seen, &[], Growth { leaves, least, ..ONE });
            let mut values: Vec<u64> = seen.iter().map(|(p, _)| fitted.at(p).to_bits()).collect();
            values.sort_unstable();
            let sizes: Vec<usize> = values.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
            assert!(sizes.len() <= leaves && sizes.iter().all(|&size| size >= least), "{sizes:?}");
            assert!(leaves == 1 || sizes.len() > 1, "{sizes:?}");
        }
        // two leaves of 31 are more than 60 points
        let fitted = Boosted::fit(&seen, &[], Growth { least: 31, ..ONE });
        assert_eq!(fitted.trees, [Tree(vec![Node::Leaf(fitted.trees[0].at(&[0.0, 0.0]))])]);
    }

    #[test]
    fn points_that_judge_end_the_growth_where_they_gain_nothing() {
        let mut stream = Stream::new(2, 0);
        let mut noisy = |p: &[f64]| p[0] + stream.uniform() - 0.5;
        let (train, judges) = (points(80, &mut noisy), points(40, &mut noisy));
        let growth = Growth { trees: 1000, rate: 0.1, leaves: 8, least: 2, patience: 3 };
        let fitted = Boosted::fit(&train, &judges, growth);
        let error = |fitted: &Boosted| judges.iter().map(|(p, v)| (fitted.at(p) - v).powi(2)).sum::<f64>();
        let kept = fitted.trees.len();
        assert!((2..500).contains(&kept), "{kept}");
        for trees in [kept - 1, kept + 1, kept + 3] {
            let other = Boosted::fit(&train, &[], Growth { trees, ..growth });
            assert!(error(&fitted) < error(&other), "{trees}");
        }
        assert_eq!(Boosted::fit(&train, &judges, growth), fitted);
        // what is learned of noise alone helps nobody
        let mut noise = |_: &[f64]| stream.uniform();
        let (train, judges) = (points(80, &mut noise), points(4000, &mut noise));
        assert!(Boosted::fit(&train, &judges, Growth { rate: 1.0, ..growth }).trees.is_empty());
    }
}
