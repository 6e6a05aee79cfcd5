//! Arguments that a miner will put on a command line of ffmpeg or Blender. Only listed flags are accepted, each with
//! the values that it takes. Flags that read or write files, open addresses, load plug-ins or run scripts are not on
//! the list.

use am_core::validation::{FieldPath, Violation};

/// A flag with its names and the value that must follow it.
pub(super) struct AllowedFlag {
    names: &'static [&'static str],
    value: FlagValue,
}

/// Values that a flag accepts.
#[derive(Clone, Copy)]
enum FlagValue {
    /// No value: the next argument is a flag again.
    Nothing,
    /// An integer of this range.
    Integer(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Letters, digits and underscores, at most 32.
    Name,
    /// Seconds, or hours, minutes and seconds.
    Time,
    /// Bits per second, with suffix k or M.
    Bitrate,
    /// A number, or two numbers separated by this character.
    Ratio(char),
    /// Words of this list, each with a preceding plus sign.
    PlusList(&'static [&'static str]),
    /// A stream specifier of the input: `0:v:0`, `0:a?`.
    Streams,
    /// A chain of these filters with plain parameters.
    Filters(&'static [&'static str]),
    /// A name chosen by the scene's author: letters, digits, spaces, `_`, `-` and `.`, not starting with `-`.
    Label,
}

use FlagValue::{Bitrate, Filters, Integer, Label, Name, Nothing, PlusList, Ratio, Streams, Time, Word};

const fn allowed_flag(names: &'static [&'static str], value: FlagValue) -> AllowedFlag {
    AllowedFlag { names, value }
}

/// Video filters that read nothing but their input.
const VIDEO_FILTERS: &[&str] = &[
    "bwdif",
    "colorbalance",
    "crop",
    "cropdetect",
    "deband",
    "deblock",
    "eq",
    "fade",
    "format",
    "fps",
    "gblur",
    "hflip",
    "hqdn3d",
    "hue",
    "negate",
    "nlmeans",
    "pad",
    "rotate",
    "scale",
    "setdar",
    "setpts",
    "setsar",
    "thumbnail",
    "tile",
    "transpose",
    "trim",
    "unsharp",
    "vflip",
    "vignette",
    "yadif",
];

/// Audio filters that read nothing but their input.
const AUDIO_FILTERS: &[&str] = &[
    "acompressor",
    "adelay",
    "afade",
    "aformat",
    "agate",
    "alimiter",
    "apad",
    "aresample",
    "asetpts",
    "asetrate",
    "atempo",
    "atrim",
    "bass",
    "compand",
    "dynaudnorm",
    "equalizer",
    "highpass",
    "loudnorm",
    "lowpass",
    "pan",
    "silenceremove",
    "treble",
    "volume",
];

