//! A configuration that changed: it is read, refused or taken, and what of it can be in force is.

use std::time::{Instant, SystemTime};

use serde_json::Value;
use tokio::task::JoinError;

use super::{Node, Work};
use crate::run::error::RunError;
use crate::run::settings::{need_restart, settings};
use crate::source::{Diagnostic, Diagnostics, MeshConfig, NodeConfig, Severity};
use crate::telemetry::log::LogFilter;

/// A refused configuration is told with at most so many of its mistakes.
const MISTAKES_LOGGED_MAX: usize = 50;

impl Node {
    /// Begins to read the configuration again.
    pub(super) fn reload(&mut self, work: &mut Work) {
        if !work.may_load() {
            return;
        }
        let (options, previous) = (self.options.clone(), self.engine.snapshot());
        work.loads.spawn_blocking(move || crate::run::reload(&options, &previous));
    }

    pub(super) async fn loaded(&mut self, loaded: Result<Result<MeshConfig, RunError>, JoinError>) {
        match loaded {
            Ok(Ok(mesh)) => {
                self.reloads.ok += 1;
                self.apply_settings(&mesh.node);
                log_mistakes(&mesh.warnings);
                self.take(mesh).await;
                tracing::info!(generation = self.generation, "configuration reloaded");
            }
            Ok(Err(error)) => self.refused(&error),
            Err(panic) => {
                self.reloads.failed += 1;
                tracing::error!(%panic, generation = self.generation, "the reload broke; nothing changes");
            }
        }
    }

    /// Nothing of a configuration with a mistake is taken.
    fn refused(&mut self, error: &RunError) {
        self.reloads.failed += 1;
        #[cfg(feature = "waypoint")]
        if self.options.l7.is_some() {
            self.view.update(|seen| crate::run::waypoint::refused(&mut seen.status, error));
        }
        match error {
            RunError::Configuration(mistakes) => {
                log_mistakes(mistakes);
                tracing::error!(
                    errors = mistakes.errors(),
                    generation = self.generation,
                    "configuration refused; the one before stays"
                );
            }
            other => tracing::error!(
                error = %other,
                generation = self.generation,
                "configuration refused; the one before stays"
            ),
        }
    }

    /// Settings that can change while running; the others are named.
    fn apply_settings(&mut self, new: &NodeConfig) {
        let restart = need_restart(&self.config, new);
        if !restart.is_empty() {
            tracing::warn!(settings = restart.join(", "), "these take effect with the next start");
        }
        if self.config.log.level != new.log.level {
            match LogFilter::parse(&new.log.level) {
                Ok(filter) => self.log.set_filter(filter),
                Err(error) => tracing::warn!(%error, "the log level stays"),
            }
        }
        let lists = &new.certificate_authority.revocation_lists;
        if self.config.certificate_authority.revocation_lists != *lists {
            self.config.certificate_authority.revocation_lists.clone_from(lists);
            self.revocation.configure(lists);
            self.revoke();
        }
        self.config.drain_deadline = new.drain_deadline;
        self.config.log.level.clone_from(&new.log.level);
    }

    /// Makes a configuration the one in force: leaves for its identities, then its world in one step, then its
    /// workloads.
    pub(in crate::run) async fn take(&mut self, mesh: MeshConfig) {
        #[cfg(feature = "waypoint")]
        self.view.update(|seen| seen.unenforced = mesh.unenforced);
        #[cfg(feature = "waypoint")]
        if self.options.l7.is_some() {
            let status = crate::run::waypoint::status(&mesh, self.generation + 1);
            self.view.update(|seen| seen.status = status);
        }
        let identities = mesh.enrollments.iter().map(|one| &one.identity);
        self.certifier.keep(identities, SystemTime::now());
        // What has no leaf yet gets one before anybody can ask for it, where that is a matter of this host alone.
        while self.certifier.can_settle(SystemTime::now()) {
            self.certifier.poll(SystemTime::now());
            tokio::task::yield_now().await;
        }
        let mesh = self.follow_keys(mesh);
        let mut world = mesh.snapshot;
        for status in self.certifier.statuses() {
            if let Some(credentials) = status.credentials {
                world.set_credentials(credentials);
            }
        }
        self.hostnames.tell(&mut world);
        #[cfg(feature = "waypoint")]
        if self.options.l7.is_some() {
            self.lingering.carry(&self.engine.snapshot(), &mut world, Instant::now());
        }
        self.publish(world);
        #[cfg(feature = "waypoint")]
        if let Some(l7) = &self.options.l7 {
            self.follow_ports(l7.role(&mesh.http)).await;
        }
        self.enroller.want(mesh.enrollments, Instant::now());
        let dump: serde_json::Map<String, Value> = settings(&self.config)
            .into_iter()
            .map(|setting| (setting.name.to_owned(), Value::String(setting.value)))
            .collect();
        self.view.update(|seen| seen.config = Value::Object(dump));
    }

