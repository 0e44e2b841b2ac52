//! The solvers by name: for the command, for grids, and for tests that go over all of them.
//!
//! To register a solver, implement [`Registered`] beside it and add its line to the list below. The command can then
//! run it, `bilevel list` and the tables show it, and `tests/conformance.rs` asks of it what every solver must do.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    HyperObjective, Solver, State, StepInfo, acc_f2ba, adapag, af2ba, alt_pbgd, ba, bome, f2ba, f2ba_plus,
    f2sa, f2sa_p, g_pbgd, galet, gradient_norm_barrier, hg_ms, high_order_f2ba, hjfbio, lancbio, meha, mgbio,
    pbgd_free, penalised_gradient, prox_f2ba, prox_f2ba_single_loop, residual_corrected, saba,
    slm_reconstructed, soba, srba, subbio, superquantile_gibbs, v_pbgd,
};
use crate::{
    error::{ConfigError, OracleResult},
    names,
    oracles::{Oracle, Oracles},
    problem::{Problem, SecondOrder},
    problems::Zoo,
};

/// What a table of solvers says of one.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its published name.
    pub title: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where it is from.
    pub paper: &'static str,
    /// The hyper-objectives that it can descend; the first is that of the default settings.
    pub targets: &'static [HyperObjective],
    /// Every oracle that it calls on a problem that has them all; no other is ever called.
    pub oracles: &'static [Oracle],
}

/// Settings that are registered as a solver.
pub trait Registered: Solver<Zoo> + Default + Serialize + DeserializeOwned {
    /// What tables say.
    const CARD: Card;
    /// Settings with which a few steps on a problem of a few coordinates take milliseconds, for tests.
    fn small() -> Self {
        Self::default()
    }
    /// Known answers that it reaches, as a test holds it to.
    fn claims() -> Vec<Claim<Self>> {
        Vec::new()
    }
}

/// A solver reaches a known answer.
#[derive(Clone, Debug)]
pub struct Claim<S> {
    /// A named run of the zoo, for instance `R6`.
    pub run: &'static str,
    /// The solver with the settings that reach it.
    pub solver: S,
    /// Steps at most.
    pub steps: u64,
    /// Largest distance of x from the nearest minimiser that the run prints.
    pub distance: f64,
}

/// One solver of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name in configuration files, traces and checkpoints.
    pub name: &'static str,
    /// The type in the library.
    pub path: &'static str,
    /// What tables say of it.
    pub card: Card,
    build: fn(Value) -> serde_json::Result<AnySolver>,
    small: fn() -> AnySolver,
    claims: fn() -> Vec<Claim<AnySolver>>,
}

impl Entry {
    /// The solver with these settings, the others at their defaults. Their ranges are checked when a run starts.
    ///
    /// # Errors
    /// An unknown setting, answered with the nearest one; a value of the wrong type.
    pub fn build(&self, settings: &Map<String, Value>) -> Result<AnySolver, ConfigError> {
        (self.build)(settings.clone().into())
            .map_err(|error| self.wrong_setting(settings, &error.to_string()))
    }
    /// The solver with its default settings.
    ///
    /// # Panics
    /// Never: an empty table is allowed, as a test asks of every entry.
    pub fn default_solver(&self) -> AnySolver {
        (self.build)(Value::Object(Map::new())).expect("a registered solver has defaults")
    }
    /// See [`Registered::small`].
    pub fn small(&self) -> AnySolver {
        (self.small)()
    }
    /// See [`Registered::claims`].
    pub fn claims(&self) -> Vec<Claim<AnySolver>> {
        (self.claims)()
    }

    /// The error of one setting: the smallest part of the table that is refused with the same message.
    fn wrong_setting(&self, settings: &Map<String, Value>, message: &str) -> ConfigError {
        let is_culprit = |path: &[&str], value: &Value| {
            let nested = path.iter().rev().fold(value.clone(), |inner, key| {
                Value::Object(Map::from_iter([((*key).to_owned(), inner)]))
            });
            (self.build)(nested).is_err_and(|error| error.to_string() == message)
        };
        let (mut path, mut found) = (Vec::new(), &Value::Null);
        let mut table = Some(settings);
        while let Some((key, value)) = table.and_then(|table| {
            table.iter().find(|(key, value)| {
                let mut longer = path.clone();
                longer.push(key.as_str());
                is_culprit(&longer, value)
            })
        }) {
            path.push(key.as_str());
            found = value;
            table = value.as_object();
        }
        let field = if path.is_empty() { "solver".to_owned() } else { path.join(".") };
        let value = if path.is_empty() { Value::Object(settings.clone()) } else { found.clone() };
        ConfigError::new(field, value, names::explain(message))
    }
}

