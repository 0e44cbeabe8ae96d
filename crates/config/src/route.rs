//! Route templates as Azure writes them: `orders/{id:int}/{*rest}`.
//!
//! | segment | matches |
//! |---|---|
//! | `orders` | itself, in any case, percent-decoded; `{{` and `}}` stand for braces |
//! | `{id}` | one segment that is not empty |
//! | `{id:int:min(1)}` | one segment that all constraints accept, see [`super::constraint`] |
//! | `{id?}`, `{id:int?}`, `{id=5}` | the same, or the end of the path |
//! | `v{version}`, `{a}-{b}`, `{name:alpha}.html` | one segment with these parts; where there are several ways, the last parameters get as little as they can |
//! | `{name}.{ext?}` | the same, where `.{ext}` may be missing |
//! | `{*rest}`, `{**rest}` | the rest of the path, also none; only as the last segment |
//!
//! Grammar and matching are those of ASP.NET Core's template router, which the Functions host uses for its functions
//! (`RoutePatternParser`, `RouteParameterParser` and `RoutePatternMatcher` in dotnet/aspnetcore).

use super::constraint::{Constraint, exclude_each_other, exclude_text};
use std::borrow::Cow;
use std::fmt;

/// A parsed route, without the route prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
}

/// What stands between two slashes: at least one part, parameters never side by side.
type Segment = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// In lower case.
    Literal(String),
    Parameter(Parameter),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: String,
    constraints: Vec<Constraint>,
    optional: bool,
    default: Option<String>,
    rest: bool,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// What is wrong and what to write instead, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut left = text.strip_prefix('/').unwrap_or(text);
        while !left.is_empty() {
            let (segment, after) = segment(left)?;
            if segment.is_empty() {
                return Err("has an empty segment: write one slash between two segments".to_owned());
            }
            segments.push(segment);
            left = after;
        }
        let template = Self { text: text.to_owned(), segments };
        template.check()?;
        Ok(template)
    }

    /// The route of `flexwasm serve`: every path.
    pub fn everything() -> Self {
        Self::parse("{*path}").expect("a valid template")
    }

    /// A template for the paths that a wrong template was probably meant for, so that a request for them gets a clear answer.
    pub fn meant(text: &str) -> Self {
        let segment = |part: &str| match part.strip_prefix('{') {
            Some(name) if name.starts_with('*') => "{*rest}".to_owned(),
            _ if part.contains(['{', '}', '?']) => format!("{{{}}}", part.len()),
            _ => part.to_owned(),
        };
        let parts: Vec<String> = text.split('/').filter(|part| !part.is_empty()).map(segment).collect();
        let parse = |part: &String| segment_of(part).expect("a literal or a parameter");
        Self { text: text.to_owned(), segments: parts.iter().map(parse).collect() }
    }

    /// What holds for the segments together.
    fn check(&self) -> Result<(), String> {
        let mut names = Vec::new();
        for (at, segment) in self.segments.iter().enumerate() {
            for (index, part) in segment.iter().enumerate() {
                let Part::Parameter(Parameter { name, optional, rest, .. }) = part else { continue };
                let lower = name.to_lowercase();
                if names.contains(&lower) {
                    return Err(format!("has two parameters {name:?}: give one another name"));
                }
                names.push(lower);
                if *rest && (segment.len() > 1 || at + 1 != self.segments.len()) {
                    return Err(format!("the catch-all parameter {{*{name}}} must be the whole last segment"));
                }
                if index > 0 && matches!(segment[index - 1], Part::Parameter(_)) {
                    return Err(format!("the parameter {name:?} follows another one: put text between them"));
                }
                let after_dot = index > 0 && segment[index - 1] == Part::Literal(".".to_owned());
                if *optional && segment.len() > 1 && !(after_dot && index + 1 == segment.len()) {
                    return Err(format!(
                        "the optional parameter {name:?} must end its segment and follow a dot, as in {{name}}.{{ext?}}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether the path's segments (percent-decoded, without the prefix) fit.
    pub fn matches(&self, path: &[Cow<'_, str>]) -> bool {
        let mut path = path.iter();
        for segment in &self.segments {
            let fits = match (&segment[..], path.next()) {
                ([Part::Parameter(parameter)], first) if parameter.rest => {
                    let rest: Vec<&str> = first.into_iter().chain(path).map(AsRef::as_ref).collect();
                    return parameter.accepts(Some(rest.join("/")).filter(|rest| !rest.is_empty()).as_deref());
                }
                ([Part::Parameter(parameter)], value) => {
                    let value = value.filter(|value| !value.is_empty());
                    (value.is_some() || parameter.may_be_missing()) && parameter.accepts(value.map(AsRef::as_ref))
                }
                ([Part::Literal(literal)], Some(value)) => *literal == value.to_lowercase(),
                (parts, Some(value)) => parts.len() > 1 && matches_parts(parts, value),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        path.next().is_none()
    }

    /// Whether both templates fit exactly the same paths.
    pub fn same_paths(&self, other: &Self) -> bool {
        let nameless = |segment: &Segment| -> Segment {
            let part = |part: &Part| match part {
                Part::Parameter(parameter) => Part::Parameter(Parameter { name: String::new(), ..parameter.clone() }),
                literal => literal.clone(),
            };
            segment.iter().map(part).collect()
        };
        self.segments.iter().map(nameless).eq(other.segments.iter().map(nameless))
    }

    /// Whether there may be a path that fits both. It is no only where that is certain.
    pub fn overlaps(&self, other: &Self) -> bool {
        let longest = self.segments.len().max(other.segments.len());
        // A path that is longer fits only catch-all parameters, which fit it cut short as well.
        (0..=longest).any(|length| {
            [self, other].iter().all(|template| template.may_have(length))
                && (0..length).all(|at| match (self.segment(at), other.segment(at)) {
                    (Some(ours), Some(theirs)) => segments_overlap(ours, theirs),
                    _ => true,
                })
        })
    }

    /// Whether a path of so many segments may fit.
    fn may_have(&self, length: usize) -> bool {
        let missing = |segment: &Segment| match &segment[..] {
            [Part::Parameter(parameter)] => parameter.rest || parameter.may_be_missing(),
            _ => false,
        };
        self.segments.iter().skip(length).all(missing)
            && (length <= self.segments.len() || self.segments.last().is_some_and(is_rest))
    }

    /// What the path's segment at this place has to fit; none if anything does.
    fn segment(&self, at: usize) -> Option<&Segment> {
        self.segments.get(at).filter(|segment| !is_rest(segment))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_rest(segment: &Segment) -> bool {
    matches!(&segment[..], [Part::Parameter(parameter)] if parameter.rest)
}

impl Parameter {
    /// Reads what stands between the braces, where doubled braces are single again.
    fn parse(text: &str) -> Result<Self, String> {
        let (left, rest) = match text.strip_prefix("**").or_else(|| text.strip_prefix('*')) {
            Some(left) => (left, true),
            None => (text, false),
        };
        let (left, optional) = left.strip_suffix('?').map_or((left, false), |left| (left, true));
        // A colon or an equals sign in front belongs to the name.
        let end = left.char_indices().skip(1).find(|(_, c)| matches!(c, ':' | '=')).map_or(left.len(), |(at, _)| at);
        let (name, mut left) = left.split_at(end);
        if name.is_empty() || name.contains(['/', '{', '}', '?', '*']) {
            return Err(format!("{name:?} is no parameter name: leave out / {{ }} ? and *, and let it not be empty"));
        }
        let mut constraints = Vec::new();
        while let Some(after) = left.strip_prefix(':') {
            let end = constraint_end(after);
            constraints.push(Constraint::parse(&after[..end])?);
            left = &after[end..];
        }
        let default = left.strip_prefix('=').map(str::to_owned);
        if optional && (rest || default.is_some()) {
            return Err(format!("the parameter {name:?} has a default or takes the rest of the path: leave out its ?"));
        }
        Ok(Self { name: name.to_owned(), constraints, optional, default, rest })
    }

    fn may_be_missing(&self) -> bool {
        self.optional || self.default.is_some()
    }

    /// Whether the value, or its absence, satisfies the constraints.
    fn accepts(&self, value: Option<&str>) -> bool {
        match value.or(self.default.as_deref()) {
            Some(value) => self.constraints.iter().all(|constraint| constraint.accepts(value)),
            None => self.optional || self.constraints.iter().all(|constraint| *constraint == Constraint::File(false)),
        }
    }
}

/// Where the constraint at the start of `text` ends: at a colon or an equals sign, but not within its argument, whose closing
/// parenthesis is the first one that something else may follow.
fn constraint_end(text: &str) -> usize {
    let plain = text.find([':', '=', '(']).unwrap_or(text.len());
    if !text[plain..].starts_with('(') {
        return plain;
    }
    let closes = |(at, _): &(usize, &str)| matches!(text.as_bytes().get(at + 1), None | Some(b':' | b'='));
    text.match_indices(')').find(closes).map_or(text.len(), |(at, _)| at + 1)
}

/// Reads a segment that is all of `text`.
fn segment_of(text: &str) -> Result<Segment, String> {
    segment(text).map(|(segment, _)| segment)
}

/// Reads one segment. Returns it and what follows its slash.
fn segment(text: &str) -> Result<(Segment, &str), String> {
    let (mut parts, mut literal, mut left) = (Vec::new(), String::new(), text);
    let finish = |literal: &mut String, parts: &mut Vec<Part>| {
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(literal).to_lowercase()));
        }
    };
    while let Some(c) = left.chars().next() {
        let doubled = left[c.len_utf8()..].starts_with(c);
        match c {
            '/' => {
                left = &left[1..];
                break;
            }
            '{' | '}' if doubled => {
                literal.push(c);
                left = &left[2..];
            }
            '{' => {
                finish(&mut literal, &mut parts);
                let (inner, after) = braced(&left[1..])?;
                parts.push(Part::Parameter(Parameter::parse(&inner)?));
                left = after;
            }
            '}' => return Err("has a closing brace alone: write }} for one in text".to_owned()),
            '?' => return Err("must not have a question mark in its text: write a parameter such as {id?}".to_owned()),
            _ => {
                literal.push(c);
                left = &left[c.len_utf8()..];
            }
        }
    }
    finish(&mut literal, &mut parts);
    Ok((parts, left))
}

/// Splits at the brace that closes a parameter, and undoubles those within.
fn braced(text: &str) -> Result<(String, &str), String> {
    let mut inner = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let doubled = text[at + c.len_utf8()..].starts_with(c);
        match c {
            '{' | '}' if doubled => {
                inner.push(c);
                chars.next();
            }
            '}' => return Ok((inner, &text[at + 1..])),
            '{' => {
                return Err("has an opening brace within a parameter: double it, as in {z:regex(^x{{2}}$)}".to_owned());
            }
            _ => inner.push(c),
        }
    }
    Err("has a parameter that is not closed: end it with }".to_owned())
}

/// Matches a segment of several parts, from its end: each text where it stands last.
fn matches_parts(parts: &[Part], value: &str) -> bool {
    let value = value.to_lowercase();
    if let [before @ .., Part::Literal(dot), Part::Parameter(last)] = parts
        && last.optional
    {
        return matches_from_end(parts, &value) || (!value.ends_with(dot) && matches_from_end(before, &value));
    }
    matches_from_end(parts, &value)
}

fn matches_from_end(parts: &[Part], value: &str) -> bool {
    let (mut end, mut pending) = (value.len(), None::<&Parameter>);
    for (index, part) in parts.iter().enumerate().rev() {
        match part {
            Part::Parameter(parameter) => pending = Some(parameter),
            Part::Literal(literal) => {
                // A parameter behind it needs at least one character.
                let last = value[..end].char_indices().next_back().map_or(0, |(at, _)| at);
                let until = if pending.is_some() { last } else { end };
                let Some(start) = value[..until].rfind(literal.as_str()) else { return false };
                let after = start + literal.len();
                match pending.take() {
                    Some(parameter) if !parameter.accepts(Some(&value[after..end])) => return false,
                    None if after != end && index + 1 == parts.len() => return false,
                    _ => {}
                }
                end = start;
            }
        }
    }
    match pending {
        Some(parameter) => end > 0 && parameter.accepts(Some(&value[..end])),
        None => end == 0,
    }
}

/// Whether there may be a text that fits both.
fn segments_overlap(ours: &Segment, theirs: &Segment) -> bool {
    match (&ours[..], &theirs[..]) {
        ([Part::Literal(literal)], _) => fits(theirs, literal),
        (_, [Part::Literal(literal)]) => fits(ours, literal),
        ([Part::Parameter(ours)], [Part::Parameter(theirs)]) => {
            let constraints: Vec<&Constraint> = ours.constraints.iter().chain(&theirs.constraints).collect();
            !exclude_each_other(&constraints)
        }
        ([Part::Parameter(parameter)], parts) | (parts, [Part::Parameter(parameter)]) => !parts
            .iter()
            .any(|part| matches!(part, Part::Literal(literal) if exclude_text(&parameter.constraints, literal))),
        (ours, theirs) => {
            let ends = |a: Option<&Part>, b: Option<&Part>, agree: fn(&str, &str) -> bool| match (a, b) {
                (Some(Part::Literal(a)), Some(Part::Literal(b))) => agree(a, b) || agree(b, a),
                _ => true,
            };
            ends(ours.first(), theirs.first(), |a, b| a.starts_with(b))
                && ends(ours.last(), theirs.last(), |a, b| a.ends_with(b))
        }
    }
}

fn fits(segment: &Segment, value: &str) -> bool {
    Template { text: String::new(), segments: vec![segment.clone()] }.matches(&[Cow::Borrowed(value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(template: &str) -> Template {
        Template::parse(template).unwrap_or_else(|why| panic!("{template}: {why}"))
    }

    fn fits(template: &str, path: &str) -> bool {
        let parts: Vec<Cow<'_, str>> = path.split('/').filter(|part| !part.is_empty()).map(Cow::from).collect();
        parse(template).matches(&parts)
    }

    #[test]
    fn segments_match_as_azure_matches_them() {
        for (template, path) in [
            ("orders", "orders"),
            ("Orders", "oRDERS"),
            ("/orders/", "orders"),
            ("orders/{id}", "orders/7"),
            ("orders/{id:int}", "orders/-7"),
            ("orders/{id:guid}", "orders/6f0c2f9e-7a60-4c2c-9d3c-0a4d5e6f7a8b"),
            ("orders/{id?}", "orders"),
            ("orders/{id:int?}", "orders/7"),
            ("orders/{id:int?}", "orders"),
            ("orders/{id=5}", "orders"),
            ("orders/{id:int=5}", "orders"),
            ("files/{*path}", "files"),
            ("files/{**path}", "files/a/b"),
            ("files/{*path:regex(^a/)}", "files/a/b"),
            ("{*path}", ""),
            ("", ""),
            ("{a?}/b", "x/b"),
            ("{1a}/{:x}", "a/b"),
            ("{{x}}", "{X}"),
            // Azure's documentation and issues have these.
            ("{ignored:maxlength(0)?}", ""),
            ("items/{id:minlength(10)}", "items/0123456789"),
            ("log/{day:datetime}", "log/2026-11-28"),
            ("n/{v:double}", "n/-1.5e3"),
            ("n/{v:decimal}", "n/1.5"),
            ("n/{v:float}", "n/1"),
            ("p/{n:range(1,9)}", "p/9"),
            ("p/{n:min(1)}", "p/1"),
            ("c/{z:length(5)}", "c/12345"),
            (r"c/{z:regex(^\d{{5}}$)}", "c/12345"),
            ("x/{id:int:min(1)}", "x/1"),
            ("x/{id:required}", "x/y"),
            ("foo/{name:alpha}.html", "foo/Bar.HTML"),
            ("v{version}/items", "V2/items"),
            ("{a}-{b}", "x-y-z"),
            ("files/{name}.{ext?}", "files/a.b.txt"),
            ("files/{name}.{ext?}", "files/a"),
            ("{z:regex(^(a:b|c=d)$):length(3)}", "c=d"),
        ] {
            assert!(fits(template, path), "{template} should fit {path:?}");
        }
        for (template, path) in [
            ("orders", "orders/7"),
            ("orders/{id}", "orders"),
            ("orders/{id:int}", "orders/x"),
            ("orders/{id:int}", "orders/99999999999"),
            ("orders/{id:alpha}", "orders/a1"),
            ("orders/{id?}", "orders/7/8"),
            ("orders/{id:int=x}", "orders"),
            ("files/{*path:int}", "files"),
            ("", "x"),
            ("{a?}/b", "b"),
            ("{ignored:maxlength(0)?}", "x"),
            ("p/{n:range(1,9)}", "p/10"),
            ("x/{id:int:min(1)}", "x/0"),
            ("foo/{name:alpha}.html", "foo/b1.html"),
            ("foo/{name:alpha}.html", "foo/.html"),
            ("foo/{name:alpha}.html", "foo/bar.html5"),
            ("v{version}/items", "v/items"),
            ("v{version}/items", "xv1/items"),
            ("{a}-{b}", "x-"),
            ("{a}-{b}", "-y"),
            ("files/{name}.{ext?}", "files/a."),
            ("files/{name}.{ext?}", "files"),
        ] {
            assert!(!fits(template, path), "{template} should not fit {path:?}");
        }
    }

    #[test]
    fn a_bad_template_says_what_to_write() {
        for (template, words) in [
            ("a//b", "empty segment"),
            ("//a", "empty segment"),
            ("a?", "question mark"),
            ("{a}{b}", "put text between them"),
            ("{a}/{A}", "has two parameters"),
            ("{*rest}/more", "must be the whole last segment"),
            ("x{*rest}", "must be the whole last segment"),
            ("{*rest?}", "leave out its ?"),
            ("{a=1?}", "leave out its ?"),
            ("{a}x{b?}", "must end its segment and follow a dot"),
            ("{a?}.html", "must end its segment and follow a dot"),
            ("{}", "no parameter name"),
            ("{a*b}", "no parameter name"),
            ("{a", "is not closed"),
            ("{a{b}", "opening brace within a parameter"),
            ("a}", "closing brace alone"),
            ("{when:tomorrow}", "is not known: use int, long"),
            ("{when:}", "is not known"),
        ] {
            let message = Template::parse(template).expect_err(template);
            assert!(message.contains(words), "{template}: {message}");
        }
    }

    #[test]
    fn routes_overlap_unless_no_path_can_fit_both() {
        for (a, b) in [
            ("products/{id}", "products/list"),
            ("{*rest}", "a/b/c"),
            ("a/{*rest}", "a"),
            ("a/{b?}", "a"),
            ("{id:int}", "{id:guid}"),
            ("{a}-{b}", "x-y"),
            ("{a}-{b}", "{name}.html"),
            ("v{version}", "{id}"),
            ("{z:regex(^a$)}", "{name:alpha}"),
        ] {
            assert!(parse(a).overlaps(&parse(b)) && parse(b).overlaps(&parse(a)), "{a} and {b}");
        }
        for (a, b) in [
            ("products", "orders"),
            ("products/{id:int}", "products/list"),
            ("{id:int}", "{name:alpha}"),
            ("{id:int}", "v{version}"),
            ("a/{b}", "a"),
            ("{a}/{b}", "{a}"),
            ("{name}.html", "{name}.css"),
            ("a{x}", "b{x}"),
            ("a/{*rest}", "b/{*rest}"),
        ] {
            assert!(!parse(a).overlaps(&parse(b)) && !parse(b).overlaps(&parse(a)), "{a} and {b}");
        }
    }

    #[test]
    fn a_wrong_template_tells_what_it_was_meant_for() {
        for (template, path) in [("x/{id:tomorrow}/y", "x/1/y"), ("{*rest:tomorrow}", "a/b"), ("a//b", "a/b")] {
            let path: Vec<Cow<'_, str>> = path.split('/').map(Cow::from).collect();
            assert!(Template::meant(template).matches(&path), "{template}");
        }
    }
}
