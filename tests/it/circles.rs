//! The files of `src/` use each other in no circle.
//!
//! A file uses another where a path (`crate::a::b`, `super::x`, `self::x`, `child::x`) leads to
//! something that is defined there, through however many re-exports, and where it calls a method that
//! the other file adds to one of its types. `mod x;` is not a use, nor is a re-export, as long as the file
//! itself does nothing with the name.

use std::collections::{BTreeMap, BTreeSet};

use crate::layering::sources;

/// The names that lead from the crate's root to a module.
type Module = Vec<String>;

/// A name that a module imports, and what it stands for: a path, seen from that module. `*` imports
/// everything.
#[derive(Clone, Debug)]
struct Import {
    name: String,
    path: Vec<String>,
    is_reexport: bool,
}

/// The content of a module.
#[derive(Debug, Default)]
struct Content {
    /// Its file, without `src/` and `.rs`.
    file: String,
    imports: Vec<Import>,
    /// Paths in its code.
    paths: BTreeSet<Vec<String>>,
    /// Names in its code that no path precedes.
    names: BTreeSet<String>,
    /// The items that it defines.
    items: BTreeSet<String>,
    /// All functions, those of types too.
    functions: BTreeSet<String>,
    /// Types, by their paths, and methods that it gives them.
    methods: Vec<(Vec<String>, BTreeSet<String>)>,
    /// Names of methods that are called.
    calls: BTreeSet<String>,
}

type Modules = BTreeMap<Module, Content>;

/// Words, `::`, and other characters one by one; lifetimes and literals of text are left out.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (token, after) = if is_word(first) {
            rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        } else if rest.starts_with("::") {
            rest.split_at(2)
        } else if first == '"' {
            let mut end = 1;
            while end < rest.len() && !rest[end..].starts_with('"') {
                end += if rest[end..].starts_with('\\') { 1 } else { 0 };
                end += rest[end..].chars().next().map_or(0, char::len_utf8);
            }
            ("", &rest[(end + 1).min(rest.len())..])
        } else if first == '\'' {
            // `'x'`, `'\n'`, or a lifetime.
            let end = rest.char_indices().skip(2).take(9).find(|(_, c)| *c == '\'');
            let is_letter = rest[1..].starts_with('\\')
                || end.is_some_and(|(at, _)| rest[1..at].chars().count() == 1);
            ("", if is_letter { &rest[end.map_or(1, |(at, _)| at + 1)..] } else { &rest[1..] })
        } else {
            rest.split_at(first.len_utf8())
        };
        if !token.trim().is_empty() {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Where what begins here ends: behind its `;`, or behind the brace that closes its first brace.
fn end_of_item(tokens: &[String], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Without what is for tests.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"].map(String::from)) {
            at = end_of_item(tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Reads a tree of imports from `at` on: the imports, and where it ends.
fn use_tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    is_reexport: bool,
    imports: &mut Vec<Import>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens[at] != "}" {
                    at = use_tree(tokens, at, &path, is_reexport, imports);
                    if tokens[at] == "," {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("::") => at += 1,
            Some("*") => {
                imports.push(Import { name: "*".into(), path, is_reexport });
                return at + 1;
            }
            Some("as") => {
                imports.push(Import { name: tokens[at + 1].clone(), path, is_reexport });
                return at + 2;
            }
            Some(name) if is_name(name) => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                at += 1;
                if !matches!(tokens.get(at).map(String::as_str), Some("::" | "as")) {
                    let name = path.last().unwrap().clone();
                    imports.push(Import { name, path, is_reexport });
                    return at;
                }
            }
            other => panic!("{other:?} in a use of {before:?}"),
        }
    }
}

/// The type of a block `impl Type {}`, and the methods in it.
fn methods(tokens: &[String]) -> Option<(Vec<String>, BTreeSet<String>)> {
    let open = tokens.iter().position(|token| token == "{")?;
    if tokens[..open].iter().any(|token| token == "for") {
        return None;
    }
    let mut generics = 0_usize;
    let mut path = Vec::new();
    for token in &tokens[1..open] {
        match token.as_str() {
            "<" => generics += 1,
            ">" => generics = generics.saturating_sub(1),
            name if generics == 0 && is_name(name) => path.push(name.to_owned()),
            _ => {}
        }
        if token == "<" && !path.is_empty() {
            break;
        }
    }
    let body = &tokens[open..end_of_item(tokens, open)];
    let names = body.windows(2).filter(|pair| pair[0] == "fn").map(|pair| pair[1].clone());
    Some((path, names.collect()))
}

/// Reads the code of a module, and of those within it, from `at` on.
fn read(
    modules: &mut Modules,
    file: &str,
    module: &Module,
    tokens: &[String],
    mut at: usize,
) -> usize {
    const ITEMS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "const", "static", "type", "macro_rules", "union"];
    let mut content = Content { file: file.to_owned(), ..Content::default() };
    let (mut depth, mut is_public) = (0_usize, false);
    while at < tokens.len() {
        let token = tokens[at].as_str();
        let next = tokens.get(at + 1).map_or("", String::as_str);
        match token {
            "}" if depth == 0 => break,
            "{" => depth += 1,
            "}" => depth -= 1,
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                let inner = [module.clone(), vec![next.to_owned()]].concat();
                at = read(modules, file, &inner, tokens, at + 3) + 1;
                continue;
            }
            "mod" => at += 1,
            "use" if next != "<" => {
                at = use_tree(tokens, at + 1, &[], is_public, &mut content.imports);
                is_public = false;
                continue;
            }
            "pub" => is_public = true,
            "impl" if depth == 0 => content.methods.extend(methods(&tokens[at..])),
            "." => content.calls.extend(is_name(next).then(|| next.to_owned())),
            _ if ITEMS.contains(&token) && depth == 0 => {
                let name = tokens[at + 1..].iter().find(|token| is_name(token));
                content.items.extend(name.cloned());
                content.functions.extend((token == "fn").then(|| next.to_owned()));
            }
            "fn" => _ = content.functions.insert(next.to_owned()),
            _ if is_name(token) && at > 0 && ![".", "::"].contains(&tokens[at - 1].as_str()) => {
                let mut path = vec![token.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_name(token))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                content.names.insert(token.to_owned());
                if path.len() > 1 {
                    content.paths.insert(path);
                }
            }
            _ => {}
        }
        if token == ";" || token == "{" {
            is_public = false;
        }
        at += 1;
    }
    modules.insert(module.clone(), content);
    at
}

