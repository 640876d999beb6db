//! Which generation serves at a place: the newest one, or an earlier one that came back because the newest kept trapping
//! or the operator said so.
//!
//! What a refusal, a quarantine and an order have in common: what serves goes on until something better has been made.

use std::sync::Arc;

use easel_core::{Error, ErrorKind, Result};

use crate::grants;
use crate::life::{Event, PluginState};
use crate::loader::Loader;
use crate::manifest::Manifest;
use crate::operate::{PluginAction, not_found};
use crate::plugin::{Compiled, Plugin};
use crate::refusal::Refusal;
use crate::set_aside::{Cause, Verdict};
use crate::slot::{Serving, Slot};
use crate::switches::Switch;
use crate::{MissingGrant, PluginSettings};

/// Why there is no generation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmade {
    /// It does not take its settings, or does not answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It wants what the operator has not decided.
    #[error("{0}")]
    AwaitsGrant(MissingGrant),
    /// The operator has told it nothing yet, and it says that it needs to know something.
    #[error("{0}")]
    Untold(Refusal),
}

impl Loader {
    /// Makes the generation that the component and the settings ask for, if that is not there, and takes out of service
    /// what keeps trapping. Tells whether that is done.
    pub(crate) fn apply(&mut self, key: &str, slot: &mut Slot) -> bool {
        let Some(id) = slot.id().map(str::to_owned) else { return true };
        // What serves makes way once the first by path is ready; what does not, waits for its turn.
        let owner = self.owner(&id, key).filter(|owner| owner.serving.is_some() || slot.serving.is_none());
        if let Some(owner) = owner {
            let taken = format!("its id {id:?} is taken by {}", owner.path.display());
            self.stop(slot);
            if slot.life.state() != PluginState::Failed {
                slot.on(Event::Changed);
            }
            slot.on(Event::Refused(taken));
            return true;
        }
        let settings = self.settings(&id);
        if let Some(reason) = self.switched_off(&id, &settings) {
            self.stop(slot);
            slot.off_with = Some(settings);
            slot.on(Event::SwitchedOff(reason));
            self.set_aside.clear(&id);
            return true;
        }
        slot.off_with = None;
        let Some((compiled, _)) = &slot.compiled else {
            // Switched on, or free to have its id: the file is read once more.
            if matches!(slot.life.state(), PluginState::Disabled | PluginState::Failed) {
                slot.seen = None;
                slot.on(Event::Changed);
            }
            return true;
        };
        let compiled = Arc::clone(compiled);
        let tried = slot.tried.as_ref().filter(|(tried, _)| Arc::ptr_eq(tried, &compiled));
        match tried {
            Some((_, with)) if *with == settings => self.look_after(slot, &settings),
            Some(_) if slot.is_set_back => self.refit(slot, compiled, settings),
            Some(_) => self.renew(slot, &compiled, &settings),
            None => match self.set_aside.verdict(&id, &compiled.build, &settings).cloned() {
                Some(verdict) => return self.stand_back(key, slot, compiled, settings, &verdict),
                None => self.renew(slot, &compiled, &settings),
            },
        }
        true
    }

    /// Why a plugin is switched off, if it is.
    fn switched_off(&self, id: &str, settings: &PluginSettings) -> Option<String> {
        if !settings.is_enabled {
            return Some(format!("enabled = false under [plugin.{id}] in easel.toml"));
        }
        self.switches.is_off(id).then(|| format!("switched off by the operator: easel plugin enable {id}"))
    }

    pub(crate) fn is_switched_off(&self, id: &str) -> bool {
        self.switched_off(id, &self.settings(id)).is_some()
    }

    /// Takes out of service whatever serves.
    fn stop(&self, slot: &mut Slot) {
        slot.retire(&self.shared.rules);
        (slot.tried, slot.missing_grant) = (None, None);
        slot.is_set_back = false;
    }

    /// Makes a generation, if all that it wants is decided. A build that takes the place of another one, `replaced`, wants
    /// what that one did not.
    pub(crate) fn make(
        &self,
        compiled: &Arc<Compiled>,
        settings: &PluginSettings,
        replaced: Option<&Manifest>,
    ) -> std::result::Result<Arc<Plugin>, Unmade> {
        if let Some(missing) = grants::missing(&compiled.manifest, settings, replaced)? {
            return Err(Unmade::AwaitsGrant(missing));
        }
        let made = Plugin::new(Arc::clone(&self.shared), Arc::clone(compiled), settings);
        self.shared.guests.block_on(made).map_err(|refusal| {
            // What works and was told nothing yet may well need something that only the operator knows.
            let is_untold = refusal.is_own_word() && settings.config.is_empty();
            if is_untold { Unmade::Untold(refusal) } else { Unmade::Refused(refusal) }
        })
    }

