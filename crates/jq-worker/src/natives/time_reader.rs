//! Times out of texts, by the rules of C's `strptime`.

use crate::value::JqValue;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// What a day of the week and of the year are that no date says.
const NO_WEEKDAY: i64 = 8;
const NO_YEAR_DAY: i64 = 367;
/// Formats that stand for others are nested no deeper.
const MAX_NESTED_FORMATS: usize = 3;

/// What has been read of a text.
pub struct TimeReader<'a> {
    /// What has not been read.
    pub rest: &'a str,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    weekday: i64,
    year_day: i64,
    afternoon: Option<bool>,
    nested: usize,
}

impl<'a> TimeReader<'a> {
    /// Begin with a text.
    pub fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            year: 1900,
            month: 0,
            day: 0,
            hour: 0,
            minute: 0,
            second: 0,
            weekday: NO_WEEKDAY,
            year_day: NO_YEAR_DAY,
            afternoon: None,
            nested: 0,
        }
    }

    /// Read by a format; `None` if the text is otherwise.
    pub fn format(&mut self, format: &str) -> Option<()> {
        self.nested += 1;
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character.is_ascii_whitespace() {
                self.skip_space();
            } else if character == '%' {
                // Flags and widths don't matter to what is read.
                let directive = characters.find(|character| !"_-0^#EO".contains(*character))?;
                self.directive(directive)?;
            } else {
                self.rest = self.rest.strip_prefix(character)?;
            }
        }
        self.nested -= 1;
        Some(())
    }

    fn directive(&mut self, directive: char) -> Option<()> {
        match directive {
            'Y' => self.year = self.number(4, -9999..=9999)?,
            'y' => {
                let year = self.number(2, 0..=99)?;
                self.year = if year < 69 { 2000 + year } else { 1900 + year };
            }
            'C' => self.year = self.number(2, 0..=99)? * 100 + self.year.rem_euclid(100),
            'm' => self.month = self.number(2, 1..=12)? - 1,
            'd' | 'e' => self.day = self.number(2, 1..=31)?,
            'H' | 'k' => self.hour = self.number(2, 0..=23)?,
            'I' | 'l' => {
                self.hour = self.number(2, 1..=12)? % 12;
                self.set_half();
            }
            'M' => self.minute = self.number(2, 0..=59)?,
            'S' => self.second = self.number(2, 0..=61)?,
            'j' => self.year_day = self.number(3, 1..=366)? - 1,
            'u' => self.weekday = self.number(1, 1..=7)? % 7,
            'w' => self.weekday = self.number(1, 0..=6)?,
            'U' | 'W' | 'V' => drop(self.number(2, 0..=53)?),
            'G' => drop(self.number(4, 0..=9999)?),
            'g' => drop(self.number(2, 0..=99)?),
            'b' | 'B' | 'h' => self.month = self.name(&MONTHS)?,
            'a' | 'A' => self.weekday = self.name(&WEEKDAYS)?,
            'p' | 'P' => {
                let half = self.rest.get(..2)?.to_ascii_lowercase();
                self.afternoon = Some(match half.as_str() {
                    "am" => false,
                    "pm" => true,
                    _ => return None,
                });
                self.rest = &self.rest[2..];
                self.set_half();
            }
            'D' | 'x' => self.nested_format("%m/%d/%y")?,
            'F' => self.nested_format("%Y-%m-%d")?,
            'T' | 'X' => self.nested_format("%H:%M:%S")?,
            'R' => self.nested_format("%H:%M")?,
            'r' => self.nested_format("%I:%M:%S %p")?,
            'c' => self.nested_format("%a %b %e %H:%M:%S %Y")?,
            's' => self.since_1970()?,
            'z' => self.offset()?,
            'Z' => self.rest = self.rest.trim_start_matches(|character: char| character.is_ascii_alphabetic()),
            'n' | 't' => self.skip_space(),
            '%' => self.rest = self.rest.strip_prefix('%')?,
            _ => return None,
        }
        Some(())
    }

    fn nested_format(&mut self, format: &str) -> Option<()> {
        if self.nested > MAX_NESTED_FORMATS { None } else { self.format(format) }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(|character: char| character.is_ascii_whitespace());
    }

    fn set_half(&mut self) {
        if let Some(afternoon) = self.afternoon {
            self.hour = self.hour % 12 + if afternoon { 12 } else { 0 };
        }
    }

    fn number(&mut self, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.skip_space();
        let negative = *range.start() < 0 && self.rest.starts_with('-');
        let unsigned = if negative { &self.rest[1..] } else { self.rest };
        let length = unsigned.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        let number: i64 = unsigned[..length].parse().ok()?;
        self.rest = &unsigned[length..];
        let number = if negative { -number } else { number };
        range.contains(&number).then_some(number)
    }

    /// Read a name of which three letters are enough; return its place.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        let letters = self.rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = self.rest[..letters].to_ascii_lowercase();
        for (place, name) in names.iter().enumerate() {
            let length = match () {
                () if word.starts_with(name) => name.len(),
                () if word.starts_with(&name[..3]) => 3,
                () => continue,
            };
            self.rest = &self.rest[length..];
            return i64::try_from(place).ok();
        }
        None
    }

    fn since_1970(&mut self) -> Option<()> {
        let seconds = self.number(12, -99_999_999_999..=999_999_999_999)?;
        let (days, within) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        (self.hour, self.minute, self.second) = (within / 3600, within / 60 % 60, within % 60);
        // The last year and month that don't begin after the day.
        let mut year = 1970 + days.div_euclid(366);
        while days_before(year + 1, 0) <= days {
            year += 1;
        }
        let month = (0..12).rev().find(|month| days_before(year, *month) <= days)?;
        (self.year, self.month, self.day) = (year, month, days - days_before(year, month) + 1);
        Some(())
    }

    /// Read an offset from UTC, which changes nothing.
    fn offset(&mut self) -> Option<()> {
        self.skip_space();
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(());
        }
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        self.number(2, 0..=14)?;
        if let Some(rest) = self.rest.strip_prefix(':') {
            self.rest = rest;
        }
        if self.rest.starts_with(|character: char| character.is_ascii_digit()) {
            self.number(2, 0..=59)?;
        }
        Some(())
    }

    /// Return year, month from 0, day, hour, minute, second, day of the week from Sunday, day of the year from 0.
    pub fn broken_down(&self) -> Vec<JqValue> {
        let (mut month, mut day) = (self.month, self.day);
        if self.year_day != NO_YEAR_DAY && day == 0 {
            let day_of_all = days_before(self.year, 0) + self.year_day;
            month = (0..12).rev().find(|month| days_before(self.year, *month) <= day_of_all).unwrap_or(0);
            day = day_of_all - days_before(self.year, month) + 1;
        }
        let date = days_before(self.year, month) + day - 1;
        let dated = day != 0;
        // The first day of 1970 was a Thursday.
        let weekday = if self.weekday == NO_WEEKDAY && dated { (date + 4).rem_euclid(7) } else { self.weekday };
        let year_day = if dated { date - days_before(self.year, 0) } else { self.year_day };
        [self.year, month, day, self.hour, self.minute, self.second, weekday, year_day]
            .map(|member| JqValue::from(member as isize))
            .to_vec()
    }
}

