//! `bilevel init`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    exit::{Exit, usage},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  bilevel init reweight                    print a recipe for weighing data sources
  bilevel init reweight --to recipe.toml   write it to a file
  bilevel init solve --to t5.toml          a recipe for a dense problem";

/// Write a commented recipe, ready to be changed and run
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// What the recipe is for
    #[arg(value_enum)]
    kind: Kind,
    /// The file to write; standard output without
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "to")]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Weights of a language model's data sources
    Reweight,
    /// A dense problem with a known answer
    Solve,
}

impl Kind {
    fn recipe(self) -> &'static str {
        match self {
            Self::Reweight => include_str!("../../recipes/reweight.toml"),
            Self::Solve => include_str!("../../recipes/solve.toml"),
        }
    }
}

impl Init {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let recipe = self.kind.recipe();
        let Some(path) = &self.to else {
            std::io::Write::write_all(&mut std::io::stdout(), recipe.as_bytes())?;
            return Ok(Exit::Done);
        };
        if path.exists() && !self.force {
            return Err(usage(format!(
                "{} exists; give another name, or --force to replace it",
                path.display()
            )));
        }
        std::fs::write(path, recipe).with_context(|| {
            format!("{} cannot be written; check that its folder exists and is writable", path.display())
        })?;
        output.note(&format!("wrote {0}; look it over, then `bilevel check {0}`", path.display()));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bilevel_llm::{
        Recipe,
        model::Storage,
        recipe::{DeviceKind, TuneSpec},
    };

    use super::*;

    fn parse(text: &str) -> Recipe {
        Recipe::parse(text, Path::new("")).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// The line as a setting, if it is one that stands in a comment.
    fn uncommented(line: &str) -> Option<&str> {
        let setting = line.strip_prefix("# ")?;
        let (key, _) = setting.split_once(" = ")?;
        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(setting)
    }

    #[test]
    fn every_key_in_a_comment_holds_when_it_is_made_one() {
        let lines: Vec<&str> = Kind::Reweight.recipe().lines().collect();
        let mut keys = Vec::new();
        for (at, setting) in lines.iter().enumerate().filter_map(|(at, line)| Some((at, uncommented(line)?)))
        {
            let mut changed = lines.clone();
            changed[at] = setting;
            let key = setting.split_once(" = ").unwrap().0;
            match key {
                // a checkpoint has sizes and a tokenizer of its own
                "checkpoint" => {
                    changed.retain(|line| {
                        !["preset = ", "[tokenizer]", "kind = "].iter().any(|s| line.starts_with(s))
                    });
                }
                // the second line of a table
                "kind" => changed[at - 1] = changed[at - 1].strip_prefix("# ").unwrap(),
                _ => {}
            }
            let recipe = parse(&changed.join("\n"));
            if key == "checkpoint" {
                assert_eq!(recipe.model.checkpoint.as_deref(), Some(Path::new("model.gguf")));
            }
            keys.push(key);
        }
        for wanted in
            ["chat", "kind", "storage", "cache_mib", "exact_match", "source_examples", "checkpoint", "device"]
        {
            assert!(keys.contains(&wanted), "{wanted} is not in {keys:?}");
        }
    }

    #[test]
    fn the_keys_of_a_checkpoint_hold_together() {
        let text = Kind::Reweight.recipe();
        let mut text = text.replace("preset = ", "# preset = ").replace("[tokenizer]\nkind = ", "# ");
        for key in ["checkpoint = ", "chat = ", "cache_mib = ", "[tune]", "kind = \"all\"", "storage = "] {
            text = text.replace(&format!("# {key}"), key);
        }
        for (from, to) in [
            ("chat = false", "chat = true"),
            ("kind = \"all\"", "kind = \"lora\""),
            ("storage = \"f32\"", "storage = \"bf16\""),
            ("# device = \"cpu\"", "device = \"cuda\""),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let recipe = parse(&text);
        assert!(recipe.validation.chat && recipe.sources[1].data.chat);
        assert!(matches!(recipe.tune, TuneSpec::Lora { .. }));
        assert_eq!((recipe.model.storage, recipe.run.device), (Storage::Bf16, DeviceKind::Cuda));
    }
}
