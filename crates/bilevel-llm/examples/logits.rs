//! Logits of a model after given tokens, for holding it against another implementation.
//!
//! `cargo run --release -p bilevel-llm --example logits -- MODEL 504 3575 282 > logits.json`

use std::{error::Error, path::Path};

use bilevel_llm::{
    model::{Batch, Session},
    pretrained::Checkpoint,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((path, tokens)) = arguments.split_first() else {
        return Err("give a model and tokens".into());
    };
    let model = Checkpoint::load(Path::new(path))?;
    let tokens = tokens.iter().map(|t| t.parse()).collect::<Result<Vec<u32>, _>>()?;
    let batch = Batch {
        rows: (0..tokens.len() as u32).collect(),
        targets: vec![0; tokens.len()],
        lengths: vec![tokens.len()],
        tokens: tokens.clone(),
    };
    let mut work = model.decoder.workspace().with_threads(2);
    let logits = model.decoder.logits(&model.parameters, &batch, &mut work);
    let rows: Vec<&[f32]> = logits.chunks_exact(model.decoder.architecture.vocabulary).collect();
    // the last row once more, token by token
    let mut session = Session::new(&model.decoder, &model.parameters, 2);
    let mut sequence = session.sequence(tokens.len());
    let mut last = Vec::new();
    for &token in &tokens {
        last = session.read(&mut [(&mut sequence, &[token])]).to_vec();
    }
    println!("{}", serde_json::json!({ "tokens": tokens, "logits": rows, "last_by_session": last }));
    Ok(())
}
