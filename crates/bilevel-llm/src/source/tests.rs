use std::{fs::File, io::Write, path::PathBuf};

use super::*;
use crate::{
    error::DataError,
    recipe::{DataSpec, Paths, TokenizerSpec},
    tokenizer::Tokenizer,
};

/// Every record of a data set, which must have one.
fn read(spec: &DataSpec) -> Result<Vec<Record>, DataError> {
    let mut reader = Reader::new(spec);
    let records = (&mut reader).collect::<Result<Vec<_>, _>>()?;
    reader.finish("a").map(|summary| {
        assert_eq!(summary.records, records.len() as u64);
        records
    })
}

fn tokenised(spec: &DataSpec, context: usize) -> Dataset {
    Dataset::read("a", Reader::new(spec), (&bytes()).into(), context, None, |_| true).unwrap()
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, DataSpec) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    File::create(&path).unwrap().write_all(bytes).unwrap();
    (folder, DataSpec { path: Paths::One(path), ..DataSpec::default() })
}

fn texts(name: &str, content: &str) -> Vec<Vec<(String, bool)>> {
    let (_folder, spec) = file(name, content.as_bytes());
    read(&spec).unwrap().iter().map(|r| r.iter().map(|p| (p.text.clone(), p.is_learned)).collect()).collect()
}

fn counted(n: usize) -> String {
    (0..n).fold(String::new(), |s, i| s + &format!("{{\"text\":\"{i}\"}}\n"))
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let (_folder, spec) = file(name, bytes);
    read(&spec).unwrap_err().to_string()
}

fn bytes() -> Tokenizer {
    Tokenizer::new(&TokenizerSpec::Bytes, std::iter::empty::<&str>()).unwrap()
}

