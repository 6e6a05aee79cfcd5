//! Changes of a value by paths, by jq's rules: what is missing on the way is created, and deletions don't shift each other.

use std::{ops::Range, rc::Rc};

use jaq_core::Exn;
use jaq_json::Val;

use super::{NativeFilters, bound, one_value, pop_two};
use crate::value::{
    JqError, JqResult, JqValue, cannot_index, item_place, message::kind_name, number::float, slice_range,
};

/// Maximum length of a path.
const MAX_JQ_PATH_LENGTH: usize = 10_000;
/// Maximum index at which an item is set.
const MAX_ITEM_INDEX: usize = 536_870_911;

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        ("setpath", bound(&["$path", "$x"]), |mut cv| {
            let (path, new) = pop_two(&mut cv.0);
            one_value(path_keys(&path.0).and_then(|path| set_path(cv.1.0, &path, new.0)).map(JqValue))
        }),
        ("delpaths", bound(&["$paths"]), |mut cv| {
            let deleted = match &cv.0.pop_var().0 {
                Val::Arr(paths) => paths.iter().map(deleted_keys).collect::<JqResult<Vec<_>>>(),
                _ => Err(JqError::str("Paths must be specified as an array")),
            };
            one_value(deleted.and_then(|paths| delete_paths(cv.1.0, paths)).map(JqValue))
        }),
        // `p |= f`: each path gets the first output of `f`, or is deleted where there is none.
        ("_modify", bound(&["p", "f"]), |mut cv| {
            let ((f, f_context), (p, p_context)) = (cv.0.pop_fun(), cv.0.pop_fun());
            let changed = || {
                let mut paths = Vec::new();
                for found in p.paths((p_context, (cv.1.clone(), Default::default()))) {
                    let mut path: Vec<Val> = found?.1.iter().map(|key| key.0.clone()).collect();
                    path.reverse();
                    check_length(path.len()).map_err(Exn::from)?;
                    paths.push(path);
                }
                let (mut value, mut deleted) = (cv.1.0, Vec::new());
                for path in paths {
                    let mut first = |old: Val| {
                        let new = f.run((f_context.clone(), JqValue(old))).next().transpose()?;
                        Ok::<_, Exn<'_, JqValue>>(new.map(|new| new.0))
                    };
                    if exists(&value, &path) {
                        if !update_path(&mut value, &path, &mut first)? {
                            deleted.push(path);
                        }
                    } else if let Some(new) = first(Val::Null)? {
                        value = set_path(value, &path, new).map_err(Exn::from)?;
                    } else {
                        deleted.push(path);
                    }
                }
                delete_paths(value, deleted).map(JqValue).map_err(Exn::from)
            };
            Box::new(std::iter::once(changed()))
        }),
    ]
}

fn path_keys(path: &Val) -> JqResult<Vec<Val>> {
    match path {
        Val::Arr(keys) => check_length(keys.len()).map(|()| keys.to_vec()),
        _ => Err(JqError::str("Path must be specified as an array")),
    }
}

fn deleted_keys(path: &Val) -> JqResult<Vec<Val>> {
    match path {
        Val::Arr(_) => path_keys(path),
        _ => Err(JqError::str(format!("Path must be specified as array, not {}", kind_name(path)))),
    }
}

fn check_length(length: usize) -> JqResult<()> {
    if length > MAX_JQ_PATH_LENGTH { Err(JqError::str("Path too deep")) } else { Ok(()) }
}

/// Return the error of a value that can't have a key set: those of an array can be read, if they are arrays.
fn cannot_update(value: &Val, key: &Val) -> JqError {
    match (value, key) {
        (Val::Arr(_), Val::Arr(_)) => JqError::str("Cannot update field at array index of array"),
        _ => cannot_index(value, key),
    }
}

