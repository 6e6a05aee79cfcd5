//! Operators of two sides.

use jaq_core::{
    load::parse::BinaryOp,
    ops::{Cmp, Math},
};

/// GroupingSide on which operations without parentheses are grouped; such as have none need parentheses.
pub enum GroupingSide {
    Left,
    Right,
    None,
}

/// Return an operator, how strongly it binds, and on which side it groups.
pub fn operator<'s>(text: &str) -> Option<(BinaryOp<&'s str>, u8, GroupingSide)> {
    Some(match text {
        "//" => (BinaryOp::Alt, 1, GroupingSide::Right),
        "=" => (BinaryOp::Assign, 2, GroupingSide::None),
        "|=" => (BinaryOp::Update, 2, GroupingSide::None),
        "//=" => (BinaryOp::UpdateAlt, 2, GroupingSide::None),
        "+=" => (BinaryOp::UpdateMath(Math::Add), 2, GroupingSide::None),
        "-=" => (BinaryOp::UpdateMath(Math::Sub), 2, GroupingSide::None),
        "*=" => (BinaryOp::UpdateMath(Math::Mul), 2, GroupingSide::None),
        "/=" => (BinaryOp::UpdateMath(Math::Div), 2, GroupingSide::None),
        "%=" => (BinaryOp::UpdateMath(Math::Rem), 2, GroupingSide::None),
        "or" => (BinaryOp::Or, 3, GroupingSide::Left),
        "and" => (BinaryOp::And, 4, GroupingSide::Left),
        "==" => (BinaryOp::Cmp(Cmp::Eq), 5, GroupingSide::None),
        "!=" => (BinaryOp::Cmp(Cmp::Ne), 5, GroupingSide::None),
        "<" => (BinaryOp::Cmp(Cmp::Lt), 5, GroupingSide::None),
        ">" => (BinaryOp::Cmp(Cmp::Gt), 5, GroupingSide::None),
        "<=" => (BinaryOp::Cmp(Cmp::Le), 5, GroupingSide::None),
        ">=" => (BinaryOp::Cmp(Cmp::Ge), 5, GroupingSide::None),
        "+" => (BinaryOp::Math(Math::Add), 6, GroupingSide::Left),
        "-" => (BinaryOp::Math(Math::Sub), 6, GroupingSide::Left),
        "*" => (BinaryOp::Math(Math::Mul), 7, GroupingSide::Left),
        "/" => (BinaryOp::Math(Math::Div), 7, GroupingSide::Left),
        "%" => (BinaryOp::Math(Math::Rem), 7, GroupingSide::Left),
        _ => return None,
    })
}

/// Return how strongly an operator binds.
pub fn operator_strength(text: &str) -> Option<u8> {
    operator(text).map(|(_, strength, _)| strength)
}
