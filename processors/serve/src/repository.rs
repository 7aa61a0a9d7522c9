//! The models that are served, by name. It follows the registry: where an alias is set anew, the version behind it is loaded whole before a
//! request is answered by it, and those that have begun are answered by the version before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use millstream_core::{Error, Result as CoreResult, known_names};
use millstream_models::registry::{Aliases, CHAMPION, ModelReference, ModelRegistry, Selector, check_model_name};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::batcher::BatchLimits;
use crate::refusal::{Reason, Refusal};
use crate::served::Served;

/// How many versions of a model stay loaded that no alias points at.
const OTHERS: usize = 8;

/// The models that are served.
pub struct Repository {
    registry: ModelRegistry,
    limits: BatchLimits,
    models: ArcSwap<BTreeMap<String, Arc<Followed>>>,
    /// Models that are to be served as soon as there are versions of them.
    awaited: Mutex<Vec<ModelReference>>,
    /// Held while the models change.
    changing: Mutex<()>,
}

/// A model that is served.
struct Followed {
    /// Which version answers where none is asked for.
    usual: Selector,
    versions: ArcSwap<Versions>,
    /// Versions that were asked for and no alias points at, the one that was asked for last at the end.
    others: Mutex<Vec<Arc<Served>>>,
    /// Why the registry could not be followed when it was last looked at.
    trouble: Mutex<Option<String>>,
}

/// The versions of a model at a time.
#[derive(Default)]
struct Versions {
    aliases: Aliases,
    latest: u64,
    loaded: BTreeMap<u64, Arc<Served>>,
}

/// A version of a model of the registry, and whether it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelState {
    /// The model's name.
    pub model: String,
    /// The version; none if none is served.
    pub version: Option<u64>,
    /// Why it is not served, or not as the registry has it now.
    pub reason: String,
}

impl ModelState {
    /// Whether it is served, in a word of the Open Inference Protocol.
    pub fn word(&self) -> &'static str {
        if self.version.is_some() { "READY" } else { "UNAVAILABLE" }
    }
}

/// Looks at a parameter of a request to load a model, or to unload it.
///
/// # Errors
/// If it would say what a model is, which comes from the registry.
pub fn check_parameter(name: &str) -> Result<(), Refusal> {
    if name == "unload_dependents" {
        return Ok(());
    }
    Err(Refusal::wrong(format!("`parameters.{name}` is not taken: what a model is comes from the registry")))
}

impl Repository {
    /// Serves models of a registry, each by the version that its reference stands for.
    ///
    /// # Errors
    /// If there is none of these, or one can't be read, or is named twice. It waits for the store.
    pub fn open(registry: ModelRegistry, models: &[ModelReference], limits: BatchLimits) -> CoreResult<Arc<Self>> {
        let repository = Self::awaiting(registry, models, limits)?;
        for reference in repository.awaited().drain(..) {
            repository.begin(&reference)?;
        }
        Ok(repository)
    }

    /// The same, but that models are waited for: each is served as soon as there is such a version, and it is looked for it.
    ///
    /// # Errors
    /// If one is named twice.
    pub fn awaiting(registry: ModelRegistry, models: &[ModelReference], limits: BatchLimits) -> CoreResult<Arc<Self>> {
        let twice = |at: usize| models[..at].iter().any(|before| before.model == models[at].model);
        if let Some(at) = (0..models.len()).find(|at| twice(*at)) {
            return Err(Error::new(format!("model `{}` is to be served twice; name it once", models[at].model)));
        }
        let (models, awaited) = (ArcSwap::default(), Mutex::new(models.to_vec()));
        Ok(Arc::new(Self { registry, limits, models, awaited, changing: Mutex::default() }))
    }

    /// Where the models come from.
    pub(crate) fn registry(&self) -> &ModelRegistry {
        &self.registry
    }

    /// Whether all models are served that are to be.
    pub fn is_ready(&self) -> bool {
        self.awaited().is_empty()
    }

    fn begin(&self, ModelReference { model, selector }: &ModelReference) -> CoreResult<()> {
        let usual = if *selector == Selector::Any { Selector::Alias(CHAMPION.to_owned()) } else { selector.clone() };
        let followed = Arc::new(self.follow(model, usual)?);
        self.change(|models| _ = models.insert(model.clone(), followed));
        Ok(())
    }

    fn awaited(&self) -> std::sync::MutexGuard<'_, Vec<ModelReference>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the models that are served, sorted.
    pub fn names(&self) -> Vec<String> {
        self.models.load().keys().cloned().collect()
    }

    /// The versions of a model that are loaded, ascending.
    ///
    /// # Errors
    /// If it is not served.
    pub fn loaded(&self, model: &str) -> Result<Vec<Arc<Served>>, Refusal> {
        let followed = self.find(model)?;
        let mut loaded: Vec<_> = followed.versions.load().loaded.values().cloned().collect();
        loaded.extend(followed.others().iter().cloned());
        loaded.sort_by_key(|served| served.version);
        loaded.dedup_by_key(|served| served.version);
        Ok(loaded)
    }

