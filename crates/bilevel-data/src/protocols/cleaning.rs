//! The protocols of hyper-cleaning.

use std::path::Path;

use bilevel::{
    ConfigError,
    problems::{Sum, Values, Zoo},
};

use super::{
    fitted::fitted,
    scaling::{Scaling, dense, rescale},
};
use crate::{
    classifier::{Classifier, Examples, Link, split},
    cleaning::{HyperCleaning, LowerStart, Polluted, Weighting, pollute},
    error::DataError,
    features::{Dense, Features},
    images::{CLASSES, Images, Part},
};

fn examples(images: &Images) -> Examples {
    let labels = images.labels.iter().map(|&label| u32::from(label)).collect();
    let entries = images.pixels.iter().map(|&p| f64::from(p)).collect();
    Examples { features: Features::Dense(Dense { columns: images.size, entries }), labels }
}

/// Training, validation and test images: the first two drawn from the training part, the test images from it too, or from
/// the test part.
fn images(
    v: &Values,
    data: Option<&Path>,
    has_test_part: bool,
    scaling: Scaling,
) -> Result<[Examples; 3], ConfigError> {
    let sizes = ["train", "validation", "test"].map(|name| v.whole(name));
    let seed = v.whole("seed") as u64;
    let drawn: usize = sizes[..if has_test_part { 2 } else { 3 }].iter().sum();
    let (all, test) = match data {
        None => {
            let made = Images::synthetic(sizes.iter().sum(), 28, seed);
            if has_test_part { (made.clone().take(drawn), Some(made.skip(drawn))) } else { (made, None) }
        }
        Some(folder) => {
            let read =
                |part| Images::idx(part, folder).map_err(|error| DataError::from(error).of_setting(folder));
            let test = if has_test_part { Some(read(Part::Test)?) } else { None };
            (read(Part::Train)?, test)
        }
    };
    let enough = |name: &str, asked: usize, there: usize| {
        ConfigError::require(asked <= there, name, asked, &format!("the data hold {there} images for it"))
    };
    enough("train", drawn, all.len())?;
    if let Some(test) = &test {
        enough("test", sizes[2], test.len())?;
    }
    let all = examples(&all);
    let mut sets = match test {
        None => split(&all, sizes, Some(seed)),
        Some(test) => {
            let [train, validation] = split(&all, [sizes[0], sizes[1]], Some(seed));
            let [test] = split(&examples(&test), [sizes[2]], None);
            [train, validation, test]
        }
    };
    rescale(&mut sets, scaling);
    Ok(sets)
}

fn with_ones(set: Examples) -> Examples {
    Examples { features: set.features.with_ones(), labels: set.labels }
}

const SOFTMAX: Link = Link::Softmax { classes: CLASSES };

pub fn pbgd(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    let [mut train, validation, test] = images(v, data, false, Scaling::Unit)?.map(with_ones);
    let seed = v.whole("seed") as u64;
    let Polluted { labels, is_drawn } =
        pollute(&train.labels, v.real("noise"), CLASSES as u32, v.whole("always_wrong") == 1, seed);
    train.labels = labels;
    let columns = train.features.columns();
    let classifier = match v.whole("hidden") {
        0 => Classifier::linear(columns, SOFTMAX),
        hidden => Classifier::mlp(columns, hidden, SOFTMAX),
    };
    Ok(Zoo::new(Sum(HyperCleaning {
        classifier,
        train,
        is_dirty: is_drawn,
        validation,
        test,
        weighting: Weighting::Sigmoid,
        ridge: 0.0,
        start_x: 0.0,
        start_y: LowerStart::Random,
    })))
}

pub fn bome(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    let mut sets = images(v, data, true, Scaling::Overall)?;
    if v.whole("own_bias") == 1 {
        sets = sets.map(with_ones);
    } else {
        for set in &mut sets {
            let columns = set.features.columns();
            dense(set).entries.chunks_exact_mut(columns).for_each(|row| row[columns - 1] = 1.0);
        }
    }
    let [mut train, validation, test] = sets;
    let clean = train.labels.clone();
    let seed = v.whole("seed") as u64;
    train.labels = pollute(&clean, v.real("noise"), CLASSES as u32, false, seed).labels;
    let is_dirty = train.labels.iter().zip(&clean).map(|(a, b)| a != b).collect();
    let classifier = Classifier::linear(train.features.columns(), SOFTMAX);
    let start = fitted(&classifier, &[&train, &validation], v.whole("start_steps"));
    Ok(Zoo::new(Sum(HyperCleaning {
        classifier,
        train,
        is_dirty,
        validation,
        test,
        weighting: Weighting::Clip,
        ridge: 0.001,
        start_x: 0.5,
        start_y: LowerStart::At(start),
    })))
}

pub fn benchmark(v: &Values, data: Option<&Path>) -> Result<Zoo, ConfigError> {
    let [mut train, validation, test] = images(v, data, true, Scaling::ByPixel)?;
    let clean = train.labels.clone();
    let seed = v.whole("seed") as u64;
    train.labels = pollute(&clean, v.real("noise"), CLASSES as u32, false, seed).labels;
    let is_dirty = train.labels.iter().zip(&clean).map(|(a, b)| a != b).collect();
    Ok(Zoo::new(Sum(HyperCleaning {
        classifier: Classifier::linear(train.features.columns(), SOFTMAX),
        train,
        is_dirty,
        validation,
        test,
        weighting: Weighting::Sigmoid,
        ridge: v.real("ridge"),
        start_x: -2.0,
        start_y: LowerStart::Zero,
    })))
}
