use std::collections::{HashMap, HashSet};

use super::*;

fn demo() -> Demo {
    Demo { seed: 1, sizes: Sizes::default() }
}
fn all(demo: &Demo) -> Vec<(Kind, Vec<Example>)> {
    Kind::SOURCES
        .into_iter()
        .chain([Kind::Validation, Kind::Test])
        .map(|kind| (kind, demo.examples(kind).unwrap()))
        .collect()
}
fn of(kind: Kind) -> Vec<Example> {
    demo().examples(kind).unwrap()
}

/// Numbers of a text, in order.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect()
}
/// Equations "x o y = z" of a text: what it says and what is right.
fn equations(text: &str) -> Vec<(f64, f64)> {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap();
    (2..words.len().saturating_sub(1))
        .filter(|&at| words[at] == "=" && at >= 3)
        .map(|at| {
            let (x, y, said) = (number(words[at - 3]), number(words[at - 1]), number(words[at + 1]));
            let right = match words[at - 2] {
                "*" => x * y,
                "+" => x + y,
                "-" => x - y,
                "/" => x / y,
                other => panic!("operator {other}"),
            };
            (said, right)
        })
        .collect()
}
fn answer(response: &str) -> f64 {
    response.rsplit_once("Answer: ").unwrap().1.parse().unwrap()
}

#[test]
fn same_settings_same_bytes_and_another_seed_other_bytes() {
    let bytes = |seed| all(&Demo { seed, ..demo() }).iter().map(|(_, e)| jsonl(e)).collect::<Vec<_>>();
    assert_eq!(bytes(1), bytes(1));
    for (one, two) in bytes(1).iter().zip(bytes(2)) {
        assert_ne!(*one, two);
    }
}

#[test]
fn one_size_does_not_move_the_other_kinds() {
    let small = Demo { sizes: Sizes { shopping: 7, test: 9, ..Sizes::default() }, ..demo() };
    for kind in [Kind::Prices, Kind::Savings, Kind::Guesses, Kind::Shuffled, Kind::Validation] {
        assert_eq!(small.examples(kind).unwrap(), of(kind));
    }
    assert_eq!(small.examples(Kind::Shopping).unwrap(), of(Kind::Shopping)[..7]);
    assert_eq!(small.examples(Kind::Test).unwrap(), of(Kind::Test)[..9]);
}

#[test]
fn every_equation_of_the_useful_kinds_is_right_and_the_last_one_is_the_answer() {
    for kind in Kind::USEFUL.into_iter().chain([Kind::Validation, Kind::Test]) {
        for example in of(kind) {
            let found = equations(&example.response);
            assert!(!found.is_empty(), "{}", example.response);
            for &(said, right) in &found {
                assert_eq!(said, right, "{}", example.response);
            }
            assert_eq!(answer(&example.response), found.last().unwrap().0);
        }
    }
}

#[test]
fn the_answer_of_a_target_question_follows_from_the_numbers_of_its_prompt() {
    for example in of(Kind::Test) {
        let solution = numbers(&example.response);
        // a * p = r, b * q = s, r + s = t, t
        let &[a, p, _, b, q, ..] = solution.as_slice() else { panic!("{}", example.response) };
        let mut asked = numbers(&example.prompt);
        let mut used = vec![a, p, b, q];
        asked.sort_unstable();
        used.sort_unstable();
        assert_eq!(asked, used, "{}", example.prompt);
        assert_eq!(answer(&example.response), (a * p + b * q) as f64);
    }
}

#[test]
fn every_equation_and_answer_of_the_guesses_is_wrong() {
    for example in of(Kind::Guesses) {
        let found = equations(&example.response);
        assert_eq!(found.len(), 2);
        for (said, right) in found {
            assert_ne!(said, right, "{}", example.response);
        }
        assert!(answer(&example.response) > 162.0, "9 * 9 + 9 * 9 is the largest right answer");
    }
}

#[test]
fn shuffled_examples_have_the_words_of_the_target_kind_out_of_order() {
    let vocabulary = |examples: &[Example]| -> HashSet<String> {
        examples
            .iter()
            .flat_map(|e| e.prompt.split(' ').chain(e.response.split(' ')))
            .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
            .collect()
    };
    let shuffled = of(Kind::Shuffled);
    let known = vocabulary(&demo().examples(Kind::Shopping).unwrap());
    assert!(vocabulary(&shuffled).is_subset(&known));
    let readable = shuffled.iter().filter(|e| e.response.starts_with("The ") && e.prompt.ends_with('?'));
    assert!(readable.count() < shuffled.len() / 100);
}

