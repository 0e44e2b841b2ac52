use serde_json::json;

use super::*;
use crate::recipe::Paths;

fn part(name: &str, fields: Fields, token_share: f64, example_share: f64, examples: u64) -> Part {
    Part {
        name: name.into(),
        paths: vec![PathBuf::from(format!("/data/{name}.jsonl"))],
        fields,
        skip: 0,
        is_cut: false,
        token_share,
        spread: Some(0.0125),
        example_share,
        examples,
        epochs: 1.5,
        sha256: "0123456789abcdef".into(),
        is_chat: false,
        notes: Vec::new(),
    }
}
fn pair(prompt: Option<&str>, format: &str) -> Fields {
    Fields::Pair { prompt: prompt.map(Into::into), format: format.into(), response: "answer".into() }
}
fn mixture() -> Mixture {
    let messages = Fields::Messages { field: "conversations".into(), keys: ("from".into(), "value".into()) };
    let mut chats = part("chats", messages, 0.3, 0.2, 1000);
    (chats.skip, chats.is_cut) = (100, true);
    Mixture {
        method: Method::HgMs,
        parts: vec![
            part("maths", pair(Some("question"), "Q: {instruction}\nA: "), 0.5, 0.7, 400),
            chats,
            part("books", Fields::Text { field: "text".into() }, 0.2, 0.1, 600),
        ],
        left_out: vec!["noise".into()],
        seeds: 3,
        version: "0.0.0".into(),
    }
}

fn shown(target: Target) -> String {
    let mut mixture = mixture();
    if target == Target::LlamaFactory {
        mixture.parts.truncate(2);
    }
    let files = render(target, &mixture).unwrap();
    files.iter().flat_map(|(name, text)| ["==> ", name, "\n", text]).collect()
}

#[test]
fn axolotl_as_it_was_accepted() {
    insta::assert_snapshot!(shown(Target::Axolotl));
}
#[test]
fn llama_factory_as_it_was_accepted() {
    insta::assert_snapshot!(shown(Target::LlamaFactory));
}
#[test]
fn hf_as_it_was_accepted() {
    insta::assert_snapshot!(shown(Target::Hf));
}
#[test]
fn nemo_as_it_was_accepted() {
    insta::assert_snapshot!(shown(Target::Nemo));
}