    /// The version that answers: the usual one, or the one of a number, an alias, or `latest`.
    ///
    /// # Errors
    /// If there is none, or it can't be read.
    pub async fn resolve(self: &Arc<Self>, model: &str, version: Option<&str>) -> Result<Arc<Served>, Refusal> {
        let followed = self.find(model)?;
        let number = followed.number(model, version.filter(|version| !version.is_empty()))?;
        if let Some(served) = followed.has(number) {
            return Ok(served);
        }
        let (repository, model) = (self.clone(), model.to_owned());
        let read = spawn_blocking(move || repository.read_other(&followed, &model, number)).await;
        read.map_err(|error| Refusal::internal(&Error::new(error.to_string())))?
    }

    /// Serves a model by its champion from now on, or looks at once what the registry has of one that is served.
    ///
    /// # Errors
    /// If there is no such model, or no champion of it, or it can't be read.
    pub async fn load(self: &Arc<Self>, model: &str) -> Result<(), Refusal> {
        let (repository, model) = (self.clone(), model.to_owned());
        let loaded = spawn_blocking(move || repository.load_now(&model)).await;
        loaded.map_err(|error| Refusal::internal(&Error::new(error.to_string())))?
    }

    fn load_now(&self, model: &str) -> Result<(), Refusal> {
        check_model_name(model).map_err(|error| Refusal::not_found(error.to_string()))?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = self.models.load().get(model) {
            return self.refresh(model, followed).map_err(unavailable);
        }
        let begun = self.begin(&ModelReference { model: model.to_owned(), selector: Selector::Any });
        begun.map_err(|error| Refusal::wrong(error.to_string()))
    }

    /// Serves a model no more.
    ///
    /// # Errors
    /// If it is not served.
    pub async fn unload(self: &Arc<Self>, model: &str) -> Result<(), Refusal> {
        let (repository, model) = (self.clone(), model.to_owned());
        let unloaded = spawn_blocking(move || repository.unload_now(&model)).await;
        unloaded.map_err(|error| Refusal::internal(&Error::new(error.to_string())))?
    }

