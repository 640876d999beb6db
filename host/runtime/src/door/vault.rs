//! The operator's values of credentials, held once for each plugin and shared by all its generations.
//!
//! A value that changes counts from the next request on: no generation is made for it, and connections stay. What was
//! valid before is remembered for a while, so that it is still scrubbed from answers that were under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::scrub::Scrubber;
use super::service_account::Tokens;
use crate::{PluginSettings, Secret};

/// How many replaced values of one plugin are still scrubbed.
const RETIRED: usize = 16;

/// The vaults of all plugins, by id.
#[derive(Debug, Default)]
pub(crate) struct Vaults(Mutex<BTreeMap<String, Arc<Vault>>>);

impl Vaults {
    /// Moves the values out of the settings into the vaults. The names stay behind, as far as there are values: what is
    /// left changes only when a credential comes or goes.
    pub(crate) fn take(&self, mut plugins: BTreeMap<String, PluginSettings>) -> BTreeMap<String, PluginSettings> {
        let mut vaults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, settings) in &mut plugins {
            settings.credentials.retain(|_, value| !value.expose().is_empty());
            vaults.entry(id.clone()).or_default().set(&settings.credentials);
            settings.credentials.values_mut().for_each(|value| *value = Secret::new(""));
        }
        vaults.retain(|id, vault| {
            if plugins.contains_key(id) {
                return true;
            }
            vault.set(&BTreeMap::new());
            vault.set_variables(BTreeMap::new());
            Arc::strong_count(vault) > 1
        });
        plugins
    }

    /// The vault of one plugin.
    pub(crate) fn of(&self, id: &str) -> Arc<Vault> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default())
    }
}

/// The values of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    held: Mutex<Held>,
    /// Tokens that were got for service accounts.
    pub(super) tokens: Tokens,
}

#[derive(Debug, Default)]
struct Held {
    by_name: BTreeMap<String, Secret>,
    /// Those that come from variables that the plugin's manifest names; they count first.
    by_variable: BTreeMap<String, Secret>,
    /// Values that were replaced and tokens, the newest last.
    others: VecDeque<Secret>,
    scrubber: Option<Arc<Scrubber>>,
}

impl Vault {
    /// Puts in the values that count from now on.
    pub(crate) fn set(&self, values: &BTreeMap<String, Secret>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by_name == *values {
            return;
        }
        let replaced = std::mem::replace(&mut held.by_name, values.clone());
        for old in replaced.into_values().filter(|old| values.values().all(|value| value != old)) {
            held.remember(old);
        }
        held.prepare();
    }

    /// The same for those that come from variables.
    pub(crate) fn set_variables(&self, values: BTreeMap<String, Secret>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut held.by_variable, values);
        if replaced == held.by_variable {
            return;
        }
        replaced.into_values().for_each(|old| held.remember(old));
        held.prepare();
    }

    /// The value of a credential.
    pub(crate) fn get(&self, name: &str) -> Option<Secret> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.by_variable.get(name).or_else(|| held.by_name.get(name)).cloned()
    }

    /// Scrubs this as well from now on.
    pub(super) fn scrub_also(&self, token: Secret) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remember(token);
        held.prepare();
    }

    /// Finds the secrets of this moment, if there are any.
    pub(crate) fn scrubber(&self) -> Option<Arc<Scrubber>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).scrubber.clone()
    }

    /// A plugin's text without the secrets.
    pub(crate) fn scrubbed(&self, text: &str) -> String {
        match self.scrubber() {
            Some(scrubber) => scrubber.text(text),
            None => text.to_owned(),
        }
    }
}

impl Held {
    fn remember(&mut self, secret: Secret) {
        if self.others.len() == RETIRED {
            self.others.pop_front();
        }
        self.others.push_back(secret);
    }

    fn prepare(&mut self) {
        let values = self.by_name.values().chain(self.by_variable.values()).chain(&self.others);
        self.scrubber = Scrubber::new(values).map(Arc::new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: &str) -> BTreeMap<String, PluginSettings> {
        let credentials = [("key".to_owned(), Secret::new(value))].into();
        [("p".to_owned(), PluginSettings { credentials, ..PluginSettings::default() })].into()
    }

    #[test]
    fn changed_value_changes_the_vault_and_not_the_settings() {
        let vaults = Vaults::default();
        let before = vaults.take(settings("first-value"));
        let vault = vaults.of("p");
        assert_eq!(vault.get("key").unwrap().expose(), "first-value");
        let after = vaults.take(settings("second-value"));
        assert!(before == after && before["p"].credentials.contains_key("key"));
        assert_eq!(vault.get("key").unwrap().expose(), "second-value");
        assert!(vaults.take(settings("")) != after, "a value that goes is another matter");
        assert_eq!(vault.get("key"), None);
    }

    #[test]
    fn variable_counts_first_and_is_scrubbed() {
        let vaults = Vaults::default();
        drop(vaults.take(settings("first-value")));
        let vault = vaults.of("p");
        vault.set_variables([("key".to_owned(), Secret::new("of-a-variable"))].into());
        assert_eq!(vault.get("key").unwrap().expose(), "of-a-variable");
        assert_eq!(vault.scrubbed("of-a-variable first-value"), "************* ***********");
        vault.set_variables(BTreeMap::new());
        assert_eq!(vault.get("key").unwrap().expose(), "first-value");
        assert_eq!(vault.scrubbed("of-a-variable"), "*************");
    }

    #[test]
    fn replaced_values_are_still_scrubbed_for_a_while() {
        let vault = Vault::default();
        for number in 0..40 {
            vault.set(&[("key".to_owned(), Secret::new(format!("value-number-{number}-")))].into());
        }
        assert_eq!(vault.scrubbed("value-number-39- value-number-30- value-number-3-").matches("value-").count(), 1);
    }

    #[test]
    fn vault_of_a_plugin_that_is_gone_is_emptied_and_forgotten() {
        let vaults = Vaults::default();
        drop(vaults.take(settings("first-value")));
        let vault = vaults.of("p");
        vault.set_variables([("key".to_owned(), Secret::new("of-a-variable"))].into());
        drop(vaults.take(BTreeMap::new()));
        assert_eq!(vault.get("key"), None);
        drop(vault);
        drop(vaults.take(BTreeMap::new()));
        assert!(vaults.0.lock().unwrap().is_empty());
    }
}