#[test]
fn axolotl_counts_have_the_shares_of_the_mixture() {
    let yaml = &render(Target::Axolotl, &mixture()).unwrap()[0].1;
    // 2000 examples an epoch: 1400 of 400 are 3 passes and 200, 400 of 1000 and 200 of 600 are slices
    assert_eq!(yaml.matches("/data/maths.jsonl").count(), 4);
    assert_eq!(yaml.matches(r#"split: "train""#).count(), 3);
    for slice in [r#""train[:200]""#, r#""train[100:500]""#] {
        assert!(yaml.contains(slice), "{slice}");
    }
}

#[test]
fn a_tiny_source_does_not_stand_in_the_list_without_end() {
    let mut mixture = mixture();
    mixture.parts[0].examples = 1;
    let yaml = &render(Target::Axolotl, &mixture).unwrap()[0].1;
    assert_eq!(yaml.matches("/data/maths.jsonl").count(), 20);
}

#[test]
fn json_files_are_json_and_shares_sum_to_one() {
    for (target, name) in [
        (Target::LlamaFactory, "dataset_info.json"),
        (Target::Hf, "mixture.json"),
        (Target::Nemo, "nemo_blend.json"),
    ] {
        let mut mixture = mixture();
        mixture.parts.truncate(2);
        let files = render(target, &mixture).unwrap();
        let (_, text) = files.iter().find(|(file, _)| *file == name).unwrap();
        serde_json::from_str::<Value>(text).unwrap();
    }
    for weights in [vec![1.0, 1.0, 1.0], vec![0.1, 1e-9, 3.0], vec![5.0], vec![1.0 / 7.0; 7]] {
        let shares = rounded(&weights);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-15 * shares.len() as f64, "{shares:?}");
    }
}

#[test]
fn what_a_trainer_cannot_read_is_refused_with_a_remedy() {
    let refused = |target, change: &dyn Fn(&mut Part)| {
        let mut mixture = mixture();
        change(&mut mixture.parts[0]);
        render(target, &mixture).unwrap_err().to_string()
    };
    let two = |part: &mut Part| part.paths.push("/data/more.jsonl".into());
    assert!(refused(Target::LlamaFactory, &two).contains("source `maths`: it has 2 files; join them"));
    let text = |part: &mut Part| part.paths = vec!["/data/book.txt".into()];
    for target in [Target::Axolotl, Target::LlamaFactory, Target::Nemo] {
        assert!(refused(target, &text).contains("plain text"));
    }
    assert!(refused(Target::LlamaFactory, &|_| ()).contains("source `books`: it is running text"));
    let no_field = |part: &mut Part| part.fields = pair(None, "{a} and {b}");
    assert!(refused(Target::Axolotl, &no_field).contains("exactly one field"));
    assert_eq!(
        "deepspeed".parse::<Target>().unwrap_err().to_string(),
        "no trainer is called `deepspeed`; known are axolotl, llama-factory, hf and nemo"
    );
    for target in Target::ALL {
        assert_eq!(target.name().parse::<Target>().unwrap(), target);
    }
}

#[test]
fn templates_with_one_field_become_formats() {
    assert_eq!(of_template("Q: {q}\nA: "), (Some("q".into()), "Q: {instruction}\nA: ".into()));
    assert_eq!(of_template("{a} {b}").0, None);
    assert_eq!(of_template("{{x}} {b}").0, None);
}

#[test]
fn fields_that_are_not_named_are_seen_in_the_first_record_as_a_run_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let spec = DataSpec { path: Paths::One(path.clone()), ..DataSpec::default() };
    let is_learned_of = |record: Value| {
        std::fs::write(&path, format!("{record}\n")).unwrap();
        let records: Vec<_> = crate::source::Reader::new(&spec).collect::<Result<_, _>>().unwrap();
        (fields(&spec).unwrap(), records[0].iter().map(|piece| piece.text.clone()).collect::<Vec<_>>())
    };
    for prompt in PROMPT_FIELDS {
        for response in RESPONSE_FIELDS {
            let (found, texts) = is_learned_of(json!({ prompt: "p", response: "r" }));
            assert_eq!(texts, ["p\n", "r"]);
            let format = "{instruction}\n".into();
            assert_eq!(
                found,
                Fields::Pair { prompt: Some(prompt.into()), format, response: response.into() }
            );
        }
    }
    for field in MESSAGE_FIELDS {
        let (found, texts) =
            is_learned_of(json!({ field: [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}] }));
        assert_eq!(texts.len(), 2);
        assert_eq!(found, Fields::Messages { field: field.into(), keys: ("from".into(), "value".into()) });
    }
    assert_eq!(is_learned_of(json!({"text": "t"})).0, Fields::Text { field: "text".into() });
}