#[test]
fn a_chat_keeps_texts_as_they_are_and_knows_who_speaks() {
    let spoken = |content: &str| {
        let (_folder, spec) = file("a.jsonl", content.as_bytes());
        let records = read(&DataSpec { chat: true, ..spec });
        records
            .map(|r| r[0].iter().map(|p| (p.role.clone().unwrap(), p.text.clone(), p.is_learned)).collect())
    };
    let says = |role: &str, text: &str| (role.to_owned(), text.to_owned(), role == "assistant");
    let pair: Vec<_> = spoken(r#"{"instruction":"i","input":"x","output":"o"}"#).unwrap();
    assert_eq!(pair, [says("user", "i\nx"), says("assistant", "o")]);
    let three = spoken(
        r#"{"items":[{"from":"system","value":"s"},{"from":"human","value":"h"},{"from":"gpt","value":"g"}]}"#,
    );
    assert_eq!(three.unwrap(), [says("system", "s"), says("user", "h"), says("assistant", "g")]);
    let error = spoken(r#"{"text":"t"}"#).unwrap_err().to_string();
    assert!(error.contains("field `messages`"), "{error}");
}

#[test]
fn shuffled_answers_belong_to_the_question_before() {
    let lines = |n: usize| {
        (0..n).fold(String::new(), |s, i| s + &format!("{{\"question\":\"q{i}\",\"answer\":\"a{i}\"}}\n"))
    };
    let shuffled = |text: &str| {
        let (folder, spec) = file("a.jsonl", text.as_bytes());
        (folder, DataSpec { shuffle_answers: true, skip: 1, take: Some(3), ..spec })
    };
    let (_folder, spec) = shuffled(&lines(6));
    let records = read(&spec).unwrap();
    let pairs: Vec<(&str, &str)> = records.iter().map(|r| (r[0].text.as_str(), r[1].text.as_str())).collect();
    assert_eq!(pairs, [("q1\n", "a2"), ("q2\n", "a3"), ("q3\n", "a1")]);
    assert!(records.iter().all(|r| !r[0].is_learned && r[1].is_learned));
    for text in [lines(2), "{\"text\":\"t\"}\n".repeat(4)] {
        let (_folder, spec) = shuffled(&text);
        let error = read(&spec).unwrap_err().to_string();
        assert!(error.contains("shuffle_answers needs two records") && error.contains("a.jsonl"), "{error}");
    }
}

#[test]
fn field_names_are_guessed() {
    let pair = |p: &str, r: &str| vec![(p.to_owned(), false), (r.to_owned(), true)];
    assert_eq!(texts("a.jsonl", "{\"question\":\"q\",\"answer\":\"a\"}\n\n"), [pair("q\n", "a")]);
    let alpaca =
        r#"[{"instruction":"i","input":"x","output":"o"},{"instruction":"i","input":"","output":"o"}]"#;
    assert_eq!(texts("a.json", alpaca), [pair("i\nx\n", "o"), pair("i\n", "o")]);
    let items = r#"[{"items":[{"from":"human","value":"h"},{"from":"gpt","value":"g"}]}]"#;
    assert_eq!(texts("a.json", items), [pair("h\n", "g\n")]);
    let chat = r#"{"messages":[{"role":"user","content":"h"},{"role":"assistant","content":"g"}]}"#;
    assert_eq!(texts("a.jsonl", chat), [pair("h\n", "g\n")]);
    assert_eq!(texts("a.jsonl", r#"{"text":"t"}"#), [[("t".to_owned(), true)]]);
    assert_eq!(texts("a.txt", "one\ntwo\n\n\nthree").len(), 2);
}

#[test]
fn a_template_makes_the_prompt() {
    let (_folder, mut spec) = file("a.jsonl", br#"{"q":"1+1","a":"2"}"#);
    spec.template = Some("{{Q}} {q} = ".into());
    spec.response = Some("a".into());
    assert_eq!(read(&spec).unwrap()[0][0].text, "{Q} 1+1 = ");
}

#[test]
fn skip_and_take_cut_a_slice() {
    let lines = counted(9);
    let (_folder, mut spec) = file("a.jsonl", lines.as_bytes());
    (spec.skip, spec.take) = (3, Some(2));
    let records = read(&spec).unwrap();
    assert_eq!(records.iter().map(|r| r[0].text.as_str()).collect::<Vec<_>>(), ["3", "4"]);
}

#[test]
fn bad_files_are_refused_with_file_line_and_remedy() {
    let good = "{\"text\":\"t\"}\n";
    for (name, bytes, parts) in [
        (
            "a.jsonl",
            format!("{good}{{\"text\": \n").into_bytes(),
            vec!["a.jsonl, line 2", "broken JSON", "mend"],
        ),
        ("a.json", b"[{\"text\":\"t\"},\n{\"text\" 1}]".to_vec(), vec!["a.json, line 2", "broken JSON"]),
        (
            "a.jsonl",
            format!("{good}{{\"txt\":\"t\"}}").into_bytes(),
            vec!["line 2", "`text`", "`txt`", "Set prompt"],
        ),
        ("a.jsonl", [good.as_bytes(), b"{\"text\":\"\xff\"}"].concat(), vec!["line 2", "not UTF-8 (byte 10"]),
        ("a.jsonl", b"\n \n".to_vec(), vec!["source a is empty", "0 records", "delete it"]),
    ] {
        let message = refused(name, &bytes);
        for part in parts {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    }
    let spec = DataSpec { path: Paths::One("nowhere/a.jsonl".into()), ..DataSpec::default() };
    let message = read(&spec).unwrap_err().to_string();
    assert!(message.contains("nowhere/a.jsonl") && message.contains("check the path"), "{message}");
}

#[test]
fn a_line_of_ten_megabytes_is_cut_to_the_context_and_counted() {
    let long = format!("{{\"prompt\":\"p\",\"response\":\"{}\"}}\n", "x".repeat(10 << 20));
    let (_folder, spec) = file("a.jsonl", long.as_bytes());
    let set = tokenised(&spec, 16);
    assert_eq!((set.len(), set.info.truncated, set.info.tokens), (1, 1, 17));
}

#[test]
fn the_loss_is_on_the_response_and_its_end_only() {
    let records = vec![vec![Piece::new("ab", false), Piece::new("cd", true)]];
    let set = Dataset::of(&records, &bytes(), 16);
    let batch = set.batch([0]);
    assert_eq!(batch.tokens, [256, 97, 98, 99, 100]);
    assert_eq!(batch.rows, [2, 3, 4]);
    assert_eq!(batch.targets, [99, 100, 257]);
}

#[test]
fn a_long_prompt_keeps_its_end_and_leaves_half_the_context() {
    let piece = |text: String, is_learned| Piece::new(text, is_learned);
    let records = vec![vec![piece("p".repeat(30) + "!", false), piece("r".repeat(30), true)]];
    let set = Dataset::of(&records, &bytes(), 16);
    let batch = set.batch([0]);
    assert_eq!(batch.tokens.len(), 16);
    assert!(batch.tokens.contains(&u32::from(b'!')));
    assert_eq!(batch.rows.len(), 9);
}

#[test]
fn running_text_is_cut_into_windows_that_predict_every_token_once() {
    let records = vec![vec![Piece::new("abcdefghijklmnopqrstuvwxyz", true)]];
    let set = Dataset::of(&records, &bytes(), 8);
    let targets: Vec<u32> = (0..set.len()).flat_map(|i| set.batch([i]).targets).collect();
    let expected: Vec<u32> = (97..123).chain([257]).collect();
    assert_eq!(targets, expected);
}

#[test]
fn fingerprints_ignore_case_and_white_space() {
    let print = |t: &str| fingerprint(&vec![Piece::new(t, true)]);
    assert_eq!(print("Two  plus two\n"), print("two plus TWO"));
    assert_ne!(print("two plus two"), print("three"));
}

#[test]
fn a_list_and_lines_hold_the_same_records_and_every_byte_is_hashed() {
    // Brackets, quotes and commas inside strings, nested values, and elements over several lines.
    let records = [
        r#"{"text": "a ] } , \" \\"}"#,
        "{\"text\":\n \"b\", \"more\": [1, {\"deep\": [\"]\"]}]}",
        r#"{"text":"ü 😀"}"#,
    ];
    let list = format!(" \n[{} ,\n\n{},{}\n]\n ", records[0], records[1], records[2]);
    let lines = records.map(|record| record.replace('\n', "") + "\n").concat();
    assert_eq!(texts("a.json", &list), texts("a.jsonl", &lines));
    for (name, content) in [("a.json", list), ("a.jsonl", lines + "\n\n"), ("a.txt", "a\n\nb".into())] {
        let (_folder, spec) = file(name, content.as_bytes());
        assert_eq!(tokenised(&spec, 8).info.sha256, crate::run::hex(&content), "{name}");
    }
}

#[test]
fn broken_lists_are_told_with_their_line() {
    let good = r#"{"text":"t"}"#;
    for (list, line, detail) in [
        (format!("[{good},\n{good}"), 2, "EOF while parsing a list"),
        (format!("[{good}\n{good}]"), 2, "expected `,` or `]`"),
        (format!("[{good},\n]"), 2, "expected value"),
        (format!("[\n{good}]\n{good}"), 3, "trailing characters"),
        (format!("[{good},\n{{\"text\": \"t"), 2, "EOF while parsing a string"),
        (format!("[{good},\n{{\n\"text\" 1}}]"), 3, "expected `:`"),
        (format!("[{good},,{good}]"), 1, "expected value"),
    ] {
        let message = refused("a.json", list.as_bytes());
        let expected = format!("a.json, line {line}: broken JSON ({detail}");
        assert!(message.contains(&expected), "`{expected}` not in: {message}");
    }
    let message = refused("a.json", format!("[{good},\n 7]").as_bytes());
    assert!(message.contains("record 2") && message.contains("not an object"), "{message}");
    let message = refused("a.json", &[b"[", good.as_bytes(), b",\n  {\"text\":\"\xff\"}]"].concat());
    assert!(message.contains("line 2: not UTF-8 (byte 12 of the line)"), "{message}");
    assert!(refused("a.json", b"[ ]").contains("0 records"));
}

/// A reader of `jsonl` and `json` takes memory for one record, not for the file: what it yields is dropped here, and what
/// it keeps is looked at.
#[test]
fn a_reader_keeps_one_record() {
    for (name, content) in
        [("a.jsonl", counted(5000)), ("a.json", format!("[{}]", counted(5000).trim().replace('\n', ",")))]
    {
        let (_folder, spec) = file(name, content.as_bytes());
        let mut reader = Reader::new(&spec);
        while let Some(record) = reader.next() {
            record.unwrap();
            assert!(reader.held() < 100, "{name} holds {} bytes", reader.held());
        }
        assert_eq!(reader.finish("a").unwrap().records, 5000);
    }
}

#[test]
fn a_pass_draws_every_example_once_and_orders_differ() {
    let lines = counted(50);
    let (_folder, spec) = file("a.jsonl", lines.as_bytes());
    let set = tokenised(&spec, 8);
    let mut order = Order::new(1, &set, 0);
    let first = order.take(0, 50);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    assert_ne!(first, order.take(50, 50));
    assert_ne!(first, Order::new(1, &set, 1).take(0, 50));
    assert_eq!(first, Order::new(1, &set, 0).take(0, 50));
}

#[test]
fn no_order_draws_what_is_held_out() {
    let (_folder, spec) = file("a.jsonl", counted(130).as_bytes());
    let whole = tokenised(&spec, 8);
    for scratch in [None, Some(tempfile::tempdir().unwrap())] {
        let mut set = whole.clone();
        let held = set.hold_out(5, scratch.as_ref().map(tempfile::TempDir::path)).unwrap();
        assert_eq!((set.len(), held.len(), held.info.examples), (125, 5, 5));
        assert_eq!(set.info.tokens + held.info.tokens, whole.info.tokens);
        assert_eq!(set.info.loss_tokens + held.info.loss_tokens, whole.info.loss_tokens);
        assert_eq!(set.inputs(), set.batch(0..125).tokens.len() as u64);
        assert_eq!(held.inputs(), held.batch(0..5).tokens.len() as u64);
        let example = |set: &Dataset, i: usize| set.batch([i]).tokens;
        let mut drawn: Vec<Vec<u32>> = Vec::new();
        for (seed, number) in [(1, 0), (1, 1), (7, 3)] {
            let mut order = Order::new(seed, &set, number);
            drawn.extend(order.take(0, 250).into_iter().map(|i| example(&set, i)));
        }
        for i in 0..5 {
            assert!(!drawn.contains(&example(&held, i)), "{i}");
        }
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 125);
        // what stays keeps its order in the files
        let mut places: Vec<Vec<u32>> = (0..130).map(|i| example(&whole, i)).collect();
        let outside: Vec<Vec<u32>> = (0..5).map(|i| example(&held, i)).collect();
        places.retain(|tokens| !outside.contains(tokens));
        assert_eq!(places, (0..125).map(|i| example(&set, i)).collect::<Vec<_>>());
    }
    let mut set = whole.clone();
    assert!(set.hold_out(0, None).unwrap().is_empty());
    assert_eq!((set.len(), set.info), (130, whole.info));
}

#[test]
fn whole_texts_are_held_out() {
    let texts = (0..60).map(|i| vec![Piece::new("x".repeat(20 + i), true)]);
    let mut set = Dataset::of(&texts.collect::<Vec<_>>(), &bytes(), 8);
    let size = set.len();
    let held = set.hold_out(usize::MAX, None).unwrap();
    assert_eq!((held.len(), set.len()), (size / 20, size - size / 20));
    // a window that predicts the end of a text is its last
    let ends = |set: &Dataset| (0..set.len()).filter(|&i| set.batch([i]).targets.ends_with(&[257])).count();
    let begins = |set: &Dataset| (0..set.len()).filter(|&i| set.batch([i]).tokens[0] == 256).count();
    assert!(begins(&held) - ends(&held) <= 1 && ends(&set) - begins(&set) <= 1);
    assert_eq!((begins(&held) + begins(&set), ends(&held) + ends(&set)), (60, 60));
}