/// Flags of ffmpeg: options of the output.
pub(super) const FFMPEG_FLAGS: &[AllowedFlag] = &[
    allowed_flag(&["-ss", "-t", "-to"], Time),
    allowed_flag(&["-an", "-vn", "-sn", "-dn", "-shortest"], Nothing),
    allowed_flag(&["-r"], Ratio('/')),
    allowed_flag(&["-aspect"], Ratio(':')),
    allowed_flag(&["-frames:v"], Integer(1, 10_000_000)),
    allowed_flag(&["-b:v", "-b:a", "-maxrate", "-minrate", "-bufsize"], Bitrate),
    allowed_flag(&["-crf", "-qp"], Integer(0, 63)),
    allowed_flag(&["-q:v", "-q:a", "-qscale:v", "-qscale:a"], Integer(0, 63)),
    allowed_flag(&["-g", "-keyint_min"], Integer(0, 100_000)),
    allowed_flag(&["-bf", "-refs"], Integer(0, 16)),
    allowed_flag(&["-sc_threshold"], Integer(0, 1_000_000_000)),
    allowed_flag(&["-ac"], Integer(1, 8)),
    allowed_flag(&["-ar"], Integer(8_000, 192_000)),
    allowed_flag(&["-threads"], Integer(0, 128)),
    allowed_flag(&["-compression_level"], Integer(0, 12)),
    allowed_flag(&["-speed", "-cpu-used"], Integer(-16, 16)),
    allowed_flag(&["-row-mt"], Integer(0, 1)),
    allowed_flag(&["-map_metadata", "-map_chapters"], Integer(-1, -1)),
    allowed_flag(&["-map"], Streams),
    allowed_flag(&["-pix_fmt", "-color_primaries", "-color_trc", "-colorspace", "-sample_fmt"], Name),
    allowed_flag(&["-color_range"], Word(&["tv", "pc", "mpeg", "jpeg", "limited", "full"])),
    allowed_flag(&["-profile:v", "-profile:a"], Name),
    allowed_flag(&["-level"], Ratio('.')),
    allowed_flag(
        &["-tune"],
        Word(&[
            "film",
            "animation",
            "grain",
            "stillimage",
            "fastdecode",
            "zerolatency",
            "psnr",
            "ssim",
            "hq",
            "ll",
            "ull",
        ]),
    ),
    allowed_flag(&["-tag:v"], Word(&["avc1", "hvc1", "hev1", "av01", "vp09"])),
    allowed_flag(&["-fps_mode", "-vsync"], Word(&["passthrough", "cfr", "vfr", "drop", "auto"])),
    allowed_flag(
        &["-movflags"],
        PlusList(&["faststart", "frag_keyframe", "empty_moov", "default_base_moof", "use_metadata_tags"]),
    ),
    allowed_flag(&["-vf", "-filter:v"], Filters(VIDEO_FILTERS)),
    allowed_flag(&["-af", "-filter:a"], Filters(AUDIO_FILTERS)),
];

/// Flags of Blender. Scripts, add-ons, outputs and other files are controlled by the miner.
pub(super) const BLENDER_FLAGS: &[AllowedFlag] = &[
    allowed_flag(&["-t", "--threads"], Integer(0, 1024)),
    allowed_flag(&["-S", "--scene"], Label),
    allowed_flag(&["-j", "--frame-jump"], Integer(1, 1_048_574)),
    allowed_flag(&["-noaudio"], Nothing),
    allowed_flag(&["-Y", "--disable-autoexec"], Nothing),
    allowed_flag(&["--factory-startup"], Nothing),
    allowed_flag(&["--verbose"], Integer(0, 3)),
    // The following arguments are Cycles' own.
    allowed_flag(&["--"], Nothing),
    allowed_flag(
        &["--cycles-device"],
        Word(&[
            "CPU",
            "CUDA",
            "OPTIX",
            "HIP",
            "ONEAPI",
            "METAL",
            "CUDA+CPU",
            "OPTIX+CPU",
            "HIP+CPU",
            "ONEAPI+CPU",
            "METAL+CPU",
        ]),
    ),
    allowed_flag(&["--cycles-print-stats"], Nothing),
];

/// Faults of all arguments that are not on the list `known`, with their positions.
pub(super) fn argument_faults(known: &[AllowedFlag], arguments: &[String]) -> Vec<Violation> {
    let fault = |at: usize, message: String| Violation::new(FieldPath::from([at]).within(["custom_args"]), message);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let Some(flag) = known.iter().find(|flag| flag.names.contains(&argument.as_str())) else {
            let shown: String = argument.chars().take(60).collect();
            found.push(fault(at, format!("{shown:?} is not among the arguments that are allowed")));
            at += 1;
            continue;
        };
        if matches!(flag.value, Nothing) {
            at += 1;
            continue;
        }
        match arguments.get(at + 1) {
            None => found.push(fault(at, format!("{argument} needs a value after it"))),
            Some(value) if !flag.value.accepts(value) => {
                let shown: String = value.chars().take(60).collect();
                found.push(fault(
                    at + 1,
                    format!("{shown:?} is not a valid value of {argument}: {}", flag.value.words()),
                ));
            }
            Some(_) => {}
        }
        at += 2;
    }
    found
}

