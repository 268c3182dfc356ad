//! Texts around dynos: reading never panics, and is within its bounds.

use super::procfile::{DYNOS_MAX, commands, formation, variables};

pub(crate) fn texts(text: &str) {
    if let Ok(all) = commands(text) {
        assert!(!all.is_empty() && all.values().all(|command| !command.is_empty()));
        let written: String = all.iter().map(|(kind, command)| format!("{kind}: {command}\n")).collect();
        assert_eq!(commands(&written).ok(), Some(all));
    }
    if let Ok(all) = variables(text) {
        assert!(all.iter().all(|(key, _)| !key.is_empty() && !key.contains('=')));
    }
    if let Ok(all) = formation(text) {
        assert!(all.values().all(|count| *count <= DYNOS_MAX));
    }
}
