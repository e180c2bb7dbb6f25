//! An answer about what the datapath does not have yet, or still has, waits a moment for it: who asks after a change
//! sees its end, and a datapath that is behind shows as `pending`, `provisioning` or `deleting`.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{control::Installed, model::State, runtime::Runtime};

/// How long one answer waits: several passes at the size of thousands of endpoints.
const MOMENT: Duration = Duration::from_millis(500);

/// One answer's wait.
pub struct Settling {
    passes: Option<watch::Receiver<Arc<Installed>>>,
    until: Instant,
}

impl Settling {
    /// For passes of `runtime`, from now on.
    pub fn new(runtime: &dyn Runtime) -> Self {
        Self { passes: runtime.installed(), until: Instant::now() + MOMENT }
    }

    /// What the datapath has. Without one, everything that is wanted counts as had.
    pub fn installed(&mut self, world: &Arc<State>) -> Arc<Installed> {
        match &mut self.passes {
            Some(passes) => passes.borrow_and_update().clone(),
            None => Arc::new(Installed { state: Arc::clone(world), ..Installed::default() }),
        }
    }

    /// Waits for the next pass; false if there was none in time.
    pub async fn wait(&mut self) -> bool {
        let Some(passes) = &mut self.passes else { return false };
        matches!(tokio::time::timeout_at(self.until, passes.changed()).await, Ok(Ok(())))
    }
}