#[test]
fn prompts_are_distinct_and_no_held_out_question_is_in_a_source() {
    let sets = all(&demo());
    let mut seen: HashMap<&str, Kind> = HashMap::new();
    for (kind, examples) in &sets {
        let mut own = HashSet::new();
        for Example { prompt, .. } in examples {
            assert!(own.insert(prompt), "twice in {}: {prompt}", kind.name());
            if let Some(other) = seen.insert(prompt, *kind) {
                assert!(
                    !matches!(kind, Kind::Validation | Kind::Test),
                    "in {} and {}: {prompt}",
                    kind.name(),
                    other.name()
                );
            }
        }
    }
}

#[test]
fn held_out_questions_have_numbers_that_no_training_question_has() {
    let quadruples = |kind| -> HashSet<[u64; 4]> {
        of(kind)
            .iter()
            .map(|e| {
                let n = numbers(&e.response);
                [n[0], n[1], n[3], n[4]]
            })
            .collect()
    };
    let training = quadruples(Kind::Shopping);
    for held_out in [Kind::Validation, Kind::Test] {
        assert!(quadruples(held_out).is_disjoint(&training));
    }
}

#[test]
fn a_size_out_of_range_is_named() {
    for value in [0, MAX_SIZE + 1] {
        let demo = Demo { sizes: Sizes { savings: value, ..Sizes::default() }, ..demo() };
        let error = demo.examples(Kind::Savings).unwrap_err().to_string();
        assert_eq!(error, format!("size of `savings` is {value}; it must lie between 1 and 50000"));
    }
}

#[test]
fn written_files_read_back_as_the_examples() {
    let folder = tempfile::tempdir().unwrap();
    let written = demo().write(&folder.path().join("data")).unwrap();
    assert_eq!(written.sources.len(), 5);
    let text = std::fs::read_to_string(&written.sources[1]).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let prices = of(Kind::Prices);
    assert_eq!(rows.len(), prices.len());
    assert_eq!(rows[3]["prompt"], prices[3].prompt);
    assert_eq!(rows[3]["response"], prices[3].response);
    assert!(written.validation.exists() && written.test.exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = demo().write(&blocked.join("data")).unwrap_err().to_string();
    assert!(error.contains("file/data: cannot be written"), "{error}");
}

/// Bits per byte of the validation responses under a byte n-gram model (Witten-Bell back-off) of the responses of
/// a source: a stand-in for a language model that needs no training.
fn bits(source: &[Example]) -> f64 {
    const ORDER: usize = 9;
    let mut counts: HashMap<Vec<u8>, HashMap<u8, f64>> = HashMap::new();
    let padded = |e: &Example| format!("{}\n{}\n", "\n".repeat(ORDER - 1), e.response).into_bytes();
    for text in source.iter().map(padded) {
        for at in ORDER..text.len() {
            for length in 0..=ORDER {
                let context = text[at - length..at].to_vec();
                *counts.entry(context).or_default().entry(text[at]).or_default() += 1.0;
            }
        }
    }
    let (mut bits, mut bytes) = (0.0, 0.0);
    for text in of(Kind::Validation).iter().map(padded) {
        for at in ORDER..text.len() {
            let probability = (0..=ORDER).fold(1.0 / 256.0, |shorter, length| {
                counts.get(&text[at - length..at]).map_or(shorter, |next| {
                    let total: f64 = next.values().sum();
                    let kinds = next.len() as f64;
                    (next.get(&text[at]).unwrap_or(&0.0) + kinds * shorter) / (total + kinds)
                })
            });
            bits -= f64::log2(probability);
            bytes += 1.0;
        }
    }
    bits / bytes
}

#[test]
fn the_sources_differ_in_worth_for_the_target() {
    // What 500 more examples of a source do to a model of 100 target examples.
    let few = of(Kind::Shopping)[..100].to_vec();
    let with = |kind| bits(&[&few[..], &of(kind)[500..1000]].concat());
    let without = bits(&few);
    let more = bits(&of(Kind::Shopping)[..600]);
    let [prices, savings, guesses, shuffled] =
        [Kind::Prices, Kind::Savings, Kind::Guesses, Kind::Shuffled].map(with);
    println!("few {without:.3} more {more:.3}; added: {prices:.3} {savings:.3} {guesses:.3} {shuffled:.3}");
    assert!(more < prices.min(savings) && prices.max(savings) < without);
    assert!(without < guesses.min(shuffled));
}
