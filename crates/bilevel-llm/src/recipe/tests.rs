use super::*;

const SMALL: &str = r#"
[run]
budget = 1000
[[source]]
name = "a"
path = "a.jsonl"
prompt = "question"
response = "answer"
[[source]]
name = "b"
path = ["b1.txt", "b2.txt"]
[validation]
path = "v.jsonl"
take = 10
[test]
path = "t.jsonl"
skip = 10
"#;

fn refused(text: &str) -> String {
    Recipe::parse(text, Path::new("data")).unwrap_err().to_string()
}

#[test]
fn a_small_recipe_gets_the_defaults_and_its_paths() {
    let recipe = Recipe::parse(SMALL, Path::new("data")).unwrap();
    assert_eq!(recipe.run.seeds, [1, 2, 3]);
    assert_eq!(recipe.sources[0].data.path.as_slice(), [PathBuf::from("data/a.jsonl")]);
    assert_eq!(recipe.sources[1].data.path.as_slice().len(), 2);
    assert_eq!(recipe.reweight.damping, Damping::Horizon);
    assert_eq!(recipe.validation.take, Some(10));
}

#[test]
fn low_rank_changes_have_defaults_and_ranges() {
    let tune = |keys: &str| {
        SMALL.replace(
            "[[source]]\nname = \"a\"",
            &format!(
                "[model]\ncheckpoint = \"m\"\n[tune]\nkind = \"lora\"\n{keys}\n[[source]]\nname = \"a\""
            ),
        )
    };
    let recipe = Recipe::parse(&tune(""), Path::new("")).unwrap();
    assert_eq!(recipe.tune, TuneSpec::Lora { rank: 8, alpha: 16.0, targets: None, layers: None });
    assert_eq!(Recipe::parse(&recipe.to_toml(), Path::new("")).unwrap(), recipe);
    assert!(Recipe::parse(&tune("targets = [\"q\", \"gate\"]"), Path::new("")).is_ok());
    for (keys, parts) in [
        ("rank = 0", ["tune.rank = 0", "1 to 4096"]),
        ("alpha = -1", ["tune.alpha = -1", "positive"]),
        ("layers = 0", ["tune.layers = 0", "at least 1"]),
        ("targets = []", ["tune.targets", "at least one"]),
        ("targets = [\"w\"]", ["recipe, line 6", "Known here: q, k, v"]),
    ] {
        let message = refused(&tune(keys));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let message = refused(&tune("").replace("[model]\ncheckpoint = \"m\"\n", ""));
    assert!(message.contains("tune.kind = lora") && message.contains("set the checkpoint"), "{message}");
}

#[test]
fn a_chat_wants_a_checkpoint_and_conversations() {
    let message = refused(&SMALL.replace("response = \"answer\"", "response = \"answer\"\nchat = true"));
    assert!(message.contains("source.a.chat") && message.contains("set model.checkpoint"), "{message}");
    let with =
        SMALL.replace("[[source]]\nname = \"a\"", "[model]\ncheckpoint = \"m\"\n[[source]]\nname = \"a\"");
    let chat =
        |name: &str| with.replace(&format!("name = \"{name}\""), &format!("name = \"{name}\"\nchat = true"));
    assert!(Recipe::parse(&chat("a"), Path::new("")).unwrap().sources[0].data.chat);
    let message = refused(&chat("b"));
    assert!(message.contains("source.b.chat") && message.contains("no conversation"), "{message}");
}

#[test]
fn a_recipe_survives_its_own_toml() {
    let mut recipe = Recipe::parse(SMALL, Path::new("")).unwrap();
    recipe.reweight.damping = Damping::Fixed(0.5);
    recipe.reweight.initial = Some(Given::Weights([("a".to_owned(), 0.25), ("b".to_owned(), 0.75)].into()));
    recipe.reweight.step = UpperStep::Reach(2.5);
    recipe.reweight.given = Some(Given::OfMethod { file: "a/weights.json".into(), method: Method::Less });
    recipe.tokenizer = Some(TokenizerSpec::Bpe { vocabulary: 300 });
    assert_eq!(Recipe::parse(&recipe.to_toml(), Path::new("")).unwrap(), recipe);
}

#[test]
fn an_unknown_key_is_refused_with_its_nearest_match_and_line() {
    let message = refused(&SMALL.replace("budget = 1000", "budget = 1000\n[train]\nweigt_decay = 0.1"));
    assert!(message.contains("line 5") && message.contains("did you mean `weight_decay`"), "{message}");
    let message = refused(&SMALL.replace("prompt =", "promt ="));
    assert!(message.contains("did you mean `prompt`"), "{message}");
    let message = refused(&SMALL.replace("budget = 1000", "budget = 1000\n[reweight]\nmethods = [\"hgms\"]"));
    assert!(message.contains("did you mean `hg-ms`"), "{message}");
}

#[test]
fn values_out_of_range_name_field_value_and_remedy() {
    for (from, to, parts) in [
        ("budget = 1000", "budget = -5", vec!["line 3", "budget = -5"]),
        ("budget = 1000", "budget = 0", vec!["run.budget = 0", "positive"]),
        ("budget = 1000", "budget = 10\nseeds = [1, 1]", vec!["run.seeds = [1, 1]", "once"]),
        ("budget = 1000", "budget = 10\n[train]\nlr = -1.0", vec!["train.lr = -1", "positive"]),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\ninitial = { a = 0.5, b = 0.6 }",
            vec!["reweight.initial", "1.1", "sum to 1"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\ninitial = { a = 1.5, b = -0.5 }",
            vec!["reweight.initial.a = 1.5", "simplex"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nmax_epochs = 0.0",
            vec!["reweight.max_epochs = 0", "positive"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nmethods = [\"grid\"]\ngrid_step = 0.0005",
            vec!["reweight.grid_step = 0.0005", "2001 points", "at most 1000"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\ngiven = { a = \"half\", b = 0.5 }",
            vec!["line 5", "the path of a weights.json"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight.odm]\nsmoothing = 1.0",
            vec!["reweight.odm.smoothing = 1", "[0, 1)"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight.f2ba]\nlambda_end = 2.0",
            vec!["reweight.f2ba.lambda_end = 2", "at least reweight.f2ba.lambda = 10"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nmethods = [\"regmix\"]\nproxies = 45\nregmix = { regression = \"trees\" }",
            vec!["reweight.proxies = 45", "at least 46", "reweight.regmix.leaf", "\"linear\""],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nmethods = [\"regmix\"]\nregmix = { leaf = 0 }",
            vec!["reweight.regmix.leaf = 0", "at least 1"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nregmix = { regression = \"forest\" }",
            vec!["forest", "Known here: linear, trees"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[reweight.less]\ncheckpoints = 0",
            vec!["reweight.less.checkpoints = 0", "usually 4"],
        ),
        ("budget = 1000", "budget = 10\n[reweight]\ncap = 0.1", vec!["reweight.cap = 0.1", "1/K"]),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\ndamping = -1.0",
            vec!["reweight.damping = -1", "horizon"],
        ),
        ("budget = 1000", "budget = 10\n[reweight]\nstep = 0.0", vec!["reweight.step = 0", "positive"]),
        (
            "budget = 1000",
            "budget = 10\n[reweight]\nstep = { reach = -1.0 }",
            vec!["reweight.step.reach = -1", "positive"],
        ),
        ("budget = 1000", "budget = 10\n[reweight]\nstep = \"far\"", vec!["line 5", "{ reach = … }"]),
        ("budget = 1000", "budget = 10\n[model]\nwidth = 30\nheads = 4", vec!["model.heads = 4", "30"]),
        (
            "budget = 1000",
            "budget = 10\n[model]\ncheckpoint = \"m.gguf\"\nwidth = 64",
            vec!["model.checkpoint = data/m.gguf", "its own sizes"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[model]\ncheckpoint = \"m.gguf\"\n[tokenizer]\nkind = \"bytes\"",
            vec!["tokenizer = given beside", "its own"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[tune]\nkind = \"last-layers\"\nlayers = 2",
            vec!["tune.kind = last-layers", "model.checkpoint"],
        ),
        (
            "budget = 1000",
            "budget = 10\n[model]\ncheckpoint = \"m.gguf\"\n[tune]\nkind = \"last-layers\"\nlayers = 0",
            vec!["tune.layers = 0", "at least 1"],
        ),
        ("name = \"b\"", "name = \"a\"", vec!["source.name = a", "own name"]),
        ("response = \"answer\"", "", vec!["source.a.response", "go together"]),
    ] {
        let message = refused(&SMALL.replace(from, to));
        for part in parts {
            assert!(message.contains(part), "`{part}` not in: {message}");
        }
    }
}

#[test]
fn the_grid_is_refused_for_four_sources() {
    let more = "[[source]]\nname = \"c\"\npath = \"c\"\n[[source]]\nname = \"d\"\npath = \"d\"\n[validation]";
    let text = SMALL.replace("[validation]", more) + "[reweight]\nmethods = [\"grid\"]\n";
    let message = refused(&text);
    assert!(message.contains("at most 3 sources, this recipe has 4"), "{message}");
}
