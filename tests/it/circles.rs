//! Modules of one parent use each other in one direction only, so that each can be read knowing those below it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::sources::{Source, crates, paths_behind, sources};

/// A module: the names from its crate's root on, which has none.
type ModulePath = Vec<String>;

/// An import, or a path in the code: the module that it stands in, and what it names, beginning with a module.
struct ModuleUse {
    from: ModulePath,
    to: ModulePath,
}

fn split(path: &str) -> ModulePath {
    path.split("::").filter(|name| !matches!(*name, "" | "self" | "*")).map(str::to_owned).collect()
}

/// The module that a file is; `in_crate` is its path below `src/`.
fn module_path(in_crate: &str) -> ModulePath {
    let mut names: ModulePath = in_crate.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    names.pop_if(|name| matches!(name.as_str(), "lib" | "main" | "mod"));
    names
}

/// What `code` of `module` names by way of `crate`, `self` and `super`.
fn named_paths(module: &[String], code: &str) -> Vec<ModulePath> {
    let mut found = Vec::new();
    let mut add = |base: &[String], prefix: &str| {
        let behind = paths_behind(prefix, code);
        found.extend(behind.iter().map(|path| [base, &split(path)].concat()));
    };
    add(&[], "crate::");
    add(module, "self::");
    for depth in 1..=module.len() {
        add(&module[..module.len() - depth], &"super::".repeat(depth));
    }
    found
}

/// Names that a module passes on (`pub use writer::Tx`), with where they come from.
fn passed_on(module: &[String], code: &str) -> Vec<(ModulePath, ModulePath)> {
    let mut found = Vec::new();
    for visibility in ["pub use ", "pub(crate) use ", "pub(super) use "] {
        for path in paths_behind(visibility, code) {
            let names = split(path.trim_start_matches("self::"));
            let base = if path.starts_with("crate::") { &[][..] } else { module };
            let names = if path.starts_with("crate::") { names[1..].to_vec() } else { names };
            let Some(name) = names.last() else { continue };
            found.push(([module, std::slice::from_ref(name)].concat(), [base, &names].concat()));
        }
    }
    found
}

/// The uses between modules of one crate, given its files.
fn module_uses(files: &[(ModulePath, &str)]) -> Vec<ModuleUse> {
    let known: BTreeSet<&ModulePath> = files.iter().map(|(module, _)| module).collect();
    let origins: HashMap<ModulePath, ModulePath> =
        files.iter().flat_map(|(module, code)| passed_on(module, code)).collect();
    let resolve = |mut path: ModulePath| {
        // The origin of a name may be passed on itself; nothing is passed on through more modules than this.
        for _ in 0..5 {
            let passed = (1..=path.len())
                .rev()
                .find(|length| !known.contains(&path[..*length].to_vec()) && origins.contains_key(&path[..*length]));
            let Some(length) = passed else { break };
            path = [&origins[&path[..length]][..], &path[length..]].concat();
        }
        path
    };
    let of_file = |(module, code): &(ModulePath, &str)| {
        let uses = named_paths(module, code).into_iter();
        uses.map(|to| ModuleUse { from: module.clone(), to: resolve(to) }).collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

/// The circles between modules of one parent: each a text that names the modules and the imports that close it.
fn circles(files: &[(ModulePath, &str)]) -> Vec<String> {
    let uses = module_uses(files);
    let parents: BTreeSet<&[String]> = files.iter().filter_map(|(module, _)| Some(module.split_last()?.1)).collect();
    let children: BTreeSet<&ModulePath> = files.iter().map(|(module, _)| module).collect();
    let mut found = Vec::new();
    for parent in parents {
        let child = |path: &ModulePath| {
            let child = path.get(..=parent.len())?.to_vec();
            (path.starts_with(parent) && children.contains(&child)).then(|| child[parent.len()].clone())
        };
        let mut graph: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for one in &uses {
            if let (Some(from), Some(to)) = (child(&one.from), child(&one.to))
                && from != to
            {
                let import = format!("{} uses {}", one.from.join("::"), one.to.join("::"));
                graph.entry(from).or_default().entry(to).or_default().push(import);
            }
        }
        found.extend(circles_of(&graph).into_iter().map(|imports| {
            let parent = if parent.is_empty() { "the crate".to_owned() } else { parent.join("::") };
            format!("modules of {parent} use each other in a circle:\n    {}", imports.join("\n    "))
        }));
    }
    found
}

/// For each set of modules that reach each other, the imports between them.
fn circles_of(graph: &BTreeMap<String, BTreeMap<String, Vec<String>>>) -> Vec<Vec<String>> {
    let reached = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(next) = open.pop() {
            open.extend(graph.get(next).into_iter().flat_map(|to| to.keys()).filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|module| (module, reached(module))).collect();
    let same = |a: &String, b: &String| {
        reach.get(a).is_some_and(|to| to.contains(b)) && reach.get(b).is_some_and(|to| to.contains(a))
    };
    let (mut found, mut done) = (Vec::new(), BTreeSet::new());
    for module in graph.keys().filter(|module| same(module, module)) {
        if done.insert(module) {
            let members: Vec<&String> = graph.keys().filter(|other| same(module, other)).collect();
            done.extend(&members);
            let inside = members.iter().flat_map(|from| graph[*from].iter().filter(|(to, _)| members.contains(to)));
            found.push(inside.flat_map(|(_, imports)| imports.clone()).collect());
        }
    }
    found
}

#[test]
fn modules_use_their_siblings_in_one_direction() {
    let all = sources();
    let mut found = Vec::new();
    for name in crates().iter().map(|name| format!("crates/{name}/src/")).chain(["src/".to_owned()]) {
        let file = |source: &Source| Some(module_path(source.file.strip_prefix(&name)?));
        let files: Vec<_> = all.iter().filter_map(|source| Some((file(source)?, source.code.as_str()))).collect();
        found.extend(circles(&files).into_iter().map(|circle| format!("{name}: {circle}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_circle_of_imports_is_found_and_named() {
    let files = |b: &'static str| {
        [
            (module_path("lib.rs"), "mod a;\nmod b;\nmod c;\npub use a::Alpha;"),
            (module_path("a/mod.rs"), "mod inner;\nuse crate::b::Beta;"),
            (module_path("a/inner.rs"), "use super::super::c;"),
            (module_path("b.rs"), b),
            (module_path("c.rs"), "use std::fmt;"),
        ]
    };
    assert_eq!(circles(&files("use crate::{c::{self, Gamma}, d};")), Vec::<String>::new(), "downwards only");
    let expected = "modules of the crate use each other in a circle:\n    a uses b::Beta\n    b uses a::Alpha";
    for back in ["use super::a::Alpha;", "fn f() -> crate::Alpha {}", "use super::{Alpha, c};"] {
        assert_eq!(circles(&files(back)), [expected], "{back}");
    }
    let files = [
        (module_path("x/mod.rs"), "mod p;\nmod q;"),
        (module_path("x/p.rs"), "use super::q::Q;"),
        (module_path("x/q.rs"), "use crate::x::p;"),
    ];
    assert_eq!(
        circles(&files),
        ["modules of x use each other in a circle:\n    x::p uses x::q::Q\n    x::q uses x::p"]
    );
}
