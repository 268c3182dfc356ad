//! The one table of operations: what may be asked, by whom, with what. Routing, `Allow`, the OpenAPI document and
//! `API.md` come from it.

use super::who::Role;

/// What an operation does. A closed list; each has one arm in `routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Table,
    Explain,
    Status,
    Reload,
    Apps,
    App,
    PutApp,
    PatchApp,
    DeleteApp,
    Parts(Part),
    OnePart(Part),
    PutPart(Part),
    PatchPart(Part),
    DeletePart(Part),
    Endpoints,
    Endpoint,
    PutEndpoint,
    DeleteEndpoint,
    Dynos,
    Dyno,
    PutDyno,
    PatchDyno,
    DeleteDyno,
    Versions,
    Version,
    VersionChanges,
    Rollback,
    Releases,
    Release,
    PostRelease,
    Rollout,
    Formation,
    PutFormation,
    PatchFormation,
    Maintenance,
    PutMaintenance,
    DeleteMaintenance,
    Hold,
    PutHold,
    DeleteHold,
    Guard,
    Placements,
    PutPlacements,
    DeletePlacements,
    PutPlacement,
    DeletePlacement,
    Sources,
    Confirm,
    Apply,
    Hosts,
    Routers,
    Watch,
    Audit,
    OpenApi,
}

/// Parts of an app with a name of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Route,
    Cluster,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Type in JSON Schema.
    pub(super) kind: &'static str,
    pub(super) words: &'static str,
}

