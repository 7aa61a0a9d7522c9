//! Where a network computes: on the CPU, or on an NVIDIA card.
//!
//! A program that is built with the feature `cuda` runs on any machine, with a card or without, so an error says whether
//! the build or the machine lacks the device.

#[cfg(feature = "cuda")]
mod cuda;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use millstream_core::{Problem, Result, ResultExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// A device as it is written: `"auto"`, `"cpu"`, `"cuda:0"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceSettings {
    /// The first CUDA device that works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number, counted from 0.
    Cuda(usize),
}

/// Says if this build has no such device, whatever the machine has.
pub fn check_build(device: DeviceSettings) -> Result<(), Problem> {
    match device {
        DeviceSettings::Cuda(_) if !cfg!(feature = "cuda") => Err(Problem::new(NO_CUDA).help(HOW_TO_CUDA)),
        _ => Ok(()),
    }
}

const NO_CUDA: &str = "this build has no CUDA";
const HOW_TO_CUDA: &str = "build with the feature `cuda`, as `.ci/cuda` does, or use `cpu`";

/// What `device` stands for in this build and on this machine: the CPU, or a CUDA device that works.
pub fn find(device: DeviceSettings) -> Result<DeviceSettings> {
    match device {
        DeviceSettings::Auto => {
            let count = cuda::count().unwrap_or(0);
            let mut devices = (0..count).map(DeviceSettings::Cuda);
            Ok(devices.find(|device| find(*device).is_ok()).unwrap_or(DeviceSettings::Cpu))
        }
        DeviceSettings::Cpu => Ok(device),
        DeviceSettings::Cuda(number) => {
            cuda::try_out(number).doing(|| format!("device `{device}`"))?;
            Ok(device)
        }
    }
}

/// A device that networks can compute on.
#[derive(Clone, Debug)]
pub enum OpenDevice {
    /// The CPU, by our own loops.
    Cpu,
    /// A device of candle's.
    #[cfg(feature = "candle")]
    Candle(candle_core::Device),
}

/// Opens what `device` stands for, see [`find`].
pub fn open(device: DeviceSettings) -> Result<OpenDevice> {
    match find(device)? {
        #[cfg(feature = "candle")]
        DeviceSettings::Cuda(number) => {
            let opened = candle_core::Device::new_cuda(number).doing(|| format!("opening device `{device}`"))?;
            Ok(OpenDevice::Candle(opened))
        }
        _ => Ok(OpenDevice::Cpu),
    }
}

/// The place of CUDA in a build that has none.
#[cfg(not(feature = "cuda"))]
mod cuda {
    use millstream_core::{Error, Result};

    pub fn count() -> Result<usize> {
        Err(Error::new(format!("{}; {}", super::NO_CUDA, super::HOW_TO_CUDA)))
    }

    pub fn try_out(_number: usize) -> Result<()> {
        count().map(|_| ())
    }
}

impl FromStr for DeviceSettings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            Some(("cuda", number)) => number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{number}` in `{text}` is no number of a CUDA device; the first is `cuda:0`")),
            _ => Err(format!("`{text}` is no device: there are `auto`, `cpu`, and `cuda:0` for the first CUDA device")),
        }
    }
}

impl fmt::Display for DeviceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Serialize for DeviceSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for DeviceSettings {
    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A device: `cpu`, `cuda:0` for the first CUDA device, or `auto` for the first CUDA device that \
                works, else the CPU.",
            "examples": ["auto", "cpu", "cuda:0"],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DeviceSettings, String> {
        serde_json::from_value(text.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_are_written_as_they_are_read() {
        for text in ["auto", "cpu", "cuda:0", "cuda:12"] {
            assert_eq!(serde_json::to_value(parse(text).unwrap()).unwrap(), text);
        }
        assert_eq!(parse("cuda:2"), Ok(DeviceSettings::Cuda(2)));
        assert_eq!(DeviceSettings::default(), DeviceSettings::Auto);
    }

    #[test]
    fn an_unknown_device_is_refused_with_those_there_are() {
        for text in ["gpu", "cuda", "CPU", "cpu:0", ""] {
            let expected =
                format!("`{text}` is no device: there are `auto`, `cpu`, and `cuda:0` for the first CUDA device");
            assert_eq!(parse(text), Err(expected));
        }
    }

    #[test]
    fn a_wrong_number_is_refused() {
        for number in ["", "x", "-1", "1.5", "99999999999999999999"] {
            let text = format!("cuda:{number}");
            let expected = format!("`{number}` in `{text}` is no number of a CUDA device; the first is `cuda:0`");
            assert_eq!(parse(&text), Err(expected));
        }
    }

    #[test]
    fn there_is_always_a_cpu() {
        assert_eq!(find(DeviceSettings::Cpu).unwrap(), DeviceSettings::Cpu);
        assert_ne!(find(DeviceSettings::Auto).unwrap(), DeviceSettings::Auto);
    }

    #[test]
    fn a_device_that_is_not_here_is_refused_by_its_name() {
        let error = find(DeviceSettings::Cuda(1000)).unwrap_err().to_string();
        assert!(error.starts_with("device `cuda:1000`: "), "{error}");
        #[cfg(not(feature = "cuda"))]
        assert!(error.contains("this build has no CUDA"), "{error}");
    }

    #[test]
    fn what_is_found_can_be_opened() {
        let cpu = find(DeviceSettings::Auto).unwrap() == DeviceSettings::Cpu;
        assert_eq!(matches!(open(DeviceSettings::Auto).unwrap(), OpenDevice::Cpu), cpu);
        assert!(matches!(open(DeviceSettings::Cpu).unwrap(), OpenDevice::Cpu));
    }
}