    /// Tries the newest component with the settings of now.
    fn renew(&mut self, slot: &mut Slot, compiled: &Arc<Compiled>, settings: &PluginSettings) {
        slot.on(Event::Changed);
        (slot.is_set_back, slot.missing_grant) = (false, None);
        let older = slot.serving.as_ref().map(|serving| Arc::clone(serving.plugin()));
        let older = older.filter(|plugin| !Arc::ptr_eq(&plugin.compiled, compiled));
        let made = self.make(compiled, settings, older.as_ref().map(|plugin| &plugin.compiled.manifest));
        slot.tried = Some((Arc::clone(compiled), settings.clone()));
        let unmade = match made {
            Ok(plugin) => return self.accept(slot, &plugin),
            Err(unmade) => unmade,
        };
        match older {
            Some(older) => self.keep(slot, &older, settings),
            // What it was given was taken back.
            None if matches!(unmade, Unmade::AwaitsGrant(_)) => slot.retire(&self.shared.rules),
            None => {}
        }
        self.refuse(slot, compiled, unmade);
    }

    /// Lets an older build serve on, with no more than the operator gives now.
    fn keep(&self, slot: &mut Slot, older: &Arc<Plugin>, settings: &PluginSettings) {
        let settings = settings.for_older(&older.compiled.manifest, &older.settings);
        if settings != older.settings {
            let made = self.make(&older.compiled, &settings, None).ok();
            slot.retire(&self.shared.rules);
            slot.serving = made.map(Serving::new);
        }
    }

    fn accept(&mut self, slot: &mut Slot, plugin: &Arc<Plugin>) {
        let (id, version) = (&*plugin.id, &plugin.compiled.manifest.version);
        let variables = plugin.compiled.manifest.variables(&plugin.settings);
        for variable in variables.iter().filter(|variable| variable.counts) {
            let (variable, sets) = (&variable.name, &variable.sets);
            tracing::info!(plugin = id, version, variable, sets, "an environment variable counts for a plugin");
        }
        let event = if plugin.not_ready().is_some() { Event::Lacking } else { Event::Accepted };
        plugin.vitals.record.reloaded();
        slot.serve(Arc::clone(plugin), &self.shared.rules);
        slot.on(event);
        self.set_aside.clear(id);
    }

    fn refuse(&self, slot: &mut Slot, compiled: &Compiled, unmade: Unmade) {
        let (record, version) = (self.shared.records.of(&compiled.manifest.id), &compiled.manifest.version);
        let reason = unmade.to_string();
        match unmade {
            Unmade::AwaitsGrant(missing) => {
                record.error("awaiting_grant", version, &reason);
                slot.missing_grant = Some(missing);
                slot.on(Event::Ungranted(reason));
            }
            Unmade::Untold(_) => slot.on(Event::Unconfigured(reason)),
            Unmade::Refused(_) => {
                record.refused();
                record.error("refused", version, &reason);
                slot.on(Event::Refused(reason));
            }
        }
    }

    /// Gives other settings to a generation that the operator brought back; the newest build stays set back.
    fn refit(&self, slot: &mut Slot, newest: Arc<Compiled>, settings: PluginSettings) {
        let serving = slot.serving.as_ref().map(|serving| Arc::clone(serving.plugin()));
        slot.tried = Some((newest, settings.clone()));
        let Some(serving) = serving else { return };
        let for_older = settings.for_older(&serving.compiled.manifest, &serving.settings);
        let settings = PluginSettings { config: settings.config, ..for_older };
        match self.make(&serving.compiled, &settings, None) {
            Ok(plugin) => {
                slot.retire(&self.shared.rules);
                slot.serving = Some(Serving::new(plugin));
            }
            Err(refusal) => {
                let (plugin, version) = (slot.known_as(), &serving.compiled.manifest.version);
                tracing::warn!(plugin, version, "the generation that was brought back keeps its settings: {refusal}");
                serving.vitals.record.error("refused", version, &refusal.to_string());
            }
        }
    }

    /// Quarantines what keeps trapping, and brings back what served before.
    fn look_after(&mut self, slot: &mut Slot, settings: &PluginSettings) {
        let Some(sick) = slot.serving.as_ref().map(|serving| Arc::clone(serving.plugin())) else { return };
        let Some((traps, calls)) = sick.vitals.sickness() else { return };
        let (id, version) = (&*sick.id, &sick.compiled.manifest.version);
        let last = sick.vitals.record.errors().into_iter().find(|error| error.kind == "trap");
        let last = last.map_or_else(String::new, |error| format!("; the last time it {}", error.message));
        let reason = format!("{traps} of its last {calls} calls trapped{last}");
        tracing::error!(plugin = id, version, "plugin quarantined: {reason}");
        sick.vitals.record.error("quarantined", version, &reason);
        if slot.is_newest(&sick) {
            slot.on(Event::KeptTrapping(reason.clone()));
        }
        let back = self.bring_back(slot, settings);
        self.set_aside.add(Verdict {
            plugin: id.to_owned(),
            build: sick.compiled.build.clone(),
            cause: Cause::quarantine(settings),
            reason,
            instead: back.as_ref().map(|plugin| plugin.compiled.build.clone()),
        });
        slot.retire(&self.shared.rules);
        slot.serving = back.map(Serving::new);
    }

