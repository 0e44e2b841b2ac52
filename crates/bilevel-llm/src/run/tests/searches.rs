//! What each method finds, spends and promises.

use super::*;

/// Acceptance item 22 of the specification of HG-MS.
#[test]
fn acceptance_22_ledger_entries_sum_to_the_budget_within_one_training_step() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods.push(Method::Alignment);
    let result = run(&recipe);
    // 2 sources × 2 sequences × (10 tokens: begin, 8 letters, a line's end)
    let step = 3.0 * 4.0 * 10.0;
    for seed in result.methods.iter().flat_map(|m| &m.seeds) {
        for ledger in seed.search.iter().chain([&seed.retraining]) {
            let sum: f64 = ledger.entries.iter().map(|e| e.units).sum();
            assert!((sum - ledger.spent).abs() < 1e-6);
            assert!(sum <= ledger.budget && ledger.budget - sum < step, "{ledger:?}");
        }
    }
    spends_on_what_it_declares(&result);
}

#[test]
fn noise_falls_and_retraining_with_the_weights_beats_uniform() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 200_000;
    recipe.run.seeds = vec![1, 2, 3];
    let result = run(&recipe);
    assert_eq!(result.sources[0].name, "noise");
    for seed in &result.methods[0].seeds {
        assert!(seed.weights[0] < 0.25, "{:?}", seed.weights);
    }
    let comparison = &result.comparisons[0];
    assert!(comparison.difference < 0.0, "{comparison:?}");
}

#[test]
fn identical_sources_get_equal_weight_within_the_noise_bar() {
    let (_folder, mut recipe) = folder(&["up-a", "up-b"]);
    recipe.run.seeds = vec![1, 2, 3, 4];
    let result = run(&recipe);
    let [a, b] = &result.methods[0].weights[..] else { panic!("two sources") };
    // the difference of the two is 2·(a − ½); four seeds: three standard errors are 1.5 standard deviations
    assert!((a.mean - 0.5).abs() <= 1.5 * a.sd.unwrap() + 1e-12, "{a:?} {b:?}");
}

#[test]
fn permuting_the_sources_permutes_the_weights() {
    let (folder, recipe) = folder(&["up", "noise", "twin"]);
    let mut turned = recipe.clone();
    turned.sources.rotate_left(1);
    turned.run.out = folder.path().join("turned");
    let (a, b) = (run(&recipe), run(&turned));
    assert_eq!(a.methods, b.methods);
    assert_eq!(a.sources, b.sources);
}

#[test]
fn one_source_gets_weight_one_and_no_signal() {
    let (_folder, recipe) = folder(&["up"]);
    let result = run(&recipe);
    let seed = &result.methods[0].seeds[0];
    assert_eq!(seed.weights, [1.0]);
    assert!(seed.cycles > 0 && seed.no_signal == seed.cycles, "{seed:?}");
}

#[test]
fn a_random_mixture_is_one_of_its_seed_and_trained_with_the_same_budget() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.run.budget = 20_000;
    recipe.run.seeds = vec![1, 2];
    recipe.reweight.methods = vec![Method::Random, Method::Uniform];
    let result = run(&recipe);
    let seeds = &result.methods[0].seeds;
    assert_ne!(seeds[0].weights, seeds[1].weights);
    for seed in seeds {
        assert!((seed.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{seed:?}");
        assert!(seed.search.is_none(), "nothing is learned");
        assert_eq!(seed.retraining.budget, 20_000.0);
    }
    assert!(result.comparisons.iter().any(|c| (c.method, c.baseline) == (Method::Uniform, Method::Random)));
    assert_eq!(result.methods, run(&recipe).methods);
}

#[test]
fn scalebio_lowers_noise_gives_twins_equal_weight_and_pays_for_both_networks() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::ScaleBioReleased, Method::ScaleBio];
    recipe.reweight.scalebio.step = 0.05;
    let result = run(&recipe);
    spends_on_what_it_declares(&result);
    for method in &result.methods {
        for seed in &method.seeds {
            let search = seed.search.as_ref().unwrap();
            let tokens = |words: &str| search.entries.iter().find(|e| e.entry == words).unwrap().tokens;
            assert!(tokens("training") > 0 && tokens("validation gradients") > 0);
            // a step of the search costs more than two of the retraining
            assert!(2 * search.steps < seed.retraining.steps, "{search:?}");
            let total: f64 = seed.weights.iter().sum();
            assert!((total - 1.0).abs() < 1e-12, "{:?}", seed.weights);
        }
        let [noise, twin, up] = &method.weights[..] else { panic!("three sources") };
        assert!(noise.mean < twin.mean && noise.mean < up.mean, "{}: {:?}", method.method, method.weights);
    }
}