/// Makes the enum of all solvers, that of their states, and the table.
macro_rules! registry {
    ($($variant:ident($solver:ty),)*) => {
        /// A solver chosen at run time; in a configuration file its name and its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", rename_all = "kebab-case")]
        pub enum AnySolver {
            $(
                #[doc = concat!("[`", stringify!($solver), "`].")]
                $variant(Box<$solver>),
            )*
        }

        /// State of [`AnySolver`], under the solver's name.
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", bound = "")]
        pub enum AnyState<P: Problem> where P::Lower: SecondOrder<P::X, P::Y> {
            $(
                #[doc = concat!("State of [`", stringify!($solver), "`].")]
                $variant(<$solver as Solver<P>>::State),
            )*
        }

        impl<P: Problem> fmt::Debug for AnyState<P> where P::Lower: SecondOrder<P::X, P::Y> {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                let name = match self {
                    $(Self::$variant(_) => stringify!($variant),)*
                };
                // Variables need not be printable.
                f.debug_struct(name).finish_non_exhaustive()
            }
        }

        impl<P: Problem> State<P::X, P::Y> for AnyState<P> where P::Lower: SecondOrder<P::X, P::Y> {
            fn iterate(&self) -> (&P::X, &P::Y) {
                match self {
                    $(Self::$variant(state) => state.iterate(),)*
                }
            }
        }

        impl<P: Problem> Solver<P> for AnySolver where P::Lower: SecondOrder<P::X, P::Y> {
            type State = AnyState<P>;
            const NAME: &'static str = "any";

            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$solver as Solver<P>>::NAME,)*
                }
            }
            fn target(&self) -> HyperObjective {
                match self {
                    $(Self::$variant(solver) => Solver::<P>::target(solver.as_ref()),)*
                }
            }
            fn validate(&self) -> Result<(), ConfigError> {
                match self {
                    $(Self::$variant(solver) => Solver::<P>::validate(solver.as_ref()),)*
                }
            }
            fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
                match self {
                    $(Self::$variant(solver) => solver.init(oracles, x, y, seed).map(AnyState::$variant),)*
                }
            }
            fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
                match (self, state) {
                    $((Self::$variant(solver), AnyState::$variant(state)) => solver.step(oracles, state),)*
                    // A checkpoint names its solver, and `Run` refuses that of another.
                    #[allow(unreachable_patterns, reason = "reachable as soon as there are two solvers")]
                    _ => panic!("the state is that of another solver than {}", Solver::<P>::name(self)),
                }
            }
        }

        const ENTRIES: &[Entry] = &[$(Entry {
            name: <$solver as Solver<Zoo>>::NAME,
            path: concat!("bilevel::solvers::", stringify!($solver)),
            card: <$solver as Registered>::CARD,
            build: |settings| serde_json::from_value(settings).map(AnySolver::$variant),
            small: || AnySolver::$variant(Box::new(<$solver as Registered>::small())),
            claims: || <$solver as Registered>::claims()
                .into_iter()
                .map(|Claim { run, solver, steps, distance }| {
                    Claim { run, solver: AnySolver::$variant(Box::new(solver)), steps, distance }
                })
                .collect(),
        },)*];
    };
}

