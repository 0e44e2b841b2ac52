//! The protocols of strengths of regularisation.

use std::path::Path;

use bilevel::{
    ConfigError,
    problems::{Sum, Values, Zoo},
    rng::Stream,
};

use super::{
    fitted::fitted,
    scaling::{Scaling, rescale},
};
use crate::{
    classifier::{Classifier, Examples, Link, split},
    error::{DataError, find},
    libsvm,
    newsgroups::{self, Counting},
    strengths::{Groups, Start, Strengths},
    synthetic, table,
};

pub fn ijcnn1(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    const ROWS: [usize; 2] = [49_990, 91_701];
    const STRENGTHS: u64 = 50;
    let seed = v.whole("seed") as u64;
    let asked = ["train", "validation"].map(|name| v.whole(name));
    let [train, validation] = match data {
        None => {
            let sizes = [0, 1].map(|k| if asked[k] == 0 { ROWS[k] } else { asked[k] });
            split(&synthetic::clusters(sizes.iter().sum(), 22, 2, 3.0, seed), sizes, None)
        }
        Some(folder) => {
            let read = || {
                let remedy = "they are in LIBSVM's collection of two-class sets";
                let train = find(
                    folder,
                    &["ijcnn1", "ijcnn1.bz2", "ijcnn1.gz", "ijcnn1.tr", "ijcnn1.trn.bz2"],
                    remedy,
                )?;
                let test =
                    find(folder, &["ijcnn1.t", "ijcnn1.t.bz2", "ijcnn1.t.gz", "ijcnn1.tst.bz2"], remedy)?;
                libsvm::read(&[&train, &test])
            };
            let sets = read().map_err(|error: DataError| error.of_setting(folder))?;
            let mut sets =
                sets.into_iter().zip(asked).zip(["train", "validation"]).map(|((set, asked), name)| {
                    let there = set.len();
                    ConfigError::require(
                        asked <= there,
                        name,
                        asked,
                        &format!("the file holds {there} examples"),
                    )?;
                    let [set] = split(&set, [if asked == 0 { there } else { asked }], None);
                    Ok(set)
                });
            let mut next = || sets.next().expect("two files were read");
            [next()?, next()?]
        }
    };
    let columns = train.features.columns();
    let mut stream = Stream::new(seed, STRENGTHS);
    // log U(0, 1), as there
    let x = (0..columns).map(|_| stream.uniform().max(f64::MIN_POSITIVE).ln()).collect();
    let sets = [train, validation.clone(), validation];
    let classifier = Classifier::linear(columns, Link::Logistic);
    Ok(Zoo::new(Sum(Strengths::new(classifier, sets, Groups::Feature, 1.0, x, Start::Normal))))
}

pub fn covtype(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    const CLASSES: u32 = 7;
    let seed = v.whole("seed") as u64;
    let rows = v.whole("rows");
    let all = match data {
        None => synthetic::clusters(rows, 54, CLASSES, 4.0, seed),
        Some(folder) => {
            let names =
                ["covtype.data", "covtype.data.gz", "covtype.csv", "covtype.csv.gz", "covtype.csv.bz2"];
            let remedy = "it is in the machine-learning repository of UC Irvine";
            find(folder, &names, remedy)
                .and_then(|path| table::read(&path, CLASSES))
                .map_err(|error| error.of_setting(folder))?
        }
    };
    ConfigError::require(rows <= all.len(), "rows", rows, &format!("the file holds {} examples", all.len()))?;
    // a fifth for the test, a fifth of the rest for validation
    let test = rows / 5;
    let validation = (rows - test) / 5;
    let mut sets = split(&all, [rows - test - validation, validation, test], Some(seed));
    rescale(&mut sets, Scaling::ByPixel);
    let link = Link::Softmax { classes: CLASSES as usize };
    let classifier = Classifier::linear(sets[0].features.columns(), link);
    let x = vec![-2.0; CLASSES as usize];
    Ok(Zoo::new(Sum(Strengths::new(classifier, sets, Groups::Class, 1.0, x, Start::Zero))))
}

pub fn newsgroups(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    const GROUPS: u32 = 20;
    let seed = v.whole("seed") as u64;
    let [training, testing] = match data {
        None => {
            let posts = v.whole("posts");
            split(&synthetic::texts(2 * posts, 2_000, 60, GROUPS, seed), [posts, posts], None)
        }
        Some(folder) => {
            let counting = Counting { min_posts: v.whole("min_posts"), is_idf: v.whole("idf") == 1 };
            newsgroups::read(folder, counting).map_err(|error| error.of_setting(folder))?
        }
    };
    let classes = training.labels.iter().chain(&testing.labels).max().map_or(2, |&last| last as usize + 1);
    let [train, validation] = halves(&training, seed);
    // the other half of the test posts is for choices that this library does not make
    let [test, _] = halves(&testing, seed);
    let columns = train.features.columns();
    let classifier = Classifier::linear(columns, Link::Softmax { classes: classes.max(2) });
    let start = fitted(&classifier, &[&train], v.whole("start_steps"));
    let scale = 1.0 / classifier.dim() as f64;
    let sets = [train, validation, test];
    let problem =
        Strengths::new(classifier, sets, Groups::Feature, scale, vec![0.0; columns], Start::At(start));
    Ok(Zoo::new(Sum(problem)))
}

/// Two halves with equal shares of each class, drawn by a seed.
fn halves(all: &Examples, seed: u64) -> [Examples; 2] {
    const PURPOSE: u64 = 51;
    let mut stream = Stream::new(seed, PURPOSE);
    let mut order: Vec<(u32, f64, usize)> =
        all.labels.iter().enumerate().map(|(row, &label)| (label, stream.uniform(), row)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    [0, 1].map(|half| {
        let rows: Vec<usize> = order.iter().skip(half).step_by(2).map(|(.., row)| *row).collect();
        let labels = rows.iter().map(|&row| all.labels[row]).collect();
        Examples { features: all.features.select(&rows), labels }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_have_equal_shares() {
        let all = synthetic::texts(200, 50, 10, 5, 1);
        let count = |set: &Examples, label| set.labels.iter().filter(|l| **l == label).count();
        let sets = halves(&all, 3);
        for label in 0..5 {
            assert!(count(&sets[0], label).abs_diff(count(&sets[1], label)) <= 1);
        }
        assert_eq!(sets[0].len() + sets[1].len(), 200);
    }
}