/// What a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// `application/json`, of this schema.
    Json(&'static str),
    /// `application/merge-patch+json` or `application/json`: RFC 7396 on what has this schema.
    Patch(&'static str),
    /// A file: TOML, YAML or JSON.
    File,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// Segments in braces are names.
    pub(super) path: &'static str,
    pub(super) what: What,
    pub(super) role: Role,
    pub(super) words: &'static str,
    pub(super) query: &'static [Parameter],
    pub(super) body: Body,
    /// Schema of the answer.
    pub(super) answer: &'static str,
    /// Statuses of success.
    pub(super) good: &'static [u16],
    /// Statuses of problems, beside those that every operation may have.
    pub(super) bad: &'static [u16],
}

const DRY_RUN: Parameter = Parameter {
    name: "dry_run",
    kind: "boolean",
    words: "Only judge the change and answer what would differ.",
};
const ADOPT: Parameter = Parameter {
    name: "adopt",
    kind: "boolean",
    words: "Take over what a file owns. `DELETE` gives it back.",
};
const LIMIT: Parameter = Parameter {
    name: "limit",
    kind: "integer",
    words: "At most so many, from 1 to 1000; 1000 unless given.",
};
const AFTER: Parameter = Parameter {
    name: "after",
    kind: "string",
    words: "Only those behind this one: `next` of the page before.",
};
const PRUNE: Parameter = Parameter {
    name: "prune",
    kind: "boolean",
    words: "Delete the apps of the API that the file does not name.",
};
const APP: Parameter = Parameter {
    name: "app",
    kind: "string",
    words: "The body is the file of this one app; else it holds apps by name under `app`.",
};
const GUARD: Parameter = Parameter {
    name: "guard",
    kind: "string",
    words: "Watch the apps for so long, such as `60s`, and go back by itself when errors or the p99 rise.",
};
const FROM: Parameter = Parameter {
    name: "from",
    kind: "integer",
    words: "Changes after this revision; else what is there first, then changes.",
};
const OF_RELEASE: Parameter = Parameter {
    name: "release",
    kind: "integer",
    words: "Of this release; of the newest that was rolled out unless given.",
};
const AGAINST: Parameter = Parameter {
    name: "from",
    kind: "integer",
    words: "The version to compare with; the one before unless given.",
};

const URL: Parameter = Parameter {
    name: "url",
    kind: "string",
    words: "`http://HOST/PATH`, `https://HOST/PATH` or `/PATH`, with a query if there is one.",
};
const HEADER: Parameter = Parameter {
    name: "header",
    kind: "array",
    words: "A field of the request, `NAME: VALUE`; may be repeated.",
};
const METHOD: Parameter =
    Parameter { name: "method", kind: "string", words: "The method; GET unless given." };
const CLIENT: Parameter =
    Parameter { name: "client", kind: "string", words: "The IP address of who asks; nobody's unless given." };
const LISTENER: Parameter = Parameter {
    name: "listener",
    kind: "string",
    words: "The listener that takes it; the URL decides unless given.",
};

const PAGE: &[Parameter] = &[LIMIT, AFTER];
const CHANGE: &[Parameter] = &[DRY_RUN, ADOPT];

const fn read(path: &'static str, what: What, words: &'static str, answer: &'static str) -> Operation {
    Operation {
        method: "GET",
        path,
        what,
        role: Role::Read,
        words,
        query: &[],
        body: Body::None,
        answer,
        good: &[200],
        bad: &[404],
    }
}

const fn list(path: &'static str, what: What, words: &'static str, answer: &'static str) -> Operation {
    Operation { query: PAGE, ..read(path, what, words, answer) }
}

const fn change(
    method: &'static str,
    path: &'static str,
    what: What,
    body: Body,
    words: &'static str,
) -> Operation {
    Operation {
        method,
        path,
        what,
        role: Role::Admin,
        words,
        query: CHANGE,
        body,
        answer: "Changed",
        good: &[200, 201, 202],
        bad: &[404, 409, 412, 413, 415, 422, 507],
    }
}

const fn deploy(
    method: &'static str,
    path: &'static str,
    what: What,
    body: Body,
    words: &'static str,
    answer: &'static str,
) -> Operation {
    Operation { role: Role::Deploy, query: &[], answer, ..change(method, path, what, body, words) }
}

/// Every operation, in the order of the documents.
pub(super) const OPERATIONS: &[Operation] = &[
    list("/v1/apps", What::Apps, "Names and sizes of all apps.", "Apps"),
    read("/v1/apps/{app}", What::App, "An app: its words, and what serves of it.", "App"),
    change(
        "PUT",
        "/v1/apps/{app}",
        What::PutApp,
        Body::Json("AppBody"),
        "Makes an app or replaces it whole.",
    ),
    change("PATCH", "/v1/apps/{app}", What::PatchApp, Body::Patch("AppBody"), "Changes members of an app."),
    Operation {
        query: &[DRY_RUN],
        ..change(
            "DELETE",
            "/v1/apps/{app}",
            What::DeleteApp,
            Body::None,
            "Deletes an app, or gives it back to its file.",
        )
    },
    list("/v1/apps/{app}/routes", What::Parts(Part::Route), "The routes of an app, as written.", "Parts"),
    read("/v1/apps/{app}/routes/{route}", What::OnePart(Part::Route), "A route, as written.", "PartView"),
    change(
        "PUT",
        "/v1/apps/{app}/routes/{route}",
        What::PutPart(Part::Route),
        Body::Json("PartBody"),
        "Makes a route or replaces it.",
    ),
    change(
        "PATCH",
        "/v1/apps/{app}/routes/{route}",
        What::PatchPart(Part::Route),
        Body::Patch("PartBody"),
        "Changes members of a route.",
    ),
    change(
        "DELETE",
        "/v1/apps/{app}/routes/{route}",
        What::DeletePart(Part::Route),
        Body::None,
        "Deletes a route.",
    ),
    list(
        "/v1/apps/{app}/clusters",
        What::Parts(Part::Cluster),
        "The clusters of an app, as written.",
        "Parts",
    ),
    read(
        "/v1/apps/{app}/clusters/{cluster}",
        What::OnePart(Part::Cluster),
        "A cluster, as written.",
        "PartView",
    ),
    change(
        "PUT",
        "/v1/apps/{app}/clusters/{cluster}",
        What::PutPart(Part::Cluster),
        Body::Json("PartBody"),
        "Makes a cluster or replaces it.",
    ),
    change(
        "PATCH",
        "/v1/apps/{app}/clusters/{cluster}",
        What::PatchPart(Part::Cluster),
        Body::Patch("PartBody"),
        "Changes members of a cluster.",
    ),
    change(
        "DELETE",
        "/v1/apps/{app}/clusters/{cluster}",
        What::DeletePart(Part::Cluster),
        Body::None,
        "Deletes a cluster.",
    ),
    read(
        "/v1/apps/{app}/clusters/{cluster}/endpoints",
        What::Endpoints,
        "The endpoints of a cluster, from all owners, with their state.",
        "Endpoints",
    ),
    read(
        "/v1/apps/{app}/clusters/{cluster}/endpoints/{id}",
        What::Endpoint,
        "An endpoint with its state.",
        "Endpoint",
    ),
    Operation {
        query: &[ADOPT],
        ..deploy(
            "PUT",
            "/v1/apps/{app}/clusters/{cluster}/endpoints/{id}",
            What::PutEndpoint,
            Body::Json("EndpointBody"),
            "Makes an endpoint or replaces it; `drain` alone may be put on anyone's. To adopt one needs the role `admin`.",
            "Done",
        )
    },
    deploy(
        "DELETE",
        "/v1/apps/{app}/clusters/{cluster}/endpoints/{id}",
        What::DeleteEndpoint,
        Body::None,
        "Takes an endpoint of the API away.",
        "Done",
    ),
    read(
        "/v1/apps/{app}/clusters/{cluster}/placements",
        What::Placements,
        "What another system has pushed of a cluster's endpoints, and whether it is heard.",
        "Placements",
    ),
    deploy(
        "PUT",
        "/v1/apps/{app}/clusters/{cluster}/placements",
        What::PutPlacements,
        Body::Json("PlacementsBody"),
        "Replaces all that is pushed for a cluster, with a lease. The same again renews it. Too much at once is not taken away, but held.",
        "Pushed",
    ),
    deploy(
        "DELETE",
        "/v1/apps/{app}/clusters/{cluster}/placements",
        What::DeletePlacements,
        Body::None,
        "Nothing is pushed for the cluster any more; nothing is held.",
        "Pushed",
    ),
    deploy(
        "PUT",
        "/v1/apps/{app}/clusters/{cluster}/placements/{id}",
        What::PutPlacement,
        Body::Json("PlacementBody"),
        "Pushes one endpoint, with a lease of its own. The same again renews it.",
        "Pushed",
    ),
    deploy(
        "DELETE",
        "/v1/apps/{app}/clusters/{cluster}/placements/{id}",
        What::DeletePlacement,
        Body::None,
        "An endpoint that was pushed is gone.",
        "Pushed",
    ),
    list(
        "/v1/sources",
        What::Sources,
        "Sources of placements: whether each is live, silent, failing or held.",
        "Sources",
    ),
    deploy(
        "POST",
        "/v1/sources/confirm",
        What::Confirm,
        Body::Json("ConfirmBody"),
        "What a source took away and is held may go.",
        "Pushed",
    ),
    list(
        "/v1/apps/{app}/dynos",
        What::Dynos,
        "The dynos of an app: which runs which release where.",
        "Dynos",
    ),
    read("/v1/apps/{app}/dynos/{dyno}", What::Dyno, "A dyno.", "Dyno"),
    deploy(
        "PUT",
        "/v1/apps/{app}/dynos/{dyno}",
        What::PutDyno,
        Body::Json("DynoBody"),
        "Places a dyno; one that is ready is an endpoint of its cluster.",
        "Done",
    ),
    deploy(
        "PATCH",
        "/v1/apps/{app}/dynos/{dyno}",
        What::PatchDyno,
        Body::Patch("DynoBody"),
        "Changes a dyno, such as its state.",
        "Done",
    ),
    deploy(
        "DELETE",
        "/v1/apps/{app}/dynos/{dyno}",
        What::DeleteDyno,
        Body::None,
        "The dyno is gone.",
        "Done",
    ),
    list("/v1/apps/{app}/versions", What::Versions, "The versions of an app, oldest first.", "Versions"),
    read("/v1/apps/{app}/versions/{number}", What::Version, "A version with its words.", "Version"),
    Operation {
        query: &[AGAINST],
        ..read(
            "/v1/apps/{app}/versions/{number}/changes",
            What::VersionChanges,
            "What differs between two versions.",
            "Changes",
        )
    },
    Operation {
        query: &[DRY_RUN],
        ..deploy(
            "POST",
            "/v1/apps/{app}/rollback",
            What::Rollback,
            Body::Json("RollbackBody"),
            "Makes a new version with the words of an older one.",
            "Changed",
        )
    },
    list("/v1/apps/{app}/releases", What::Releases, "The releases of an app, oldest first.", "Releases"),
    read("/v1/apps/{app}/releases/{number}", What::Release, "A release.", "Release"),
    deploy(
        "POST",
        "/v1/apps/{app}/releases",
        What::PostRelease,
        Body::Json("ReleaseBody"),
        "Records a release; it gets the next number. With a Procfile its dynos are started and take over.",
        "Release",
    ),
    Operation {
        query: &[OF_RELEASE],
        ..read(
            "/v1/apps/{app}/rollout",
            What::Rollout,
            "How far the dynos of a Procfile are with a release.",
            "Rollout",
        )
    },
    read(
        "/v1/apps/{app}/formation",
        What::Formation,
        "How many dynos of which type the app should have.",
        "Formation",
    ),
    deploy(
        "PUT",
        "/v1/apps/{app}/formation",
        What::PutFormation,
        Body::Json("FormationBody"),
        "Replaces the formation.",
        "Formation",
    ),
    deploy(
        "PATCH",
        "/v1/apps/{app}/formation",
        What::PatchFormation,
        Body::Patch("FormationBody"),
        "Changes the formation.",
        "Formation",
    ),
    read(
        "/v1/apps/{app}/maintenance",
        What::Maintenance,
        "Whether the app is in maintenance.",
        "Maintenance",
    ),
    deploy(
        "PUT",
        "/v1/apps/{app}/maintenance",
        What::PutMaintenance,
        Body::Json("MaintenanceBody"),
        "Answers every request for the app with 503, and with a page if there is one.",
        "Maintenance",
    ),
    deploy(
        "DELETE",
        "/v1/apps/{app}/maintenance",
        What::DeleteMaintenance,
        Body::None,
        "The app serves again.",
        "Maintenance",
    ),
    read("/v1/apps/{app}/hold", What::Hold, "Whether the app is held.", "Hold"),
    deploy(
        "PUT",
        "/v1/apps/{app}/hold",
        What::PutHold,
        Body::Json("HoldBody"),
        "Requests for the app wait, bounded in number and time, until it is released.",
        "Hold",
    ),
    deploy(
        "DELETE",
        "/v1/apps/{app}/hold",
        What::DeleteHold,
        Body::None,
        "The app is released: what waits goes on in the order in which it came.",
        "Hold",
    ),
    read(
        "/v1/apps/{app}/guard",
        What::Guard,
        "How the last guarded change of the app went, or goes.",
        "Guard",
    ),
    Operation {
        query: &[DRY_RUN, ADOPT, PRUNE, APP, GUARD],
        ..change("POST", "/v1/apply", What::Apply, Body::File, "Applies a whole file of apps in one change.")
    },
    list("/v1/hosts", What::Hosts, "Who owns which host.", "Hosts"),
    list(
        "/v1/routers",
        What::Routers,
        "The routers of `ekiden control`: which has which generation, since when, and what it refuses. Empty elsewhere.",
        "Routers",
    ),
    Operation {
        query: &[FROM],
        bad: &[404, 410],
        ..read(
            "/v1/watch",
            What::Watch,
            "Changes of objects as they happen: Server-Sent Events, or ndjson by `Accept`.",
            "Event",
        )
    },
    Operation {
        role: Role::Admin,
        ..read(
            "/v1/audit",
            What::Audit,
            "The last changes that were asked for: who, what, and how it ended.",
            "Audit",
        )
    },
    read("/v1/table", What::Table, "All that serves, with its state.", "Table"),
    Operation {
        query: &[URL, HEADER, METHOD, CLIENT, LISTENER],
        ..read(
            "/v1/explain",
            What::Explain,
            "What would become of a request now: which route takes it and why others do not, what applies, and where it goes.",
            "Explanation",
        )
    },
    read("/v1/status", What::Status, "What control says about itself.", "Status"),
    Operation {
        query: &[],
        ..change("POST", "/v1/reload", What::Reload, Body::None, "Reads the files again.")
    },
    read("/v1/openapi.json", What::OpenApi, "This API as an OpenAPI 3.1 document.", "OpenApi"),
];

/// What the segments in braces stand for, as they came.
pub(super) type Captures<'p> = Vec<(&'static str, &'p str)>;

/// Whether a path fits a template, and what stands in its braces.
fn fits<'p>(template: &'static str, path: &'p str) -> Option<Captures<'p>> {
    let mut captures = Vec::new();
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        let found = segments.next()?;
        match wanted.strip_prefix('{').and_then(|wanted| wanted.strip_suffix('}')) {
            Some(name) => captures.push((name, found)),
            None if wanted == found => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(captures)
}

/// What a method and a path ask for.
pub(super) enum Found<'p> {
    /// This.
    One(&'static Operation, Captures<'p>),
    /// Nothing with this method; these are possible.
    Methods(String),
    /// Nothing at all.
    Nothing,
}

/// Looks an operation up. HEAD asks for what GET does.
pub(super) fn find<'p>(method: &str, path: &'p str) -> Found<'p> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut allow: Vec<&str> = Vec::new();
    for operation in OPERATIONS {
        let Some(captures) = fits(operation.path, path) else { continue };
        if operation.method == method {
            return Found::One(operation, captures);
        }
        allow.push(operation.method);
        if operation.method == "GET" {
            allow.push("HEAD");
        }
    }
    if allow.is_empty() { Found::Nothing } else { Found::Methods(allow.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The page of all operations.
    fn page() -> String {
        let mut page = String::from(
            "# The control API\n\nMade from the table of operations by the tests of `ekiden-control` (`EKIDEN_BLESS=1 cargo test -p \
             ekiden-control` writes it anew);\n`GET /v1/openapi.json` has the same with all shapes. Roles are those of \
             `control.token_file`; each may what those before it may: `read`, `deploy`, `admin`.\nRefusals are RFC 9457 problems \
             with a stable `code`; a refused change changes nothing. README, \"Change an endpoint\" and \"Apps by API\", has examples.\n\n\
             | method | path | role | what | query | body | answers |\n|---|---|---|---|---|---|---|\n",
        );
        for operation in OPERATIONS {
            let query: Vec<String> =
                operation.query.iter().map(|known| format!("`{}`", known.name)).collect();
            let body = match operation.body {
                Body::None => String::new(),
                Body::Json(schema) => format!("`{schema}`"),
                Body::Patch(schema) => format!("merge patch of `{schema}`"),
                Body::File => "TOML, YAML or JSON".to_owned(),
            };
            let statuses = operation.good.iter().chain(operation.bad).map(u16::to_string).collect::<Vec<_>>();
            let Operation { method, path, words, .. } = operation;
            let (role, query, statuses) = (operation.role.word(), query.join(" "), statuses.join(" "));
            page.push_str(&format!(
                "| {method} | `{path}` | {role} | {words} | {query} | {body} | {statuses} |\n"
            ));
        }
        page.push_str("\n## Parameters\n\n| name | what |\n|---|---|\n");
        let mut seen = BTreeSet::new();
        for known in OPERATIONS.iter().flat_map(|operation| operation.query) {
            if seen.insert((known.name, known.words)) {
                page.push_str(&format!("| `{}` | {} |\n", known.name, known.words));
            }
        }
        page
    }

    #[test]
    fn the_page_of_operations_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/API.md");
        if std::env::var_os("EKIDEN_BLESS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == page(), "API.md is not current: run the tests with EKIDEN_BLESS=1");
    }

    #[test]
    fn each_operation_is_there_once_and_found_by_its_own_path() {
        let mut seen = BTreeSet::new();
        for operation in OPERATIONS {
            assert!(
                seen.insert((operation.method, operation.path)),
                "{} {}",
                operation.method,
                operation.path
            );
            let path = operation.path.replace(['{', '}'], "x");
            let Found::One(found, _) = find(operation.method, &path) else { panic!("{path}") };
            assert_eq!((found.method, found.path), (operation.method, operation.path));
        }
    }

    #[test]
    fn paths_name_operations() {
        let Found::One(operation, captures) = find("HEAD", "/v1/apps/a/clusters/web/endpoints/unix:%2Fa")
        else {
            panic!("not found")
        };
        assert_eq!(operation.what, What::Endpoint);
        assert_eq!(captures, [("app", "a"), ("cluster", "web"), ("id", "unix:%2Fa")]);
        let Found::Methods(allow) = find("POST", "/v1/apps/a") else { panic!("found") };
        assert_eq!(allow, "GET, HEAD, PUT, PATCH, DELETE");
        for path in ["/", "/v1/table/", "/v2/table", "/v1/apps/a/b", ""] {
            assert!(matches!(find("GET", path), Found::Nothing), "{path}");
        }
    }
}
