//! Parameters of problems by name, with their ranges.

use std::collections::BTreeMap;

use crate::error::ConfigError;

/// Parameters of a problem by name, as a command line or a configuration file gives them.
pub type Parameters = BTreeMap<String, f64>;

/// One parameter of a problem.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value when not given.
    pub default: f64,
    /// Smallest value allowed.
    pub min: f64,
    /// Largest value allowed.
    pub max: f64,
    /// Whether only whole numbers are allowed.
    pub is_whole: bool,
    /// What it sets.
    pub summary: &'static str,
}

impl Parameter {
    /// A parameter that is a whole number.
    pub const fn whole(name: &'static str, default: f64, min: f64, max: f64, summary: &'static str) -> Self {
        Self { name, default, min, max, is_whole: true, summary }
    }
    /// A parameter that is any number of a range.
    pub const fn real(name: &'static str, default: f64, min: f64, max: f64, summary: &'static str) -> Self {
        Self { name, default, min, max, is_whole: false, summary }
    }
    /// The same parameter with another default.
    #[must_use]
    pub const fn or(mut self, default: f64) -> Self {
        self.default = default;
        self
    }
    fn checked(&self, value: f64) -> Result<f64, ConfigError> {
        let kind = if self.is_whole { "a whole number" } else { "a number" };
        let allowed = (self.min..=self.max).contains(&value) && (!self.is_whole || value.fract() == 0.0);
        ConfigError::require(
            allowed,
            self.name,
            value,
            &format!("give {kind} from {} to {} ({})", self.min, self.max, self.summary),
        )?;
        Ok(value)
    }
}

/// Checked parameters, one for each that a problem declares.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, f64>);

impl Values {
    /// The given parameters of a problem, the others at their defaults.
    ///
    /// # Errors
    /// A name that the problem does not declare; a value out of its range.
    pub fn new(
        problem: &str,
        declared: &'static [Parameter],
        given: &Parameters,
    ) -> Result<Self, ConfigError> {
        if let Some((unknown, value)) =
            given.iter().find(|(name, _)| declared.iter().all(|p| p.name != *name))
        {
            let known: Vec<&str> = declared.iter().map(|p| p.name).collect();
            let remedy = if known.is_empty() {
                format!("{problem} has no parameters; leave it out")
            } else {
                format!("{problem} has the parameters {}", known.join(", "))
            };
            return Err(ConfigError::new(unknown, value, remedy));
        }
        let values = declared.iter().map(|parameter| {
            let value = given.get(parameter.name).copied().unwrap_or(parameter.default);
            Ok((parameter.name, parameter.checked(value)?))
        });
        Ok(Self(values.collect::<Result<_, ConfigError>>()?))
    }
    /// A declared parameter.
    pub fn real(&self, name: &str) -> f64 {
        self.0[name]
    }
    /// A declared parameter that is a whole number.
    pub fn whole(&self, name: &str) -> usize {
        self.0[name] as usize
    }
    /// A parameter that may be declared or not.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}