impl FlagValue {
    fn accepts(self, value: &str) -> bool {
        match self {
            Nothing => false,
            Integer(least, most) => {
                let digits = value.strip_prefix('-').unwrap_or(value);
                is_digits(digits, 12) && value.parse().is_ok_and(|number: i64| (least..=most).contains(&number))
            }
            Word(words) => words.contains(&value),
            Name => (1..=32).contains(&value.len()) && value.bytes().all(is_word_byte),
            Time => is_time(value),
            Bitrate => is_digits(value.strip_suffix(['k', 'M']).unwrap_or(value), 12),
            Ratio(between) => match value.split_once(between) {
                Some((above, below)) => is_digits(above, 6) && is_digits(below, 6),
                None => is_decimal(value),
            },
            PlusList(words) => {
                let flags = value.strip_prefix('+').unwrap_or(value);
                !flags.is_empty() && flags.split('+').all(|flag| words.contains(&flag))
            }
            Streams => is_streams(value),
            Filters(filters) => value.split(',').all(|filter| is_filter(filter, filters)),
            Label => {
                (1..=64).contains(&value.chars().count())
                    && !value.starts_with('-')
                    && value.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.'))
            }
        }
    }

    fn words(self) -> String {
        match self {
            Nothing => "none".to_owned(),
            Integer(least, most) => format!("a whole number from {least} to {most}"),
            Word(words) => format!("one of {}", words.join(", ")),
            Name => "letters, digits and _".to_owned(),
            Time => "seconds, or HH:MM:SS".to_owned(),
            Bitrate => "a number, with k or M after it".to_owned(),
            Ratio(between) => format!("a number, or two with {between} between them"),
            PlusList(words) => format!("+ and some of {}", words.join(", ")),
            Streams => "a stream such as 0:v:0 or 0:a?".to_owned(),
            Filters(filters) => format!("filters with plain parameters, some of {}", filters.join(", ")),
            Label => "letters, digits, blanks, _, - and .".to_owned(),
        }
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole, 9) && is_digits(fraction, 9)
}

fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let Some((seconds, before)) = parts.split_last() else { return false };
    before.len() <= 2 && is_decimal(seconds) && before.iter().all(|part| is_digits(part, 3))
}

fn is_streams(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.strip_suffix('?').unwrap_or(text);
    let mut parts = text.split(':');
    parts.next().is_some_and(|input| is_digits(input, 2))
        && parts.clone().count() <= 2
        && parts.all(|part| is_digits(part, 3) || matches!(part, "v" | "a" | "s"))
}

