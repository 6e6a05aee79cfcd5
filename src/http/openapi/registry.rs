//! Schemas as the routes register them. utoipa keeps one of two schemas of the same name and drops the other; in unit tests such a
//! pair is found.

/// Registers handlers, as [`utoipa_axum::routes!`] does; in unit tests so that [`collisions`] sees each schema of theirs.
macro_rules! routes {
    ($($handlers:tt)*) => {{
        let routes = utoipa_axum::routes!($($handlers)*);
        #[cfg(test)]
        let routes = $crate::http::openapi::marked(routes);
        routes
    }};
}
pub(crate) use routes;

#[cfg(test)]
pub(crate) use marks::{collisions, marked, unmark};

/// Each schema a second time under a name that holds its digest: two of the same name then stay two.
#[cfg(test)]
mod marks {
    use std::collections::BTreeMap;

    use sha2::{Digest, Sha256};
    use utoipa::openapi::{OpenApi, RefOr, Schema};
    use utoipa_axum::router::UtoipaMethodRouter;

    /// Stands between a schema's name and its digest; part of no name.
    const MARK: char = '#';

    /// The same routes, with each schema a second time under a name that holds its digest.
    pub(crate) fn marked<S>((schemas, paths, router): UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S> {
        let mark = |(name, schema): &(String, RefOr<Schema>)| {
            let json = serde_json::to_vec(schema).unwrap_or_default();
            (format!("{name}{MARK}{}", hex::encode(Sha256::digest(json))), schema.clone())
        };
        let marks: Vec<_> = schemas.iter().map(mark).collect();
        (schemas.into_iter().chain(marks).collect(), paths, router)
    }

    /// The names under which the routes registered several schemas.
    pub(crate) fn collisions(document: &OpenApi) -> Vec<String> {
        let mut counts = BTreeMap::<&str, usize>::new();
        let names = document.components.iter().flat_map(|components| components.schemas.keys());
        for (name, _) in names.filter_map(|name| name.split_once(MARK)) {
            *counts.entry(name).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.to_owned()).collect()
    }

    /// Removes what [`marked`] added.
    pub(crate) fn unmark(document: &mut OpenApi) {
        if let Some(components) = &mut document.components {
            components.schemas.retain(|name, _| !name.contains(MARK));
        }
    }
}
