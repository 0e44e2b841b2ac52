//! 20 newsgroups, sorted by date: posts as sparse vectors of their words.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    path::Path,
};

use crate::{
    classifier::Examples,
    error::{DataError, find, open},
    features::{Features, Sparse},
};

/// How words are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counting {
    /// A word is a feature if it stands in so many training posts at least.
    pub min_posts: usize,
    /// Whether counts are multiplied by ln((1 + n)/(1 + posts with the word)) + 1.
    pub is_idf: bool,
}

/// A post: its group, and the number of times that each of its words stands in it.
struct Post {
    group: String,
    is_test: bool,
    words: BTreeMap<String, u32>,
}

/// Training and test posts of `20news-bydate.tar.gz` in this folder, rows of length 1; classes are the groups in
/// alphabetical order. Words are runs of two or more letters, digits and underscores, in lower case, headings of the posts
/// included. Which words are features, and their weights, is decided by the training posts alone.
///
/// # Errors
/// An archive that is absent, damaged or holds no posts in folders `…-train/group/` and `…-test/group/`.
pub fn read(folder: &Path, counting: Counting) -> Result<[Examples; 2], DataError> {
    let names = ["20news-bydate.tar.gz", "20news-bydate.tgz", "20news-bydate.tar"];
    let path = find(folder, &names, "it is the version of the data set that is sorted by date")?;
    let io = |error| DataError::io(&path, error);
    let mut archive = tar::Archive::new(open(&path)?);
    let mut posts = Vec::new();
    for entry in archive.entries().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        let name = entry.path().map_err(io)?.to_string_lossy().into_owned();
        let parts: Vec<&str> = name.rsplit('/').collect();
        let [_, group, part, ..] = parts[..] else { continue };
        let is_test = part.ends_with("-test");
        if !entry.header().entry_type().is_file() || !(is_test || part.ends_with("-train")) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(io)?;
        posts.push(Post { group: group.to_owned(), is_test, words: words(&bytes) });
    }
    vectors(&posts, counting).ok_or_else(|| DataError::TooFew {
        path: path.clone(),
        detail: "it holds no posts in folders named …-train/group and …-test/group".into(),
    })
}

/// The words of a text in Latin-1, counted.
fn words(bytes: &[u8]) -> BTreeMap<String, u32> {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let mut counts = BTreeMap::new();
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        if word.chars().nth(1).is_some() {
            *counts.entry(word.to_lowercase()).or_insert(0) += 1;
        }
    }
    counts
}

/// `None` without training posts, test posts or words.
fn vectors(posts: &[Post], counting: Counting) -> Option<[Examples; 2]> {
    let mut groups: Vec<&str> = posts.iter().map(|post| post.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    let training = || posts.iter().filter(|post| !post.is_test);
    let mut posts_with: BTreeMap<&str, usize> = BTreeMap::new();
    for word in training().flat_map(|post| post.words.keys()) {
        *posts_with.entry(word).or_insert(0) += 1;
    }
    posts_with.retain(|_, count| *count >= counting.min_posts);
    let n = training().count() as f64;
    let vocabulary: HashMap<&str, (u32, f64)> = posts_with
        .into_iter()
        .enumerate()
        .map(|(column, (word, count))| {
            let idf = ((1.0 + n) / (1.0 + count as f64)).ln() + 1.0;
            (word, (column as u32, if counting.is_idf { idf } else { 1.0 }))
        })
        .collect();
    let of = |is_test: bool| {
        let mut rows = Sparse { columns: vocabulary.len(), starts: vec![0], column: vec![], entries: vec![] };
        let mut labels = Vec::new();
        for post in posts.iter().filter(|post| post.is_test == is_test) {
            let start = rows.entries.len();
            for (word, count) in &post.words {
                if let Some((column, weight)) = vocabulary.get(word.as_str()) {
                    rows.column.push(*column);
                    rows.entries.push(f64::from(*count) * weight);
                }
            }
            let length = rows.entries[start..].iter().map(|e| e * e).sum::<f64>().sqrt();
            // a post of none of the words stays a row of zeros
            if length > 0.0 {
                rows.entries[start..].iter_mut().for_each(|e| *e /= length);
            }
            rows.starts.push(rows.entries.len());
            labels.push(groups.binary_search(&post.group.as_str()).unwrap_or_default() as u32);
        }
        Examples { features: Features::Sparse(rows), labels }
    };
    let sets = [of(false), of(true)];
    (!vocabulary.is_empty() && sets.iter().all(|set| !set.is_empty())).then_some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("20news-bydate.tar")).unwrap();
        let mut builder = tar::Builder::new(file);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        folder
    }

    #[test]
    fn posts_become_rows_of_length_one() {
        let folder = archive(&[
            ("x/20news-bydate-train/sci.space/1", "The moon, the MOON! a"),
            ("x/20news-bydate-train/alt.faith/2", "the cross"),
            ("x/20news-bydate-test/sci.space/3", "moon_base the stars"),
        ]);
        let counting = Counting { min_posts: 1, is_idf: true };
        let [train, test] = read(folder.path(), counting).unwrap();
        assert_eq!((&train.labels[..], &test.labels[..]), (&[1, 0][..], &[1][..]));
        let Features::Sparse(rows) = &train.features else { unreachable!() };
        // columns: cross, moon, the
        assert_eq!((rows.columns, &rows.column[..]), (3, &[1, 2, 0, 2][..]));
        let idf = 1.5_f64.ln() + 1.0;
        let length = (4.0 * idf * idf + 4.0).sqrt();
        assert!((rows.entries[0] - 2.0 * idf / length).abs() < 1e-15);
        assert!((rows.entries[1] - 2.0 / length).abs() < 1e-15);
        let Features::Sparse(rows) = &test.features else { unreachable!() };
        assert_eq!((&rows.column[..], &rows.entries[..]), (&[2][..], &[1.0][..]));
        // words of one post alone are no features
        let [train, _] = read(folder.path(), Counting { min_posts: 2, is_idf: false }).unwrap();
        assert_eq!(train.features.columns(), 1);
    }

    #[test]
    fn archives_without_posts_are_refused() {
        let counting = Counting { min_posts: 1, is_idf: true };
        let folder = archive(&[("readme", "nothing")]);
        assert!(read(folder.path(), counting).unwrap_err().to_string().contains("holds no posts"));
        let empty = tempfile::tempdir().unwrap();
        assert!(read(empty.path(), counting).unwrap_err().to_string().contains("20news-bydate.tar.gz"));
    }
}