#[test]
fn published_rules_of_alignment_lower_noise_as_far_as_they_move() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::DoGe, Method::FastMix];
    let result = run(&recipe);
    for method in &result.methods {
        let [noise, twin, up] = &method.weights[..] else { panic!("three sources") };
        assert!(noise.mean < twin.mean && noise.mean < up.mean, "{}: {:?}", method.method, method.weights);
    }
    // an update of Adam is at most 0.1/√(0.05 (1 − 0.81/0.95)) = 1.17 times its step size
    let seed = &result.methods[1].seeds[0];
    let spread =
        (seed.weights[2] / seed.weights[0]).ln().abs().max((seed.weights[1] / seed.weights[0]).ln().abs());
    assert!(spread < 2.0 * 1.17e-2 * seed.cycles as f64, "{spread} in {} cycles", seed.cycles);
}

#[test]
fn f2ba_lowers_noise_and_certifies_each_cycle() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::F2ba];
    recipe.reweight.f2ba.lambda_end = Some(30.0);
    let result = run(&recipe);
    let [noise, twin, up] = &result.methods[0].weights[..] else { panic!("three sources") };
    assert!(noise.mean < twin.mean && noise.mean < up.mean, "{:?}", result.methods[0].weights);
    let seed = &result.methods[0].seeds[0];
    let steps = seed.search.as_ref().unwrap().steps;
    // two networks, a gradient on the target, and losses in each cycle
    assert!(2 * steps < seed.retraining.steps, "{seed:?}");
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let certificates = rows.iter().filter(|row| row.certificate.is_some());
    assert_eq!(certificates.count() as u64, steps / recipe.reweight.cycle);
}

#[test]
fn influences_lower_noise_are_projected_alike_and_fewer_where_they_are_dear() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::Less];
    recipe.reweight.source_batch = 16;
    let whole = run(&recipe);
    let weights =
        |result: &RunResult| result.methods[0].weights.iter().map(|bar| bar.mean).collect::<Vec<f64>>();
    let p = weights(&whole);
    assert!(p[0] < p[1].min(p[2]), "{p:?}");
    let tokens = |result: &RunResult| {
        let search = result.methods[0].seeds[0].search.as_ref().unwrap();
        search.entries.iter().find(|e| e.entry == "gradients of single examples").unwrap().tokens
    };
    // 16 examples of 10 tokens of 3 sources at 4 places
    assert_eq!(tokens(&whole), 4 * 3 * 16 * 10);
    recipe.run.out = recipe.run.out.join("projected");
    recipe.reweight.less.dimension = Some(4096);
    let q = weights(&run(&recipe));
    // cosines are off by about 1/64, each on its own, and the means of 64 of them by an eighth of that
    assert!(q[0] < q[1].min(q[2]) && q.iter().zip(&p).all(|(q, p)| (q - p).abs() < 0.1), "{p:?} {q:?}");
    // 3 units for each of (16 + 48) · 10 tokens: half of this budget pays for one place
    recipe.run.out = recipe.run.out.join("short");
    recipe.run.budget = 5_000;
    assert_eq!(tokens(&run(&recipe)), 3 * 16 * 10);
}