fn read_all(sources: &[(String, String)]) -> Modules {
    let mut modules = Modules::new();
    for (path, code) in sources {
        let file = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
        let module: Module = match file {
            "lib" => Vec::new(),
            "main" => continue,
            _ => file.split('/').filter(|part| *part != "mod").map(str::to_owned).collect(),
        };
        read(&mut modules, file, &module, &without_tests(&tokens(code)), 0);
    }
    modules
}

/// The file that defines what a path means, seen from a module; `None` where it is not of this crate.
fn resolve(modules: &Modules, from: &Module, path: &[String], depth: usize) -> Option<String> {
    assert!(depth < 20, "{from:?}: {path:?} leads nowhere");
    let (first, mut rest) = path.split_first()?;
    let mut module = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.clone(),
        "super" => from.split_last()?.1.to_vec(),
        _ => {
            rest = path;
            from.clone()
        }
    };
    let is_relative = rest.len() == path.len();
    while let Some((name, after)) = rest.split_first() {
        if name == "super" {
            module.pop();
            rest = after;
            continue;
        }
        let child = [module.clone(), vec![name.clone()]].concat();
        if modules.contains_key(&child) {
            module = child;
            rest = after;
            continue;
        }
        let content = &modules[&module];
        if content.items.contains(name) {
            break;
        }
        let imported = content.imports.iter().find(|import| import.name == *name);
        if let Some(import) = imported.filter(|import| import.path[0] != *name || !is_relative) {
            let path = [import.path.as_slice(), after].concat();
            return resolve(modules, &module, &path, depth + 1);
        }
        let globs = content.imports.iter().filter(|import| import.name == "*");
        for import in globs {
            let target = [import.path.clone(), vec![name.clone()]].concat();
            let file = resolve(modules, &module, &import.path, depth + 1)?;
            let defines = modules
                .values()
                .any(|content| content.file == file && content.items.contains(name));
            if defines {
                return resolve(modules, &module, &target, depth + 1);
            }
        }
        // Something that is defined in the module, such as a variant; or a foreign crate.
        if is_relative && module == *from {
            return None;
        }
        break;
    }
    Some(modules[&module].file.clone())
}

