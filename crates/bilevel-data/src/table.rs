//! Tables of numbers with a class in the last column.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use crate::{
    classifier::Examples,
    error::{DataError, open},
    features::{Dense, Features},
};

/// Examples of a comma-separated file (plain, `.gz` or `.bz2`): numbers, then a class 1, 2, …, at most `classes`. A first
/// line that does not begin with a number is a heading.
///
/// # Errors
/// A line that is none, with its number; a file without examples.
pub fn read(path: &Path, classes: u32) -> Result<Examples, DataError> {
    let (mut entries, mut labels) = (Vec::new(), Vec::new());
    let mut columns = None;
    for (number, line) in BufReader::new(open(path)?).lines().enumerate() {
        let line = line.map_err(|error| DataError::io(path, error))?;
        let wrong = |detail: String| DataError::line(path, number + 1, detail);
        let words: Vec<&str> = line.split(',').map(|word| word.trim().trim_matches('"')).collect();
        let is_heading = number == 0 && words[0].parse::<f64>().is_err();
        if line.trim().is_empty() || is_heading {
            continue;
        }
        let (label, numbers) = words.split_last().expect("a split line has a part");
        let width = *columns.get_or_insert(numbers.len());
        if numbers.len() != width || width == 0 {
            return Err(wrong(format!("{} features where the first line has {width}", numbers.len())));
        }
        for word in numbers {
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            entries.push(number.ok_or_else(|| wrong(format!("`{word}` is no finite number")))?);
        }
        let class =
            label.parse::<f64>().ok().filter(|c| c.fract() == 0.0 && (1.0..=f64::from(classes)).contains(c));
        let class = class.ok_or_else(|| wrong(format!("the class `{label}` is none of 1 to {classes}")))?;
        labels.push(class as u32 - 1);
    }
    let Some(columns) = columns else {
        return Err(DataError::TooFew {
            path: path.to_owned(),
            detail: "it holds no example; give lines of numbers with the class in the last column".into(),
        });
    };
    Ok(Examples { features: Features::Dense(Dense { columns, entries }), labels })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tables_are_read_with_and_without_a_heading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        for heading in ["", "\"height\",\"slope\",\"cover\"\n"] {
            fs::write(&path, format!("{heading}1,2.5,7\n3,-4,1\n")).unwrap();
            let examples = read(&path, 7).unwrap();
            assert_eq!(examples.labels, [6, 0]);
            let dense = Dense { columns: 2, entries: vec![1.0, 2.5, 3.0, -4.0] };
            assert_eq!(examples.features, Features::Dense(dense));
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        for (text, words) in [
            ("1,2,8\n", "line 1: the class `8` is none of 1 to 7"),
            ("1,2,1\n1,1\n", "line 2: 1 features where the first line has 2"),
            ("1,x,1\n", "`x` is no finite number"),
            ("heading\n", "holds no example"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(&path, 7).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