/// Return whether there is something at `path`.
fn exists(value: &Val, path: &[Val]) -> bool {
    let Some((key, rest)) = path.split_first() else { return true };
    match (value, key) {
        (Val::Obj(members), Val::TStr(_)) => members.get(key).is_some_and(|member| exists(member, rest)),
        (Val::Arr(items), Val::Num(number)) => {
            let item = item_place(number, items.len()).and_then(|place| items.get(place));
            item.is_some_and(|item| exists(item, rest))
        }
        (Val::Arr(items), Val::Obj(_)) => {
            slice_range(key, items.len()).is_ok_and(|range| exists(&Val::Arr(items[range].to_vec().into()), rest))
        }
        _ => false,
    }
}

/// Replace the value at `path`, which exists, by what `f` makes of it; false, with null there, if it makes nothing.
fn update_path<E: From<JqError>>(
    value: &mut Val,
    path: &[Val],
    f: &mut dyn FnMut(Val) -> Result<Option<Val>, E>,
) -> Result<bool, E> {
    let Some((key, rest)) = path.split_first() else {
        let new = f(std::mem::take(value))?;
        let made = new.is_some();
        *value = new.unwrap_or_default();
        return Ok(made);
    };
    match (&mut *value, key) {
        (Val::Obj(members), Val::TStr(_)) => match Rc::make_mut(members).get_mut(key) {
            Some(member) => update_path(member, rest, f),
            None => Ok(true),
        },
        (Val::Arr(items), Val::Num(number)) => {
            match item_place(number, items.len()).and_then(|place| Rc::make_mut(items).get_mut(place)) {
                Some(item) => update_path(item, rest, f),
                None => Ok(true),
            }
        }
        (Val::Arr(items), Val::Obj(_)) => {
            let range = slice_range(key, items.len())?;
            let mut slice = Val::Arr(items[range.clone()].to_vec().into());
            let made = update_path(&mut slice, rest, f)?;
            if made || !rest.is_empty() {
                splice(items, range, slice)?;
            }
            Ok(made)
        }
        (other, _) => Err(cannot_update(other, key).into()),
    }
}

fn splice(items: &mut Rc<Vec<Val>>, range: Range<usize>, new: Val) -> JqResult<()> {
    let Val::Arr(new) = new else {
        return Err(JqError::str("A slice of an array can only be assigned another array"));
    };
    drop(Rc::make_mut(items).splice(range, new.iter().cloned()));
    Ok(())
}

/// Return `value` with `new` at `path`.
fn set_path(mut value: Val, path: &[Val], new: Val) -> JqResult<Val> {
    put(&mut value, path, new)?;
    Ok(value)
}

fn put(value: &mut Val, path: &[Val], new: Val) -> JqResult<()> {
    let Some((key, rest)) = path.split_first() else {
        *value = new;
        return Ok(());
    };
    if matches!(value, Val::Null) {
        *value = match key {
            Val::TStr(_) => Val::obj(Default::default()),
            Val::Num(_) | Val::Obj(_) => Val::Arr(Rc::default()),
            _ => return Err(cannot_update(value, key)),
        };
    }
    match (&mut *value, key) {
        (Val::Obj(members), Val::TStr(_)) => put(Rc::make_mut(members).entry(key.clone()).or_default(), rest, new),
        (Val::Arr(items), Val::Num(number)) => {
            if float(number).is_nan() {
                return Err(JqError::str("Cannot set array element at NaN index"));
            }
            let place =
                item_place(number, items.len()).ok_or_else(|| JqError::str("Out of bounds negative array index"))?;
            let items = Rc::make_mut(items);
            if place > MAX_ITEM_INDEX {
                return Err(JqError::str("Array index too large"));
            }
            if place >= items.len() {
                let more = place + 1 - items.len();
                items.try_reserve(more).map_err(|_| JqError::str("Array index too large"))?;
                items.resize(place + 1, Val::Null);
            }
            put(&mut items[place], rest, new)
        }
        (Val::Arr(items), Val::Obj(_)) => {
            let range = slice_range(key, items.len())?;
            let mut slice = Val::Arr(items[range.clone()].to_vec().into());
            put(&mut slice, rest, new)?;
            splice(items, range, slice)
        }
        (Val::TStr(_), Val::Obj(_)) => Err(JqError::str("Cannot update string slices")),
        (other, _) => Err(cannot_update(other, key)),
    }
}

