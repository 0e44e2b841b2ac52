//! The problems of this crate by name, with the settings of their sources.

use std::path::Path;

use bilevel::{
    ConfigError, names,
    problems::{Parameter, Parameters, Values, Zoo},
};

use crate::protocols::{cleaning, strengths};

/// One problem.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where its settings are from.
    pub source: &'static str,
    /// Its sizes at the default parameters.
    pub size: &'static str,
    /// What a folder with its data holds.
    pub data: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    build: fn(&Values, Option<&Path>) -> Result<Zoo, ConfigError>,
}

impl Entry {
    /// The problem of the data in a folder; without one, of a stand-in of the same form that is made from the seed.
    ///
    /// # Errors
    /// Unknown parameters, values out of range, a folder whose files are absent, damaged or too small.
    pub fn build(&self, parameters: &Parameters, data: Option<&Path>) -> Result<Zoo, ConfigError> {
        (self.build)(&Values::new(self.name, self.parameters, parameters)?, data)
    }
}

const SEED: Parameter = Parameter::whole("seed", 0.0, 0.0, 9e15, "seed of splits, noise and stand-ins");
const TRAIN: Parameter = Parameter::whole("train", 5_000.0, 1.0, 60_000.0, "training examples");
const VALIDATION: Parameter =
    Parameter::whole("validation", 5_000.0, 1.0, 60_000.0, "clean validation examples");
const TEST: Parameter = Parameter::whole("test", 10_000.0, 1.0, 60_000.0, "test examples");
const NOISE: Parameter =
    Parameter::real("noise", 0.5, 0.0, 1.0, "probability with which a training label is drawn again");
const HIDDEN: Parameter =
    Parameter::whole("hidden", 0.0, 0.0, 10_000.0, "hidden units; 0 for a linear classifier");
const ALWAYS_WRONG: Parameter = Parameter::whole(
    "always_wrong",
    0.0,
    0.0,
    1.0,
    "1 draws among wrong labels; 0 among all, as the released code does",
);
const MNIST: &str = "the four IDX files of MNIST or of a set of that form, plain or .gz";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "hyper-cleaning-pbgd",
        summary: "a weight for each noisy training image; linear or one hidden layer, no ridge (protocol of V-PBGD)",
        source: "released code of V-PBGD, arXiv 2302.05185",
        size: "5000 upper and 7850 lower coordinates",
        data: MNIST,
        parameters: &[TRAIN, VALIDATION, TEST, NOISE, HIDDEN, ALWAYS_WRONG, SEED],
        build: cleaning::pbgd,
    },
    Entry {
        name: "hyper-cleaning-bome",
        summary: "a weight in [0, 1] for each noisy training image, small ridge (protocol of BOME)",
        source: "released code of BOME, arXiv 2209.08709",
        size: "50000 upper and 7840 lower coordinates",
        data: MNIST,
        parameters: &[
            TRAIN.or(50_000.0),
            VALIDATION,
            TEST,
            NOISE,
            Parameter::whole(
                "own_bias",
                0.0,
                0.0,
                1.0,
                "1 adds a bias; 0 takes the last pixel's place for it",
            ),
            Parameter::whole(
                "start_steps",
                200.0,
                0.0,
                100_000.0,
                "gradient steps on all noisy and clean labels before the start",
            ),
            SEED,
        ],
        build: cleaning::bome,
    },
    Entry {
        name: "hyper-cleaning-benchmark",
        summary: "a weight for each noisy training image, ridge 0.2 (protocol of benchmark_bilevel)",
        source: "benchopt/benchmark_bilevel, restated",
        size: "20000 upper and 7840 lower coordinates",
        data: MNIST,
        parameters: &[
            TRAIN.or(20_000.0),
            VALIDATION,
            TEST,
            NOISE,
            Parameter::real("ridge", 0.2, 0.0, 1e6, "weight of |y|² in g"),
            SEED,
        ],
        build: cleaning::benchmark,
    },
    Entry {
        name: "ijcnn1",
        summary: "a strength of regularisation for each feature of a two-class logistic model",
        source: "benchopt/benchmark_bilevel, restated",
        size: "22 upper and 22 lower coordinates",
        data: "ijcnn1 and ijcnn1.t in the format of LIBSVM, plain, .gz or .bz2",
        parameters: &[
            Parameter::whole("train", 0.0, 0.0, 1e7, "training examples; 0 for all"),
            Parameter::whole("validation", 0.0, 0.0, 1e7, "validation examples; 0 for all"),
            SEED,
        ],
        build: strengths::ijcnn1,
    },
    Entry {
        name: "covtype",
        summary: "a strength of regularisation for each of seven classes of a linear model",
        source: "benchopt/benchmark_bilevel, restated",
        size: "7 upper and 378 lower coordinates",
        data: "covtype.data or covtype.csv: 54 numbers and the class 1 to 7, plain, .gz or .bz2",
        parameters: &[
            Parameter::whole("rows", 20_000.0, 100.0, 1e7, "examples in all, drawn by the seed"),
            SEED,
        ],
        build: strengths::covtype,
    },
    Entry {
        name: "newsgroups",
        summary: "a strength of regularisation for each word of a linear model of twenty newsgroups",
        source: "released code of BOME, arXiv 2209.08709",
        size: "a strength for each word, 20 weights for each word",
        data: "20news-bydate.tar.gz",
        parameters: &[
            Parameter::whole("min_posts", 3.0, 1.0, 1e4, "a word counts if so many training posts have it"),
            Parameter::whole("idf", 1.0, 0.0, 1.0, "1 weighs words by their rarity; 0 counts them alone"),
            Parameter::whole(
                "start_steps",
                300.0,
                0.0,
                1e5,
                "accelerated steps without regularisation before the start",
            ),
            Parameter::whole(
                "posts",
                600.0,
                40.0,
                1e5,
                "training posts, and as many test posts, of the stand-in",
            ),
            SEED,
        ],
        build: strengths::newsgroups,
    },
];