/// Whether a text is `name` or `name=parameters`. Parameters are numbers, names and arithmetic: no quotes, escapes,
/// brackets or leading slashes, and therefore no commas either.
fn is_filter(filter: &str, known: &[&str]) -> bool {
    let (name, parameters) = filter.split_once('=').map_or((filter, ""), |(name, rest)| (name, rest));
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '=' | '+' | '-' | '*' | '/' | '(' | ')' | '|')
    };
    let is_path = |value: &str| value.starts_with(['/', '.', '~']) || value.contains("..") || value.contains("//");
    known.contains(&name) && parameters.chars().all(plain) && !parameters.split([':', '=']).any(is_path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use am_core::validation::PathSegment;

    fn places(known: &[AllowedFlag], arguments: &[&str]) -> Vec<usize> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let found = argument_faults(known, &arguments);
        let place = |fault: &Violation| match fault.path.segments() {
            [PathSegment::Member(name), PathSegment::Item(at)] if name == "custom_args" => *at,
            other => panic!("{other:?}"),
        };
        found.iter().map(place).collect()
    }

    #[test]
    fn what_ffmpeg_is_asked_for_is_on_the_list() {
        let good: [&[&str]; 12] = [
            &[],
            &["-ss", "00:01:30.5", "-t", "10", "-an"],
            &["-r", "30000/1001", "-aspect", "16:9", "-level", "4.1"],
            &["-vf", "scale=1280:-2:flags=lanczos,fps=30,format=yuv420p"],
            &["-vf", "crop=in_w:in_h-40,transpose=1"],
            &["-af", "loudnorm=I=-16:TP=-1.5:LRA=11,atempo=1.25"],
            &["-map", "0:v:0", "-map", "0:a?", "-map", "-0:s"],
            &["-map_metadata", "-1", "-movflags", "+faststart+frag_keyframe"],
            &["-b:v", "2500k", "-maxrate", "5M", "-bufsize", "10000000"],
            &["-pix_fmt", "yuv420p10le", "-profile:v", "high", "-tune", "film"],
            &["-ac", "2", "-ar", "48000"],
            &["-shortest", "-threads", "0"],
        ];
        for arguments in good {
            assert_eq!(places(FFMPEG_FLAGS, arguments), [0usize; 0], "{arguments:?}");
        }
    }

    #[test]
    fn what_reads_writes_or_runs_is_named_and_refused() {
        let bad: [(&[&str], &[usize]); 22] = [
            (&["-i", "/etc/passwd"], &[0, 1]),
            (&["/tmp/out.mp4"], &[0]),
            (&["-y"], &[0]),
            (&["-f", "lavfi"], &[0, 1]),
            (&["-an", "-attach", "x"], &[1, 2]),
            (&["-vf", "movie=/etc/passwd"], &[1]),
            (&["-vf", "scale=1:1,subtitles=x.srt"], &[1]),
            (&["-vf", "drawtext=textfile=/etc/passwd"], &[1]),
            (&["-vf", "scale='1;2'"], &[1]),
            (&["-vf", "scale=1[a];[a]fps=1"], &[1]),
            (&["-vf", "cropdetect=x=/etc/passwd"], &[1]),
            (&["-vf", "eq=a\\:b"], &[1]),
            (&["-filter_complex", "null"], &[0, 1]),
            (&["-filter_script:v", "x"], &[0, 1]),
            (&["-x264-params", "stats=x"], &[0, 1]),
            (&["-vf=scale=1"], &[0]),
            (&["-ss"], &[0]),
            (&["-ss", "-i"], &[1]),
            (&["-threads", "+1"], &[1]),
            (&["-map", "0:v:0:1:2"], &[1]),
            (&["-map_metadata", "0"], &[1]),
            (&["-protocol_whitelist", "file"], &[0, 1]),
        ];
        for (arguments, expected) in bad {
            assert_eq!(places(FFMPEG_FLAGS, arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn blender_runs_no_script() {
        assert_eq!(
            places(BLENDER_FLAGS, &["-t", "8", "-S", "My scene.001", "--", "--cycles-device", "OPTIX+CPU"]),
            [0usize; 0]
        );
        for (arguments, expected) in [
            (["-P", "x.py"].as_slice(), [0, 1].as_slice()),
            (&["--python-expr", "import os"], &[0, 1]),
            (&["-y"], &[0]),
            (&["--enable-autoexec"], &[0]),
            (&["--addons", "x"], &[0, 1]),
            (&["-o", "//out"], &[0, 1]),
            (&["other.blend"], &[0]),
            (&["-S", "-P"], &[1]),
            (&["--cycles-device", "CUDA;x"], &[1]),
        ] {
            assert_eq!(places(BLENDER_FLAGS, arguments), expected, "{arguments:?}");
        }
    }

    proptest! {
        /// Whatever is let through is made of known flags and of values without what shells, paths and filter graphs use.
        #[test]
        fn nothing_that_is_let_through_can_name_a_file(arguments in proptest::collection::vec(
            prop_oneof![
                "-(vf|af|ss|map|b:v|tune|movflags|i|f|y)", "[a-z]{1,8}(=[ -~]{0,12})?", "[ -~]{0,16}",
                "(scale|fps|movie|volume)=[a-z0-9:=./,~]{0,10}",
            ], 0..6,
        )) {
            if argument_faults(FFMPEG_FLAGS, &arguments).is_empty() {
                for argument in &arguments {
                    prop_assert!(!argument.contains(['\'', '"', '\\', ';', '[', ']', '$', '`', '<', '>', '&', ' ', '~']));
                    prop_assert!(!argument.contains("=/") && !argument.contains(":/") && !argument.starts_with('/'));
                    prop_assert!(!argument.contains("..") && !argument.contains("movie"));
                }
            }
        }
    }
}
