# Filters by the rules of jq 1.8, which jaq has not, or has otherwise. They come after jaq's own, and replace them.

def env: {};
def have_literal_numbers: true;
def have_decnum: true;
def input_filename: null;
def input_line_number: error("Unknown input line number");
def input: error("break");
def inputs: empty;
def get_search_list: [];
def get_prog_origin: null;
def get_jq_origin: null;
def modulemeta: error("modules cannot be read");
def tostring: "\(.)";
def isvalid(f): try (f | true) catch false;
def toarray: if isarray then . else [.] end;
def error(f): f as $message | ($message | error);
def debug(f): ((f | debug) as $x | empty), .;
def halt_error: halt_error(5);

# Kinds
def isboolean: . == true or . == false;
def isnumber: type == "number";
def isstring: type == "string";
def isarray: type == "array";
def isobject: type == "object";
def isfinite: isnumber and (isinfinite | not);
def booleans: select(isboolean);
def numbers: select(isnumber);
def finites: select(isfinite);
def normals: select(isnormal);
def strings: select(isstring);
def arrays: select(isarray);
def objects: select(isobject);
def iterables: select(isarray or isobject);
def scalars: select((isarray or isobject) | not);

# Paths
def getpath($path): if $path | isarray | not then error("Path must be specified as an array")
  elif $path | length > 10000 then error("Path too deep")
  else reduce $path[] as $key (.; .[$key]) end;