const RESULT: &str = r#"{"schema": 1, "versions": {}, "validation": {"examples": 1, "tokens": 1, "loss_tokens": 1, "truncated": 0, "sha256": ""},
  "test": {"examples": 1, "tokens": 1, "loss_tokens": 1, "truncated": 0, "sha256": ""},
  "model": {"parameters": 1, "layers": 1, "width": 1, "context": 1, "vocabulary": 1}, "seeds": [1], "budget": 10, "comparisons": [], "warnings": [],
  "sources": [
    {"name": "long", "examples": 100, "tokens": 9000, "loss_tokens": 4000, "truncated": 0, "sha256": "aa", "overlap_with_validation": 0, "overlap_with_test": 0},
    {"name": "none", "examples": 100, "tokens": 9000, "loss_tokens": 4000, "truncated": 0, "sha256": "cc", "overlap_with_validation": 0, "overlap_with_test": 0},
    {"name": "short", "examples": 100, "tokens": 9000, "loss_tokens": 1000, "truncated": 0, "sha256": "bb", "overlap_with_validation": 0, "overlap_with_test": 0}],
  "methods": [{"method": "hg-ms", "test_loss": 1.0, "test_loss_sd": null, "seeds": [],
    "weights": [{"mean": 0.5, "sd": 0.1, "epochs": 1}, {"mean": 1e-9, "sd": 0, "epochs": 0}, {"mean": 0.499999999, "sd": null, "epochs": 2}]}],
  "recipe": "[run]\nbudget = 10\n[[source]]\nname = \"short\"\npath = \"s.jsonl\"\nprompt = \"p\"\nresponse = \"r\"\nskip = 5\n[[source]]\nname = \"none\"\npath = \"n.jsonl\"\ntext = \"t\"\n[[source]]\nname = \"long\"\npath = \"l.jsonl\"\nprompt = \"p\"\nresponse = \"r\"\n[validation]\npath = \"v.jsonl\"\n[test]\npath = \"t.jsonl\"\n"}"#;

#[test]
fn shares_of_examples_undo_the_length_of_responses() {
    let result: RunResult = serde_json::from_str(RESULT).unwrap();
    let mixture = Mixture::new(&result, None).unwrap();
    let shares: Vec<_> =
        mixture.parts.iter().map(|p| (p.name.as_str(), p.token_share, p.example_share)).collect();
    // responses of 40 and of 10 tokens at equal weight: one long example to four short ones
    assert_eq!(shares, [("long", 0.5, 0.2), ("short", 0.5, 0.8)]);
    assert_eq!(mixture.left_out, ["none"]);
    assert_eq!(mixture.parts[1].split(), "train[5:]");

    let error = Mixture::new(&result, Some(Method::Uniform)).unwrap_err().to_string();
    assert_eq!(error, "the run has no weights of `uniform`; it has those of hg-ms; give one of them");
}

#[test]
fn a_run_is_written_for_every_trainer() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weights.json"), RESULT).unwrap();
    for target in Target::ALL {
        let files = write(folder.path(), target, None, &folder.path().join("out")).unwrap();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains("short") && text.ends_with('\n'));
        }
    }
    let error = write(&folder.path().join("no"), Target::Hf, None, folder.path()).unwrap_err().to_string();
    assert!(error.contains("no/weights.json") && error.contains("result folder"), "{error}");
}

/// A run over sources that the recipe changed, with the files that it read.
mod changed_records {
    use std::fmt::Write as _;

    use super::*;
    use crate::{
        recipe::SourceSpec,
        result::{DataInfo, SourceInfo},
        source::{Encoder, gather},
        tokenizer::Tokenizer,
    };

    const RECIPE: &str = r#"
[run]
budget = 10
[model]
checkpoint = "model.gguf"
[data]
deduplicate = "exact"
overlap = "remove"
overlap_words = 3
[[source]]
name = "chats"
path = "chats.jsonl"
messages = "turns"
skip = 1
[[source]]
name = "clean"
path = "clean.jsonl"
prompt = "p"
response = "r"
[[source]]
name = "pairs"
path = "pairs.jsonl"
prompt = "q"
response = "a"
[[source]]
name = "text"
path = "text.txt"
[[source]]
name = "wrong"
path = "wrong.jsonl"
template = "Q: {q}\nA: "
response = "a"
shuffle_answers = true
[validation]
path = "v.jsonl"
prompt = "p"
response = "r"
[test]
path = "t.jsonl"
prompt = "p"
response = "r"
"#;

    fn lines(records: &[Value]) -> String {
        records.iter().fold(String::new(), |mut text, record| {
            let _ = writeln!(text, "{record}");
            text
        })
    }

