//! CORS as the Fetch standard has it: which origins may read, and what the answers to them say.
//!
//! Texts are made once, when the table is compiled; a request compares its `Origin` and copies nothing. Does not write heads
//! (the router does) and does not find the route of a preflight.

use ekiden_config::model::{Cors, OriginPattern, Origins};

/// Methods that need no permission, named all the same: people read these lists.
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];

/// The words of a route, compiled.
#[derive(Debug)]
pub struct CorsSteps {
    origins: Origins,
    credentials: bool,
    methods: Allowed,
    headers: Allowed,
    expose: String,
    max_age: Option<String>,
}

/// A list as it is sent; or, with credentials, where `*` would be a name, what was asked for.
#[derive(Debug)]
enum Allowed {
    Text(String),
    Asked,
}

/// What a preflight asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `Access-Control-Request-Method`.
    pub method: &'a str,
    /// `Access-Control-Request-Headers`, when it is there.
    pub headers: Option<&'a str>,
}

impl CorsSteps {
    /// Compiles the words.
    pub fn new(words: &Cors) -> Self {
        let star = |names: &[std::sync::Arc<str>]| names.iter().any(|name| **name == *"*");
        let allowed = |names: &[std::sync::Arc<str>], first: &[&str]| {
            if words.credentials && star(names) {
                return Allowed::Asked;
            }
            let more = names.iter().map(|name| &**name).filter(|name| !first.contains(name));
            Allowed::Text(first.iter().copied().chain(more).collect::<Vec<_>>().join(", "))
        };
        Self {
            origins: words.origins.clone(),
            credentials: words.credentials,
            methods: allowed(&words.methods, if star(&words.methods) { &[] } else { &SAFE_METHODS }),
            headers: allowed(&words.headers, &[]),
            expose: words.expose.join(", "),
            max_age: words.max_age.map(|age| age.as_secs().to_string()),
        }
    }

    /// Whether pages of this origin may read. `origin` is the one value of `Origin`.
    pub fn allows(&self, origin: &str) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::Listed(patterns) => patterns.iter().any(|pattern| matches(pattern, origin)),
        }
    }

    /// Whether what is answered depends on the origin, which caches must know.
    pub fn varies(&self) -> bool {
        matches!(self.origins, Origins::Listed(_))
    }

    /// The fields of every response to a page of an origin that is allowed.
    pub fn each_field(&self, origin: &str, field: &mut dyn FnMut(&'static str, &str)) {
        field("Access-Control-Allow-Origin", if self.varies() { origin } else { "*" });
        if self.credentials {
            field("Access-Control-Allow-Credentials", "true");
        }
    }

    /// The fields of a response that is no answer to a preflight, beside [`CorsSteps::each_field`].
    pub fn expose(&self) -> Option<&str> {
        (!self.expose.is_empty()).then_some(&*self.expose)
    }

    /// The fields of the answer to a preflight, beside [`CorsSteps::each_field`].
    pub fn each_preflight_field(&self, asked: Asked<'_>, field: &mut dyn FnMut(&'static str, &str)) {
        match &self.methods {
            Allowed::Text(text) => field("Access-Control-Allow-Methods", text),
            Allowed::Asked => {
                field("Access-Control-Allow-Methods", asked.method);
                field("Vary", "Access-Control-Request-Method");
            }
        }
        match (&self.headers, asked.headers) {
            (Allowed::Text(text), _) if text.is_empty() => {}
            (Allowed::Text(text), _) => field("Access-Control-Allow-Headers", text),
            (Allowed::Asked, headers) => {
                if let Some(headers) = headers {
                    field("Access-Control-Allow-Headers", headers);
                }
                field("Vary", "Access-Control-Request-Headers");
            }
        }
        if let Some(age) = &self.max_age {
            field("Access-Control-Max-Age", age);
        }
    }
}

/// Browsers write origins in one form only, so that bytes are compared.
fn matches(pattern: &OriginPattern, origin: &str) -> bool {
    match pattern {
        OriginPattern::Exact(text) => **text == *origin,
        OriginPattern::Subdomains { scheme, suffix } => origin
            .strip_prefix(&**scheme)
            .and_then(|rest| rest.strip_suffix(&**suffix))
            .is_some_and(|labels| labels.split('.').all(is_label)),
    }
}

/// What stands for a `*` has nothing in it that could end a host.
fn is_label(label: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(patterns: Vec<OriginPattern>, credentials: bool) -> Cors {
        Cors {
            origins: Origins::Listed(patterns),
            methods: vec![],
            headers: vec![],
            expose: vec![],
            credentials,
            max_age: None,
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let steps = CorsSteps::new(&listed(
            vec![
                OriginPattern::Exact("https://a.example".into()),
                OriginPattern::Subdomains { scheme: "https://".into(), suffix: ".b.example:8443".into() },
            ],
            false,
        ));
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://a.example", false),
            ("https://a.example:444", false),
            ("https://a.example.evil", false),
            ("https://xa.example", false),
            ("https://A.example", false),
            ("https://one.b.example:8443", true),
            ("https://two.one.b.example:8443", true),
            ("https://b.example:8443", false),
            ("https://.b.example:8443", false),
            ("https://one..b.example:8443", false),
            ("https://one.b.example", false),
            ("http://one.b.example:8443", false),
            ("https://evil/.b.example:8443", false),
            ("https://evil:1.b.example:8443", false),
            ("https://user@one.b.example:8443", false),
            ("https://evil?.b.example:8443", false),
            ("https://ONE.b.example:8443", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(steps.allows(origin), allowed, "{origin}");
        }
    }

    #[test]
    fn what_a_preflight_is_told() {
        let told = |words: &Cors| {
            let mut text = String::new();
            let asked = Asked { method: "PATCH", headers: Some("x-a,authorization") };
            let mut put = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\n"));
            CorsSteps::new(words).each_field("https://a.example", &mut put);
            CorsSteps::new(words).each_preflight_field(asked, &mut put);
            text
        };
        let mut words = Cors { origins: Origins::Any, ..listed(vec![], false) };
        assert_eq!(
            told(&words),
            "Access-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: GET, HEAD, POST\n"
        );
        words.methods = vec!["POST".into(), "PUT".into()];
        words.headers = vec!["x-a".into(), "x-b".into()];
        words.max_age = Some(std::time::Duration::from_secs(600));
        assert_eq!(
            told(&words),
            "Access-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: GET, HEAD, POST, PUT\n\
             Access-Control-Allow-Headers: x-a, x-b\nAccess-Control-Max-Age: 600\n"
        );
        words.methods = vec!["*".into()];
        words.headers = vec!["*".into(), "authorization".into()];
        words.max_age = None;
        assert_eq!(
            told(&words),
            "Access-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: *\n\
             Access-Control-Allow-Headers: *, authorization\n"
        );
        // Beside credentials a `*` would be a name: what is asked for is said.
        words.credentials = true;
        words.origins = Origins::Listed(vec![OriginPattern::Exact("https://a.example".into())]);
        assert_eq!(
            told(&words),
            "Access-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Credentials: true\n\
             Access-Control-Allow-Methods: PATCH\nVary: Access-Control-Request-Method\n\
             Access-Control-Allow-Headers: x-a,authorization\nVary: Access-Control-Request-Headers\n"
        );
    }
}
