//! Choosing settings: a grid, then values beyond its edges as long as the best lies at one, the same number of runs
//! for every solver.

use std::collections::BTreeMap;

use toml::Value;

/// Values of the settings that are searched, by dotted key.
pub type Point = BTreeMap<String, Value>;

/// The runs that were made and what they gave; smaller is better, infinite for a run without a number.
#[derive(Clone, Debug, Default)]
pub struct Search {
    tried: Vec<(Point, f64)>,
}

impl Search {
    /// Every point of the grid.
    pub fn grid(values: &BTreeMap<String, Vec<Value>>) -> Vec<Point> {
        values.iter().fold(vec![Point::new()], |points, (key, values)| {
            let with = |point: &Point, value: &Value| {
                let mut point = point.clone();
                point.insert(key.clone(), value.clone());
                point
            };
            points.iter().flat_map(|point| values.iter().map(|value| with(point, value))).collect()
        })
    }

    /// Takes in what a point gave.
    pub fn record(&mut self, point: Point, score: f64) {
        self.tried.push((point, if score.is_nan() { f64::INFINITY } else { score }));
    }

    /// The best point so far, the first of equals; `None` before the first.
    pub fn best(&self) -> Option<&(Point, f64)> {
        self.tried.iter().reduce(|best, next| if next.1 < best.1 { next } else { best })
    }

    /// The points next to the best one that lie beyond what was tried, in every direction in which it is at an edge.
    /// Only keys with at least two positive numbers have directions; a step beyond an edge is as large, in ratio, as the
    /// last one before it.
    pub fn beyond(&self) -> Vec<Point> {
        let Some((best, score)) = self.best() else { return Vec::new() };
        if score.is_infinite() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (key, value) in best {
            let Some(here) = number(value) else { continue };
            // along this key alone: points that agree with the best one elsewhere
            let mut line: Vec<f64> = self
                .tried
                .iter()
                .filter(|(point, _)| point.iter().all(|(k, v)| k == key || best.get(k) == Some(v)))
                .filter_map(|(point, _)| number(&point[key]))
                .collect();
            line.sort_by(f64::total_cmp);
            line.dedup();
            let [first, second, ..] = line[..] else { continue };
            let [.., before, last] = line[..] else { continue };
            let next = if here <= first {
                first * first / second
            } else if here >= last {
                last * last / before
            } else {
                continue;
            };
            let mut point = best.clone();
            let is_whole = value.is_integer();
            if is_whole && (next.round() < 1.0 || next.round() == here) {
                continue;
            }
            let next = if is_whole { Value::Integer(next.round() as i64) } else { Value::Float(next) };
            point.insert(key.clone(), next);
            out.push(point);
        }
        out
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return None,
    };
    (number > 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: f64, kind: &str) -> Point {
        [("step".to_owned(), Value::Float(step)), ("kind".to_owned(), Value::from(kind))].into()
    }

    /// Searches as a bench does: the grid, then beyond its edges, with so many runs in all.
    fn search(score: impl Fn(f64) -> f64, steps: &[f64], runs: usize) -> (f64, usize) {
        let mut search = Search::default();
        let values = [
            ("step".to_owned(), steps.iter().map(|&s| Value::Float(s)).collect()),
            ("kind".to_owned(), vec![Value::from("a"), Value::from("b")]),
        ]
        .into();
        let mut queue = Search::grid(&values);
        let mut made = 0;
        while made < runs {
            if queue.is_empty() {
                queue = search.beyond();
                queue.reverse();
            }
            let Some(next) = queue.pop() else { break };
            let step = next["step"].as_float().unwrap();
            let worse = f64::from(u8::from(next["kind"].as_str() == Some("b")));
            search.record(next, score(step) + worse);
            made += 1;
        }
        (search.best().unwrap().0["step"].as_float().unwrap(), made)
    }

    #[test]
    fn a_best_value_at_an_edge_is_followed_beyond_it() {
        let bowl = |at: f64| move |step: f64| (step / at).ln().powi(2);
        let (best, made) = search(bowl(1e-4), &[0.1, 1.0], 20);
        assert!((best - 1e-4).abs() < 1e-9, "{best}");
        // four of the grid, then 1e-2, 1e-3, 1e-4 and 1e-5, which is worse
        assert_eq!(made, 8);
        let (best, _) = search(bowl(30.0), &[0.1, 1.0], 20);
        assert!((best - 10.0).abs() < 1e-9 || (best - 100.0).abs() < 1e-9, "{best}");
        // inside: nothing beyond
        assert_eq!(search(bowl(1.0), &[0.1, 1.0, 10.0], 20).1, 6);
        // and never more runs than allowed
        assert_eq!(search(bowl(1e-9), &[0.1, 1.0], 6).1, 6);
    }

    #[test]
    fn runs_that_diverge_lose_and_are_not_followed() {
        let mut search = Search::default();
        assert!(search.best().is_none() && search.beyond().is_empty());
        search.record(point(1.0, "a"), f64::NAN);
        assert!(search.beyond().is_empty());
        search.record(point(0.1, "a"), 3.0);
        assert_eq!(search.best().unwrap().0, point(0.1, "a"));
        let beyond = search.beyond();
        assert_eq!(beyond.len(), 1);
        assert!((beyond[0]["step"].as_float().unwrap() - 0.01).abs() < 1e-12);
    }
}