    fn unload_now(&self, model: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.find(model)?;
        self.change(|models| _ = models.remove(model));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Followed>>)) {
        let mut models = BTreeMap::clone(&self.models.load());
        change(&mut models);
        self.models.store(Arc::new(models));
    }

    /// All models of the registry, and which versions of them are served.
    ///
    /// # Errors
    /// If the registry can't be read.
    pub async fn states(self: &Arc<Self>) -> Result<Vec<ModelState>, Refusal> {
        let repository = self.clone();
        let states = spawn_blocking(move || repository.states_now()).await;
        states.map_err(|error| Refusal::internal(&Error::new(error.to_string())))?.map_err(unavailable)
    }

    fn states_now(&self) -> CoreResult<Vec<ModelState>> {
        let models = self.models.load();
        let mut names = self.registry.models()?;
        names.extend(models.keys().cloned());
        names.sort();
        names.dedup();
        let mut states = Vec::new();
        for model in names {
            let Some(followed) = models.get(&model) else {
                states.push(ModelState { model, version: None, reason: "it is not loaded".to_owned() });
                continue;
            };
            let reason = followed.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
            let loaded = self.loaded(&model).unwrap_or_default();
            let state = |served: &Arc<Served>| ModelState {
                model: model.clone(),
                version: Some(served.version),
                reason: reason.clone(),
            };
            states.extend(loaded.iter().map(state));
        }
        Ok(states)
    }

    /// Follows the registry: looks again and again what aliases point at. What goes wrong is logged, and what was served goes on.
    pub async fn keep_fresh(self: Arc<Self>, every: Duration) -> std::convert::Infallible {
        loop {
            sleep(every).await;
            let repository = self.clone();
            if let Err(error) = spawn_blocking(move || repository.refresh_all()).await {
                tracing::error!("the registry could not be followed: {error}");
            }
        }
    }

    /// Looks what aliases point at now.
    pub fn refresh_all(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = self.awaited().clone();
        let there: Vec<_> = awaited.into_iter().filter(|reference| self.begin(reference).is_ok()).collect();
        self.awaited().retain(|reference| !there.contains(reference));
        for (model, followed) in self.models.load().iter() {
            let trouble = self.refresh(model, followed).err().map(|error| error.to_string());
            let mut known = followed.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            match &trouble {
                Some(why) if known.is_none() => {
                    tracing::warn!("model `{model}` is served as it was, since the registry can't be followed: {why}");
                }
                None if known.is_some() => tracing::info!("model `{model}` follows the registry again"),
                _ => {}
            }
            *known = trouble;
        }
    }

    fn follow(&self, model: &str, usual: Selector) -> CoreResult<Followed> {
        self.registry.find(&ModelReference { model: model.to_owned(), selector: usual.clone() })?;
        let followed =
            Followed { usual, versions: ArcSwap::default(), others: Mutex::default(), trouble: Mutex::default() };
        self.refresh(model, &followed)?;
        Ok(followed)
    }

    /// Loads what aliases point at now, and then lets requests find it.
    fn refresh(&self, model: &str, followed: &Followed) -> CoreResult<()> {
        let (aliases, latest) = (self.registry.aliases(model)?, self.registry.latest(model)?);
        let before = followed.versions.load();
        if (&aliases, latest) == (&before.aliases, before.latest) {
            return Ok(());
        }
        let usual = followed.usual_number(&aliases, latest);
        let usual = usual.ok_or_else(|| Error::new(format!("model `{model}` has no {}", named(&followed.usual))))?;
        let mut loaded = BTreeMap::new();
        for version in aliases.values().copied().chain([usual]) {
            let served = match followed.has(version) {
                Some(served) => served,
                None => Arc::new(self.read(model, version)?),
            };
            loaded.insert(version, served);
        }
        let new: Vec<_> = loaded.keys().copied().filter(|version| !before.loaded.contains_key(version)).collect();
        followed.versions.store(Arc::new(Versions { aliases, latest, loaded }));
        new.iter().for_each(|version| tracing::info!("model `{model}`: version {version} is served"));
        Ok(())
    }

    fn read_other(&self, followed: &Followed, model: &str, version: u64) -> Result<Arc<Served>, Refusal> {
        let reference = ModelReference { model: model.to_owned(), selector: Selector::Version(version) };
        match self.registry.find(&reference) {
            Err(error) if error.class() == millstream_core::ErrorClass::Transient => return Err(unavailable(error)),
            Err(error) => return Err(Refusal::not_found(error.to_string())),
            Ok(_) => {}
        }
        let served = Arc::new(self.read(model, version).map_err(unavailable)?);
        let mut others = followed.others();
        if let Some(there) = others.iter().find(|other| other.version == version) {
            return Ok(there.clone());
        }
        if others.len() >= OTHERS {
            others.remove(0);
        }
        others.push(served.clone());
        Ok(served)
    }

    fn read(&self, model: &str, version: u64) -> CoreResult<Served> {
        Served::new(model, self.registry.resolve(&format!("{model}/{version}"))?, self.limits)
    }

    fn find(&self, model: &str) -> Result<Arc<Followed>, Refusal> {
        let models = self.models.load();
        models.get(model).cloned().ok_or_else(|| {
            let known = known_names(model, models.keys().map(String::as_str));
            Refusal::not_found(format!("model `{model}` is not served; {known}"))
        })
    }
}

impl Followed {
    /// The number of the version that is asked for.
    fn number(&self, model: &str, asked: Option<&str>) -> Result<u64, Refusal> {
        let Versions { aliases, latest, .. } = &**self.versions.load();
        let missing = |what: &str| Refusal::not_found(format!("model `{model}` has no {what}"));
        match asked {
            None => self.usual_number(aliases, *latest).ok_or_else(|| missing(&named(&self.usual))),
            Some("latest") => Ok(*latest),
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                let parsed = number.parse().ok().filter(|number| *number > 0);
                parsed.ok_or_else(|| missing(&format!("version {number}")))
            }
            Some(alias) => aliases.get(alias).copied().ok_or_else(|| {
                let known = known_names(alias, aliases.keys().map(String::as_str).chain(["latest"]));
                missing(&format!("version or alias `{alias}`; {known}"))
            }),
        }
    }

    fn usual_number(&self, aliases: &Aliases, latest: u64) -> Option<u64> {
        match &self.usual {
            Selector::Any => aliases.get(CHAMPION).copied(),
            Selector::Latest => Some(latest),
            Selector::Alias(alias) => aliases.get(alias).copied(),
            Selector::Version(version) => Some(*version),
        }
    }

    fn has(&self, version: u64) -> Option<Arc<Served>> {
        if let Some(served) = self.versions.load().loaded.get(&version) {
            return Some(served.clone());
        }
        let mut others = self.others();
        let at = others.iter().position(|other| other.version == version)?;
        let served = others.remove(at);
        others.push(served.clone());
        Some(served)
    }

    fn others(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Served>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(selector: &Selector) -> String {
    match selector {
        Selector::Any => format!("alias `{CHAMPION}`"),
        Selector::Latest => "version".to_owned(),
        Selector::Alias(alias) => format!("alias `{alias}`"),
        Selector::Version(version) => format!("version {version}"),
    }
}

fn unavailable(error: Error) -> Refusal {
    Refusal { reason: Reason::Unavailable, message: error.to_string() }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("registry", &self.registry)
            .field("models", &self.names())
            .finish_non_exhaustive()
    }
}
