//! A plane's start: its port, its agents, its orders' socket, and the watch over its files.

use std::sync::Arc;

use anyhow::{Context, Result};
use ringway_control::source::Watcher;
use serde_json::json;

use crate::orders::{self, ORDERS_SOCKET};
use crate::plane::Plane;
use crate::port::Port;

impl Plane {
    /// Serves until it fails.
    ///
    /// # Errors
    /// When the port or the orders' socket cannot be opened.
    pub async fn run(self: Arc<Self>) -> Result<()> {
        let watcher = Watcher::new(&self.options.sources).context("cannot watch the mesh files")?;
        let orders = orders::Listener::bind(&self.options.directory.join(ORDERS_SOCKET))?;
        let port = Port::bind(Arc::clone(&self)).await?;
        for agent in &self.agents {
            tokio::spawn(Arc::clone(agent).run());
        }
        tokio::spawn(Arc::clone(&self).reload_for_ever(watcher));
        println!("ready");
        tokio::select! {
            ended = port.run() => ended,
            ended = orders.run(move |line| {
                let plane = Arc::clone(&self);
                async move { orders::obey(&plane, &line).await }
            }) => ended,
        }
    }

    async fn reload_for_ever(self: Arc<Self>, mut watcher: Watcher) {
        loop {
            watcher.changed().await;
            let error = self.load().err().map(|error| format!("{error:#}"));
            if let Some(error) = &error {
                eprintln!("the mesh files stay as they were:\n{error}");
            }
            self.journal.record("reloaded", json!({ "error": error }));
        }
    }
}