    fn files() -> [(&'static str, String); 7] {
        let turns = |q: &str, a: &str| json!({ "turns": [{"from": "system", "value": "be brief"}, {"from": "human", "value": q}, {"from": "gpt", "value": a}] });
        [
            ("v.jsonl", lines(&[json!({"p": "the first of all", "r": "validation"})])),
            ("t.jsonl", lines(&[json!({"p": "the last of all", "r": "test"})])),
            (
                "chats.jsonl",
                lines(&[
                    turns("skipped", "skipped"),
                    turns("one and one", "two"),
                    turns("one and one", "two"),
                    turns("up or down", "up"),
                ]),
            ),
            ("clean.jsonl", lines(&[json!({"p": "nothing to", "r": "leave out"})])),
            // the second stands in the test set
            (
                "pairs.jsonl",
                lines(&[
                    json!({"q": "name a colour", "a": "red"}),
                    json!({"q": "the last of all", "a": "test"}),
                    json!({"q": "name a beast", "a": "cat"}),
                ]),
            ),
            (
                "text.txt",
                "A text of some words.\n\na  text of some words.\n\nAnother one, of others.\n".to_owned(),
            ),
            (
                "wrong.jsonl",
                lines(&[
                    json!({"q": "1", "a": "one"}),
                    json!({"q": "2", "a": "two"}),
                    json!({"q": "3", "a": "three"}),
                ]),
            ),
        ]
    }

    /// The result folder of a run of this recipe.
    fn run(folder: &Path, recipe: &str) {
        for (name, text) in files() {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let recipe = Recipe::parse(recipe, folder).unwrap();
        let tokenizer =
            Tokenizer::new(&crate::recipe::TokenizerSpec::Bytes, std::iter::empty::<String>()).unwrap();
        let plain = |spec: &DataSpec| DataSpec { chat: false, ..spec.clone() };
        let sources: Vec<SourceSpec> = recipe
            .sources
            .iter()
            .map(|s| SourceSpec { name: s.name.clone(), data: plain(&s.data) })
            .collect();
        let sources: Vec<&SourceSpec> = sources.iter().collect();
        let all = gather(&recipe, &sources, Encoder::new(&tokenizer, None), 100).unwrap();
        let weights: Vec<Value> =
            all.infos.iter().map(|_| json!({"mean": 0.2, "sd": null, "epochs": 1.0})).collect();
        let result = json!({
            "schema": 1, "versions": {}, "sources": all.infos, "validation": all.validation.info, "test": all.test.info,
            "model": {"parameters": 1, "layers": 1, "width": 1, "context": 1, "vocabulary": 1}, "seeds": [1], "budget": 10,
            "methods": [{"method": "hg-ms", "weights": weights, "seeds": [], "test_loss": 1.0, "test_loss_sd": null}],
            "comparisons": [], "warnings": [], "recipe": recipe.to_toml(),
        });
        let run = folder.join("run");
        std::fs::create_dir_all(&run).unwrap();
        std::fs::write(run.join("weights.json"), result.to_string()).unwrap();
        std::fs::write(run.join("recipe.toml"), recipe.to_toml()).unwrap();
    }

    fn records(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn are_written_as_the_run_used_them_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), RECIPE);
        let out = folder.path().join("out");
        let written = write(&folder.path().join("run"), Target::Axolotl, None, &out).unwrap();
        let data = |name: &str| out.join("data").join(name);
        assert_eq!(
            written,
            [
                out.join("axolotl.yaml"),
                data("chats.jsonl"),
                data("pairs.jsonl"),
                data("text.jsonl"),
                data("wrong.jsonl")
            ]
        );
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let chat = |q: &str, a: &str| json!({ "messages": [message("system", "be brief"), message("user", q), message("assistant", a)] });
        assert_eq!(records(&data("chats.jsonl")), [chat("one and one", "two"), chat("up or down", "up")]);
        let pair = |p: &str, r: &str| json!({ "prompt": p, "response": r });
        assert_eq!(
            records(&data("pairs.jsonl")),
            [pair("name a colour", "red"), pair("name a beast", "cat")]
        );
        assert_eq!(
            records(&data("text.jsonl")),
            [json!({"text": "A text of some words.\n"}), json!({"text": "Another one, of others.\n"})]
        );
        let wrong = [pair("Q: 1\nA: ", "two"), pair("Q: 2\nA: ", "three"), pair("Q: 3\nA: ", "one")];
        assert_eq!(records(&data("wrong.jsonl")), wrong);

        let yaml = std::fs::read_to_string(out.join("axolotl.yaml")).unwrap();
        // the originals are not named but where nothing was changed
        for (name, is_named) in [("chats", false), ("clean", true), ("pairs", false), ("wrong", false)] {
            let original = absolute(&folder.path().join(format!("{name}.jsonl")));
            assert_eq!(yaml.contains(&quoted_path(&original)), is_named, "{name}: {yaml}");
        }
        assert!(yaml.contains(&quoted_path(&absolute(&data("wrong.jsonl")))), "{yaml}");
        for part in [
            "data/chats.jsonl holds its records as the run used them: 1 left out as duplicates or overlaps",
            "with the answers of others (shuffle_answers)",
            "the run read these conversations as lines of text",
            "field_instruction: \"prompt\"\n      field_output: \"response\"\n      format: \"{instruction}\\n\"",
            "format: \"{instruction}\"\n",
            "field_messages: \"messages\"",
            "type: completion\n    field: \"text\"",
        ] {
            assert!(yaml.contains(part), "{part} is not in {yaml}");
        }
        assert!(!yaml.contains("train[1:") && !yaml.contains("chat_template: tokenizer_default"), "{yaml}");
        for target in [Target::Hf, Target::Nemo] {
            write(&folder.path().join("run"), target, None, &out).unwrap();
        }
        let python = std::fs::read_to_string(out.join("mixture.py")).unwrap();
        assert!(
            python.contains(&quoted_path(&absolute(&data("text.jsonl")))) && !python.contains("sample_by")
        );
    }