def paths: path(recurse) | select(length > 0);
def paths(f): path(recurse | select(f)) | select(length > 0);
def leaf_paths: paths(scalars);
def del(f): delpaths([path(f)]);
def map_values(f): .[] |= f;
def to_entries: if isobject or isarray then [key_values[] as [$key, $value] | {$key, $value}] else keys_unsorted end;
def from_entries: reduce (.[] | {(.key // .Key // .name // .Name): (if has("value") then .value else .Value end)})
  as $entry ({}; . + $entry);
def with_entries(f): to_entries | map(f) | from_entries;
def walk(f): def rec: (if isobject then map_values(rec) elif isarray then map(rec) else . end) | f; rec;
def pick(f): . as $top | reduce path(f) as $p (null; setpath($p; $top | getpath($p)));
def tostream: path(def r: (.[]? | r), .; r) as $p | getpath($p) | reduce path(.[]?) as $q ([$p, .]; [$p + $q]);
def fromstream(f): {x: null, e: false} as $init
  | foreach f as $i ($init;
      if .e then $init else . end
      | if $i | length == 2
        then setpath(["e"]; $i[0] | length == 0) | setpath(["x"] + $i[0]; $i[1])
        else setpath(["e"]; $i[0] | length == 1) end;
      if .e then .x else empty end);
def truncate_stream(stream): . as $n | null | stream | . as $input
  | if (.[0] | length) > $n then setpath([0]; .[0][$n:]) else empty end;

# Generators
def recurse(f): def rec: ., (f | rec); rec;
def recurse(f; cond): def rec: ., (f | select(cond) | rec); rec;
def recurse: recurse(.[]?);
def _native_range($from; $to; $by): range($from; $to; $by);
def range($from; $to; $by):
  if (($from | isnumber) and ($to | isnumber) and ($by | isnumber)) | not then error("Range bounds must be numeric")
  elif $by == 0 then empty else _native_range($from; $to; $by) end;
def range($from; $to): range($from; $to; 1);
def range($to): range(0; $to; 1);
def _native_limit($n; f): limit($n; f);
def limit($n; f): if $n < 0 then error("limit doesn't support negative count") else _native_limit($n; f) end;
def _native_skip($n; f): skip($n; f);
def skip($n; f): if $n < 0 then error("skip doesn't support negative count") else _native_skip($n; f) end;
def nth($n): .[$n];
def nth($n; f): if $n < 0 then error("nth doesn't support negative indices") else first(skip($n; f)) end;
def IN(s): any(s == .; .);
def IN(src; s): any(src == s; .);
def INDEX(stream; f): reduce stream as $row ({}; setpath([$row | f | tostring]; $row));
def INDEX(f): INDEX(.[]; f);
def JOIN($idx; f): [.[] | [., $idx[f]]];
def JOIN($idx; stream; f): stream | [., $idx[f]];
def JOIN($idx; stream; f; join): stream | [., $idx[f]] | join;
def ascii: [.] | implode;

# Arrays
def add(f): reduce f as $x (null; . + $x);
def add: add(.[]);
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def _strindices($x): if isstring | not then error("\(_described) cannot be searched, as it is not a string")
  elif $x | isstring then indices($x) else error("\($x | _described) is not a string") end;
def index($i): indices($i) | .[0];
def rindex($i): indices($i) | .[-1:][0];
def combinations: if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $rest | [$x] + $rest end;
def combinations(n): . as $dot | [range(n) | $dot] | combinations;
def reverse: if isstring then explode | [.[length - 1 - range(0; length)]] | implode
  else [.[length - 1 - range(0; length)]] end;
def flatten($depth): if $depth < 0 then error("flatten depth must not be negative") else _flatten($depth) end;
def flatten: _flatten(infinite);
def transpose: [range(0; map(length) | max // 0) as $i | [.[][$i]]];
def _native_sort: sort;
def sort: if isarray then _native_sort else error("\(_described) cannot be sorted, as it is not an array") end;
def _array_by(f; $unfit): if isarray then . else map([f]) as $keys | error("\(_described) and \($keys | _described) \($unfit)") end;
def _native_sort_by(f): sort_by(f);
def sort_by(f): _array_by(f; "cannot be sorted, as they are not both arrays") | _native_sort_by(f);
def _native_group_by(f): group_by(f);
def group_by(f): _array_by(f; "cannot be sorted, as they are not both arrays") | _native_group_by(f);
def unique_by(f): [group_by(f)[] | .[0]];
def unique: if isarray then unique_by(.) else error("\(_described) cannot be sorted, as it is not an array") end;
def min_by(f): _array_by(f; "cannot be iterated over") | reduce min_by_or_empty(f) as $x (null; $x);
def max_by(f): _array_by(f; "cannot be iterated over") | reduce max_by_or_empty(f) as $x (null; $x);
def min: if isarray then min_by(.) else error("\(_described) and \(_described) cannot be iterated over") end;
def max: if isarray then max_by(.) else error("\(_described) and \(_described) cannot be iterated over") end;
def keys: keys_unsorted | _native_sort;

# Numbers
def abs: if . < 0 then -. else . end;
def pow10: pow(10; .);
def gamma: lgamma;
def lgamma_r: [lgamma, (if . < 0 and (floor % 2 != 0) then -1 else 1 end)];

# Text
def ltrimstr($x): if startswith($x) then .[$x | length:] else . end;
def rtrimstr($x): if endswith($x) then .[:length - ($x | length)] else . end;
def trimstr($x): ltrimstr($x) | rtrimstr($x);
def _native_upcase: ascii_upcase;
def ascii_upcase: if isstring then _native_upcase else error("explode input must be a string") end;
def _native_downcase: ascii_downcase;
def ascii_downcase: if isstring then _native_downcase else error("explode input must be a string") end;
def @json: tojson;
def @text: tostring;
def @csv: _csv;
def @tsv: _tsv;
def @html: _html;
def @sh: _sh;
def @uri: _uri;
def @urid: _urid;
def @base64: _base64;
def @base64d: _base64d;
def @base32: _base32;
def @base32d: _base32d;
def format($f):
  if $f == "json" then tojson elif $f == "text" then tostring elif $f == "csv" then _csv elif $f == "tsv" then _tsv
  elif $f == "html" then _html elif $f == "sh" then _sh elif $f == "uri" then _uri elif $f == "urid" then _urid
  elif $f == "base64" then _base64 elif $f == "base64d" then _base64d elif $f == "base32" then _base32
  elif $f == "base32d" then _base32d elif $f | isstring then error("\($f) is not a valid format")
  else error("\($f | _described) is not a valid format") end;

# Regular expressions
def _captured: reduce (.captures[] | select(.name != null)) as $c ({}; setpath([$c.name]; $c.string));
def _arguments($re):
  if $re | isstring then [$re, null]
  elif ($re | isarray) and ($re | length) > 0 then [$re[0], (if $re | length > 1 then $re[1] else null end)]
  else error("\($re | type) not a string or array") end;
def match($re; $flags): _match_parts($re; $flags) | .[range(1; length; 2)];
def match($re): _arguments($re) as [$re, $flags] | match($re; $flags);
def test($re): _arguments($re) as [$re, $flags] | test($re; $flags);
def capture($re; $flags): match($re; $flags) | _captured;
def capture($re): _arguments($re) as [$re, $flags] | capture($re; $flags);
def scan($re; $flags): match($re; "g" + $flags) | if .captures == [] then .string else [.captures[].string] end;
def scan($re): scan($re; null);
def split($re; $flags): _match_parts($re; $flags + "g") | [.[range(0; length; 2)]];
def splits($re; $flags): split($re; $flags)[];
def splits($re): splits($re; null);
def sub($re; str; $flags): . as $in | _match_parts($re; $flags) as $parts
  | (reduce range(1; $parts | length; 2) as $at ([];
      ($parts[$at - 1]) as $gap | [$parts[$at] | _captured | str] as $inserts
      | reduce range($inserts | length) as $ix (.; .[$ix] += $gap + $inserts[$ix]))
    | .[] + $parts[-1]) // $in;
def sub($re; str): sub($re; str; "");
def gsub($re; str; $flags): sub($re; str; $flags + "g");
def gsub($re; str): sub($re; str; "g");

# Time
def _native_gmtime: gmtime;
def gmtime: if isnumber then _native_gmtime else error("gmtime() requires numeric inputs") end;
def localtime: if isnumber then _native_gmtime else error("localtime() requires numeric inputs") end;
def mktime: if isarray | not then error("mktime requires array inputs")
  else _timegm // error("mktime requires parsed datetime inputs") end;
def _native_strftime($format): strftime($format);
def _formatted_time($format; $name):
  if isarray then _timegm // error("\($name)/1 requires parsed datetime inputs")
  elif isnumber then trunc
  else error("\($name)/1 requires parsed datetime inputs") end
  | if $format | isstring then _native_strftime($format | _time_format) else error("\($name)/1 requires a string format") end;
def strftime($format): _formatted_time($format; "strftime");
def strflocaltime($format): _formatted_time($format; "strflocaltime");
def strptime($format):
  if isstring and ($format | isstring)
  then _strptime($format) // error("date \"\(.)\" does not match format \"\($format)\"")
  else error("strptime/1 requires string inputs and arguments") end;
def fromdateiso8601: strptime("%Y-%m-%dT%H:%M:%SZ") | mktime;
def todateiso8601: strftime("%Y-%m-%dT%H:%M:%SZ");
def fromdate: fromdateiso8601;
def todate: todateiso8601;
def date: todate;
def dateadd(unit; n): . + n;
def datesub(unit; n): . - n;
