//! The settings of the daemon. `conf/millstream.toml` has all of them, with their defaults.

use std::path::PathBuf;

use millstream_admin::security::{AdminSettings, ServeSettings};
use millstream_core::{ByteSize, Duration, Problem, Problems};
use millstream_engine::file::LimitSettings as OwnLimits;
use millstream_host::{FlowLimits, RestartPolicy};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::logging::LogSettings;

/// The settings of the daemon.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonSettings {
    /// The folder that relative paths below and those of outputs and models are relative to. It is made if it is not there.
    pub data: PathBuf,
    /// The folder whose files `*.toml` are the flows.
    pub flows: PathBuf,
    /// Where the states of flows are: a folder, or the URL of a store such as `s3://BUCKET/PREFIX`.
    #[schemars(length(min = 1))]
    pub state: String,
    /// Whether flows go on from states that another version or kind of machine has written. Their models may then come out with other bits than
    /// without the change.
    pub allow_drift: bool,
    /// Where the models are that the administration shows: a folder, or the URL of a store. Flows that train publish to `models` unless they say
    /// otherwise.
    #[schemars(length(min = 1))]
    pub models: String,
    /// How many threads the nodes of all flows share. By default one a core.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
    /// How often the folder of flows is looked at. SIGHUP has it looked at now.
    pub scan_every: Duration,
    /// How long flows have to come to a checkpoint when the daemon is stopped. Those that have not come to one resume from the one before.
    pub stop_within: Duration,
    /// How much room on the disk a file in `data` takes, to be given up when the disk is full: what must be written then, such as checkpoints
    /// and the audit log, has it. It is taken again when there is room. `"0B"` takes none.
    pub ballast: ByteSize,
    /// When flows that have failed are started again.
    pub restart: RestartSettings,
    /// How much each flow may take, unless it says so itself.
    pub limits: LimitSettings,
    /// The administration: the API and the console.
    pub admin: AdminSettings,
    /// Serving: models of the registry, over the protocols of inference.
    pub serve: ServeSettings,
    /// What is logged, on standard error.
    pub log: LogSettings,
}

/// When flows that have failed are started again: each pause is twice as long as the one before, and a random part is added. A checkpoint
/// behind the place of a failure ends the row of failures. A flow that only a person can mend is not started again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RestartSettings {
    /// The first pause.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How many times in a row a flow is started again. By default without end.
    pub most: Option<u32>,
}

/// How much each flow may take, unless `[limits]` in its file says so. A flow that takes more reads nothing until it takes less; where that does
/// not help against what it takes of memory, it is started again from its checkpoint, and then fails. The others go on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Memory: the rows that wait between its nodes, and the states of the nodes as its last checkpoint has them. By default without limit.
    pub memory: Option<ByteSize>,
    /// Disk: its folder in `state`, with what outputs keep there until it is sent, and the folders of its refused rows. By default without
    /// limit.
    pub disk: Option<ByteSize>,
    /// How long the inputs of a flow are held that takes too much memory, before it is started again, and before it fails.
    pub patience: Duration,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self {
            data: ".".into(),
            flows: "flows".into(),
            state: "state".to_owned(),
            models: "models".to_owned(),
            allow_drift: false,
            threads: None,
            scan_every: Duration(std::time::Duration::from_secs(2)),
            stop_within: Duration(std::time::Duration::from_secs(60)),
            ballast: ByteSize(64 << 20),
            restart: RestartSettings::default(),
            limits: LimitSettings::default(),
            admin: AdminSettings::default(),
            serve: ServeSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { memory: None, disk: None, patience: Duration(FlowLimits::default().patience) }
    }
}

impl LimitSettings {
    /// Those of a flow that says this itself.
    pub fn of_flow(&self, own: OwnLimits) -> FlowLimits {
        let bytes = |own: Option<ByteSize>, other: Option<ByteSize>| own.or(other).map(|size| size.0 as u64);
        FlowLimits {
            memory: bytes(own.memory, self.memory),
            disk: bytes(own.disk, self.disk),
            patience: self.patience.0,
        }
    }
}

impl Default for RestartSettings {
    fn default() -> Self {
        let RestartPolicy { first_pause, longest_pause, most } = RestartPolicy::default();
        Self { first_pause: Duration(first_pause), longest_pause: Duration(longest_pause), most }
    }
}

impl DaemonSettings {
    /// What is wrong with them, so that the daemon must not run.
    pub fn problems(&self) -> Problems {
        let of_admin = self.admin.problems(&self.data).into_iter().map(|problem: Problem| problem.under("admin"));
        let serve = Some(&self.serve).filter(|serve| serve.address.0.is_some());
        let of_serve = serve.map(|serve| serve.problems(&self.data)).unwrap_or_default();
        of_admin.chain(of_serve.into_iter().map(|problem: Problem| problem.under("serve"))).collect()
    }

    /// The folder of flows.
    pub fn flows_folder(&self) -> PathBuf {
        self.data.join(&self.flows)
    }

    /// Where states are, with a folder relative to that of the data.
    pub fn state_location(&self) -> String {
        match millstream_store::local_folder(&self.state) {
            Some(folder) => self.data.join(folder).display().to_string(),
            None => self.state.clone(),
        }
    }
}

impl RestartSettings {
    /// The same, for the host.
    pub fn policy(&self) -> RestartPolicy {
        RestartPolicy { first_pause: self.first_pause.0, longest_pause: self.longest_pause.0, most: self.most }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use millstream_engine::file::Layers;
    use schemars::schema_for;
    use serde_json::Value;

    use super::*;

    /// The names of all settings of a schema, without those of tables.
    fn names(schema: &Value, root: &Value) -> Vec<String> {
        let target = schema["$ref"].as_str().and_then(|target| root.pointer(target.strip_prefix('#')?));
        let properties = target.unwrap_or(schema)["properties"].as_object();
        let of = |(name, schema): (&String, &Value)| match names(schema, root) {
            inner if inner.is_empty() => vec![name.clone()],
            inner => inner,
        };
        properties.into_iter().flatten().flat_map(of).collect()
    }

    #[test]
    fn the_example_has_all_settings_with_their_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/millstream.toml");
        let layers = Layers { files: std::slice::from_ref(&file), variables: &[], prefix: "" };
        assert_eq!(layers.read::<DaemonSettings>().unwrap(), DaemonSettings::default());
        let text = std::fs::read_to_string(file).unwrap();
        let schema = schema_for!(DaemonSettings).to_value();
        let names = names(&schema, &schema);
        assert!(names.len() > 8, "{names:?}");
        for name in names {
            let is_there = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
            assert!(text.lines().any(is_there), "`{name}` is missing");
        }
    }

    #[test]
    fn relative_folders_are_in_the_folder_of_the_data() {
        let settings =
            DaemonSettings { data: "/var/lib/millstream".into(), flows: "/etc/flows".into(), ..Default::default() };
        assert_eq!(settings.flows_folder(), Path::new("/etc/flows"));
        assert_eq!(settings.state_location(), "/var/lib/millstream/state");
        let elsewhere = DaemonSettings { state: "s3://bucket/state".into(), ..settings };
        assert_eq!(elsewhere.state_location(), "s3://bucket/state");
    }
}
