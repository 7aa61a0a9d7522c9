//! A processor that asks a service, which is slow, fails, and changes its mind.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::sync::{LazyLock, Mutex};
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use millstream_core::*;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::sleep;

use super::{one_port, values, with_values};

/// A service, as others see it.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// What it adds to numbers.
    pub says: i64,
    /// Whether it answers nobody.
    pub is_down: bool,
    /// How often it was asked.
    pub calls: u64,
    /// How many it has had to answer at a time, at most.
    pub peak: usize,
    under_way: usize,
    /// The numbers at which it has not answered.
    silent: BTreeSet<i64>,
}

static SERVICES: LazyLock<Mutex<HashMap<String, Service>>> = LazyLock::new(Mutex::default);

/// Looks at a service, or changes it. Those of a flow are called `FLOW/NAME`.
pub fn service<T>(name: &str, action: impl FnOnce(&mut Service) -> T) -> T {
    action(SERVICES.lock().unwrap().entry(name.to_owned()).or_default())
}

/// Forgets other services.
pub fn retain(is_wanted: impl Fn(&str) -> bool) {
    SERVICES.lock().unwrap().retain(|name, _| is_wanted(name));
}

/// Asks a service what is to be added to numbers. The first of several batches takes longest, so that those behind it are answered
/// before.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The service.
    service: String,
    /// At every so manyth call it is busy.
    busy: Option<u64>,
    /// The first time that it is asked about this number, it does not answer.
    silent: Option<i64>,
    /// At this number it has no permission.
    forbidden: Option<i64>,
    /// Multiples of this number are refused.
    refuse: Option<i64>,
    /// Whether it always says the same.
    #[serde(default)]
    constant: bool,
}

impl Kind for Ask {
    const NAME: &'static str = "ask";
    const EXAMPLE: &'static str = "service = \"a\"";
    const ASKS: bool = true;
}

impl ProcessorSettings for Ask {
    fn plan(&self, _: &PlanContext, inputs: &[Stream]) -> Result<ProcessorPlan, Problems> {
        let node = self.clone();
        Ok(ProcessorPlan { build: Box::new(move || Ok(asking(node))), ..one_port(inputs, Nothing) })
    }

    fn answers_may_differ(&self) -> bool {
        !self.constant
    }
}

/// Stands where a plan is put together, and is never built.
struct Nothing;

impl Processor for Nothing {
    fn process(&mut self, _: usize, _: Batch, _: &mut Collector) -> Result<()> {
        Ok(())
    }
}

/// A call that is under way.
struct Call<'a>(&'a str);

impl<'a> Call<'a> {
    /// The call, and which it is.
    fn begin(name: &'a str) -> (Self, u64) {
        let number = service(name, |service| {
            service.calls += 1;
            service.under_way += 1;
            service.peak = service.peak.max(service.under_way);
            service.calls
        });
        (Self(name), number)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        service(self.0, |service| service.under_way -= 1);
    }
}

#[async_trait]
impl AsyncProcessor for Ask {
    async fn ask(&self, _: usize, batch: &Batch, out: &mut Collector) -> Result<()> {
        let numbers = values(&batch.rows);
        let (_call, number) = Call::begin(&self.service);
        // What is pushed before something fails must not come.
        out.push(0, batch.clone());
        if self
            .silent
            .is_some_and(|n| numbers.contains(&n) && service(&self.service, |service| service.silent.insert(n)))
        {
            pending::<()>().await;
        }
        sleep(StdDuration::from_millis(4 - (numbers[0] / numbers.len() as i64).rem_euclid(4) as u64)).await;
        if self.busy.is_some_and(|every| number.is_multiple_of(every)) {
            return Err(Error::transient("the service is busy"));
        }
        if self.forbidden.is_some_and(|n| numbers.contains(&n)) {
            return Err(Error::new("no permission"));
        }
        let (says, is_down) = service(&self.service, |service| (service.says, service.is_down));
        if is_down {
            return Err(Error::transient("the service is down"));
        }
        out.take(0);
        let refused = numbers.iter().map(|n| Some(self.refuse.is_some_and(|of| n % of == 0))).collect();
        let rows = out.fail_rows(batch, &refused, |row| format!("{} is refused", numbers[row]))?;
        let answered = values(&rows).into_iter().map(|n| n + says);
        out.push(0, batch.with_rows(with_values(&rows, answered)));
        Ok(())
    }
}