#[test]
fn doremi_and_regmix_spend_one_budget_and_twins_are_treated_alike() {
    let (_folder, mut recipe) = folder(&["up", "noise", "twin"]);
    recipe.reweight.methods = vec![Method::DoReMi, Method::RegMix];
    recipe.reweight.proxies = 6;
    // other examples would be held out of one twin than of the other
    recipe.evaluate.source_examples = 0;
    let result = run(&recipe);
    spends_on_what_it_declares(&result);
    for method in &result.methods {
        for seed in &method.seeds {
            let search = seed.search.as_ref().unwrap();
            assert!(search.spent <= search.budget && search.spent > 0.7 * search.budget, "{search:?}");
            assert!((seed.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{:?}", seed.weights);
        }
    }
    // a proxy that differs from its reference by its weights alone has the same excess on equal sources, up to their
    // different examples
    let [_, twin, up] = &result.methods[0].weights[..] else { panic!("three sources") };
    assert!((twin.mean - up.mean).abs() < 0.1, "{:?}", result.methods[0].weights);
    assert_eq!(result.methods, run(&recipe).methods);
}

#[test]
fn proxies_are_judged_on_what_a_quarter_of_their_share_pays_for_and_refused_where_it_pays_for_no_step() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods = vec![Method::RegMix];
    recipe.reweight.proxies = 20;
    // 1,000 units a proxy, of which its 40 validation examples of 10 tokens would take two fifths
    recipe.run.budget = 20_000;
    let search = |result: RunResult| result.methods[0].seeds[0].search.clone().unwrap();
    let spent = search(run(&recipe));
    let scoring = spent.entries.iter().find(|e| e.entry.contains("selection")).unwrap();
    assert!(scoring.units > 0.2 * spent.budget && scoring.units <= 0.25 * spent.budget, "{scoring:?}");
    assert!(spent.spent > 0.7 * spent.budget, "{spent:?}");

    recipe.run.out = recipe.run.out.join("short");
    recipe.run.budget = 2_000;
    let error = reweight(&recipe, &mut Silent, &AtomicBool::new(false)).unwrap_err().to_string();
    for part in ["reweight.proxies = 20", "100 units", "fewer proxies", "run.budget"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_bandit_goes_where_the_loss_is_and_has_steps_without_one_of_the_sources() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.reweight.methods = vec![Method::Odm];
    recipe.reweight.odm.draws = Some(1);
    recipe.run.evaluations = 50;
    let result = run(&recipe);
    // noise cannot be learned: its loss stays, and it is drawn more
    assert!(result.methods[0].weights[0].mean > 0.5, "{:?}", result.methods[0].weights);
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let search: Vec<_> = rows.iter().filter(|row| row.phase == Phase::Search && row.step > 0).collect();
    assert!(search.len() > 20);
    for row in search {
        assert_eq!(row.source_losses.iter().flatten().count(), 1, "{row:?}");
        assert_eq!(row.train_loss, row.source_losses.iter().flatten().next().copied());
    }
    // with one draw a step is half as dear, and there are twice as many
    let steps = |report: &crate::result::LedgerReport| report.steps as f64;
    let seed = &result.methods[0].seeds[0];
    let ratio = steps(seed.search.as_ref().unwrap()) / steps(&seed.retraining);
    assert!((ratio - 2.0).abs() < 0.02, "{ratio}");
}

#[test]
fn a_source_without_a_batch_adds_nothing_to_the_gradient() {
    let (_folder, recipe) = folder(&["up", "noise"]);
    let setting = prepare(&recipe).unwrap().setting;
    let mut orders: Vec<Order> = setting.sources.iter().map(|s| Order::new(1, s, 0)).collect();
    let network = setting.fresh(1, 0);
    let mut buffers = Buffers::new(&setting);
    let both = StepBatch::of(&setting, &mut orders, &[(6, 2), (6, 2)]);
    assert_eq!(both.tokens, StepBatch::draw(&setting, &mut orders, 3).tokens);
    let whole = weighted_gradient(&setting, &network, &both, &[0.0, 0.7], &mut buffers);
    let expected = buffers.total.clone();
    let one = StepBatch::of(&setting, &mut orders, &[(6, 0), (6, 2)]);
    let losses = weighted_gradient(&setting, &network, &one, &[0.3, 0.7], &mut buffers);
    assert_eq!((losses.losses[0], losses.gradient_norms[0]), (None, None));
    assert_eq!(losses.losses[1], whole.losses[1]);
    assert_eq!(losses.total, 0.7 * whole.losses[1].unwrap());
    assert_eq!(losses.largest_gradient(), losses.gradient_norms[1].unwrap());
    assert_eq!(buffers.total, expected);
}

#[test]
fn given_weights_are_trained_with() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 20_000;
    recipe.reweight.methods = vec![Method::Given];
    assert!(recipe.validate().unwrap_err().to_string().contains("reweight.given"));
    recipe.reweight.given = Some(Given::Weights([("up".to_owned(), 0.9), ("noise".to_owned(), 0.1)].into()));
    assert_eq!(run(&recipe).methods[0].seeds[0].weights, [0.1, 0.9]);
}

/// Weights learned on a small proxy are applied to a larger model, by the path of the proxy's result.
#[test]
fn weights_of_another_run_are_transferred_by_its_file_and_the_file_is_not_needed_again() {
    let (folder, mut proxy) = folder(&["up", "noise"]);
    proxy.run.budget = 20_000;
    proxy.reweight.methods = vec![Method::Uniform, Method::Random];
    proxy.run.out = folder.path().join("proxy");
    let learned = run(&proxy).methods[1].seeds[0].weights.clone();
    let file = proxy.run.out.join("weights.json");

    let text = proxy.to_toml() + "\n[reweight.given]\nfile = \"proxy/weights.json\"\nmethod = \"random\"\n";
    let mut recipe = Recipe::parse(&text, folder.path()).unwrap();
    recipe.model.layers = Some(2);
    recipe.reweight.methods = vec![Method::Given];
    recipe.run.out = folder.path().join("large");
    let result = run(&recipe);
    assert_eq!(result.methods[0].seeds[0].weights, learned);
    // the first method that ran there, when none is named
    recipe.reweight.given = Some(Given::File(file.clone()));
    assert_eq!(prepare(&recipe).unwrap().setting.recipe.reweight.given, Some(equal()));

    let refused = |given: Given| {
        let recipe = Recipe {
            reweight: ReweightSpec { given: Some(given), ..recipe.reweight.clone() },
            ..recipe.clone()
        };
        prepare(&recipe).unwrap_err().to_string()
    };
    let error = refused(Given::OfMethod { file: file.clone(), method: Method::HgMs });
    assert!(error.contains("no weights of hg-ms; it has those of uniform, random"), "{error}");
    let error = refused(Given::File(folder.path().join("up.jsonl")));
    assert!(error.contains("up.jsonl") && error.contains("not the weights.json of a run"), "{error}");
    let error = refused(Given::File(folder.path().join("none.json")));
    assert!(error.contains("none.json") && error.contains("run that has ended"), "{error}");
    let mut others = recipe.clone();
    others.sources[0].name = "rise".into();
    let error = prepare(&others).unwrap_err().to_string();
    assert!(
        error.contains("reweight.given.up") && error.contains("noise, rise") && error.contains("proxy"),
        "{error}"
    );

    fs::remove_file(&file).unwrap();
    assert_eq!(resume(&folder.path().join("large"), &mut Silent, &AtomicBool::new(false)).unwrap(), result);
}

#[test]
fn a_search_starts_at_the_weights_that_another_run_found() {
    let (folder, mut first) = folder(&["up", "noise"]);
    first.run.budget = 20_000;
    first.reweight.methods = vec![Method::Random, Method::Given];
    first.reweight.given = Some(Given::Weights([("up".to_owned(), 1.0), ("noise".to_owned(), 0.0)].into()));
    first.run.out = folder.path().join("first");
    let learned = run(&first).methods[0].seeds[0].weights.clone();
    let file = first.run.out.join("weights.json");

    let mut recipe = first.clone();
    recipe.reweight.given = None;
    recipe.reweight.initial = Some(Given::File(file.clone()));
    recipe.reweight.methods = vec![Method::HgMs];
    recipe.run.out = folder.path().join("second");
    run(&recipe);
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let row: crate::TraceRow = serde_json::from_str(trace.lines().next().unwrap()).unwrap();
    assert_eq!(row.step, 0);
    for (started, learned) in row.weights.iter().zip(&learned) {
        // by way of their logarithms
        assert!((started - learned).abs() < 1e-12, "{started} {learned}");
    }
    // the recipe that is kept says them in numbers
    let kept = Recipe::load(&recipe.run.out.join("recipe.toml")).unwrap();
    assert!(matches!(kept.reweight.initial, Some(Given::Weights(_))));

    let mut refused = |initial: Given| {
        recipe.reweight.initial = Some(initial);
        prepare(&recipe).unwrap_err().to_string()
    };
    let error = refused(Given::OfMethod { file: file.clone(), method: Method::Given });
    assert!(error.contains("reweight.initial.noise = 0") && error.contains("never rise again"), "{error}");
    assert!(error.contains("first/weights.json"), "{error}");
    let error = refused(Given::OfMethod { file: file.clone(), method: Method::HgMs });
    assert!(error.contains("reweight.initial = ") && error.contains("no weights of hg-ms"), "{error}");
    let error = refused(Given::File(folder.path().join("none.json")));
    assert!(error.contains("none.json") && error.contains("run that has ended"), "{error}");
}

/// The weights of two sources by name, equal.
fn equal() -> Given {
    Given::Weights([("up".to_owned(), 0.5), ("noise".to_owned(), 0.5)].into())
}

#[test]
fn no_method_repeats_a_source_more_often_than_allowed() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    fs::write(folder.path().join("up.jsonl"), lines("up", 1, 20)).unwrap();
    recipe.run.budget = 20_000;
    recipe.reweight.grid_step = 0.5;
    recipe.reweight.given = Some(equal());
    recipe.reweight.methods = Method::ALL.to_vec();
    recipe.reweight.max_epochs = Some(10.0);
    let result = run(&recipe);
    // a training token costs 3 units; at 10 passes a third of the budget for the smaller source, more than all for the other
    let (trained, tokens) = (20_000.0 / 3.0, result.sources[1].trained_tokens() as f64);
    let most = 10.0 * tokens / trained;
    assert!(most < 0.4 && result.sources[0].trained_tokens() as f64 > 3.0 * tokens);
    // one of 20 examples is held out
    assert!((tokens / result.sources[1].data.tokens as f64 - 0.95).abs() < 1e-12);
    for method in &result.methods {
        let bar = &method.weights[1];
        assert!(bar.mean <= most + 1e-12 && bar.epochs <= 10.0 + 1e-9, "{}: {bar:?}", method.method);
    }
    let of = |method| result.of(Some(method)).unwrap().weights[1].mean;
    assert!((of(Method::Uniform) - most).abs() < 1e-12 && of(Method::Proportional) < 0.21);

    recipe.run.out = folder.path().join("full");
    recipe.reweight.max_epochs = Some(6.0);
    let error = prepare(&recipe).unwrap_err().to_string();
    let all: u64 = result.sources.iter().map(SourceInfo::trained_tokens).sum();
    let least = (1000.0 * trained / all as f64).ceil() / 1000.0;
    assert!(
        error.contains("reweight.max_epochs = 6 ") && error.contains(&format!("at least {least}")),
        "{error}"
    );
    recipe.reweight.max_epochs = Some(least);
    assert!(prepare(&recipe).is_ok());
}

