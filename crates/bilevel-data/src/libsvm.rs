//! The format of LIBSVM: a line per example, its label and `index:value` for every feature that is not zero.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use crate::{
    classifier::Examples,
    error::{DataError, open},
    features::{Dense, Features},
};

/// Labels −1 and 1 of an example, or 0 and 1, and its features by index from 0.
type Line = (u32, Vec<(usize, f64)>);

/// Two-class examples of several files (plain, `.gz` or `.bz2`) as dense rows of one width. Indices count from 1; files
/// that hold an index 0 count from 0.
///
/// # Errors
/// A line that is none, with its number; a label that is none of −1, 0, 1; a file without examples.
pub fn read(paths: &[&Path]) -> Result<Vec<Examples>, DataError> {
    let files = paths.iter().map(|path| lines(path)).collect::<Result<Vec<Vec<Line>>, DataError>>()?;
    let indices = || files.iter().flatten().flat_map(|(_, entries)| entries.iter().map(|(index, _)| *index));
    let base = usize::from(indices().min().unwrap_or(1) >= 1);
    let columns = indices().max().map_or(0, |last| last + 1 - base);
    let examples = files.into_iter().zip(paths).map(|(lines, path)| {
        if lines.is_empty() || columns == 0 {
            return Err(DataError::TooFew {
                path: (*path).to_owned(),
                detail: "it holds no example; give lines like `1 3:0.5 7:1`".into(),
            });
        }
        let mut entries = vec![0.0; lines.len() * columns];
        let mut labels = Vec::with_capacity(lines.len());
        for ((label, line), row) in lines.into_iter().zip(entries.chunks_exact_mut(columns)) {
            labels.push(label);
            for (index, value) in line {
                row[index - base] = value;
            }
        }
        Ok(Examples { features: Features::Dense(Dense { columns, entries }), labels })
    });
    examples.collect()
}

/// Dense features are made of these indices, so that a stray number cannot ask for all memory.
const LARGEST_INDEX: usize = 1_000_000;

fn lines(path: &Path) -> Result<Vec<Line>, DataError> {
    let mut found = Vec::new();
    for (number, line) in BufReader::new(open(path)?).lines().enumerate() {
        let line = line.map_err(|error| DataError::io(path, error))?;
        let wrong = |detail: String| DataError::line(path, number + 1, detail);
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(label) = words.next() else { continue };
        let label = match label.parse::<f64>() {
            Ok(1.0) => 1,
            Ok(-1.0 | 0.0) => 0,
            _ => return Err(wrong(format!("the label `{label}` is none of -1, 0 and 1"))),
        };
        let entries = words
            .map(|word| {
                let parsed = word.split_once(':').and_then(|(index, value)| {
                    let value = value.parse::<f64>().ok().filter(|value| value.is_finite())?;
                    Some((index.parse::<usize>().ok().filter(|&index| index <= LARGEST_INDEX)?, value))
                });
                parsed.ok_or_else(|| {
                    wrong(format!(
                        "`{word}` is no feature; write index:value, the index at most {LARGEST_INDEX}, the value finite"
                    ))
                })
            })
            .collect::<Result<Vec<(usize, f64)>, DataError>>()?;
        found.push((label, entries));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_of_one_set_share_their_width() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&first, "-1 1:0.5 3:-2\n\n+1 2:1 # a remark\n").unwrap();
        fs::write(&second, "1.0 4:7\n").unwrap();
        let sets = read(&[&first, &second]).unwrap();
        let Features::Dense(Dense { columns, entries }) = &sets[0].features else { unreachable!() };
        assert_eq!((*columns, entries.as_slice()), (4, &[0.5, 0.0, -2.0, 0.0, 0.0, 1.0, 0.0, 0.0][..]));
        assert_eq!((&sets[0].labels[..], &sets[1].labels[..]), (&[0, 1][..], &[1][..]));
        // from 0 as soon as one file counts so
        fs::write(&second, "1.0 0:7\n").unwrap();
        assert_eq!(read(&[&first, &second]).unwrap()[1].features.columns(), 4);
    }

    #[test]
    fn packed_files_are_read() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bz2");
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(b"1 1:2\n").unwrap();
        fs::write(&path, encoder.finish().unwrap()).unwrap();
        assert_eq!(read(&[&path]).unwrap()[0].labels, [1]);
        fs::write(&path, b"BZh9").unwrap();
        assert!(read(&[&path]).unwrap_err().to_string().contains("that it is whole"));
    }

    #[test]
    fn wrong_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (text, words) in [
            ("1 1:1\n2 1:1\n", "line 2: the label `2`"),
            ("1 1:1 x\n", "line 1: `x` is no feature"),
            ("1 1:nan\n", "`1:nan`"),
            ("1 99999999999999:1\n", "`99999999999999:1`"),
            ("", "holds no example"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(&[&path]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
