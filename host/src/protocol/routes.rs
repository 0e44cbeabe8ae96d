//! Path and method to function, as Azure routes them: functions are tried in the order of their names, and the first whose
//! template, constraints and methods fit wins (azure-contract.md §2). So a request that the Functions host has let in
//! reaches the very function whose key it was asked for.

use crate::config::function_json::Trigger;
use crate::config::route::Template;
use crate::config::{Config, Function};
use http::Method;
use std::borrow::Cow;
use std::sync::Arc;

/// The routes of all functions.
#[derive(Debug)]
pub struct Router {
    prefix: Vec<String>,
    /// The whole path of each of `Config::functions`, as a template.
    paths: Vec<Arc<str>>,
}

/// The whole path of a function with this route, as a template, such as `/api/orders/{id}`.
pub fn path(prefix: &str, route: &Template) -> String {
    let (prefix, route) = (prefix.trim_matches('/'), route.to_string());
    let parts = [prefix, route.trim_matches('/')];
    format!("/{}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// To the function at this index of `Config::functions`.
    Function(usize),
    /// To a function that is called with a JSON envelope.
    Envelope(usize),
    /// To a function that no request may reach.
    Refused(usize),
    /// The path exists, for other methods.
    WrongMethod(Vec<Method>),
    /// Nowhere.
    NotFound,
}

impl Router {
    /// Prepares the routes of `config`.
    pub fn new(config: &Config) -> Self {
        let prefix = config.route_prefix.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let path = |function: &Function| match &function.trigger {
            Trigger::Http { route, .. } => path(&config.route_prefix, route).into(),
            Trigger::Envelope => format!("/{}", function.name).into(),
        };
        Self { prefix, paths: config.functions.iter().map(path).collect() }
    }

    /// The whole path of the function at this index, as a template.
    pub fn path(&self, index: usize) -> &Arc<str> {
        &self.paths[index]
    }

    /// Finds the function for `path` (as received, percent-encoded) and `method`.
    pub fn find(&self, functions: &[Function], method: &Method, path: &str) -> Route {
        let parts: Vec<Cow<'_, str>> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect();
        // A slash at the end does not make another path.
        let parts = parts.strip_suffix(&[Cow::Borrowed("")]).unwrap_or(&parts);
        let mut allowed: Vec<Method> = Vec::new();
        let mut refused = None;
        if let Some(below) = self.below_prefix(parts) {
            for (index, function) in functions.iter().enumerate() {
                let Trigger::Http { route, methods, .. } = &function.trigger else { continue };
                match methods {
                    _ if !route.matches(below) => {}
                    Some(methods) if !methods.contains(method) => {
                        allowed.extend(
                            methods.iter().filter(|method| !allowed.contains(method)).cloned().collect::<Vec<_>>(),
                        );
                    }
                    // It takes no path from others: Azure does not know it.
                    _ if function.refused.is_some() => refused = refused.or(Some(index)),
                    _ => return Route::Function(index),
                }
            }
        }
        // The envelope goes to `/{name}`, exactly as the folder is named and without the prefix (J9).
        let envelope =
            |function: &Function| function.trigger == Trigger::Envelope && path[1.min(path.len())..] == *function.name;
        match (functions.iter().position(envelope), refused) {
            (Some(index), _) => Route::Envelope(index),
            (None, Some(index)) => Route::Refused(index),
            (None, None) if !allowed.is_empty() => Route::WrongMethod(allowed),
            (None, None) => Route::NotFound,
        }
    }

    fn below_prefix<'p>(&self, parts: &'p [Cow<'p, str>]) -> Option<&'p [Cow<'p, str>]> {
        let (head, below) = parts.split_at_checked(self.prefix.len())?;
        let same = head.iter().zip(&self.prefix).all(|(part, prefix)| part.eq_ignore_ascii_case(prefix));
        same.then_some(below)
    }
}

/// Percent-decodes one segment, once; what does not decode to UTF-8 stays as it is.
fn decode(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::function_json::AuthLevel;
    use crate::config::settings::{HostPatch, Limits, Reuse, Share};
    use crate::config::source::GuestSettings;
    use crate::config::{AppSettings, Circumstances, Grants, serve};

    fn router(prefix: &str, routes: &[(&str, &str, &[Method])]) -> (Router, Vec<Function>) {
        let given = Circumstances {
            machine_memory: 1 << 30,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        let mut config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &AppSettings::new(), &given);
        config.route_prefix = prefix.to_owned();
        config.functions = routes
            .iter()
            .map(|(name, route, methods)| Function {
                name: (*name).into(),
                trigger: match *route {
                    "(envelope)" => Trigger::Envelope,
                    route => Trigger::Http {
                        route: Template::parse(route).expect("a valid template"),
                        methods: (!methods.is_empty()).then(|| methods.to_vec()),
                        auth: AuthLevel::Anonymous,
                    },
                },
                bindings: Arc::default(),
                event: Arc::default(),
                builtin: None,
                script_file: "x.wasm".into(),
                middleware: Vec::new(),
                guest: GuestSettings::default(),
                limits: Limits::default(),
                share: Share::default(),
                reuse: Reuse::default(),
                grants: Grants::default(),
                refused: None,
            })
            .collect();
        (Router::new(&config), config.functions)
    }

    #[test]
    fn f1_the_prefix_belongs_to_the_path() {
        let (router, functions) = router("api", &[("x", "x/{id}", &[])]);
        let find = |path| router.find(&functions, &Method::GET, path);
        assert_eq!(find("/api/x/42"), Route::Function(0));
        assert_eq!(find("/API/X/42/"), Route::Function(0));
        assert_eq!(find("/x/42"), Route::NotFound);
        assert_eq!(find("/api"), Route::NotFound);
        assert_eq!(find("/api/x/42/7"), Route::NotFound);
        assert_eq!(&**router.path(0), "/api/x/{id}");
    }

    #[test]
    fn the_first_function_that_fits_wins_and_methods_decide() {
        let get = &[Method::GET][..];
        let post = &[Method::POST][..];
        let (router, functions) = router(
            "",
            &[("details", "o/{id}", get), ("list", "o/new", get), ("make", "o/new", post), ("rest", "{*rest}", &[])],
        );
        let find = |method, path| router.find(&functions, &method, path);
        assert_eq!(find(Method::GET, "/o/new"), Route::Function(0));
        assert_eq!(find(Method::POST, "/o/new"), Route::Function(2));
        assert_eq!(find(Method::GET, "/"), Route::Function(3));
        assert_eq!(find(Method::DELETE, "/o/new"), Route::Function(3));
    }

    #[test]
    fn a_refused_function_takes_no_path_from_others() {
        let (router, mut functions) = router("", &[("a", "o/{id}", &[]), ("b", "o/new", &[])]);
        functions[0].refused = Some("why".into());
        assert_eq!(router.find(&functions, &Method::GET, "/o/new"), Route::Function(1));
        assert_eq!(router.find(&functions, &Method::GET, "/o/old"), Route::Refused(0));
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let (router, functions) = router("", &[("a", "o", &[Method::GET]), ("b", "o", &[Method::POST, Method::GET])]);
        assert_eq!(router.find(&functions, &Method::PUT, "/o"), Route::WrongMethod(vec![Method::GET, Method::POST]));
    }

    #[test]
    fn p6_a_segment_is_decoded_once() {
        let (router, functions) = router("", &[("a", "a b", &[]), ("two", "x/{id}", &[])]);
        assert_eq!(router.find(&functions, &Method::GET, "/a%20b"), Route::Function(0));
        assert_eq!(router.find(&functions, &Method::GET, "/x/a%252Fb"), Route::Function(1));
        assert_eq!(router.find(&functions, &Method::GET, "/x%2Fb"), Route::NotFound);
    }

    #[test]
    fn j9_an_envelope_goes_to_the_exact_name() {
        let (router, functions) = router("api", &[("OnQueue", "(envelope)", &[])]);
        assert_eq!(router.find(&functions, &Method::POST, "/OnQueue"), Route::Envelope(0));
        assert_eq!(&**router.path(0), "/OnQueue");
        assert_eq!(router.find(&functions, &Method::POST, "/onqueue"), Route::NotFound);
        assert_eq!(router.find(&functions, &Method::POST, "/api/OnQueue"), Route::NotFound);
    }
}