#[test]
fn predictions_stand_in_the_trace_before_the_model_is_trained_that_shows_whether_they_hold() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 200_000;
    recipe.reweight.proxies = 8;
    recipe.reweight.methods = vec![
        Method::HgMs,
        Method::ScaleBio,
        Method::F2ba,
        Method::RegMix,
        Method::Alignment,
        Method::Uniform,
    ];
    let silent = [Method::Alignment, Method::Uniform];
    let result = run(&recipe);
    let trace = fs::read_to_string(recipe.run.out.join("trace.jsonl")).unwrap();
    let rows: Vec<crate::TraceRow> = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let uniform = result.of(Some(Method::Uniform)).unwrap().seeds[0].validation_loss;
    for method in &result.methods {
        let seed = &method.seeds[0];
        let first = rows
            .iter()
            .find(|row| row.method == method.method && row.phase == Phase::Retraining && row.step == 0)
            .unwrap();
        assert_eq!(first.predicted_change, seed.predicted_change, "{}", method.method);
        assert_eq!(seed.predicted_change.is_none(), silent.contains(&method.method));
        // less noise is better, and each of them says so
        if let Some(predicted) = seed.predicted_change {
            assert!(predicted < 0.0 && predicted.is_finite(), "{}: {predicted}", method.method);
        }
        if method.method == Method::HgMs {
            assert!(seed.validation_loss < uniform, "{seed:?}");
        }
    }
    let told = rows.iter().filter(|row| row.predicted_change.is_some());
    assert_eq!(told.count(), 4);
}

