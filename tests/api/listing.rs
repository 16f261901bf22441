//! The public items of a crate, a line each.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, ItemMacro, Signature, TraitItem};

use crate::print::text;
use crate::source::{At, Head, Source, hides, imports_of, join, public};

/// Attributes that callers depend on.
const PART_OF_THE_API: [&str; 6] = ["cfg", "derive", "macro_export", "must_use", "non_exhaustive", "repr"];

/// Lists what a crate offers: every public item under each path by which it can be reached, with its signature, and the
/// traits that its types implement. What a macro makes is listed as the macro's invocation.
pub(crate) fn list(crate_name: &str, source: &Source) -> BTreeSet<String> {
    let mut listing = Listing { source, public: BTreeMap::new(), lines: BTreeSet::new() };
    listing.visit(&Vec::new(), crate_name);
    for ((at, name), paths) in listing.public.clone() {
        for item in source.modules[&at].iter().filter(|item| Head::of(item).name.as_ref() == Some(&name)) {
            paths.iter().for_each(|path| listing.item(item, path));
        }
    }
    for (at, items) in &source.modules {
        for item in items {
            match item {
                Item::Impl(item) => listing.implementation(at, item),
                Item::Macro(item) => listing.invocation(crate_name, at, item),
                _ => {}
            }
        }
    }
    listing.lines
}

struct Listing<'a> {
    source: &'a Source,
    /// The paths of every item that can be reached.
    public: BTreeMap<(At, String), BTreeSet<String>>,
    lines: BTreeSet<String>,
}

