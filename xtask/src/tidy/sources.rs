//! Rules for Rust files: sizes, printing, environment variables, `unsafe`, module docs.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{files, shown};

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;

/// What may be longer, and why: `file` for a whole file, `file::function` for one function.
const MAY_BE_LONG: [(&str, &str); 0] = [];

const PRINTS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
const READS_ENVIRONMENT: [&str; 4] = ["var", "var_os", "vars", "vars_os"];

/// Checks every Rust file below `crates/` and `xtask/`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut excused = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in files(&root.join(folder), &[".rs"])? {
            let name = shown(root, &path);
            let text = fs::read_to_string(&path)?;
            let found = check_file(&name, &text).with_context(|| format!("in {name}"))?;
            problems.extend(found.into_iter().filter_map(|problem| problem.unless_excused(&mut excused)));
        }
    }
    let stale = MAY_BE_LONG.iter().filter(|(what, _)| !excused.iter().any(|known| known == what));
    problems.extend(stale.map(|(what, _)| format!("{what}: no longer long, take it off the list of exceptions")));
    Ok(problems)
}

/// A broken rule; `long` names the thing that is too long, for the list of exceptions.
#[derive(Debug)]
struct Problem {
    message: String,
    long: Option<String>,
}

impl Problem {
    fn unless_excused(self, excused: &mut Vec<String>) -> Option<String> {
        match self.long {
            Some(long) if MAY_BE_LONG.iter().any(|(what, _)| *what == long) => {
                excused.push(long);
                None
            }
            _ => Some(self.message),
        }
    }
}

fn check_file(name: &str, text: &str) -> Result<Vec<Problem>> {
    let file = syn::parse_file(text)?;
    let is_test = ["/tests/", "/benches/", "/examples/"].iter().any(|folder| name.contains(folder));
    let mut scan = Scan { name, rules: Rules::of(name), in_test: is_test, problems: Vec::new() };
    let num_lines = text.lines().count();
    if num_lines > MAX_FILE_LINES {
        let message = format!("{name}: {num_lines} lines, more than {MAX_FILE_LINES}");
        scan.problems.push(Problem { message, long: Some(name.to_owned()) });
    }
    let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    if is_root && !text.starts_with("//! ") {
        scan.report(1, "a crate begins with `//!` documentation");
    }
    scan.visit_file(&file);
    Ok(scan.problems)
}

/// Which rules hold for a file.
#[derive(Clone, Copy)]
struct Rules {
    may_print: bool,
    may_read_environment: bool,
    may_be_unsafe: bool,
}

impl Rules {
    fn of(name: &str) -> Self {
        let is_outer = name.starts_with("crates/cli/") || name.starts_with("xtask/");
        Self { may_print: is_outer, may_read_environment: is_outer, may_be_unsafe: name.starts_with("crates/tensor/") }
    }
}

struct Scan<'a> {
    name: &'a str,
    rules: Rules,
    in_test: bool,
    problems: Vec<Problem>,
}

impl Scan<'_> {
    fn report(&mut self, line: usize, message: &str) {
        self.problems.push(Problem { message: format!("{}:{line}: {message}", self.name), long: None });
    }

    fn check_function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let start = signature.span().start().line;
        let num_lines = body.span().end().line - start + 1;
        if num_lines > MAX_FUNCTION_LINES {
            let function = &signature.ident;
            let message =
                format!("{}:{start}: `{function}` has {num_lines} lines, more than {MAX_FUNCTION_LINES}", self.name);
            self.problems.push(Problem { message, long: Some(format!("{}::{function}", self.name)) });
        }
        if signature.unsafety.is_some() {
            self.check_unsafe(start);
        }
    }

    fn check_unsafe(&mut self, line: usize) {
        if !self.rules.may_be_unsafe {
            self.report(line, "`unsafe` outside `tensor`");
        }
    }

    fn check_environment(&mut self, segments: &[String], line: usize) {
        let reads = segments.windows(2).any(|pair| pair[0] == "env" && READS_ENVIRONMENT.contains(&pair[1].as_str()));
        if reads && !self.rules.may_read_environment {
            self.report(line, "environment variable read below `cli`");
        }
    }

    fn inside(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let outer = self.in_test;
        self.in_test |= attributes.iter().any(is_test_only);
        visit(self);
        self.in_test = outer;
    }
}

