//! Numbers by jq's rules. Unlike jq's, integers have all their digits in calculations too.

use std::rc::Rc;

use jaq_json::Num;

/// Bound below which every double that is an integer is one of `i64`, too.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Return a number of a program or a JSON text.
pub fn literal(digits: &str) -> Num {
    match Num::from_str_radix(digits, 10) {
        Some(integer) => integer,
        None => Num::Dec(Rc::new(digits.to_owned())),
    }
}

/// Return a number as a double.
pub fn float(number: &Num) -> f64 {
    match number {
        Num::Int(int) => *int as f64,
        Num::Float(float) => *float,
        Num::BigInt(_) | Num::Dec(_) => number.to_string().parse().unwrap_or(f64::NAN),
    }
}

/// Return a double as an integer if it is one.
pub fn from_float(float: f64) -> Num {
    if float.fract() == 0.0 && float.abs() < MAX_EXACT && !(float == 0.0 && float.is_sign_negative()) {
        Num::Int(float as isize)
    } else {
        Num::Float(float)
    }
}

/// Return a number that has no fraction as an integer.
pub fn as_integer(number: &Num) -> Option<isize> {
    match number {
        Num::Int(int) => Some(*int),
        other => {
            let float = float(other);
            // Saturates.
            (float.fract() == 0.0).then_some(float as isize)
        }
    }
}

/// Return whether a divisor is zero.
pub fn divides_by_zero(divisor: &Num) -> bool {
    float(divisor) == 0.0
}

/// Return a quotient, which is an integer where it has no rest.
pub fn divide(left: &Num, right: &Num) -> Num {
    if let (Num::Int(left), Num::Int(right)) = (left, right)
        && let Some(0) = left.checked_rem(*right)
        && let Some(quotient) = left.checked_div(*right)
    {
        return Num::Int(quotient);
    }
    from_float(float(left) / float(right))
}

/// Return the rest of a division of integers; `None` if the divisor is zero.
pub fn remainder(left: &Num, right: &Num) -> Option<Num> {
    if float(left).is_nan() || float(right).is_nan() {
        return Some(Num::Float(f64::NAN));
    }
    let integer = |number: &Num| match number {
        Num::Int(_) | Num::BigInt(_) => number.clone(),
        // Saturates.
        other => Num::Int(float(other) as isize),
    };
    let right = integer(right);
    (right != Num::Int(0)).then(|| integer(left) % right)
}

/// Return a number's text. What the input or the program has written keeps its digits; a result has the shortest ones.
pub fn text(number: &Num) -> String {
    match number {
        Num::Int(_) | Num::BigInt(_) => number.to_string(),
        Num::Float(float) => float_text(*float),
        Num::Dec(digits) => written_text(digits),
    }
}

/// Return a written number with an exponent only where the digits alone don't say it, as decimal arithmetic writes it.
fn written_text(written: &str) -> String {
    let (sign, unsigned) = match written.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", written.strip_prefix('+').unwrap_or(written)),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent that no machine's integer holds stays as it is written.
    let Ok(exponent) = exponent.parse::<i64>() else { return written.to_owned() };
    let exponent = exponent - fraction.len() as i64;
    let digits = format!("{whole}{fraction}");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let length = digits.len() as i64;
    let adjusted = exponent + length - 1;
    if exponent > 0 || adjusted < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E{adjusted:+}");
    }
    let point = length + exponent;
    match usize::try_from(point) {
        Ok(point) if exponent == 0 => format!("{sign}{}", &digits[..point]),
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    }
}

fn float_text(float: f64) -> String {
    if float.is_nan() {
        return "null".to_owned();
    }
    let float = float.clamp(f64::MIN, f64::MAX);
    // Of the form -d.ddde-dd.
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits = mantissa.replace('.', "");
    let point = exponent + 1;
    if point <= -4 || point > digits.len() as i32 + 15 {
        let (first, rest) = digits.split_at(1);
        let rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    if point <= 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize));
    }
    let point = point as usize;
    if digits.len() <= point {
        return format!("{sign}{digits}{}", "0".repeat(point - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..point], &digits[point..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_jq_writes_them() {
        for (float, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (1e15, "1000000000000000"),
            (1e17, "1e+17"),
            (1.5e17, "1.5e+17"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(text(&Num::Float(float)), expected);
        }
        assert_eq!(text(&literal("1.10")), "1.10");
        for (written, expected) in [
            ("1e999", "1E+999"),
            ("-1.50e2", "-150"),
            ("100e-2", "1.00"),
            ("1.5e2", "1.5E+2"),
            ("0.00001", "0.00001"),
            ("0.00000001", "1E-8"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert_eq!(text(&literal(written)), expected);
        }
        assert_eq!(text(&literal("9007199254740993")), "9007199254740993");
    }

    #[test]
    fn quotients_without_a_rest_are_integers() {
        let quotient = |left, right| text(&divide(&Num::Int(left), &Num::Int(right)));
        assert_eq!(quotient(6, 3), "2");
        assert_eq!(quotient(1, 2), "0.5");
        assert_eq!(quotient(-9_007_199_254_740_993, -1), "9007199254740993");
        assert_eq!(quotient(isize::MIN, -1), "9223372036854776000");
    }

    #[test]
    fn rests_are_of_integers() {
        let rest = |left: &str, right: &str| remainder(&literal(left), &literal(right)).map(|rest| text(&rest));
        assert_eq!(rest("5", "-2").unwrap(), "1");
        assert_eq!(rest("-5.9", "2.9").unwrap(), "-1");
        assert_eq!(rest("1e999", "3").unwrap(), "1");
        assert_eq!(rest("1", "0.5"), None);
    }
}