/// Every problem.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The names of every problem.
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.name).collect()
}

/// The problem of this name.
///
/// # Errors
/// An unknown name, answered with the nearest one.
pub fn by_name(name: &str) -> Result<&'static Entry, ConfigError> {
    ENTRIES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| names::unknown("problem", name, names(), &names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, f64)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn every_problem_has_a_stand_in() {
        use bilevel::{Objective, Problem, Sample};
        let small: [&[(&str, f64)]; 6] = [
            &[("train", 40.0), ("validation", 30.0), ("test", 20.0)],
            &[("train", 40.0), ("validation", 30.0), ("test", 20.0), ("start_steps", 3.0)],
            &[("train", 40.0), ("validation", 30.0), ("test", 20.0)],
            &[("train", 40.0), ("validation", 30.0)],
            &[("rows", 200.0)],
            &[("posts", 60.0), ("start_steps", 3.0)],
        ];
        let dims = [(40, 7850), (40, 7840), (40, 7840), (22, 22), (7, 378), (2000, 40_000)];
        for ((entry, small), dims) in entries().iter().zip(small).zip(dims) {
            let zoo = entry.build(&parameters(small), None).unwrap();
            assert_eq!(zoo.dims(), dims, "{}", entry.name);
            let (x, y) = zoo.start(1);
            let slope = |zoo: &Zoo| zoo.lower().grad_y(&x, &y, Sample::Full).unwrap();
            let first = slope(&zoo);
            assert!(first.iter().all(|g| g.is_finite()));
            assert!(zoo.lower().n_samples().unwrap() > 20);
            assert!(zoo.formulas().metrics(&x, &y).iter().any(|(name, _)| *name == "accuracy"));
            // the same seed, the same problem; another, another
            let again = entry.build(&parameters(small), None).unwrap();
            assert_eq!(slope(&again), first);
            let mut other = parameters(small);
            other.insert("seed".into(), 1.0);
            let other = entry.build(&other, None).unwrap();
            assert_ne!(slope(&other), first, "{}", entry.name);
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        let pbgd = by_name("hyper-cleaning-pbgd").unwrap();
        let error = pbgd.build(&parameters(&[("trian", 3.0)]), None).unwrap_err();
        assert!(error.to_string().starts_with("trian = 3 is not allowed"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = pbgd.build(&Parameters::new(), Some(empty.path())).unwrap_err();
        assert!(error.field == "data" && error.to_string().contains("train-images-idx3-ubyte"), "{error}");
        for name in ["ijcnn1", "covtype", "newsgroups"] {
            let error = by_name(name).unwrap().build(&Parameters::new(), Some(empty.path())).unwrap_err();
            assert_eq!(error.field, "data");
        }
        assert!(by_name("ijcn1").unwrap_err().to_string().contains("did you mean ijcnn1?"));
    }
}
