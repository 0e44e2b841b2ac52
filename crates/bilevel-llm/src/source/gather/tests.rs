use std::{fmt::Write as _, fs, path::Path};

use super::*;
use crate::{recipe::TokenizerSpec, tokenizer::Tokenizer};

/// A sentence of `count` words, different for every number.
fn sentence(number: usize, count: usize) -> String {
    (0..count).map(|i| format!("w{number}x{i}")).collect::<Vec<_>>().join(" ")
}
fn lines(records: &[(String, String)]) -> String {
    records.iter().fold(String::new(), |mut text, (prompt, response)| {
        let _ = writeln!(text, "{{\"prompt\": {prompt:?}, \"response\": {response:?}}}");
        text
    })
}
fn records(numbers: impl IntoIterator<Item = usize>) -> Vec<(String, String)> {
    numbers.into_iter().map(|i| (sentence(2 * i, 20), sentence(2 * i + 1, 30))).collect()
}

/// Two sources `a` and `b` with a test set (0–9), a validation set (10–19, and number 3 of the test), and `data` in the
/// recipe. `a` has 100–119, number 105 again, number 12 of the validation, and number 5 of the test with another answer;
/// `b` has 200–209, number 110 of `a` and number 207 with one word of 50 changed.
fn folder(data: &str) -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, records: &[(String, String)]| {
        fs::write(folder.path().join(name), lines(records)).unwrap();
    };
    put("t.jsonl", &records(0..10));
    put("v.jsonl", &records((10..20).chain([3])));
    let mut a = records((100..120).chain([105, 12]));
    a.push((sentence(10, 20), sentence(999, 30)));
    put("a.jsonl", &a);
    let mut b = records((200..210).chain([110]));
    let mut near = b[7].clone();
    near.1 = near.1.replace("w415x29", "another");
    b.push(near);
    put("b.jsonl", &b);
    let recipe = format!(
        "[run]\nbudget = 1000\n[[source]]\nname = \"b\"\npath = \"b.jsonl\"\n[[source]]\nname = \"a\"\npath = \"a.jsonl\"\n\
         [validation]\npath = \"v.jsonl\"\n[test]\npath = \"t.jsonl\"\n[data]\n{data}\n"
    );
    let recipe = Recipe::parse(&recipe, folder.path()).unwrap();
    (folder, recipe)
}

fn gathered(recipe: &Recipe) -> Result<Gathered, ReweightError> {
    let mut specs: Vec<_> = recipe.sources.iter().collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    let tokenizer = Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap();
    gather(recipe, &specs, (&tokenizer).into(), 512)
}

/// (examples, left out, duplicates, duplicates of others, overlaps with validation, with test).
fn counts(info: &SourceInfo) -> [u64; 6] {
    [
        info.data.examples,
        info.data.removed,
        info.duplicates,
        info.duplicates_of_others,
        info.overlap_with_validation,
        info.overlap_with_test,
    ]
}

#[test]
fn everything_stays_and_is_counted_by_default() {
    let (_folder, recipe) = folder("");
    let all = gathered(&recipe).unwrap();
    assert_eq!(counts(&all.infos[0]), [23, 0, 1, 0, 1, 1]);
    assert_eq!(counts(&all.infos[1]), [12, 0, 0, 1, 0, 0]);
    assert_eq!((all.validation.len(), all.validation_overlap_with_test, all.test.len()), (11, 1, 10));
    let warnings = all.warnings.join("\n");
    for part in [
        "1 of 11 validation examples also stand in the test set; the test loss will be too low",
        "source a: 1 of 23 examples also stand in the validation set; its weight",
        "source a: 1 of 23 examples also stand in the test set; the test loss",
        "source a: 1 of 23 examples repeat another one of the sources; data.deduplicate",
        "source b: 1 of 12 examples repeat",
    ] {
        assert!(warnings.contains(part), "`{part}` not in: {warnings}");
    }
}

