//! Work that whoever starts the engine has done on the shards' own threads.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Work on a shard's own thread, before it serves. See [`EngineConfig::on_start`](crate::EngineConfig::on_start).
#[derive(Clone)]
pub struct ShardHook {
    work: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    failures: Option<Arc<Mutex<Vec<String>>>>,
}

impl ShardHook {
    /// The engine does not start when `work` fails on a shard.
    pub fn new(work: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { work: Arc::new(work), failures: None }
    }

    /// It starts all the same, and [`ShardHook::failures`] says what failed.
    #[must_use]
    pub fn lenient(self) -> Self {
        Self { failures: Some(Arc::default()), ..self }
    }

    /// What failed so far, each once.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.failures.as_ref();
        failures.map_or_else(Vec::new, |failures| {
            failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    pub(crate) fn run(&self) -> Result<(), String> {
        let Err(why) = (self.work)() else { return Ok(()) };
        let Some(failures) = &self.failures else { return Err(why) };
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failures.contains(&why) {
            failures.push(why);
        }
        Ok(())
    }
}

impl fmt::Debug for ShardHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHook").field("failures", &self.failures).finish_non_exhaustive()
    }
}
