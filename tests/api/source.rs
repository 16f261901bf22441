//! A crate's modules, and what the names in them mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;
use syn::{Attribute, Item, UseTree, Visibility};

use crate::print::text;

/// A place in a crate: the names of the modules from its root on.
pub(crate) type At = Vec<String>;

/// An import: the path's segments, the name it gets here, or `*`.
pub(crate) type Import = (Vec<String>, String);

/// A crate's items by module, those that only tests and GPUs see left out.
pub(crate) struct Source {
    pub(crate) modules: BTreeMap<At, Vec<Item>>,
}

impl Source {
    /// Reads `src/lib.rs` and the files of its modules.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failed> {
        let mut source = Self { modules: BTreeMap::new() };
        source.file(Vec::new(), &folder.join("lib.rs"), folder)?;
        Ok(source)
    }

    /// Reads a file; files of its modules are below `folder`.
    fn file(&mut self, at: At, path: &Path, folder: &Path) -> Result<(), Failed> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let items = syn::parse_file(&text).map_err(|error| format!("{}: {error}", path.display()))?.items;
        self.module(at, items, folder)
    }

    fn module(&mut self, at: At, mut items: Vec<Item>, folder: &Path) -> Result<(), Failed> {
        items.retain(|item| !Head::of(item).attributes.iter().any(hides));
        for item in &mut items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let (at, below) = (join(&at, &name), folder.join(&name));
            match module.content.take() {
                Some((_, items)) => self.module(at, items, &below)?,
                None if below.join("mod.rs").exists() => self.file(at, &below.join("mod.rs"), &below)?,
                None => self.file(at, &below.with_extension("rs"), &below)?,
            }
        }
        self.modules.insert(at, items);
        Ok(())
    }

    /// Where the item that `path` means in module `at` is defined, and its name there; `None` for other crates' items
    /// and for what a macro makes.
    pub(crate) fn resolve(&self, at: &At, path: &[String]) -> Option<(At, String)> {
        self.follow(at, path, &mut BTreeSet::new())
    }

    /// The module that `path` means in module `at`.
    pub(crate) fn module_of(&self, at: &At, path: &[String]) -> Option<At> {
        self.module_by(at, path, &mut BTreeSet::new())
    }

    /// `asked` holds the names that are being looked up, since modules may import from each other.
    fn follow(&self, at: &At, path: &[String], asked: &mut BTreeSet<(At, String)>) -> Option<(At, String)> {
        let (name, before) = path.split_last()?;
        let module = self.module_by(at, before, asked)?;
        self.lookup(&module, name, asked)
    }

    fn module_by(&self, at: &At, path: &[String], asked: &mut BTreeSet<(At, String)>) -> Option<At> {
        let mut module = at.clone();
        for name in path {
            match name.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()?),
                name => {
                    let (parent, name) = self.lookup(&module, name, asked)?;
                    module = join(&parent, &name);
                }
            }
        }
        self.modules.contains_key(&module).then_some(module)
    }

    /// Where the item that has `name` in module `at` is defined, be it by an import.
    fn lookup(&self, at: &At, name: &str, asked: &mut BTreeSet<(At, String)>) -> Option<(At, String)> {
        let own = (at.clone(), name.to_owned());
        let items = &self.modules[at];
        if items.iter().any(|item| Head::of(item).name.as_deref() == Some(name)) {
            return Some(own);
        }
        if !asked.insert(own.clone()) {
            return None;
        }
        let found = items.iter().flat_map(imports_of).find_map(|(path, here)| match here.as_str() {
            "*" => {
                let module = self.module_by(at, &path, asked)?;
                self.lookup(&module, name, asked)
            }
            here if here == name => self.follow(at, &path, asked),
            _ => None,
        });
        asked.remove(&own);
        found
    }
}

pub(crate) fn join(at: &At, name: &str) -> At {
    at.iter().cloned().chain([name.to_owned()]).collect()
}

/// What an item imports.
pub(crate) fn imports_of(item: &Item) -> Vec<Import> {
    if let Item::Use(item) = item { imports_in(&item.tree) } else { Vec::new() }
}

fn imports_in(tree: &UseTree) -> Vec<Import> {
    match tree {
        UseTree::Path(path) => {
            let longer = |(rest, here): Import| {
                let path: Vec<String> = [path.ident.to_string()].into_iter().chain(rest).collect();
                // `use a::b::{self}` imports `a::b`.
                let here = if here == "self" { path[path.len() - 1].clone() } else { here };
                (path, here)
            };
            imports_in(&path.tree).into_iter().map(longer).collect()
        }
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), "self".to_owned())],
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(name) => vec![(vec![name.ident.to_string()], name.rename.to_string())],
        UseTree::Glob(_) => vec![(Vec::new(), "*".to_owned())],
        UseTree::Group(group) => group.items.iter().flat_map(imports_in).collect(),
    }
}

/// What items have in common, as far as they do.
pub(crate) struct Head<'a> {
    pub(crate) attributes: &'a [Attribute],
    pub(crate) public: bool,
    pub(crate) name: Option<String>,
}

impl<'a> Head<'a> {
    pub(crate) fn of(item: &'a Item) -> Self {
        let (attributes, visibility, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.vis), Some(&item.sig.ident)),
            Item::Mod(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Static(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.vis), Some(&item.ident)),
            Item::Use(item) => (&item.attrs, Some(&item.vis), None),
            Item::Impl(item) => (&item.attrs, None, None),
            Item::Macro(item) => (&item.attrs, None, None),
            _ => return Self { attributes: &[], public: false, name: None },
        };
        Self { attributes, public: visibility.is_some_and(public), name: name.map(ToString::to_string) }
    }
}

pub(crate) fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether what has this attribute is not there where the crate is used.
pub(crate) fn hides(attribute: &Attribute) -> bool {
    matches!(text(&attribute.meta).as_str(), "cfg(test)" | "cfg(target_arch = \"nvptx64\")")
}
