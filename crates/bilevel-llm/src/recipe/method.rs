//! The ways to choose the weights.

use std::str::FromStr;

use bilevel::{ConfigError, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to choose the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Select among short continuations, then differentiate (the practical HG-MS).
    HgMs,
    /// Equal weights.
    Uniform,
    /// Weights in proportion to the sources' tokens.
    Proportional,
    /// One-step gradient alignment ⟨∇L_i, ∇L_val⟩.
    Alignment,
    /// Weights drawn at random for each seed, from Dirichlet(1, …, 1): every mixture is as likely as any other. A control: what
    /// reaches no further than this has learned nothing.
    Random,
    /// Exhaustive grid on the simplex, at most three sources.
    Grid,
    /// Two networks, of which one also sees the target; x follows the difference of their losses by plain steps (`ScaleBiO` as
    /// published).
    #[serde(rename = "scalebio")]
    ScaleBio,
    /// As `scalebio`, but x moves by `AdamW`, which bounds how far weights can get (`ScaleBiO` as released).
    #[serde(rename = "scalebio-released")]
    ScaleBioReleased,
    /// Weights in proportion to a power of the sources' tokens, `reweight.exponent`.
    Temperature,
    /// The weights of `reweight.given`, for instance those that a smaller model learned.
    Given,
    /// Weights that grow where a proxy's loss exceeds a reference model's; the target has no part in it.
    #[serde(rename = "doremi")]
    DoReMi,
    /// Regression of the validation losses of proxies at random mixtures.
    #[serde(rename = "regmix")]
    RegMix,
    /// A bandit that draws the source of each batch and is rewarded by its loss; the target has no part in it.
    Odm,
    /// Two networks as in `scalebio`; x moves once in a cycle on batches of its own, by the rule of HG-MS (F2BA).
    F2ba,
    /// Influence of a source's examples on the target, by gradients at a few places of a training (LESS).
    Less,
    /// `alignment` with the update of DoGE.
    #[serde(rename = "doge")]
    DoGe,
    /// `alignment` of the head's gradients, with the update of FastMix.
    #[serde(rename = "fastmix")]
    FastMix,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 17] = [
        Self::HgMs,
        Self::Uniform,
        Self::Proportional,
        Self::Alignment,
        Self::Random,
        Self::Grid,
        Self::ScaleBio,
        Self::ScaleBioReleased,
        Self::Temperature,
        Self::Given,
        Self::DoReMi,
        Self::RegMix,
        Self::Odm,
        Self::F2ba,
        Self::Less,
        Self::DoGe,
        Self::FastMix,
    ];
    /// Its name in recipes and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::HgMs => "hg-ms",
            Self::Uniform => "uniform",
            Self::Proportional => "proportional",
            Self::Alignment => "alignment",
            Self::Random => "random",
            Self::Grid => "grid",
            Self::ScaleBio => "scalebio",
            Self::ScaleBioReleased => "scalebio-released",
            Self::Temperature => "temperature",
            Self::Given => "given",
            Self::DoReMi => "doremi",
            Self::RegMix => "regmix",
            Self::Odm => "odm",
            Self::F2ba => "f2ba",
            Self::Less => "less",
            Self::DoGe => "doge",
            Self::FastMix => "fastmix",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = ConfigError;
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name);
            let guess = names::nearest(text, known).unwrap_or_default();
            ConfigError::new("method", text, format!("did you mean {guess}? Known are {}", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_recipes_and_a_wrong_one_gets_the_nearest() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
        let error = "unifrom".parse::<Method>().unwrap_err().to_string();
        assert!(error.contains("did you mean uniform?"), "{error}");
    }
}