#[test]
fn random_mixtures_are_uniform_on_the_simplex() {
    // The mean of a coordinate of Dirichlet(1, 1, 1) is 1/3, its variance 1/18.
    let mut stream = bilevel::rng::Stream::new(3, 0);
    let draws: Vec<f64> = (0..4000).map(|_| crate::methods::dirichlet(3, &mut stream)[1]).collect();
    let mean = draws.iter().sum::<f64>() / 4000.0;
    let variance = draws.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / 4000.0;
    // Standard errors √(1/18/4000) = 0.0037 and about 0.0011.
    assert!((mean - 1.0 / 3.0).abs() < 0.015 && (variance - 1.0 / 18.0).abs() < 0.005, "{mean} {variance}");
}

#[test]
fn the_grid_tries_every_point_and_says_what_it_cost() {
    let (_folder, mut recipe) = folder(&["up", "noise"]);
    recipe.run.budget = 20_000;
    recipe.reweight.methods = vec![Method::Grid];
    recipe.reweight.grid_step = 0.5;
    let result = run(&recipe);
    let seed = &result.methods[0].seeds[0];
    assert!((seed.search.as_ref().unwrap().budget - 60_000.0).abs() < 1e-9);
    assert!([vec![0.0, 1.0], vec![0.5, 0.5]].contains(&seed.weights), "{:?}", seed.weights);
}