    /// Pairs that a chat template writes are conversations for every trainer.
    #[test]
    fn pairs_of_a_chat_are_conversations() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = RECIPE
            .replace("deduplicate = \"exact\"", "")
            .replace("overlap = \"remove\"", "")
            .replace("[[source]]\nname = \"text\"\npath = \"text.txt\"\n", "")
            .replace("response = \"a\"\n[[source]]", "response = \"a\"\nchat = true\n[[source]]")
            .replace("messages = \"turns\"", "messages = \"turns\"\nchat = true");
        run(folder.path(), &recipe);
        let out = folder.path().join("out");
        let written = write(&folder.path().join("run"), Target::Axolotl, None, &out).unwrap();
        // the conversations of chats are such already
        assert_eq!(written.len(), 3);
        let pairs = records(&out.join("data/pairs.jsonl"));
        assert_eq!(pairs.len(), 3);
        assert_eq!(
            pairs[0],
            json!({ "messages": [{"role": "user", "content": "name a colour"}, {"role": "assistant", "content": "red"}] })
        );
        let yaml = std::fs::read_to_string(out.join("axolotl.yaml")).unwrap();
        for part in
            ["chat_template: tokenizer_default\n", "by the chat template of the run's checkpoint", "(chat)"]
        {
            assert!(yaml.contains(part), "{part} is not in {yaml}");
        }
        assert!(!yaml.contains("as lines of text"), "{yaml}");
        let hf = folder.path().join("hf");
        write(&folder.path().join("run"), Target::Hf, None, &hf).unwrap();
        let list = std::fs::read_to_string(hf.join("mixture.json")).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let chats: Vec<bool> =
            list["sources"].as_array().unwrap().iter().map(|s| s["is_chat"] == true).collect();
        assert_eq!(chats, [true, false, true, false]);
    }

    #[test]
    fn of_plain_text_are_written_for_trainers_that_do_not_read_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("more.jsonl"), lines(&[json!({"text": "more"})])).unwrap();
        let (others, _) = RECIPE.split_once("[data]").unwrap();
        let (_, sets) = RECIPE.split_once("[validation]").unwrap();
        let sources = "[[source]]\nname = \"half\"\npath = [\"text.txt\", \"more.jsonl\"]\n[[source]]\nname = \"text\"\npath = \"text.txt\"\nskip = 1\n";
        run(folder.path(), &format!("{others}{sources}[validation]{sets}"));
        let text = |text: &str| json!({ "text": text });
        let documents = [
            text("A text of some words.\n"),
            text("a  text of some words.\n"),
            text("Another one, of others.\n"),
        ];
        for target in Target::ALL {
            let out = folder.path().join(target.name());
            let written = write(&folder.path().join("run"), target, None, &out).unwrap();
            let data = |name: &str| out.join("data").join(name);
            assert_eq!(records(&data("half.jsonl")), [&documents[..], &[text("more")]].concat());
            let all: String = written.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
            // documents that are alone are read where they are by one trainer
            let is_read = target == Target::Hf;
            assert_eq!(written.contains(&data("text.jsonl")), !is_read, "{target}");
            let original = absolute(&folder.path().join("text.txt"));
            assert_eq!(all.contains(&quoted_path(&original)), is_read, "{target}: {all}");
            let note = "data/half.jsonl holds its records as the run used them: one for each document of its plain text";
            assert!(all.contains(note), "{target}: {all}");
            if !is_read {
                // the skipped one is not among them
                assert_eq!(records(&data("text.jsonl")), documents[1..]);
                assert!(!all.contains("train[1:"), "{target}: {all}");
            }
        }
    }

    #[test]
    fn are_refused_when_the_files_are_others_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), RECIPE);
        let export = || {
            write(&folder.path().join("run"), Target::Hf, None, &folder.path().join("out"))
                .unwrap_err()
                .to_string()
        };
        let path = folder.path().join("pairs.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("red", "the last of all")).unwrap();
        let error = export();
        assert!(
            error.starts_with("pairs: its files changed since the run, which used 2 records; now 1 of 3"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        let error = export();
        assert!(error.contains("pairs.jsonl") && error.contains("run where they are"), "{error}");
    }

    #[test]
    fn of_several_kinds_are_refused() {
        let mut mixed = part("mixed", pair(Some("prompt"), "{instruction}\n"), 1.0, 1.0, 2);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mixed.jsonl");
        std::fs::write(
            &path,
            lines(&[
                json!({"prompt": "p", "response": "r"}),
                json!({"text": "t"}),
                json!({"prompt": "p", "response": "r"}),
            ]),
        )
        .unwrap();
        let info = DataInfo { examples: 2, removed: 1, ..DataInfo::default() };
        mixed.paths = vec![path.clone()];
        let recipe = Recipe::parse(&format!("[run]\nbudget = 1\n[data]\ndeduplicate = \"exact\"\n[[source]]\nname = \"mixed\"\npath = {path:?}\n[validation]\npath = {path:?}\n[test]\npath = {path:?}\n"), Path::new("")).unwrap();
        let sha256 = {
            let mut reader = crate::source::Reader::new(&recipe.test);
            assert_eq!((&mut reader).count(), 3);
            reader.finish("test").unwrap().sha256
        };
        let result: RunResult = serde_json::from_str(RESULT).unwrap();
        let whole = DataInfo { examples: 3, sha256: sha256.clone(), ..DataInfo::default() };
        let result = RunResult {
            sources: vec![SourceInfo {
                name: "mixed".into(),
                data: DataInfo { sha256, ..info },
                ..SourceInfo::default()
            }],
            validation: whole.clone(),
            test: whole,
            ..result
        };
        let mut mixture = Mixture { parts: vec![mixed], ..mixture() };
        let error = records::write(&result, &recipe, &mut mixture, Target::Hf, folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("hf cannot read source `mixed`: its records are of several kinds"), "{error}");
    }
}