/// `#[test]`, `#[cfg(test)]` and the like.
fn is_test_only(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("test")
        || attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

impl<'ast> Visit<'ast> for Scan<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside(&item.attrs, |scan| visit::visit_item_mod(scan, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.inside(&item.attrs, |scan| {
            if !scan.in_test {
                scan.check_function(&item.sig, &item.block);
            }
            visit::visit_item_fn(scan, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.inside(&item.attrs, |scan| {
            if !scan.in_test {
                scan.check_function(&item.sig, &item.block);
            }
            visit::visit_impl_item_fn(scan, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = item.default.as_ref().filter(|_| !self.in_test) {
            self.check_function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let called = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if PRINTS.contains(&called.as_str()) && !self.rules.may_print && !self.in_test {
            self.report(item.span().start().line, "only `cli` prints");
        }
        visit::visit_macro(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if !self.in_test {
            let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.check_environment(&segments, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_use_path(&mut self, tree: &'ast syn::UsePath) {
        if !self.in_test {
            for name in imported(&tree.tree) {
                self.check_environment(&[tree.ident.to_string(), name], tree.span().start().line);
            }
        }
        visit::visit_use_path(self, tree);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.check_unsafe(block.span().start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if item.unsafety.is_some() {
            self.check_unsafe(item.span().start().line);
        }
        self.inside(&item.attrs, |scan| visit::visit_item_impl(scan, item));
    }
}

/// The names that a `use` takes from one module.
fn imported(tree: &syn::UseTree) -> Vec<String> {
    match tree {
        syn::UseTree::Name(name) => vec![name.ident.to_string()],
        syn::UseTree::Rename(rename) => vec![rename.ident.to_string()],
        syn::UseTree::Group(group) => group.items.iter().flat_map(imported).collect(),
        syn::UseTree::Path(_) | syn::UseTree::Glob(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(name: &str, text: &str) -> Vec<String> {
        check_file(name, text).unwrap().into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn inner_rooms_neither_print_nor_read_the_environment() {
        let text = "fn f() { println!(\"x\"); std::env::var(\"X\").ok(); }\nuse std::env::{args, var_os};\n";
        let found = ["f.rs:1: only `cli` prints", "f.rs:1: environment variable read below `cli`"];
        let expected: Vec<String> = found.iter().map(|message| format!("crates/eval/src/{message}")).collect();
        assert_eq!(messages("crates/eval/src/f.rs", text)[..2], expected);
        assert_eq!(messages("crates/eval/src/f.rs", text).len(), 3);
        assert!(messages("crates/cli/src/f.rs", text).is_empty());
        assert!(messages("crates/eval/src/f.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}")).is_empty());
    }

    #[test]
    fn unsafe_lives_in_one_room() {
        let text = "unsafe fn f() {}\nfn g() { unsafe { f() } }\nunsafe impl Send for X {}";
        assert_eq!(messages("crates/model/src/f.rs", text).len(), 3);
        assert!(messages("crates/tensor/src/f.rs", text).is_empty());
    }

    #[test]
    fn sizes_are_counted() {
        let body = "    x();\n".repeat(69);
        assert_eq!(messages("crates/model/src/f.rs", &format!("fn f() {{\n{body}}}")).len(), 1);
        assert!(messages("crates/model/src/f.rs", &format!("#[test]\nfn f() {{\n{body}}}")).is_empty());
        assert_eq!(messages("crates/model/src/f.rs", &"// x\n".repeat(801)).len(), 1);
        assert_eq!(messages("crates/model/src/lib.rs", "mod f;\n").len(), 1);
    }
}
