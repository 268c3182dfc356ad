//! Doors for the fuzz targets in `tests/fuzz`: each takes bytes as the other side could send them and panics when a promise is
//! broken. Only in builds with `--cfg fuzzing`; no product has them.

/// What control and its routers say to each other, either way.
pub fn link(data: &[u8]) {
    crate::fleet::fuzzing::link(data);
}

/// Answers of etcd's gateway, and files of the journal.
pub fn store(data: &[u8]) {
    crate::store::fuzzing::journal(data);
    crate::store::etcd::fuzzing::answers(data);
}

/// Requests to the API: paths, queries, conditions and bodies.
pub fn api(data: &[u8]) {
    crate::api::fuzzing::request(data);
}

/// Texts that people write: a Procfile, a `.env`, a formation, an address of control.
pub fn texts(text: &str) {
    crate::dynos::fuzzing::texts(text);
    if let Ok(url) = text.parse::<crate::ControlUrl>() {
        assert_eq!(url.to_string().parse(), Ok(url), "{text:?}");
    }
}