    /// Makes an earlier generation once more, with the grants and credentials of now.
    fn bring_back(&self, slot: &mut Slot, settings: &PluginSettings) -> Option<Arc<Plugin>> {
        while let Some(earlier) = slot.take_earlier() {
            let settings = settings.for_older(&earlier.compiled.manifest, &earlier.settings);
            let (plugin, version) = (slot.known_as(), &earlier.compiled.manifest.version);
            match self.make(&earlier.compiled, &settings, None) {
                Ok(made) => {
                    tracing::info!(plugin, version, digest = earlier.compiled.digest, "earlier generation is back");
                    return Some(made);
                }
                Err(refusal) => tracing::warn!(plugin, version, "earlier generation cannot come back: {refusal}"),
            }
        }
        None
    }

    /// Carries out what operators asked for.
    pub(crate) fn obey(&mut self) {
        for order in self.control.orders.take() {
            let done = self.carry_out(&order.id, order.action);
            match done {
                Ok(()) => {
                    tracing::info!(plugin = order.id, action = order.action.name(), "operator's order");
                    self.replies.push(order.reply);
                }
                // Whoever asked may have gone.
                Err(error) => drop(order.reply.send(Err(error))),
            }
        }
    }

    fn carry_out(&mut self, id: &str, action: PluginAction) -> Result<()> {
        let is_it = |slot: &&Slot| slot.known_as() == id && !slot.is_gone();
        // The one that serves has the id, or else the first by path.
        let found = self.slots.values().filter(is_it).min_by_key(|slot| slot.serving.is_none());
        let key = found.map(|slot| slot.name.clone()).ok_or_else(|| not_found(id))?;
        let is_configured_off = !self.settings(id).is_enabled;
        let by_config = || {
            let message = format!("plugin {id} is switched off by the config");
            Error::new(ErrorKind::InvalidRequest, message)
                .with_code("plugin_disabled")
                .with_hint(format!("set enabled = true under [plugin.{id}] in easel.toml"))
        };
        match action {
            PluginAction::Disable => self.switch(id, Switch::Off)?,
            PluginAction::Enable if is_configured_off => return Err(by_config()),
            PluginAction::Enable => self.switch(id, Switch::On)?,
            PluginAction::Reload if self.is_switched_off(id) => {
                let message = format!("plugin {id} is switched off: enable it first");
                return Err(Error::new(ErrorKind::InvalidRequest, message).with_code("plugin_disabled"));
            }
            PluginAction::Reload => {
                self.set_aside.clear(id);
                if let Some(slot) = self.slots.get_mut(&key) {
                    (slot.seen, slot.tried) = (None, None);
                }
            }
            PluginAction::Rollback => return self.set_back(id, &key),
        }
        Ok(())
    }

    fn switch(&mut self, id: &str, switch: Switch) -> Result<()> {
        self.switches.set(id, switch).map_err(|error| {
            let message = format!("plugin {id} stays as it is, the switch cannot be kept: {error}");
            Error::new(ErrorKind::Storage, message).with_source(error)
        })
    }

    /// Brings back the generation before the one that serves.
    fn set_back(&mut self, id: &str, key: &str) -> Result<()> {
        let Some(mut slot) = self.slots.remove(key) else { return Err(not_found(id)) };
        let settings = self.settings(id);
        let back = if slot.serving.is_some() || slot.life.state() == PluginState::Quarantined {
            self.bring_back(&mut slot, &settings)
        } else {
            None
        };
        let done = match back {
            Some(plugin) => {
                let version = &plugin.compiled.manifest.version;
                let reason = format!("the operator brought back {version}: easel plugin reload {id}");
                if let Some((newest, _)) = &slot.compiled {
                    self.set_aside.add(Verdict {
                        plugin: id.to_owned(),
                        build: newest.build.clone(),
                        cause: Cause::Rollback,
                        reason: reason.clone(),
                        instead: Some(plugin.compiled.build.clone()),
                    });
                }
                slot.on(Event::SetBack(reason));
                slot.is_set_back = true;
                slot.retire(&self.shared.rules);
                slot.serving = Some(Serving::new(plugin));
                Ok(())
            }
            None => {
                let message = format!("plugin {id} has no earlier generation that could come back");
                let hint = "put the older file into the plugins folder: what can come back is listed under earlier";
                Err(Error::new(ErrorKind::InvalidRequest, message).with_code("no_earlier_generation").with_hint(hint))
            }
        };
        self.slots.insert(key.to_owned(), slot);
        // The next look finds it as it is now, and nothing to tell.
        self.publish();
        done
    }
}
