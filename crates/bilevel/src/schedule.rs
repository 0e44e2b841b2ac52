//! Step sizes as functions of the step number.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::error::ConfigError;

/// A step size for every step, counted from 0.
///
/// In a configuration file it is a number, for a constant one, or a table such as
/// `{ schedule = "polynomial", initial = 0.1, power = 0.5, scale = 20 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "schedule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same at every step.
    Constant {
        /// The step size.
        value: f64,
    },
    /// initial/(1 + t/scale)^power.
    Polynomial {
        /// At t = 0.
        initial: f64,
        /// Exponent of the decay; 1/2 and 1 are usual.
        power: f64,
        /// Number of steps after which the decay sets in.
        scale: f64,
    },
    /// A linear rise to the peak over the first `warm_up` steps, then half a cosine down to the floor at step `total`,
    /// and the floor from there.
    Cosine {
        /// Largest value, at t = `warm_up`.
        peak: f64,
        /// Steps of the rise; step 0 has peak/(warm_up + 1).
        warm_up: u64,
        /// The step at which the floor is reached.
        total: u64,
        /// Value in the end.
        floor: f64,
    },
}

impl Schedule {
    /// The step size of step `t`.
    pub fn at(&self, t: u64) -> f64 {
        match *self {
            Self::Constant { value } => value,
            Self::Polynomial { initial, power, scale } => initial / (1.0 + t as f64 / scale).powf(power),
            Self::Cosine { peak, warm_up, .. } if t < warm_up => peak * (t + 1) as f64 / (warm_up + 1) as f64,
            Self::Cosine { peak, warm_up, total, floor } => {
                let done = (t.min(total) - warm_up) as f64 / (total - warm_up) as f64;
                floor + 0.5 * (peak - floor) * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }

    /// The largest value that the schedule takes.
    pub fn largest(&self) -> f64 {
        match *self {
            Self::Constant { value } => value,
            Self::Polynomial { initial, .. } => initial,
            Self::Cosine { peak, .. } => peak,
        }
    }

    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            ConfigError::require(value > 0.0 && value.is_finite(), field, value, "give a positive number")
        };
        match *self {
            Self::Constant { value } => positive("value", value),
            Self::Polynomial { initial, power, scale } => {
                positive("initial", initial)?;
                positive("scale", scale)?;
                ConfigError::require(
                    power >= 0.0 && power.is_finite(),
                    "power",
                    power,
                    "give 0 (constant) or a positive exponent, for instance 0.5",
                )
            }
            Self::Cosine { peak, warm_up, total, floor } => {
                positive("peak", peak)?;
                ConfigError::require(
                    (0.0..=peak).contains(&floor),
                    "floor",
                    floor,
                    "the floor lies between 0 and the peak",
                )?;
                ConfigError::require(
                    total > warm_up,
                    "total",
                    total,
                    "give more steps in all than the warm-up takes",
                )
            }
        }
    }
}

impl From<f64> for Schedule {
    /// A constant step size.
    fn from(value: f64) -> Self {
        Self::Constant { value }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Reads a number or a table; an untagged enum would do the same and could not say which field is wrong.
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = Schedule;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number, or a table with the field `schedule`")
    }
    fn visit_f64<E>(self, value: f64) -> Result<Schedule, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Schedule, E> {
        Ok((value as f64).into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Schedule, E> {
        Ok((value as f64).into())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Schedule, A::Error> {
        Schedule::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_go_through_their_marked_points() {
        assert_eq!(Schedule::from(0.3).at(17), 0.3);
        let decay = Schedule::Polynomial { initial: 0.1, power: 0.5, scale: 20.0 };
        assert_eq!(decay.at(0), 0.1);
        assert!((decay.at(60) - 0.05).abs() < 1e-16);
        let cosine = Schedule::Cosine { peak: 1.0, warm_up: 4, total: 14, floor: 0.2 };
        let points: Vec<f64> = [0, 1, 3, 4, 9, 14, 99].map(|t| cosine.at(t)).to_vec();
        for (value, expected) in points.iter().zip([0.2, 0.4, 0.8, 1.0, 0.6, 0.2, 0.2]) {
            assert!((value - expected).abs() < 1e-15, "{points:?}");
        }
    }

    #[test]
    fn a_configuration_names_the_shape_and_its_fields() {
        let json = r#"{"schedule":"cosine","peak":0.001,"warm_up":10,"total":100,"floor":0.0}"#;
        let schedule: Schedule = serde_json::from_str(json).unwrap();
        assert_eq!(schedule, Schedule::Cosine { peak: 0.001, warm_up: 10, total: 100, floor: 0.0 });
        assert_eq!(serde_json::to_string(&schedule).unwrap(), json);
        assert_eq!(serde_json::from_str::<Schedule>("0.3").unwrap(), Schedule::from(0.3));
        assert_eq!(serde_json::from_str::<Schedule>("2").unwrap(), Schedule::from(2.0));
        let word = serde_json::from_str::<Schedule>("\"fast\"").unwrap_err().to_string();
        assert!(word.contains("expected a number, or a table with the field `schedule`"), "{word}");
        let unknown = r#"{"schedule":"constant","value":0.1,"decay":2}"#;
        assert!(serde_json::from_str::<Schedule>(unknown).unwrap_err().to_string().contains("decay"));
    }

    #[test]
    fn settings_out_of_range_name_the_field() {
        let field = |schedule: Schedule| schedule.validate().unwrap_err().field;
        assert_eq!(field(Schedule::Constant { value: -1.0 }), "value");
        assert_eq!(field(Schedule::Polynomial { initial: 1.0, power: f64::NAN, scale: 1.0 }), "power");
        assert_eq!(field(Schedule::Polynomial { initial: 1.0, power: 1.0, scale: 0.0 }), "scale");
        assert_eq!(field(Schedule::Cosine { peak: 1.0, warm_up: 5, total: 5, floor: 0.0 }), "total");
        assert_eq!(field(Schedule::Cosine { peak: 1.0, warm_up: 0, total: 5, floor: 2.0 }), "floor");
        assert!(Schedule::Cosine { peak: 1.0, warm_up: 0, total: 5, floor: 0.0 }.validate().is_ok());
    }
}