/// Return `value` without what stands at `paths`, all of which are paths of `value` itself.
fn delete_paths(mut value: Val, paths: Vec<Vec<Val>>) -> JqResult<Val> {
    let paths: Vec<&[Val]> = paths.iter().map(Vec::as_slice).collect();
    delete(&mut value, paths)?;
    Ok(value)
}

fn delete(value: &mut Val, mut paths: Vec<&[Val]>) -> JqResult<()> {
    if paths.is_empty() || matches!(value, Val::Null) && paths.iter().all(|path| !path.is_empty()) {
        return Ok(());
    }
    if paths.iter().any(|path| path.is_empty()) {
        *value = Val::Null;
        return Ok(());
    }
    paths.sort_by(|left, right| left[0].cmp(&right[0]));
    let mut whole = Vec::new();
    for group in paths.chunk_by(|left, right| left[0] == right[0]) {
        let key = &group[0][0];
        if group.iter().any(|path| path.len() == 1) {
            whole.push(key);
            check_deletable(value, key)?;
            continue;
        }
        let below: Vec<&[Val]> = group.iter().map(|path| &path[1..]).collect();
        match (&mut *value, key) {
            (Val::Obj(members), Val::TStr(_)) => {
                if let Some(member) = Rc::make_mut(members).get_mut(key) {
                    delete(member, below)?;
                }
            }
            (Val::Arr(items), Val::Num(number)) => {
                if let Some(item) = item_place(number, items.len()).and_then(|place| Rc::make_mut(items).get_mut(place))
                {
                    delete(item, below)?;
                }
            }
            (Val::Arr(items), Val::Obj(_)) => {
                let range = slice_range(key, items.len())?;
                let mut slice = Val::Arr(items[range.clone()].to_vec().into());
                delete(&mut slice, below)?;
                splice(items, range, slice)?;
            }
            (other, _) => return Err(cannot_update(other, key)),
        }
    }
    delete_keys(value, &whole);
    Ok(())
}

fn check_deletable(value: &Val, key: &Val) -> JqResult<()> {
    match (value, key) {
        (Val::Obj(_), Val::TStr(_)) | (Val::Arr(_), Val::Num(_) | Val::Obj(_)) => Ok(()),
        (Val::Arr(_), _) => Err(JqError::str(format!("Cannot delete {} element of array", kind_name(key)))),
        (Val::Obj(_), _) => Err(JqError::str(format!("Cannot delete {} field of object", kind_name(key)))),
        _ => Err(JqError::str(format!("Cannot delete fields from {}", kind_name(value)))),
    }
}

fn delete_keys(value: &mut Val, keys: &[&Val]) {
    if keys.is_empty() {
        return;
    }
    match value {
        Val::Obj(members) => {
            let members = Rc::make_mut(members);
            match keys {
                [key] => drop(members.shift_remove(*key)),
                _ => members.retain(|name, _| keys.binary_search(&name).is_err()),
            }
        }
        Val::Arr(items) => {
            let mut gone = vec![false; items.len()];
            for key in keys {
                let range = match key {
                    Val::Num(number) => {
                        item_place(number, items.len()).filter(|at| *at < items.len()).map(|at| at..at + 1)
                    }
                    slice => slice_range(slice, items.len()).ok(),
                };
                gone[range.unwrap_or_default()].fill(true);
            }
            let mut gone = gone.into_iter();
            Rc::make_mut(items).retain(|_| !gone.next().unwrap_or(false));
        }
        _ => {}
    }
}