/// Return the days from 1970 to the first day of a month, which counts from 0.
pub fn days_before(year: i64, month: i64) -> i64 {
    // Years begin in March, so that a leap day is the last.
    let year = if month < 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: &str) -> Option<String> {
        let mut reader = TimeReader::new(text);
        reader.format(format)?;
        let members: Vec<_> = reader.broken_down().iter().map(ToString::to_string).collect();
        Some(members.join(" ") + reader.rest)
    }

    #[test]
    fn texts_are_read_as_c_reads_them() {
        for (text, format, expected) in [
            ("2015-03-05T23:51:47Z", "%Y-%m-%dT%H:%M:%SZ", "2015 2 5 23 51 47 4 63"),
            ("Thursday, March 05, 2015", "%A, %B %d, %Y", "2015 2 5 0 0 0 4 63"),
            ("thu 5 mar 15 11:51 pm", "%a %e %b %y %I:%M %p", "2015 2 5 23 51 0 4 63"),
            ("12:05 AM", "%I:%M %p", "1900 0 0 0 5 0 8 367"),
            ("2015 64", "%Y %j", "2015 2 5 0 0 0 4 63"),
            ("2015-03-05 +01:30 CET!", "%F %z %Z", "2015 2 5 0 0 0 4 63!"),
            ("1425599507", "%s", "2015 2 5 23 51 47 4 63"),
            ("-1", "%s", "1969 11 31 23 59 59 3 364"),
            ("10%", "%H%%", "1900 0 0 10 0 0 8 367"),
        ] {
            assert_eq!(read(text, format).unwrap(), expected, "{text}");
        }
        assert_eq!(read("2015-13-01", "%Y-%m-%d"), None);
        assert_eq!(read("x", "%q"), None);
    }
}
