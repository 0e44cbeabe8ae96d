//! Path and method to function, as Azure routes them.

use crate::config::function_json::Trigger;
use crate::config::{Config, Function};
use http::Method;
use std::borrow::Cow;

/// The routes of all functions, in the order in which they are tried.
#[derive(Debug)]
pub struct Router {
    prefix: Vec<String>,
    /// Index of each plain HTTP function in `Config::functions`, most specific route first.
    order: Vec<usize>,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// To the function at this index of `Config::functions`.
    Function(usize),
    /// To a function that is called with a JSON envelope.
    Envelope(usize),
    /// The path exists, for other methods.
    WrongMethod(Vec<Method>),
    /// Nowhere.
    NotFound,
}

impl Router {
    /// Orders the routes of `config`.
    pub fn new(config: &Config) -> Self {
        let precedence = |index: &usize| match &config.functions[*index].trigger {
            Trigger::Http { route, .. } => route.precedence(),
            Trigger::Envelope => Vec::new(),
        };
        let is_http = |index: &usize| matches!(config.functions[*index].trigger, Trigger::Http { .. });
        let mut order: Vec<usize> = (0..config.functions.len()).filter(is_http).collect();
        order.sort_by_cached_key(precedence);
        let prefix = config.route_prefix.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { prefix, order }
    }

    /// Finds the function for `path` (as received, percent-encoded) and `method`.
    pub fn find(&self, functions: &[Function], method: &Method, path: &str) -> Route {
        let parts: Vec<Cow<'_, str>> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect();
        // A slash at the end does not make another path.
        let parts = parts.strip_suffix(&[Cow::Borrowed("")]).unwrap_or(&parts);
        let mut allowed: Vec<Method> = Vec::new();
        if let Some(below) = self.below_prefix(parts) {
            for index in &self.order {
                let Trigger::Http { route, methods, .. } = &functions[*index].trigger else { continue };
                match methods {
                    _ if !route.matches(below) => {}
                    Some(methods) if !methods.contains(method) => {
                        allowed.extend(
                            methods.iter().filter(|method| !allowed.contains(method)).cloned().collect::<Vec<_>>(),
                        );
                    }
                    _ => return Route::Function(*index),
                }
            }
        }
        // The envelope goes to `/{name}`, exactly as the folder is named and without the prefix (J9).
        let envelope =
            |function: &Function| function.trigger == Trigger::Envelope && path[1.min(path.len())..] == *function.name;
        match functions.iter().position(envelope) {
            Some(index) => Route::Envelope(index),
            None if !allowed.is_empty() => Route::WrongMethod(allowed),
            None => Route::NotFound,
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
    use crate::config::route::Template;
    use crate::config::settings::{HostPatch, Limits, Reuse};
    use crate::config::source::GuestSettings;
    use crate::config::{Circumstances, Grants, serve};

    fn router(prefix: &str, routes: &[(&str, &str, &[Method])]) -> (Router, Vec<Function>) {
        let given = Circumstances {
            machine_memory: 1 << 30,
            listen: None,
            cache_folders: Vec::new(),
            control_sockets: Vec::new(),
        };
        let mut config = serve("x.wasm".into(), &HostPatch::default(), Grants::default(), &given);
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
                        keyed: false,
                    },
                },
                script_file: "x.wasm".into(),
                guest: GuestSettings::default(),
                limits: Limits::default(),
                reuse: Reuse::default(),
                grants: Grants::default(),
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
    }

    #[test]
    fn literals_win_and_methods_decide() {
        let get = &[Method::GET][..];
        let post = &[Method::POST][..];
        let (router, functions) = router(
            "",
            &[("any", "{*rest}", &[]), ("one", "o/{id}", get), ("new", "o/new", get), ("make", "o/new", post)],
        );
        let find = |method, path| router.find(&functions, &method, path);
        assert_eq!(find(Method::GET, "/o/new"), Route::Function(2));
        assert_eq!(find(Method::POST, "/o/new"), Route::Function(3));
        assert_eq!(find(Method::GET, "/o/7"), Route::Function(1));
        assert_eq!(find(Method::GET, "/"), Route::Function(0));
        assert_eq!(find(Method::DELETE, "/o/new"), Route::Function(0));
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
        assert_eq!(router.find(&functions, &Method::POST, "/onqueue"), Route::NotFound);
        assert_eq!(router.find(&functions, &Method::POST, "/api/OnQueue"), Route::NotFound);
    }
}