#[test]
fn duplicates_and_overlaps_are_left_out_on_request() {
    let (_folder, recipe) = folder("deduplicate = \"near\"\noverlap = \"remove\"");
    let all = gathered(&recipe).unwrap();
    assert_eq!(counts(&all.infos[0]), [20, 3, 1, 0, 1, 1]);
    // 50 words have 46 runs of five, and the changed one, the last, stands in one of them: 45 of 47 are shared
    assert_eq!(counts(&all.infos[1]), [10, 2, 1, 1, 0, 0]);
    assert_eq!((all.validation.len(), all.validation.info.removed), (10, 1));
    assert_eq!((all.test.len(), all.test.info.removed), (10, 0));
    assert!(all.warnings.iter().any(|w| w.contains("source b: its files still hold the 2 examples")));

    let (_folder, recipe) = folder("deduplicate = \"exact\"");
    let all = gathered(&recipe).unwrap();
    assert_eq!(counts(&all.infos[0]), [22, 1, 1, 0, 1, 1]);
    assert_eq!(counts(&all.infos[1]), [11, 1, 0, 1, 0, 0]);
}

#[test]
fn a_validation_example_of_the_test_set_is_not_looked_for_twice() {
    // number 3 stands in the test set and in validation; left out there, it counts as test only
    let (folder, recipe) = folder("overlap = \"remove\"");
    let path = folder.path().join("a.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + &lines(&records([3]))).unwrap();
    let all = gathered(&recipe).unwrap();
    assert_eq!(counts(&all.infos[0])[4..], [1, 2]);
}

#[test]
fn overlaps_are_refused_on_request_with_count_and_remedy() {
    let (folder, recipe) = folder("overlap = \"refuse\"");
    let refusal = |recipe: &Recipe| gathered(recipe).unwrap_err().to_string();
    let message = refusal(&recipe);
    for part in ["1 of 11 examples of the validation set", "test set", "data.overlap", "\"remove\""] {
        assert!(message.contains(part), "`{part}` not in: {message}");
    }
    fs::write(folder.path().join("v.jsonl"), lines(&records(10..20))).unwrap();
    let message = refusal(&recipe);
    assert!(message.contains("1 of 23 examples of source a also stand in the validation set"), "{message}");
}

#[test]
fn a_source_of_which_nothing_is_left_is_refused() {
    let (folder, recipe) = folder("deduplicate = \"exact\"");
    fs::write(folder.path().join("b.jsonl"), lines(&records(100..105))).unwrap();
    let message = gathered(&recipe).unwrap_err().to_string();
    assert!(
        message.contains("source b is empty") && message.contains("its 5 records were all left out"),
        "{message}"
    );
}

#[test]
fn tokens_in_scratch_files_are_the_same_tokens() {
    let (folder, mut recipe) = folder("");
    let memory = gathered(&recipe).unwrap();
    recipe.data.scratch = Some(folder.path().join("scratch"));
    let files = gathered(&recipe).unwrap();
    for (a, b) in memory.sources.iter().zip(&files.sources) {
        assert_eq!((a.len(), &a.info), (b.len(), &b.info));
        assert_eq!(a.batch(0..a.len()), b.batch(0..b.len()));
        assert_eq!(a.inputs(), a.batch(0..a.len()).tokens.len() as u64);
    }
    recipe.data.scratch = Some(Path::new("/proc/no-such-folder").into());
    let message = gathered(&recipe).unwrap_err().to_string();
    assert!(message.contains("/proc/no-such-folder") && message.contains("is writable"), "{message}");
}

#[test]
fn what_is_held_out_comes_out_of_what_stayed() {
    let (_folder, mut recipe) = folder("deduplicate = \"exact\"");
    let all = gathered(&recipe).unwrap();
    // 22 and 11 records stayed
    assert_eq!(all.held_out.iter().map(Dataset::len).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(all.sources.iter().map(Dataset::len).collect::<Vec<_>>(), [21, 11]);
    for (info, set) in all.infos.iter().zip(&all.sources) {
        assert_eq!(info.trained_tokens(), set.info.tokens);
        assert!(
            info.held_out
                .is_some_and(|held| held.examples as usize + set.len() == info.data.examples as usize)
        );
    }
    assert_eq!(all.infos[1].held_out, Some(HeldOut::default()));

    recipe.evaluate.source_examples = 0;
    let whole = gathered(&recipe).unwrap();
    assert!(whole.held_out.is_empty() && whole.infos.iter().all(|info| info.held_out.is_none()));
    for (info, before) in whole.infos.iter().zip(&all.infos) {
        assert_eq!(info.data, before.data);
        assert_eq!(info.trained_tokens(), info.data.tokens);
    }
}
