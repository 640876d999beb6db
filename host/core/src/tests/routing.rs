//! Which backend and model a request goes to, and what it is told about that.

use std::sync::Arc;

use super::fakes::{FakeBackend, checked, model, world_of};
use crate::{Draft, Error, ErrorKind, NoteKind, RetiredModel, Snapshot, UnknownModel};

/// Two backends, a model that both have, and an alias of each kind.
fn world() -> Snapshot {
    let studio = FakeBackend::new("studio", &[model("brush"), model("shared")]);
    let attic = FakeBackend::new("attic", &[model("pencil"), model("shared")]);
    let mut world = world_of(vec![Arc::new(studio), Arc::new(attic)]);
    world.aliases = [("fast", "pencil"), ("exact", "attic/shared"), ("stale", "gone")]
        .into_iter()
        .map(|(alias, model)| (alias.to_owned(), model.to_owned()))
        .collect();
    world
}

fn draft(backend: Option<&str>, model: Option<&str>) -> Draft {
    Draft { backend: backend.map(str::to_owned), model: model.map(str::to_owned), ..Draft::new("a cat") }
}

/// Where a request goes: `backend/model`, the reason, and whether it is told of a replacement.
fn routed(world: &Snapshot, backend: Option<&str>, model: Option<&str>) -> Result<(String, &'static str, bool), Error> {
    let route = world.route(&checked(draft(backend, model)))?;
    Ok((format!("{}/{}", route.backend.id(), route.model.id), route.reason, route.note.is_some()))
}

#[test]
fn requests_go_where_they_ask_to() {
    let rows = [
        (None, None, "studio/brush", "default model"),
        (None, Some("brush"), "studio/brush", "requested model"),
        (None, Some("pencil"), "attic/pencil", "requested model"),
        (None, Some("shared"), "studio/shared", "requested model"),
        (None, Some("attic/shared"), "attic/shared", "requested model"),
        (None, Some("fast"), "attic/pencil", "requested model"),
        (None, Some("exact"), "attic/shared", "requested model"),
        (Some("attic"), None, "attic/pencil", "requested backend"),
        (Some("attic"), Some("shared"), "attic/shared", "requested backend and model"),
        (Some("attic"), Some("attic/shared"), "attic/shared", "requested backend and model"),
    ];
    for unknown_model in [UnknownModel::UseDefault, UnknownModel::Refuse] {
        let world = Snapshot { unknown_model, ..world() };
        for (backend, model, place, reason) in rows {
            let route = routed(&world, backend, model).unwrap();
            assert_eq!(route, (place.to_owned(), reason, false), "{backend:?} {model:?}");
        }
    }
}

#[test]
fn default_model_is_the_configured_one() {
    let rows = [("pencil", "attic/pencil"), ("attic/shared", "attic/shared"), ("exact", "attic/shared")];
    for (default, place) in rows {
        let world = Snapshot { default_model: Some(default.to_owned()), ..world() };
        assert_eq!(routed(&world, None, None).unwrap(), (place.to_owned(), "default model", false));
        assert_eq!(world.missing_default(), None);
    }
}

#[test]
fn default_model_that_nobody_has_is_replaced_with_a_note_where_models_are_lenient() {
    let world = Snapshot { default_model: Some("gone".to_owned()), ..world() };
    let route = world.route(&checked(draft(None, None))).unwrap();
    let note = route.note.expect("it is told");
    assert_eq!((note.kind, note.param.as_deref()), (NoteKind::Replaced, Some("model")));
    assert_eq!(note.message, "the default model \"gone\" is not here now; brush took its place");
    assert_eq!(route.reason, "default model not here, first one used");
    assert_eq!(world.missing_default(), Some("gone"));

    // Who names a backend or a model was not promised the default.
    assert!(!routed(&world, Some("attic"), None).unwrap().2);
    assert!(!routed(&world, None, Some("pencil")).unwrap().2);
}

#[test]
fn default_model_that_nobody_has_is_not_ready_where_models_are_strict() {
    let default_model = Some("gone".to_owned());
    let world = Snapshot { default_model, unknown_model: UnknownModel::Refuse, ..world() };
    let error = routed(&world, None, None).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NotReady, "the default model \"gone\" is not here now"));
    assert_eq!(error.retry_after().map(|after| after.as_secs()), Some(30));
    assert_eq!(routed(&world, Some("attic"), None).unwrap().0, "attic/pencil");
}

#[test]
fn named_backend_is_binding_even_against_the_default_model() {
    let world = Snapshot { default_model: Some("pencil".to_owned()), ..world() };
    assert_eq!(routed(&world, Some("studio"), None).unwrap().0, "studio/brush");
    assert_eq!(
        routed(&world, Some("studio"), Some("pencil")).unwrap(),
        ("studio/brush".to_owned(), "unknown model, default used", true)
    );
}