    /// Has a gateway listen where its listeners are now.
    #[cfg(feature = "waypoint")]
    async fn follow_ports(&self, role: ringway_engine::Role) {
        let host = std::sync::Arc::clone(&self.host);
        match tokio::task::spawn_blocking(move || host.follow(role)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error, "the gateway's ports stay as they were"),
            Err(panic) => tracing::error!(%panic, "the gateway's ports could not be changed"),
        }
    }
}

/// Each mistake is a line that begins with its place, as bad as the mistake is.
fn log_mistakes(mistakes: &Diagnostics) {
    for mistake in mistakes.iter().take(MISTAKES_LOGGED_MAX) {
        let Shown { place, excerpt, help } = Shown::of(mistake);
        let message = mistake.message();
        match mistake.severity() {
            Severity::Error => tracing::error!(excerpt, help, "{place}: {message}"),
            Severity::Warning => tracing::warn!(excerpt, help, "{place}: {message}"),
        }
    }
}

struct Shown<'a> {
    place: String,
    /// `None`: the mistake is of the whole file.
    excerpt: Option<&'a str>,
    help: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(mistake: &'a Diagnostic) -> Self {
        let place = match mistake.line() {
            0 => mistake.file().to_owned(),
            line => format!("{}:{line}:{}", mistake.file(), mistake.column()),
        };
        let excerpt = Some(mistake.excerpt().trim()).filter(|excerpt| !excerpt.is_empty());
        Self { place, excerpt, help: mistake.help() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, load};
    use crate::telemetry::log::LogFormat;
    use crate::telemetry::log::tests::logged;

    fn told(text: &str) -> String {
        let source = Source::Text { name: "mesh.yaml".to_owned(), text: text.to_owned() };
        let mistakes = match load(&[source], Some("host-a")) {
            Ok(mesh) => mesh.warnings,
            Err(mistakes) => mistakes,
        };
        logged(LogFormat::Plain, |_| log_mistakes(&mistakes))
    }

    #[test]
    fn a_mistake_is_told_as_an_error_and_without_what_it_lacks() {
        let node =
            "{apiVersion: ringway.dev/v1alpha1, kind: Node, metadata: {name: host-a}, spec: ";
        let lifetime = "{certificateAuthority: {leafLifetime: 5s}}}";
        //  name                    text                                   level    in the line           absent
        let rows = [
            ("an empty file", String::new(), "error", "there is nothing in this file", "=\"\""),
            ("no help", format!("{node}[]}}"), "error", "excerpt=", "help="),
            ("with help", format!("{node}{{mdoe: shared}}}}"), "error", "help=", "=\"\""),
            ("a warning", format!("{node}{lifetime}"), "warn", "are renewed every", "help="),
        ];
        for (name, text, level, present, absent) in rows {
            let told = told(&text);
            let (_, line) = told.split_once('\t').unwrap_or_else(|| panic!("{name}: {told}"));
            assert!(line.starts_with(level), "{name}: {told}");
            assert!(line.contains(present) && !line.contains(absent), "{name}: {told}");
            assert_eq!(told.lines().count(), 1, "{name}: {told}");
        }
    }
}