/// Other words in the examples that are held out change what is measured on them, and no other number of any method.
#[test]
fn no_method_sees_what_is_held_out() {
    let (folder, mut recipe) = folder(&["up", "noise"]);
    fs::write(folder.path().join("up.jsonl"), lines("up", 1, 19)).unwrap();
    recipe.run.budget = 20_000;
    recipe.reweight.grid_step = 0.5;
    recipe.reweight.given = Some(equal());
    recipe.reweight.methods = Method::ALL.to_vec();
    let held = &prepare(&recipe).unwrap().held_out[0];
    assert_eq!(held.len(), 4);
    let path = folder.path().join("noise.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    for i in 0..held.len() {
        let tokens = held.batch([i]).tokens;
        let letters: String = tokens
            .iter()
            .filter_map(|&t| u8::try_from(t).ok())
            .map(char::from)
            .filter(char::is_ascii_lowercase)
            .collect();
        let of = |letters: &str| {
            format!("{{\"prompt\":\"{}\",\"response\":\"{}\"}}", &letters[..2], &letters[2..])
        };
        assert!(text.contains(&of(&letters)), "{letters}");
        text = text.replace(&of(&letters), &of("ABCDEFGH"));
    }
    let before = run(&recipe);
    let trace = |recipe: &Recipe| fs::read(recipe.run.out.join("trace.jsonl")).unwrap();
    let expected = trace(&recipe);
    fs::write(&path, text).unwrap();
    recipe.run.out = folder.path().join("other");
    let after = run(&recipe);
    assert!(trace(&recipe) == expected, "the held-out examples have a part in the training");
    for (a, b) in before.methods.iter().zip(&after.methods) {
        assert_eq!((&a.weights, &a.seeds), (&b.weights, &b.seeds), "{}", a.method);
        let [a, b] = [a, b].map(|m| &m.evaluation.as_ref().unwrap().source_losses);
        assert_ne!(a[0], b[0]);
        // a source of 19 has none
        assert_eq!((a[1], b[1]), (None, None));
    }
}
