//! Any text as the recipe of a reweighting run.
#![no_main]

use std::path::Path;

use bilevel_llm::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(recipe) = Recipe::parse(text, Path::new("")) {
        // what was accepted is accepted again, and is the same
        let again =
            Recipe::parse(&recipe.to_toml(), Path::new("")).expect("a recipe that was written is read");
        assert_eq!(again, recipe);
    }
});