// One line for each solver, by name: its kebab-case name in camel case, and its type.
registry! {
    AccF2ba(acc_f2ba::AccF2ba),
    Adapag(adapag::Adapag),
    Af2ba(af2ba::Af2ba),
    AltPbgd(alt_pbgd::AltPbgd),
    Ba(ba::Ba),
    Bome(bome::Bome),
    F2ba(f2ba::F2ba),
    F2baPlus(f2ba_plus::F2baPlus),
    F2sa(f2sa::F2sa),
    F2saP(f2sa_p::F2saP),
    GPbgd(g_pbgd::GPbgd),
    Galet(galet::Galet),
    GradientNormBarrier(gradient_norm_barrier::GradientNormBarrier),
    HgMs(hg_ms::HgMs),
    HighOrderF2ba(high_order_f2ba::HighOrderF2ba),
    Hjfbio(hjfbio::Hjfbio),
    Lancbio(lancbio::Lancbio),
    Meha(meha::Meha),
    Mgbio(mgbio::Mgbio),
    PbgdFree(pbgd_free::PbgdFree),
    PenalisedGradient(penalised_gradient::PenalisedGradient),
    ProxF2ba(prox_f2ba::ProxF2ba),
    ProxF2baSingleLoop(prox_f2ba_single_loop::ProxF2baSingleLoop),
    ResidualCorrected(residual_corrected::ResidualCorrected),
    Saba(saba::Saba),
    SlmReconstructed(slm_reconstructed::SlmReconstructed),
    Soba(soba::Soba),
    Srba(srba::Srba),
    Subbio(subbio::Subbio),
    SuperquantileGibbs(superquantile_gibbs::SuperquantileGibbs),
    VPbgd(v_pbgd::VPbgd),
}

/// Every solver, by name.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The names of every solver.
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.name).collect()
}

/// The solver of this name.
///
/// ```
/// use bilevel::solvers::registry;
///
/// let entry = registry::by_name("hg-ms")?;
/// let settings = serde_json::json!({ "upper": { "toll": 1e-8 } });
/// let error = entry.build(settings.as_object().unwrap()).unwrap_err();
/// assert!(error.to_string().starts_with("upper.toll = 1e-8 is not allowed: unknown key `toll`; did you mean `tol`?"));
/// let error = registry::by_name("hgms").unwrap_err();
/// assert!(error.to_string().contains("did you mean hg-ms?"));
/// # Ok::<(), bilevel::ConfigError>(())
/// ```
///
/// # Errors
/// An unknown name, answered with the nearest one.
pub fn by_name(name: &str) -> Result<&'static Entry, ConfigError> {
    ENTRIES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| names::unknown("solver", name, names(), &names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_those_of_the_variants() {
        assert!(names().is_sorted(), "{:?}", names());
        for entry in entries() {
            let solver = entry.default_solver();
            assert_eq!(Solver::<Zoo>::name(&solver), entry.name);
            // The tag in a file is made from the variant's name.
            let json = serde_json::to_value(&solver).unwrap();
            assert_eq!(json["name"], entry.name);
            assert_eq!(serde_json::from_value::<AnySolver>(json).unwrap(), solver);
            assert_eq!(entry.card.targets.first(), Some(&Solver::<Zoo>::target(&solver)), "{}", entry.name);
            for text in [entry.card.title, entry.card.summary, entry.card.paper] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}: {text:?}", entry.name);
            }
        }
    }

    #[test]
    fn defaults_and_small_settings_are_in_range() {
        for entry in entries() {
            match Solver::<Zoo>::validate(&entry.default_solver()) {
                Ok(()) => {}
                // a method that has to be asked for
                Err(error) => assert_eq!((entry.name, &*error.field), ("pbgd-free", "drops_implicit_term")),
            }
            Solver::<Zoo>::validate(&entry.small()).unwrap();
        }
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_value() {
        let error = |name: &str, settings: Value| {
            by_name(name).unwrap().build(settings.as_object().unwrap()).unwrap_err().to_string()
        };
        assert!(
            error("hg-ms", serde_json::json!({"land": {"tol": "small"}, "max_branches": 2})).starts_with(
                "land.tol = \"small\" is not allowed: invalid type: string \"small\", expected f64"
            )
        );
        assert!(
            error("superquantile-gibbs", serde_json::json!({"chains": 40, "chain": 3}))
                .starts_with("chain = 3 is not allowed: unknown key `chain`; did you mean `chains`?")
        );
        let shape = error(
            "superquantile-gibbs",
            serde_json::json!({"step_x": {"schedule": "polinomial", "initial": 1, "power": 1, "scale": 1}}),
        );
        assert!(shape.contains("did you mean `polynomial`"), "{shape}");
        assert!(shape.starts_with("step_x"), "{shape}");
    }
}