#[test]
fn unknown_model_is_replaced_by_the_default_with_a_note_where_models_are_lenient() {
    let world = Snapshot { default_model: Some("pencil".to_owned()), ..world() };
    for asked in ["dall-e-9", "studio/pencil", "nowhere/brush", "studio/", "stale"] {
        let route = world.route(&checked(draft(None, Some(asked)))).unwrap();
        let note = route.note.expect(asked);
        assert_eq!((route.model.id.as_str(), route.reason), ("pencil", "unknown model, default used"));
        assert_eq!((note.kind, note.param.as_deref()), (NoteKind::Replaced, Some("model")));
        assert_eq!(note.message, format!("model {asked:?} is not known here; pencil took its place"));
    }
}

#[test]
fn unknown_model_is_refused_with_the_list_where_models_are_strict() {
    let world = Snapshot { unknown_model: UnknownModel::Refuse, ..world() };
    let error = routed(&world, None, Some("dall-e-9")).unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.param()),
        (ErrorKind::ModelNotFound, "model_not_found", Some("model"))
    );
    assert_eq!(error.message(), "model \"dall-e-9\" is not known here; there are: brush, shared, pencil, shared");

    let error = routed(&world, Some("attic"), Some("brush")).unwrap_err();
    assert_eq!(error.message(), "model \"brush\" is not known here; there are: pencil, shared");
}

#[test]
fn model_that_was_taken_away_is_refused_with_its_successor_however_strict_models_are() {
    let gone = |id: &str, since: Option<&str>, successor: Option<&str>| RetiredModel {
        id: id.to_owned(),
        since: since.map(str::to_owned),
        successor: successor.map(str::to_owned),
    };
    let old = [gone("crayon", Some("2026-05-12"), Some("pencil")), gone("gone", None, None)];
    let attic = FakeBackend::new("attic", &[model("pencil")]).without(&old);
    let mut world = world_of(vec![Arc::new(FakeBackend::new("studio", &[model("brush")])), Arc::new(attic)]);
    world.aliases = [("stale".to_owned(), "gone".to_owned())].into();
    let rows = [
        (None, "crayon", "model \"crayon\" is retired by its provider since 2026-05-12; its successor is pencil"),
        (
            None,
            "attic/crayon",
            "model \"attic/crayon\" is retired by its provider since 2026-05-12; its successor is pencil",
        ),
        (
            Some("attic"),
            "crayon",
            "model \"crayon\" is retired by its provider since 2026-05-12; its successor is pencil",
        ),
        (None, "stale", "model \"stale\" is retired by its provider"),
    ];
    for unknown_model in [UnknownModel::Refuse, UnknownModel::UseDefault] {
        let world = Snapshot { unknown_model, ..world.clone() };
        for (backend, asked, expected) in rows {
            let error = routed(&world, backend, Some(asked)).unwrap_err();
            assert_eq!((error.kind(), error.param()), (ErrorKind::ModelNotFound, Some("model")));
            assert_eq!(error.message(), expected);
        }
    }
    let lenient = Snapshot { unknown_model: UnknownModel::UseDefault, ..world.clone() };
    assert!(routed(&lenient, Some("studio"), Some("crayon")).is_ok(), "another backend never had it");
    assert!(world.models().iter().all(|(_, model)| model.id != "crayon"), "it is in no list");
}

#[test]
fn unknown_backend_is_refused_with_the_list() {
    let error = routed(&world(), Some("cellar"), None).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, "backend_not_found"));
    assert_eq!(
        (error.param(), error.message()),
        (Some("backend"), "backend \"cellar\" does not exist; there are: studio, attic",)
    );
}

#[test]
fn qualified_name_wins_over_a_model_whose_own_id_looks_like_one() {
    let studio = FakeBackend::new("studio", &[model("brush"), model("attic/shared")]);
    let attic = FakeBackend::new("attic", &[model("shared")]);
    let world = world_of(vec![Arc::new(studio), Arc::new(attic)]);
    assert_eq!(routed(&world, None, Some("attic/shared")).unwrap().0, "attic/shared");
    assert_eq!(routed(&world, Some("studio"), Some("attic/shared")).unwrap().0, "studio/attic/shared");
}

#[test]
fn world_without_models_is_not_ready_and_says_when_to_try_again() {
    let bare = || world_of(vec![Arc::new(FakeBackend::new("studio", &[]))]);
    let rows = [
        (Snapshot::empty(), None, "no backend has a model now"),
        (bare(), None, "no backend has a model now"),
        (bare(), Some("studio"), "backend studio has no models now"),
    ];
    for (world, backend, message) in rows {
        let error = routed(&world, backend, None).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotReady, message));
        assert_eq!(error.retry_after().map(|after| after.as_secs()), Some(30));
    }
}