impl Listing<'_> {
    /// Notes what module `at` makes public under `path`.
    fn visit(&mut self, at: &At, path: &str) {
        for item in &self.source.modules[at] {
            let head = Head::of(item);
            if !head.public {
                continue;
            }
            if let Some(name) = head.name {
                self.found(at, &name, format!("{path}::{name}"));
            }
            for (from, here) in imports_of(item) {
                if here == "*" {
                    match self.source.module_of(at, &from) {
                        Some(module) => self.visit(&module, path),
                        None => drop(self.lines.insert(format!("{path}: pub use {}::*", from.join("::")))),
                    }
                } else if let Some((module, name)) = self.source.resolve(at, &from) {
                    self.found(&module, &name, format!("{path}::{here}"));
                } else {
                    self.lines.insert(format!("{path}::{here}: pub use {}", from.join("::")));
                }
            }
        }
    }

    fn found(&mut self, at: &At, name: &str, path: String) {
        let module = join(at, name);
        if self.source.modules.contains_key(&module) {
            self.visit(&module, &path);
        } else {
            self.public.entry((at.clone(), name.to_owned())).or_default().insert(path);
        }
    }

    fn line(&mut self, path: &str, attributes: &[Attribute], what: impl ToTokens) {
        if attributes.iter().any(hides) {
            return;
        }
        let kept = attributes
            .iter()
            .filter(|attribute| PART_OF_THE_API.iter().any(|name| attribute.path().is_ident(name)));
        let kept: String = kept.map(|attribute| format!("{} ", text(attribute))).collect();
        self.lines.insert(format!("{path}: {kept}{}", text(what)));
    }

    fn item(&mut self, item: &Item, path: &str) {
        match item {
            Item::Const(item) => {
                let ty = &item.ty;
                self.line(path, &item.attrs, quote!(const #ty));
            }
            Item::Enum(item) => {
                let (generics, bounds) = (&item.generics, &item.generics.where_clause);
                self.line(path, &item.attrs, quote!(enum #generics #bounds));
                for variant in &item.variants {
                    let fields = variant.fields.to_token_stream();
                    let variant_path = format!("{path}::{}", variant.ident);
                    self.line(&variant_path, &variant.attrs, quote!(variant #fields));
                }
            }
            Item::Fn(item) => self.function(path, &item.attrs, &item.sig, quote!()),
            Item::Static(item) => {
                let (mutability, ty) = (&item.mutability, &item.ty);
                self.line(path, &item.attrs, quote!(static #mutability #ty));
            }
            Item::Struct(item) => {
                let (generics, bounds) = (&item.generics, &item.generics.where_clause);
                let hidden = item.fields.iter().any(|field| !public(&field.vis)).then(|| quote!({ .. }));
                self.line(path, &item.attrs, quote!(struct #generics #bounds #hidden));
                self.fields(path, &item.fields);
            }
            Item::Trait(item) => {
                let (unsafety, colon, supertraits) = (&item.unsafety, &item.colon_token, &item.supertraits);
                let (generics, bounds) = (&item.generics, &item.generics.where_clause);
                self.line(path, &item.attrs, quote!(#unsafety trait #generics #colon #supertraits #bounds));
                item.items.iter().for_each(|item| self.trait_item(path, item));
            }
            Item::Type(item) => {
                let (generics, ty) = (&item.generics, &item.ty);
                self.line(path, &item.attrs, quote!(type #generics = #ty));
            }
            other => self.line(path, &[], other),
        }
    }

    /// A macro, or the items that one makes: a line for each part that ends with a semicolon.
    fn invocation(&mut self, crate_name: &str, at: &At, item: &ItemMacro) {
        if let Some(name) = &item.ident {
            if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                self.line(&format!("{crate_name}::{name}"), &item.attrs, quote!(macro));
            }
            return;
        }
        let path = [&[crate_name.to_owned()], at.as_slice()].concat().join("::");
        let name = &item.mac.path;
        let parts: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
        for part in parts.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';')) {
            let part: TokenStream = part.iter().cloned().collect();
            if !part.is_empty() && !name.is_ident("thread_local") {
                self.lines.insert(format!("{path}: {}! {}", text(name), text(part)));
            }
        }
    }

    fn fields(&mut self, path: &str, fields: &Fields) {
        for (i, field) in fields.iter().enumerate() {
            if public(&field.vis) {
                let name = field.ident.as_ref().map_or_else(|| i.to_string(), ToString::to_string);
                let ty = &field.ty;
                self.line(&format!("{path}::{name}"), &field.attrs, quote!(field #ty));
            }
        }
    }

    /// A function, and what tells more of it than its signature.
    fn function(&mut self, path: &str, attributes: &[Attribute], signature: &Signature, more: impl ToTokens) {
        let Signature { constness, asyncness, safety, abi, generics, inputs, output, .. } = signature;
        let bounds = &generics.where_clause;
        let head = quote!(#constness #asyncness #safety #abi fn);
        self.line(path, attributes, quote!(#head #generics (#inputs) #output #bounds #more));
    }

    fn trait_item(&mut self, path: &str, item: &TraitItem) {
        match item {
            TraitItem::Const(item) => {
                let (ty, default) = (&item.ty, item.default.as_ref().map(|_| quote!({ .. })));
                self.line(&format!("{path}::{}", item.ident), &item.attrs, quote!(const #ty #default));
            }
            TraitItem::Fn(item) => {
                let body = item.default.as_ref().map(|_| quote!({ .. }));
                let path = format!("{path}::{}", item.sig.ident);
                self.function(&path, &item.attrs, &item.sig, body);
            }
            TraitItem::Type(item) => {
                let (generics, colon, bounds) = (&item.generics, &item.colon_token, &item.bounds);
                let line = quote!(type #generics #colon #bounds);
                self.line(&format!("{path}::{}", item.ident), &item.attrs, line);
            }
            other => self.line(path, &[], other),
        }
    }

    /// The members of a type that can be reached, or a trait that it implements.
    fn implementation(&mut self, at: &At, item: &ItemImpl) {
        let (unsafety, generics, ty) = (&item.unsafety, &item.generics, &item.self_ty);
        let bounds = &generics.where_clause;
        let of = self.paths(at, ty);
        if let Some((of_trait, _)) = &item.trait_ {
            let line = quote!(#unsafety impl #generics #of_trait for #ty #bounds);
            // Another crate's trait for another crate's type is none of ours; a private trait is nobody's.
            let paths = match (of, self.paths(at, of_trait)) {
                (_, Some(traits)) if traits.is_empty() => return,
                (of, traits) => of.or(traits).unwrap_or_default(),
            };
            paths.iter().for_each(|path| self.line(path, &item.attrs, &line));
            return;
        }
        // Which of a generic type's forms have the member.
        let forms = text(ty).contains('<').then(|| quote!(in impl #generics #ty #bounds));
        for path in of.unwrap_or_default() {
            for member in &item.items {
                match member {
                    ImplItem::Const(member) if public(&member.vis) => {
                        let ty = &member.ty;
                        self.line(
                            &format!("{path}::{}", member.ident),
                            &member.attrs,
                            quote!(const #ty #forms),
                        );
                    }
                    ImplItem::Fn(member) if public(&member.vis) => {
                        let path = format!("{path}::{}", member.sig.ident);
                        self.function(&path, &member.attrs, &member.sig, &forms);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The public paths of the type or trait that `path` means in module `at`; `None` for another crate's.
    fn paths(&self, at: &At, path: impl ToTokens) -> Option<BTreeSet<String>> {
        let path: syn::Path = syn::parse2(path.into_token_stream()).ok()?;
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let found = self.source.resolve(at, &names)?;
        Some(self.public.get(&found).cloned().unwrap_or_default())
    }
}