/// Which files each file uses.
fn uses(modules: &Modules) -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, content) in modules {
        let imported = content
            .imports
            .iter()
            .filter(|import| !import.is_reexport || content.names.contains(&import.name));
        let paths = content.paths.iter().chain(imported.map(|import| &import.path));
        let files = paths.filter_map(|path| resolve(modules, module, path, 0));
        let used = uses.entry(content.file.clone()).or_default();
        used.extend(files.filter(|file| *file != content.file));
    }
    for (module, content) in modules {
        for (path, methods) in &content.methods {
            let Some(file) = resolve(modules, module, path, 0) else { continue };
            let calls = modules.values().filter(|other| other.file == file).any(|other| {
                other.calls.difference(&other.functions).any(|name| methods.contains(name))
            });
            if calls && file != content.file {
                uses.entry(file).or_default().insert(content.file.clone());
            }
        }
    }
    uses
}

/// Groups of files each of which uses, maybe through others, all others of the group.
fn circles(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = uses[from].iter().collect();
        while let Some(file) = open.pop() {
            if reached.insert(file.clone()) {
                open.extend(&uses[file]);
            }
        }
        reached
    };
    let all: BTreeMap<&String, BTreeSet<String>> =
        uses.keys().map(|file| (file, reached(file))).collect();
    let in_circles = uses.keys().filter(|file| all[file].contains(*file));
    in_circles
        .map(|file| all[file].iter().filter(|other| all[other].contains(file)).cloned().collect())
        .collect()
}

/// Files and their code, as `(path, code)`, and the uses that are found in them.
fn uses_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> =
        files.iter().map(|(path, code)| (format!("src/{path}.rs"), (*code).to_owned())).collect();
    let uses = uses(&read_all(&sources));
    uses.iter()
        .flat_map(|(file, used)| used.iter().map(move |used| format!("{file} {used}")))
        .collect()
}

#[test]
fn uses_are_found_where_names_are_defined() {
    let a = |code| {
        uses_of(&[
            ("a", code),
            ("a/b", "pub struct B; pub fn f() {}"),
            ("c", "pub struct C;"),
            ("lib", ""),
        ])
    };
    assert_eq!(a("mod b; pub use b::B;"), Vec::<String>::new());
    assert_eq!(a("mod b; pub use b::B; struct A(B);"), ["a a/b"]);
    assert_eq!(a("mod b; use b::B;"), ["a a/b"]);
    assert_eq!(a("mod b; fn a() { b::f() }"), ["a a/b"]);
    assert_eq!(
        a("mod b; fn a<'b>(b: &'b str) { b.len(); \"b::f()\"; 'b'; x::b() }"),
        Vec::<String>::new()
    );
    assert_eq!(a("mod b; #[cfg(test)] use b::B; use crate::c::{self, C as D};"), ["a c"]);
    let b = |code| {
        uses_of(&[
            ("a", "mod b; mod d; pub use d::*; pub use d::e as f; struct A; use crate::c::C;"),
            ("a/b", code),
            ("a/d", "pub struct D; pub fn e() {}"),
            ("c", "pub struct C;"),
            ("lib", ""),
        ])
    };
    assert_eq!(b("use super::A;"), ["a c", "a/b a"]);
    assert_eq!(b("use super::{C, D};"), ["a c", "a/b a/d", "a/b c"]);
    assert_eq!(b("fn b() { super::super::a::f(); crate::a::d::e() }"), ["a c", "a/b a/d"]);
    assert_eq!(b("mod inner { fn b() { super::super::A } }"), ["a c", "a/b a"]);
    let methods =
        |code| uses_of(&[("a", code), ("b", "use crate::a::A; impl<'a> A<'a> { fn b(&self) {} }")]);
    assert_eq!(methods("struct A<'a>; fn a(a: A) { a.b() }"), ["a b", "b a"]);
    assert_eq!(methods("struct A<'a>; fn a(a: A) { a.c() }"), ["b a"]);
    let circle = uses(&read_all(
        &[
            ("src/a.rs", "use crate::b::X;"),
            ("src/b.rs", "use crate::c::X;"),
            ("src/c.rs", "use crate::a::X;"),
            ("src/d.rs", "use crate::a::X;"),
        ]
        .map(|(path, code)| (path.to_owned(), code.to_owned() + "struct X;")),
    ));
    let found: Vec<_> = circles(&circle).into_iter().collect();
    assert_eq!(found, [["a", "b", "c"]]);
}

#[test]
fn no_files_use_each_other() {
    let uses = uses(&read_all(&sources()));
    let circles = circles(&uses);
    for circle in &circles {
        println!("{}", circle.join(" "));
        for file in circle {
            let used: Vec<_> = uses[file].iter().filter(|used| circle.contains(used)).collect();
            println!("    {file} uses {used:?}");
        }
    }
    let found: Vec<String> = circles.iter().map(|circle| circle.join(" ")).collect();
    assert_eq!(found, Vec::<String>::new());
}
