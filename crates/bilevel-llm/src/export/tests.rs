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
